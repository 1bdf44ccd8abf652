//! What: the output of `printf` in kernels, and its formatting.
//! Why here: the format is C's, the arguments are bytes in the order and alignment of the device's `vprintf`.
//! Pre: a format, and functions that read arguments and strings from the kernel's memory.
//! Post: text; a conversion that is not known stands as it was written.

use serde::Serialize;

/// What one thread printed by one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Printed {
    /// The index of the block.
    pub block: [u32; 3],
    /// The index of the thread in its block.
    pub thread: [u32; 3],
    /// The text.
    pub text: String,
}

/// Text as the machine collects it: block in the sequence of launches, thread, text.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) block: u32,
    pub(crate) thread: u32,
    pub(crate) text: String,
}

/// At most this much is kept of the text that one host thread collects.
pub(crate) const MOST: usize = 16 << 20;
/// The longest string that is read from memory, and the widest field.
pub(crate) const LONGEST: usize = 4096;

/// What a conversion takes from memory.
pub(crate) trait Source {
    /// Why it cannot be read.
    type Error;
    /// An argument of 4 or 8 bytes at an offset into the arguments.
    fn word(&mut self, offset: u64, bytes: u64) -> Result<u64, Self::Error>;
    /// A string at a generic address.
    fn string(&mut self, address: u64) -> Result<Vec<u8>, Self::Error>;
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer.
    size: u64,
}

/// Formats; the answer is the text and the number of arguments.
pub(crate) fn format<S: Source>(format: &[u8], source: &mut S) -> Result<(String, u32), S::Error> {
    let mut out = vec![];
    let (mut i, mut at, mut count) = (0, 0u64, 0);
    let mut take = |source: &mut S, bytes: u64| {
        at = at.next_multiple_of(bytes);
        let v = source.word(at, bytes);
        at += bytes;
        count += 1;
        v
    };
    while let Some(&c) = format.get(i) {
        let start = i;
        i += 1;
        if c != b'%' {
            out.push(c);
            continue;
        }
        let mut s = Spec { size: 4, ..Spec::default() };
        while let Some(&c) = format.get(i) {
            match c {
                b'-' => s.minus = true,
                b'+' => s.plus = true,
                b' ' => s.space = true,
                b'0' => s.zero = true,
                b'#' => s.alternate = true,
                _ => break,
            }
            i += 1;
        }
        if format.get(i) == Some(&b'*') {
            i += 1;
            let w = take(source, 4)? as u32 as i32;
            s.minus |= w < 0;
            s.width = (w.unsigned_abs() as usize).min(LONGEST);
        } else {
            s.width = number(format, &mut i);
        }
        if format.get(i) == Some(&b'.') {
            i += 1;
            if format.get(i) == Some(&b'*') {
                i += 1;
                let p = take(source, 4)? as u32 as i32;
                s.precision = usize::try_from(p).ok().map(|p| p.min(LONGEST));
            } else {
                s.precision = Some(number(format, &mut i));
            }
        }
        while let Some(&c) = format.get(i) {
            match c {
                b'l' | b'j' | b'z' | b't' => s.size = 8,
                // Narrow integers travel as int; their value is cut below.
                b'h' => s.size = if s.size == 2 { 1 } else { 2 },
                b'L' => {}
                _ => break,
            }
            i += 1;
        }
        let Some(&conversion) = format.get(i) else {
            out.extend(&format[start..]);
            break;
        };
        i += 1;
        match conversion {
            b'%' => out.push(b'%'),
            b'd' | b'i' => {
                let v = take(source, s.size.max(4))?;
                let v = match s.size {
                    8 => v as i64,
                    4 => i64::from(v as i32),
                    2 => i64::from(v as i16),
                    _ => i64::from(v as i8),
                };
                let sign = if v < 0 { "-" } else { s.positive() };
                out.extend(s.integer(sign, &v.unsigned_abs().to_string()));
            }
            b'u' | b'o' | b'x' | b'X' => {
                let v = take(source, s.size.max(4))?;
                let v = if s.size == 8 { v } else { v & ((1 << (8 * s.size)) - 1) };
                let (digits, prefix) = match conversion {
                    b'u' => (v.to_string(), ""),
                    b'o' => (format!("{v:o}"), if s.alternate { "0" } else { "" }),
                    b'x' => (format!("{v:x}"), if s.alternate && v != 0 { "0x" } else { "" }),
                    _ => (format!("{v:X}"), if s.alternate && v != 0 { "0X" } else { "" }),
                };
                out.extend(s.integer(prefix, &digits));
            }
            b'p' => {
                let v = take(source, 8)?;
                out.extend(s.pad("", &format!("{v:#x}"), false));
            }
            b'c' => {
                let v = take(source, 4)? as u8;
                let fill = s.width.saturating_sub(1);
                if !s.minus {
                    out.resize(out.len() + fill, b' ');
                }
                out.push(v);
                if s.minus {
                    out.resize(out.len() + fill, b' ');
                }
            }
            b's' => {
                let address = take(source, 8)?;
                let mut text = if address == 0 { b"(null)".to_vec() } else { source.string(address)? };
                text.truncate(s.precision.unwrap_or(LONGEST));
                let fill = s.width.saturating_sub(text.len());
                if !s.minus {
                    out.resize(out.len() + fill, b' ');
                }
                out.extend(text);
                if s.minus {
                    out.resize(out.len() + fill, b' ');
                }
            }
            b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
                let v = f64::from_bits(take(source, 8)?);
                out.extend(s.float(v, conversion));
            }
            _ => out.extend(&format[start..i]),
        }
    }
    Ok((String::from_utf8_lossy(&out).into_owned(), count))
}

/// Decimal digits at `i`, as far as a field may be wide.
fn number(s: &[u8], i: &mut usize) -> usize {
    let mut v = 0usize;
    while let Some(c) = s.get(*i).filter(|c| c.is_ascii_digit()) {
        v = (v * 10 + usize::from(c - b'0')).min(LONGEST);
        *i += 1;
    }
    v
}

impl Spec {
    fn positive(&self) -> &'static str {
        match (self.plus, self.space) {
            (true, _) => "+",
            (_, true) => " ",
            _ => "",
        }
    }

    /// Fills up to the width: with blanks, or with zeros between sign and digits.
    fn pad(&self, sign: &str, digits: &str, zeros: bool) -> Vec<u8> {
        let fill = self.width.saturating_sub(sign.len() + digits.len());
        let text = match (self.minus, zeros) {
            (true, _) => format!("{sign}{digits}{}", " ".repeat(fill)),
            (_, true) => format!("{sign}{}{digits}", "0".repeat(fill)),
            _ => format!("{}{sign}{digits}", " ".repeat(fill)),
        };
        text.into_bytes()
    }

    fn integer(&self, sign: &str, digits: &str) -> Vec<u8> {
        let Some(p) = self.precision else { return self.pad(sign, digits, self.zero) };
        // A precision of none of a value of none prints nothing.
        let digits = if p == 0 && digits == "0" { "" } else { digits };
        let digits = format!("{}{digits}", "0".repeat(p.saturating_sub(digits.len())));
        self.pad(sign, &digits, false)
    }

    fn float(&self, v: f64, conversion: u8) -> Vec<u8> {
        let upper = conversion.is_ascii_uppercase();
        let sign = if v.is_sign_negative() && !v.is_nan() { "-" } else { self.positive() };
        let a = v.abs();
        let case = |s: String| if upper { s.to_uppercase() } else { s };
        if !v.is_finite() {
            return self.pad(sign, &case(if v.is_nan() { "nan" } else { "inf" }.into()), false);
        }
        let digits = match conversion.to_ascii_lowercase() {
            b'f' => fixed(a, self.precision.unwrap_or(6), self.alternate),
            b'e' => scientific(a, self.precision.unwrap_or(6), self.alternate),
            b'g' => self.shortest(a),
            _ => hexadecimal(a, self.precision),
        };
        self.pad(sign, &case(digits), self.zero)
    }

    /// `%g`: fixed or scientific by the exponent, without trailing zeros.
    fn shortest(&self, a: f64) -> String {
        let p = self.precision.unwrap_or(6).max(1);
        let text = scientific(a, p - 1, false);
        let exponent: i64 = text.split('e').nth(1).and_then(|e| e.parse().ok()).unwrap_or(0);
        let plain = exponent >= -4 && exponent < p as i64;
        let text = if plain { fixed(a, (p as i64 - 1 - exponent) as usize, self.alternate) } else { text };
        if self.alternate {
            return text;
        }
        let (mantissa, tail) = match text.split_once('e') {
            Some((m, e)) => (m.to_owned(), format!("e{e}")),
            None => (text, String::new()),
        };
        let mantissa = match mantissa.contains('.') {
            true => mantissa.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => mantissa,
        };
        mantissa + &tail
    }
}

fn fixed(a: f64, p: usize, point: bool) -> String {
    let dot = if point && p == 0 { "." } else { "" };
    format!("{a:.p$}{dot}")
}

fn scientific(a: f64, p: usize, point: bool) -> String {
    let text = format!("{a:.p$e}");
    let (m, e) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, e) = match e.strip_prefix('-') {
        Some(e) => ('-', e),
        None => ('+', e),
    };
    let dot = if point && p == 0 { "." } else { "" };
    format!("{m}{dot}e{sign}{e:0>2}")
}

fn hexadecimal(a: f64, precision: Option<usize>) -> String {
    let (bits, zero) = (a.to_bits(), a == 0.0);
    let raw = (bits >> 52) as i64;
    let exponent = if zero { 0 } else { raw.max(1) - 1023 };
    let mut m = bits & ((1 << 52) - 1) | if raw == 0 { 0 } else { 1 << 52 };
    let digits = match precision {
        Some(p) if p < 13 => {
            let cut = 4 * (13 - p as u32);
            let rest = m & ((1 << cut) - 1);
            let half = 1 << (cut - 1);
            m >>= cut;
            m += u64::from(rest > half || rest == half && m & 1 == 1);
            let lead = m >> (4 * p as u32);
            let tail = m & ((1 << (4 * p as u32)) - 1);
            (lead, if p == 0 { String::new() } else { format!(".{tail:0p$x}") })
        }
        _ => {
            let tail = format!("{:013x}", m & ((1 << 52) - 1));
            let tail = match precision {
                Some(p) => format!("{tail:0<p$}"),
                None => tail.trim_end_matches('0').to_owned(),
            };
            (m >> 52, if tail.is_empty() { tail } else { format!(".{tail}") })
        }
    };
    format!("0x{}{}p{exponent:+}", digits.0, digits.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments as `vprintf` gets them; strings by their number.
    struct Given(Vec<u8>, Vec<&'static str>);
    impl Source for Given {
        type Error = ();
        fn word(&mut self, offset: u64, bytes: u64) -> Result<u64, ()> {
            let (at, n) = (offset as usize, bytes as usize);
            let mut b = [0; 8];
            b[..n].copy_from_slice(self.0.get(at..at + n).ok_or(())?);
            Ok(u64::from_le_bytes(b))
        }
        fn string(&mut self, address: u64) -> Result<Vec<u8>, ()> {
            Ok(self.1[address as usize - 1].as_bytes().to_vec())
        }
    }
    enum A {
        I(i32),
        L(i64),
        F(f64),
        S(&'static str),
    }
    use A::*;
    fn check(f: &str, args: &[A], want: &str) {
        let mut g = Given(vec![], vec![]);
        for a in args {
            let wide = |g: &mut Given, v: u64| {
                g.0.resize(g.0.len().next_multiple_of(8), 0);
                g.0.extend(v.to_le_bytes());
            };
            match a {
                I(v) => g.0.extend(v.to_le_bytes()),
                L(v) => wide(&mut g, *v as u64),
                F(v) => wide(&mut g, v.to_bits()),
                S(v) => {
                    g.1.push(v);
                    let n = g.1.len() as u64;
                    wide(&mut g, n);
                }
            }
        }
        let got = format(f.as_bytes(), &mut g);
        assert_eq!(got, Ok((want.to_owned(), args.len() as u32)), "{f}");
    }

    /// The expectations are what C's printf writes.
    #[test]
    fn conversions() {
        check("plain 100%% text\n", &[], "plain 100% text\n");
        check(
            "%d|%5d|%-5d|%05d|%+d|% d",
            &[I(42), I(-42), I(42), I(-42), I(42), I(42)],
            "42|  -42|42   |-0042|+42| 42",
        );
        check(
            "%u %x %X %#x %o %#o",
            &[I(-1), I(255), I(255), I(255), I(8), I(8)],
            "4294967295 ff FF 0xff 10 010",
        );
        check(
            "%lld %llu %lx %zu",
            &[L(i64::MIN), L(-1), L(-1), L(7)],
            "-9223372036854775808 18446744073709551615 ffffffffffffffff 7",
        );
        check("%d %lld %d", &[I(1), L(2), I(3)], "1 2 3");
        check("%hd %hhu %hx", &[I(65535 + 3), I(257), I(0x12345)], "2 1 2345");
        check("%.3d|%8.3d|%-8.3d|%.0d", &[I(7), I(-7), I(7), I(0)], "007|    -007|007     |");
        check("%*d|%-*d|%.*f", &[I(6), I(3), I(4), I(5), I(2), F(2.625)], "     3|5   |2.62");
        check(
            "%f %.2f %10.3f %-10.1f| %+.0f %#.0f",
            &[F(1.5), F(2.345), F(-2.5), F(3.25), F(2.5), F(3.0)],
            "1.500000 2.35     -2.500 3.2       | +2 3.",
        );
        check("%e %.3E %.0e", &[F(12345.678), F(0.00012), F(5e100)], "1.234568e+04 1.200E-04 5e+100");
        check(
            "%g %g %g %g %.3g %#g",
            &[F(100000.0), F(1e6), F(0.0001), F(1e-5), F(1234.5), F(1.0)],
            "100000 1e+06 0.0001 1e-05 1.23e+03 1.00000",
        );
        check(
            "%f %F %5.1f %e",
            &[F(f64::INFINITY), F(f64::NEG_INFINITY), F(f64::NAN), F(0.0)],
            "inf -INF   nan 0.000000e+00",
        );
        check("%a %a %.1a", &[F(1.0), F(-0.15625), F(1.9)], "0x1p+0 -0x1.4p-3 0x1.ep+0");
        check(
            "%s|%5s|%-5s|%.2s|%c%c",
            &[S("one"), S("ab"), S("cd"), S("xyz"), I(72), I(105)],
            "one|   ab|cd   |xy|Hi",
        );
        check("%p %08.3f %k", &[L(0x1234), F(4.14159)], "0x1234 0004.142 %k");
        check("%", &[], "%");
    }
}
