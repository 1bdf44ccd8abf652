//! Every condition of every law is needed and kept: for each there are terms that break it and nothing else, on which the
//! law must find nothing, beside a twin that keeps it, on which the law must find something.
//!
//! Conditions are taken from the law table. One without terms that break it fails here, and so does one that is reworded:
//! whoever changes a condition looks at its terms.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use cranelift_entity::{EntityRef, PrimaryMap};
use egg::Id;
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::expr::Num;
use tilewright_ir::{Axis, AxisData, Extent, Reduction, Unary, Value};
use tilewright_passes::algebra::ingest::{Ingested, ingest};
use tilewright_passes::algebra::laws::LAWS;
use tilewright_passes::algebra::saturate::{Budget, Stop, Summary, saturate};
use tilewright_passes::algebra::{Facts, Graph, SubAxis, Term};

/// Where terms come from.
#[derive(Clone, Copy)]
enum Source {
    /// Equations.
    Text(&'static str),
    /// Terms that no equation has: parts of axes.
    Terms(fn(&mut Maker)),
}
use Source::{Terms, Text};

struct Case {
    law: &'static str,
    condition: &'static str,
    /// Breaks this condition only.
    breaks: Source,
    /// The same, with the condition met.
    keeps: Source,
    /// Laws that may not be used: their results would meet the condition by another way.
    without: &'static [&'static str],
    /// The same, for the terms that keep it.
    keeps_without: &'static [&'static str],
}

const fn case(law: &'static str, condition: &'static str, breaks: Source, keeps: Source) -> Case {
    Case { law, condition, breaks, keeps, without: &[], keeps_without: &[] }
}

/// What the table lists as a condition and is not one that terms could break.
const STATEMENTS: &[(&str, &str, &str)] = &[
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
const MEAN: &str = "y = (sum[j.o] s) * inv(sum[j.o] n) with s = sum[i] x and n = sum[i] 1";
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

const CASES: &[Case] = &[
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

/// Makes e-graphs term by term. Axis 0 is `j`, which is worth cutting; axis 1 is `k`.
struct Maker {
    graph: Graph,
    axes: PrimaryMap<Axis, AxisData>,
    cascades: Vec<Axis>,
    disabled: Vec<&'static str>,
}

impl Maker {
    fn new() -> Maker {
        let mut axes = PrimaryMap::new();
        for name in ["j", "k"] {
            axes.push(AxisData { name: name.into(), extent: Extent::Const(300) });
        }
        let graph = Graph::new(Facts::default()).with_explanations_enabled();
        Maker { graph, axes, cascades: vec![Axis::new(0)], disabled: Vec::new() }
    }

    fn add(&mut self, t: Term) -> Id {
        self.graph.add_uncanonical(t)
    }

    fn num(&mut self, x: f64) -> Id {
        self.add(Term::Num(Num(x)))
    }

    fn read(&mut self, v: usize, index: &[Id]) -> Id {
        self.add(Term::Read(Value::new(v), index.into()))
    }

    fn product(&mut self, mut factors: Vec<Id>) -> Id {
        factors.sort_unstable();
        self.add(Term::Mul(factors.into()))
    }

    /// `f(x - y)`.
    fn difference(&mut self, f: Unary, x: Id, y: Id) -> Id {
        let minus = self.num(-1.0);
        let y = self.product(vec![minus, y]);
        let mut terms = vec![x, y];
        terms.sort_unstable();
        let sum = self.add(Term::Add(terms.into()));
        self.add(Term::Unary(f, [sum]))
    }

    /// `sum[j'](c[j] * sum[k](x[j,k] * y[k]))` over a part of `j`.
    fn two_sums(&mut self, part: fn(Axis) -> SubAxis) {
        self.cascades.clear();
        let (j, k) = (Axis::new(0), Axis::new(1));
        let at = match part(j) == SubAxis::whole(j) {
            true => self.add(Term::Pos(j)),
            false => self.add(Term::CutPos(j)),
        };
        let to = self.add(Term::Pos(k));
        let (c, x, y) = (self.read(0, &[at]), self.read(1, &[at, to]), self.read(2, &[to]));
        let inside = self.product(vec![x, y]);
        let near = self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(k)].into(), [inside]));
        let body = self.product(vec![c, near]);
        self.add(Term::Reduce(Reduction::Sum, [part(j)].into(), [body]));
    }

    /// `sum[k](c[k, p] * sum[j](x[j] * y[k]))` where `c` depends on a part of `j`, or on nothing more.
    fn sum_within_a_block(&mut self, of: fn(Axis) -> SubAxis) {
        let (j, k) = (Axis::new(0), Axis::new(1));
        self.cascades.clear();
        let (at, to) = (self.add(Term::Pos(j)), self.add(Term::Pos(k)));
        let place = match of(j) == SubAxis::outer(j) {
            true => self.add(Term::CutPos(j)),
            false => to,
        };
        let (c, x, y) = (self.read(0, &[to, place]), self.read(1, &[at]), self.read(2, &[at, to]));
        let inside = self.product(vec![x, y]);
        let near = self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(j)].into(), [inside]));
        let body = self.product(vec![c, near]);
        self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(k)].into(), [body]));
    }

    /// `sum[j](x[j] * y)`, where `y` is of a block of `j` or not.
    fn cut_twice(&mut self, cut: bool) {
        let j = Axis::new(0);
        let at = self.add(Term::Pos(j));
        let x = self.read(0, &[at]);
        let y = match cut {
            true => {
                let at = self.add(Term::CutPos(j));
                self.read(1, &[at])
            }
            false => self.read(1, &[]),
        };
        let body = self.product(vec![x, y]);
        self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(j)].into(), [body]));
    }

    /// `sum[j,k'](x[j, k])` over all of `j` and a part of `k`.
    fn over_two(&mut self, part: fn(Axis) -> SubAxis) {
        let (j, k) = (Axis::new(0), Axis::new(1));
        let at = self.add(Term::Pos(j));
        let to = match part(k) == SubAxis::whole(k) {
            true => self.add(Term::Pos(k)),
            false => self.add(Term::CutPos(k)),
        };
        let body = self.read(0, &[at, to]);
        self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(j), part(k)].into(), [body]));
    }

    /// `f(x) * y` where `y` has been found to be 0.
    fn vanishing(&mut self, f: Unary) {
        let (x, y, zero) = (self.read(0, &[]), self.read(1, &[]), self.num(0.0));
        let x = self.add(Term::Unary(f, [x]));
        self.product(vec![x, y]);
        self.graph.union_trusted(y, zero, "given");
        self.graph.rebuild();
    }

    /// `sum[j'](f(x) - t)` within a block, `t` the mean of `f(x)` there.
    fn centred(&mut self, f: Unary) {
        let inner = SubAxis::inner(Axis::new(0));
        let at = self.add(Term::CutPos(Axis::new(0)));
        let x = self.read(0, &[at]);
        let x = self.add(Term::Unary(f, [x]));
        let one = self.num(1.0);
        let sum = self.add(Term::Reduce(Reduction::Sum, [inner].into(), [x]));
        let count = self.add(Term::Reduce(Reduction::Sum, [inner].into(), [one]));
        let inverse = self.add(Term::Unary(Unary::Inv, [count]));
        let minus = self.num(-1.0);
        let mean = self.product(vec![minus, sum, inverse]);
        let mut terms = vec![x, mean];
        terms.sort_unstable();
        let body = self.add(Term::Add(terms.into()));
        self.add(Term::Reduce(Reduction::Sum, [inner].into(), [body]));
    }

    /// `sum[j.o](q + n**power * (t - y))` where `t` and `y` are means of a block and of all, `n` counts a block and `q` is some
    /// sum within it.
    fn moments(&mut self, power: usize) {
        let j = Axis::new(0);
        let (outer, inner) = (SubAxis::outer(j), SubAxis::inner(j));
        let at = self.add(Term::CutPos(j));
        let (x, z) = (self.read(0, &[at]), self.read(1, &[at]));
        let one = self.num(1.0);
        let within = |m: &mut Maker, x: Id| m.add(Term::Reduce(Reduction::Sum, [inner].into(), [x]));
        let (s, n, q) = (within(self, x), within(self, one), within(self, z));
        let all = |m: &mut Maker, x: Id| m.add(Term::Reduce(Reduction::Sum, [outer].into(), [x]));
        let (sum, count) = (all(self, s), all(self, n));
        let mean = |m: &mut Maker, s: Id, n: Id, more: Vec<Id>| {
            let inverse = m.add(Term::Unary(Unary::Inv, [n]));
            m.product([s, inverse].into_iter().chain(more).collect())
        };
        let minus = self.num(-1.0);
        let (t, y) = (mean(self, s, n, Vec::new()), mean(self, sum, count, vec![minus]));
        let mut terms = vec![t, y];
        terms.sort_unstable();
        let far = self.add(Term::Add(terms.into()));
        let g = self.product([vec![n; power], vec![far]].concat());
        let mut terms = vec![q, g];
        terms.sort_unstable();
        let body = self.add(Term::Add(terms.into()));
        self.add(Term::Reduce(Reduction::Sum, [outer].into(), [body]));
    }

    /// `sum[j] w * (x - y)`, `y` the maximum of `x`, made equal to its sum over blocks relative to their own maxima, with the
    /// sums of `w` of blocks times what `by` makes of `t - y`. No law does that here.
    fn weighed(&mut self, by: fn(Id) -> Vec<Id>) {
        self.disabled = vec!["loc-sum"];
        let j = Axis::new(0);
        let (whole, outer, inner) = (SubAxis::whole(j), SubAxis::outer(j), SubAxis::inner(j));
        let (at, near) = (self.add(Term::Pos(j)), self.add(Term::CutPos(j)));
        let [(x, w), (xb, wb)] = [at, near].map(|p| (self.read(0, &[p]), self.read(1, &[p])));
        let reduce = |m: &mut Maker, op: Reduction, over: SubAxis, of: Id| {
            m.add(Term::Reduce(op, [over].into(), [of]))
        };
        let y = reduce(self, Reduction::Max, whole, x);
        let t = reduce(self, Reduction::Max, inner, xb);
        let minus = |m: &mut Maker, a: Id, b: Id| {
            let one = m.num(-1.0);
            let b = m.product(vec![one, b]);
            let mut terms = vec![a, b];
            terms.sort_unstable();
            m.add(Term::Add(terms.into()))
        };
        let (far, near, d) = (minus(self, x, y), minus(self, xb, t), minus(self, t, y));
        let (of_all, of_block) = (self.product(vec![w, far]), self.product(vec![wb, near]));
        let total = reduce(self, Reduction::Sum, whole, of_all);
        let q = reduce(self, Reduction::Sum, inner, of_block);
        let l = reduce(self, Reduction::Sum, inner, wb);
        let mut factors = by(d);
        factors.push(l);
        let moved = if factors.len() == 1 { l } else { self.product(factors) };
        let mut terms = vec![q, moved];
        terms.sort_unstable();
        let body = self.add(Term::Add(terms.into()));
        let sum = reduce(self, Reduction::Sum, outer, body);
        self.graph.union_trusted(total, sum, "given");
        self.graph.rebuild();
    }

    /// `sum[j] exp(x - y)`, `y` the extreme of `x`, made equal to its sum over blocks relative to their own extremes, with
    /// what `rescale` makes of `exp(t - y)`. No other law does that here.
    fn blocks(&mut self, op: Reduction, rescale: fn(&mut Maker, Id) -> Vec<Id>) {
        self.disabled = vec!["loc", "guard"];
        let j = Axis::new(0);
        let (whole, outer, inner) = (SubAxis::whole(j), SubAxis::outer(j), SubAxis::inner(j));
        let (at, near) = (self.add(Term::Pos(j)), self.add(Term::CutPos(j)));
        let (x, xb) = (self.read(0, &[at]), self.read(0, &[near]));
        let y = self.add(Term::Reduce(op, [whole].into(), [x]));
        let t = self.add(Term::Reduce(op, [inner].into(), [xb]));
        let e = self.difference(Unary::Exp, x, y);
        let total = self.add(Term::Reduce(Reduction::Sum, [whole].into(), [e]));
        let e = self.difference(Unary::Exp, xb, t);
        let q = self.add(Term::Reduce(Reduction::Sum, [inner].into(), [e]));
        let h = self.difference(Unary::Exp, t, y);
        let mut factors = rescale(self, h);
        factors.push(q);
        let body = self.product(factors);
        let sum = self.add(Term::Reduce(Reduction::Sum, [outer].into(), [body]));
        self.graph.union_trusted(total, sum, "given");
        self.graph.rebuild();
    }
}

fn search(source: Source, without: &[&str]) -> Summary {
    let (mut ingested, more) = match source {
        Text(text) => {
            let module = parse_equations(text, &Given::default(), &[]).expect("parses");
            let function = module.functions.values().next().expect("a function");
            (ingest(function, &module.symbols).expect("ingests"), Vec::new())
        }
        Terms(make) => {
            let mut m = Maker::new();
            make(&mut m);
            m.graph.rebuild();
            let Maker { graph, axes, cascades, disabled } = m;
            let source_terms = graph.nodes().len();
            let values = BTreeMap::new();
            let (roots, forwarded) = (Vec::new(), false);
            (Ingested { graph, roots, axes, cascades, values, source_terms, forwarded }, disabled)
        }
    };
    let disabled: Vec<String> = without.iter().chain(&more).map(|l| (*l).to_owned()).collect();
    let summary = saturate(&mut ingested, Budget::default(), &disabled);
    assert_eq!(summary.stop, Stop::Saturated);
    summary
}

fn conditions(law: &str) -> Vec<&'static str> {
    let law = LAWS.iter().find(|l| l.name == law).expect("in the table");
    law.conditions.split("; ").collect()
}

#[test]
fn a_law_finds_nothing_where_a_condition_is_broken() {
    let mut faults = Vec::new();
    for c in CASES {
        let breaks = search(c.breaks, c.without);
        let keeps = search(c.keeps, c.keeps_without);
        let found = |s: &Summary| s.laws.get(c.law).copied().unwrap_or(0);
        println!("{} ({}): {} and {}", c.law, c.condition, found(&breaks), found(&keeps));
        if found(&breaks) != 0 || found(&keeps) == 0 {
            faults.push(format!(
                "{} ({}): {} where it is broken, {} where not",
                c.law,
                c.condition,
                found(&breaks),
                found(&keeps)
            ));
        }
        if c.condition.starts_with("assumes")
            && (!breaks.assumptions.is_empty() || keeps.assumptions.is_empty())
        {
            faults.push(format!("{}: what is assumed is not on the list: {:?}", c.law, keeps.assumptions));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_condition_of_the_table_is_broken_by_some_terms() {
    for law in LAWS {
        for condition in conditions(law.name) {
            let stated = STATEMENTS.iter().any(|(l, c, _)| *l == law.name && *c == condition);
            let broken = CASES.iter().any(|c| c.law == law.name && c.condition == condition);
            assert!(stated != broken, "`{}`: nothing breaks the condition `{condition}`", law.name);
        }
    }
    let known = CASES.iter().map(|c| (c.law, c.condition)).chain(STATEMENTS.iter().map(|s| (s.0, s.1)));
    for (law, condition) in known {
        assert!(conditions(law).contains(&condition), "`{law}` has no condition `{condition}`");
    }
}
