//! What: results as pictures.
//! Why here: a picture per family shows at a glance where a size falls off.
//! Pre: results.
//! Post: SVG files: one per family, its cases from left to right. Times where there are any, bytes over the floor where
//! they were counted; what was not measured has no point.

use std::path::{Path, PathBuf};

use plotters::prelude::*;

use super::record::{Results, Row, Suite};
use crate::{Error, files};

/// What is drawn of a row.
#[derive(Clone, Copy)]
struct Figure {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
}

const FIGURES: [Figure; 2] = [
    Figure { name: "median time, us", of: |r| r.time.map(|t| t.median_us) },
    Figure { name: "bytes over the floor", of: |r| r.counts.as_ref().map(|c| c.bytes_over_floor()) },
];

/// Colours of lines, one per implementation and mode.
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(23, 190, 207),
];

/// Draws all families into a directory; returns the files.
pub fn draw(results: &Results, directory: &Path) -> Result<Vec<PathBuf>, Error> {
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
    let mut families: Vec<(Suite, &str)> = Vec::new();
    for row in &results.rows {
        if !families.contains(&(row.suite, &row.family)) {
            families.push((row.suite, &row.family));
        }
    }
    let mut files = Vec::new();
    for (suite, family) in families {
        let rows: Vec<&Row> =
            results.rows.iter().filter(|r| (r.suite, r.family.as_str()) == (suite, family)).collect();
        let figure = FIGURES.into_iter().find(|f| rows.iter().any(|r| (f.of)(r).is_some()));
        let Some(figure) = figure else { continue };
        let path = directory.join(format!("{} {family}.svg", suite.name()).replace(' ', "-"));
        let text = picture(family, &results.device.name, figure, &rows)
            .map_err(|e| Error::Bug(format!("drawing `{family}`: {e}")))?;
        files::write(&path, &text)?;
        files.push(path);
    }
    Ok(files)
}

/// Lines of equal implementation and mode over the cases.
fn picture(family: &str, device: &str, figure: Figure, rows: &[&Row]) -> Result<String, String> {
    let mut cases: Vec<&str> = Vec::new();
    let mut lines: Vec<(String, Vec<(usize, f64)>)> = Vec::new();
    for row in rows {
        let at = cases.iter().position(|c| *c == row.case).unwrap_or_else(|| {
            cases.push(&row.case);
            cases.len() - 1
        });
        let Some(y) = (figure.of)(row) else { continue };
        let name = format!("{} {}", row.implementation, row.mode);
        match lines.iter_mut().find(|(n, _)| *n == name) {
            Some((_, points)) => points.push((at, y)),
            None => lines.push((name, vec![(at, y)])),
        }
    }
    let all = || lines.iter().flat_map(|(_, p)| p.iter().map(|(_, y)| *y));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 480)).into_drawing_area();
        let failed = |e: &dyn std::fmt::Display| e.to_string();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        let right = cases.len().max(2) as f64 - 0.5;
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("{family}: {} ({device})", figure.name), ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(-0.5..right, (low * 0.8..high * 1.25).log_scale())
            .map_err(|e| failed(&e))?;
        let label = |x: &f64| {
            let near = x.round();
            let whole = (x - near).abs() < 1e-6 && near >= 0.0;
            cases.get(near as usize).filter(|_| whole).map_or(String::new(), |c| short(c, family))
        };
        chart
            .configure_mesh()
            .x_labels(cases.len().min(12) + 1)
            .x_label_formatter(&label)
            .y_desc(figure.name)
            .draw()
            .map_err(|e| failed(&e))?;
        for (i, (name, points)) in lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points = points.iter().map(|&(x, y)| (x as f64, y));
            chart
                .draw_series(LineSeries::new(points.clone(), &colour))
                .map_err(|e| failed(&e))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
            chart.draw_series(points.map(|p| Circle::new(p, 3, colour.filled()))).map_err(|e| failed(&e))?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(|e| failed(&e))?;
        area.present().map_err(|e| failed(&e))?;
    }
    Ok(svg)
}

/// A case without the name of its family.
fn short(case: &str, family: &str) -> String {
    case.strip_prefix(family).unwrap_or(case).trim().to_owned()
}
