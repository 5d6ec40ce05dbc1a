//! Fits of decode time over bytes a token by engine, and what they predict of sizes that were not measured.

use crate::analysis::{Analysis, variant};
use crate::cells::Status;
use crate::fit::{Fit, Point};
use crate::stats::Estimate;
use crate::text::{bytes, escape, markdown_table, short, with_interval};
use std::collections::BTreeMap;
use suites::cell::Workload;
use suites::model::{HeadMode, ModelSpec, Shape};
use suites::{Catalogue, Cell, Phase};

const NOTE: &str = "Seconds of a token = overhead + bytes a token / bandwidth, by least squares of relative residuals over all processes \
    at the most threads, neither part under 0 (weights alone are counted as bytes). 95 % intervals are Student's, of how sizes lie off the line and how blocks differ.";
const PREDICTED: &str = "**Predicted, not measured**: sizes of the same family, from the least measured on, that did not fit or were not run, by the fits above. The interval is one \
    of prediction: of a new process of another size in another block. Whether such a model fits in memory is another question.";

/// A model at its place in a fit.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) model: String,
    /// Bytes that a token reads.
    pub(crate) bytes: f64,
    /// Seconds of a token.
    pub(crate) seconds: Estimate,
}

/// An engine's fit.
#[derive(Clone, Debug)]
pub(crate) struct EngineFit {
    /// One of its cells.
    pub(crate) cell: Cell,
    pub(crate) fit: Fit,
    pub(crate) measured: Vec<Placed>,
    pub(crate) predicted: Vec<Placed>,
}

/// A fit for each of the project's engines and variants that was measured at enough sizes, at the most threads.
pub(crate) fn fits(analysis: &Analysis, workload: Workload) -> Vec<EngineFit> {
    let ok = || analysis.measured(workload).filter(|c| c.status == Status::Ok);
    let Some(most) = ok().map(|c| c.cell.threads).max() else { return Vec::new() };
    let mut by_engine: BTreeMap<usize, (Cell, Vec<Point>, Vec<Placed>)> = BTreeMap::new();
    for cell in ok().filter(|c| c.cell.threads == most) {
        let (Some(read), Some(speed)) = (cell.figure("read_per_token_bytes"), cell.figure("tokens_per_second")) else {
            continue;
        };
        let of = by_engine.entry(analysis.colour(&cell.cell));
        let (_, points, measured) = of.or_insert_with(|| (cell.cell.clone(), Vec::new(), Vec::new()));
        let point = |&(block, speed): &(u32, f64)| Point { block, bytes: read.value, seconds: 1.0 / speed };
        points.extend(cell.by_block.iter().map(point));
        measured.push(Placed { model: cell.cell.model.clone(), bytes: read.value, seconds: inverse(speed) });
    }
    let catalogue = Catalogue::embedded().ok();
    let fitted = |(cell, points, measured): (Cell, Vec<Point>, Vec<Placed>)| {
        let fit = Fit::new(&points)?;
        let predicted = catalogue.as_ref().map_or_else(Vec::new, |c| predicted(c, analysis, &cell, &fit));
        Some(EngineFit { cell, fit, measured, predicted })
    };
    by_engine.into_values().filter_map(fitted).collect()
}

/// One over a figure: seconds of tokens a second, and back.
fn inverse(figure: Estimate) -> Estimate {
    let interval = figure.interval.map(|(low, high)| (1.0 / high, 1.0 / low));
    Estimate { value: 1.0 / figure.value, interval, n: figure.n }
}

/// The catalogue's shapes of the families measured, without those that the engine was measured or failed with. What an engine
/// reads that leaves out what the values decide is not known before.
fn predicted(catalogue: &Catalogue, analysis: &Analysis, like: &Cell, fit: &Fit) -> Vec<Placed> {
    let engine = match catalogue.engine(&like.engine) {
        Ok(engine) if engine.head == HeadMode::Full && !engine.format.is_sparse() => engine,
        _ => return Vec::new(),
    };
    let same = |c: &&crate::cells::CellSummary| {
        let of = &c.cell;
        of.engine == like.engine
            && of.threads == like.threads
            && of.workload == like.workload
            && variant(of) == variant(like)
    };
    let tried: Vec<(&str, bool)> = analysis
        .cells
        .iter()
        .filter(same)
        .filter(|c| c.status != Status::Na)
        .map(|c| (c.cell.model.as_str(), c.status.measured()))
        .collect();
    let measured = tried.iter().filter(|(_, measured)| *measured).filter_map(|(model, _)| analysis.model(model));
    let families: Vec<&String> = measured.filter_map(|m| m.family.as_ref()).collect();
    let wanted = |shape: &&Shape| {
        families.contains(&&shape.source)
            && shape.gate_zeros.is_none()
            && !tried.iter().any(|(model, _)| *model == shape.name)
    };
    let shapes = catalogue.models.iter().filter_map(|model| match model {
        ModelSpec::Synthetic(shape) => Some(shape),
        ModelSpec::File(_) => None,
    });
    // Smaller ones than any measured may lie in a cache, and rest on the overhead that larger ones hardly show.
    let place = |shape: &Shape| {
        let bytes = shape.read_per_token_bytes(engine.format) as f64;
        let placed = || Placed { model: shape.name.clone(), bytes, seconds: fit.predict(bytes) };
        (bytes >= fit.range.0).then(placed)
    };
    let mut placed: Vec<Placed> = shapes.filter(wanted).filter_map(place).collect();
    placed.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    placed
}

/// The page's section; nothing where no engine has enough sizes.
pub(crate) fn section(analysis: &Analysis) -> String {
    let Some(workload) = analysis.main_workload(Phase::Decode) else { return String::new() };
    let fits = fits(analysis, workload);
    if fits.is_empty() {
        return String::new();
    }
    let name = |cell: &Cell| escape(&format!("{}{}", cell.engine, variant(cell)));
    let own = |f: &EngineFit| {
        let bandwidth = f.fit.bandwidth().map_or("N/A".to_owned(), |b| with_blocks(b.scaled(1e-9)));
        let sizes = f.measured.len().to_string();
        let overhead = with_blocks(f.fit.overhead().scaled(1e3));
        vec![name(&f.cell), f.cell.threads.to_string(), sizes, f.fit.n.to_string(), overhead, bandwidth]
    };
    let header = ["engine", "threads", "sizes", "processes", "overhead, ms", "bandwidth, GB/s"].map(str::to_owned);
    let rows: Vec<Vec<String>> = fits.iter().map(own).collect();
    let mut out = format!("## Fit and prediction, `{workload}`\n\n{NOTE}\n\n{}\n", markdown_table(&header, &rows, 1));
    let row = |f: &EngineFit, p: &Placed| {
        let speed = with_interval(inverse(p.seconds));
        vec![escape(&p.model), name(&f.cell), f.cell.threads.to_string(), bytes(p.bytes), speed]
    };
    let rows: Vec<Vec<String>> = fits.iter().flat_map(|f| f.predicted.iter().map(move |p| row(f, p))).collect();
    if !rows.is_empty() {
        let header = ["model", "engine", "threads", "bytes a token", "predicted tokens/s"].map(str::to_owned);
        out.push_str(&format!("{PREDICTED}\n\n{}\n", markdown_table(&header, &rows, 2)));
    }
    out
}

/// A figure with its interval over blocks.
fn with_blocks(figure: Estimate) -> String {
    if figure.interval.is_some() { with_interval(figure) } else { format!("{} [one block]", short(figure.value)) }
}
