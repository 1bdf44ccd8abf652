//! What: array files as bytes: the header is kept, the data is copied as it is.
//! Why here: a kernel knows what its bytes mean, so any type of fixed size will do: structures, big-endian numbers,
//! `bfloat16` under whatever name, either order of axes.
//! Pre: a path.
//! Post: the data has the length that the header asks for.

use std::path::Path;

use tilewright::Error;

/// The file: what comes before the data, and the data.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) header: Vec<u8>,
    pub(super) data: Vec<u8>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Raw, Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    take_apart(bytes).map_err(|e| Error::input(format!("`{}` is no usable .npy file: {e}", path.display())))
}

fn take_apart(mut bytes: Vec<u8>) -> Result<Raw, String> {
    let truncated = || "it is truncated".to_owned();
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("it does not start like one".into());
    }
    let number = |range: std::ops::Range<usize>| -> Result<usize, String> {
        let b = bytes.get(range).ok_or_else(truncated)?;
        Ok(b.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    let (at, length) = match bytes.get(6) {
        Some(1) => (10, number(8..10)?),
        Some(2 | 3) => (12, number(8..12)?),
        Some(v) => return Err(format!("version {v} of the format is not known")),
        None => return Err(truncated()),
    };
    let start = at + length;
    let text = bytes.get(at..start).ok_or_else(truncated)?;
    let want = expected(&String::from_utf8_lossy(text))?;
    let data = bytes.split_off(start);
    if data.len() as u64 != want {
        return Err(format!("its extents ask for {want} bytes, and there are {}", data.len()));
    }
    Ok(Raw { header: bytes, data })
}

/// A Python literal, as far as headers have them.
#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Text(String),
    Number(u64),
    Other,
    List(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

/// The bytes of data that a header asks for.
fn expected(header: &str) -> Result<u64, String> {
    let mut p = Reader { rest: header, depth: 0 };
    let fields = match p.literal() {
        Some(Literal::Dict(fields)) => fields,
        _ => return Err("its header is no dictionary".into()),
    };
    let get = |key: &str| {
        let found = fields.iter().find(|(k, _)| *k == Literal::Text(key.into())).map(|(_, v)| v);
        found.ok_or_else(|| format!("its header has no `{key}`"))
    };
    get("fortran_order")?;
    let size = item(get("descr")?)?;
    let count = extents(get("shape")?).ok_or("its shape is no tuple of extents that fit 64 bits")?;
    size.checked_mul(count).ok_or_else(|| "its extents are too large".into())
}

fn extents(shape: &Literal) -> Option<u64> {
    let dims: Vec<u64> = match shape {
        Literal::Number(n) => vec![*n],
        Literal::List(l) => {
            let number = |v: &Literal| if let Literal::Number(n) = v { Some(*n) } else { None };
            l.iter().map(number).collect::<Option<_>>()?
        }
        _ => return None,
    };
    if dims.contains(&0) { Some(0) } else { dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d)) }
}

/// The bytes of an element.
fn item(descr: &Literal) -> Result<u64, String> {
    let unknown = |t: &str| format!("its type `{t}` is not known");
    match descr {
        Literal::Text(t) => {
            let code = t.trim_start_matches(['<', '>', '=', '|']);
            let mut rest = code.chars();
            let kind = rest.next();
            let digits: String = rest.take_while(char::is_ascii_digit).collect();
            let size = digits.parse::<u64>().map_err(|_| unknown(t));
            match kind {
                Some('O') => Err("its elements are Python objects, which have no fixed size".into()),
                Some('?') => Ok(1),
                Some('b' | 'i' | 'u' | 'f' | 'c' | 'V' | 'S' | 'a' | 'M' | 'm') => size,
                // A character of text has four bytes.
                Some('U') => size?.checked_mul(4).ok_or_else(|| unknown(t)),
                _ => Err(unknown(t)),
            }
        }
        // A structure: name, type and perhaps a shape of each field.
        Literal::List(fields) => fields.iter().try_fold(0u64, |sum, field| {
            let Literal::List(f) = field else { return Err(unknown("structure")) };
            let size = item(f.get(1).ok_or_else(|| unknown("structure"))?)?;
            let count = f.get(2).map_or(Some(1), extents);
            let bytes = count.and_then(|c| size.checked_mul(c)).and_then(|b| sum.checked_add(b));
            bytes.ok_or_else(|| unknown("structure"))
        }),
        _ => Err(unknown("descr")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: u32,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, c: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Items up to a closing bracket, separated by commas.
    fn items<T>(&mut self, close: char, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut out = vec![];
        while !self.eat(close) {
            if !out.is_empty() && !self.eat(',') {
                return None;
            }
            if self.eat(close) {
                break;
            }
            out.push(one(self)?);
        }
        Some(out)
    }

    fn literal(&mut self) -> Option<Literal> {
        self.skip();
        self.depth += 1;
        if self.depth > 32 {
            return None;
        }
        let first = self.rest.chars().next()?;
        let value = match first {
            '\'' | '"' => {
                let (text, rest) = self.rest[1..].split_once(first)?;
                self.rest = rest;
                Literal::Text(text.into())
            }
            '(' | '[' => {
                self.eat(first);
                Literal::List(self.items(if first == '(' { ')' } else { ']' }, Self::literal)?)
            }
            '{' => {
                self.eat('{');
                let pair = |r: &mut Self| {
                    let key = r.literal()?;
                    r.eat(':').then_some(())?;
                    Some((key, r.literal()?))
                };
                Literal::Dict(self.items('}', pair)?)
            }
            _ => {
                let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                if word.is_empty() {
                    return None;
                }
                self.rest = rest;
                match word.trim_end_matches('L').parse() {
                    Ok(n) => Literal::Number(n),
                    Err(_) if word.starts_with(|c: char| c.is_ascii_digit()) => return None,
                    Err(_) => Literal::Other,
                }
            }
        };
        self.depth -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(descr: &str, shape: &str) -> Result<u64, String> {
        expected(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"))
    }

    #[test]
    fn sizes_of_types() {
        for (descr, want) in [
            ("'<f4'", 24),
            ("'>f8'", 48),
            ("'|b1'", 6),
            ("'|u1'", 6),
            ("'<u2'", 12),
            ("'|V2'", 12),
            ("'<c16'", 96),
            ("'|S3'", 18),
            ("'<U3'", 72),
            ("'<M8[ns]'", 48),
            ("[('x', '<f4'), ('y', '|u1', (3,))]", 42),
            ("[('p', [('a', '<i2'), ('b', '<i8')])]", 60),
        ] {
            assert_eq!(bytes(descr, "(2, 3)"), Ok(want), "{descr}");
        }
        assert_eq!(bytes("'<f4'", "()"), Ok(4));
        assert_eq!(bytes("'<f4'", "(7,)"), Ok(28));
        assert_eq!(bytes("'<f4'", "(0, 18446744073709551615, 5)"), Ok(0));
        for (descr, shape) in [
            ("'|O'", "(2,)"),
            ("'|O8'", "(2,)"),
            ("[('x', '|O')]", "(2,)"),
            ("'<f'", "(2,)"),
            ("'<q4'", "(2,)"),
            ("''", "(2,)"),
            ("'<f4'", "(2, -3)"),
            ("'<f4'", "('a',)"),
            ("'<f4'", "(4294967296, 4294967296, 2)"),
            ("'<f4'", "(4611686018427387904,)"),
            ("'<f4'", "(99999999999999999999,)"),
            ("3", "(2,)"),
            ("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "(2,)"),
        ] {
            assert!(bytes(descr, shape).is_err(), "{descr} {shape}");
        }
    }

    #[test]
    fn every_prefix_of_a_file_is_refused() {
        let mut file = b"\x93NUMPY\x01\x00\x36\x00".to_vec();
        file.extend(
            format!("{:<53}\n", "{'descr': '<i2', 'fortran_order': True, 'shape': (3,)}").bytes().take(54),
        );
        let header = file.len();
        file.extend([1, 2, 3, 4, 5, 6]);
        let raw = take_apart(file.clone()).unwrap();
        assert_eq!((raw.header.len(), raw.data), (header, vec![1, 2, 3, 4, 5, 6]));
        for n in 0..file.len() {
            assert!(take_apart(file[..n].to_vec()).is_err(), "{n} bytes");
        }
        file.push(0);
        assert!(take_apart(file).is_err());
    }
}
