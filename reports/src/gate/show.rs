//! A gate's outcome for a terminal, a job's summary, and the tools of others.

use super::{Line, Outcome, Verdict};
use crate::text::{escape, markdown_table, plain, short};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Columns of a terminal's table: the same everywhere, so that output can be compared.
const WIDTH: u16 = 150;

/// How an outcome is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line a metric.
    Table,
    /// The same, for a job's summary.
    Markdown,
    /// Everything.
    Json,
    /// JUnit XML: a test case a metric.
    Junit,
    /// Bencher Metric Format (<https://bencher.dev/docs/reference/bencher-metric-format/>).
    Bmf,
    /// What github-action-benchmark's tool `customSmallerIsBetter` reads.
    ActionBenchmark,
    /// A badge as shields.io's endpoint reads it (<https://shields.io/badges/endpoint-badge>).
    Badge,
    /// Workflow commands that GitHub shows beside a commit.
    Annotations,
}

/// Writes an outcome.
///
/// # Errors
/// None but of the writer of JSON.
pub fn show(outcome: &Outcome, format: Format) -> Result<String, serde_json::Error> {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
    match format {
        Format::Table => Ok(terminal(outcome)),
        Format::Markdown => Ok(markdown(outcome)),
        Format::Json => serde_json::to_string_pretty(outcome).map(|text| text + "\n"),
        Format::Junit => Ok(junit(outcome)),
        Format::Bmf => pretty(&bmf(outcome)),
        Format::ActionBenchmark => pretty(&action_benchmark(outcome)),
        Format::Badge => pretty(&badge(outcome)),
        Format::Annotations => Ok(annotations(outcome)),
    }
}

const HEADER: [&str; 7] = ["metric", "of", "verdict", "change (+ is worse)", "told from none", "counts from", "rounds"];

fn signed(part: f64) -> String {
    let text = short(part * 100.0);
    if part > 0.0 { format!("+{text} %") } else { format!("{text} %") }
}

fn cells(line: &Line) -> [String; 7] {
    let change = match (line.change, line.interval) {
        (Some(change), Some((lo, hi))) => format!("{} [{}, {}]", signed(change), signed(lo), signed(hi)),
        (Some(change), None) => signed(change),
        (None, _) => String::new(),
    };
    [
        line.metric.clone(),
        line.of.clone(),
        line.verdict.name().to_owned(),
        change,
        line.smallest.map_or(String::new(), |part| format!("{} %", short(part * 100.0))),
        format!("{} %", short(line.threshold * 100.0)),
        line.n.map_or(String::new(), |n| n.to_string()),
    ]
}

/// What is said in one line.
fn summary(outcome: &Outcome) -> String {
    let count = |verdict| outcome.lines.iter().filter(|line| line.verdict == verdict).count();
    let all = [Verdict::Regressed, Verdict::Inconclusive, Verdict::Improved, Verdict::Unchanged, Verdict::Na];
    let told: Vec<String> =
        all.into_iter().filter(|&v| count(v) > 0).map(|v| format!("{} {}", count(v), v.name())).collect();
    let told = if told.is_empty() { "nothing judged".to_owned() } else { told.join(", ") };
    let took = outcome.seconds.map_or(String::new(), |seconds| format!("; {seconds:.0} s"));
    format!("{} against {}: {told}{took}", plain(&outcome.candidate), plain(&outcome.baseline))
}

fn terminal(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(HEADER);
    for line in &outcome.lines {
        table.add_row(cells(line).map(|cell| plain(&cell)));
    }
    let mut text = format!("{table}\n");
    for line in outcome.lines.iter().filter(|line| line.note.is_some()) {
        let _ = writeln!(
            text,
            "{} {}: {}",
            plain(&line.metric),
            plain(&line.of),
            plain(line.note.as_deref().unwrap_or(""))
        );
    }
    text + &summary(outcome) + "\n"
}

fn markdown(outcome: &Outcome) -> String {
    let header = HEADER.map(str::to_owned);
    let rows: Vec<Vec<String>> =
        outcome.lines.iter().map(|line| cells(line).iter().map(|c| escape(c)).collect()).collect();
    let mut text = format!(
        "## Gate: {}\n\n{}\n\n",
        outcome.verdict().map_or("nothing judged", Verdict::name),
        escape(&summary(outcome))
    );
    text.push_str(&markdown_table(&header, &rows, 3));
    for line in outcome.lines.iter().filter(|line| line.note.is_some()) {
        let note = escape(line.note.as_deref().unwrap_or(""));
        let _ = write!(text, "\n- {} {}: {note}", escape(&line.metric), escape(&line.of));
    }
    text + "\n"
}

/// A line's words for a person.
fn told(line: &Line) -> String {
    let [_, _, verdict, change, smallest, threshold, rounds] = cells(line);
    let mut text = verdict;
    let parts =
        [("by ", change), ("told from none from ", smallest), ("counts from ", threshold), ("rounds: ", rounds)];
    for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(text, "; {name}{value}");
    }
    if let Some(note) = &line.note {
        let _ = write!(text, "; {note}");
    }
    plain(&text)
}

fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A failure is a regression, an error what could not be told, skipped what has no figure.
fn junit(outcome: &Outcome) -> String {
    let count = |verdict| outcome.lines.iter().filter(|line| line.verdict == verdict).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuites>\n  <testsuite name=\"gate\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"{} timestamp=\"{}\">",
        outcome.lines.len(),
        count(Verdict::Regressed),
        count(Verdict::Inconclusive),
        count(Verdict::Na),
        outcome.seconds.map_or(String::new(), |seconds| format!(" time=\"{seconds:.3}\"")),
        xml(&outcome.started)
    );
    for line in &outcome.lines {
        let (name, told) = (xml(&line.of), xml(&told(line)));
        let inside = match line.verdict {
            Verdict::Regressed => format!("<failure message=\"{told}\"/>"),
            Verdict::Inconclusive => format!("<error message=\"{told}\"/>"),
            Verdict::Na => format!("<skipped message=\"{told}\"/>"),
            Verdict::Improved | Verdict::Unchanged => format!("<system-out>{told}</system-out>"),
        };
        let _ = writeln!(
            text,
            "    <testcase classname=\"gate.{}\" name=\"{name}\">{inside}</testcase>",
            xml(&line.metric)
        );
    }
    text + "  </testsuite>\n</testsuites>\n"
}

/// The candidate's figures, each with the interval of its change around it.
fn bmf(outcome: &Outcome) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (line, (_, value)) in outcome.lines.iter().filter_map(|line| Some((line, line.values?))) {
        let mut metric = json!({ "value": value });
        if let (Some(change), Some((lo, hi))) = (line.change, line.interval) {
            let at = |part: f64| value * (1.0 + part) / (1.0 + change);
            metric["lower_value"] = json!(at(lo));
            metric["upper_value"] = json!(at(hi));
        }
        let entry = all.entry(line.of.clone()).or_insert_with(|| json!({}));
        entry[format!("{}-{}", line.metric, line.unit.replace('/', "-per-")).trim_end_matches('-')] = metric;
    }
    Value::Object(all)
}

fn action_benchmark(outcome: &Outcome) -> Value {
    // Costs have a unit, and less of them is better; what has none (accuracy) is not for this tool.
    let entries = outcome.lines.iter().filter(|line| !line.unit.is_empty()).filter_map(|line| {
        let (_, value) = line.values?;
        let name = format!("{} {}", line.metric, line.of);
        let mut entry = json!({ "name": name, "unit": line.unit, "value": value, "extra": told(line) });
        if let Some(smallest) = line.smallest {
            entry["range"] = json!(format!("± {} %", short(smallest * 100.0)));
        }
        Some(entry)
    });
    Value::Array(entries.collect())
}

fn badge(outcome: &Outcome) -> Value {
    let (message, colour) = match outcome.verdict() {
        Some(Verdict::Regressed) => ("regressed", "red"),
        Some(Verdict::Inconclusive) => ("inconclusive", "yellow"),
        Some(Verdict::Improved) => ("improved", "brightgreen"),
        Some(Verdict::Unchanged) => ("unchanged", "green"),
        Some(Verdict::Na) | None => ("not judged", "lightgrey"),
    };
    json!({ "schemaVersion": 1, "label": "gate", "message": message, "color": colour })
}

/// Text of a workflow command, as the runner decodes it.
fn command(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn annotations(outcome: &Outcome) -> String {
    let mut text = String::new();
    for line in &outcome.lines {
        let kind = match line.verdict {
            Verdict::Regressed => "error",
            Verdict::Inconclusive => "warning",
            Verdict::Improved => "notice",
            Verdict::Unchanged | Verdict::Na => continue,
        };
        let title = command(&plain(&format!("{} {}", line.metric, line.of))).replace(':', "%3A").replace(',', "%2C");
        let _ = writeln!(text, "::{kind} title={title}::{}", command(&told(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let line = |metric: &str, verdict, change: Option<f64>| Line {
            metric: metric.to_owned(),
            of: "ternary/<m>&/t2/tg16".to_owned(),
            verdict,
            change,
            interval: change.map(|c| (c - 0.01, c + 0.01)),
            smallest: change.map(|_| 0.01),
            drives: true,
            threshold: 0.02,
            n: change.map(|_| 20),
            values: change.map(|c| (1000.0, 1000.0 * (1.0 + c))),
            unit: "ns/token".to_owned(),
            note: change.is_none().then(|| "no counter | here".to_owned()),
        };
        Outcome {
            schema: super::super::SCHEMA,
            baseline: "abc".to_owned(),
            candidate: "def".to_owned(),
            started: "2026-11-27T00:00:00Z".to_owned(),
            seconds: Some(61.25),
            lines: vec![
                line("decode", Verdict::Regressed, Some(0.05)),
                line("prefill", Verdict::Unchanged, Some(-0.001)),
                line("load", Verdict::Inconclusive, Some(0.03)),
                line("joules", Verdict::Na, None),
                Line { values: Some((0.9, 0.9)), ..Line::new("accuracy", "twins") },
            ],
        }
    }

    fn shown(format: Format) -> String {
        show(&outcome(), format).unwrap()
    }

    #[test]
    fn a_person_reads_verdict_change_and_reason() {
        let text = shown(Format::Table);
        assert!(text.contains("regressed") && text.contains("+5.00 % [+4.00 %, +6.00 %]"), "{text}");
        assert!(text.contains("joules ternary/<m>&/t2/tg16: no counter | here"), "{text}");
        assert!(text.ends_with("def against abc: 1 regressed, 1 inconclusive, 1 unchanged, 2 n/a; 61 s\n"), "{text}");
        let text = shown(Format::Markdown);
        assert!(text.starts_with("## Gate: regressed\n") && text.contains("no counter \\| here"), "{text}");
    }

    #[test]
    fn junit_is_well_formed_and_counts() {
        let text = shown(Format::Junit);
        assert!(text.contains(r#"tests="5" failures="1" errors="1" skipped="2" time="61.250""#), "{text}");
        assert!(
            text.contains(r#"<testcase classname="gate.decode" name="ternary/&lt;m&gt;&amp;/t2/tg16"><failure"#),
            "{text}"
        );
        assert_eq!(text.matches("<testcase").count(), text.matches("</testcase>").count());
    }

    #[test]
    fn other_tools_get_the_candidates_figures() {
        let text = shown(Format::Bmf);
        let bmf: Value = serde_json::from_str(&text).unwrap();
        let decode = &bmf["ternary/<m>&/t2/tg16"]["decode-ns-per-token"];
        assert_eq!(decode["value"], 1050.0);
        assert!((decode["lower_value"].as_f64().unwrap() - 1040.0).abs() < 1e-9, "{decode}");
        assert_eq!(bmf["ternary/<m>&/t2/tg16"].as_object().unwrap().len(), 3);
        let list: Value = serde_json::from_str(&shown(Format::ActionBenchmark)).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 3);
        assert_eq!((&list[0]["unit"], &list[0]["range"]), (&json!("ns/token"), &json!("± 1.00 %")));
        let badge: Value = serde_json::from_str(&shown(Format::Badge)).unwrap();
        assert_eq!((&badge["message"], &badge["schemaVersion"]), (&json!("regressed"), &json!(1)));
    }

    #[test]
    fn annotations_are_commands_that_a_runner_decodes() {
        let text = shown(Format::Annotations);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("::error title=decode ternary/<m>&/t2/tg16::regressed; by +5.00 %25 ["), "{text}");
        assert!(lines[1].starts_with("::warning title=load"), "{text}");
    }
}
