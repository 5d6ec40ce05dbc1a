//! Charts with the model's size across: speed, speed-up, memory, energy.

use super::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series, Stroke};
use super::{Plot, bars, fits, grids, published, roofline, tasks};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind};
use crate::load::RunData;
use crate::stats::Estimate;
use std::collections::BTreeSet;
use suites::cell::{Phase, Workload};

/// Names of the files of a phase's charts.
struct Stems {
    speed: &'static str,
    speedup: &'static str,
    threads: &'static str,
    energy: [&'static str; 2],
    joules: [&'static str; 2],
}

const DECODE: Stems = Stems {
    speed: "decode-speed",
    speedup: "decode-speedup",
    threads: "decode-threads",
    energy: ["decode-energy", "decode-energy-modelled"],
    joules: ["decode-joules", "decode-joules-modelled"],
};
const PREFILL: Stems = Stems {
    speed: "prefill-speed",
    speedup: "prefill-speedup",
    threads: "prefill-threads",
    energy: ["prefill-energy", "prefill-energy-modelled"],
    joules: ["prefill-joules", "prefill-joules-modelled"],
};

/// Every chart that has something to show.
pub(crate) fn all(data: &RunData, analysis: &Analysis) -> Vec<(Plot, Chart)> {
    let mut out = Vec::new();
    for (phase, name, stems) in [(Phase::Decode, "Decode", DECODE), (Phase::Prefill, "Prefill", PREFILL)] {
        let Some(workload) = analysis.main_workload(phase) else { continue };
        let one = Figure { data, analysis, workload, only: None };
        let (speed, speedup) = (format!("{name} speed by model size"), format!("{name} speed-up by model size"));
        out.extend(one.by_size(stems.speed, &speed, "tokens/s", Scale::Log, &["tokens_per_second"], 1.0));
        let times = "times the baseline's tokens/s";
        out.extend(one.by_size(stems.speedup, &speedup, times, Scale::Linear, &["speedup"], 1.0));
        out.extend(grids::threads(data, analysis, workload, stems.threads, &format!("{name} speed by thread count")));
        out.extend(one.energy(stems.energy, name));
        out.extend(bars::joules(data, analysis, workload, stems.joules, name));
        if phase == Phase::Decode {
            out.extend(published::charts(data, analysis, workload));
            out.extend(fits::chart(data, analysis, workload));
            out.extend(grids::latency(data, analysis, workload));
            let gib = 1.0 / f64::from(1u32 << 30);
            let metrics = ["peak_rss_bytes", "weights_bytes"];
            out.extend(one.by_size("memory", "Memory by model size", "GiB", Scale::Log, &metrics, gib));
        }
    }
    out.extend(roofline::chart(data, analysis));
    out.extend(bars::stages(data, analysis));
    out.extend(grids::depth(data, analysis));
    out.extend(tasks::accuracy(data, analysis));
    out
}

/// The line under a title: what was run, on what.
pub(crate) fn subtitle(data: &RunData, what: &str) -> String {
    let cpu: String = data.run.machine.cpu.chars().filter(|c| !c.is_control()).take(60).collect();
    format!("{what} · {cpu}")
}

/// What a chart by size is drawn from.
struct Figure<'a> {
    data: &'a RunData,
    analysis: &'a Analysis,
    workload: Workload,
    /// The kind of figure that is drawn; any, if `None`.
    only: Option<Kind>,
}

impl Figure<'_> {
    /// Joules a token: the measured ones, or, where there are none, the modelled ones in a chart that says so in its name,
    /// its title, its axis and its legend. Never both in one chart.
    fn energy(&self, [measured, modelled]: [&'static str; 2], name: &str) -> Option<(Plot, Chart)> {
        let (title, joules) = (format!("{name} energy by model size"), ["joules_per_token"]);
        let of = |kind| Figure { only: Some(kind), ..*self };
        if let Some((mut plot, chart)) =
            of(Kind::Measured).by_size(measured, &title, "J/token", Scale::Log, &joules, 1.0)
        {
            let modelled = |c: &CellSummary| c.metric(joules[0]).is_some_and(|m| m.kind == Kind::Modelled);
            if self.analysis.measured(self.workload).any(modelled) {
                plot.caption.push_str(" Cells whose joules are modelled alone are left out.");
            }
            return Some((plot, chart));
        }
        let (title, unit) = (format!("{title}, modelled"), "J/token, modelled, not measured");
        let (mut plot, chart) = of(Kind::Modelled).by_size(modelled, &title, unit, Scale::Log, &joules, 1.0)?;
        plot.caption.insert_str(0, "Modelled, not measured. ");
        Some((plot, chart))
    }

    /// One line for each engine, variant, thread count and metric.
    fn by_size(
        &self,
        stem: &'static str,
        title: &str,
        unit: &str,
        scale: Scale,
        metrics: &[&'static str],
        factor: f64,
    ) -> Option<(Plot, Chart)> {
        let memory = stem == "memory";
        let mut series: Vec<Series> = Vec::new();
        let (least, most) = self.threads(memory);
        for cell in self.analysis.measured(self.workload) {
            if cell.cell.threads != least && cell.cell.threads != most {
                continue;
            }
            for &metric in metrics {
                let Some((x, group)) = self.place(cell) else { continue };
                let Some(found) = cell.metric(metric) else { continue };
                let (Ok(figure), true) = (&found.figure, self.only.is_none_or(|kind| kind == found.kind)) else {
                    continue;
                };
                let name = self.series_name(cell, metric, metrics.len() > 1, memory);
                let light = if memory { metric == "weights_bytes" } else { cell.cell.threads != most };
                let model = Some(cell.cell.model.clone());
                let point = Point { model, ..point(x, figure.scaled(factor), group) };
                match series.iter_mut().find(|s| s.name == name) {
                    Some(known) => known.points.push(point),
                    None => series.push(self.new_series(name, cell, light, point)),
                }
            }
        }
        if series.is_empty() {
            return None;
        }
        let x = self.size_axis(&series)?;
        let mark = (stem.ends_with("speedup")).then_some(1.0);
        let extents = series.iter().flat_map(|s| &s.points).flat_map(extent).chain(mark);
        let y = Axis::fit(unit, scale, extents)?;
        let (chart_title, what) = match memory {
            true => (title.to_owned(), format!("{}, {most} threads", self.workload)),
            false => (title.to_owned(), format!("{}, median of processes, bars are 95 % intervals", self.workload)),
        };
        let caption = match memory {
            true => "Peak resident memory of the worker and its packed weights.",
            false => "Lines join models of one family of shapes; others stand alone. Bars are 95 % intervals.",
        };
        let panel = Panel { mark, ..Panel::new(String::new(), x, y, series) };
        let subtitle = subtitle(self.data, &what);
        let chart = Chart { title: chart_title, subtitle, columns: 3, panels: vec![panel] };
        Some((Plot { stem, title: title.to_owned(), caption: caption.to_owned() }, chart))
    }

    /// Thread counts drawn: the least and the most, or the most alone.
    fn threads(&self, only_most: bool) -> (u32, u32) {
        let mut all: Vec<u32> = self.analysis.measured(self.workload).map(|c| c.cell.threads).collect();
        all.sort_unstable();
        let most = all.last().copied().unwrap_or(0);
        let least = if only_most { most } else { all.first().copied().unwrap_or(0) };
        (least, most)
    }

    fn series_name(&self, cell: &CellSummary, metric: &str, several: bool, memory: bool) -> String {
        let mut name = format!("{}{}", self.analysis.shown(&cell.cell.engine), variant(&cell.cell));
        if metric == "speedup"
            && let Some((_, baseline)) = self.analysis.pairs.iter().find(|(c, _)| *c == cell.cell.engine)
        {
            name = format!("{name} / {baseline}");
        }
        if several {
            name.push_str(if metric == "weights_bytes" { ", weights" } else { ", peak RSS" });
        }
        if !memory {
            let plural = if cell.cell.threads == 1 { "" } else { "s" };
            name.push_str(&format!(", {} thread{plural}", cell.cell.threads));
        }
        if metric == "joules_per_token" && cell.metric(metric).is_some_and(|m| m.kind == Kind::Modelled) {
            name.push_str(" (modelled)");
        }
        plain(&name, usize::MAX)
    }

    fn new_series(&self, name: String, cell: &CellSummary, light: bool, first: Point) -> Series {
        let colour = self.analysis.colour(&cell.cell);
        let (stroke, marker) = if light { (Stroke::Dashed, Marker::Hollow) } else { (Stroke::Solid, Marker::Filled) };
        Series { name, colour, stroke, marker, points: vec![first] }
    }

    /// Parameters, and a number that models of one family share.
    fn place(&self, cell: &CellSummary) -> Option<(f64, u32)> {
        self.analysis.place(&cell.cell.model)
    }

    fn size_axis(&self, series: &[Series]) -> Option<Axis> {
        size_axis(self.analysis, series.iter().flat_map(|s| &s.points).map(|p| p.x))
    }
}

/// An axis of parameters whose ticks are the models of the values.
pub(crate) fn size_axis(analysis: &Analysis, values: impl Iterator<Item = f64>) -> Option<Axis> {
    let xs: Vec<f64> = values.collect();
    let mut axis = Axis::fit("model, placed by its parameters (log scale)", Scale::Log, xs.iter().copied())?;
    let there: BTreeSet<u64> = xs.iter().map(|x| x.to_bits()).collect();
    let shown = analysis.models.iter().filter(|m| m.params.is_some_and(|p| there.contains(&p.to_bits())));
    axis.ticks = shown.filter_map(|m| Some((m.params?, plain(&m.name, 20)))).collect();
    Some(axis)
}

/// At most `most` letters of a text, without control characters.
pub(crate) fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

/// A point with its interval.
pub(crate) fn point(x: f64, figure: Estimate, group: u32) -> Point {
    Point { x, y: figure.value, interval: figure.interval, group, model: None, n: Some(figure.n) }
}

/// The values an axis must hold to show a point.
pub(crate) fn extent(point: &Point) -> impl Iterator<Item = f64> + use<> {
    let (low, high) = point.interval.unwrap_or((point.y, point.y));
    [point.y, low, high].into_iter()
}
