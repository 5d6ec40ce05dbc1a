//! Accuracy against what a token costs: joules where they were measured, else milliseconds.

use super::Plot;
use super::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series};
use super::charts::{colour, subtitle};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind};
use crate::load::RunData;
use crate::tasks;
use suites::cell::Phase;

/// Most panels: a page's height.
const PANELS: usize = 15;

/// What is across.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    Joules,
    Milliseconds,
}

impl Cost {
    fn of(self, cell: &CellSummary) -> Option<f64> {
        match self {
            Cost::Joules => cell
                .metric("joules_per_token")
                .filter(|m| m.kind == Kind::Measured)?
                .figure
                .as_ref()
                .ok()
                .map(|f| f.value),
            Cost::Milliseconds => cell.figure("tokens_per_second").map(|speed| 1e3 / speed.value),
        }
    }
}

/// A panel a task; a point for each cell that decodes and answered it.
pub(crate) fn accuracy(data: &RunData, analysis: &Analysis) -> Option<(Plot, Chart)> {
    let cells: Vec<&CellSummary> = analysis
        .cells
        .iter()
        .filter(|c| c.cell.workload.phase == Phase::Decode && c.metrics.iter().any(|m| m.name.contains(':')))
        .collect();
    let cost = match cells.iter().any(|c| Cost::Joules.of(c).is_some()) {
        true => Cost::Joules,
        false => Cost::Milliseconds,
    };
    let names = tasks::names(data);
    let panels: Vec<Panel> =
        names.into_iter().filter_map(|task| panel(data, analysis, &cells, task, cost)).take(PANELS).collect();
    if panels.is_empty() {
        return None;
    }
    let (title, across) = match cost {
        Cost::Joules => ("Accuracy and energy", "measured joules of a decoded token"),
        Cost::Milliseconds => ("Accuracy and speed", "time of a decoded token; no joules were measured"),
    };
    let caption =
        format!("Left is cheaper ({across}); bars are 95 % intervals over items. Each task has a scale of its own.");
    let plot = Plot { stem: "accuracy", title: title.to_owned(), caption };
    Some((plot, Chart { title: title.to_owned(), subtitle: subtitle(data, "median of processes across"), panels }))
}

fn panel(data: &RunData, analysis: &Analysis, cells: &[&CellSummary], task: &str, cost: Cost) -> Option<Panel> {
    let metric = tasks::headline(data, task)?;
    let name = tasks::metric_name(task, metric);
    let mut series: Vec<Series> = Vec::new();
    for cell in cells {
        let (Some(figure), Some(x)) = (cell.figure(&name), cost.of(cell)) else { continue };
        let label = format!("{}{} on {}", analysis.shown(&cell.cell.engine), variant(&cell.cell), cell.cell.model);
        let label: String = label.chars().filter(|c| !c.is_control()).collect();
        let place = super::charts::point(x, figure, series.len() as u32);
        match series.iter_mut().find(|known| known.name == label) {
            Some(known) => known.points.push(Point { group: known.points.len() as u32 + 1000, ..place }),
            None => {
                let other = series.iter().any(|s| s.colour == colour(analysis, &cell.cell));
                let marker = if other { Marker::Hollow } else { Marker::Filled };
                let colour = colour(analysis, &cell.cell);
                series.push(Series { name: label, colour, dashed: false, marker, points: vec![place] });
            }
        }
    }
    let points = || series.iter().flat_map(|s| &s.points);
    let across = match cost {
        Cost::Joules => "J/token",
        Cost::Milliseconds => "ms/token",
    };
    let x = Axis::fit(across, Scale::Linear, points().map(|p| p.x))?;
    let y = Axis::fit(metric.name(), Scale::Linear, points().flat_map(super::charts::extent))?;
    let title = task.chars().filter(|c| !c.is_control()).take(30).collect();
    Some(Panel { title, x, y, series, mark: None })
}
