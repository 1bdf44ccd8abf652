//! Packings: an order of a constant's elements in memory that is not row-major.
//!
//! What: the row-major number of an element, written as digits of a mixed radix, gives its address when the same digits
//! are read in another order. So whatever axes a buffer is seen with, and whoever reads it, one list of digits says where
//! each element is; a matrix in blocks of 16 rows and 32 columns is four digits.
//! Why here: tile programs and steps name the packings of their buffers, code generation computes addresses by them, and
//! the runtime puts elements in order.
//! Post: a packing that [`Packing::check`] accepts is a bijection of the elements onto the first addresses but for what
//! [`Packing::elements`] has more, which is padding at the end of blocks of the topmost digit.

use std::fmt;

/// An order of elements: digits from the slowest to the fastest in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packing {
    /// The digits.
    pub digits: Vec<Digit>,
}

/// A digit of the row-major number `n` of an element: `n / step % count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digit {
    /// How many neighbours in row-major order share it.
    pub step: u64,
    /// How many values it has.
    pub count: u64,
}

impl Packing {
    /// A matrix of rows of `columns` elements in blocks of so many rows and columns, blocks of a band of rows one after
    /// the other. `None` if the columns are no whole number of blocks.
    pub fn blocks(rows: u64, columns: u64, block_rows: u64, block_columns: u64) -> Option<Packing> {
        let whole = block_rows > 0 && block_columns > 0 && columns.is_multiple_of(block_columns);
        let band = columns.checked_mul(block_rows).filter(|&n| whole && n > 0)?;
        Some(Packing {
            digits: vec![
                Digit { step: band, count: rows.div_ceil(block_rows) },
                Digit { step: block_columns, count: columns / block_columns },
                Digit { step: columns, count: block_rows },
                Digit { step: 1, count: block_columns },
            ],
        })
    }

    /// How many elements it has room for, or `None` if nobody could count them.
    pub fn elements(&self) -> Option<u64> {
        self.digits.iter().try_fold(1u64, |n, d| n.checked_mul(d.count))
    }

    /// Why it is no packing of so many elements, if it is none.
    pub fn check(&self, elements: u64) -> Result<(), String> {
        let mut sorted = self.digits.clone();
        sorted.sort_unstable_by_key(|d| (d.step, d.count));
        let mut next = 1u64;
        for d in &sorted {
            if d.count == 0 || d.step != next {
                return Err(format!("after {next} elements no digit goes on"));
            }
            next = next.checked_mul(d.count).ok_or("it has more elements than can be counted")?;
        }
        let below = sorted.last().map_or(0, |top| top.step * (top.count - 1));
        if elements > next || elements <= below {
            return Err(format!(
                "its digits are for more than {below} and up to {next} elements, not {elements}"
            ));
        }
        Ok(())
    }

    /// The address of an element, in elements.
    pub fn address(&self, index: u64) -> u64 {
        self.digits.iter().fold(0, |at, d| at * d.count + index / d.step % d.count)
    }

    /// Elements that are neighbours in both orders.
    pub fn run(&self) -> u64 {
        self.digits.last().filter(|d| d.step == 1).map_or(1, |d| d.count)
    }

    /// Puts elements of so many bytes in order: those that belong to the addresses from `first` on, as many as `to` has
    /// room for. Padding becomes zeros. `first` and the room are whole runs.
    pub fn pack(&self, from: &[u8], element: usize, first: u64, to: &mut [u8]) {
        let run = self.run();
        let outer = if run > 1 { &self.digits[..self.digits.len() - 1] } else { &self.digits[..] };
        // The digits of the first run, and the row-major number that they make.
        let mut rest = first / run;
        let mut values: Vec<u64> = outer
            .iter()
            .rev()
            .map(|d| {
                let value = rest % d.count;
                rest /= d.count;
                value
            })
            .collect();
        values.reverse();
        let mut index: u64 = outer.iter().zip(&values).map(|(d, v)| d.step * v).sum();
        let bytes = run as usize * element;
        for piece in to.chunks_mut(bytes) {
            // A run may lie beyond the elements, or end beyond them.
            let at = from.len().min(index as usize * element);
            let some = (from.len() - at).min(piece.len());
            piece[..some].copy_from_slice(&from[at..at + some]);
            piece[some..].fill(0);
            for (d, v) in outer.iter().zip(&mut values).rev() {
                *v += 1;
                index += d.step;
                if *v < d.count {
                    break;
                }
                index -= d.step * d.count;
                *v = 0;
            }
        }
    }

    /// Puts packed elements of so many bytes back into row-major order.
    pub fn unpack(&self, from: &[u8], element: usize, elements: u64) -> Vec<u8> {
        let mut to = Vec::with_capacity(elements as usize * element);
        for index in 0..elements {
            let at = self.address(index) as usize * element;
            to.extend_from_slice(&from[at..at + element]);
        }
        to
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: Vec<String> = self.digits.iter().map(|d| format!("{}:{}", d.step, d.count)).collect();
        write!(f, "[{}]", digits.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_where_they_should_be() {
        // 20 rows of 64: bands of 16 rows, blocks of 32 columns.
        let p = Packing::blocks(20, 64, 16, 32).unwrap();
        assert_eq!(p.to_string(), "[1024:2, 32:2, 64:16, 1:32]");
        p.check(20 * 64).unwrap();
        assert_eq!(p.elements(), Some(32 * 64));
        for (row, column) in [(0u64, 0u64), (0, 31), (0, 32), (3, 5), (15, 63), (16, 0), (19, 40)] {
            let want = row / 16 * 1024 + column / 32 * 512 + row % 16 * 32 + column % 32;
            assert_eq!(p.address(row * 64 + column), want, "row {row}, column {column}");
        }
    }

    #[test]
    fn packing_in_pieces_and_unpacking_give_the_same() {
        for (rows, columns, r, c) in [(20, 64, 16, 32), (16, 32, 16, 32), (7, 96, 8, 16), (5, 3, 2, 3)] {
            let p = Packing::blocks(rows, columns, r, c).unwrap();
            let count = rows * columns;
            let from: Vec<u8> = (0..count).flat_map(|n| (n as u16 + 1).to_le_bytes()).collect();
            let all = p.elements().unwrap();
            let mut to = vec![0xee; 2 * all as usize];
            let half = all / p.run() / 2 * p.run();
            let (a, b) = to.split_at_mut(2 * half as usize);
            p.pack(&from, 2, 0, a);
            p.pack(&from, 2, half, b);
            // By another way: each element by its address, and nothing elsewhere.
            let mut want = vec![0u8; to.len()];
            for n in 0..count {
                let at = 2 * p.address(n) as usize;
                want[at..at + 2].copy_from_slice(&(n as u16 + 1).to_le_bytes());
            }
            assert_eq!(to, want, "{rows} x {columns}");
            assert_eq!(p.unpack(&to, 2, count), from);
        }
    }

    #[test]
    fn what_is_no_bijection_is_refused() {
        let p = |digits: &[(u64, u64)]| Packing {
            digits: digits.iter().map(|&(step, count)| Digit { step, count }).collect(),
        };
        assert!(p(&[(4, 2), (1, 4)]).check(8).is_ok());
        assert!(p(&[(1, 4), (4, 2)]).check(7).is_ok(), "a ragged top digit");
        for (bad, elements) in [
            (p(&[(4, 2), (1, 4)]), 9),
            (p(&[(4, 2), (1, 4)]), 4),
            (p(&[(4, 2), (1, 3)]), 6),
            (p(&[(2, 2), (1, 4)]), 8),
            (p(&[(4, 0), (1, 4)]), 0),
            (p(&[(1, u64::MAX), (u64::MAX, 2)]), 8),
            (p(&[]), 2),
        ] {
            assert!(bad.check(elements).is_err(), "{bad} of {elements}");
        }
    }
}
