//! From the processes of one cell to its metrics.

use crate::joules;
use crate::outside;
use crate::stats::{Estimate, estimate, median, quantile_sorted};
use crate::tasks;
use std::borrow::Cow;
use suites::cell::{Cell, Phase};
use suites::record::{Bounded, Failure, Measurement, Outcome, Record, Sparsity};
use suites::run::{Bandwidth, PlannedCell};

/// Where a figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read from a clock or counter.
    Measured,
    /// Computed from a model.
    Modelled,
    /// Computed from measured figures.
    Derived,
}

impl Kind {
    /// The name in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Measured => "measured",
            Kind::Modelled => "modelled",
            Kind::Derived => "derived",
        }
    }
}

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Measured, and every answer right.
    Ok,
    /// Measured by an outside program, whose answer is not checked.
    Outside,
    /// Attempted, and without trustworthy figures.
    Failed,
    /// Not attempted.
    Na,
}

impl Status {
    /// The name in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Outside => "outside",
            Status::Failed => "failed",
            Status::Na => "na",
        }
    }

    /// Whether there are figures.
    pub fn measured(self) -> bool {
        matches!(self, Status::Ok | Status::Outside)
    }
}

/// One metric of a cell: a figure, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name as in `summary.csv`.
    pub name: Cow<'static, str>,
    /// Unit as in `summary.csv`.
    pub unit: &'static str,
    /// Where the figure comes from.
    pub kind: Kind,
    /// The figure, or the reason it is unavailable.
    pub figure: Result<Estimate, String>,
    /// The source of a figure of energy, marked where it is modelled; a caveat of any other.
    pub note: Option<String>,
    /// Name of the source of a figure of energy, as records have it; `None` of any other.
    pub source: Option<String>,
}

/// One cell over all its blocks.
#[derive(Clone, Debug)]
pub struct CellSummary {
    /// What was measured.
    pub cell: Cell,
    /// Whether its engine is an outside one.
    pub outside: bool,
    /// What became of it.
    pub status: Status,
    /// Why it failed or was not attempted; how many processes failed where others succeeded.
    pub reason: Option<String>,
    /// Its metrics; empty unless [`Status::measured`].
    pub metrics: Vec<Metric>,
    /// Per-process tokens/s with the block it ran in, in block order.
    pub by_block: Vec<(u32, f64)>,
    /// Decode: latency of every token of every process in nanoseconds, ascending.
    pub latencies_ns: Vec<u64>,
}

impl CellSummary {
    /// The figure of the metric called `name`, if it is there.
    pub fn figure(&self, name: &str) -> Option<Estimate> {
        self.metric(name).and_then(|m| m.figure.as_ref().ok()).copied()
    }

    /// The metric called `name`.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|m| m.name == name)
    }
}

/// The measured cell with the highest median tokens/s: the last of equals.
pub(crate) fn fastest<'a>(cells: impl Iterator<Item = &'a CellSummary>) -> Option<&'a CellSummary> {
    let speed = |c: &CellSummary| c.figure("tokens_per_second").map_or(-1.0, |f| f.value);
    cells.filter(|c| c.status.measured()).max_by(|a, b| speed(a).total_cmp(&speed(b)))
}

/// Summarises the records of one cell.
pub(crate) fn summarise(
    cell: &Cell,
    planned: Option<&PlannedCell>,
    records: &[&Record],
    bandwidth: &[Bandwidth],
) -> CellSummary {
    let (status, reason) = judge(planned, records);
    let mut summary = CellSummary {
        cell: cell.clone(),
        outside: planned.is_some_and(|p| p.outside) || records.iter().any(|r| r.outside().is_some()),
        status,
        reason,
        metrics: Vec::new(),
        by_block: Vec::new(),
        latencies_ns: Vec::new(),
    };
    if status == Status::Outside {
        outside::summarise(&mut summary, records);
    }
    if status != Status::Ok {
        return summary;
    }
    let mut processes: Vec<(u32, &Measurement)> =
        records.iter().filter_map(|r| r.measurement().map(|m| (r.block, m))).collect();
    processes.sort_by_key(|(block, _)| *block);
    for &(block, measurement) in &processes {
        summary.by_block.extend(measurement.tokens_per_second().map(|speed| (block, speed)));
        let tokens = measurement.samples.iter().flat_map(|s| &s.token_ns);
        summary.latencies_ns.extend(tokens);
    }
    summary.latencies_ns.sort_unstable();
    let processes: Vec<&Measurement> = processes.into_iter().map(|(_, m)| m).collect();
    summary.metrics = metrics(cell, &processes, bandwidth);
    summary
}

/// Status and reason. A wrong answer in one process condemns the cell: its other speeds can't be trusted either.
fn judge(planned: Option<&PlannedCell>, records: &[&Record]) -> (Status, Option<String>) {
    let mut failures: Vec<String> = Vec::new();
    let (mut wrong, mut measured, mut na, mut unchecked) = (None, 0usize, None, None);
    for record in records {
        match &record.outcome {
            Outcome::Ok(m) if m.check.passed() => measured += 1,
            Outcome::Outside(outside) => {
                measured += 1;
                unchecked = Some(outside.unchecked.clone());
            }
            Outcome::Ok(_) => wrong = Some("check: recorded as ok, yet its answer check did not pass".to_owned()),
            Outcome::Failed(failure) => {
                let text = failure_text(failure);
                if failure.stage == "check" || failure.check.as_ref().is_some_and(|c| !c.passed()) {
                    wrong = Some(text.clone());
                }
                failures.push(text);
            }
            Outcome::Na(not) => na = Some(not.reason.clone()),
        }
    }
    if let Some(text) = wrong {
        return (Status::Failed, Some(text));
    }
    let (status, reason) = match (measured, failures.first()) {
        (1.., None) => {
            let planned = planned.map_or(0, |p| p.blocks as usize);
            let why = || na.unwrap_or_else(|| "the run ended before their turn".to_owned());
            let missing = planned.checked_sub(measured).filter(|&missing| missing > 0);
            (Status::Ok, missing.map(|missing| format!("{missing} of {planned} processes not run: {}", why())))
        }
        (1.., Some(first)) => {
            (Status::Ok, Some(format!("{} of {} processes failed: {first}", failures.len(), failures.len() + measured)))
        }
        (0, Some(first)) => (Status::Failed, Some(first.clone())),
        (0, None) => {
            let reason = na.or_else(|| planned.and_then(|p| p.na.clone()));
            (Status::Na, Some(reason.unwrap_or_else(|| "not run: the run ended before its turn".to_owned())))
        }
    };
    match unchecked {
        Some(why) => (Status::Outside, Some(reason.map_or(why.clone(), |reason| format!("{why}; {reason}")))),
        None => (status, reason),
    }
}

fn failure_text(failure: &Failure) -> String {
    let message = failure.message.lines().next().unwrap_or("").trim();
    format!("{}: {}", failure.stage, if message.is_empty() { "no message" } else { message })
}

/// Collects metrics of one cell's processes.
pub(crate) struct Collector<'a, T> {
    pub(crate) processes: &'a [&'a T],
    pub(crate) out: Vec<Metric>,
}

impl<T> Collector<'_, T> {
    /// One figure a process; processes that have none are left out.
    pub(crate) fn add(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        unit: &'static str,
        kind: Kind,
        missing: &str,
        of: impl Fn(&T) -> Option<f64>,
    ) {
        let values: Vec<f64> = self.processes.iter().filter_map(|m| of(m)).collect();
        let figure = estimate(&values).ok_or_else(|| missing.to_owned());
        let short = values.len() < self.processes.len() && figure.is_ok();
        let note = short.then(|| format!("from {} of {} processes: {missing}", values.len(), self.processes.len()));
        self.out.push(Metric { name: name.into(), unit, kind, figure, note, source: None });
    }
}

fn metrics(cell: &Cell, processes: &[&Measurement], bandwidth: &[Bandwidth]) -> Vec<Metric> {
    let mut c = Collector { processes, out: Vec::new() };
    c.add("tokens_per_second", "tokens/s", Kind::Measured, "no window with tokens and a duration", |m| {
        m.tokens_per_second()
    });
    match cell.workload.phase {
        Phase::Prefill => {
            let ttft = |m: &Measurement| {
                median(&m.samples.iter().filter_map(|s| s.ttft_ns.map(|t| t as f64 / 1e6)).collect::<Vec<_>>())
            };
            c.add("ttft", "ms", Kind::Measured, "no time to first token recorded", ttft);
        }
        Phase::Decode => {
            for (name, q) in [("token_latency_p50", 0.5), ("token_latency_p90", 0.9), ("token_latency_p99", 0.99)] {
                c.add(name, "ms", Kind::Measured, "no token latencies recorded", |m| latency_ms(m, q));
            }
        }
    }
    c.add("load_seconds", "s", Kind::Measured, "", |m| Some(m.load_ns as f64 / 1e9));
    let unread = "VmHWM could not be read";
    let peak = |m: &Measurement| m.memory.peak_rss_bytes.map(|b| b as f64);
    c.add("peak_rss_bytes", "bytes", Kind::Measured, unread, peak);
    c.add("predicted_peak_bytes", "bytes", Kind::Modelled, "no prediction", |m| {
        (m.memory.predicted_bytes > 0).then_some(m.memory.predicted_bytes as f64)
    });
    c.add("peak_over_predicted", "ratio", Kind::Derived, unread, |m| {
        (m.memory.predicted_bytes > 0).then(|| peak(m).map(|p| p / m.memory.predicted_bytes as f64)).flatten()
    });
    c.add("weights_bytes", "bytes", Kind::Measured, "", |m| Some(m.footprint.weights_bytes as f64));
    c.add("linear_bytes", "bytes", Kind::Measured, "", |m| Some(m.footprint.linear_bytes as f64));
    c.add("kv_bytes", "bytes", Kind::Measured, "", |m| Some(m.footprint.kv_bytes as f64));
    c.add("read_per_token_bytes", "bytes", Kind::Derived, "", |m| Some(m.footprint.read_per_token_bytes as f64));
    sparsity(&mut c);
    bounded_head(&mut c);
    share(&mut c, cell, bandwidth);
    joules::metrics(&mut c, cell.workload.phase);
    tasks::metrics(&mut c);
    c.out
}

/// What a sparse engine left unread; no such metrics of any other.
fn sparsity(c: &mut Collector<'_, Measurement>) {
    if c.processes.iter().all(|m| m.sparsity.is_none()) {
        return;
    }
    type Parts = fn(&Sparsity) -> (u64, u64);
    let shares: [(&'static str, Parts); 5] = [
        ("zero_gate_share", |s| (s.zero_gates, s.gates)),
        ("zero_activation_share", |s| (s.zero_activations, s.gates)),
        ("up_by_rows_share", |s| (s.up_layers, s.layers)),
        ("down_by_columns_share", |s| (s.down_layers, s.layers)),
        ("ffn_read_share", |s| (s.read_bytes, s.dense_bytes)),
    ];
    for (name, parts) in shares {
        c.add(name, "ratio", Kind::Measured, "nothing was counted", |m| {
            let (part, all) = parts(m.sparsity.as_ref()?);
            (all > 0).then(|| part as f64 / all as f64)
        });
    }
}

/// What a bounded head read; no such metrics of any other.
fn bounded_head(c: &mut Collector<'_, Measurement>) {
    if c.processes.iter().all(|m| m.bounded.is_none()) {
        return;
    }
    type Parts = fn(&Bounded) -> (u64, u64);
    let parts: [(&'static str, &'static str, Parts); 5] = [
        ("head_read_bytes", "bytes", |b| (b.read_bytes, b.tokens)),
        ("head_read_share", "ratio", |b| (b.read_bytes, b.tokens * b.full_bytes)),
        ("head_open_share", "ratio", |b| (b.refined_rows, b.tokens * b.rows)),
        ("head_rescored_rows", "rows", |b| (b.rescored_rows, b.tokens)),
        ("head_full_share", "ratio", |b| (b.full_steps, b.tokens)),
    ];
    for (name, unit, parts) in parts {
        c.add(name, unit, Kind::Measured, "nothing was counted", |m| {
            let (part, all) = parts(m.bounded.as_ref()?);
            (all > 0).then(|| part as f64 / all as f64)
        });
    }
}

/// How near the speed came to the machine's limit: what the records say of it, or, for decode before schema 4, weights
/// alone over the bandwidth of DRAM.
fn share(c: &mut Collector<'_, Measurement>, cell: &Cell, bandwidth: &[Bandwidth]) {
    let recorded = |m: &Measurement| m.limit.as_ref().map(|share| share.share_ppm as f64 / 1e6);
    if cell.workload.phase == Phase::Prefill {
        let missing = "the peak of multiply-adds was not measured";
        c.add("compute_share", "ratio", Kind::Derived, missing, recorded);
    } else {
        let at_start = bandwidth.iter().find(|b| b.threads == cell.threads).map(|b| b.bytes_per_second);
        let limit = |m: &Measurement| m.interference.bandwidth_before.or(at_start).filter(|&b| b > 0);
        let reason = format!("read bandwidth was not measured at {} threads", cell.threads);
        c.add("bandwidth_share", "ratio", Kind::Derived, &reason, |m| {
            let older = || Some(m.tokens_per_second()? * m.footprint.read_per_token_bytes as f64 / limit(m)? as f64);
            recorded(m).or_else(older)
        });
    }
    let of = c
        .processes
        .iter()
        .find_map(|m| m.limit.as_ref())
        .map(|share| format!("of {}, {}", share.of.name, share.of.how));
    if let (Some(metric), Some(of)) = (c.out.last_mut(), of)
        && metric.figure.is_ok()
    {
        metric.note = Some(metric.note.take().map_or(of.clone(), |note| format!("{of}; {note}")));
    }
}

fn latency_ms(measurement: &Measurement, q: f64) -> Option<f64> {
    let mut all: Vec<f64> = measurement.samples.iter().flat_map(|s| &s.token_ns).map(|&ns| ns as f64 / 1e6).collect();
    all.sort_unstable_by(f64::total_cmp);
    quantile_sorted(&all, q)
}
