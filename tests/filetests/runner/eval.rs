//! `test eval [f64|rounded|interval] [block=N]`: runs the file on the inputs of its head and prints one line per result,
//! `name[extents] = values`. A graph module is run as a whole (`weight` directives are its weights); of plans and tile
//! programs the first one, on inputs by the name of the parameter or buffer.

use std::sync::Arc;

use tilewright::ir::eval::{
    Domain, EvalError, Evaluator, F64, Interval, Range, Rounded, Symbols, Tensor, bind_symbols, eval_plan,
    eval_tile, sizes,
};
use tilewright::ir::graph::{Def, GlobalKind, Module};
use tilewright::ir::text::{self, Document, PlanFile, TileFile};
use tilewright::ir::{Extent, PrimaryMap, Sym, SymData, Value, verify};

use super::Head;

/// Results by name.
type Named<D> = Vec<(String, Tensor<<D as Domain>::T>)>;

pub(crate) fn run(name: &str, head: &Head, source: &str) -> Result<String, String> {
    let document = text::parse(source).map_err(|e| e.render(name, source))?;
    verify::verify(&document).map_err(|v| verify::describe(&v))?;
    let mut domain = "f64";
    let mut block = 4;
    for argument in &head.command[1..] {
        match argument.split_once('=') {
            None => domain = argument,
            Some(("block", n)) => block = n.parse().map_err(|_| format!("`{argument}`: no number"))?,
            Some(_) => return Err(format!("unknown argument `{argument}`")),
        }
    }
    let run = Run { head, block };
    match domain {
        "f64" => run.document(&F64, &document, |x| number(*x)),
        "rounded" => run.document(&Rounded, &document, |x| number(*x)),
        "interval" => {
            run.document(&Interval, &document, |r: &Range| format!("{}..{}", number(r.low), number(r.high)))
        }
        _ => Err(format!("unknown domain `{domain}`")),
    }
}

/// Six digits are compared: enough to see a mistake, few enough not to see the order of a sum.
fn number(x: f64) -> String {
    let short: f64 = format!("{x:.5e}").parse().unwrap_or(x);
    text::number(if short == 0.0 { 0.0 } else { short })
}

struct Run<'a> {
    head: &'a Head,
    block: usize,
}

impl Run<'_> {
    fn values(&self, key: &str, name: &str) -> Option<&[f64]> {
        self.head.settings.iter().find(|s| s.key == key && s.name == name).map(|s| &s.values[..])
    }

    fn symbols(&self, table: &PrimaryMap<Sym, SymData>) -> Result<Symbols, String> {
        let values: Vec<(&str, u64)> = self
            .head
            .settings
            .iter()
            .filter(|s| s.key == "symbol")
            .map(|s| (s.name.as_str(), s.values.first().map_or(0, |&x| x as u64)))
            .collect();
        bind_symbols(table, &values).map_err(|e| e.to_string())
    }

    fn input(&self, name: &str, dims: &[Extent], symbols: &Symbols) -> Result<Tensor<f64>, String> {
        let dims = sizes(dims, symbols);
        let values =
            self.values("input", name).ok_or_else(|| format!("there is no `; input: {name} = …`"))?;
        Tensor::new(&dims, values.to_vec()).map_err(|e| format!("{name}: {e}"))
    }

    fn document<D: Domain + Copy>(
        &self,
        d: &D,
        document: &Document,
        show: impl Fn(&D::T) -> String,
    ) -> Result<String, String> {
        let results = match document {
            Document::Graph(m) => self.module(d, m)?,
            Document::Plan(f) => self.plan(d, f)?,
            Document::Tile(f) => self.tiles(d, f)?,
            Document::Step(_) => return Err("steps are not evaluated".to_owned()),
        };
        let line = |(name, t): &(String, Tensor<D::T>)| {
            let dims: Vec<String> = t.dims.iter().map(ToString::to_string).collect();
            let values: Vec<String> = t.data.iter().map(&show).collect();
            format!("{name}[{}] = {}", dims.join(","), values.join(" "))
        };
        Ok(results.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    fn module<D: Domain + Copy>(&self, d: &D, m: &Module) -> Result<Named<D>, String> {
        let symbols = self.symbols(&m.symbols)?;
        let mut inputs = Vec::new();
        for g in m.globals.values().filter(|g| g.kind == GlobalKind::Input) {
            inputs.push((g.name.as_str(), self.input(&g.name, &g.dims, &symbols)?));
        }
        let mut e = Evaluator::new(*d, m, |name| {
            self.values("weight", name)
                .map(<[f64]>::to_vec)
                .ok_or_else(|| "there is no such weight".to_owned())
        });
        let outputs = e.run(&symbols, &inputs).map_err(|e: EvalError| e.to_string())?;
        let names = m.outputs.iter().map(|&g| m.globals[g].name.clone());
        let mut out: Vec<_> = names.zip(outputs).collect();
        for g in m.globals.values().filter(|g| g.kind == GlobalKind::State) {
            if let Some(t) = e.state(&g.name) {
                out.push((g.name.clone(), t.clone()));
            }
        }
        Ok(out)
    }

    fn plan<D: Domain>(&self, d: &D, f: &PlanFile) -> Result<Named<D>, String> {
        let symbols = self.symbols(&f.symbols)?;
        let plan = f.plans.first().ok_or("there is no plan")?;
        let mut params = Vec::new();
        for data in plan.values.values().take(plan.first_temp as usize) {
            if matches!(data.def, Def::Param(_)) {
                let dims: Vec<Extent> = data.axes.iter().map(|&a| plan.axes[a].extent).collect();
                let t = self.input(&data.name, &dims, &symbols)?;
                params.push(Arc::new(t.map(|&x| d.store(data.dtype, d.num(x)))));
            }
        }
        let outcome = eval_plan(d, plan, &symbols, params, self.block).map_err(|e| e.to_string())?;
        let name = |v: Value| match plan.values[v].name.as_str() {
            "" => v.to_string(),
            name => name.to_owned(),
        };
        let results = plan.results.iter().map(|&v| name(v)).zip(&outcome.results);
        let states = outcome.states.iter().map(|(v, t)| (name(*v), t));
        Ok(results.chain(states).map(|(n, t)| (n, (**t).clone())).collect())
    }

    fn tiles<D: Domain>(&self, d: &D, f: &TileFile) -> Result<Named<D>, String> {
        let symbols = self.symbols(&f.symbols)?;
        let program = f.programs.first().ok_or("there is no program")?;
        let mut buffers = Vec::new();
        for (_, p) in program.arguments() {
            let mut t = match p.written && self.values("input", &p.name).is_none() {
                // What nobody writes is seen to be nothing.
                true => Tensor::from_fn(&sizes(&p.dims, &symbols), |_| d.undefined()),
                false => self.input(&p.name, &p.dims, &symbols)?.map(|&x| d.num(x)),
            };
            t.data.iter_mut().for_each(|x| *x = d.store(p.dtype, *x));
            buffers.push(t);
        }
        let out = eval_tile(d, program, &symbols, buffers).map_err(|e| e.to_string())?;
        let written = program.arguments().zip(out).map(|((_, p), t)| (p, t)).filter(|(p, _)| p.written);
        Ok(written.map(|(p, t)| (p.name.clone(), t)).collect())
    }
}
