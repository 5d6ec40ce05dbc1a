//! Charts with the model's size across: speed, speed-up, memory, energy.

use super::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series};
use super::{Plot, grids, tasks};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind};
use crate::load::RunData;
use crate::stats::Estimate;
use suites::cell::{Cell, Phase, Workload};

/// Every chart that has something to show.
pub(crate) fn all(data: &RunData, analysis: &Analysis) -> Vec<(Plot, Chart)> {
    let mut out = Vec::new();
    let stems = [
        (
            Phase::Decode,
            ["decode-speed", "decode-speedup", "decode-threads"],
            ["decode-energy", "decode-energy-modelled"],
        ),
        (
            Phase::Prefill,
            ["prefill-speed", "prefill-speedup", "prefill-threads"],
            ["prefill-energy", "prefill-energy-modelled"],
        ),
    ];
    for (phase, [speed, speedup, threads], energy) in stems {
        let Some(workload) = analysis.main_workload(phase) else { continue };
        let name = if phase == Phase::Decode { "Decode" } else { "Prefill" };
        let one = Figure { data, analysis, workload, only: None };
        out.extend(one.by_size(
            speed,
            &format!("{name} speed by model size"),
            "tokens/s",
            Scale::Log,
            &["tokens_per_second"],
            1.0,
        ));
        out.extend(one.by_size(
            speedup,
            &format!("{name} speed-up by model size"),
            "times the baseline's tokens/s",
            Scale::Linear,
            &["speedup"],
            1.0,
        ));
        out.extend(grids::threads(data, analysis, workload, threads, &format!("{name} speed by thread count")));
        out.extend(one.energy(energy, name));
        if phase == Phase::Decode {
            out.extend(grids::latency(data, analysis, workload));
            let gib = 1.0 / f64::from(1u32 << 30);
            out.extend(one.by_size(
                "memory",
                "Memory by model size",
                "GiB",
                Scale::Log,
                &["peak_rss_bytes", "weights_bytes"],
                gib,
            ));
        }
    }
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
        let panel = Panel { title: String::new(), x, y, series, mark };
        let chart = Chart { title: chart_title, subtitle: subtitle(self.data, &what), panels: vec![panel] };
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
        name.chars().filter(|c| !c.is_control()).collect()
    }

    fn new_series(&self, name: String, cell: &CellSummary, light: bool, first: Point) -> Series {
        let colour = colour(self.analysis, &cell.cell);
        let marker = if light { Marker::Hollow } else { Marker::Filled };
        Series { name, colour, dashed: light, marker, points: vec![first] }
    }

    /// Parameters, and a number that models of one family share.
    fn place(&self, cell: &CellSummary) -> Option<(f64, u32)> {
        let models = &self.analysis.models;
        let own = models.iter().position(|m| m.name == cell.cell.model)?;
        let family = models[own].family.as_ref();
        let first = family.and_then(|f| models.iter().position(|m| m.family.as_ref() == Some(f)));
        Some((models[own].params?, first.unwrap_or(own) as u32))
    }

    fn size_axis(&self, series: &[Series]) -> Option<Axis> {
        let xs: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.x).collect();
        let mut axis = Axis::fit("model, placed by its parameters (log scale)", Scale::Log, xs.iter().copied())?;
        let shown = self.analysis.models.iter().filter(|m| m.params.is_some_and(|p| xs.contains(&p)));
        let label = |name: &str| name.chars().filter(|c| !c.is_control()).take(20).collect();
        axis.ticks = shown.filter_map(|m| Some((m.params?, label(&m.name)))).collect();
        Some(axis)
    }
}

/// The colour of a cell's engine and variant: their place among those of the run.
pub(crate) fn colour(analysis: &Analysis, cell: &Cell) -> usize {
    let mut looks: Vec<(&str, String)> = Vec::new();
    for engine in &analysis.engines {
        for other in analysis.cells.iter().map(|c| &c.cell).filter(|c| c.engine == *engine) {
            let look = (engine.as_str(), variant(other));
            if !looks.contains(&look) {
                looks.push(look);
            }
        }
    }
    let own = (cell.engine.as_str(), variant(cell));
    looks.iter().position(|look| *look == own).unwrap_or(0)
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
