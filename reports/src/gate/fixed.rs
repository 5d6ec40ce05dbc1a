//! What is the same in every process: answers and accuracy.

use super::{Line, Verdict};
use suites::eval::{Accuracy, TaskOutcome};
use suites::gate::Metric;
use suites::record::Measurement;

/// Whether both computed the same logits, bit for bit.
pub fn answer(metric: &Metric, of: &str, a: &Measurement, b: &Measurement) -> Line {
    let [before, after] = [a, b].map(|m| m.check.digest.get(..16).unwrap_or(&m.check.digest));
    let same = a.check.digest == b.check.digest;
    let note = (!same).then(|| format!("the logits differ: digest {before}, now {after}"));
    Line { verdict: if same { Verdict::Unchanged } else { Verdict::Regressed }, note, ..Line::new(&metric.name, of) }
}

/// Every figure of every task that both were asked, of which the same items and the same bits give the same figure. A change is in points of
/// a share, and a part of a perplexity.
pub fn accuracy(metric: &Metric, of: &str, a: &Measurement, b: &Measurement) -> Vec<Line> {
    let figures = |before: &Accuracy, after: &Accuracy| -> Vec<Line> {
        let pairs =
            before.figures.iter().filter_map(|f| Some((f, after.figures.iter().find(|g| g.metric == f.metric)?)));
        pairs
            .map(|(f, g)| {
                let rise = g.value - f.value;
                // Of a perplexity as a part, of a share in points.
                let worse = if f.metric.falls() { rise / f.value } else { -rise };
                let verdict = match worse {
                    worse if worse > metric.threshold => Verdict::Regressed,
                    worse if worse < -metric.threshold => Verdict::Improved,
                    _ => Verdict::Unchanged,
                };
                let of = format!("{} {} {of}", before.task, f.metric.name());
                let values = Some((f.value, g.value));
                Line {
                    verdict,
                    change: Some(worse),
                    values,
                    threshold: metric.threshold,
                    ..Line::new(&metric.name, of)
                }
            })
            .collect()
    };
    let found = a.accuracy.iter().flat_map(|before| {
        let Some(after) = b.accuracy.iter().find(|after| after.task() == before.task()) else {
            let of = format!("{} {of}", before.task());
            let note = Some("the candidate was not asked".to_owned());
            return vec![Line { verdict: Verdict::Inconclusive, note, ..Line::new(&metric.name, of) }];
        };
        match (before, after) {
            (TaskOutcome::Ok(before), TaskOutcome::Ok(after)) if before.items == after.items => figures(before, after),
            (TaskOutcome::Ok(before), TaskOutcome::Ok(after)) => {
                let note = format!("{} items, now {}: not the same task", before.items, after.items);
                vec![Line {
                    verdict: Verdict::Inconclusive,
                    note: Some(note),
                    ..Line::new(&metric.name, format!("{} {of}", before.task))
                }]
            }
            (before, TaskOutcome::Unavailable { reason, .. }) => {
                let verdict = if matches!(before, TaskOutcome::Ok(_)) { Verdict::Regressed } else { Verdict::Na };
                let note = Some(format!("the candidate has no figure: {reason}"));
                vec![Line { verdict, note, ..Line::new(&metric.name, format!("{} {of}", before.task())) }]
            }
            (TaskOutcome::Unavailable { task, reason }, TaskOutcome::Ok(_)) => {
                let note = Some(format!("the baseline has no figure: {reason}"));
                vec![Line { note, ..Line::new(&metric.name, format!("{task} {of}")) }]
            }
        }
    });
    found.collect()
}
