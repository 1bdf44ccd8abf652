//! What: small pieces of text that users write: `NAME=FILE`, `NAME=VALUE`, targets.
//! Why here: the command line and the API accept the same forms.
//! Pre: any text.
//! Post: a value, or a sentence that says what was expected.

use std::path::PathBuf;
use std::str::FromStr;

/// `NAME=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if is_name(name) && !path.is_empty() => {
                Ok(Assignment { name: name.to_owned(), path: path.into() })
            }
            _ => Err(format!("`{text}` is not NAME=FILE, e.g. Q=q.npy")),
        }
    }
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolValue {
    /// The symbol.
    pub name: String,
    /// Its value.
    pub value: i64,
}

impl FromStr for SymbolValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)));
        match parsed {
            Some((name, value)) if is_name(name) => Ok(SymbolValue { name: name.to_owned(), value }),
            _ => Err(format!("`{text}` is not NAME=VALUE, e.g. seq=128")),
        }
    }
}

/// Whether a text is a name: a letter or underscore, then letters, digits and underscores.
pub fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a text has the form of a target: `sm_80`, `sm_90a`, `sm_120f`.
pub fn is_target(text: &str) -> bool {
    text.strip_prefix("sm_").is_some_and(|rest| {
        let digits = rest.trim_end_matches(|c: char| c.is_ascii_lowercase());
        (2..=3).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && rest.len() - digits.len() <= 1
    })
}

/// How the launches of steps are put on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Graphs for steps that are run again and again, launches for others.
    #[default]
    Auto,
    /// One launch after the other.
    Launch,
    /// One persistent kernel for the whole step, where that is possible.
    Megakernel,
    /// A step is one graph, in which launches may overlap.
    Graph,
}

impl Mode {
    /// For people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Launch => "launch",
            Mode::Megakernel => "megakernel",
            Mode::Graph => "graph",
        }
    }

    /// The mode that is meant where steps differ in nothing but the values of their symbols and inputs, and how often
    /// they run: `again` and again, or perhaps once.
    pub fn settle(self, again: bool) -> Mode {
        match self {
            Mode::Auto if again => Mode::Graph,
            Mode::Auto => Mode::Launch,
            given => given,
        }
    }

    /// How an executable is run in this mode, once it is settled.
    pub(crate) fn exec(self) -> tilewright_runtime::exec::Mode {
        match self {
            Mode::Graph => tilewright_runtime::exec::Mode::Graph,
            Mode::Auto | Mode::Launch | Mode::Megakernel => tilewright_runtime::exec::Mode::Launch,
        }
    }

    /// The mode that a text names; known modes that do not exist are an error of their own.
    pub fn parse(text: &str) -> Result<Mode, crate::Error> {
        match text {
            "auto" => Ok(Mode::Auto),
            "launch" => Ok(Mode::Launch),
            "graph" => Ok(Mode::Graph),
            "megakernel" => Ok(Mode::Megakernel),
            "all" => Err(crate::Error::Unsupported {
                message: format!("mode `{text}` is not available"),
                help: Some("it is for comparisons: use launch, graph, megakernel or auto".into()),
            }),
            _ => Err(crate::Error::Usage(format!(
                "there is no mode `{text}`: the modes are launch, graph, megakernel and auto"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments() {
        let ok = |t: &str| t.parse::<Assignment>().map(|a| (a.name, a.path));
        assert_eq!(ok("Q=a=b.npy"), Ok(("Q".into(), "a=b.npy".into())));
        for bad in ["", "Q", "Q=", "=q.npy", "1=q.npy", "a b=q"] {
            assert!(ok(bad).is_err(), "{bad}");
        }
        assert_eq!("n=-3".parse::<SymbolValue>().map(|s| s.value), Ok(-3));
        for bad in ["n", "n=", "n=x", "n=99999999999999999999"] {
            assert!(bad.parse::<SymbolValue>().is_err(), "{bad}");
        }
    }

    #[test]
    fn modes() {
        for mode in [Mode::Auto, Mode::Launch, Mode::Graph, Mode::Megakernel] {
            assert_eq!(Mode::parse(mode.name()).expect("a mode"), mode);
            assert_eq!(
                (mode.settle(true) == mode, mode.settle(false) == mode),
                (mode != Mode::Auto, mode != Mode::Auto)
            );
        }
        assert_eq!((Mode::Auto.settle(true), Mode::Auto.settle(false)), (Mode::Graph, Mode::Launch));
        assert_eq!(Mode::parse("all").expect_err("not there").exit_code(), 5);
        for bad in ["", "Graph", "graphs"] {
            assert_eq!(Mode::parse(bad).expect_err("no mode").exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn targets() {
        for good in ["sm_80", "sm_90a", "sm_120", "sm_100f"] {
            assert!(is_target(good), "{good}");
        }
        for bad in ["", "sm_", "sm_8", "sm80", "compute_80", "sm_80ab", "sm_80A", "sm_1200", "SM_80", "sm_a"]
        {
            assert!(!is_target(bad), "{bad}");
        }
    }
}
