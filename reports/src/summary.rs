//! `summary.csv`: one row a metric of a cell.

use crate::analysis::Analysis;
use crate::cells::{CellSummary, Kind, Metric, Status};
use crate::load::RunData;
use serde::Serialize;

/// A metric of a cell of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The cell's id.
    pub cell: String,
    /// Name of its engine.
    pub engine: String,
    /// Name of its model.
    pub model: String,
    /// Its threads.
    pub threads: u32,
    /// Its workload, such as `tg128`.
    pub workload: String,
    /// The metric's name.
    pub metric: String,
    /// Median over replicates, in `unit`; `None` where there is no figure.
    pub value: Option<f64>,
    /// The unit.
    pub unit: &'static str,
    /// 95 % interval; `None` where there is none.
    pub interval: Option<(f64, f64)>,
    /// Replicates.
    pub n: usize,
    /// Where the figure comes from.
    pub kind: Kind,
    /// What became of the cell; [`Status::Na`] too where a measured cell lacks this metric.
    pub status: Status,
    /// Why there is no value; the source or caveat of one that is there.
    pub reason: String,
}

/// A row as written; the header is these names.
#[derive(Serialize)]
struct Line<'a> {
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

/// The rows of a run's `summary.csv`, not rounded.
pub fn of(data: &RunData) -> Vec<Row> {
    rows(&Analysis::new(data))
}

/// A failed or N/A cell has one row, `tokens_per_second` without a value; an unavailable metric of a measured cell has status `na`;
/// figures of an outside program have status `outside`, as no answer was checked. A measured cell's `reason` carries a figure's
/// source or caveat.
fn rows(analysis: &Analysis) -> Vec<Row> {
    let mut all = Vec::new();
    for cell in &analysis.cells {
        let (id, workload) = (cell.cell.id(), cell.cell.workload.to_string());
        let base = |metric: &str, unit: &'static str, kind: Kind, status: Status, reason: &str| Row {
            cell: id.clone(),
            engine: cell.cell.engine.clone(),
            model: cell.cell.model.clone(),
            threads: cell.cell.threads,
            workload: workload.clone(),
            metric: metric.to_owned(),
            value: None,
            unit,
            interval: None,
            n: 0,
            kind,
            status,
            reason: reason.to_owned(),
        };
        if !cell.status.measured() {
            let reason = cell.reason.as_deref().unwrap_or("");
            all.push(base("tokens_per_second", "tokens/s", Kind::Measured, cell.status, reason));
            continue;
        }
        all.extend(cell.metrics.iter().map(|metric| match &metric.figure {
            Ok(figure) => Row {
                value: Some(figure.value),
                interval: figure.interval,
                n: figure.n,
                ..base(&metric.name, metric.unit, metric.kind, cell.status, caveat(cell, metric))
            },
            Err(reason) => base(&metric.name, metric.unit, metric.kind, Status::Na, reason),
        }));
    }
    all
}

/// The text of `summary.csv`.
pub(crate) fn csv(analysis: &Analysis, run: &str, suite: &str) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for row in rows(analysis) {
        writer.serialize(Line {
            run,
            suite,
            cell: &row.cell,
            engine: &row.engine,
            model: &row.model,
            threads: row.threads,
            workload: &row.workload,
            metric: &row.metric,
            value: row.value.map(number),
            unit: row.unit,
            lo: row.interval.map(|(lo, _)| number(lo)),
            hi: row.interval.map(|(_, hi)| number(hi)),
            n: row.n,
            kind: row.kind.name(),
            status: row.status.name(),
            reason: &row.reason,
        })?;
    }
    writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))
}

/// The metric's own note, or what befell other processes of the cell, told once at its speed.
fn caveat<'a>(cell: &'a CellSummary, metric: &'a Metric) -> &'a str {
    let told = if metric.name == "tokens_per_second" { cell.reason.as_deref() } else { None };
    metric.note.as_deref().or(told).unwrap_or("")
}

/// Whole numbers in full, others to seven significant digits: more than any interval here resolves.
pub(crate) fn number(value: f64) -> String {
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
