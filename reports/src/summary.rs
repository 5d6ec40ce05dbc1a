//! `summary.csv`: one row a metric of a cell.

use crate::analysis::Analysis;
use crate::cells::{CellSummary, Kind, Metric, Status};
use serde::Serialize;

/// A row; the header is these names.
#[derive(Serialize)]
struct Row<'a> {
    run: &'a str,
    suite: &'a str,
    cell: &'a str,
    engine: &'a str,
    model: &'a str,
    threads: u32,
    workload: &'a str,
    metric: &'a str,
    value: Option<String>,
    unit: &'a str,
    lo: Option<String>,
    hi: Option<String>,
    n: usize,
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
}

const HEADER: [&str; 16] = [
    "run", "suite", "cell", "engine", "model", "threads", "workload", "metric", "value", "unit", "lo", "hi", "n",
    "kind", "status", "reason",
];

/// The text of `summary.csv`. A failed or N/A cell has one row, `tokens_per_second` without a value; an unavailable
/// metric of a measured cell has status `na`; figures of an outside program have status `outside`, as no answer was checked. A measured cell's `reason` carries a figure's source or caveat.
pub(crate) fn csv<'a>(analysis: &'a Analysis, run: &'a str, suite: &'a str) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for cell in &analysis.cells {
        let (id, workload) = (cell.cell.id(), cell.cell.workload.to_string());
        let base = |metric: &'a str, unit: &'static str, kind: Kind, status: Status| Row {
            run,
            suite,
            cell: &id,
            engine: &cell.cell.engine,
            model: &cell.cell.model,
            threads: cell.cell.threads,
            workload: &workload,
            metric,
            value: None,
            unit,
            lo: None,
            hi: None,
            n: 0,
            kind: kind.name(),
            status: status.name(),
            reason: "",
        };
        if !cell.status.measured() {
            let row = base("tokens_per_second", "tokens/s", Kind::Measured, cell.status);
            writer.serialize(Row { reason: cell.reason.as_deref().unwrap_or(""), ..row })?;
            continue;
        }
        for metric in &cell.metrics {
            let row = match &metric.figure {
                Ok(figure) => Row {
                    value: Some(number(figure.value)),
                    lo: figure.interval.map(|(lo, _)| number(lo)),
                    hi: figure.interval.map(|(_, hi)| number(hi)),
                    n: figure.n,
                    reason: caveat(cell, metric),
                    ..base(&metric.name, metric.unit, metric.kind, cell.status)
                },
                Err(reason) => Row { reason, ..base(&metric.name, metric.unit, metric.kind, Status::Na) },
            };
            writer.serialize(row)?;
        }
    }
    writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))
}

/// The metric's own note, or what befell other processes of the cell, told once at its speed.
fn caveat<'a>(cell: &'a CellSummary, metric: &'a Metric) -> &'a str {
    let told = if metric.name == "tokens_per_second" { cell.reason.as_deref() } else { None };
    metric.note.as_deref().or(told).unwrap_or("")
}

/// Whole numbers in full, others to seven significant digits: more than any interval here resolves.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    match format!("{value:.6e}").parse::<f64>() {
        Ok(rounded) => rounded.to_string(),
        Err(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers() {
        assert_eq!(number(12_884_901_888.0), "12884901888");
        assert_eq!(number(1.0 / 3.0), "0.3333333");
        assert_eq!(number(123_456.789_01), "123456.8");
    }
}
