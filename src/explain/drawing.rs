//! What: the kernels of a plan as a picture: boxes in the phases in which they run, and lines for what passes between them.
//! Why here: which kernels wait for which, and what they exchange, is seen at a glance and read from tables slowly.
//! Pre: the report of a function.
//! Post: SVG without references. Boxes do not overlap; a line passes between the boxes of phases that it crosses, in a
//! place of its own.

use std::fmt::Write as _;

use tilewright_passes::report::{KernelCount, PlanCount};

use super::page::escape;
use super::{FunctionReport, bytes};

/// The height of a box, and from one row to the next.
const HEIGHT: f64 = 46.0;
const ROW: f64 = 104.0;
/// Between boxes, and around everything.
const GAP: f64 = 28.0;
const EDGE: f64 = 14.0;
/// The width of a character, and of a line that passes a row.
const CHAR: f64 = 7.4;
const LANE: f64 = 20.0;
/// How far a line goes straight down from its box.
const STRAIGHT: f64 = 22.0;
/// Characters of a label under a box.
const LABEL: usize = 30;

/// What has a place in a row: a kernel, or a line on its way from one to another.
struct Place {
    row: usize,
    width: f64,
    /// The middle.
    x: f64,
    kernel: Option<usize>,
}

/// The picture. `id` is the prefix of the places that boxes lead to.
pub fn drawing(out: &mut String, id: &str, f: &FunctionReport<'_>) {
    let plan = &f.after;
    let labels: Vec<(String, String)> = plan.kernels.iter().map(|k| label(plan, k)).collect();
    let (mut places, lines) = places(plan, &labels);
    arrange(&mut places, &lines);
    let rows = places.iter().map(|p| p.row + 1).max().unwrap_or(1);
    let right = places.iter().map(|p| p.x + p.width / 2.0).fold(0.0, f64::max) + EDGE;
    let bottom = (rows - 1) as f64 * ROW + HEIGHT + 2.0 * EDGE;
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Kernels of @{name} and what passes between them\">\
         <svg width=\"{right:.0}\" height=\"{bottom:.0}\" viewBox=\"0 0 {right:.0} {bottom:.0}\" role=\"img\" \
         aria-label=\"{count} in {phases}\">",
        name = escape(f.name),
        count = super::counted(plan.kernels.len(), "kernel"),
        phases = super::counted(plan.phases as usize, "phase"),
    );
    launches(out, plan, &places);
    for line in &lines {
        path(out, line.iter().map(|&n| &places[n]).collect::<Vec<_>>().as_slice());
    }
    for p in &places {
        if let Some(k) = p.kernel {
            kernel(out, &format!("{id}k{k}"), &plan.kernels[k], p, &labels[k]);
        }
    }
    out.push_str("</svg></div>\n");
}

/// What other kernels read of a kernel, short and whole.
fn label(plan: &PlanCount, k: &KernelCount) -> (String, String) {
    let names: Vec<&str> =
        plan.boundaries.iter().filter(|b| b.from == k.name).map(|b| b.name.as_str()).collect();
    let stored: u64 = k.writes.iter().filter(|o| names.contains(&o.name.as_str())).map(|o| o.bytes).sum();
    let whole = names.join(", ");
    let mut short = whole.clone();
    if short.chars().count() > LABEL {
        short = whole.chars().take(LABEL - 3).chain("...".chars()).collect();
    }
    if stored > 0 {
        short += &format!(" {}", bytes(stored));
    }
    (short, whole)
}

/// Places without positions, and lines as the places that they pass.
fn places(plan: &PlanCount, labels: &[(String, String)]) -> (Vec<Place>, Vec<Vec<usize>>) {
    let width = |text: &str| CHAR * text.chars().count() as f64;
    let mut places: Vec<Place> = Vec::new();
    // What runs when weights are loaded is above the first phase, in one of its own.
    let first = u32::from(plan.kernels.iter().all(|k| !k.prologue));
    for (n, k) in plan.kernels.iter().enumerate() {
        let text = width(&k.name).max(width(&moved(k))) + 24.0;
        // A label stands to the right of the middle.
        let width = text.max(2.0 * (width(&labels[n].0) + 10.0) - GAP);
        places.push(Place { row: k.phase.saturating_sub(first) as usize, width, x: 0.0, kernel: Some(n) });
    }
    let at = |name: &str| plan.kernels.iter().position(|k| k.name == name);
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for b in &plan.boundaries {
        for to in &b.to {
            if let (Some(from), Some(to)) = (at(&b.from), at(to))
                && !pairs.contains(&(from, to))
            {
                pairs.push((from, to));
            }
        }
    }
    let mut lines = Vec::new();
    for (from, to) in pairs {
        let mut line = vec![from];
        for row in places[from].row + 1..places[to].row {
            line.push(places.len());
            places.push(Place { row, width: LANE, x: 0.0, kernel: None });
        }
        line.push(to);
        lines.push(line);
    }
    (places, lines)
}

/// Gives places their positions: each row in the order of what it comes from, in the middle of the picture.
fn arrange(places: &mut [Place], lines: &[Vec<usize>]) {
    let rows = places.iter().map(|p| p.row + 1).max().unwrap_or(1);
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); rows];
    for (n, p) in places.iter().enumerate() {
        order[p.row].push(n);
    }
    let wide = |row: &[usize], places: &[Place]| {
        row.iter().map(|&n| places[n].width).sum::<f64>() + GAP * row.len().saturating_sub(1) as f64
    };
    let most = order.iter().map(|r| wide(r, places)).fold(0.0, f64::max);
    for row in &mut order {
        let before = |n: usize, places: &[Place]| -> f64 {
            let from: Vec<f64> = lines
                .iter()
                .flat_map(|l| l.windows(2).filter(|w| w[1] == n).map(|w| places[w[0]].x))
                .collect();
            if from.is_empty() { f64::MAX } else { from.iter().sum::<f64>() / from.len() as f64 }
        };
        // Lines on their way go to the right of the box that they pass.
        row.sort_by(|&a, &b| {
            let (x, y) = (before(a, places), before(b, places));
            x.total_cmp(&y).then(places[a].kernel.is_none().cmp(&places[b].kernel.is_none())).then(a.cmp(&b))
        });
        let mut x = EDGE + (most - wide(row, places)) / 2.0;
        for &n in row.iter() {
            places[n].x = x + places[n].width / 2.0;
            x += places[n].width + GAP;
        }
    }
}

fn top(p: &Place) -> f64 {
    EDGE + p.row as f64 * ROW
}

fn moved(k: &KernelCount) -> String {
    format!("{} in, {} out", bytes(k.read_bytes()), bytes(k.written_bytes()))
}

/// A frame around the kernels of one launch, where there are several.
fn launches(out: &mut String, plan: &PlanCount, places: &[Place]) {
    let numbers = plan.kernels.iter().map(|k| k.launch).collect::<std::collections::BTreeSet<_>>();
    for launch in numbers {
        let own: Vec<&Place> =
            places.iter().filter(|p| p.kernel.is_some_and(|k| plan.kernels[k].launch == launch)).collect();
        let row = own.first().map_or(0, |p| p.row);
        let among = |p: &&Place| p.kernel.is_some_and(|k| plan.kernels[k].launch == launch);
        let (left, right) = own
            .iter()
            .fold((f64::MAX, 0.0f64), |(l, r), p| (l.min(p.x - p.width / 2.0), r.max(p.x + p.width / 2.0)));
        // A frame only around its own.
        let others = places.iter().any(|p| p.row == row && !among(&p) && p.x > left && p.x < right);
        if own.len() < 2 || others || own.iter().any(|p| p.row != row) {
            continue;
        }
        let _ = writeln!(
            out,
            "<rect class=\"launch\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"9\">\
             <title>one launch</title></rect>",
            left - 7.0,
            top(own[0]) - 7.0,
            right - left + 14.0,
            HEIGHT + 14.0
        );
    }
}

/// A line from box to box, with a tip.
fn path(out: &mut String, places: &[&Place]) {
    let [first, .., last] = places else { return };
    // Straight down beside its label, and then to where it leads.
    let mut d = format!("M{:.1} {:.1} v{STRAIGHT:.1}", first.x, top(first) + HEIGHT);
    for (n, w) in places.windows(2).enumerate() {
        let (y, end) = (top(w[0]) + HEIGHT + if n == 0 { STRAIGHT } else { 0.0 }, top(w[1]));
        let bend = (y + end) / 2.0;
        let _ = write!(d, " C{:.1} {bend:.1} {:.1} {bend:.1} {:.1} {end:.1}", w[0].x, w[1].x, w[1].x);
        if w[1].kernel.is_none() {
            let _ = write!(d, " V{:.1}", end + HEIGHT);
        }
    }
    let (x, y) = (last.x, top(last));
    let _ = writeln!(out, "<path d=\"{d}\"/><path class=\"tip\" d=\"M{x:.1} {y:.1} l-4 -8 h8 z\"/>");
}

/// A box: its name, what it moves, and what others read of it.
fn kernel(out: &mut String, place: &str, k: &KernelCount, p: &Place, label: &(String, String)) {
    let y = top(p);
    let list = |all: &[tilewright_passes::report::Operand]| -> String {
        all.iter().map(|o| format!("{} {}", o.name, bytes(o.bytes))).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(
        out,
        "<a href=\"#{place}\"><title>{} reads {}; writes {}</title>\
         <rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" rx=\"6\"/>\
         <text class=\"name\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text></a>",
        escape(&k.name),
        escape(&list(&k.reads)),
        escape(&list(&k.writes)),
        p.x - p.width / 2.0,
        p.width,
        y + 19.0,
        escape(&k.name),
        y + 36.0,
        escape(&moved(k)),
        x = p.x,
    );
    if !label.0.is_empty() {
        let _ = writeln!(
            out,
            "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}<title>{}</title></text>",
            p.x + 8.0,
            y + HEIGHT + 18.0,
            escape(&label.0),
            escape(&label.1)
        );
    }
}
