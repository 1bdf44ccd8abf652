//! The terms: for each condition of each law some that break it, and some that keep it.
//!
//! Why here: a table, to be read beside the laws. Conditions are written as the law table has them.

use cranelift_entity::EntityRef;
use tilewright_ir::{Axis, Reduction, Unary};
use tilewright_passes::algebra::{SubAxis, Term};

use crate::Source::{self, Terms, Text};
use crate::{Case, case};

/// What the table lists as a condition and is not one that terms could break.
pub(crate) const STATEMENTS: &[(&str, &str, &str)] = &[
    ("split", "R is sum, max or min", "there are no other reductions"),
    ("split", "a ragged last block is padded with the identity of R", "says what the right side means"),
    ("part", "definition of part", "says what `part` means"),
    ("loc-sum", "t = s * inv n", "says what t is"),
];

const OF_WEIGHTS: &str =
    "used where i is a whole axis, and a, b, c and d depend on weights alone and x does not";
const COLLECTED: Source = Text(
    "X: f32[i=5, j=300]; A: const f32[j]; B: const f32[j]; C: const f32[k=7]; \
    O[i,k] = C[k] * sum[j](X[i,j] * B[j]) + sum[j](X[i,j] * A[j])",
);
const LITERAL: &str = "c a finite literal";
const EXACT: &str = "used where c is plus or minus a power of 2, or neither a nor b is subtracted";
const FREE: &str = "i not free in c";
const ALL_WHOLE: &str = "used where R is over whole axes";
const IN_RANGE: &str = "c is not the inverse of a maximum over i, which keeps the sum in range";
const FINITE_FACTOR: &str = "c finite, or at least one position of i";
const USED: &str = "used where c holds no reduction or one over i, and i is streamed";
const SWAPPED: &str = "used where i and j are whole axes, i free in c, and a factor of x is free of i";
const POSITIVE: &str = "c finite and positive";
const EMPTY: &str = "at least one position of i";
const CUT: &str = "no part of k free in e";
const HOMOMORPHISM: &str = "f(a+b) = f(a) f(b)";
const ALONG: &str = "y a maximum over an axis that is free in x";
const ABOVE: &str = "assumes that the left side is defined, i.e. y > -inf";
const DIVISOR: &str = "y >= 0 a maximum over an axis";
const NORMAL: &str = "assumes that the left side is defined, i.e. y is a positive normal number";
const BLOCK: &str = "y = max[j.o] t";
const DEPENDS: &str = "j.o free in x and not in y";
const FINITE: &str = "t finite";
const SIGNED: &str = "t positive and finite";
const TRACKED: &str = "y = max[j.o] t for each tracked pair";
const COCYCLE: &str = "R is sum and a(v) = h * v with h(a,a) = 1 and h(a,b) h(b,c) = h(a,c), or a(v) = where(t == y, v, d) \
                       with R max and d never more than v, or R min and d never less, or d 0, where y may be min[j.o] t";
const CHOSEN: &str = "or else y = R[j.o] t or a fold of t, R is max or min, a(v) compares and chooses among t, y, v and \
                      numbers, and nothing yet leaves all as it is";
const ADDED: &str = "or else y = sum[j.o] t, R is sum and a(v) = v + g with g(a,a) = 0 and g(a,a+b) + g(b,a+b) + g(a+b,c) = \
                     g(a,c) + g(b,c)";
const MEAN: &str = "y = (sum[j.o] s) * inv(sum[j.o] n), finite, with s = sum[i] x and n = sum[i] 1";
const VARIES: &str = "used where i is j.i, or that and whole axes, and j.i is free in all factors of c";
const OWN_MEAN: &str = "t = (sum[i] x) * inv(sum[i] 1)";
const IN_BLOCK: &str = "used where i is j.i, or that and whole axes";
const BOTH: &str = "used where i is cut into blocks and free in a and in b, and a holds a reduction over i, and b holds none or \
                    one of its own";
const APART: &str =
    "or else i is free in c and not in b, which holds a reduction over i, and is finite or i has a position";
const RELATIVE: &str = "a is then relative to maxima over i";
const MAXIMUM: &str = "or else y = max[j.o] t, i not free in y and t, and c holds no reduction over j";
const TOGETHER: &str = "or else y = max[j.o] t, R is sum, a(v) = h * (v + g * l) for block values l of sums that run along, and \
                        moving all of these twice is moving them once";
const LOGARITHM: &str = "f(a+b) = f(a) f(b) and c = log f(1)";
const UNBOUNDED: &str = "x finite, or not +inf and y finite and not negative, in f(x) * y";
const INVERTED: &str = "x not negative in inv(x)";
const EXPONENT: &str = "y positive and x not +inf in an exponential";
const FIXED: &str = "i free in neither p nor d";
const IDLE: &str = "R is max or min, or d is 0";
const WITHIN: &str = "used where i are the positions of a block, which has at least one";
const HIGHEST: &str = "t = R[j.i] x";
const WITHOUT: &str = "i not free in p";
const OF_BLOCK: &str = "used where i are the positions of a block along j and j.o is free in p";
const BY_SUCH: &str = "used where e asks of all blocks by such predicates alone";
const AS_MUCH: &str = "used where `fact-where` does not say as much";
const PLACE: &str = "t a position of its block along j, or of none";
const NOWHERE: &str = "y = min[j.o] or max[j.o] of t, or of where(p, t, n) with n a position of no block";

const SCALED_MAXIMUM: Source = Text("X: f32[k=5]; Y: f32[i=300]; O[k] = exp(tanh(X[k])) * max[i](Y[i])");
const LARGER: Source = Text("X: f32[k=5]; Y: f32[i=n]; n in 1..5; O[k] = max(X[k], max[i](Y[i]))");
const SOFT: Source = Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(S[i,j] - M[i]))");
const MASKED: Source = Text(
    "S: f32[i=5, j=300]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); O[i] = sum[j](exp(T[i,j] - M[i]))",
);
const NORM: Source =
    Text("X: f32[i=5, j=300]; M[i] = max[j](abs(X[i,j])); O[i] = sum[j](X[i,j] / M[i] * (X[i,j] / M[i]))");
const LARGEST: Source = Text("S: f32[i=5, j=300]; Y[i] = argmax[j](S[i,j])");
const SECOND: Source = Text("S: f32[i=5, j=300]; Y[i] = max[j](where(j != argmax[j](S[i,j]), S[i,j], -inf))");
const CENTRED: Source =
    Text("X: f32[i=5, j=300]; W: f32[j]; O[i] = sum[j]((X[i,j] - mean[j](X[i,j])) * W[j])");
const SQUARES: Source = Text("X: f32[i=5, j=300]; O[i] = var[j](X[i,j])");
const AFFINE: Source =
    Text("X: f32[i=5, j=300]; W: f32[j]; B: f32[j]; O[i] = sum[j]((layer_norm[j](X[i,j]) + B[j]) * W[j])");
const SMOOTHED: Source = Text(
    "X: f32[i=5, j=300]; W: f32[j]; M[i] = max[j](X[i,j]); L[i] = log(sum[j](exp(X[i,j] - M[i]))); \
    O[i] = sum[j](W[j] * (X[i,j] - M[i] - L[i]))",
);
const SCALED_EXPONENTIAL: Source = Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(X[i]) * Y[i])");
const INVERSE: Source = Text("X: f32[j=300]; O[] = sum[j](inv(max[j](abs(X[j]))) * X[j])");

pub(crate) const CASES: &[Case] = &[
    case(
        "assoc",
        "a finite where a * 0 = 0",
        Terms(|m| m.vanishing(Unary::Log)),
        Terms(|m| m.vanishing(Unary::Tanh)),
    ),
    case(
        "fact",
        FREE,
        Text("X: f32[i=300]; Y: f32[i]; O[] = sum[i](X[i] * Y[i])"),
        Text("X: f32[]; Y: f32[i=300]; O[] = sum[i](X[] * Y[i])"),
    ),
    case(
        "fact",
        FREE,
        Text("X: f32[i=300]; Y: f32[i, j=200]; O[] = sum[i,j](X[i] * Y[i,j])"),
        Text("X: f32[k=300]; Y: f32[i=300, j=200]; O[k] = sum[i,j](X[k] * Y[i,j])"),
    ),
    case(
        "fact",
        FINITE_FACTOR,
        Text("n in 0..300; X: f32[i=n]; Y: f32[]; O[] = sum[i](inv(Y[]) * X[i])"),
        Text("n in 0..300; X: f32[i=n]; Y: f32[]; O[] = sum[i](Y[] * X[i])"),
    ),
    case(
        "fact",
        FINITE_FACTOR,
        Text("n in 0..300; X: f32[i=n]; Y: f32[]; O[] = sum[i](inv(Y[]) * X[i])"),
        Text("n in 1..300; X: f32[i=n]; Y: f32[]; O[] = sum[i](inv(Y[]) * X[i])"),
    ),
    Case {
        without: &["guard-scale", "split"],
        keeps_without: &["guard-scale", "split"],
        ..case(
            "fact",
            IN_RANGE,
            INVERSE,
            Text("X: f32[j=300]; M[] = max[j](X[j]); O[] = sum[j](inv(sum[j](abs(X[j]))) * X[j]) + M[]"),
        )
    },
    case(
        "fact",
        USED,
        Text("X: f32[i=300]; Y: f32[k=300]; O[] = sum[i](sum[k](Y[k]) * X[i])"),
        Text("X: f32[i=300]; Y: f32[i]; O[] = sum[i](sum[i](Y[i]) * X[i])"),
    ),
    case(
        "fact",
        USED,
        Text("X: f32[i=100]; Y: f32[i]; O[] = sum[i](sum[i](Y[i]) * X[i])"),
        Text("X: f32[i=200]; Y: f32[i]; O[] = sum[i](sum[i](Y[i]) * X[i])"),
    ),
    case(
        "swap",
        "no part of j free in c",
        Text(
            "C: f32[i=30, j=40]; X: f32[i, j]; Y: f32[j, e=7]; O[j,e] = sum[i](C[i,j] * sum[j](X[i,j] * Y[j,e]))",
        ),
        Text(
            "C: f32[i=30, k=40]; X: f32[i, j=40]; Y: f32[j, e=7]; O[k,e] = sum[i](C[i,k] * sum[j](X[i,j] * Y[j,e]))",
        ),
    ),
    case(
        "swap",
        SWAPPED,
        Text(
            "C: f32[k=30]; X: f32[i=30, j=40]; Y: f32[j, e=7]; O[k,e] = sum[i](C[k] * sum[j](X[i,j] * Y[j,e]))",
        ),
        Text("C: f32[i=30]; X: f32[i, j=40]; Y: f32[j, e=7]; O[e] = sum[i](C[i] * sum[j](X[i,j] * Y[j,e]))"),
    ),
    case(
        "swap",
        SWAPPED,
        Text(
            "C: f32[i=30]; X: f32[i, j=40]; Y: f32[i, j, e=7]; O[e] = sum[i](C[i] * sum[j](X[i,j] * Y[i,j,e]))",
        ),
        Text("C: f32[i=30]; X: f32[i, j=40]; Y: f32[j, e=7]; O[e] = sum[i](C[i] * sum[j](X[i,j] * Y[j,e]))"),
    ),
    case(
        "swap",
        "no part of j free in c",
        Terms(|m| m.sum_within_a_block(SubAxis::outer)),
        Terms(|m| m.sum_within_a_block(|_| SubAxis::whole(Axis::new(1)))),
    ),
    case("swap", SWAPPED, Terms(|m| m.two_sums(SubAxis::outer)), Terms(|m| m.two_sums(SubAxis::whole))),
    case(
        "dist",
        LITERAL,
        Text("A: f32[i=5]; B: f32[i]; C: f32[i]; O[i] = C[i] * (A[i] + B[i])"),
        Text("A: f32[i=5]; B: f32[i]; O[i] = 0.5 * (A[i] + B[i])"),
    ),
    case(
        "dist",
        LITERAL,
        Text("A: f32[i=5]; B: f32[i]; O[i] = inf * (A[i] + B[i])"),
        Text("A: f32[i=5]; B: f32[i]; O[i] = -2 * (A[i] + B[i])"),
    ),
    case(
        "dist",
        EXACT,
        Text("A: f32[i=5]; B: f32[i]; O[i] = 0.3 * (A[i] - B[i])"),
        Text("A: f32[i=5]; B: f32[i]; O[i] = 0.25 * (A[i] - B[i])"),
    ),
    case(
        "dist",
        EXACT,
        Text("A: f32[i=5]; B: f32[i]; O[i] = 3 * (B[i] - A[i])"),
        Text("A: f32[i=5]; B: f32[i]; O[i] = -3 * (A[i] + B[i])"),
    ),
    case(
        "max-scale",
        FREE,
        Text("X: f32[i=300]; Y: f32[i]; O[i] = exp(tanh(X[i])) * max[i](Y[i])"),
        SCALED_MAXIMUM,
    ),
    case("max-scale", POSITIVE, Text("Y: f32[i=300]; O[] = -0.5 * max[i](Y[i])"), SCALED_MAXIMUM),
    case(
        "max-scale",
        POSITIVE,
        Text("X: f32[k=5]; Y: f32[i=300]; O[k] = abs(X[k]) * max[i](Y[i])"),
        SCALED_MAXIMUM,
    ),
    case(
        "max-scale",
        POSITIVE,
        Text("X: f32[k=5]; Y: f32[i=300]; O[k] = max(log(abs(X[k])) * log(abs(X[k])), 1) * max[i](Y[i])"),
        Text("X: f32[k=5]; Y: f32[i=300]; O[k] = max(X[k] * X[k], 1) * max[i](Y[i])"),
    ),
    case("max-binary", FREE, Text("X: f32[i=300]; Y: f32[i]; O[i] = max(X[i], max[i](Y[i]))"), LARGER),
    case(
        "max-binary",
        EMPTY,
        Text("X: f32[k=5]; Y: f32[i=n]; n in 0..5; O[k] = max(X[k], max[i](Y[i]))"),
        LARGER,
    ),
    Case {
        // It would take the factor out first.
        without: &["fact"],
        keeps_without: &["fact"],
        ..case("split", CUT, Terms(|m| m.cut_twice(true)), Terms(|m| m.cut_twice(false)))
    },
    Case {
        without: &["fact"],
        keeps_without: &["fact"],
        ..case(
            "split",
            ALL_WHOLE,
            Terms(|m| m.over_two(SubAxis::inner)),
            Terms(|m| m.over_two(SubAxis::whole)),
        )
    },
    Case {
        without: &["max-binary"],
        ..case(
            "guard",
            HOMOMORPHISM,
            Text(
                "S: f32[i=5, j=300]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); O[i] = sum[j](tanh(T[i,j] - M[i]))",
            ),
            MASKED,
        )
    },
    case(
        "guard",
        ALONG,
        Text(
            "S: f32[i=5, j=300]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); O[i] = sum[j](exp(i - M[i]) * S[i,j])",
        ),
        MASKED,
    ),
    case(
        "guard",
        ALONG,
        Text(
            "S: f32[i=5, j=300]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); \
            O[i] = sum[j](exp(S[i,j] - min[j](T[i,j])) * M[i])",
        ),
        MASKED,
    ),
    case("guard", ABOVE, SOFT, MASKED),
    case(
        "guard",
        LITERAL,
        Text(
            "S: f32[i=5, j=300]; C: f32[i]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); \
            O[i] = sum[j](exp(C[i] * (T[i,j] - M[i])))",
        ),
        Text(
            "S: f32[i=5, j=300]; T[i,j] = where(i != j, S[i,j], -inf); M[i] = max[j](T[i,j]); \
            O[i] = sum[j](exp(0.3 * (T[i,j] - M[i])))",
        ),
    ),
    case(
        "guard-scale",
        DIVISOR,
        Text("X: f32[i=5, j=300]; M[i] = max[j](X[i,j]); O[i] = sum[j](X[i,j] / M[i] * (X[i,j] / M[i]))"),
        NORM,
    ),
    case(
        "guard-scale",
        DIVISOR,
        Text(
            "X: f32[i=5, j=300]; N[i] = max[j](X[i,j]); M[i] = sum[j](abs(X[i,j])); O[i] = sum[j](X[i,j] / M[i] * N[i])",
        ),
        NORM,
    ),
    case(
        "guard-scale",
        NORMAL,
        Text(
            "X: f32[i=5, j=300]; M[i] = max[j](max(1, abs(X[i,j]))); O[i] = sum[j](X[i,j] / M[i] * (X[i,j] / M[i]))",
        ),
        NORM,
    ),
    case(
        "loc",
        HOMOMORPHISM,
        Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](tanh(S[i,j] - M[i]))"),
        SOFT,
    ),
    case(
        "loc",
        BLOCK,
        Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(S[i,j] - sum[j](S[i,j])) * M[i])"),
        SOFT,
    ),
    case(
        "loc",
        BLOCK,
        Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(S[i,j] - min[j](S[i,j])) * M[i])"),
        SOFT,
    ),
    case(
        "loc",
        DEPENDS,
        Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(i - M[i]) * S[i,j])"),
        SOFT,
    ),
    Case { without: &["guard"], ..case("loc", FINITE, MASKED, MASKED) },
    case(
        "loc",
        LITERAL,
        Text(
            "S: f32[i=5, j=300]; C: f32[i]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(C[i] * (S[i,j] - M[i])))",
        ),
        Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(0.3 * (S[i,j] - M[i])))"),
    ),
    case(
        "loc",
        LITERAL,
        Text("S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(inf * (S[i,j] - M[i])))"),
        Text(
            "S: f32[i=5, j=300]; B: f32[j]; M[i] = max[j](S[i,j]); O[i] = sum[j](exp(-0.3 * (M[i] - S[i,j]) + B[j]))",
        ),
    ),
    case(
        "loc-scale",
        BLOCK,
        Text(
            "X: f32[i=5, j=300]; N[i] = max[j](X[i,j]); M[i] = sum[j](abs(X[i,j])) + 1; \
            O[i] = sum[j](X[i,j] / M[i] * (X[i,j] / M[i]) * N[i])",
        ),
        NORM,
    ),
    case(
        "loc-scale",
        DEPENDS,
        Text("X: f32[i=5, j=300]; M[i] = max[j](abs(X[i,j])); O[i] = sum[j](i / M[i])"),
        NORM,
    ),
    Case { without: &["guard-scale"], ..case("loc-scale", SIGNED, NORM, NORM) },
    case(
        "loc-scale",
        SIGNED,
        Text(
            "X: f32[i=5, j=300]; M[i] = max[j](max(1, log(abs(X[i,j])) * log(abs(X[i,j])))); O[i] = sum[j](X[i,j] / M[i])",
        ),
        Text("X: f32[i=5, j=300]; M[i] = max[j](max(1, X[i,j] * X[i,j])); O[i] = sum[j](X[i,j] / M[i])"),
    ),
    case(
        "fact-where",
        FIXED,
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = max[j](where(S[i,j] == max[j](S[i,j]), W[j], j))"),
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = max[j](where(S[i,j] == max[j](S[i,j]), W[j], 7))"),
    ),
    case(
        "fact-where",
        IDLE,
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = sum[j](where(S[i,j] == max[j](S[i,j]), W[j], 7))"),
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = sum[j](where(S[i,j] == max[j](S[i,j]), W[j], 0))"),
    ),
    case(
        "fact-where",
        WITHIN,
        Text("S: f32[i=5, j=300]; P: f32[i]; O[i] = max[j](where(P[i] > 0, S[i,j], 0))"),
        LARGEST,
    ),
    case(
        "loc-eq",
        HIGHEST,
        Text("S: f32[i=5, j=300]; O[i] = min[j](where(2 * S[i,j] == max[j](S[i,j]), j, 300))"),
        LARGEST,
    ),
    case(
        "loc-eq",
        "y = R[j.o] t",
        Text(
            "S: f32[i=5, j=300]; O[i] = min[j](where(S[i,j] == sum[j](S[i,j]), j, 300)) + sum[j](exp(max[j](S[i,j]) - S[i,j]))",
        ),
        LARGEST,
    ),
    case(
        "loc-eq",
        "R is max or min",
        Text(
            "S: f32[i=5, j=300]; O[i] = min[j](where(S[i,j] > max[j](S[i,j]), j, 300)) + min[j](where(S[i,j] < min[j](S[i,j]), j, 300))",
        ),
        LARGEST,
    ),
    case("cases", WITHOUT, Text("S: f32[i=5, j=300]; O[i] = max[j](where(S[i,j] > 0, S[i,j], j))"), SECOND),
    case(
        "cases",
        OF_BLOCK,
        Text("S: f32[i=5, j=300]; P: f32[i]; O[i] = max[j](where(P[i] > 0, S[i,j], j))"),
        SECOND,
    ),
    case(
        "cases",
        BY_SUCH,
        Text(
            "S: f32[i=5, j=300]; M[i] = max[j](S[i,j]); \
            O[i] = max[j](where(j != argmax[j](S[i,j]), where(S[i,j] < 0.5 * M[i], S[i,j], -inf), -inf))",
        ),
        SECOND,
    ),
    case("cases", AS_MUCH, LARGEST, SECOND),
    case(
        "loc-at",
        PLACE,
        Text(
            "S: f32[i=5, j=300]; O[i] = sum[j](where(j == min[j](where(S[i,j] == max[j](S[i,j]), 2*j, 600)), S[i,j], 0))",
        ),
        Text(
            "S: f32[i=5, j=300]; O[i] = sum[j](where(j == min[j](where(S[i,j] == max[j](S[i,j]), j, 600)), S[i,j], 0))",
        ),
    ),
    case(
        "loc-at",
        NOWHERE,
        Text(
            "S: f32[i=5, j=300]; O[i] = max[j](where(j != min[j](where(S[i,j] == max[j](S[i,j]), j, 299)), S[i,j], -inf))",
        ),
        SECOND,
    ),
    case(
        "loc-sum",
        FINITE,
        Text(
            "S: f32[i=5, j=300]; T[i,j] = where(i != j, S[i,j], -inf); O[i] = sum[j]((T[i,j] - mean[j](T[i,j])) * S[i,j])",
        ),
        CENTRED,
    ),
    case(
        "loc-sum",
        MEAN,
        Text("X: f32[i=5, j=300]; Z: f32[i, j]; O[i] = sum[j]((X[i,j] - mean[j](Z[i,j])) * X[i,j])"),
        CENTRED,
    ),
    case(
        "loc-sum",
        MEAN,
        Text("X: f32[i=5, j=300]; Z: f32[i, j]; O[i] = sum[j]((X[i,j] - 0.5 * mean[j](X[i,j])) * X[i,j])"),
        CENTRED,
    ),
    case(
        "loc-sum",
        MEAN,
        Text("n in 0..300; X: f32[i=5, j=n]; O[i] = sum[j]((X[i,j] - mean[j](X[i,j])) * X[i,j])"),
        Text("n in 1..300; X: f32[i=5, j=n]; O[i] = sum[j]((X[i,j] - mean[j](X[i,j])) * X[i,j])"),
    ),
    Case {
        without: &["fact"],
        keeps_without: &["fact"],
        ..case(
            "loc-sum",
            VARIES,
            Text("X: f32[i=5, j=300]; C: f32[i]; O[i] = sum[j]((X[i,j] - mean[j](X[i,j])) * C[i])"),
            CENTRED,
        )
    },
    case(
        "centre",
        OWN_MEAN,
        Text("X: f32[i=5, j=300]; Z: f32[i, j]; O[i] = sum[j]((X[i,j] - mean[j](Z[i,j])) * X[i,j])"),
        SQUARES,
    ),
    case("centre", FINITE, Terms(|m| m.centred(Unary::Log)), Terms(|m| m.centred(Unary::Tanh))),
    Case {
        without: &["loc-sum", "split"],
        ..case(
            "centre",
            IN_BLOCK,
            Text("X: f32[i=5, j=300]; O[i] = sum[j](X[i,j] - mean[j](X[i,j]))"),
            SQUARES,
        )
    },
    case(
        "lin",
        "a, b and c finite",
        Text(
            "X: f32[i=5, j=300]; W: f32[j]; B: f32[j]; O[i] = sum[j]((layer_norm[j](X[i,j]) + B[j]) * log(W[j]))",
        ),
        AFFINE,
    ),
    case(
        "lin",
        "a, b and c finite",
        Text(
            "X: f32[i=5, j=300]; W: f32[j]; B: f32[j]; O[i] = sum[j]((layer_norm[j](X[i,j]) + log(B[j])) * W[j])",
        ),
        AFFINE,
    ),
    case(
        "lin",
        BOTH,
        Text("X: f32[i=5, j=300]; W: f32[j]; B: f32[j]; O[i] = sum[j]((rms_norm[j](X[i,j]) + B[j]) * W[j])"),
        AFFINE,
    ),
    case(
        "lin",
        BOTH,
        Text(
            "X: f32[i=5, j=300]; W: f32[j]; B: f32[i]; O[i] = sum[j]((layer_norm[j](X[i,j]) + B[i]) * W[j])",
        ),
        AFFINE,
    ),
    case(
        "lin",
        BOTH,
        Text(
            "X: f32[i=5, j=300]; W: f32[j]; Z: f32[i, j]; O[i] = sum[j]((X[i,j] + Z[i,j]) * W[j]) + var[j](X[i,j])",
        ),
        AFFINE,
    ),
    case(
        "collect",
        "i not free in c and d",
        Text(
            "X: f32[i=5, j=300]; A: const f32[j]; B: const f32[j]; O[i,j] = A[j] * sum[j](X[i,j] * B[j]) + sum[j](X[i,j] * A[j])",
        ),
        COLLECTED,
    ),
    case(
        "collect",
        "all finite",
        Text(
            "X: f32[i=5, j=300]; A: const f32[j]; B: const f32[j]; C: const f32[k=7]; \
            O[i,k] = C[k] * sum[j](X[i,j] * log(B[j])) + sum[j](X[i,j] * A[j])",
        ),
        COLLECTED,
    ),
    case(
        "collect",
        OF_WEIGHTS,
        Text(
            "X: f32[i=5, j=300]; A: const f32[j]; B: f32[j]; C: const f32[k=7]; \
            O[i,k] = C[k] * sum[j](X[i,j] * B[j]) + sum[j](X[i,j] * A[j])",
        ),
        COLLECTED,
    ),
    case(
        "collect",
        OF_WEIGHTS,
        Text(
            "X: f32[i=5, j=300]; A: const f32[j]; B: const f32[j]; C: f32[k=7]; \
            O[i,k] = C[k] * sum[j](X[i,j] * B[j]) + sum[j](X[i,j] * A[j])",
        ),
        COLLECTED,
    ),
    case(
        "collect",
        OF_WEIGHTS,
        Text(
            "X: const f32[i=5, j=300]; A: const f32[j]; B: const f32[j]; C: const f32[k=7]; \
            O[i,k] = C[k] * sum[j](X[i,j] * B[j]) + sum[j](X[i,j] * A[j])",
        ),
        COLLECTED,
    ),
    case("log", LOGARITHM, Text("X: f32[i=5]; Y: f32[i]; O[i] = log(tanh(X[i]) * Y[i])"), SCALED_EXPONENTIAL),
    case(
        "log",
        UNBOUNDED,
        Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(where(X[i] > 0, X[i], inf)) * abs(Y[i]))"),
        Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(where(X[i] > 0, X[i], -inf)) * abs(Y[i]))"),
    ),
    case(
        "log",
        UNBOUNDED,
        Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(where(X[i] > 0, X[i], -inf)) * abs(log(Y[i])))"),
        Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(where(X[i] > 0, X[i], -inf)) * abs(Y[i]))"),
    ),
    case(
        "log",
        UNBOUNDED,
        Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(where(X[i] > 0, X[i], -inf)) * Y[i])"),
        Text("X: f32[i=5]; Y: f32[i]; O[i] = log(exp(where(X[i] > 0, X[i], -inf)) * abs(Y[i]))"),
    ),
    case(
        "log",
        INVERTED,
        Text("X: f32[i=5]; O[i] = log(inv(X[i]))"),
        Text("X: f32[i=5]; O[i] = log(inv(abs(X[i])))"),
    ),
    case(
        "log",
        EXPONENT,
        Text("X: f32[i=5]; Y: f32[i]; O[i] = exp(X[i] - log(abs(Y[i])))"),
        Text("X: f32[i=5]; Y: f32[i]; O[i] = exp(X[i] - log(1 + abs(Y[i])))"),
    ),
    case(
        "log",
        EXPONENT,
        Text("X: f32[i=5]; Y: f32[i]; O[i] = exp(where(X[i] > 0, X[i], inf) - log(1 + abs(Y[i])))"),
        Text("X: f32[i=5]; Y: f32[i]; O[i] = exp(where(X[i] > 0, X[i], -inf) - log(1 + abs(Y[i])))"),
    ),
    Case {
        without: &["fact"],
        keeps_without: &["fact"],
        ..case(
            "lin",
            APART,
            Text(
                "X: f32[i=5, j=300]; W: f32[i]; M[i] = max[j](X[i,j]); L[i] = log(sum[j](exp(X[i,j] - M[i]))); \
                O[i] = sum[j](W[i] * (X[i,j] - M[i] - L[i]))",
            ),
            SMOOTHED,
        )
    },
    case(
        "lin",
        APART,
        Text(
            "X: f32[i=5, j=300]; W: f32[j]; M[i] = max[j](X[i,j]); L: f32[i]; O[i] = sum[j](W[j] * (X[i,j] - M[i] - L[i]))",
        ),
        SMOOTHED,
    ),
    case(
        "lin",
        APART,
        Text(
            "n in 0..300; X: f32[i=5, j=n]; W: f32[j]; M[i] = max(max[j](X[i,j]), 0); L[i] = log(sum[j](exp(X[i,j] - M[i]))); \
            O[i] = sum[j](W[j] * (X[i,j] - M[i] - L[i]))",
        ),
        Text(
            "n in 1..300; X: f32[i=5, j=n]; W: f32[j]; M[i] = max(max[j](X[i,j]), 0); L[i] = log(sum[j](exp(X[i,j] - M[i]))); \
            O[i] = sum[j](W[j] * (X[i,j] - M[i] - L[i]))",
        ),
    ),
    case(
        "lin",
        RELATIVE,
        Text(
            "X: f32[i=5, j=300]; Z: f32[i, j]; W: f32[j]; M[i] = max[j](Z[i,j]); L[i] = log(sum[j](exp(X[i,j] - M[i]))); \
            O[i] = sum[j](W[j] * (X[i,j] - M[i] - L[i]))",
        ),
        SMOOTHED,
    ),
    case(
        "lin",
        RELATIVE,
        Text(
            "X: f32[i=5, j=300]; W: f32[j]; M[i] = max[j](X[i,j]); L[i] = sum[j](W[j] * X[i,j]); \
            O[i] = sum[j](W[j] * (X[i,j] - L[i])) + sum[j](exp(X[i,j] - M[i]))",
        ),
        SMOOTHED,
    ),
    case(
        "loc-sum",
        MAXIMUM,
        Text("X: f32[i=5, j=300]; M[i] = min[j](X[i,j]); O[i] = sum[j]((X[i,j] - M[i]) * X[i,j])"),
        Text("X: f32[i=5, j=300]; M[i] = max[j](X[i,j]); O[i] = sum[j]((X[i,j] - M[i]) * X[i,j])"),
    ),
    case(
        "loc-sum",
        MAXIMUM,
        Text(
            "X: f32[i=5, j=300]; M[i] = max[j](X[i,j]); O[i] = sum[j]((X[i,j] - M[i]) * tanh(X[i,j] - M[i]))",
        ),
        Text("X: f32[i=5, j=300]; M[i] = max[j](X[i,j]); O[i] = sum[j]((X[i,j] - M[i]) * tanh(X[i,j]))"),
    ),
    case(
        "loc-sum",
        MAXIMUM,
        Text(
            "X: f32[i=5, j=300, k=7]; M[i,k] = max[j](X[i,j,k]); O[i] = sum[j,k]((X[i,j,k] - M[i,k]) * tanh(X[i,j,k]))",
        ),
        Text(
            "X: f32[i=5, j=300, k=7]; M[i] = max[j,k](X[i,j,k]); O[i] = sum[j,k]((X[i,j,k] - M[i]) * tanh(X[i,j,k]))",
        ),
    ),
    case("fold", TOGETHER, Terms(|m| m.weighed(|d| vec![d, d])), Terms(|m| m.weighed(|d| vec![d]))),
    case("fold", TOGETHER, Terms(|m| m.weighed(|_| vec![])), Terms(|m| m.weighed(|d| vec![d]))),
    case(
        "fold",
        COCYCLE,
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = max[j](where(S[i,j] == max[j](S[i,j]), W[j], 7))"),
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = max[j](where(S[i,j] == max[j](S[i,j]), W[j], -inf))"),
    ),
    case(
        "fold",
        CHOSEN,
        Text("S: f32[i=5, j=300]; O[i] = max[j](where(S[i,j] < max[j](S[i,j]), 2*S[i,j], -inf))"),
        Text("S: f32[i=5, j=300]; O[i] = max[j](where(S[i,j] < max[j](S[i,j]), S[i,j], -inf))"),
    ),
    case("fold", ADDED, Terms(|m| m.moments(2)), Terms(|m| m.moments(1))),
    case(
        "fold",
        COCYCLE,
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = sum[j](where(S[i,j] == max[j](S[i,j]), W[j], 7))"),
        Text("S: f32[i=5, j=300]; W: f32[j]; O[i] = sum[j](where(S[i,j] == max[j](S[i,j]), W[j], 0))"),
    ),
    case(
        "fold",
        TRACKED,
        Terms(|m| m.blocks(Reduction::Min, |_, h| vec![h])),
        Terms(|m| m.blocks(Reduction::Max, |_, h| vec![h])),
    ),
    case(
        "fold",
        COCYCLE,
        Terms(|m| m.blocks(Reduction::Max, |m, h| vec![m.num(2.0), h])),
        Terms(|m| m.blocks(Reduction::Max, |_, h| vec![h])),
    ),
    case(
        "fold",
        COCYCLE,
        Terms(|m| {
            m.blocks(Reduction::Max, |m, h| {
                // exp((t-y) * (t-y)): 1 where t = y, and no more.
                let Term::Unary(_, [d]) = m.graph.id_to_node(h).clone() else {
                    unreachable!("an exponential")
                };
                let square = m.add(Term::Mul([d, d].into()));
                vec![m.add(Term::Unary(Unary::Exp, [square]))]
            })
        }),
        Terms(|m| m.blocks(Reduction::Max, |_, h| vec![h])),
    ),
];
