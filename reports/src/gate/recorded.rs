//! Two recorded runs of one machine: what can be told of them, made one after the other.

use super::{Line, Outcome, SCHEMA, Verdict, accuracy, answer, cost};
use crate::class::BuildClass;
use crate::compare::machines_differ;
use crate::error::Error;
use crate::load::RunData;
use crate::ranks::shift;
use crate::stats::median;
use std::collections::BTreeMap;
use suites::gate::{Gates, Kind, Metric};
use suites::record::{Measurement, Outcome as Recorded};

/// By cell, its measurements in order.
type Cells<'a> = BTreeMap<String, Vec<&'a Measurement>>;

/// Judges `candidate` by `baseline`.
///
/// # Errors
/// [`Error::Mixed`] with the first field that differs where the two can't be compared.
pub fn judge(gates: &Gates, baseline: &RunData, candidate: &RunData) -> Result<Outcome, Error> {
    comparable(baseline, candidate)?;
    let (before, after) = (cells(baseline), cells(candidate));
    let mut lines = Vec::new();
    for metric in gates.metrics.iter().filter(|metric| metric.kind.by_rounds() && metric.kind != Kind::Ratio) {
        for (cell, a) in &before {
            lines.extend(after.get(cell).and_then(|b| line(gates, metric, cell, a, b)));
        }
    }
    for metric in &gates.metrics {
        let both = before.iter().filter_map(|(cell, a)| Some((cell, a.first()?, after.get(cell)?.first()?)));
        match metric.kind {
            Kind::Answer => lines.extend(both.map(|(cell, a, b)| answer(metric, cell, a, b))),
            Kind::Accuracy => lines.extend(both.flat_map(|(cell, a, b)| accuracy(metric, cell, a, b))),
            _ => {}
        }
    }
    let failing = failures(candidate);
    for cell in before.keys() {
        let (verdict, note) = match failing.get(cell) {
            Some(reason) => (Verdict::Regressed, format!("the candidate fails, the baseline does not: {reason}")),
            None if after.contains_key(cell) => continue,
            None => (Verdict::Inconclusive, "the candidate has no figure of this cell".to_owned()),
        };
        lines.push(Line { verdict, note: Some(note), ..Line::new("runs", cell) });
    }
    Ok(Outcome {
        schema: SCHEMA,
        baseline: baseline.run.name.clone(),
        candidate: candidate.run.name.clone(),
        started: candidate.run.started.clone(),
        seconds: None,
        lines,
    })
}

/// Refuses runs of different machines, builds, suites or models, and says what differs.
fn comparable(a: &RunData, b: &RunData) -> Result<(), Error> {
    let names = format!("{} and {}", a.run.name, b.run.name);
    let differ = |what: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        Error::Mixed(format!("{names} can't be compared: {what}: {one:?} and {other:?}"))
    };
    let machines = machines_differ(&a.run.machine, &b.run.machine);
    if !machines.is_empty() {
        return Err(Error::Mixed(format!(
            "{names} can't be compared: made on different machines ({})",
            machines.join(", ")
        )));
    }
    let builds = BuildClass::from(&a.run).differs(&BuildClass::from(&b.run));
    if !builds.is_empty() {
        return Err(Error::Mixed(format!("{names} can't be compared: {}", builds.join("; "))));
    }
    if a.run.suite != b.run.suite || a.run.suite_digest != b.run.suite_digest {
        return Err(differ("suite", &(&a.run.suite, &a.run.suite_digest), &(&b.run.suite, &b.run.suite_digest)));
    }
    for model in &a.run.models {
        let other = b.run.models.iter().find(|other| other.name == model.name);
        if let Some(other) = other.filter(|other| other.digest != model.digest) {
            return Err(differ(&format!("digest of model `{}`", model.name), &model.digest, &other.digest));
        }
    }
    Ok(())
}

fn cells(run: &RunData) -> Cells<'_> {
    let mut cells: Cells<'_> = BTreeMap::new();
    for record in &run.records {
        if let Recorded::Ok(measurement) = &record.outcome {
            cells.entry(record.cell.id()).or_default().push(measurement);
        }
    }
    cells
}

fn failures(run: &RunData) -> BTreeMap<String, String> {
    let failed = run.records.iter().filter_map(|record| match &record.outcome {
        Recorded::Failed(failure) => Some((record.cell.id(), format!("{}: {}", failure.stage, failure.message))),
        _ => None,
    });
    failed.collect()
}

/// A metric of a cell by the processes of either run. The threshold of times has the machine's drift added, which no interval
/// within a run can know of.
fn line(gates: &Gates, metric: &Metric, cell: &str, a: &[&Measurement], b: &[&Measurement]) -> Option<Line> {
    let costs = |of: &[&Measurement]| of.iter().filter_map(|m| cost(m, metric.kind)).collect::<Vec<f64>>();
    let (a, b) = (costs(a), costs(b));
    let before = median(&a)?;
    let Some(after) = median(&b) else {
        let note = Some("the candidate has no such figure".to_owned());
        return Some(Line { verdict: Verdict::Inconclusive, note, ..Line::new(&metric.name, cell) });
    };
    let drift = if metric.kind == Kind::Memory { 0.0 } else { gates.rule.drift };
    let threshold = metric.threshold + drift;
    let logs = |of: &[f64]| of.iter().map(|cost| cost.ln()).collect::<Vec<f64>>();
    let found = shift(&logs(&a), &logs(&b), gates.rule.alpha)?;
    let (change, limit) = (found.estimate, threshold.ln_1p());
    let verdict = match found.interval {
        Some((lo, _)) if lo > 0.0 && change > limit => Verdict::Regressed,
        Some((_, hi)) if hi < 0.0 && change < -limit => Verdict::Improved,
        Some((lo, hi)) if lo > -limit && hi < limit => Verdict::Unchanged,
        _ => Verdict::Inconclusive,
    };
    let note =
        found.interval.is_none().then(|| format!("{} and {} processes are too few for an interval", a.len(), b.len()));
    Some(Line {
        verdict,
        change: Some(change.exp_m1()),
        interval: found.interval.map(|(lo, hi)| (lo.exp_m1(), hi.exp_m1())),
        smallest: found.interval.map(|(lo, hi)| ((hi - lo) / 2.0).exp_m1()),
        n: Some(found.n),
        values: Some((before, after)),
        unit: metric.kind.unit().to_owned(),
        note,
        threshold,
        drives: metric.drives,
        ..Line::new(&metric.name, cell)
    })
}
