//! Whether exponentials and inverses stay in range.
//!
//! Why here: equality over the reals does not make a term computable. The judgement is made of the very term that the
//! kernel computes: an exponential whose argument is at most 0 because a maximum of it is subtracted, a divisor that is
//! bounded away from 0, or neither, which the certificate then says.

use tilewright_ir::{Reduction, Unary};

use crate::laws::HOMOMORPHISMS;
use crate::normal::Normal;
use crate::term::{Id, Node, Terms};

/// The judgement of a node, if it is one that needs a judgement.
pub fn judge(t: &mut Terms, id: Id) -> Option<String> {
    let Node::Unary(f, x) = *t.node(id) else { return None };
    if HOMOMORPHISMS.contains(&f) {
        let hi = t.facts(x).hi;
        return Some(match above_its_maximum(t, x) {
            Some(0.0) => "argument at most 0: its own maximum is subtracted".into(),
            Some(more) if more < 80.0 => format!("argument at most {more:?}: its own maximum is subtracted"),
            _ if hi < 80.0 => format!("argument at most {hi:?}"),
            _ => "argument has no bound".into(),
        });
    }
    if f == Unary::Inv || f == Unary::Rsqrt {
        let lo = t.facts(x).lo;
        return Some(if lo > 0.0 {
            format!("divisor at least {lo:?}")
        } else {
            "divisor has no bound away from 0".into()
        });
    }
    None
}

/// How much a sum of `x - y`, where `y` is at least a maximum of `x`, up to a positive literal, and of what has a bound is at
/// most.
fn above_its_maximum(t: &mut Terms, sum: Id) -> Option<f64> {
    let mut n = Normal::new(crate::laws::STABLE);
    let sum = n.of(t, sum);
    let Node::Add(terms) = t.node(sum).clone() else { return None };
    if is_below_its_maximum(t, &mut n, &terms) {
        return Some(0.0);
    }
    let (more, rest): (Vec<Id>, Vec<Id>) = terms.iter().partition(|&&x| t.facts(x).hi < f64::INFINITY);
    let bound = more.iter().map(|&x| t.facts(x).hi).sum();
    is_below_its_maximum(t, &mut n, &rest).then_some(bound)
}

fn is_below_its_maximum(t: &mut Terms, n: &mut Normal, terms: &[Id]) -> bool {
    for (at, &x) in terms.iter().enumerate() {
        let Node::Mul(c) = t.node(x).clone() else { continue };
        let [a, b] = c[..] else { continue };
        let (scale, y) = if t.literal(a).is_some() { (a, b) } else { (b, a) };
        let Some(scale) = t.literal(scale).filter(|s| *s < 0.0) else { continue };
        let mut rest = terms.to_vec();
        rest.remove(at);
        let rest = n.add(t, rest);
        let operands = match t.node(y) {
            Node::Max(c) => c.clone(),
            _ => vec![y],
        };
        for o in operands {
            let mut bodies = vec![o];
            // A maximum of maxima is at least each of them.
            while let Some(body) = bodies.pop() {
                let scale = t.num(-scale);
                let scaled = n.mul(t, vec![scale, body]);
                if scaled == rest {
                    return true;
                }
                match t.node(body) {
                    Node::Reduce(Reduction::Max, _, b) => bodies.push(*b),
                    Node::Max(c) => bodies.extend(c.iter().copied()),
                    _ => {}
                }
            }
        }
    }
    false
}
