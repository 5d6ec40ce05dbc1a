//! A table of our engines' speeds over those of the fastest outside engine: rows are models, workloads and engines, thread counts across.

use super::parts;
use crate::cells::Status;
use crate::paper::{Block, Quantity, Row, Threads};
use crate::text::{Footnotes, escape, markdown_table};
use std::fmt::Write;
use suites::cell::Phase;

/// What the table is read by.
const READING: &str = "Tokens/s over those of the outside engine named: of those beside it, the one with the highest median at that thread \
    count. Formed block by block; medians over blocks with 95 % intervals in brackets. Answers of outside engines are not checked.";

/// What a row is of.
#[derive(PartialEq)]
struct Key {
    model: String,
    engine: String,
    variant: String,
    workload: String,
}

/// A row: the fastest outside engine and the ratio to it, at each thread count where there is one.
struct Line {
    key: Key,
    found: Vec<(Threads, String, String)>,
}

/// The table of `groups`, each of them blocks of engines that are held against each other; `None` where none of ours ran beside an
/// outside one.
pub(crate) fn peers(groups: &[Vec<Block>]) -> Option<String> {
    let mut notes = Footnotes::default();
    let mut lines: Vec<Line> = Vec::new();
    for block in groups.iter().flatten() {
        add(block, &mut lines, &mut notes);
    }
    if lines.is_empty() {
        return None;
    }
    let mut threads: Vec<Threads> = Vec::new();
    for (of, ..) in lines.iter().flat_map(|line| &line.found) {
        if !threads.contains(of) {
            threads.push(*of);
        }
    }
    let mut header = ["model", "engine", "workload", "fastest outside engine"].map(str::to_owned).to_vec();
    header.extend(threads.iter().map(Threads::to_string));
    let rows: Vec<Vec<String>> = lines.iter().map(|line| row(line, &threads)).collect();
    let mut out = format!("{}\n{READING}\n", markdown_table(&header, &rows, 4));
    for (number, text) in notes.texts() {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{}{number}. {}", if number == 1 { "\n" } else { "" }, escape(text));
    }
    out.push('\n');
    Some(out)
}

/// Adds what one block tells of each model and engine of ours.
fn add(block: &Block, lines: &mut Vec<Line>, notes: &mut Footnotes) {
    let phase = match block.workload.phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    };
    let workload = format!("{phase}, {}", block.workload);
    for (column, model) in block.models.iter().enumerate() {
        let ours = block.rows.iter().filter(|row| row.quantity == Quantity::Speed && !outside(row));
        for own in ours {
            let Some(ratio) = fastest(block, own, column) else { continue };
            let entry = ratio.entries.get(column).and_then(Option::as_ref);
            let parts = parts(ratio, entry, block.threads, "×", notes);
            let mut words = vec![parts.figure, parts.interval];
            words.extend(parts.footnote.map(|number| format!("({number})")));
            words.retain(|word| !word.is_empty());
            let name = ratio.against.clone().unwrap_or_default().replace(" (outside)", "");
            let key = Key {
                model: model.clone(),
                engine: own.engine.clone(),
                variant: block.variant.trim().to_owned(),
                workload: workload.clone(),
            };
            let found = (block.threads, name, words.join(" "));
            match lines.iter_mut().find(|line| line.key == key) {
                Some(line) => line.found.push(found),
                None => lines.push(Line { key, found: vec![found] }),
            }
        }
    }
}

/// Whether a row is of an outside engine.
fn outside(row: &Row) -> bool {
    row.entries.iter().flatten().any(|entry| entry.status == Status::Outside)
}

/// The row of ratios to the fastest outside engine that ran `own`'s model.
fn fastest<'a>(block: &'a Block, own: &Row, column: usize) -> Option<&'a Row> {
    let speed = |engine: &str| {
        let mut of = block.rows.iter().filter(|row| row.quantity == Quantity::Speed && row.engine == engine);
        of.find(|row| outside(row))?.entries.get(column)?.as_ref()?.figure.map(|figure| figure.value)
    };
    let ratios = block.rows.iter().filter(|row| row.quantity == Quantity::Speedup && row.engine == own.engine);
    let there = ratios.filter(|row| row.entries.get(column).is_some_and(Option::is_some));
    let timed = there.filter_map(|row| Some((speed(row.against.as_deref()?)?, row)));
    timed.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, row)| row)
}

fn row(line: &Line, threads: &[Threads]) -> Vec<String> {
    let Line { key, found } = line;
    let engine = if key.variant.is_empty() { key.engine.clone() } else { format!("{}, {}", key.engine, key.variant) };
    let mut names: Vec<&str> = found.iter().map(|(_, name, _)| name.as_str()).collect();
    names.dedup();
    let named = match names.as_slice() {
        [one] => (*one).to_owned(),
        // Which one is the fastest may depend on the thread count.
        _ => found.iter().map(|(threads, name, _)| format!("{name} ({threads})")).collect::<Vec<_>>().join(", "),
    };
    let mut cells: Vec<String> = [&key.model, &engine, &key.workload, &named].map(|text| escape(text)).to_vec();
    let at = |wanted: &Threads| found.iter().find(|(threads, ..)| threads == wanted);
    cells.extend(threads.iter().map(|threads| at(threads).map_or(String::new(), |(.., text)| text.clone())));
    cells
}
