//! Accuracy in a run: the metrics of each task, the page's section, and what sets two cells apart item by item.

use crate::accuracy::{Paired, paired};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Collector, Kind, Metric};
use crate::items::Items;
use crate::joules;
use crate::load::RunData;
use crate::stats::Estimate;
use crate::text::{escape, markdown_table, short};
use std::fmt::Write;
use suites::eval::{Accuracy, AccuracyFigure, Row, TaskOutcome};
use suites::record::{Measurement, Record};
use suites::task::Metric as TaskMetric;

/// Pairs shown for a task: more than all of six cells.
const MOST_PAIRS: usize = 21;

const NOTE: &str = "A figure, its standard error, and its 95 % interval (bootstrap over items). Each was answered once, after the \
    windows of the first block: answers do not change from process to process, nor with threads.";
const PAIRS: &str = "The same items by two cells: the difference of the second to the first with its 95 % interval (bootstrap over items), \
    the items that one alone has right, and McNemar's exact test.";

const PER_ANSWER_NOTE: &str = "Joules of all tasks together, by the most trusted source that has a total of them, for each item answered; loading left out.";

/// The name of a task's figure among a cell's metrics.
pub(crate) fn metric_name(task: &str, metric: TaskMetric) -> String {
    format!("{}:{task}", metric.name())
}

/// A metric for each figure of each task; a task without figures has one, which says why.
pub(crate) fn metrics(c: &mut Collector<'_, Measurement>) {
    let outcomes: Vec<&TaskOutcome> = c.processes.iter().flat_map(|m| &m.accuracy).collect();
    for outcome in outcomes {
        match outcome {
            TaskOutcome::Ok(accuracy) => {
                for figure in &accuracy.figures {
                    let estimate =
                        Estimate { value: figure.value, interval: figure.interval, n: accuracy.items as usize };
                    c.out.push(metric(&accuracy.task, figure.metric, Ok(estimate), note(accuracy, figure)));
                }
            }
            TaskOutcome::Unavailable { task, reason } => {
                c.out.push(metric(task, TaskMetric::Acc, Err(reason.clone()), None));
            }
        }
    }
}

fn metric(task: &str, of: TaskMetric, figure: Result<Estimate, String>, note: Option<String>) -> Metric {
    let unit = match of {
        TaskMetric::BitsPerByte => "bits/byte",
        _ => "ratio",
    };
    Metric { name: metric_name(task, of).into(), unit, kind: Kind::Measured, figure, note, source: None }
}

fn note(accuracy: &Accuracy, figure: &AccuracyFigure) -> Option<String> {
    let mut notes = vec![format!("{}-shot", accuracy.fewshot)];
    notes.extend(figure.stderr.map(|error| format!("standard error {}", short(error))));
    if accuracy.skipped > 0 {
        notes.push(format!("{} items skipped", accuracy.skipped));
    }
    if accuracy.truncated > 0 {
        notes.push(format!("{} items cut off from the left", accuracy.truncated));
    }
    Some(notes.join("; "))
}

/// What a record says of its tasks.
fn outcomes(record: &Record) -> impl Iterator<Item = &TaskOutcome> {
    record.measurement().into_iter().flat_map(|m| &m.accuracy)
}

/// Names of the run's tasks, in the order in which they were asked.
pub(crate) fn names(data: &RunData) -> Vec<&str> {
    let mut names = Vec::new();
    for task in data.records.iter().flat_map(outcomes).map(TaskOutcome::task) {
        if !names.contains(&task) {
            names.push(task);
        }
    }
    names
}

/// The headline of a task's figures.
pub(crate) fn headline(data: &RunData, task: &str) -> Option<TaskMetric> {
    data.records.iter().flat_map(outcomes).find_map(|outcome| match outcome {
        TaskOutcome::Ok(accuracy) if accuracy.task == task => Some(accuracy.figures.first()?.metric),
        _ => None,
    })
}

/// The section; nothing where no task was asked.
pub(crate) fn section(data: &RunData, analysis: &Analysis) -> String {
    let names = names(data);
    if names.is_empty() {
        return String::new();
    }
    let mut out = format!("## Accuracy\n\n{NOTE}\n\n");
    for task in names {
        let _ = writeln!(out, "### {}\n", escape(task));
        out.push_str(&table(data, analysis, task));
        out.push_str(&pairs(data, analysis, task));
    }
    out.push_str(&per_answer(data, analysis));
    out
}

/// What an answer took of each cell whose tasks have joules, and whether they were measured; nothing without any.
fn per_answer(data: &RunData, analysis: &Analysis) -> String {
    let mut lines = Vec::new();
    for cell in &analysis.cells {
        let Some(metric) = cell.metric(joules::PER_ANSWER) else { continue };
        let Ok(figure) = &metric.figure else { continue };
        let of = data.records.iter().filter(|record| record.cell == cell.cell).filter_map(Record::measurement);
        let answers: u64 = of.filter_map(joules::answers).sum();
        let kind = if metric.kind == Kind::Modelled { "**modelled**" } else { metric.kind.name() };
        lines.push(vec![
            escape(&cell.cell.model),
            escape(&analysis.shown(&cell.cell.engine)),
            escape(&format!("{}{}", cell.cell.threads, variant(&cell.cell))),
            escape(metric.source.as_deref().unwrap_or("unknown")),
            kind.to_owned(),
            answers.to_string(),
            short(figure.value),
        ]);
    }
    if lines.is_empty() {
        return String::new();
    }
    let header = ["model", "engine", "threads", "source", "kind", "answers", "J/answer"].map(str::to_owned);
    format!("### Joules of an answer\n\n{PER_ANSWER_NOTE}\n\n{}\n", markdown_table(&header, &lines, 5))
}

fn cell_name(analysis: &Analysis, cell: &CellSummary) -> String {
    format!("{} on {}{}", analysis.shown(&cell.cell.engine), cell.cell.model, variant(&cell.cell))
}

/// Cells down, figures across.
fn table(data: &RunData, analysis: &Analysis, task: &str) -> String {
    let mut metrics: Vec<TaskMetric> = Vec::new();
    let mut rows: Vec<(&Record, &TaskOutcome)> = Vec::new();
    for record in &data.records {
        for outcome in outcomes(record).filter(|outcome| outcome.task() == task) {
            rows.push((record, outcome));
            if let TaskOutcome::Ok(accuracy) = outcome {
                metrics.extend(
                    accuracy.figures.iter().map(|f| f.metric).filter(|m| !metrics.contains(m)).collect::<Vec<_>>(),
                );
            }
        }
    }
    let place = |record: &Record| analysis.cells.iter().position(|c| c.cell == record.cell);
    rows.sort_by_key(|(record, _)| place(record));
    let mut header = ["model", "engine", "threads", "items"].map(str::to_owned).to_vec();
    header.extend(metrics.iter().map(|metric| escape(metric.name())));
    let mut reasons = Vec::new();
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(record, outcome)| {
            let cell = &record.cell;
            let threads = format!("{}{}", cell.threads, variant(cell));
            let mut line = vec![escape(&cell.model), escape(&analysis.shown(&cell.engine)), escape(&threads)];
            match outcome {
                TaskOutcome::Ok(accuracy) => {
                    line.push(items(accuracy));
                    line.extend(metrics.iter().map(|&metric| figure(accuracy, metric)));
                }
                TaskOutcome::Unavailable { reason, .. } => {
                    line.push("N/A".to_owned());
                    line.extend(metrics.iter().map(|_| "N/A".to_owned()));
                    reasons.push(format!("- {}: {}\n", escape(&cell.id()), escape(reason)));
                }
            }
            line
        })
        .collect();
    format!(
        "{}\n{}{}",
        markdown_table(&header, &lines, 2),
        reasons.concat(),
        if reasons.is_empty() { "" } else { "\n" }
    )
}

fn items(accuracy: &Accuracy) -> String {
    let mut text = accuracy.items.to_string();
    if accuracy.skipped > 0 {
        let _ = write!(text, ", {} skipped", accuracy.skipped);
    }
    if accuracy.truncated > 0 {
        let _ = write!(text, ", {} cut off from the left", accuracy.truncated);
    }
    text
}

/// `0.352 ± 0.021 [0.310, 0.394]`.
fn figure(accuracy: &Accuracy, metric: TaskMetric) -> String {
    let Some(figure) = accuracy.figures.iter().find(|figure| figure.metric == metric) else { return String::new() };
    let error = figure.stderr.map_or(String::new(), |error| format!(" ± {}", short(error)));
    let range = figure.interval.map_or(String::new(), |(low, high)| format!(" [{}, {}]", short(low), short(high)));
    format!("{}{error}{range}", short(figure.value))
}

/// Cells that answered a task, one for each engine, model and variant, with their items.
fn answered<'a>(data: &'a RunData, analysis: &'a Analysis, task: &str) -> Vec<(String, &'a Items)> {
    let mut found: Vec<(String, &Items)> = Vec::new();
    for cell in &analysis.cells {
        for record in data.records.iter().filter(|record| record.cell == cell.cell) {
            let logs = outcomes(record).filter_map(|outcome| match outcome {
                TaskOutcome::Ok(accuracy) if accuracy.task == task => data.items.get(&accuracy.log),
                _ => None,
            });
            let name = cell_name(analysis, cell);
            if !found.iter().any(|(known, _)| *known == name) {
                found.extend(logs.map(|items| (name.clone(), items)));
            }
        }
    }
    found
}

/// Two cells at a time, by the task's first figure that is right or wrong by item.
fn pairs(data: &RunData, analysis: &Analysis, task: &str) -> String {
    let Some(metric) = headline(data, task) else { return String::new() };
    let all = answered(data, analysis, task);
    let rows_of = |items: &'_ Items| items.rows.values().cloned().collect::<Vec<Row>>();
    let rows: Vec<(String, Vec<Row>)> = all.into_iter().map(|(name, items)| (name, rows_of(items))).collect();
    let mut lines = Vec::new();
    for (index, (first, of_first)) in rows.iter().enumerate() {
        for (second, of_second) in &rows[index + 1..] {
            let [a, b] = [of_first, of_second].map(|rows| rows.iter().collect::<Vec<&Row>>());
            lines.extend(paired(metric, &a, &b).map(|found| line(first, second, &found)));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let header = ["first", "second", "items", "difference", "first alone", "second alone", "p"].map(str::to_owned);
    let left_out = lines.len().saturating_sub(MOST_PAIRS);
    let more = if left_out > 0 {
        format!("\n{left_out} more pairs: `harness compare` on the logs in `items/`.\n")
    } else {
        String::new()
    };
    lines.truncate(MOST_PAIRS);
    format!(
        "{} by {}.\n\n{}{more}\n",
        PAIRS.trim_end_matches('.'),
        escape(metric.name()),
        markdown_table(&header, &lines, 2)
    )
}

fn line(first: &str, second: &str, found: &Paired) -> Vec<String> {
    let (difference, (low, high)) = found.difference;
    let signed = |value: f64| format!("{value:+.3}");
    vec![
        escape(first),
        escape(second),
        found.n.to_string(),
        format!("{} [{}, {}]", signed(difference), signed(low), signed(high)),
        found.discordant.0.to_string(),
        found.discordant.1.to_string(),
        if found.p < 0.0001 { "< 0.0001".to_owned() } else { format!("{:.4}", found.p) },
    ]
}
