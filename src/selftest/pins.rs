//! What: what a GPU gave for the conformance kernels, written down.
//! Why here: most machines have no GPU; with its results in a file, each of them can be held against it.
//! Pre: results of a GPU. Nothing else may be pinned: the point of a pin is that it does not come from us.
//! Post: text that reads back. A pin of a kernel that has changed since is said to be stale, and does not count.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::conformance::{Case, cases};
use crate::Error;

/// The pins that come with the program: name of the file and text.
pub const COMMITTED: &[(&str, &str)] = &[];

/// The form of the file.
const FORMAT: u32 = 1;

/// What one GPU gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    format: u32,
    /// The name of the GPU.
    pub gpu: String,
    /// Its architecture.
    pub arch: String,
    /// By kernel.
    pub kernels: BTreeMap<String, Pin>,
}

/// What one kernel gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The version of the kernel and its inputs, in hexadecimal.
    version: String,
    /// The words, eight hexadecimal digits each.
    words: String,
}

/// A pin against a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// The words.
    Words(Vec<u32>),
    /// The kernel or its inputs have changed since.
    Stale,
    /// There is none.
    Missing,
}

impl Pins {
    /// Pins of a GPU.
    pub fn new(gpu: &str, arch: &str, results: &[(Case, Vec<u32>)]) -> Pins {
        let pin = |(case, words): &(Case, Vec<u32>)| {
            let words = words.iter().map(|w| format!("{w:08x}")).collect();
            (case.name().to_owned(), Pin { version: format!("{:016x}", case.version()), words })
        };
        Pins {
            format: FORMAT,
            gpu: gpu.into(),
            arch: arch.into(),
            kernels: results.iter().map(pin).collect(),
        }
    }

    /// The pin of a kernel.
    pub fn of(&self, case: Case) -> Pinned {
        let Some(pin) = self.kernels.get(case.name()) else { return Pinned::Missing };
        if pin.version != format!("{:016x}", case.version()) {
            return Pinned::Stale;
        }
        // `parse` has checked that they are numbers.
        let word = |c: &[u8]| std::str::from_utf8(c).ok().and_then(|t| u32::from_str_radix(t, 16).ok());
        Pinned::Words(pin.words.as_bytes().chunks(8).filter_map(word).collect())
    }

    /// The file.
    pub fn text(&self) -> Result<String, Error> {
        Ok(serde_json::to_string_pretty(self).map_err(|e| Error::Bug(e.to_string()))? + "\n")
    }

    /// Reads a file's text.
    pub fn parse(name: &str, text: &str) -> Result<Pins, Error> {
        let wrong = |e: String| Error::input(format!("`{name}` is no file of pins: {e}"));
        let pins: Pins = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if pins.format != FORMAT {
            return Err(wrong(format!("its format is {}, and {FORMAT} is known", pins.format)));
        }
        for (kernel, pin) in &pins.kernels {
            let digits = |t: &str| t.bytes().all(|b| b.is_ascii_hexdigit());
            if pin.words.len() % 8 != 0 || !digits(&pin.words) || !digits(&pin.version) {
                return Err(wrong(format!("kernel `{kernel}`: words are eight hexadecimal digits each")));
            }
        }
        Ok(pins)
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Pins, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Pins::parse(&path.display().to_string(), &text)
    }

    /// All that come with the program.
    pub fn committed() -> Result<Vec<Pins>, Error> {
        COMMITTED.iter().map(|(name, text)| Pins::parse(name, text)).collect()
    }

    /// Kernels that are pinned but do not exist any more.
    pub fn unknown(&self) -> Vec<&str> {
        let known: Vec<&str> = cases().map(Case::name).collect();
        self.kernels.keys().map(String::as_str).filter(|k| !known.contains(k)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins that come with the program must be readable and up to date.
    #[test]
    fn committed_pins_are_usable() {
        for pins in Pins::committed().unwrap() {
            assert!(!pins.gpu.is_empty() && !pins.kernels.is_empty());
            assert_eq!(pins.unknown(), Vec::<&str>::new());
            assert!(cases().all(|c| pins.of(c) != Pinned::Stale), "{}: write them anew", pins.gpu);
        }
    }

    #[test]
    fn texts_read_back_and_wrong_ones_do_not() {
        let case = cases().next().unwrap();
        let pins = Pins::new("GPU", "sm_90", &[(case, vec![0, 0xdead_beef, u32::MAX])]);
        let text = pins.text().unwrap();
        let back = Pins::parse("x", &text).unwrap();
        assert_eq!(back, pins);
        assert_eq!(back.of(case), Pinned::Words(vec![0, 0xdead_beef, u32::MAX]));
        assert_eq!(back.of(cases().nth(1).unwrap()), Pinned::Missing);
        let version = format!("{:016x}", case.version());
        let stale = Pins::parse("x", &text.replace(&version, "0000000000000000")).unwrap();
        assert_eq!(stale.of(case), Pinned::Stale);
        for bad in [
            text.replace("\"format\": 1", "\"format\": 2"),
            text.replace("deadbeef", "deadbeeg"),
            text.replace("deadbeef", "deadbee"),
            text.replace("\"gpu\"", "\"cpu\""),
            text[..text.len() / 2].to_owned(),
            String::new(),
        ] {
            assert!(Pins::parse("x", &bad).is_err(), "{bad}");
        }
    }
}
