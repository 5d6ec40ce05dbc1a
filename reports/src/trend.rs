//! One figure over many runs: series of what compares, with their change points.
//!
//! A series is one metric of one cell, on machines of one class, by builds of one class, of one suite's text and one model. Nothing is
//! averaged over runs, and nothing goes on from one class to another.

mod show;

use crate::changepoint::changes;
use crate::class::{BuildClass, MachineClass};
use crate::stats::median;
use serde::Serialize;
use std::collections::BTreeMap;

pub use crate::plot::trend::draw;
pub use show::{csv, json, markdown, table};

/// A run as a history keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// Its name.
    pub name: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// Name of its suite.
    pub suite: String,
    /// Digest of the suite's text.
    pub suite_digest: String,
    /// Git revision of the program; `None` if it was not built in a checkout.
    pub revision: Option<String>,
    /// Whether files differed from that.
    pub dirty: Option<bool>,
    /// The machine.
    pub machine: MachineClass,
    /// The build.
    pub build: BuildClass,
}

/// A metric of a cell of a run as a history keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Place of its run among the visits.
    pub visit: usize,
    /// The cell's id.
    pub cell: String,
    /// Name of its engine.
    pub engine: String,
    /// Name of its model.
    pub model: String,
    /// Digest of the model; empty where none was recorded.
    pub model_digest: String,
    /// Its threads.
    pub threads: u32,
    /// Its workload, such as `tg128`.
    pub workload: String,
    /// The metric's name.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// `measured`, `modelled` or `derived`.
    pub kind: String,
    /// Median over replicates, in `unit`; `None` where there is no figure.
    pub value: Option<f64>,
    /// 95 % interval; `None` where there is none.
    pub interval: Option<(f64, f64)>,
    /// Replicates.
    pub n: u32,
}

/// A figure of one run in a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Name of the run.
    pub run: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// Git revision of the program.
    pub revision: Option<String>,
    /// Whether files differed from that.
    pub dirty: Option<bool>,
    /// Median over replicates, in the series' unit.
    pub value: f64,
    /// 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Replicates.
    pub n: u32,
}

/// A change point of a series: advice, no verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shift {
    /// Place of the first point after it.
    pub at: usize,
    /// p of the permutation test ([`crate::changepoint`]).
    pub p: f64,
    /// Median of the points from the change before it, or the beginning, to here.
    pub before: f64,
    /// Median of the points from here to the next change, or the end.
    pub after: f64,
}

impl Shift {
    /// The change in percent of what was before; `None` if that was 0.
    pub fn percent(&self) -> Option<f64> {
        let change = (self.after / self.before - 1.0) * 100.0;
        change.is_finite().then_some(change)
    }
}

/// What all points of a series have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// Name of the suite.
    pub suite: String,
    /// Digest of its text.
    pub suite_digest: String,
    /// The machine.
    pub machine: MachineClass,
    /// The build.
    pub build: BuildClass,
    /// The workload.
    pub workload: String,
    /// Name of the model.
    pub model: String,
    /// Digest of the model.
    pub model_digest: String,
    /// Threads.
    pub threads: u32,
    /// Name of the engine.
    pub engine: String,
    /// The cell's id.
    pub cell: String,
    /// The metric's name.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// `measured`, `modelled` or `derived`.
    pub kind: String,
}

/// One metric of one cell over the runs that compare.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What the points have in common.
    #[serde(flatten)]
    pub key: Key,
    /// The figures, by the runs' beginnings.
    pub points: Vec<Point>,
    /// Runs that have this cell and no figure of it: it failed, or was not applicable.
    pub without: usize,
    /// Its change points, in order.
    pub changes: Vec<Shift>,
}

/// The series that `figures` make, those without any value left out. `visits` need no order.
///
/// # Panics
/// A figure's visit is not among `visits`.
pub fn series(visits: &[Visit], figures: &[Figure]) -> Vec<Series> {
    let mut by_key: BTreeMap<Key, Vec<&Figure>> = BTreeMap::new();
    for figure in figures {
        by_key.entry(key(&visits[figure.visit], figure)).or_default().push(figure);
    }
    let one = |(key, mut figures): (Key, Vec<&Figure>)| {
        let when = |figure: &&Figure| (&visits[figure.visit].started, &visits[figure.visit].name);
        figures.sort_by(|a, b| when(a).cmp(&when(b)));
        let points: Vec<Point> = figures.iter().filter_map(|figure| point(&visits[figure.visit], figure)).collect();
        let (without, changes) = (figures.len() - points.len(), shifts(&points));
        (!points.is_empty()).then_some(Series { key, points, without, changes })
    };
    by_key.into_iter().filter_map(one).collect()
}

fn key(visit: &Visit, figure: &Figure) -> Key {
    Key {
        suite: visit.suite.clone(),
        suite_digest: visit.suite_digest.clone(),
        machine: visit.machine.clone(),
        build: visit.build.clone(),
        workload: figure.workload.clone(),
        model: figure.model.clone(),
        model_digest: figure.model_digest.clone(),
        threads: figure.threads,
        engine: figure.engine.clone(),
        cell: figure.cell.clone(),
        metric: figure.metric.clone(),
        unit: figure.unit.clone(),
        kind: figure.kind.clone(),
    }
}

fn point(visit: &Visit, figure: &Figure) -> Option<Point> {
    let value = figure.value.filter(|v| v.is_finite())?;
    Some(Point {
        run: visit.name.clone(),
        started: visit.started.clone(),
        revision: visit.revision.clone(),
        dirty: visit.dirty,
        value,
        interval: figure.interval,
        n: figure.n,
    })
}

fn shifts(points: &[Point]) -> Vec<Shift> {
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let found = changes(&values);
    let ends: Vec<usize> =
        std::iter::once(0).chain(found.iter().map(|change| change.at)).chain([values.len()]).collect();
    let level = |from: usize, to: usize| median(&values[from..to]).unwrap_or(f64::NAN);
    let one = |(change, ends): (&crate::changepoint::Change, &[usize])| Shift {
        at: change.at,
        p: change.p,
        before: level(ends[0], ends[1]),
        after: level(ends[1], ends[2]),
    };
    found.iter().zip(ends.windows(3)).map(one).collect()
}

#[cfg(test)]
mod tests;
