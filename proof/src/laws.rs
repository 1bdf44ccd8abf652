//! What each law of the table means to the checker.
//!
//! Why here: the search applies laws left to right under conditions of its own; the checker only asks whether two terms
//! are equal by the law. So a law here is a set of rules of the normal form, and whether it still holds when an axis is
//! restricted to one block. The table is data: a law that is not in it cannot be checked, and is refused by name.

use tilewright_ir::Unary;

/// Functions with `f(a + b) = f(a) * f(b)`.
pub const HOMOMORPHISMS: [Unary; 2] = [Unary::Exp, Unary::Exp2];
/// The lowest finite f32: what a maximum is guarded with before it is subtracted.
pub const LOWEST: f64 = -(f32::MAX as f64);
/// The smallest positive normal f32: what a maximum is guarded with before it divides.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;

/// Which rules a normal form uses besides the plain ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Factors that do not depend on the axes leave a sum.
    pub factor: bool,
    /// Literals distribute over sums.
    pub distribute: bool,
    /// All products distribute over sums.
    pub expand: bool,
    /// Positive finite factors leave maxima and minima.
    pub scale_max: bool,
    /// Operands that do not depend on the axes leave maxima.
    pub binary_max: bool,
    /// A reduction over blocks of one within a block is one.
    pub split: bool,
    /// Restrictions to a block are carried out.
    pub part: bool,
    /// Guards of subtracted maxima are dropped, and the assumption recorded.
    pub guard: bool,
    /// Guards of maxima that divide are dropped, and the assumption recorded.
    pub guard_scale: bool,
    /// Products of homomorphisms are homomorphisms of sums.
    pub homomorphisms: bool,
    /// Logarithms of products of homomorphisms and inverses are sums, exponentials of sums of logarithms products.
    pub logarithms: bool,
    /// Quotients of equal positive finite terms are 1.
    pub quotients: bool,
    /// Folds are sums of rescaled blocks.
    pub fold: bool,
    /// Sums of sums are sums.
    pub linear: bool,
    /// Sums in a factor of what is summed are summed outside.
    pub swap: bool,
    /// Nested reductions of one kind over different axes are one.
    pub merge: bool,
    /// Predicates that do not depend on the axes leave reductions.
    pub choose: bool,
    /// What does not depend on the axes is summed as a multiple of the number of positions.
    pub count: bool,
    /// Numbers are summed as multiples of the number of positions, which is the extent of a whole axis.
    pub extent: bool,
    /// What equals the block's maximum where that equals the maximum of all blocks equals the latter.
    pub between: bool,
    /// Terms are choices by predicates about a block, and everything else is within.
    pub cases: bool,
    /// What is the block's position where that is the position of all blocks is the latter.
    pub placed: bool,
}

const NONE: Rules = Rules {
    factor: false,
    distribute: false,
    expand: false,
    scale_max: false,
    binary_max: false,
    split: false,
    part: false,
    guard: false,
    guard_scale: false,
    homomorphisms: false,
    logarithms: false,
    quotients: false,
    fold: false,
    linear: false,
    swap: false,
    merge: false,
    choose: false,
    count: false,
    extent: false,
    between: false,
    cases: false,
    placed: false,
};

/// A law as the checker knows it.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    /// Its name.
    pub name: &'static str,
    /// What the checker takes for granted: the equation and its conditions.
    pub meaning: &'static str,
    /// The rules of its normal form.
    pub rules: Rules,
    /// Whether it says nothing about the extent of an axis, so that it holds for the positions of one block as well.
    pub uniform: bool,
    /// Whether it holds for any consecutive positions in place of a whole axis, however they are cut into blocks.
    pub everywhere: bool,
}

/// The law of steps that need no law: both sides have one plain normal form.
pub const PLAIN: &str = "assoc";

/// All laws that the checker knows.
pub const LAWS: &[Law] = &[
    Law { name: PLAIN, meaning: "equal plain normal forms", rules: NONE, uniform: true, everywhere: true },
    Law {
        name: "fact",
        meaning: "sum[i](c*x) = c * sum[i] x, i not free in c, c finite or at least one position of i",
        rules: Rules { factor: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "swap",
        meaning: "sum[i](c * sum[j] x) = sum[j] sum[i](c * x), j not free in c",
        rules: Rules { swap: true, merge: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "dist",
        meaning: "c*(a+b) = c*a + c*b, c a finite literal",
        rules: Rules { distribute: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "max-scale",
        meaning: "c * max[i] x = max[i](c*x), i not free in c, c positive and finite",
        rules: Rules { scale_max: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "max-binary",
        meaning: "max(c, max[i] x) = max[i] max(c, x), i not free in c, i has positions or c is -inf",
        rules: Rules { binary_max: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "split",
        meaning: "R[k] e = R[k.o] R[k.i] e[k := B*k.o + k.i], no part of k free in e",
        rules: Rules { split: true, ..NONE },
        uniform: false,
        everywhere: true,
    },
    Law {
        name: "part",
        meaning: "part[j] e is e with its reductions over j restricted to the block j.o",
        rules: Rules { part: true, ..NONE },
        uniform: false,
        everywhere: true,
    },
    Law {
        name: "guard",
        meaning: "f(b + c*(x - y)) = f(b + c*(x - max(y, LOWEST))), y a maximum that is assumed to be above -inf, c a finite literal",
        rules: Rules { guard: true, distribute: true, ..NONE },
        uniform: false,
        everywhere: false,
    },
    Law {
        name: "guard-scale",
        meaning: "inv y = inv max(y, TINY), y >= 0 a maximum that is assumed to be positive",
        rules: Rules { guard_scale: true, ..NONE },
        uniform: false,
        everywhere: false,
    },
    Law {
        name: "loc",
        meaning: "f(b + c*(x - y)) = f(b + c*(x - t)) * f(c*(t - y)), f(a+b) = f(a) f(b), t finite, c a finite literal",
        rules: Rules { homomorphisms: true, distribute: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "log",
        meaning: "log(f(x) * y) = c*x + log y, f(a+b) = f(a) f(b), c = log f(1), x finite, or not +inf and y finite and not negative; \
                  log(inv(x) * y) = log y - log x, x not negative; exp(x + log y) = exp(x) * y and exp(x - log y) = exp(x) * \
                  inv y, y positive, x not +inf",
        rules: Rules { logarithms: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "loc-scale",
        meaning: "x * inv y = (x * inv t) * (t * inv y), t positive and finite",
        rules: Rules { quotients: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "fact-where",
        meaning: "R[i] where(p, c, d) = where(p, R[i] c, d), i free in neither p nor d and of at least one position, R max or min or d = 0",
        rules: Rules { choose: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "cases",
        meaning: "e = where(p, e{p}, e{not p}), e{p} being e where where(p, c, d) is c, and e{not p} where it is d, p free of \
                  what reductions around it bind; R[i] d = d, i not free in d and of at least one position, R max or min or d = 0",
        rules: Rules { cases: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "loc-eq",
        meaning: "where(x ~ y, c, d) = where(t == y, where(x ~ t, c, d), e), t = R[j.i] x, y = R[j.o] t, R max or min, ~ one of ==, \
                  !=, and < or >= if R is max, > or <= if it is min, e = c if ~ holds of an x that is not y, and else d",
        rules: Rules { between: true, ..NONE },
        uniform: false,
        everywhere: true,
    },
    Law {
        name: "loc-at",
        meaning: "where(j ~ y, c, d) = where(t == y, where(j ~ t, c, d), e), t a position of its block along j or of none, y an \
                  extreme over j.o of t, or of choices between t and a position of none, ~ == or !=, e = c if ~ is !=, and else d",
        rules: Rules { placed: true, ..NONE },
        uniform: false,
        everywhere: true,
    },
    Law {
        name: "lin",
        meaning: "sum[i] c*(a + b) = sum[i] c*a + sum[i] c*b",
        rules: Rules { expand: true, linear: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "collect",
        meaning: "c * sum[i] x*a + d * sum[i] x*b = sum[i] x*(c*a + d*b), i not free in c and d",
        rules: Rules { expand: true, linear: true, factor: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "centre",
        meaning: "sum[i](x - t) = 0, t = (sum[i] x) * inv(sum[i] 1), of at least one position",
        rules: Rules { linear: true, factor: true, count: true, quotients: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "loc-sum",
        meaning: "sum[i] c*(x - y) = sum[i] c*(x - t) + (t - y) * sum[i] c, i free in neither y nor t; 0 for sum[i](x - t) \
                  where t = (sum[i] x) * inv(sum[i] 1), of at least one position",
        rules: Rules { expand: true, linear: true, factor: true, count: true, quotients: true, ..NONE },
        uniform: true,
        everywhere: true,
    },
    Law {
        name: "fold",
        meaning: "fold R[j](q, a) = R[j.o] a(q), and q = part[j] E where the premise is that R[j.o] a(q) is E",
        rules: Rules { fold: true, ..NONE },
        uniform: false,
        everywhere: true,
    },
];

/// A law by its name.
pub fn law(name: &str) -> Option<&'static Law> {
    LAWS.iter().find(|l| l.name == name)
}

/// The rules by which an extracted term and the expressions of a plan are compared.
pub const PLAN: Rules = Rules { merge: true, extent: true, ..NONE };

/// The rules by which arguments of exponentials are looked at.
pub const STABLE: Rules = Rules { distribute: true, ..NONE };

/// The rules by which the laws of a cocycle are decided over fresh elements.
pub const COCYCLE: Rules = Rules { homomorphisms: true, distribute: true, quotients: true, ..NONE };

/// The rules by which a change of several sums at once is decided over fresh elements.
pub const LINEAR: Rules = Rules { expand: true, ..COCYCLE };

/// A hash of the table: certificates name the meanings that they were checked against.
pub fn table_hash() -> String {
    let mut text = String::new();
    for law in LAWS {
        text +=
            &format!("{}\n{}\n{:?}\n{}\n{}\n", law.name, law.meaning, law.rules, law.uniform, law.everywhere);
    }
    crate::hash::sha256(text.as_bytes())
}
