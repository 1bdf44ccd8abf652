//! What: the choice of the next token, on the device, as equations like everything else.
//! Why here: a model's decode step ends in logits; whoever generates wants tokens, in every mode, and a persistent kernel
//! goes on with them by itself.
//! Pre: a decode step with logits `[batch, 1, vocabulary]`.
//! Post: the step also leaves `sample.next`, i32 `[batch, 1]`; the vocabulary's size stands for "a logit is not a number".
//!
//! **Greedy.** The largest logit, of equals the one with the lowest id.
//!
//! **Sampled.** Logits are divided by the temperature. Each gets Gumbel noise and the largest wins (Gumbel 1954; for
//! categorical choice Maddison, Tarlow, Minka 2014), so a sample is an arg-max too. The noise is a function of the seed,
//! the sequence and the position alone: modes, batches and runs agree.
//!
//! **Filters.** Top-k and top-p keep what is not below a threshold, the highest at which at least `k` tokens, or a share of at
//! least `p` of those that top-k left, are kept. It is found by comparing all logits with 64 thresholds at once, four
//! times over, each time within the interval between two of the last. So what lies within [`STEP`] of the threshold is
//! kept with it, ties are kept together, and what is more than [`SPAN`] below the best (e^-64 of its share) never is.

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_frontend::hf::PAST;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::tile::TileProgram;
use tilewright_ir::{Buffer, DType};
use tilewright_megakernel::join;
use tilewright_passes::{Options as PassOptions, compile_module};

use crate::Error;

/// How far below the best a token may be, in units of the temperature.
pub const SPAN: f64 = 64.0;
/// The distance of the last thresholds.
pub const STEP: f64 = SPAN / (BINS * BINS * BINS * BINS) as f64;
const BINS: u64 = 64;
const PASSES: u32 = 4;
/// The counter of a random number is `(sequence * FIELD + position) * FIELD + token`.
const FIELD: u64 = 1 << 20;

/// Where a model expects the tokens of a step, and where it leaves its logits.
pub(crate) const IDS: &str = "ids";
const LOGITS: &str = "logits";
/// The region of what chooses tokens, and its result.
const REGION: &str = "sample";
const NEXT: &str = "next";

/// How tokens are chosen: what is compiled. Which temperature, how many, which share and which seed are said in each run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Always the most likely.
    #[default]
    Greedy,
    /// By chance.
    Sampled {
        /// Among the most likely few.
        top_k: bool,
        /// Among those that make up a share.
        top_p: bool,
    },
}

/// How tokens are chosen by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; above 0.
    pub temperature: f32,
    /// Among so many, if that is said.
    pub top_k: Option<u32>,
    /// Among those that make up this share, if that is said: above 0 and at most 1.
    pub top_p: Option<f32>,
    /// Where chance comes from: below 2^53.
    pub seed: u64,
}

impl Sampling {
    /// That all numbers are within their ranges.
    pub fn check(&self) -> Result<(), Error> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(Error::Usage(format!(
                "a temperature of {} chooses nothing: it must be above 0 (0 on the command line is the most likely token)",
                self.temperature
            )));
        }
        if self.top_k == Some(0) {
            return Err(Error::Usage("top-k of 0 leaves no token: it must be at least 1".into()));
        }
        if let Some(p) = self.top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(Error::Usage(format!("top-p of {p} is no share: it must be above 0 and at most 1")));
        }
        if self.seed >= 1 << 53 {
            return Err(Error::Usage(format!("the seed {} is too large: seeds are below 2^53", self.seed)));
        }
        Ok(())
    }

    /// What is compiled for it.
    pub fn choice(&self) -> Choice {
        Choice::Sampled { top_k: self.top_k.is_some(), top_p: self.top_p.is_some() }
    }

    /// The inputs of a step that was compiled for it: names and bytes.
    pub(crate) fn inputs(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = vec![
            ("temperature", self.temperature.to_le_bytes().to_vec()),
            // Below 2^53, as was checked.
            ("seed", (self.seed as i64).to_le_bytes().to_vec()),
        ];
        all.extend(
            self.top_k.map(|k| ("top_k", i32::try_from(k).unwrap_or(i32::MAX).to_le_bytes().to_vec())),
        );
        all.extend(self.top_p.map(|p| ("top_p", p.to_le_bytes().to_vec())));
        all.into_iter().map(|(name, bytes)| (full(name), bytes)).collect()
    }
}

/// The name of a buffer of the choice.
fn full(name: &str) -> String {
    format!("{REGION}.{name}")
}

/// Equations with one result.
struct Stage {
    text: String,
    result: String,
}

/// The stages of a choice. They are steps of their own because each needs all of what the one before says of a row.
struct Stages {
    /// The axes of rows, as declarations.
    rows: String,
    /// The logits, divided by the temperature, as declarations.
    scaled: String,
    /// Thresholds so far.
    floors: Vec<String>,
    all: Vec<Stage>,
}

impl Stages {
    fn add(&mut self, result: &str, text: String) {
        self.all.push(Stage { text, result: result.to_owned() });
    }

    /// Declarations of the thresholds so far.
    fn known(&self) -> String {
        self.floors.iter().map(|f| format!("{f}: f32[b,i]; ")).collect()
    }

    /// That a token is not below the thresholds so far; ends in `and`.
    fn kept(&self) -> String {
        self.floors.iter().map(|f| format!("z[b,i,v] >= {f}[b,i] and ")).collect()
    }

    /// The highest threshold such that the weights of all tokens that are not below it add up to what is wanted, or the
    /// lowest.
    fn search(&mut self, what: &str, dtype: DType, weight: &str, wanted: &str, inputs: &str) {
        let (rows, scaled) = (self.rows.clone(), self.scaled.clone());
        let (bounded, kept) = (self.known(), self.kept());
        let mut low = format!("peak[b,i] - {SPAN}");
        let mut before = String::new();
        for pass in 0..PASSES {
            // A power of two, so that a threshold is the same number wherever it is computed.
            let width = SPAN / (BINS.pow(pass + 1)) as f64;
            let (have, next) = (format!("{what}_have{pass}"), format!("{what}_low{pass}"));
            self.add(
                &have,
                format!(
                    "{scaled}; peak: f32[b,i]; {bounded}{before}axis q={BINS}
                     {have}: {dtype}[b,i,q] = sum[v](where({kept}z[b,i,v] >= {low} + q * {width:?}, {weight}, 0))"
                ),
            );
            self.add(
                &next,
                format!(
                    "{have}: {dtype}[{rows}, q={BINS}]; peak: f32[b,i]; {inputs}{before}
                     {next}: f32[b,i] = {low} + {width:?} * max[q](where({have}[b,i,q] >= {wanted}, q, 0))"
                ),
            );
            low = format!("{next}[b,i]");
            before = format!("{next}: f32[b,i]; ");
        }
        self.floors.push(format!("{what}_low{}", PASSES - 1));
    }
}

/// The stages of a choice among `v` logits of `b` sequences, where symbols with these declarations say the position.
fn stages(choice: Choice, dtype: DType, b: u64, v: u64, clock: &Clock) -> Vec<Stage> {
    let rows = format!("b={b}, i=1");
    let logits = format!("{LOGITS}: {dtype}[{rows}, v={v}]");
    let Choice::Sampled { top_k, top_p } = choice else {
        let text = format!(
            "{logits}; odd[b,i] = sum[v](where({LOGITS}[b,i,v] == {LOGITS}[b,i,v], 0, 1))
             {NEXT}: i32[b,i] = where(odd[b,i] > 0, {v}, argmax[v]({LOGITS}[b,i,v]))"
        );
        return vec![Stage { text, result: NEXT.to_owned() }];
    };
    let scaled = format!("{logits}; temperature: f32[]; z[b,i,v] = f32({LOGITS}[b,i,v]) / temperature[]");
    let mut out = Stages { rows, scaled: scaled.clone(), floors: Vec::new(), all: Vec::new() };
    if top_k || top_p {
        out.add("peak", format!("{scaled}; peak: f32[b,i] = max[v](z[b,i,v])"));
    }
    if top_k {
        out.search("k", DType::I64, "1", "top_k[]", "top_k: i32[]; ");
    }
    if top_p {
        let weight = "exp(z[b,i,v] - peak[b,i])";
        let (known, kept) = (out.known(), out.kept());
        out.add(
            "mass",
            format!(
                "{scaled}; peak: f32[b,i]; {known}
                 mass: f32[b,i] = sum[v](where({kept}z[b,i,v] >= peak[b,i] - {SPAN}, {weight}, 0))"
            ),
        );
        out.search("p", DType::F32, weight, "top_p[] * mass[b,i]", "top_p: f32[]; mass: f32[b,i]; ");
    }
    let (known, kept) = (out.known(), out.kept());
    let Clock { declared, position } = clock;
    // An exponential variate by its series where the logarithm would lose it.
    out.add(
        NEXT,
        format!(
            "{scaled}; {known}seed: i64[]; {declared}
             u[b,i,v] = random(seed[], (b * {FIELD} + {position}) * {FIELD} + v)
             e[b,i,v] = where(u[b,i,v] < 0.00390625,
                 u[b,i,v] * (1 + u[b,i,v] * (0.5 + u[b,i,v] * (1 / 3 + u[b,i,v] * 0.25))), -log(1 - u[b,i,v]))
             odd[b,i] = sum[v](where(z[b,i,v] == z[b,i,v], 0, 1))
             {NEXT}: i32[b,i] = where(odd[b,i] > 0, {v},
                 argmax[v](where({kept}z[b,i,v] > -inf, z[b,i,v] - log(e[b,i,v]), -inf)))"
        ),
    );
    out.all
}

/// How equations tell the position of the token that is chosen.
struct Clock {
    declared: String,
    position: String,
}

impl Clock {
    /// From the inputs or the symbols of a decode step: how many tokens are in the state before and after it. All symbols
    /// are mentioned, and in their order, so that the equations have the symbols of the step; or none.
    fn of(step: &Step) -> Clock {
        if step.buffers.values().any(|d| d.name == PAST && d.kind == BufferKind::Input) {
            return Clock { declared: format!("{PAST}: i32[b]; "), position: format!("({PAST}[b] + 1)") };
        }
        let mut declared = String::new();
        let mut terms = Vec::new();
        for (n, data) in step.symbols.values().enumerate() {
            let name = &data.name;
            declared += &format!("axis at{n}={name}; {name} in {}..{}; ", data.min, data.max);
            terms.push(format!("size(at{n}){}", if name == PAST { " + 1" } else { "" }));
        }
        let position = match terms.split_first() {
            None => "0".to_owned(),
            Some((first, rest)) => rest.iter().fold(first.clone(), |all, t| format!("max({all}, {t})")),
        };
        Clock { declared, position }
    }
}

/// A decode step with a choice behind it, its programs and the buffer of what is chosen.
pub(crate) fn chosen(
    step: &Step,
    choice: Choice,
    passes: &PassOptions,
) -> Result<(Step, Vec<TileProgram>, Buffer), Error> {
    let logits = step.buffers.values().find(|d| d.name == LOGITS);
    let logits = logits.ok_or_else(|| Error::input("only a language model chooses tokens"))?;
    let dims: Option<Vec<u64>> = logits.dims.iter().map(|d| d.as_const()).collect();
    let Some([b, 1, v]) = dims.as_deref() else {
        return Err(Error::Bug("the logits of a decode step are not those of one token each".into()));
    };
    let longest = step.symbols.values().map(|s| s.max).max().unwrap_or(0);
    if choice != Choice::Greedy && (*v > FIELD || longest >= FIELD || *b >= 1 << 13) {
        return Err(Error::Unsupported {
            message: format!(
                "tokens are chosen by chance among at most {FIELD}, at positions below {FIELD}, for at most 8191 sequences"
            ),
            help: None,
        });
    }
    let mut joined = step.clone();
    let mut programs = Vec::new();
    for (nth, Stage { text, result }) in
        stages(choice, logits.dtype, *b, *v, &Clock::of(step)).into_iter().enumerate()
    {
        let parsed = parse_equations(&text, &Given::default(), std::slice::from_ref(&result))
            .map_err(|d| Error::text("the choice of tokens", &text, d))?;
        let mut part = compile_module(&parsed, passes)?;
        let own = parsed.functions.values().next().map_or("", |f| f.name.as_str());
        let rename = |name: &str| match name.strip_prefix(own) {
            Some(rest) => format!("{REGION}{nth}{rest}"),
            None => full(name),
        };
        for program in &mut part.programs {
            program.name = rename(&program.name);
        }
        joined = join(
            &joined,
            &part.step,
            &|name| if [LOGITS, PAST].contains(&name) { name.to_owned() } else { full(name) },
            &rename,
        )?;
        programs.extend(part.programs);
    }
    let wanted = full(NEXT);
    let next =
        joined.buffers.iter().find(|(_, d)| d.name == wanted && d.kind == BufferKind::Output).map(|(b, _)| b);
    let next = next.ok_or_else(|| Error::Bug("the chosen tokens went away".into()))?;
    Ok((joined, programs, next))
}

/// The name of the output that holds what was chosen.
pub(crate) fn next_name() -> String {
    full(NEXT)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tilewright_ir::eval::{Evaluator, F64, Tensor, bind_symbols};
    use tilewright_ir::random::uniform;
    use tilewright_ir::step::Step;
    use tilewright_ir::{SymData, splitmix};

    use super::*;

    /// What the stages choose for rows of logits at a position, by the evaluator.
    fn choose(sampling: Option<Sampling>, rows: &[Vec<f64>], past: u64) -> Vec<usize> {
        let (b, v) = (rows.len() as u64, rows[0].len() as u64);
        let mut step = Step::default();
        for (name, min, max) in [("past", 0, 99), ("kv", 1, 100)] {
            step.symbols.push(SymData { name: name.into(), min, max });
        }
        let choice = sampling.map_or(Choice::Greedy, |s| s.choice());
        let scalar = |x: f64| Tensor::new(&[], vec![x]).expect("one element");
        let mut known: HashMap<String, Tensor<f64>> = HashMap::new();
        let all: Vec<f64> = rows.iter().flatten().copied().collect();
        known.insert(LOGITS.into(), Tensor::new(&[rows.len(), 1, rows[0].len()], all).expect("rows"));
        if let Some(s) = sampling {
            known.insert("temperature".into(), scalar(f64::from(s.temperature)));
            known.insert("seed".into(), scalar(s.seed as f64));
            known.insert("top_k".into(), scalar(f64::from(s.top_k.unwrap_or(0))));
            known.insert("top_p".into(), scalar(f64::from(s.top_p.unwrap_or(0.0))));
        }
        for Stage { text, result } in stages(choice, DType::F32, b, v, &Clock::of(&step)) {
            let module = parse_equations(&text, &Given::default(), std::slice::from_ref(&result))
                .unwrap_or_else(|d| panic!("{}", d.render("stage", &text)));
            let symbols: Vec<(&str, u64)> = module
                .symbols
                .values()
                .map(|s| (s.name.as_str(), if s.name == "kv" { past + 1 } else { past }))
                .collect();
            let symbols = bind_symbols(&module.symbols, &symbols).expect("symbols");
            let f = module.functions.values().next().expect("a function");
            let inputs: Vec<(&str, Tensor<f64>)> = f
                .params()
                .map(|p| f.values[p].name.as_str())
                .map(|name| (name, known[name].clone()))
                .collect();
            let mut evaluator = Evaluator::new(F64, &module, |_: &str| Err("no weights".to_owned()));
            let mut out = evaluator.run(&symbols, &inputs).expect("it evaluates");
            known.insert(result, out.remove(0));
        }
        known[NEXT].data.iter().map(|&x| x as usize).collect()
    }

    /// Shares of tokens that filters leave, from sorted rows.
    fn shares(row: &[f64], s: &Sampling) -> Vec<f64> {
        let z: Vec<f64> = row.iter().map(|x| x / f64::from(s.temperature)).collect();
        let mut order: Vec<usize> = (0..z.len()).collect();
        order.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
        let mut kept: Vec<usize> = order;
        if let Some(k) = s.top_k {
            let least = z[kept[(k as usize).min(kept.len()) - 1]];
            kept.retain(|&t| z[t] >= least);
        }
        let best = z[kept[0]];
        let weight = |t: usize| (z[t] - best).exp();
        if let Some(p) = s.top_p {
            let all: f64 = kept.iter().map(|&t| weight(t)).sum();
            let mut sum = 0.0;
            let enough = kept.iter().position(|&t| {
                sum += weight(t);
                sum >= f64::from(p) * all
            });
            kept.truncate(enough.map_or(kept.len(), |n| n + 1));
        }
        let all: f64 = kept.iter().map(|&t| weight(t)).sum();
        (0..row.len()).map(|t| if kept.contains(&t) { weight(t) / all } else { 0.0 }).collect()
    }

    fn logits(seed: i64, v: i64, spread: f64) -> Vec<f64> {
        (0..v).map(|i| f64::from((spread * f64::from(uniform(seed, i))) as f32)).collect()
    }

    #[test]
    fn the_most_likely_and_the_first_of_equals() {
        let rows = vec![vec![1.0, 3.0, 3.0, 2.0], vec![-5.0, -7.0, -5.5, -6.0]];
        assert_eq!(choose(None, &rows, 0), [1, 0]);
    }

    #[test]
    fn a_logit_that_is_no_number_is_noticed() {
        for sampling in [None, Some(Sampling { temperature: 1.0, top_k: Some(2), top_p: Some(0.9), seed: 3 })]
        {
            let rows = vec![vec![1.0, 3.0, f64::NAN, 2.0], vec![f64::NAN; 4], vec![1.0, 2.0, 9.0, 3.0]];
            let chosen = choose(sampling, &rows, 2);
            assert_eq!(chosen[..2], [4, 4], "{sampling:?}");
            assert!(chosen[2] < 4, "{sampling:?}");
        }
    }

    #[test]
    fn tokens_come_as_often_as_their_shares() {
        let seed = splitmix::fresh_seed() % (1 << 40);
        let n = 4000;
        for (temperature, top_k, top_p) in
            [(1.0, None, None), (0.5, Some(5), None), (1.3, None, Some(0.7)), (2.0, Some(9), Some(0.9))]
        {
            let sampling = Sampling { temperature, top_k, top_p, seed };
            let row = logits(seed as i64, 23, 4.0);
            let expected = shares(&row, &sampling);
            let chosen = choose(Some(sampling), &vec![row; n], 7);
            let mut chi = 0.0;
            let mut kinds = 0;
            for (t, &share) in expected.iter().enumerate() {
                let count = chosen.iter().filter(|&&c| c == t).count() as f64;
                let mean = share * n as f64;
                if share == 0.0 {
                    assert_eq!(count, 0.0, "token {t} was filtered");
                } else {
                    chi += (count - mean).powi(2) / mean;
                    kinds += 1;
                }
            }
            // The mean of chi squared is the number of kinds less one, its variance twice that; six deviations.
            let free = f64::from(kinds - 1);
            assert!(
                chi < free + 6.0 * (2.0 * free).sqrt() + 10.0,
                "seed {seed}, {sampling:?}: {chi} for {kinds} tokens"
            );
        }
    }

    #[test]
    fn filters_keep_what_sorting_keeps() {
        for seed in 0..20 {
            let row = logits(seed, 300, 12.0);
            for (top_k, top_p) in [
                (Some(1), None),
                (Some(17), None),
                (Some(1000), None),
                (None, Some(0.05)),
                (Some(40), Some(0.5)),
            ] {
                let sampling = Sampling { temperature: 0.8, top_k, top_p, seed: seed as u64 };
                let expected = shares(&row, &sampling);
                for t in choose(Some(sampling), &vec![row.clone(); 50], 3) {
                    assert!(expected[t] > 0.0, "{sampling:?} chose {t}, which was filtered");
                }
            }
        }
    }

    #[test]
    fn chance_is_that_of_the_seed_and_the_position() {
        let rows = vec![logits(5, 50, 1.0); 30];
        let with = |seed, past| {
            choose(Some(Sampling { temperature: 1.0, top_k: None, top_p: None, seed }), &rows, past)
        };
        assert_eq!(with(1, 4), with(1, 4));
        assert_ne!(with(1, 4), with(1, 5));
        assert_ne!(with(1, 4), with(2, 4));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let good = Sampling { temperature: 1.0, top_k: Some(1), top_p: Some(1.0), seed: 0 };
        good.check().expect("good");
        for bad in [
            Sampling { temperature: 0.0, ..good },
            Sampling { temperature: f32::NAN, ..good },
            Sampling { temperature: -1.0, ..good },
            Sampling { top_k: Some(0), ..good },
            Sampling { top_p: Some(0.0), ..good },
            Sampling { top_p: Some(1.5), ..good },
            Sampling { top_p: Some(f32::NAN), ..good },
            Sampling { seed: 1 << 53, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
