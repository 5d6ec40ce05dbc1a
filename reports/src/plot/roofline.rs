//! The roofline: operations a second over operations a byte, under the limits measured on the machine.
//!
//! A token's operations are the multiply-adds of the blocks' linear layers, two each (attention and output head left out); its
//! bytes are what decode reads for it, or in a batch its share of the weights, which are read once for all. Both axes have the
//! same operations, so how far a point lies under a slope is its share of that bandwidth, and under a level of that peak.

use super::Plot;
use super::chart::{Axis, Chart, Marker, NEUTRAL, Note, Panel, Point, Scale, Series, Stroke};
use super::charts::{plain, subtitle};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Status};
use crate::load::RunData;
use crate::text::short;
use std::collections::BTreeMap;
use suites::Catalogue;
use suites::cell::{Cell, Phase};
use suites::model::{MAX_BATCH, ModelSpec};
use suites::record::{Measurement, Record};
use suites::run::{Bandwidth, Limit};

/// Most thread counts: a page's height.
const PANELS: usize = 4;
const READING: &str = "limit of reading";
const COUNTING: &str = "peak of multiply-adds";
const BYTES: &str = "bytes/s";

/// A panel a thread count that has both limits and cells.
pub(crate) fn chart(data: &RunData, analysis: &Analysis) -> Option<(Plot, Chart)> {
    let works = works(data, analysis);
    let mut by_threads: BTreeMap<u32, Vec<&CellSummary>> = BTreeMap::new();
    for cell in analysis.cells.iter().filter(|c| c.status == Status::Ok) {
        by_threads.entry(cell.cell.threads).or_default().push(cell);
    }
    let one = |(threads, cells): (u32, Vec<&CellSummary>)| panel(data, analysis, &works, threads, &cells);
    let panels: Vec<Panel> = by_threads.into_iter().filter_map(one).take(PANELS).collect();
    if panels.is_empty() {
        return None;
    }
    let title = "Roofline by thread count".to_owned();
    let caption = "Operations are the multiply-adds of the blocks' linear layers, two each. A token of decode reads weights and \
        cache for itself alone; in a batch its share of the weights, which are read once. Limits were measured at the start of the \
        run. Below a slope the memory is the limit, below a level the arithmetic; over the slope of DRAM, a cache has helped.";
    let plot = Plot { stem: "roofline", title: title.clone(), caption: caption.to_owned() };
    let subtitle = subtitle(data, "every cell, median of processes, bars are 95 % intervals");
    Some((plot, Chart { title, subtitle, columns: 1, panels }))
}

/// What a token takes.
#[derive(Clone, Copy)]
struct Work {
    operations: f64,
    bytes: f64,
}

/// The work of each cell's token, by its first measured process.
fn works<'a>(data: &'a RunData, analysis: &Analysis) -> BTreeMap<&'a Cell, Work> {
    let catalogue = Catalogue::embedded().ok();
    let mut weights: BTreeMap<&str, f64> = BTreeMap::new();
    for model in &analysis.models {
        // Records before schema 4 do not tell, but shapes do.
        if let Some(Ok(ModelSpec::Synthetic(shape))) = catalogue.as_ref().map(|c| c.model(&model.name)) {
            weights.insert(&model.name, shape.linear_params() as f64);
        }
    }
    let mut works = BTreeMap::new();
    for record in &data.records {
        let Some(m) = record.measurement() else { continue };
        let told = m.footprint.linear_weights.map(|weights| weights as f64);
        let Some(weights) = told.or_else(|| weights.get(record.cell.model.as_str()).copied()) else { continue };
        let work = Work { operations: 2.0 * weights, bytes: bytes(record, m) };
        works.entry(&record.cell).or_insert(work);
    }
    works
}

fn bytes(record: &Record, m: &Measurement) -> f64 {
    let read = m.footprint.read_per_token_bytes as f64;
    match record.cell.workload.phase {
        Phase::Prefill => read / (u64::from(record.cell.workload.tokens).min(MAX_BATCH)) as f64,
        // With the key/value cache, where the record tells it.
        Phase::Decode => m.limit.as_ref().filter(|s| s.of.unit == BYTES).map_or(read, |share| share.per_token as f64),
    }
}

/// The machine's limits at a thread count; before schema 4 the read bandwidth of DRAM alone.
fn limits(data: &RunData, threads: u32) -> Vec<Limit> {
    let machine = &data.run.machine;
    let shown = |l: &&Limit| l.threads == threads && l.per_second.is_some_and(|p| p > 0) && l.name != "l2";
    let found: Vec<Limit> = machine.limits.iter().filter(shown).cloned().collect();
    if !machine.limits.is_empty() {
        return found;
    }
    let dram = |b: &Bandwidth| Limit {
        threads,
        name: "dram".to_owned(),
        unit: BYTES.to_owned(),
        per_second: Some(b.bytes_per_second),
        how: String::new(),
    };
    machine.bandwidth.iter().filter(|b| b.threads == threads && b.bytes_per_second > 0).map(dram).collect()
}

fn panel(
    data: &RunData,
    analysis: &Analysis,
    works: &BTreeMap<&Cell, Work>,
    threads: u32,
    cells: &[&CellSummary],
) -> Option<Panel> {
    let limits = limits(data, threads);
    let mut series: Vec<Series> = Vec::new();
    for cell in cells {
        let (Some(work), Some(speed)) = (works.get(&cell.cell), cell.figure("tokens_per_second")) else { continue };
        let phase = cell.cell.workload.phase;
        let name = format!("{}{}, {}", analysis.shown(&cell.cell.engine), variant(&cell.cell), phase.name());
        let name = plain(&name, usize::MAX);
        let rate = speed.scaled(work.operations);
        let point =
            Point { x: work.operations / work.bytes, y: rate.value, interval: rate.interval, ..Point::default() };
        match series.iter_mut().find(|known| known.name == name) {
            Some(known) => known.points.push(point),
            None => {
                let marker = if phase == Phase::Decode { Marker::Filled } else { Marker::Hollow };
                let colour = analysis.colour(&cell.cell);
                series.push(Series { name, colour, stroke: Stroke::None, marker, points: vec![point] });
            }
        }
    }
    if limits.is_empty() {
        return None;
    }
    let (x, y) = axes(&limits, series.iter().flat_map(|s| &s.points))?;
    let (roofs, notes) = roofs(&limits, &x, &y);
    let title = format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
    Some(Panel { notes, ..Panel::new(title, x, y, roofs.into_iter().chain(series).collect()) })
}

/// Axes around the points that hold every limit too: each level from where the steepest slope meets it, each slope up to the
/// highest level.
fn axes<'a>(limits: &[Limit], points: impl Iterator<Item = &'a Point> + Clone) -> Option<(Axis, Axis)> {
    let of = |bytes: bool| limits.iter().filter(move |l| (l.unit == BYTES) == bytes);
    // Room above the highest level for its name.
    let peaks = of(false).map(|level| figure(level) * 1.3);
    let y = Axis::fit("operations/s", Scale::Log, points.clone().map(|p| p.y).chain(peaks))?;
    let least = points.clone().map(|p| p.x).fold(f64::INFINITY, f64::min);
    let (top, fastest) = (top(limits, &y), fastest(limits));
    let ends = of(true).map(|slope| top / figure(slope));
    let begins = of(false).filter(|_| fastest > 0.0).map(|level| figure(level) / fastest);
    // Room on the left for the names of the slopes, and on the right for levels.
    let across = points.map(|p| p.x).chain([least / 2.0]).chain(ends).chain(begins.map(|at| at * 2.0));
    Some((Axis::fit("operations a byte", Scale::Log, across)?, y))
}

fn figure(limit: &Limit) -> f64 {
    limit.per_second.unwrap_or(0) as f64
}

/// Where slopes end: the highest level, or the upper end of the axis.
fn top(limits: &[Limit], y: &Axis) -> f64 {
    let top = limits.iter().filter(|l| l.unit != BYTES).map(figure).fold(0.0, f64::max);
    if top > 0.0 { top.min(y.high) } else { y.high }
}

/// Bytes a second of the steepest slope; 0 without one.
fn fastest(limits: &[Limit]) -> f64 {
    limits.iter().filter(|l| l.unit == BYTES).map(figure).fold(0.0, f64::max)
}

/// Slopes up to the highest level, levels from where the steepest slope meets them; a name beside each.
fn roofs(limits: &[Limit], x: &Axis, y: &Axis) -> (Vec<Series>, Vec<Note>) {
    let of = |bytes: bool| limits.iter().filter(move |l| (l.unit == BYTES) == bytes);
    let (top, fastest) = (top(limits, y), fastest(limits));
    let line = |name: &str, stroke, points: &[(f64, f64)]| Series {
        name: name.to_owned(),
        colour: NEUTRAL,
        stroke,
        marker: Marker::None,
        points: points.iter().map(|&(x, y)| Point::bare(x, y)).collect(),
    };
    let (mut series, mut notes) = (Vec::new(), Vec::new());
    for limit in of(true) {
        let slope = figure(limit);
        let (from, to) = (x.low.max(y.low / slope), x.high.min(top / slope));
        if from >= to {
            continue;
        }
        let ends = [(from, from * slope), (to, to * slope)];
        series.push(line(READING, Stroke::Solid, &ends));
        let text = format!("{} {} GB/s", limit.name.to_uppercase(), short(slope / 1e9));
        // The name of the steepest slope stands to its left, of the others below, to their right.
        notes.push(Note { line: ends, text, upper: slope >= fastest });
    }
    for limit in of(false) {
        let peak = figure(limit);
        let from = if fastest > 0.0 { (peak / fastest).clamp(x.low, x.high) } else { x.low };
        let ends = [(from, peak), (x.high, peak)];
        series.push(line(COUNTING, Stroke::Dashed, &ends));
        notes.push(Note { line: ends, text: format!("{} {} GOP/s", limit.name, short(peak / 1e9)), upper: true });
    }
    (series, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, unit: &str, per_second: u64) -> Limit {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Limit { threads: 1, name, unit, per_second: Some(per_second), how: String::new() }
    }

    /// At 10 GB/s and 1000 GOP/s the ridge is at 100 operations a byte; the level begins where the faster cache meets it.
    #[test]
    fn slopes_end_where_levels_begin() {
        let limits = [
            limit("dram", BYTES, 10_000_000_000),
            limit("l3", BYTES, 50_000_000_000),
            limit("int8", "operations/s", 1_000_000_000_000),
        ];
        let axis = |low: f64, high: f64| Axis::fit("", Scale::Log, [low, high].into_iter()).unwrap();
        let (roofs, notes) = roofs(&limits, &axis(0.25, 4000.0), &axis(1e9, 1e12));
        let ends: Vec<(f64, f64)> = roofs.iter().map(|s| (s.points[0].x, s.points[1].x)).collect();
        assert_eq!((ends[0].1, ends[1].1, ends[2].0), (100.0, 20.0, 20.0));
        assert!(roofs[..2].iter().all(|s| (s.points[1].y / 1e12 - 1.0).abs() < 1e-9), "{roofs:?}");
        let said: Vec<&str> = notes.iter().map(|n| n.text.as_str()).collect();
        assert_eq!(said, ["DRAM 10.0 GB/s", "L3 50.0 GB/s", "int8 1000 GOP/s"]);
    }

    /// Decode alone lies far to the left of where the highest level begins.
    #[test]
    fn every_limit_has_a_line_and_its_name_beside_it() {
        let limits = [
            limit("dram", BYTES, 16_100_000_000),
            limit("l3", BYTES, 16_900_000_000),
            limit("int8", "operations/s", 914_000_000_000),
            limit("f32", "operations/s", 234_000_000_000),
            limit("bf16", "operations/s", 117_000_000_000),
        ];
        for limits in [&limits[..], &limits[..2], &limits[2..]] {
            let points = [Point::bare(3.6, 55e9), Point::bare(8.6, 119e9)];
            let (x, y) = axes(limits, points.iter()).unwrap();
            let (roofs, notes) = roofs(limits, &x, &y);
            assert_eq!((roofs.len(), notes.len()), (limits.len(), limits.len()), "a line and a name each");
            for (roof, note) in roofs.iter().zip(&notes) {
                let place = |p: &Point| Some((x.place(p.x)?, y.place(p.y)?));
                let ends: Vec<(f64, f64)> = roof.points.iter().filter_map(place).collect();
                assert_eq!(ends.len(), 2, "{}: its ends are in the picture", note.text);
                assert!(ends[1].0 - ends[0].0 > 0.05, "{}: {ends:?}", note.text);
                assert_eq!(note.line, [0, 1].map(|i| (roof.points[i].x, roof.points[i].y)));
            }
        }
    }
}
