//! Parsing plans.

use cranelift_entity::PrimaryMap;

use crate::diag::Diagnostic;
use crate::expr::REDUCTION;
use crate::plan::{KernelPlan, LawStep, LocalData, LocalDef, Plan, Runs, Store};
use crate::text::cursor::{Cursor, Parsed};
use crate::text::lexer::Kind;
use crate::text::names::entity;
use crate::text::parse_expr::{self, Names};
use crate::text::parse_graph::{Body, at_name};
use crate::{Axis, Local, Reduction};

/// A plan, after its keyword.
pub(crate) fn plan(c: &mut Cursor) -> Parsed<Plan> {
    let name = at_name(c, "the name of a plan")?;
    let mut b = Body::header(c)?;
    let mut p = Plan { name: name.text, ..Plan::default() };
    let mut temps = None;
    while !c.take_mark("}") {
        if c.take_word("axes") {
            b.more_axes(c)?;
        } else if c.take_word("temps") {
            temps = Some(c.integer("the number of the first value of the partition")?);
        } else if c.take_word("return") {
            b.returns(c, &mut p.results)?;
        } else if c.take_word("kernel") {
            p.kernels.push(kernel(c, &b)?);
        } else if matches!(c.peek(), Kind::Word(_)) {
            b.definition(c)?;
        } else {
            return Err(c.unexpected("a definition, `temps`, `return`, `kernel` or `}`"));
        }
    }
    p.first_temp = temps.unwrap_or(b.values.len() as u32);
    (p.axes, p.values) = (b.axes, b.values);
    Ok(p)
}

/// The operation of a reduction.
pub(crate) fn reduction(c: &mut Cursor) -> Parsed<Reduction> {
    let (w, span) = c.word("`sum`, `max` or `min`")?;
    let found = REDUCTION.iter().find(|(_, n)| *n == w).map(|(op, _)| *op);
    found.ok_or_else(|| Diagnostic::new(span, format!("expected `sum`, `max` or `min`, found `{w}`")))
}

fn local_ref(c: &mut Cursor, locals: usize) -> Parsed<Local> {
    let (w, span) = c.word("a local")?;
    match entity(&w, "t") {
        Some(n) if (n as usize) < locals => Ok(Local::from_u32(n)),
        _ => Err(Diagnostic::new(span, format!("there is no local `{w}` before this"))),
    }
}

fn kernel(c: &mut Cursor, b: &Body) -> Parsed<KernelPlan> {
    let name = at_name(c, "the name of a kernel")?;
    c.expect_word("over")?;
    let grid = c.axis_list(&b.axis_table)?;
    let beside = c.take_word("beside");
    let continues = c.take_word("continues");
    let prologue = c.take_word("prologue");
    c.expect("{")?;
    let mut k = KernelPlan {
        name: name.text,
        grid,
        beside,
        continues,
        prologue,
        locals: PrimaryMap::new(),
        ..KernelPlan::default()
    };
    while !c.take_mark("}") {
        let names = Names { locals: Some(k.locals.len()), ..b.names() };
        if c.take_word("store") {
            let value = b.value_ref(c)?;
            let index = parse_expr::indices(c, &names)?;
            c.expect_word("over")?;
            let axes = c.axis_list(&b.axis_table)?;
            c.expect("=")?;
            k.stores.push(Store { value, axes, index, expr: parse_expr::expr(c, &names)? });
        } else if c.take_word("law") {
            let law = c.text("the name of a law")?;
            c.expect(":")?;
            let before = c.text("what was before")?;
            c.expect("=>")?;
            k.derivation.push(LawStep { law, before, after: c.text("what came after")? });
        } else if c.take_word("runs") {
            let axis = c.axis_ref(&b.axis_table)?;
            c.expect_word("by")?;
            k.runs = Some(Runs { axis, number: c.axis_ref(&b.axis_table)? });
        } else if c.take_word("refine") {
            k.refinements.push(c.text("a refinement")?);
        } else if c.take_word("boundary") {
            k.boundaries.push(c.text("a reason")?);
        } else {
            let (w, span) = c.word("a local, `runs`, `store`, `law`, `refine`, `boundary` or `}`")?;
            if entity(&w, "t") != Some(k.locals.len() as u32) {
                let message = format!("the next local is t{}, found `{w}`", k.locals.len());
                return Err(Diagnostic::new(span, message).with_help("locals are numbered in order"));
            }
            let axes = c.axis_list(&b.axis_table)?;
            c.expect("=")?;
            let def = definition(c, b, &names)?;
            k.locals.push(LocalData { axes, def });
        }
    }
    Ok(k)
}

fn one_axis(c: &mut Cursor, b: &Body) -> Parsed<Axis> {
    c.expect("[")?;
    let axis = c.axis_ref(&b.axis_table)?;
    c.expect("]")?;
    Ok(axis)
}

fn definition(c: &mut Cursor, b: &Body, names: &Names<'_>) -> Parsed<LocalDef> {
    if c.take_word("reduce") {
        let op = reduction(c)?;
        let axes = c.axis_list(&b.axis_table)?;
        return Ok(LocalDef::Reduce { op, axes, body: parse_expr::expr(c, names)? });
    }
    if c.take_word("block") {
        let op = reduction(c)?;
        let axis = one_axis(c, b)?;
        return Ok(LocalDef::Block { op, axis, body: parse_expr::expr(c, names)? });
    }
    if c.take_word("running") {
        let op = reduction(c)?;
        let axis = one_axis(c, b)?;
        return Ok(LocalDef::Running { op, axis, block: parse_expr::expr(c, names)? });
    }
    if c.take_word("fold") {
        let op = reduction(c)?;
        let axis = one_axis(c, b)?;
        let block = parse_expr::expr(c, names)?;
        c.expect_word("moves")?;
        let count = names.locals.unwrap_or(0);
        // In its action the fold itself stands for the value that is moved.
        let action = parse_expr::expr(c, &Names { locals: Some(count + 1), ..*names })?;
        c.expect_word("tracks")?;
        let tracks = c.list("[", "]", |c| {
            let t = local_ref(c, count)?;
            c.expect("->")?;
            Ok((t, local_ref(c, count)?))
        })?;
        return Ok(LocalDef::Fold { op, axis, block, action, tracks });
    }
    Ok(LocalDef::Map(parse_expr::expr(c, names)?))
}
