//! Answers as text: for a terminal, Markdown, CSV and JSON.

use super::{Answer, Bench, Ours, Part, Verdict, latex};
use crate::html::{ClaimRow, ClaimsSection};
use crate::stats::Estimate;
use crate::text::{escape, markdown_table, plain, short, with_interval};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;
use suites::claim::Metric;

/// Columns of a terminal's table: the same everywhere, so that output can be compared.
const WIDTH: u16 = 140;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line a claim, and a line a figure below.
    Table,
    /// The same as Markdown, with the conditions that differ.
    Markdown,
    /// The tables of Markdown for LaTeX with the packages booktabs and longtable; `standalone`: a whole document.
    Latex {
        /// With preamble and end.
        standalone: bool,
    },
    /// A row a figure.
    Csv,
    /// Everything.
    Json,
}

/// Writes what became of the claims.
///
/// # Errors
/// None but of the writers of CSV and JSON.
pub fn show(benches: &[Bench], format: Format) -> Result<String, String> {
    match format {
        Format::Table => Ok(benches.iter().map(terminal).collect::<Vec<_>>().join("\n")),
        Format::Markdown => Ok(benches.iter().map(markdown).collect::<Vec<_>>().join("\n")),
        Format::Latex { standalone } => Ok(latex::document(benches, standalone)),
        Format::Csv => csv(benches),
        Format::Json => {
            let all: Vec<Value> = benches.iter().map(value).collect();
            serde_json::to_string_pretty(&json!({ "benches": all })).map(|text| text + "\n").map_err(|e| e.to_string())
        }
    }
}

/// A figure as its metric prints it.
fn figure(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Speedup => format!("{}×", short(value)),
        Metric::EnergyReduction | Metric::Accuracy | Metric::TokenMatch => format!("{} %", short(value * 100.0)),
        _ => short(value),
    }
}

fn interval(metric: Metric, estimate: Estimate) -> String {
    let percent = matches!(metric, Metric::EnergyReduction | Metric::Accuracy | Metric::TokenMatch);
    let shown = if percent { estimate.scaled(100.0) } else { estimate };
    let unit = match metric {
        _ if percent => " %",
        Metric::Speedup => "×",
        _ => "",
    };
    if shown.n == 0 {
        return format!("{}{unit}", short(shown.value));
    }
    format!("{}{unit}, n = {}", with_interval(shown), shown.n)
}

/// The published figures: the one, or the least and the most.
fn published(answer: &Answer) -> String {
    let of = |value| figure(answer.claim.metric, value);
    let values = answer.parts.iter().map(|part| part.published);
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if least == most { of(least) } else { format!("{} to {}", of(least), of(most)) }
}

/// Ours in a line: the one figure, or the least and the most of those tested and how many; or why there is none.
fn ours(answer: &Answer) -> String {
    let metric = answer.claim.metric;
    let found: Vec<&Ours> = answer.parts.iter().filter_map(|part| part.ours.as_ref().ok()).collect();
    match found.as_slice() {
        [] => reason(answer).to_owned(),
        [one] if answer.parts.len() == 1 => interval(metric, one.estimate),
        [one] => format!("{}, 1 of {} tested", interval(metric, one.estimate), answer.parts.len()),
        many => {
            let values = many.iter().map(|o| o.estimate.value);
            let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
            let (from, to) = (figure(metric, least), figure(metric, most));
            format!("{from} to {to}, {} of {} tested", many.len(), answer.parts.len())
        }
    }
}

/// The reason that most figures without one have, the first of equals.
fn reason(answer: &Answer) -> &str {
    let reasons: Vec<&str> = answer.parts.iter().filter_map(|p| p.ours.as_ref().err().map(String::as_str)).collect();
    let count = |reason: &str| reasons.iter().filter(|other| **other == reason).count();
    let most = reasons.iter().map(|reason| count(reason)).max().unwrap_or(0);
    reasons.iter().find(|reason| count(reason) == most).copied().unwrap_or("no figure")
}

/// The verdict; of `partly` the figures by their own.
pub(super) fn verdict(answer: &Answer) -> String {
    if answer.verdict != Verdict::Partly {
        return answer.verdict.name().to_owned();
    }
    let of = |verdict: Verdict| {
        let names: Vec<&str> = answer.parts.iter().filter(|p| p.verdict == verdict).map(|p| p.of.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} {}", verdict.name(), names.join(", ")))
    };
    let parts = [Verdict::Exceeded, Verdict::Reproduced, Verdict::NotReproduced, Verdict::Undecided];
    format!("partly: {}", parts.into_iter().filter_map(of).collect::<Vec<_>>().join("; "))
}

/// Runs, machine and build in a line.
pub(super) fn place(bench: &Bench) -> String {
    let Bench { runs, machine, build, .. } = bench;
    let revision = build.git_revision.as_deref().map_or("unknown revision", |r| r.get(..12).unwrap_or(r));
    format!("{} on {} ({} CPUs), {revision}, profile {}", runs.join(", "), machine.cpu, machine.cpus, build.profile)
}

fn terminal(bench: &Bench) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["claim", "published", "verdict", "ours [95 %]"]);
    for answer in &bench.answers {
        let row = [answer.claim.id.clone(), published(answer), verdict(answer), ours(answer)];
        table.add_row(row.map(|text| plain(&text)));
    }
    let mut out = format!("{}\n", plain(&place(bench)));
    for warning in &bench.warnings {
        let _ = writeln!(out, "warning: {}", plain(warning));
    }
    let _ = writeln!(out, "{table}");
    let counts: Vec<String> = bench.counts().iter().map(|(verdict, n)| format!("{n} {}", verdict.name())).collect();
    let _ = writeln!(out, "{}; figures and conditions: --format markdown, csv or json", counts.join(", "));
    out
}

fn markdown(bench: &Bench) -> String {
    let titles = |titles: &[&str]| titles.iter().map(|&t| t.to_owned()).collect::<Vec<String>>();
    let rows: Vec<Vec<String>> = bench.answers.iter().map(|a| cells(a).map(|t| escape(&t)).into()).collect();
    let mut out = format!("## Published claims\n\n{}.\n\n", escape(&place(bench)));
    for warning in &bench.warnings {
        let _ = writeln!(out, "- **{}**", escape(warning));
    }
    let header = titles(&TITLES);
    let _ = writeln!(out, "\n{}", markdown_table(&header, &rows, header.len()));
    for answer in bench.answers.iter().filter(|a| a.verdict != Verdict::NotTestable) {
        let Answer { claim, parts, .. } = answer;
        let _ = writeln!(out, "### `{}`: {}\n", escape(&claim.id), verdict(answer));
        let header = titles(&part_titles(claim.metric));
        let rows: Vec<Vec<String>> =
            parts.iter().map(|part| row(claim.metric, part).map(|text| escape(&text)).into()).collect();
        let _ = writeln!(out, "{}", markdown_table(&header, &rows, 1));
        for line in remarks(answer) {
            let _ = writeln!(out, "- {}", escape(&line));
        }
        out.push('\n');
    }
    out
}

/// Titles of [`cells`].
pub(super) const TITLES: [&str; 5] = ["claim", "published", "verdict", "ours [95 %]", "source"];

/// A claim's row of the table of verdicts.
pub(super) fn cells(answer: &Answer) -> [String; 5] {
    [answer.claim.text.clone(), published(answer), verdict(answer), ours(answer), answer.claim.source.clone()]
}

/// Titles of [`row`].
pub(super) fn part_titles(metric: Metric) -> [&'static str; 6] {
    ["of", metric.name(), "counts as it", "ours [95 %]", "kind", "verdict"]
}

/// What stands below a claim's figures: conditions that differ, growth, tolerance.
pub(super) fn remarks(answer: &Answer) -> impl Iterator<Item = String> {
    let tolerance = format!("tolerance: {}", answer.claim.why);
    answer.differs.iter().cloned().chain(answer.growth.iter().cloned()).chain([tolerance])
}

/// A figure's row of a claim's own table.
pub(super) fn row(metric: Metric, part: &Part) -> [String; 6] {
    let (low, high) = part.band;
    let of = |value| figure(metric, value);
    let (ours, kind) = match &part.ours {
        Ok(ours) => (interval(metric, ours.estimate), ours.kind.clone()),
        Err(reason) => (format!("N/A: {reason}"), String::new()),
    };
    let band = format!("{} to {}", of(low), of(high));
    [part.of.clone(), of(part.published), band, ours, kind, part.verdict.name().to_owned()]
}

/// The verdicts as a section of a run's page.
pub fn section(bench: &Bench) -> ClaimsSection {
    let row = |answer: &Answer| {
        let tested = || answer.parts.iter().filter_map(|part| part.ours.as_ref().ok());
        let differs = match answer.verdict {
            Verdict::NotTestable => reason(answer).to_owned(),
            _ => answer.differs.iter().cloned().chain(answer.growth.clone()).collect::<Vec<_>>().join("; "),
        };
        ClaimRow {
            claim: answer.claim.text.clone(),
            published: published(answer),
            verdict: verdict(answer),
            ours: tested().next().map(|_| ours(answer)),
            n: tested().map(|ours| ours.estimate.n).filter(|&n| n > 0).min(),
            differs,
            source: answer.claim.source.clone(),
        }
    };
    let counts: Vec<String> = bench.counts().iter().map(|(verdict, n)| format!("{n} {}", verdict.name())).collect();
    let note = format!(
        "{}. Judged by the 95 % interval against the published figure and its tolerance; each figure by itself: claims RUN --format markdown.",
        counts.join(", ")
    );
    ClaimsSection { note, rows: bench.answers.iter().map(row).collect() }
}

fn csv(benches: &[Bench]) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "runs",
        "claim",
        "source",
        "metric",
        "of",
        "published",
        "low",
        "high",
        "value",
        "lo",
        "hi",
        "n",
        "kind",
        "how",
        "run",
        "verdict",
        "claim_verdict",
        "reason",
    ];
    writer.write_record(header).map_err(|e| e.to_string())?;
    for bench in benches {
        for answer in &bench.answers {
            for part in &answer.parts {
                writer.write_record(csv_row(bench, answer, part)).map_err(|e| e.to_string())?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

fn csv_row(bench: &Bench, answer: &Answer, part: &Part) -> [String; 18] {
    let ours = part.ours.as_ref().ok();
    let number = |of: fn(&Ours) -> Option<f64>| ours.and_then(of).map_or(String::new(), |v| v.to_string());
    let text = |of: fn(&Ours) -> String| ours.map_or(String::new(), of);
    [
        bench.runs.join(" "),
        answer.claim.id.clone(),
        answer.claim.source.clone(),
        answer.claim.metric.name().to_owned(),
        part.of.clone(),
        part.published.to_string(),
        part.band.0.to_string(),
        part.band.1.to_string(),
        number(|o| Some(o.estimate.value)),
        number(|o| Some(o.estimate.interval?.0)),
        number(|o| Some(o.estimate.interval?.1)),
        // One computed from a shape has no replicates.
        text(|o| if o.estimate.n > 0 { o.estimate.n.to_string() } else { String::new() }),
        text(|o| o.kind.clone()),
        text(|o| o.how.clone()),
        text(|o| o.run.clone().unwrap_or_default()),
        part.verdict.name().to_owned(),
        answer.verdict.name().to_owned(),
        part.ours.as_ref().err().cloned().unwrap_or_default(),
    ]
}

fn value(bench: &Bench) -> Value {
    let part = |part: &Part| {
        let ours = part.ours.as_ref().ok().map(|o| {
            let (lo, hi) = o.estimate.interval.unzip();
            json!({ "value": o.estimate.value, "lo": lo, "hi": hi, "n": (o.estimate.n > 0).then_some(o.estimate.n), "kind": o.kind, "how": o.how, "run": o.run })
        });
        json!({
            "of": part.of, "published": part.published, "low": part.band.0, "high": part.band.1,
            "verdict": part.verdict.name(), "ours": ours, "reason": part.ours.as_ref().err(),
        })
    };
    let answer = |answer: &Answer| {
        json!({
            "id": answer.claim.id, "claim": answer.claim.text, "source": answer.claim.source,
            "metric": answer.claim.metric.name(), "verdict": answer.verdict.name(), "growth": answer.growth,
            "differs": answer.differs, "tolerance": answer.claim.why, "figures": answer.parts.iter().map(part).collect::<Vec<_>>(),
        })
    };
    json!({
        "runs": bench.runs, "machine": bench.machine, "build": bench.build, "warnings": bench.warnings,
        "claims": bench.answers.iter().map(answer).collect::<Vec<_>>(),
    })
}
