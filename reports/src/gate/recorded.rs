//! Two recorded runs of one machine: what can be told of them, made one after the other.

use super::{Line, Outcome, SCHEMA, Verdict, accuracy, answer, cost};
use crate::error::Error;
use crate::load::RunData;
use crate::ranks::shift;
use crate::stats::median;
use crate::versus::differences;
use std::collections::BTreeMap;
use suites::gate::{Gates, Kind, Metric};
use suites::record::{Measurement, Outcome as Recorded};

/// By cell, its measurements in order.
type Cells<'a> = BTreeMap<String, Vec<&'a Measurement>>;

/// Judges `candidate` by `baseline`.
///
/// # Errors
/// [`Error::Mixed`] with every field that differs where the two can't be compared.
pub fn judge(gates: &Gates, baseline: &RunData, candidate: &RunData) -> Result<Outcome, Error> {
    let differ = differences(&baseline.run, &candidate.run);
    if !differ.is_empty() {
        let (one, other) = (&baseline.run.name, &candidate.run.name);
        return Err(Error::Mixed(format!("{one} and {other} can't be compared: {}", differ.join("; "))));
    }
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
    let drift = if matches!(metric.kind, Kind::Memory | Kind::Pmu) { 0.0 } else { gates.rule.drift };
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
