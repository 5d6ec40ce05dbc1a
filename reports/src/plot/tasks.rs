//! Accuracy against what a token costs: milliseconds, and joules in charts of their own, measured or modelled.

use super::Plot;
use super::chart::{Axis, Chart, Marker, Note, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain, point, subtitle};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind};
use crate::load::RunData;
use crate::tasks;
use suites::cell::Phase;

/// Most panels: a page's height.
const PANELS: usize = 15;

/// How many times the least cost the most is from which on the axis is logarithmic.
const WIDE: f64 = 8.0;

/// What is across.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    Milliseconds,
    Joules(Kind),
}

impl Cost {
    fn of(self, cell: &CellSummary) -> Option<f64> {
        match self {
            Cost::Joules(kind) => {
                let metric = cell.metric("joules_per_token").filter(|m| m.kind == kind)?;
                metric.figure.as_ref().ok().map(|f| f.value)
            }
            Cost::Milliseconds => cell.figure("tokens_per_second").map(|speed| 1e3 / speed.value),
        }
    }

    /// File, title, axis, and what is across in words.
    fn words(self) -> [&'static str; 4] {
        match self {
            Cost::Milliseconds => ["accuracy", "Accuracy and speed", "ms/token", "time of a decoded token"],
            Cost::Joules(Kind::Modelled) => [
                "accuracy-energy-modelled",
                "Accuracy and energy, modelled",
                "J/token, modelled, not measured",
                "modelled joules of a decoded token",
            ],
            Cost::Joules(_) => {
                ["accuracy-energy", "Accuracy and energy", "J/token", "measured joules of a decoded token"]
            }
        }
    }
}

/// A panel a task; a point for each engine and model that answered it, at the most threads. Modelled joules have a chart only
/// where none were measured.
pub(crate) fn accuracy(data: &RunData, analysis: &Analysis) -> Vec<(Plot, Chart)> {
    let answered =
        |c: &&CellSummary| c.cell.workload.phase == Phase::Decode && c.metrics.iter().any(|m| m.name.contains(':'));
    let most = analysis.cells.iter().filter(answered).map(|c| c.cell.threads).max();
    // Answers do not change with threads: one cell of each engine and model is enough.
    let at_most = |c: &&CellSummary| Some(c.cell.threads) == most;
    let cells: Vec<&CellSummary> = analysis.cells.iter().filter(answered).filter(at_most).collect();
    let one = |cost| chart(data, analysis, &cells, cost);
    let energy = one(Cost::Joules(Kind::Measured)).or_else(|| one(Cost::Joules(Kind::Modelled)));
    one(Cost::Milliseconds).into_iter().chain(energy).collect()
}

fn chart(data: &RunData, analysis: &Analysis, cells: &[&CellSummary], cost: Cost) -> Option<(Plot, Chart)> {
    let names = tasks::names(data);
    let panels: Vec<Panel> =
        names.into_iter().filter_map(|task| panel(data, analysis, cells, task, cost)).take(PANELS).collect();
    if panels.is_empty() {
        return None;
    }
    let [stem, title, _, across] = cost.words();
    let caption = format!(
        "Left is cheaper ({across}); bars are 95 % intervals over items. Each task has a scale of its own, not from 0."
    );
    let plot = Plot { stem, title: title.to_owned(), caption };
    let subtitle = subtitle(data, "a point an engine and model; median of processes across");
    Some((plot, Chart { title: title.to_owned(), subtitle, columns: 3, panels }))
}

fn panel(data: &RunData, analysis: &Analysis, cells: &[&CellSummary], task: &str, cost: Cost) -> Option<Panel> {
    let metric = tasks::headline(data, task)?;
    let name = tasks::metric_name(task, metric);
    let (mut series, mut notes): (Vec<Series>, Vec<Note>) = (Vec::new(), Vec::new());
    for cell in cells {
        let (Some(figure), Some(x)) = (cell.figure(&name), cost.of(cell)) else { continue };
        let engine = plain(&format!("{}{}", analysis.shown(&cell.cell.engine), variant(&cell.cell)), usize::MAX);
        let place = Point { model: Some(cell.cell.model.clone()), ..point(x, figure, 0) };
        // Names of neighbouring engines on either side, as their points may lie close.
        let leftward = analysis.colour(&cell.cell).is_multiple_of(2);
        notes.push(Note { x, y: place.y, text: plain(&cell.cell.model, 20), leftward });
        match series.iter_mut().find(|known| known.name == engine) {
            Some(known) => known.points.push(place),
            None => {
                let (colour, stroke, marker) = (analysis.colour(&cell.cell), Stroke::None, Marker::Filled);
                series.push(Series { name: engine, colour, stroke, marker, points: vec![place] });
            }
        }
    }
    let points = || series.iter().flat_map(|s| &s.points);
    let (least, most) = points().fold((f64::INFINITY, 0.0f64), |(low, high), p| (p.x.min(low), p.x.max(high)));
    let scale = if most > WIDE * least && least > 0.0 { Scale::Log } else { Scale::Linear };
    let x = Axis::fit(cost.words()[2], scale, points().map(|p| p.x))?;
    let y = Axis::near(metric.name(), points().flat_map(extent))?;
    Some(Panel { notes, ..Panel::new(plain(task, 30), x, y, series) })
}
