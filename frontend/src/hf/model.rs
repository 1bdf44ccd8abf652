//! A [`Config`] to a module for one phase.
//!
//! Why here: every family becomes the same few equations; optional parts are equations that are there or not.
//!
//! Layouts: weights are declared with split axes (a projection to heads is `[g, r, z, p, c]`), which is the same order
//! of elements as in the files, so nothing is ever transposed or viewed. Query heads are pairs `(g, r)` of a key head
//! and a member of its group. Heads that are rotated have two halves `y` of `p` positions; the rotation is a
//! contraction over the halves with a table. Keys are stored rotated.
//!
//! Phases: in decode one token per sequence is new, in prefill `seq` tokens are. Before them are `past` tokens, and
//! `kv = past + new` tokens are visible; the caller sets all symbols (see [`lengths`]). State lasts from run to
//! run, so prefill can go on where an earlier run stopped.
//!
//! Batches: sequences of a batch have lengths of their own, in the input `past`, and in prefill their numbers of new
//! tokens in the input `new`; what is new is padded to the longest, `seq`, and `kv` is the longest sequence afterwards. A
//! padded position goes into no state and sees nothing. A single sequence has symbols only: lengths in memory would have
//! to be read before anything else is known.
//!
//! Post: functions `embed`, one per distinct kind of layer, and `head`; inputs `ids` and those of lengths, output `logits`
//! for all new positions in f32, one state per layer for keys and for values.

use indexmap::IndexMap;
use tilewright_ir::expr::build::{
    add, at, binary, div, mul, num, pos, read, reduce, select, size, sub, sum, unary,
};
use tilewright_ir::graph::{Arg, Call, Function, GlobalData, GlobalKind, Module, ParamKind, Table};
use tilewright_ir::{Axis, Binary, DType, Ex, Extent, Func, Global, Reduction, Sym, SymData, Unary, Value};

use super::config::{Activation, Config};

/// What a run computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// One new token per sequence.
    Decode,
    /// Any number of new tokens per sequence.
    Prefill,
}

impl Phase {
    /// The name of the phase.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Decode => "decode",
            Phase::Prefill => "prefill",
        }
    }
}

/// What to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// The phase.
    pub phase: Phase,
    /// Sequences at a time.
    pub batch: u64,
    /// Positions that the state has room for.
    pub max_context: u64,
    /// The type of activations and state.
    pub activations: DType,
}

/// Options that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A size is not in its range.
    #[error("{what} is {value}, but must be from 1 to {max}")]
    Size {
        /// Which.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The largest legal value.
        max: u64,
    },
    /// The type of activations.
    #[error("activations cannot be {0}: supported are bf16, f16, f32 and f64")]
    Activations(DType),
}

/// A tensor of the weights: its name, its shape in the file, and its axes here.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dims: Vec<u64>,
}

/// Names of axes with their extents.
type Split = Vec<(&'static str, u64)>;

/// The lowest finite f32: where a running maximum starts, so that a row without keys stays finite.
const LOWEST: f64 = f32::MIN as f64;

/// The input that holds how many tokens each sequence of a batch has.
pub const PAST: &str = "past";
/// The input that holds how many it gets.
const NEW: &str = "new";
/// The number of tokens of a sequence that sits a run out: its new position would be before the first.
pub const IDLE: i64 = -1;

/// Values of the symbols of a module for a run with `past` tokens before `new` ones in every sequence.
pub fn symbol_values(module: &Module, past: u64, new: u64) -> Vec<(Sym, u64)> {
    lengths(module, &[(past, new)]).symbols
}

/// What says how long the sequences of a run are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Values of the symbols.
    pub symbols: Vec<(Sym, u64)>,
    /// Values of the inputs that hold lengths, one per sequence, by name.
    pub inputs: Vec<(&'static str, Vec<i64>)>,
}

/// The lengths of a run of a module where each sequence has so many tokens and gets so many new ones, one pair per
/// sequence of the batch. One that gets none sits the run out: it has no position, so that nothing of it is read or
/// written, and what is said of it means nothing.
pub fn lengths(module: &Module, sequences: &[(u64, u64)]) -> Lengths {
    let going = || sequences.iter().filter(|s| s.1 > 0);
    // A run has a position at least, also where nothing is new.
    let value = |name: &str| match name {
        "past" => going().map(|s| s.0).max().or(Some(0)),
        "kv" => going().map(|s| s.0 + s.1).max().or(Some(1)),
        "seq" => going().map(|s| s.1).max().or(Some(1)),
        _ => None,
    };
    let symbols = module.symbols.iter().filter_map(|(s, d)| value(&d.name).map(|v| (s, v))).collect();
    let known = |name: &str| module.globals.values().any(|g| g.name == name && g.kind == GlobalKind::Input);
    // Lengths are at most 2^31.
    let past = sequences.iter().map(|s| if s.1 > 0 { s.0 as i64 } else { IDLE }).collect();
    let new = sequences.iter().map(|s| s.1 as i64).collect();
    let all = [(PAST, past), (NEW, new)];
    Lengths { symbols, inputs: all.into_iter().filter(|(name, _)| known(name)).collect() }
}

/// The per-layer tensors: name after the layer's prefix, shape in the file, axes here.
fn layer_tensors(c: &Config) -> Vec<(&'static str, Vec<u64>, Split)> {
    let (g, r, p) = (c.kv_heads, c.heads / c.kv_heads, c.head_dim / 2);
    let (q, kv, d) = (c.heads * c.head_dim, c.kv_heads * c.head_dim, c.head_dim);
    let (h, f) = (c.hidden, c.intermediate);
    let q_axes = vec![("g", g), ("r", r), ("z", 2), ("p", p)];
    let k_axes = vec![("g", g), ("z", 2), ("p", p)];
    let v_axes = vec![("g", g), ("e", d)];
    let wide = |axes: &Split| axes.iter().copied().chain([("c", h)]).collect::<Split>();
    let mut out = vec![
        ("input_layernorm.weight", vec![h], vec![("c", h)]),
        ("self_attn.q_proj.weight", vec![q, h], wide(&q_axes)),
        ("self_attn.k_proj.weight", vec![kv, h], wide(&k_axes)),
        ("self_attn.v_proj.weight", vec![kv, h], wide(&v_axes)),
    ];
    if c.qkv_bias {
        out.push(("self_attn.q_proj.bias", vec![q], q_axes));
        out.push(("self_attn.k_proj.bias", vec![kv], k_axes));
        out.push(("self_attn.v_proj.bias", vec![kv], v_axes));
    }
    if c.qk_norm {
        out.push(("self_attn.q_norm.weight", vec![d], vec![("z", 2), ("p", p)]));
        out.push(("self_attn.k_norm.weight", vec![d], vec![("z", 2), ("p", p)]));
    }
    out.push(("self_attn.o_proj.weight", vec![h, q], vec![("c", h), ("g", g), ("r", r), ("e", d)]));
    if c.out_bias {
        out.push(("self_attn.o_proj.bias", vec![h], vec![("c", h)]));
    }
    out.push(("post_attention_layernorm.weight", vec![h], vec![("c", h)]));
    out.push(("mlp.gate_proj.weight", vec![f, h], vec![("f", f), ("c", h)]));
    out.push(("mlp.up_proj.weight", vec![f, h], vec![("f", f), ("c", h)]));
    out.push(("mlp.down_proj.weight", vec![h, f], vec![("c", h), ("f", f)]));
    if c.mlp_bias {
        out.push(("mlp.gate_proj.bias", vec![f], vec![("f", f)]));
        out.push(("mlp.up_proj.bias", vec![f], vec![("f", f)]));
        out.push(("mlp.down_proj.bias", vec![h], vec![("c", h)]));
    }
    out
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const FINAL_NORM: &str = "model.norm.weight";
const OUTPUT: &str = "lm_head.weight";

fn layer_name(layer: usize, tensor: &str) -> String {
    format!("model.layers.{layer}.{tensor}")
}

/// All tensors of a model with their shapes in the files.
pub(super) fn tensors(c: &Config) -> Vec<Tensor> {
    let mut out = vec![Tensor { name: EMBEDDING.to_owned(), dims: vec![c.vocab, c.hidden] }];
    for layer in 0..c.layers() {
        out.extend(
            layer_tensors(c)
                .into_iter()
                .map(|(name, dims, _)| Tensor { name: layer_name(layer, name), dims }),
        );
    }
    out.push(Tensor { name: FINAL_NORM.to_owned(), dims: vec![c.hidden] });
    if !c.tied {
        out.push(Tensor { name: OUTPUT.to_owned(), dims: vec![c.vocab, c.hidden] });
    }
    out
}

/// What is the same for all functions of a module.
struct Builder<'a> {
    config: &'a Config,
    options: BuildOptions,
    logits: Logits,
    module: Module,
    past: Past,
    kv: Extent,
    /// New positions.
    new: Extent,
}

/// How many tokens are in the state before the new ones.
#[derive(Debug, Clone, Copy)]
enum Past {
    /// In the only sequence.
    One(Sym),
    /// In each, and how many of the new positions are tokens of it where that is not all of them.
    Each { past: Global, new: Option<Global> },
}

/// The same within a function.
struct Place {
    /// The position of a new token in its sequence.
    position: Ex,
    /// How many new tokens a sequence has, where some positions are padding.
    new: Option<Ex>,
}

/// Layers with the same key are the same function.
#[derive(PartialEq, Clone)]
struct LayerKind {
    window: Option<u64>,
    dtypes: Vec<DType>,
}

/// Which tokens a step has logits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logits {
    All,
    Last,
}

/// Builds the module of a phase.
pub fn build_module(config: &Config, options: &BuildOptions) -> Result<Module, BuildError> {
    build(config, options, Logits::All)
}

/// The same with logits after the last new token only, `[batch, 1, vocabulary]`: who generates asks for no others.
pub fn build_last(config: &Config, options: &BuildOptions) -> Result<Module, BuildError> {
    build(config, options, Logits::Last)
}

fn build(config: &Config, options: &BuildOptions, logits: Logits) -> Result<Module, BuildError> {
    for (what, value, max) in
        [("the batch", options.batch, 1 << 20), ("the context", options.max_context, 1 << 31)]
    {
        if !(1..=max).contains(&value) {
            return Err(BuildError::Size { what, value, max });
        }
    }
    if !options.activations.is_float() {
        return Err(BuildError::Activations(options.activations));
    }
    let mut module = Module::default();
    let ctx = options.max_context;
    let mut symbol = |name: &str, min, max| module.symbols.push(SymData { name: name.to_owned(), min, max });
    let one = (options.batch == 1).then(|| symbol("past", 0, ctx - 1));
    let kv = Extent::Sym(symbol("kv", 1, ctx));
    let new = match options.phase {
        Phase::Decode => Extent::Const(1),
        Phase::Prefill => Extent::Sym(symbol("seq", 1, ctx)),
    };
    let mut input = |name: &str| {
        let (name, dims) = (name.to_owned(), vec![Extent::Const(options.batch)]);
        module.globals.push(GlobalData { name, dtype: DType::I32, dims, kind: GlobalKind::Input })
    };
    let past = match one {
        Some(past) => Past::One(past),
        None => Past::Each { past: input(PAST), new: (new != Extent::Const(1)).then(|| input(NEW)) },
    };
    let mut b = Builder { config, options: *options, logits, module, past, kv, new };
    b.program();
    Ok(b.module)
}

impl Builder<'_> {
    fn global(&mut self, name: &str, dtype: DType, dims: &[Extent], kind: GlobalKind) -> Global {
        self.module.globals.push(GlobalData { name: name.to_owned(), dtype, dims: dims.to_vec(), kind })
    }

    fn weight(&mut self, name: &str, split: &[(&'static str, u64)]) -> Global {
        let dims: Vec<Extent> = split.iter().map(|s| Extent::Const(s.1)).collect();
        let dtype = self.config.dtype_of(name);
        self.global(name, dtype, &dims, GlobalKind::Weight(name.to_owned()))
    }

    fn call(&mut self, func: Func, count: usize, args: Vec<Arg>, result: Global) {
        // Configurations have at most a few thousand layers.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.module.program.push(Call { func, count, args, results: vec![result] });
    }

    fn stream(&mut self, name: &str) -> Global {
        let dims = [Extent::Const(self.options.batch), self.new, Extent::Const(self.config.hidden)];
        self.global(name, self.options.activations, &dims, GlobalKind::Temp)
    }

    fn program(&mut self) {
        let (c, batch) = (self.config, Extent::Const(self.options.batch));
        let matrix = [("v", c.vocab), ("c", c.hidden)];
        let ids = self.global("ids", DType::I32, &[batch, self.new], GlobalKind::Input);
        let embedding = self.weight(EMBEDDING, &matrix);
        let mut x = self.stream("x0");
        let embed = self.embed();
        self.call(embed, 1, vec![Arg::Shared(ids), Arg::Shared(embedding)], x);

        let rotation = self.rotation();
        let (kinds, mut functions) = (self.kinds(), Vec::<(LayerKind, Func)>::new());
        let mut first = 0;
        while first < kinds.len() {
            let count = kinds[first..].iter().take_while(|k| **k == kinds[first]).count();
            let known = functions.iter().find(|(k, _)| *k == kinds[first]).map(|(_, f)| *f);
            let func = match known {
                Some(f) => f,
                None => {
                    let f = self.layer(functions.len(), &kinds[first]);
                    functions.push((kinds[first].clone(), f));
                    f
                }
            };
            let next = self.stream(&format!("x{}", first + count));
            let args = self.layer_args(first..first + count, x, rotation);
            self.call(func, count, args, next);
            x = next;
            first += count;
        }

        let norm = self.weight(FINAL_NORM, &[("c", c.hidden)]);
        let output = if c.tied { embedding } else { self.weight(OUTPUT, &matrix) };
        let rows = match self.logits {
            Logits::All => self.new,
            Logits::Last => Extent::Const(1),
        };
        let dims = [batch, rows, Extent::Const(c.vocab)];
        let logits = self.global("logits", DType::F32, &dims, GlobalKind::Temp);
        let output_name = if c.tied { EMBEDDING } else { OUTPUT };
        let head = self.head(output_name);
        let mut args = vec![x, norm, output];
        if self.logits == Logits::Last {
            args.extend(self.given().1);
        }
        self.call(head, 1, args.into_iter().map(Arg::Shared).collect(), logits);
        self.module.outputs.push(logits);
    }

    /// The inputs of lengths, if there are any: tokens in the state, and new ones.
    fn given(&self) -> (Option<Global>, Option<Global>) {
        match self.past {
            Past::One(_) => (None, None),
            Past::Each { past, new } => (Some(past), new),
        }
    }

    /// Positions in a function over sequences and new positions, and the parameters that they take, in the order of
    /// [`Builder::given`].
    fn place(&self, f: &mut Body<'_>) -> Place {
        let (b, i) = (f.b, f.i);
        let mut length = |name| f.func.param(name, ParamKind::Input, DType::I32, &[b]);
        match self.past {
            Past::One(past) => Place { position: add(size(Extent::Sym(past)), pos(i)), new: None },
            Past::Each { new, .. } => {
                let position = add(at(length(PAST), &[b]), pos(i));
                Place { position, new: new.map(|_| at(length(NEW), &[b])) }
            }
        }
    }

    fn rotation(&mut self) -> Global {
        let c = self.config;
        let table = Table::Rotation { frequencies: c.frequencies.clone(), scale: 1.0 };
        let dims = [self.options.max_context, c.head_dim / 2, 2, 2].map(Extent::Const);
        self.global("rotation", DType::F32, &dims, GlobalKind::Table(table))
    }

    fn kinds(&self) -> Vec<LayerKind> {
        let tensors = layer_tensors(self.config);
        let dtypes = |k: usize| tensors.iter().map(|t| self.config.dtype_of(&layer_name(k, t.0))).collect();
        (0..self.config.layers())
            .map(|k| LayerKind { window: self.config.windows[k], dtypes: dtypes(k) })
            .collect()
    }

    /// One argument per parameter, in the order of [`Builder::layer`].
    fn layer_args(&mut self, layers: std::ops::Range<usize>, x: Global, rotation: Global) -> Vec<Arg> {
        let mut args = vec![Arg::Carried(x, 0), Arg::Shared(rotation)];
        let (past, new) = self.given();
        args.extend(past.into_iter().chain(new).map(Arg::Shared));
        for (tensor, _, split) in layer_tensors(self.config) {
            let each = layers.clone().map(|k| self.weight(&layer_name(k, tensor), &split)).collect();
            args.push(Arg::PerIteration(each));
        }
        let (c, ctx) = (self.config, self.options.max_context);
        let keys = [self.options.batch, c.kv_heads, ctx, 2, c.head_dim / 2].map(Extent::Const);
        let values = [self.options.batch, c.kv_heads, ctx, c.head_dim].map(Extent::Const);
        for (name, dims) in [("keys", &keys[..]), ("values", &values[..])] {
            let each = layers
                .clone()
                .map(|k| {
                    self.global(&format!("{name}.{k}"), self.options.activations, dims, GlobalKind::State)
                })
                .collect();
            args.push(Arg::PerIteration(each));
        }
        args
    }

    fn function(&self, name: &str) -> Body<'_> {
        let mut func = Function { name: name.to_owned(), ..Function::default() };
        let b = func.axis("b", Extent::Const(self.options.batch));
        let i = func.axis("i", self.new);
        let c = func.axis("c", Extent::Const(self.config.hidden));
        Body { func, b, i, c, config: self.config, dtype: self.options.activations, axes: IndexMap::new() }
    }

    fn embed(&mut self) -> Func {
        let mut f = self.function("embed");
        let (b, i, c) = (f.b, f.i, f.c);
        let v = f.axis("v", Extent::Const(self.config.vocab));
        let ids = f.func.param("ids", ParamKind::Input, DType::I32, &[b, i]);
        let dtype = self.config.dtype_of(EMBEDDING);
        let table = f.func.param("embedding", ParamKind::Weight, dtype, &[v, c]);
        let x = f.define("x", &[b, i, c], read(table, vec![at(ids, &[b, i]), pos(c)]));
        f.func.results.push(x);
        let func = f.func;
        self.module.functions.push(func)
    }

    fn head(&mut self, output: &str) -> Func {
        let mut f = self.function("head");
        let (b, i, c) = (f.b, f.i, f.c);
        let v = f.axis("v", Extent::Const(self.config.vocab));
        let x = f.func.param("x", ParamKind::Input, self.options.activations, &[b, i, c]);
        let norm = f.func.param("norm", ParamKind::Weight, self.config.dtype_of(FINAL_NORM), &[c]);
        let w = f.func.param("output", ParamKind::Weight, self.config.dtype_of(output), &[v, c]);
        // A step of one token has no others.
        let (x, i) = if self.logits == Logits::All || self.new == Extent::Const(1) {
            (x, i)
        } else {
            let one = f.func.axis("l", Extent::Const(1));
            let new = match self.given().1 {
                Some(_) => at(f.func.param(NEW, ParamKind::Input, DType::I32, &[b]), &[b]),
                None => size(self.new),
            };
            let row = sub(new, num(1.0));
            (f.define("last", &[b, one, c], read(x, vec![pos(b), row, pos(c)])), one)
        };
        let y = f.norm("y", x, &[b, i], &[c], norm);
        let body = sum(&[c], mul(at(y, &[b, i, c]), at(w, &[v, c])));
        let logits = f.func.define("logits", DType::F32, &[b, i, v], body);
        f.func.results.push(logits);
        let func = f.func;
        self.module.functions.push(func)
    }

    fn layer(&mut self, number: usize, kind: &LayerKind) -> Func {
        let name = if number == 0 { "layer".to_owned() } else { format!("layer_{number}") };
        let (config, options) = (self.config, self.options);
        let mut f = self.function(&name);
        let (b, i, c) = (f.b, f.i, f.c);
        let (g, r) = (config.kv_heads, config.heads / config.kv_heads);
        let g = f.axis("g", Extent::Const(g));
        let r = f.axis("r", Extent::Const(r));
        let z = f.axis("z", Extent::Const(2));
        let y = f.axis("y", Extent::Const(2));
        let p = f.axis("p", Extent::Const(config.head_dim / 2));
        let e = f.axis("e", Extent::Const(config.head_dim));
        let m = f.axis("m", Extent::Const(options.max_context));
        let j = f.axis("j", self.kv);
        let act = f.axis("f", Extent::Const(config.intermediate));

        let x = f.func.param("x", ParamKind::Input, options.activations, &[b, i, c]);
        let rotation = f.func.param("rotation", ParamKind::Weight, DType::F32, &[m, p, y, z]);
        let Place { position, new } = self.place(&mut f);
        let mut w: IndexMap<&'static str, Value> = IndexMap::new();
        for ((tensor, _, split), &dtype) in layer_tensors(config).into_iter().zip(&kind.dtypes) {
            let axes: Vec<Axis> = split.iter().map(|(n, extent)| f.axis(n, Extent::Const(*extent))).collect();
            let short = tensor.trim_start_matches("self_attn.").trim_start_matches("mlp.");
            let value = f.func.param(short, ParamKind::Weight, dtype, &axes);
            w.insert(tensor, value);
        }
        let keys = f.func.param("keys", ParamKind::State, options.activations, &[b, g, m, y, p]);
        let values = f.func.param("values", ParamKind::State, options.activations, &[b, g, m, e]);

        // Queries, keys and values of the new positions.
        let weight = |name: &str| w.get(name).copied();
        let bias = |name: &str, axes: &[Axis]| weight(name).map(|v| at(v, axes));
        let xn = f.norm("xn", x, &[b, i], &[c], w["input_layernorm.weight"]);
        let (hq, hk) = ([g, r, z, p], [g, z, p]);
        let q = f.project("q", xn, w["self_attn.q_proj.weight"], &hq, bias("self_attn.q_proj.bias", &hq));
        let k = f.project("k", xn, w["self_attn.k_proj.weight"], &hk, bias("self_attn.k_proj.bias", &hk));
        let (q, k) = match (weight("self_attn.q_norm.weight"), weight("self_attn.k_norm.weight")) {
            (Some(wq), Some(wk)) => {
                (f.norm("qn", q, &[b, i, g, r], &[z, p], wq), f.norm("kn", k, &[b, i, g], &[z, p], wk))
            }
            _ => (q, k),
        };
        let turn = |v: Value, axes: &[Axis]| {
            let table = read(rotation, vec![position.clone(), pos(p), pos(y), pos(z)]);
            sum(&[z], mul(table, at(v, axes)))
        };
        let q = f.define("q_turned", &[b, i, g, r, y, p], turn(q, &[b, i, g, r, z, p]));
        let k = f.define("k_turned", &[b, i, g, y, p], turn(k, &[b, i, g, z, p]));
        let hv = [g, e];
        let v = f.project("v", xn, w["self_attn.v_proj.weight"], &hv, bias("self_attn.v_proj.bias", &hv));

        // The state takes them in, then everything visible is read back.
        // What is padding goes nowhere: there is no such position.
        let real = new.map(|n| binary(Binary::Lt, pos(i), n));
        let row = match &real {
            Some(real) => select(real.clone(), position.clone(), size(Extent::Const(options.max_context))),
            None => position.clone(),
        };
        let index = vec![pos(b), pos(g), row.clone(), pos(y), pos(p)];
        let all_k = f.func.update("keys_new", keys, &[b, i, g, y, p], index, at(k, &[b, i, g, y, p]));
        let index = vec![pos(b), pos(g), row, pos(e)];
        let all_v = f.func.update("values_new", values, &[b, i, g, e], index, at(v, &[b, i, g, e]));

        let product = mul(at(q, &[b, i, g, r, y, p]), at(all_k, &[b, g, j, y, p]));
        let scaled = mul(sum(&[y, p], product), num((config.head_dim as f64).powf(-0.5)));
        let mut visible = binary(Binary::Le, pos(j), position.clone());
        if let Some(window) = kind.window {
            let near = binary(Binary::Lt, sub(position, pos(j)), num(window as f64));
            visible = binary(Binary::And, visible, near);
        }
        if let Some(real) = real {
            visible = binary(Binary::And, visible, real);
        }
        let row = [b, i, g, r];
        let cell = [b, i, g, r, j];
        let masked = select(visible, scaled, num(f64::NEG_INFINITY));
        let s = f.func.define("s", DType::F32, &cell, masked);
        let highest = reduce(Reduction::Max, vec![j], at(s, &cell));
        let top = f.func.define("s_max", DType::F32, &row, binary(Binary::Max, highest, num(LOWEST)));
        let shifted = sub(at(s, &cell), at(top, &row));
        let exps = f.func.define("s_exp", DType::F32, &cell, unary(Unary::Exp, shifted));
        let total = f.func.define("s_sum", DType::F32, &row, sum(&[j], at(exps, &cell)));
        // The sum is at least 1 whenever a key is visible: its largest term is exp 0.
        let share = unary(Unary::Inv, binary(Binary::Max, at(total, &row), num(1.0)));
        let mixed = sum(&[j], mul(mul(at(exps, &cell), share), at(all_v, &[b, g, j, e])));
        let o = f.define("o", &[b, i, g, r, e], mixed);
        let back = mul(at(o, &[b, i, g, r, e]), at(w["self_attn.o_proj.weight"], &[c, g, r, e]));
        let back = plus(sum(&[g, r, e], back), bias("self_attn.o_proj.bias", &[c]));
        let h = f.define("h", &[b, i, c], add(at(x, &[b, i, c]), back));

        // Feed-forward.
        let hn = f.norm("hn", h, &[b, i], &[c], w["post_attention_layernorm.weight"]);
        let (gw, uw) = (w["mlp.gate_proj.weight"], w["mlp.up_proj.weight"]);
        let gate = f.project("gate", hn, gw, &[act], bias("mlp.gate_proj.bias", &[act]));
        let up = f.project("up", hn, uw, &[act], bias("mlp.up_proj.bias", &[act]));
        let inner = [b, i, act];
        let activated = mul(activation(config.activation, at(gate, &inner)), at(up, &inner));
        let a = f.define("a", &inner, activated);
        let down = sum(&[act], mul(at(a, &inner), at(w["mlp.down_proj.weight"], &[c, act])));
        let down = plus(down, bias("mlp.down_proj.bias", &[c]));
        let out = f.define("x_new", &[b, i, c], add(at(h, &[b, i, c]), down));
        f.func.results.push(out);
        let func = f.func;
        self.module.functions.push(func)
    }
}

/// A function under construction.
struct Body<'a> {
    func: Function,
    b: Axis,
    i: Axis,
    c: Axis,
    config: &'a Config,
    dtype: DType,
    axes: IndexMap<String, Axis>,
}

impl Body<'_> {
    /// The axis of this name.
    fn axis(&mut self, name: &str, extent: Extent) -> Axis {
        match name {
            "c" => self.c,
            _ => match self.axes.get(name) {
                Some(&axis) => axis,
                None => {
                    let axis = self.func.axis(name, extent);
                    self.axes.insert(name.to_owned(), axis);
                    axis
                }
            },
        }
    }

    /// A value in the type of the activations.
    fn define(&mut self, name: &str, axes: &[Axis], ex: Ex) -> Value {
        self.func.define(name, self.dtype, axes, ex)
    }

    /// `x * rsqrt(mean(x * x) + eps) * w`, the mean over the inner axes.
    fn norm(&mut self, name: &str, x: Value, outer: &[Axis], inner: &[Axis], w: Value) -> Value {
        let all: Vec<Axis> = outer.iter().chain(inner).copied().collect();
        let extents = inner.iter().filter_map(|&a| self.func.axes[a].extent.as_const());
        let count: u64 = extents.product();
        let squares = sum(inner, mul(at(x, &all), at(x, &all)));
        let mean = div(squares, num(count as f64));
        let scale = unary(Unary::Rsqrt, add(mean, num(self.config.norm_eps)));
        let scale = self.func.define(&format!("{name}_scale"), DType::F32, outer, scale);
        let body = mul(mul(at(x, &all), at(scale, outer)), at(w, inner));
        self.define(name, &all, body)
    }

    /// A projection of the hidden axis to `to`.
    fn project(&mut self, name: &str, x: Value, w: Value, to: &[Axis], bias: Option<Ex>) -> Value {
        let (b, i, c) = (self.b, self.i, self.c);
        let matrix: Vec<Axis> = to.iter().copied().chain([c]).collect();
        let body = sum(&[c], mul(at(x, &[b, i, c]), at(w, &matrix)));
        let axes: Vec<Axis> = [b, i].iter().chain(to).copied().collect();
        self.define(name, &axes, plus(body, bias))
    }
}

fn plus(x: Ex, bias: Option<Ex>) -> Ex {
    match bias {
        Some(b) => add(x, b),
        None => x,
    }
}

fn activation(a: Activation, x: Ex) -> Ex {
    match a {
        Activation::Silu => {
            let e = unary(Unary::Exp, unary(Unary::Neg, x.clone()));
            mul(x, unary(Unary::Inv, add(num(1.0), e)))
        }
        Activation::GeluTanh => {
            let cube = mul(mul(x.clone(), x.clone()), x.clone());
            let inner =
                mul(num((2.0 / std::f64::consts::PI).sqrt()), add(x.clone(), mul(num(0.044715), cube)));
            mul(mul(num(0.5), x), add(num(1.0), unary(Unary::Tanh, inner)))
        }
        Activation::Relu => binary(Binary::Max, x, num(0.0)),
    }
}
