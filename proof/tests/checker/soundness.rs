//! A normal form equals the term that it is of: random terms, by every law's rules, are evaluated by their own syntax.
//!
//! A step of a certificate by a law is accepted where both sides have one normal form under the law's rules; so what is
//! tested here is what every proof rests on.

use std::cell::Cell;
use std::collections::HashMap;

use crate::world::{BLOCKS, EMPTY, EXTENTS, Place, TENSORS, World};
use tilewright_ir::{Axis, Binary, Extent, Reduction, Unary, Value, splitmix};
use tilewright_proof::laws::LAWS;
use tilewright_proof::normal::Normal;
use tilewright_proof::term::{Id, Node, Piece, Terms};

/// A small generator with a printed seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

fn axis(n: usize) -> Axis {
    Axis::from_u32(n as u32)
}

/// What an axis is at some place of a term: whole, cut into blocks, or whole and to stay so.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Whole,
    Blocks,
    Never,
}

/// A random term; `cut` says of each axis what it is here.
fn term(r: &mut Random, t: &mut Terms, depth: u32, cut: [Cut; 3]) -> Id {
    let position = |r: &mut Random, t: &mut Terms| {
        let n = r.below(3) as usize;
        t.add(if cut[n] == Cut::Blocks { Node::CutPos(axis(n)) } else { Node::Pos(axis(n)) })
    };
    if depth == 0 || r.below(9) == 0 {
        return match r.below(8) {
            0 => t.num(r.pick(&[-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, f64::NEG_INFINITY])),
            1 => position(r, t),
            _ => {
                let n = r.below(TENSORS.len() as u64) as usize;
                let index = TENSORS[n]
                    .iter()
                    .map(|&a| {
                        t.add(if cut[a] == Cut::Blocks { Node::CutPos(axis(a)) } else { Node::Pos(axis(a)) })
                    })
                    .collect();
                t.add(Node::Read(Value::from_u32(n as u32), index))
            }
        };
    }
    let several = |r: &mut Random, t: &mut Terms| {
        let n = 2 + r.below(2);
        let mut all: Vec<Id> = (0..n).map(|_| term(r, t, depth - 1, cut)).collect();
        all.sort_unstable();
        all
    };
    let blocks: Vec<usize> = (0..3).filter(|&n| cut[n] == Cut::Blocks).collect();
    let kind = if !blocks.is_empty() && r.below(5) == 0 { 13 } else { r.below(13) };
    match kind {
        0 | 1 => {
            let c = several(r, t);
            t.add(Node::Add(c))
        }
        2..4 => {
            let c = several(r, t);
            t.add(Node::Mul(c))
        }
        4 => {
            let mut c = several(r, t);
            c.dedup();
            if c.len() == 1 { c[0] } else { t.add(if r.below(3) > 0 { Node::Max(c) } else { Node::Min(c) }) }
        }
        5 | 6 => {
            let f = r.pick(&[
                Unary::Exp,
                Unary::Exp,
                Unary::Exp2,
                Unary::Abs,
                Unary::Inv,
                Unary::Tanh,
                Unary::Log,
            ]);
            let x = term(r, t, depth - 1, cut);
            t.add(Node::Unary(f, x))
        }
        7 => {
            // What is compared has few binary digits, so that it is computed exactly in any order.
            let p = [position(r, t), term(r, t, 0, cut)];
            let p = t.add(Node::Binary(r.pick(&[Binary::Lt, Binary::Ge, Binary::Eq, Binary::Ne]), p));
            let c = [p, term(r, t, depth - 1, cut), term(r, t, depth - 1, cut)];
            t.add(Node::Select(c))
        }
        13 => {
            // By what a block holds, or how much; that is exact, too.
            let n = r.pick(&blocks);
            let side = |r: &mut Random, t: &mut Terms| {
                let x = term(r, t, 0, cut);
                let op = r.pick(&[Reduction::Sum, Reduction::Max, Reduction::Min]);
                t.add(Node::Reduce(op, vec![Piece::inner(axis(n))], x))
            };
            let p = [side(r, t), side(r, t)];
            let p = t.add(Node::Binary(r.pick(&[Binary::Lt, Binary::Ge, Binary::Eq, Binary::Ne]), p));
            let c = [p, term(r, t, depth - 1, cut), term(r, t, depth - 1, cut)];
            t.add(Node::Select(c))
        }
        8 => {
            let n = r.below(3) as usize;
            let mut within = cut;
            within[n] = Cut::Never;
            let x = term(r, t, depth - 1, within);
            let free = t.facts(x).free.contains(&Piece::whole(axis(n)));
            if free { x } else { t.add(Node::Part(axis(n), x)) }
        }
        _ => {
            let op = r.pick(&[Reduction::Sum, Reduction::Sum, Reduction::Max, Reduction::Min]);
            let n = r.below(3) as usize;
            let mut within = cut;
            let mut pieces = match if cut[n] == Cut::Never { 2 } else { r.below(3) } {
                0 => {
                    within[n] = Cut::Blocks;
                    vec![Piece::outer(axis(n))]
                }
                1 => {
                    within[n] = Cut::Blocks;
                    vec![Piece::inner(axis(n))]
                }
                _ => {
                    within[n] = if cut[n] == Cut::Never { Cut::Never } else { Cut::Whole };
                    vec![Piece::whole(axis(n))]
                }
            };
            if r.below(4) == 0 {
                let other = (n + 1) % 3;
                within[other] = if cut[other] == Cut::Never { Cut::Never } else { Cut::Whole };
                pieces.push(Piece::whole(axis(other)));
            }
            if r.below(8) == 0 {
                pieces.push(Piece::whole(axis(EMPTY)));
            }
            pieces.sort_unstable();
            let body = term(r, t, depth - 1, within);
            t.add(Node::Reduce(op, pieces, body))
        }
    }
}

fn show(t: &Terms, id: Id) -> String {
    let row = tilewright_proof::cert::row(t.node(id));
    let c: Vec<String> = t.node(id).children().iter().map(|&c| show(t, c)).collect();
    format!("{} {}({})", row.op, row.of, c.join(", "))
}

#[test]
fn normal_forms_equal_their_terms() {
    let seed = splitmix::fresh_seed();
    println!("SEED={seed}");
    let count = std::env::var("CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(20_000);
    let mut r = Random(seed);
    let mut changed: HashMap<&str, usize> = HashMap::new();
    let mut wrong: Vec<(usize, String)> = Vec::new();
    let (mut compared, mut untold) = (0, 0);
    for case in 0..count {
        let mut t = Terms::default();
        (0..EXTENTS.len()).for_each(|n| t.declare(axis(n), Extent::Const(EXTENTS[n] as u64)));
        let depth = 2 + r.below(4) as u32;
        let id = term(&mut r, &mut t, depth, [Cut::Whole; 3]);
        let tensors = TENSORS.map(|axes| {
            let n = axes.iter().map(|&a| EXTENTS[a]).product();
            (0..n).map(|_| (r.below(9) as f64 - 4.0) * 0.5).collect()
        });
        let mut place = Place::default();
        for n in 0..EMPTY {
            let at = r.below(EXTENTS[n] as u64) as usize;
            place.whole.insert(axis(n), at);
            place.outer.insert(axis(n), at / BLOCKS[n]);
            place.inner.insert(axis(n), at % BLOCKS[n]);
        }
        let world = World {
            tensors: tensors.to_vec(),
            like: (0..EXTENTS.len()).map(|n| (axis(n), n)).collect(),
            doubtful: Cell::new(false),
        };
        let want = world.value(&t, id, &place);
        let doubtful = world.doubtful.get();
        // Laws that are about how many positions an axis has say nothing about a block's.
        let parted = show(&t, id).contains("part ");
        for law in LAWS {
            let mut normal = Normal::new(law.rules);
            let form = normal.of(&mut t, id);
            if form == id
                || !normal.assumptions.is_empty()
                || want.double.is_nan()
                || (parted && !law.uniform)
            {
                continue;
            }
            *changed.entry(law.name).or_default() += 1;
            world.doubtful.set(doubtful);
            let found = world.value(&t, form, &place);
            let undefined = found.double.is_nan() && !world.doubtful.get();
            compared += 1;
            if want.apart(&found) || undefined {
                let (from, to) = (show(&t, id), show(&t, form));
                wrong.push((
                    from.len(),
                    format!("case {case}, law {}: {want:?} became {found:?}\n{from}\n{to}", law.name),
                ));
            } else if !want.close(&found) {
                untold += 1;
            }
        }
    }
    wrong.sort();
    let shortest: Vec<&str> = wrong.iter().take(5).map(|w| w.1.as_str()).collect();
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), shortest.join("\n\n"));
    let mut all: Vec<_> = changed.into_iter().collect();
    all.sort_unstable();
    println!("terms with another normal form: {all:?}");
    println!("{compared} forms compared, {untold} that rounding may tell apart");
    assert!(untold * 200 <= compared);
    assert!(all.len() == LAWS.len(), "a law has changed nothing");
}
