//! Charts with a panel a model: thread scaling, latency distribution, context depth.

use super::Plot;
use super::chart::{Axis, Chart, Marker, NEUTRAL, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain, point, subtitle};
use crate::analysis::{Analysis, variant};
use crate::cells::CellSummary;
use crate::load::RunData;
use std::collections::BTreeMap;
use suites::cell::{Phase, Workload};

/// Most panels of a chart: a page's height.
const PANELS: usize = 15;
/// Most points of a distribution's line: more than its pixels can show.
const CURVE_POINTS: usize = 400;

/// A line with the panel it belongs to.
struct Line<'a> {
    cell: &'a CellSummary,
    points: Vec<Point>,
}

/// Builds a panel a model from lines; the y axis starts at 0, the x axis is logarithmic where its ticks are given.
fn grid(
    analysis: &Analysis,
    lines: &[Line<'_>],
    labels: [&str; 2],
    x_ticks: Option<&[f64]>,
    marker: Marker,
) -> Vec<Panel> {
    let mut panels = Vec::new();
    for model in analysis.models.iter().take(PANELS) {
        let mut series: Vec<Series> = Vec::new();
        for line in lines.iter().filter(|l| l.cell.cell.model == model.name && !l.points.is_empty()) {
            let engine = &line.cell.cell.engine;
            let name = format!("{}{}", analysis.shown(engine), variant(&line.cell.cell));
            let name = plain(&name, usize::MAX);
            let colour = analysis.colour(&line.cell.cell);
            match series.iter_mut().find(|s| s.name == name) {
                Some(known) => known.points.extend(line.points.iter().cloned()),
                None => {
                    let stroke = if colour % 2 == 1 { Stroke::Dashed } else { Stroke::Solid };
                    series.push(Series { name, colour, stroke, marker, points: line.points.clone() });
                }
            }
        }
        let all = || series.iter().flat_map(|s| &s.points);
        let x = Axis::fit(labels[0], if x_ticks.is_some() { Scale::Log } else { Scale::Linear }, all().map(|p| p.x));
        let y = Axis::fit(labels[1], Scale::Linear, all().flat_map(extent));
        let (Some(mut x), Some(y)) = (x, y) else { continue };
        if let Some(ticks) = x_ticks {
            x.ticks = ticks.iter().filter(|t| x.place(**t).is_some()).map(|t| (*t, format!("{t:.0}"))).collect();
        }
        panels.push(Panel::new(plain(&model.name, 30), x, y, series));
    }
    panels
}

fn finish(
    data: &RunData,
    stem: &'static str,
    title: &str,
    what: &str,
    caption: &str,
    panels: Vec<Panel>,
) -> Option<(Plot, Chart)> {
    if panels.is_empty() {
        return None;
    }
    let plot = Plot { stem, title: title.to_owned(), caption: caption.to_owned() };
    Some((plot, Chart { title: title.to_owned(), subtitle: subtitle(data, what), columns: 3, panels }))
}

fn distinct(values: impl Iterator<Item = u32>) -> Vec<f64> {
    let mut all: Vec<u32> = values.collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(f64::from).collect()
}

/// Tokens/s over threads, where more than one count was measured.
pub(crate) fn threads(
    data: &RunData,
    analysis: &Analysis,
    workload: Workload,
    stem: &'static str,
    title: &str,
) -> Option<(Plot, Chart)> {
    let ticks = distinct(analysis.measured(workload).map(|c| c.cell.threads));
    if ticks.len() < 2 {
        return None;
    }
    let line = |cell| speed_line(cell, |c| f64::from(c.cell.threads));
    let lines: Vec<Line<'_>> = analysis.measured(workload).filter_map(line).collect();
    let panels = grid(analysis, &lines, ["threads", "tokens/s"], Some(&ticks), Marker::Filled);
    let what = format!("{workload}, median of processes, bars are 95 % intervals");
    finish(data, stem, title, &what, "Each panel has a scale of its own, from 0.", panels)
}

fn speed_line(cell: &CellSummary, x: impl Fn(&CellSummary) -> f64) -> Option<Line<'_>> {
    let figure = cell.figure("tokens_per_second")?;
    Some(Line { cell, points: vec![point(x(cell), figure, 0)] })
}

/// Quantiles marked on a latency's line, and their marks.
const MARKED: [(f64, &str, Marker); 3] =
    [(0.5, "p50", Marker::Filled), (0.95, "p95", Marker::Hollow), (0.99, "p99", Marker::Diamond)];

/// Share of tokens within a latency, at the most threads.
pub(crate) fn latency(data: &RunData, analysis: &Analysis, workload: Workload) -> Option<(Plot, Chart)> {
    let most = analysis.measured(workload).map(|c| c.cell.threads).max()?;
    let told = |c: &&CellSummary| c.cell.threads == most && !c.latencies_ns.is_empty();
    let mut by_model: BTreeMap<&str, Vec<&CellSummary>> = BTreeMap::new();
    for cell in analysis.measured(workload).filter(told) {
        by_model.entry(&cell.cell.model).or_default().push(cell);
    }
    let shown = analysis.models.iter().filter_map(|m| by_model.get(m.name.as_str())).take(PANELS);
    let cells: Vec<&CellSummary> = shown.flatten().copied().collect();
    let line = |cell| Line { cell, points: distribution(&cell.latencies_ns) };
    let lines: Vec<Line<'_>> = cells.iter().map(|cell| line(*cell)).collect();
    let labels = ["latency of one token, ms", "% of tokens within"];
    let mut panels = grid(analysis, &lines, labels, None, Marker::None);
    for panel in &mut panels {
        let own = cells.iter().filter(|c| plain(&c.cell.model, 30) == panel.title);
        panel.series.extend(marks(own.map(|c| c.latencies_ns.as_slice())));
    }
    let what = format!("{workload}, {most} threads, every token of every process");
    let caption =
        "Left is faster; a steep line is steady. Marked on each line: the median, 95 % and 99 % of the tokens.";
    finish(data, "latency", "Latency of decoded tokens", &what, caption, panels)
}

/// A series for each of [`MARKED`], with a point on the line of each of `latencies` (ascending).
fn marks<'a>(latencies: impl Iterator<Item = &'a [u64]> + Clone) -> impl Iterator<Item = Series> {
    MARKED.into_iter().map(move |(q, name, marker)| {
        let last = |ns: &[u64]| ns.len() - 1;
        // The least latency that a share `q` of the tokens lies within: a point of the line itself.
        let at = |ns: &[u64]| ns[((ns.len() as f64 * q).ceil() as usize).clamp(1, last(ns) + 1) - 1];
        let points = latencies.clone().map(|ns| Point::bare(at(ns) as f64 / 1e6, q * 100.0)).collect();
        Series { name: name.to_owned(), colour: NEUTRAL, stroke: Stroke::None, marker, points }
    })
}

/// The cumulative distribution in percent, thinned to [`CURVE_POINTS`].
fn distribution(ascending: &[u64]) -> Vec<Point> {
    let n = ascending.len();
    let stride = n.div_ceil(CURVE_POINTS).max(1);
    let at =
        |i: usize| Point { x: ascending[i] as f64 / 1e6, y: (i + 1) as f64 * 100.0 / n as f64, ..Point::default() };
    let mut points: Vec<Point> = (0..n).step_by(stride).map(at).collect();
    if n > 0 && !(n - 1).is_multiple_of(stride) {
        points.push(at(n - 1));
    }
    points
}

/// Tokens/s over the depth of the context, where decode was measured at more than one.
pub(crate) fn depth(data: &RunData, analysis: &Analysis) -> Option<(Plot, Chart)> {
    let cells = || analysis.workloads().into_iter().filter(|w| w.phase == Phase::Decode && w.depth.is_some());
    let ticks = distinct(cells().map(|w| w.depth()));
    if ticks.len() < 2 {
        return None;
    }
    let measured: Vec<&CellSummary> = cells().flat_map(|w| analysis.measured(w)).collect();
    let most = measured.iter().map(|c| c.cell.threads).max()?;
    let at_most = measured.into_iter().filter(|c| c.cell.threads == most);
    let lines: Vec<Line<'_>> = at_most.filter_map(|c| speed_line(c, |c| f64::from(c.cell.workload.depth()))).collect();
    let panels = grid(analysis, &lines, ["tokens in the cache before", "tokens/s"], None, Marker::Filled);
    let what = format!("decode at {most} threads, median of processes, bars are 95 % intervals");
    finish(data, "depth", "Decode speed by context depth", &what, "How speed falls as the context grows.", panels)
}
