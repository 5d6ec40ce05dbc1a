//! What is the same in every process, and gates without a doubt: whether the candidate runs, its answers, its accuracy, its size.

use super::rounds::Measured;
use super::side::Side;
use super::{Setting, instructions};
use anyhow::{Context as _, Result};
use reports::gate::{Line, Verdict, accuracy, answer};
use suites::gate::{Kind, Metric};
use suites::record::Measurement;

/// The lines of every metric that is not measured by rounds, and of cells that the candidate fails at.
pub(super) fn lines(
    setting: Setting<'_>,
    measured: &Measured,
    [baseline, candidate]: [&Side<'_>; 2],
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for ((cell, _), both) in measured.first.iter().zip(&measured.failed) {
        if let Some([before, Err(reason)]) = both {
            lines.push(fails(&cell.id(), before.is_ok(), reason));
        }
    }
    for cell in setting.plan.cells.iter().filter_map(|cell| Some((cell.cell.id(), cell.na.clone()?))) {
        lines.push(Line { note: Some(cell.1), ..Line::new("runs", cell.0) });
    }
    for metric in &setting.gates.metrics {
        match metric.kind {
            Kind::Answer => lines.extend(each(measured).map(|(of, a, b)| answer(metric, &of, a, b))),
            Kind::Accuracy => lines.extend(each(measured).flat_map(|(of, a, b)| accuracy(metric, &of, a, b))),
            Kind::Binary => lines.push(binary(metric, [baseline, candidate])?),
            Kind::Instructions => {
                lines.extend(instructions::lines(metric, [baseline, candidate], baseline.interrupt())?);
            }
            _ => {}
        }
    }
    Ok(lines)
}

fn each(measured: &Measured) -> impl Iterator<Item = (String, &Measurement, &Measurement)> {
    measured.first.iter().filter_map(|(cell, both)| match both {
        [Ok(a), Ok(b)] => Some((cell.id(), &**a, &**b)),
        _ => None,
    })
}

/// A cell that the candidate fails at. Where the baseline fails too, it can't be told whether anything got worse.
fn fails(of: &str, baseline_runs: bool, reason: &str) -> Line {
    let (verdict, who) = match baseline_runs {
        true => (Verdict::Regressed, "the candidate fails, the baseline does not"),
        false => (Verdict::Inconclusive, "both fail"),
    };
    Line { verdict, note: Some(format!("{who}: {reason}")), ..Line::new("runs", of) }
}

fn binary(metric: &Metric, sides: [&Side<'_>; 2]) -> Result<Line> {
    let size = |side: &Side<'_>| -> Result<f64> {
        let file = std::fs::metadata(&side.path).with_context(|| side.path.display().to_string())?;
        Ok(file.len() as f64)
    };
    let (a, b) = (size(sides[0])?, size(sides[1])?);
    let change = b / a - 1.0;
    let verdict = match change {
        change if change > metric.threshold => Verdict::Regressed,
        change if change < -metric.threshold => Verdict::Improved,
        _ => Verdict::Unchanged,
    };
    Ok(Line {
        verdict,
        change: Some(change),
        values: Some((a, b)),
        threshold: metric.threshold,
        unit: metric.kind.unit().to_owned(),
        ..Line::new(&metric.name, "the program")
    })
}
