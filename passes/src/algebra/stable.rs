//! Which nodes may be computed: numerical legality.
//!
//! What: equal over the reals is not computable alike. A node is a risk if it may be undefined or overflow although its
//! class is a plain number: an inverse of what may be 0, an exponential of what has no upper bound or may be a difference of
//! infinities, a difference that makes what cannot be negative (`E[x^2] - E[x]^2`). Such a node cannot be extracted, whatever
//! it would save, unless the source itself asks for it.
//! Why here: this is a property of a node and not of a class, so a union cannot express it, and neither can a law; it is
//! decided once for each node, before costs are compared. A fold may be taken where its action may.
//! Pre: a saturated graph with the number of its source terms. Post: every class of a source term keeps a node that may be
//! taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::{Axis, Reduction, Unary};

use super::ingest::Ingested;
use super::laws::HOMOMORPHISMS;
use super::{Graph, Kind, Term};

/// Exponentials of more than this are near the end of float32.
const BOUND: f64 = 80.0;

/// How many terms deep a bound is looked for.
const DEPTH: usize = 6;

/// Whether a node of a class is a risk. See the module.
pub fn risky(g: &Graph, class: Id, node: &Term) -> bool {
    match node {
        Term::Unary(Unary::Inv, [y]) => g[*y].data.lo <= 0.0 && g[*y].data.hi >= 0.0,
        Term::Unary(f, [x]) if HOMOMORPHISMS.contains(f) => {
            !g[*x].data.below || !bounded(g, g.find(*x), BOUND, DEPTH)
        }
        // What cannot be negative, as a sum of something that can: digits cancel. Integers are exact.
        Term::Add(terms) => {
            let known = &g[class].data;
            known.kind == Kind::Real && known.lo >= 0.0 && terms.iter().any(|t| g[*t].data.lo < 0.0)
        }
        _ => false,
    }
}

/// Whether digits may cancel, as far as ranges tell: a difference of what is not negative from what is not negative. Worth
/// saying where a source has it; a maximum that is subtracted from what it is a maximum of is another matter.
pub fn cancels(g: &Graph, node: &Term) -> bool {
    let Term::Add(terms) = node else { return false };
    let varies = |t: &&Id| g[**t].data.constant().is_none() && g[**t].data.kind == Kind::Real;
    let from = terms.iter().filter(varies).any(|t| g[*t].data.lo >= 0.0);
    from && terms.iter().enumerate().filter(|(_, t)| varies(t)).any(|(at, &t)| {
        let mut rest: Vec<Id> = terms.iter().map(|&t| g.find(t)).collect();
        rest.remove(at);
        negative(g, t) && !subtracted(g, t).is_some_and(|(scale, y)| covers(g, y, scale, &mut rest, DEPTH))
    })
}

/// Whether a value cannot be positive: by its range, or as minus a product of squares and of what is not negative.
fn negative(g: &Graph, t: Id) -> bool {
    let product = |node: &Term| {
        let Term::Mul(factors) = node else { return false };
        let (numbers, rest): (Vec<Id>, Vec<Id>) =
            factors.iter().map(|&f| g.find(f)).partition(|&f| g[f].data.constant().is_some());
        let scale: f64 = numbers.iter().filter_map(|n| g[*n].data.constant()).product();
        let mut signed: Vec<Id> = rest.into_iter().filter(|&f| g[f].data.lo < 0.0).collect();
        signed.sort_unstable();
        scale < 0.0 && signed.chunks(2).all(|p| p.len() == 2 && p[0] == p[1])
    };
    g[t].data.hi <= 0.0 || g[t].nodes.iter().any(product)
}

/// Whether the graph shows that a value is at most `most`.
fn bounded(g: &Graph, x: Id, most: f64, depth: usize) -> bool {
    if g[x].data.hi <= most {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let zero = |x: Id| bounded(g, g.find(x), 0.0, depth - 1);
    let upper = |&t: &Id| match g[t].data.hi {
        f64::INFINITY if zero(t) => 0.0,
        hi => hi,
    };
    let relative = |terms: &[Id]| {
        terms.iter().enumerate().any(|(at, &t)| {
            let mut rest: Vec<Id> = terms.iter().map(|&t| g.find(t)).collect();
            rest.remove(at);
            subtracted(g, t).is_some_and(|(scale, y)| covers(g, y, scale, &mut rest, depth))
        })
    };
    g[x].nodes.iter().any(|node| match node {
        Term::Add(terms) => relative(terms) || terms.iter().map(upper).sum::<f64>() <= most,
        // A positive multiple of what is not positive.
        Term::Mul(factors) => {
            let (numbers, rest): (Vec<Id>, Vec<Id>) =
                factors.iter().partition(|&&f| g[f].data.constant().is_some());
            let positive = numbers.iter().filter_map(|n| g[*n].data.constant()).product::<f64>() > 0.0;
            matches!(rest[..], [z] if positive && zero(z))
        }
        Term::Max(c) => c.iter().all(|&c| zero(c)),
        Term::Min(c) => c.iter().any(|&c| zero(c)),
        Term::Select([_, a, b]) => zero(*a) && zero(*b),
        Term::Reduce(Reduction::Max, _, [b]) => zero(*b),
        _ => false,
    })
}

/// Whether the graph shows that a value is never on one side of 0.
pub fn signed(g: &Graph, x: Id) -> bool {
    g[x].data.lo >= 0.0 || bounded(g, g.find(x), 0.0, DEPTH)
}

/// The terms that are `scale * y` with a negative scale, which is given without its sign.
fn subtracted(g: &Graph, t: Id) -> Option<(f64, Id)> {
    g[t].nodes.iter().find_map(|node| {
        let Term::Mul(factors) = node else { return None };
        let (numbers, rest): (Vec<Id>, Vec<Id>) =
            factors.iter().partition(|&&f| g[f].data.constant().is_some());
        let scale: f64 = numbers.iter().filter_map(|n| g[*n].data.constant()).product();
        match rest[..] {
            [y] if scale < 0.0 => Some((-scale, g.find(y))),
            _ => None,
        }
    })
}

/// Whether `y` is a maximum, of other things too, of what `scale` times is the sum of `rest`.
fn covers(g: &Graph, y: Id, scale: f64, rest: &mut [Id], depth: usize) -> bool {
    rest.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut todo = vec![(y, 0)];
    while let Some((body, steps)) = todo.pop() {
        if !seen.insert(body) {
            continue;
        }
        if is_sum(g, body, scale, rest) {
            return true;
        }
        if steps >= depth {
            continue;
        }
        for node in &g[body].nodes {
            match node {
                Term::Reduce(Reduction::Max, _, [b]) => todo.push((g.find(*b), steps + 1)),
                Term::Max(c) => todo.extend(c.iter().map(|&c| (g.find(c), steps + 1))),
                _ => {}
            }
        }
    }
    false
}

/// Whether `scale * body` is the sum of these.
fn is_sum(g: &Graph, body: Id, scale: f64, rest: &[Id]) -> bool {
    if scale == 1.0 {
        return match rest {
            [one] => *one == body,
            _ => g[body].nodes.iter().any(|n| {
                let Term::Add(c) = n else { return false };
                let mut c: Vec<Id> = c.iter().map(|&c| g.find(c)).collect();
                c.sort_unstable();
                c == rest
            }),
        };
    }
    let [one] = rest else { return false };
    g[*one].nodes.iter().any(|n| {
        let Term::Mul(c) = n else { return false };
        let (numbers, others): (Vec<Id>, Vec<Id>) = c.iter().partition(|&&f| g[f].data.constant().is_some());
        let own: f64 = numbers.iter().filter_map(|n| g[*n].data.constant()).product();
        own == scale && matches!(others[..], [b] if g.find(b) == body)
    })
}

/// The nodes that may be taken, class by class, and whether each is a risk that the source takes itself.
pub struct Legal {
    /// In the order of classes and of their nodes.
    pub nodes: BTreeMap<Id, Vec<(Term, bool)>>,
}

impl Legal {
    /// Decides for all nodes of a graph.
    pub fn of(ingested: &Ingested) -> Legal {
        let g = &ingested.graph;
        let mut risks: BTreeMap<Id, Vec<Term>> = BTreeMap::new();
        for class in g.classes() {
            let own: Vec<Term> = class.nodes.iter().filter(|n| risky(g, class.id, n)).cloned().collect();
            if !own.is_empty() {
                risks.insert(class.id, own);
            }
        }
        // What the source asks for.
        let mut asked: BTreeMap<Id, Vec<Term>> = BTreeMap::new();
        for n in 0..ingested.source_terms {
            let id = Id::from(n);
            let class = g.find(id);
            let node = canonical(g, g.id_to_node(id));
            let own = asked.entry(class).or_default();
            if risks.contains_key(&class) && !own.contains(&node) {
                own.push(node);
            }
        }
        asked.retain(|_, nodes| !nodes.is_empty());
        // The same within a block of an axis.
        for (_, class, node) in images(ingested) {
            let Some(class) = class else { continue };
            let risk = risks.get(&class).is_some_and(|r| r.iter().any(|n| canonical(g, n) == node));
            let own = asked.entry(class).or_default();
            if risk && !own.contains(&node) {
                own.push(node);
            }
        }
        asked.retain(|_, nodes| !nodes.is_empty());
        let parts = parts(g);
        let mut todo: Vec<Id> = asked.keys().copied().collect();
        while let Some(class) = todo.pop() {
            for &(axis, part) in parts.get(&class).into_iter().flatten() {
                let sources = asked[&class].clone();
                for node in risks.get(&part).into_iter().flatten() {
                    let node = canonical(g, node);
                    let is = sources.iter().any(|s| is_part(s, &node, axis, &parts));
                    let own = asked.entry(part).or_default();
                    if is && !own.contains(&node) {
                        own.push(node);
                        todo.push(part);
                    }
                }
            }
        }
        let mut nodes = BTreeMap::new();
        for class in g.classes() {
            let own = risks.get(&class.id);
            let wanted = asked.get(&class.id);
            let legal = class.nodes.iter().filter_map(|n| {
                let risk = own.is_some_and(|r| r.contains(n));
                let taken = !risk || wanted.is_some_and(|w| w.contains(&canonical(g, n)));
                taken.then(|| (n.clone(), risk))
            });
            nodes.insert(class.id, legal.collect());
        }
        let mut legal = Legal { nodes };
        legal.drop_idle(g);
        legal
    }

    /// Takes out folds whose action has no term over what they track of nodes that may be taken.
    pub fn drop_idle(&mut self, g: &Graph) {
        let idle = |node: &Term| match node {
            Term::Fold(_, _, c) => {
                let tracked: Vec<Id> = c[2..].iter().map(|&t| g.find(t)).collect();
                !self.acts(g, g.find(c[1]), &tracked, &mut HashMap::new())
            }
            _ => false,
        };
        let gone: Vec<(Id, Term)> = self
            .nodes
            .iter()
            .flat_map(|(&id, own)| own.iter().filter(|(n, _)| idle(n)).map(move |(n, _)| (id, n.clone())))
            .collect();
        for (id, node) in gone {
            if let Some(own) = self.nodes.get_mut(&id) {
                own.retain(|(n, _)| *n != node);
            }
        }
    }

    fn acts(&self, g: &Graph, id: Id, tracked: &[Id], known: &mut HashMap<Id, bool>) -> bool {
        if tracked.contains(&id) {
            return true;
        }
        if let Some(&done) = known.get(&id) {
            return done;
        }
        known.insert(id, false);
        let found = self
            .of_class(id)
            .any(|n| acting(n) && n.children().iter().all(|&c| self.acts(g, g.find(c), tracked, known)));
        known.insert(id, found);
        found
    }

    /// The nodes of a class that may be taken, in their order.
    pub fn of_class(&self, id: Id) -> impl Iterator<Item = &Term> {
        self.nodes.get(&id).into_iter().flatten().map(|(n, _)| n)
    }
}

/// What the action of a fold may be made of, besides what it tracks.
pub fn acting(node: &Term) -> bool {
    matches!(
        node,
        Term::Hole
            | Term::Num(_)
            | Term::Size(_)
            | Term::Mul(_)
            | Term::Add(_)
            | Term::Max(_)
            | Term::Min(_)
            | Term::Unary(..)
            | Term::Binary(..)
            | Term::Select(_)
    )
}

/// The terms of the source at the positions of blocks, as far as the graph has their operands: the term, the class if the
/// graph has it itself, and the node.
pub fn images(ingested: &Ingested) -> Vec<(Id, Option<Id>, Term)> {
    let g = &ingested.graph;
    let mut index: HashMap<Term, Id> = HashMap::new();
    for class in g.classes() {
        for node in &class.nodes {
            index.insert(canonical(g, node), class.id);
        }
    }
    let mut out = Vec::new();
    for &axis in &ingested.cascades {
        let mut image: Vec<Option<Id>> = Vec::with_capacity(ingested.source_terms);
        for n in 0..ingested.source_terms {
            let id = Id::from(n);
            let node = g.id_to_node(id);
            let bound = matches!(node, Term::Reduce(_, axes, _) if axes.iter().any(|a| a.axis == axis));
            let cut = match node {
                Term::Pos(a) if *a == axis => Some(Term::CutPos(axis)),
                _ if bound || node.is_leaf() => None,
                _ => {
                    let of = |c: &Id| image.get(usize::from(*c)).copied().flatten();
                    let Some(children) = node.children().iter().map(of).collect::<Option<Vec<Id>>>() else {
                        image.push(None);
                        continue;
                    };
                    let mut children = children.into_iter();
                    Some(node.clone().map_children(|c| children.next().unwrap_or(c)))
                }
            };
            let Some(cut) = cut.map(|c| canonical(g, &c)) else {
                image.push(Some(g.find(id)));
                continue;
            };
            let class = index.get(&cut).copied();
            image.push(class);
            out.push((id, class, cut));
        }
    }
    out
}

/// A node over the names of classes, operands of sums and the like in order.
fn canonical(g: &Graph, node: &Term) -> Term {
    let mut node = node.clone().map_children(|c| g.find(c));
    if matches!(node, Term::Mul(_) | Term::Add(_) | Term::Max(_) | Term::Min(_)) {
        node.children_mut().sort_unstable();
    }
    node
}

/// The blocks of each class: axis and class.
pub fn parts(g: &Graph) -> HashMap<Id, Vec<(Axis, Id)>> {
    let mut out: HashMap<Id, Vec<(Axis, Id)>> = HashMap::new();
    let mut classes: Vec<Id> = g.classes().map(|c| c.id).collect();
    classes.sort_unstable();
    for class in classes {
        for node in &g[class].nodes {
            if let Term::Part(axis, [of]) = node {
                out.entry(g.find(*of)).or_default().push((*axis, class));
            }
        }
    }
    out
}

/// Whether a node is another one within a block: each operand is the block of the other's, or the same.
fn is_part(whole: &Term, part: &Term, axis: Axis, parts: &HashMap<Id, Vec<(Axis, Id)>>) -> bool {
    let alike = std::mem::discriminant(whole) == std::mem::discriminant(part)
        && whole.children().len() == part.children().len();
    let operator = match (whole, part) {
        (Term::Unary(f, _), Term::Unary(g, _)) => f == g,
        _ => true,
    };
    let mut left: Vec<Id> = part.children().to_vec();
    alike
        && operator
        && whole.children().iter().all(|c| {
            let image = |p: &Id| p == c || parts.get(c).is_some_and(|all| all.contains(&(axis, *p)));
            left.iter().position(image).map(|at| left.swap_remove(at)).is_some()
        })
}
