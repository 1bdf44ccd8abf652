//! What: the cases of the benchmarks, made from the tables in `benches/suites.json`.
//! Why here: shapes are data that other programs read too, so that everybody measures the same.
//! Pre: the table, which is part of the program.
//! Post: cases with all names replaced by numbers, in the order of the table; their names are different.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Error;

const TABLE: &str = include_str!("../../benches/suites.json");

/// How much of the table is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every size.
    Full,
    /// The essentials.
    Quick,
    /// Sizes for the emulator.
    Small,
}

/// The values of the names of a size.
pub type Size = BTreeMap<String, Value>;

/// A factor of a product: a number or the name of one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Factor {
    Number(u64),
    Name(String),
}

/// What an integer input holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Integers {
    below: String,
    distinct: bool,
}

/// Equations with names in braces, and their sizes.
#[derive(Clone, Debug, Deserialize)]
struct Family {
    family: String,
    name: String,
    equations: String,
    flops: Vec<Vec<Factor>>,
    #[serde(default)]
    bytes: Vec<Vec<Factor>>,
    #[serde(default)]
    integers: BTreeMap<String, Integers>,
    #[serde(default)]
    sample: BTreeMap<String, u64>,
    #[serde(default)]
    product: Option<[String; 3]>,
    sizes: Vec<Vec<Size>>,
    quick: Vec<Size>,
    small: Vec<Size>,
}

/// Batches, contexts and numbers of new tokens.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StepSizes {
    /// Sequences at once.
    #[serde(default)]
    pub batch: Vec<u64>,
    /// Tokens in the state before the step.
    #[serde(default)]
    pub context: Vec<u64>,
    /// Tokens of the step.
    #[serde(default)]
    pub new: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct QuickSteps {
    models: Vec<String>,
    batch: Vec<u64>,
    context: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct SmallSteps {
    models: Vec<String>,
    config: serde_json::Map<String, Value>,
    decode: StepSizes,
    verify: StepSizes,
    prefill: StepSizes,
}

#[derive(Clone, Debug, Deserialize)]
struct Steps {
    models: Vec<String>,
    decode: StepSizes,
    verify: StepSizes,
    prefill: StepSizes,
    quick: QuickSteps,
    small: SmallSteps,
}

#[derive(Clone, Debug, Deserialize)]
struct Compile {
    models: Vec<String>,
    quick: Vec<String>,
    small: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Table {
    kernels: Vec<Family>,
    steps: Steps,
    compile: Compile,
}

/// All cases.
#[derive(Clone, Debug)]
pub struct Suites(Table);

/// Equations with numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelCase {
    /// The name.
    pub name: String,
    /// The family.
    pub family: String,
    /// The values of its names.
    pub size: Size,
    /// The equations.
    pub equations: String,
    /// The equations of the part that is compared with float64, where that is not all.
    pub sample: Option<String>,
    /// Operations, counted from the equations as they are written.
    pub flops: u64,
    /// Bytes that must move, where that is not the size of all inputs and outputs.
    pub bytes: Option<u64>,
    /// The extents m, n and k, where the case is `Y[m,n] = sum[k](X[m,k] * W[n,k])` and nothing else.
    pub product: Option<[u32; 3]>,
    /// For integer inputs: below what their elements are, and whether they are different.
    pub integers: BTreeMap<String, (u64, bool)>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// One token per sequence.
    Decode,
    /// A few tokens after a context.
    Verify,
    /// A prompt.
    Prefill,
}

/// One step of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCase {
    /// The name.
    pub name: String,
    /// The model: a folder of `tests/models`.
    pub model: String,
    /// What of the configuration is replaced.
    pub replaced: serde_json::Map<String, Value>,
    /// What it does.
    pub kind: StepKind,
    /// Sequences at once.
    pub batch: u64,
    /// Tokens in the state before the step.
    pub context: u64,
    /// Tokens of the step.
    pub new: u64,
}

impl Suites {
    /// The table of the program.
    pub fn load() -> Result<Suites, Error> {
        let table =
            serde_json::from_str(TABLE).map_err(|e| Error::Bug(format!("the table of benchmarks: {e}")))?;
        Ok(Suites(table))
    }

    /// The kernels.
    pub fn kernels(&self, extent: Extent) -> Result<Vec<KernelCase>, Error> {
        let mut cases = Vec::new();
        for family in &self.0.kernels {
            let sizes = match extent {
                Extent::Full => combinations(&family.sizes),
                Extent::Quick => family.quick.clone(),
                Extent::Small => family.small.clone(),
            };
            for size in sizes {
                cases.push(family.case(size)?);
            }
        }
        Ok(cases)
    }

    /// The steps.
    pub fn steps(&self, extent: Extent) -> Vec<StepCase> {
        let s = &self.0.steps;
        let quick = |new: &[u64]| StepSizes {
            batch: s.quick.batch.clone(),
            context: s.quick.context.clone(),
            new: new.to_vec(),
        };
        let (models, replaced, kinds) = match extent {
            Extent::Full => (&s.models, serde_json::Map::new(), [&s.decode, &s.verify, &s.prefill]),
            Extent::Quick => (
                &s.quick.models,
                serde_json::Map::new(),
                [&quick(&[]), &Default::default(), &Default::default()],
            ),
            Extent::Small => (
                &s.small.models,
                s.small.config.clone(),
                [&s.small.decode, &s.small.verify, &s.small.prefill],
            ),
        };
        let mut cases = Vec::new();
        for model in models {
            for (kind, sizes) in
                [StepKind::Decode, StepKind::Verify, StepKind::Prefill].into_iter().zip(kinds)
            {
                cases.extend(kind.cases(model, &replaced, sizes));
            }
        }
        cases
    }

    /// The models whose compilation is timed.
    pub fn compile(&self, extent: Extent) -> &[String] {
        match extent {
            Extent::Full => &self.0.compile.models,
            Extent::Quick => &self.0.compile.quick,
            Extent::Small => &self.0.compile.small,
        }
    }
}

impl StepKind {
    /// For people and JSON.
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Decode => "decode",
            StepKind::Verify => "verify",
            StepKind::Prefill => "prefill",
        }
    }

    fn cases(
        self,
        model: &str,
        replaced: &serde_json::Map<String, Value>,
        sizes: &StepSizes,
    ) -> Vec<StepCase> {
        let small = if replaced.is_empty() { "" } else { " small" };
        let case = |name: String, batch, context, new| StepCase {
            name: format!("{model}{small} {} {name}", self.name()),
            model: model.to_owned(),
            replaced: replaced.clone(),
            kind: self,
            batch,
            context,
            new,
        };
        match self {
            StepKind::Decode => {
                let all = sizes.batch.iter().flat_map(|&b| sizes.context.iter().map(move |&c| (b, c)));
                all.map(|(b, c)| case(format!("b{b} c{c}"), b, c, 1)).collect()
            }
            StepKind::Verify => {
                let all = sizes.new.iter().flat_map(|&n| sizes.context.iter().map(move |&c| (n, c)));
                all.map(|(n, c)| case(format!("k{n} c{c}"), 1, c, n)).collect()
            }
            StepKind::Prefill => sizes.new.iter().map(|&n| case(format!("n{n}"), 1, 0, n)).collect(),
        }
    }
}

/// One object from each list, in all ways.
fn combinations(lists: &[Vec<Size>]) -> Vec<Size> {
    lists.iter().fold(vec![Size::new()], |all, list| {
        let extend = |size: &Size| {
            let with = |more: &Size| size.iter().chain(more).map(|(k, v)| (k.clone(), v.clone())).collect();
            list.iter().map(with).collect::<Vec<Size>>()
        };
        all.iter().flat_map(extend).collect()
    })
}

impl Family {
    fn case(&self, size: Size) -> Result<KernelCase, Error> {
        let value = |name: &str| {
            let found = size.get(name).and_then(Value::as_u64);
            found.ok_or_else(|| Error::Bug(format!("family `{}` has no number `{name}`", self.family)))
        };
        let sum = |products: &[Vec<Factor>]| -> Result<u64, Error> {
            let product = |factors: &Vec<Factor>| {
                factors.iter().try_fold(1u64, |n, f| match f {
                    Factor::Number(m) => Ok(n.saturating_mul(*m)),
                    Factor::Name(name) => Ok(n.saturating_mul(value(name)?)),
                })
            };
            products.iter().map(product).sum()
        };
        // The sampled part is the last one of each extent, where edges are.
        let mut part = size.clone();
        let mut whole = size.clone();
        for (name, &wanted) in &self.sample {
            let full = value(name)?;
            let some = full.min(wanted);
            part.insert(name.clone(), some.into());
            part.insert(format!("{name}0"), (full - some).into());
            whole.insert(format!("{name}0"), 0.into());
        }
        let equations = self.fill(&self.equations, &whole)?;
        let sample = self.fill(&self.equations, &part)?;
        let flops = sum(&self.flops)?;
        let mut integers = BTreeMap::new();
        for (name, i) in &self.integers {
            integers.insert(name.clone(), (value(&i.below)?, i.distinct));
        }
        Ok(KernelCase {
            name: self.fill(&self.name, &size)?.trim().to_owned(),
            family: self.family.clone(),
            sample: (sample != equations && flops > WHOLE).then_some(sample),
            equations,
            flops,
            bytes: if self.bytes.is_empty() { None } else { Some(sum(&self.bytes)?) },
            product: self.product.as_ref().map(|names| extents(names, &value)).transpose()?,
            integers,
            size,
        })
    }

    /// A text with all names in braces replaced.
    fn fill(&self, text: &str, size: &Size) -> Result<String, Error> {
        let mut filled = text.to_owned();
        for (name, value) in size {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            filled = filled.replace(&format!("{{{name}}}"), &shown);
        }
        match filled.find('{') {
            None => Ok(filled),
            Some(at) => {
                Err(Error::Bug(format!("family `{}`: `{}` has no value", self.family, &filled[at..])))
            }
        }
    }
}

/// The values of three names.
fn extents(names: &[String; 3], value: &impl Fn(&str) -> Result<u64, Error>) -> Result<[u32; 3], Error> {
    let mut all = [0; 3];
    for (extent, name) in all.iter_mut().zip(names) {
        *extent = u32::try_from(value(name)?)
            .map_err(|_| Error::Bug(format!("extent `{name}` does not fit 32 bits")))?;
    }
    Ok(all)
}

/// Cases of no more operations than this are compared with float64 as a whole.
const WHOLE: u64 = 1 << 28;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_the_shapes_of_the_plan() {
        let suites = Suites::load().unwrap();
        let full = suites.kernels(Extent::Full).unwrap();
        let of = |family: &str| full.iter().filter(|c| c.family == family).count();
        assert_eq!(of("linear"), 10 * 11);
        assert_eq!(of("attention causal") + of("attention full"), 24);
        assert_eq!((of("attention decode"), of("attention paged")), (12, 24));
        assert_eq!((of("norm"), of("swiglu"), of("softmax")), (8, 8, 8));
        assert_eq!(suites.steps(Extent::Full).len(), 5 * (6 * 4 + 3 + 4));
        for extent in [Extent::Full, Extent::Quick, Extent::Small] {
            let mut names: Vec<String> =
                suites.kernels(extent).unwrap().into_iter().map(|c| c.name).collect();
            names.extend(suites.steps(extent).into_iter().map(|c| c.name));
            let different: BTreeSet<&String> = names.iter().collect();
            assert_eq!(different.len(), names.len(), "{names:?}");
            assert!(names.iter().all(|n| !n.contains('{')));
        }
    }

    #[test]
    fn names_become_numbers() {
        let suites = Suites::load().unwrap();
        let full = suites.kernels(Extent::Full).unwrap();
        let case = full.iter().find(|c| c.name == "linear m8 n6144 k4096").unwrap();
        assert!(case.equations.contains("[m=8, k=4096]"), "{}", case.equations);
        assert_eq!(case.flops, 2 * 8 * 6144 * 4096);
        assert!(case.sample.as_ref().unwrap().contains("[n=64, k]"));
        assert_eq!(case.product, Some([8, 6144, 4096]));
        let causal = full.iter().find(|c| c.name == "attention causal b1 s16384 d128").unwrap();
        assert!(causal.equations.contains("j <= i + 0,"));
        assert!(causal.sample.as_ref().unwrap().contains("j <= i + 16382,"));
        let moe = full.iter().find(|c| c.name == "moe t8").unwrap();
        assert_eq!(moe.integers["ids"], (128, true));
        assert_eq!(moe.bytes, Some(2 * 3 * 64 * 768 * 2048 + 4 * 8 * 2048));
    }
}
