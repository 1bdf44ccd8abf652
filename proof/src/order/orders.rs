//! Orders of elements, as far as they are known.
//!
//! Why here: what is not known is left open, so that one stands for all orders between which nothing has asked yet.
//!
//! Post: what follows from what is known is known; an order that there is not is refused.

/// Less, equal and greater, as members of a set.
pub(super) const LESS: u8 = 1;
pub(super) const SAME: u8 = 2;
pub(super) const MORE: u8 = 4;
pub(super) const ANY: u8 = 7;

/// An element: a number of one of the blocks, or one that stands in the terms.
pub(super) type Element = usize;

/// What must be known to go on: how two elements compare.
pub(super) struct Open(pub(super) Element, pub(super) Element);

/// What is known of an order of elements: for each two of them in which ways they may compare.
#[derive(Clone)]
pub(super) struct Orders {
    n: usize,
    known: Vec<u8>,
    /// Two elements that are equal only where both are the third.
    pub(super) apart: Vec<(Element, Element, Element)>,
}

/// In which ways the outer two of three may compare, by those in which the first and the second two may.
const THROUGH: [[u8; 8]; 8] = {
    let mut out = [[0; 8]; 8];
    let (mut a, mut b) = (0, 0);
    while a < 8 {
        // One way of each; sets of ways are the union.
        let (mut x, mut y) = (LESS, LESS);
        while x <= MORE {
            if a & x != 0 && b & y != 0 {
                out[a as usize][b as usize] |= match (x, y) {
                    (SAME, y) => y,
                    (x, SAME) => x,
                    (LESS, LESS) => LESS,
                    (MORE, MORE) => MORE,
                    _ => ANY,
                };
            }
            (x, y) = if y < MORE { (x, y << 1) } else { (x << 1, LESS) };
        }
        (a, b) = if b < 7 { (a, b + 1) } else { (a + 1, 0) };
    }
    out
};

fn through(a: u8, b: u8) -> u8 {
    THROUGH[usize::from(a & ANY)][usize::from(b & ANY)]
}

fn turned(a: u8) -> u8 {
    (a & SAME) | if a & LESS != 0 { MORE } else { 0 } | if a & MORE != 0 { LESS } else { 0 }
}

impl Orders {
    pub(super) fn new(n: usize) -> Orders {
        let mut known = vec![ANY; n * n];
        (0..n).for_each(|a| known[a * n + a] = SAME);
        Orders { n, known, apart: Vec::new() }
    }

    pub(super) fn of(&self, a: Element, b: Element) -> u8 {
        self.known[a * self.n + b]
    }

    /// Before anything follows from it.
    pub(super) fn know(&mut self, a: Element, b: Element, r: u8) -> Result<(), String> {
        let both = self.of(a, b) & r;
        if both == 0 {
            return Err("what is known of what it tracks contradicts itself".into());
        }
        self.known[a * self.n + b] = both;
        self.known[b * self.n + a] = turned(both);
        Ok(())
    }

    pub(super) fn refine(&mut self, a: Element, b: Element, r: u8) -> bool {
        self.know(a, b, r).is_ok() && self.settle(vec![(a, b)])
    }

    /// Draws all consequences, of everything or of what has changed; whether there is such an order.
    pub(super) fn settle(&mut self, changed: Vec<(Element, Element)>) -> bool {
        let mut todo = changed;
        if todo.is_empty() {
            todo = (0..self.n).flat_map(|a| (a + 1..self.n).map(move |b| (a, b))).collect();
        }
        loop {
            while let Some((a, b)) = todo.pop() {
                for c in 0..self.n {
                    for (x, y, z) in [(a, b, c), (b, a, c)] {
                        // x to z through y.
                        let now = self.of(x, z) & through(self.of(x, y), self.of(y, z));
                        if now == 0 {
                            return false;
                        }
                        if now != self.of(x, z) {
                            self.known[x * self.n + z] = now;
                            self.known[z * self.n + x] = turned(now);
                            todo.push((x, z));
                        }
                    }
                }
            }
            for n in 0..self.apart.len() {
                let (a, b, none) = self.apart[n];
                let now = self.of(a, none) & SAME;
                if self.of(a, b) == SAME && self.of(a, none) != SAME {
                    if now == 0 {
                        return false;
                    }
                    self.known[a * self.n + none] = SAME;
                    self.known[none * self.n + a] = SAME;
                    todo.push((a, none));
                }
                if self.of(a, none) & SAME == 0 && self.of(a, b) & SAME != 0 {
                    let left = self.of(a, b) & !SAME;
                    if left == 0 {
                        return false;
                    }
                    self.known[a * self.n + b] = left;
                    self.known[b * self.n + a] = turned(left);
                    todo.push((a, b));
                }
            }
            if todo.is_empty() {
                return true;
            }
        }
    }

    pub(super) fn asked(&self, a: Element, b: Element, r: u8) -> Result<bool, Open> {
        match self.of(a, b) {
            k if k & !r == 0 => Ok(true),
            k if k & r == 0 => Ok(false),
            _ => Err(Open(a, b)),
        }
    }

    pub(super) fn same(&self, a: Element, b: Element) -> Result<bool, Open> {
        self.asked(a, b, SAME)
    }

    pub(super) fn largest(&self, a: Element, b: Element) -> Result<Element, Open> {
        self.largest_of(a, b, LESS)
    }

    /// The second of two if the first is so to it, or equal.
    pub(super) fn largest_of(&self, a: Element, b: Element, gives_way: u8) -> Result<Element, Open> {
        match self.of(a, b) {
            k if k & !(gives_way | SAME) == 0 => Ok(b),
            k if k & gives_way == 0 => Ok(a),
            _ => Err(Open(a, b)),
        }
    }
}
