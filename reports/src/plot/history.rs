//! The same cells over several runs in time: a line a cell. Nothing is averaged over runs; machines have panels of their own, and
//! no line goes on where the program was built otherwise or the model is another.

use super::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain, point};
use super::draw_file;
use crate::analysis::{Analysis, variant};
use crate::cells::CellSummary;
use crate::class::{self, BuildClass, MachineClass};
use crate::error::Error;
use crate::load::RunData;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use suites::cell::{Cell, Phase, Workload};
use suites::run::Run;

/// Most panels: a page's height.
pub(super) const PANELS: usize = 15;
/// Most ticks of the axis of time: what a panel's width has room for.
const TICKS: usize = 5;
/// Most characters of a machine's name: what a panel's title has room for beside its model, where machines have panels of their own.
pub(super) const MACHINE: usize = 48;
/// Most characters of a panel's title, where panels stand beside each other.
pub(super) const TITLE: usize = 48;
/// The same where each is as wide as the picture.
pub(super) const WIDE_TITLE: usize = 84;

/// Draws `history-decode` and `history-prefill` (SVG and PNG) of several runs of one suite into `dir`, which is made: tokens/s of
/// each cell at the least and the most threads, run after run in the order of their beginnings.
///
/// # Errors
/// [`Error::Mixed`] with fewer than two runs, runs of different suites, the same run twice; files that can't be written.
pub fn history(runs: &[RunData], dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let runs = in_time(runs)?;
    let analyses: Vec<Analysis> = runs.iter().map(|run| Analysis::new(run)).collect();
    let fail = |path: &Path, message: String| Error::Write { path: path.to_owned(), message };
    std::fs::create_dir_all(dir).map_err(|e| fail(dir, e.to_string()))?;
    let mut written = Vec::new();
    for (phase, stem) in [(Phase::Decode, "history-decode"), (Phase::Prefill, "history-prefill")] {
        let Some(chart) = chart(&runs, &analyses, phase) else { continue };
        for extension in ["svg", "png"] {
            let path = dir.join(format!("{stem}.{extension}"));
            draw_file(&chart, &path, extension).map_err(|e| fail(&path, e))?;
            written.push(path);
        }
    }
    Ok(written)
}

/// The runs by their beginnings, if one chart can hold them.
fn in_time(runs: &[RunData]) -> Result<Vec<&RunData>, Error> {
    let mut runs: Vec<&RunData> = runs.iter().collect();
    runs.sort_by(|a, b| (&a.run.started, &a.run.name).cmp(&(&b.run.started, &b.run.name)));
    let (Some(first), 2..) = (runs.first(), runs.len()) else {
        return Err(Error::Mixed(format!("a history takes two runs or more, found {}", runs.len())));
    };
    if let Some(other) = runs.iter().find(|run| run.run.suite != first.run.suite) {
        let (one, two) = (&first.run, &other.run);
        let message =
            format!("a history is of one suite: {} is of `{}`, {} of `{}`", one.name, one.suite, two.name, two.suite);
        return Err(Error::Mixed(message));
    }
    let same = |pair: &&[&RunData]| pair[0].run.started == pair[1].run.started && pair[0].run.name == pair[1].run.name;
    match runs.windows(2).find(same) {
        Some(pair) => Err(Error::Mixed(format!("{} is given twice", pair[0].run.name))),
        None => Ok(runs),
    }
}

/// What must be the same for a line to go on from one run to the next: build, suite and model.
fn thread_of_history(run: &Run, cell: &Cell) -> (BuildClass, String, String) {
    let digest = run.models.iter().find(|m| m.name == cell.model).map_or("", |m| m.digest.as_str());
    (BuildClass::from(run), run.suite_digest.clone(), digest.to_owned())
}

/// One panel's series, by name.
#[derive(Default)]
struct Lines {
    series: Vec<Series>,
    /// Number of each thread of history.
    groups: BTreeMap<(BuildClass, String, String), u32>,
}

fn chart(runs: &[&RunData], analyses: &[Analysis], phase: Phase) -> Option<Chart> {
    let workload = analyses.iter().rev().find_map(|a| a.main_workload(phase))?;
    let classes: Vec<MachineClass> = runs.iter().map(|run| MachineClass::from(&run.run.machine)).collect();
    let machines = class::names(classes.iter(), MACHINE);
    let mut panels: BTreeMap<(usize, usize), Lines> = BTreeMap::new();
    let mut models: Vec<String> = Vec::new();
    let mut looks: Vec<(String, String)> = Vec::new();
    for (at, (data, analysis)) in runs.iter().zip(analyses).enumerate() {
        let machine = machines.iter().position(|(known, _)| known.differs(&classes[at]).is_empty()).unwrap_or(0);
        for cell in at_ends(analysis, workload) {
            let Some(figure) = cell.figure("tokens_per_second") else { continue };
            let model = place(&mut models, cell.cell.model.clone());
            let look = place(&mut looks, (cell.cell.engine.clone(), variant(&cell.cell)));
            let lines = panels.entry((machine, model)).or_default();
            let next = lines.groups.len() as u32;
            let group = *lines.groups.entry(thread_of_history(&data.run, &cell.cell)).or_insert(next);
            add(&mut lines.series, analysis, cell, look, point(at as f64, figure, group));
        }
    }
    let several = machines.len() > 1;
    let one = |((machine, model), lines): (&(usize, usize), Lines)| {
        let title =
            if several { format!("{}: {}", models[*model], machines[*machine].1) } else { models[*model].clone() };
        panel(plain(&title, if several { WIDE_TITLE } else { TITLE }), runs, lines.series)
    };
    let keys: Vec<(usize, usize)> = panels.keys().cloned().collect();
    let panels: Vec<Panel> = keys.iter().zip(panels.into_values()).filter_map(one).take(PANELS).collect();
    let suite = &runs.first()?.run.suite;
    let name = if phase == Phase::Decode { "Decode" } else { "Prefill" };
    let machine = if several { String::new() } else { format!(" · {}", machines.first()?.1) };
    let subtitle = format!("{suite}, {workload}, a point a run, bars are 95 % intervals{machine}");
    (!panels.is_empty()).then(|| Chart {
        title: format!("{name} speed over runs"),
        subtitle,
        columns: if several { 1 } else { 3 },
        panels,
    })
}

/// Cells measured at the least and the most threads.
fn at_ends(analysis: &Analysis, workload: Workload) -> impl Iterator<Item = &CellSummary> {
    let threads = || analysis.measured(workload).map(|c| c.cell.threads);
    let ends = [threads().min(), threads().max()];
    analysis.measured(workload).filter(move |c| ends.contains(&Some(c.cell.threads)))
}

/// The place of an item in a list, at whose end it is put if it is new.
pub(super) fn place<T: PartialEq>(all: &mut Vec<T>, item: T) -> usize {
    all.iter().position(|known| *known == item).unwrap_or_else(|| {
        all.push(item);
        all.len() - 1
    })
}

fn add(series: &mut Vec<Series>, analysis: &Analysis, cell: &CellSummary, colour: usize, point: Point) {
    let threads = cell.cell.threads;
    let plural = if threads == 1 { "" } else { "s" };
    let name = format!("{}{}, {threads} thread{plural}", analysis.shown(&cell.cell.engine), variant(&cell.cell));
    let name = plain(&name, usize::MAX);
    match series.iter_mut().find(|known| known.name == name) {
        Some(known) => known.points.push(point),
        None => {
            let most = analysis.measured(cell.cell.workload).map(|c| c.cell.threads).max();
            let light = most != Some(threads);
            let (stroke, marker) =
                if light { (Stroke::Dashed, Marker::Hollow) } else { (Stroke::Solid, Marker::Filled) };
            series.push(Series { name, colour, stroke, marker, points: vec![point] });
        }
    }
}

fn panel(title: String, runs: &[&RunData], series: Vec<Series>) -> Option<Panel> {
    let y = Axis::fit("tokens/s", Scale::Linear, series.iter().flat_map(|s| &s.points).flat_map(extent))?;
    let begun: Vec<&str> = runs.iter().map(|run| run.run.started.as_str()).collect();
    let x = time(&begun);
    Some(Panel::new(title, x, y, series))
}

/// The axis of runs, a place each, by when they began.
pub(super) fn time(begun: &[&str]) -> Axis {
    // `2026-11-24T20:28:56Z` as `11-24 20:28`.
    let date = |begun: &&str| plain(&begun.get(5..16).unwrap_or(begun).replace('T', " "), 16);
    let names: Vec<String> = begun.iter().map(date).collect();
    let mut x = Axis::named(&names);
    let stride = names.len().div_ceil(TICKS).max(1);
    x.ticks = x.ticks.into_iter().step_by(stride).collect();
    x.label = "begun, UTC".to_owned();
    x
}
