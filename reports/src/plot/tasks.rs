//! Accuracy against what a token costs: milliseconds, and joules in charts of their own, measured or modelled.

use super::Plot;
use super::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain, point, subtitle};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind};
use crate::load::RunData;
use crate::tasks;
use suites::cell::Phase;

/// Most panels: a page's height.
const PANELS: usize = 15;

/// Most panels that are as wide as the picture.
const WIDE: usize = 4;

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
        "Left is cheaper ({across}); bars are 95 % intervals over items. Each task has a scale of its own, not from 0; \
        across it is logarithmic. Markers that lie close stand out behind each other."
    );
    let plot = Plot { stem, title: title.to_owned(), caption };
    let subtitle = subtitle(data, "colour: engine, shape: model; median of processes across");
    let columns = if panels.len() > WIDE { 2 } else { 1 };
    Some((plot, Chart { title: title.to_owned(), subtitle, columns, panels }))
}

fn panel(data: &RunData, analysis: &Analysis, cells: &[&CellSummary], task: &str, cost: Cost) -> Option<Panel> {
    let metric = tasks::headline(data, task)?;
    let name = tasks::metric_name(task, metric);
    let mut models: Vec<&str> = cells.iter().map(|c| c.cell.model.as_str()).collect();
    models.dedup();
    let mut series: Vec<Series> = Vec::new();
    for cell in cells {
        let (Some(figure), Some(x)) = (cell.figure(&name), cost.of(cell)) else { continue };
        let engine = plain(&format!("{}{}", analysis.shown(&cell.cell.engine), variant(&cell.cell)), usize::MAX);
        let shape = models.iter().position(|m| *m == cell.cell.model).unwrap_or(0);
        let place = Point { model: Some(cell.cell.model.clone()), ..point(x, figure, 0) };
        // Points of close engines may lie on each other: colour and shape tell them apart, a name beside each would not.
        let (colour, stroke, marker) = (analysis.colour(&cell.cell), Stroke::None, Marker::Shape(shape));
        series.push(Series { name: engine, colour, stroke, marker, points: vec![place] });
    }
    series.sort_by_key(|s| s.colour);
    let points = || series.iter().flat_map(|s| &s.points);
    // Engines of one family differ by some per cent, others many times.
    let x = Axis::fit(cost.words()[2], Scale::Log, points().map(|p| p.x))?;
    let y = Axis::near(metric.name(), points().flat_map(extent))?;
    Some(Panel::new(plain(task, 30), x, y, series))
}
