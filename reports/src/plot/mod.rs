//! Plots of a run, as SVG and PNG.

mod bar_draw;
mod bars;
mod canvas;
pub(crate) mod chart;
pub(crate) mod charts;
mod draw;
mod fits;
mod grids;
pub(crate) mod history;
mod labels;
mod legend;
pub(crate) mod power;
mod published;
mod roofline;
mod shapes;
mod tasks;
pub(crate) mod trend;

use crate::analysis::Analysis;
use crate::error::Error;
use crate::load::RunData;
use canvas::Canvas;
use chart::Chart;
pub(crate) use draw::{Drawn, Spot};
use plotters::prelude::*;
use std::path::{Path, PathBuf};

/// Pixels a logical unit in a PNG: sharp when shown at half size.
const PNG_SCALE: f64 = 2.0;
/// The bitmap backend measures text from its ascender and so sets it a little high of its anchor, by this part of its
/// size; in an SVG the viewer places it.
const PNG_LOWER: f64 = 0.16;
/// Every stem that a plot may have; files of these names are ours to replace.
const STEMS: [&str; 26] = [
    "decode-speed",
    "prefill-speed",
    "decode-speedup",
    "prefill-speedup",
    "decode-threads",
    "prefill-threads",
    "latency",
    "memory",
    "decode-energy",
    "prefill-energy",
    "decode-energy-modelled",
    "prefill-energy-modelled",
    "decode-joules",
    "prefill-joules",
    "decode-joules-modelled",
    "prefill-joules-modelled",
    "energy-stages",
    "energy-stages-modelled",
    "published-speed",
    "published-speedup",
    "decode-fit",
    "roofline",
    "depth",
    "accuracy",
    "accuracy-energy",
    "accuracy-energy-modelled",
];

/// A plot as the page links it.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// File name without extension.
    pub(crate) stem: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// How to read it.
    pub(crate) caption: String,
}

/// Draws every plot that has something to show into `dir`; removes those of an earlier rendering.
pub(crate) fn draw_all(data: &RunData, analysis: &Analysis, dir: &Path) -> Result<(Vec<Plot>, Vec<PathBuf>), Error> {
    let fail = |path: &Path, message: String| Error::Write { path: path.to_owned(), message };
    for stem in STEMS {
        for extension in ["svg", "png"] {
            let path = dir.join(format!("{stem}.{extension}"));
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(&path, e.to_string())),
                _ => {}
            }
        }
    }
    let all = charts::all(data, analysis);
    if all.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    std::fs::create_dir_all(dir).map_err(|e| fail(dir, e.to_string()))?;
    canvas::fonts().map_err(|e| fail(dir, e))?;
    let (mut plots, mut files) = (Vec::new(), Vec::new());
    for (plot, chart) in all {
        for extension in ["svg", "png"] {
            let path = dir.join(format!("{}.{extension}", plot.stem));
            draw_one(&chart, &path, extension).map_err(|e| fail(&path, e))?;
            files.push(path);
        }
        plots.push(plot);
    }
    Ok((plots, files))
}

/// Draws a chart of its own, with the embedded font.
pub(crate) fn draw_file(chart: &Chart, path: &Path, extension: &str) -> Result<(), String> {
    canvas::fonts()?;
    draw_one(chart, path, extension)
}

/// A chart as SVG text, its size, and where its points and bars lie.
pub(crate) struct Drawing {
    pub(crate) svg: String,
    pub(crate) size: (u32, u32),
    pub(crate) spots: Vec<Spot>,
}

/// Draws a chart as text, with the embedded font's measures.
pub(crate) fn draw_text(chart: &Chart) -> Result<Drawing, String> {
    canvas::fonts()?;
    let (mut svg, size) = (String::new(), (draw::WIDTH as u32, draw::height(chart) as u32));
    let spots = paint(SVGBackend::with_string(&mut svg, size), chart, 1.0, 0.0)?;
    Ok(Drawing { svg, size, spots })
}

fn draw_one(chart: &Chart, path: &Path, extension: &str) -> Result<(), String> {
    let size = |scale: f64| ((draw::WIDTH * scale) as u32, (draw::height(chart) * scale) as u32);
    if extension == "svg" {
        paint(SVGBackend::new(path, size(1.0)), chart, 1.0, 0.0)?;
        return Ok(());
    }
    paint(BitMapBackend::new(path, size(PNG_SCALE)), chart, PNG_SCALE, PNG_LOWER)?;
    Ok(())
}

fn paint<DB: DrawingBackend>(backend: DB, chart: &Chart, scale: f64, lower: f64) -> Result<Vec<Spot>, String> {
    let root = backend.into_drawing_area();
    root.fill(&WHITE).map_err(|e| e.to_string())?;
    let spots = draw::chart(&Canvas { root: &root, scale, lower }, chart)?;
    root.present().map_err(|e| e.to_string())?;
    Ok(spots)
}
