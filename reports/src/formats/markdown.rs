//! Paper-style tables as Markdown.

use super::{parts, reading};
use crate::load::RunData;
use crate::paper::{self, Block, Row, Selection};
use crate::text::{Footnotes, code, escape, markdown_table};
use std::fmt::Write;

/// A run's tables under a heading.
pub(super) fn page(data: &RunData, selection: &Selection) -> String {
    let run = &data.run;
    format!(
        "## Run {}\n\nSuite {} on {}, {}.\n\n{}",
        escape(&run.name),
        code(&run.suite),
        escape(&run.machine.cpu),
        escape(&run.started),
        tables(&paper::blocks(data, selection))
    )
}

/// The tables of `blocks`, what they are read by, and their footnotes.
pub(crate) fn tables(blocks: &[Block]) -> String {
    if blocks.is_empty() {
        return "No cells.\n".to_owned();
    }
    let mut notes = Footnotes::default();
    let mut out = String::new();
    for block in blocks {
        let mut header = vec!["tokens/s".to_owned()];
        header.extend(block.models.iter().map(|m| escape(m)));
        let rows: Vec<Vec<String>> = block.rows.iter().map(|r| row(block, r, &mut notes)).collect();
        // Writing to a String can't fail.
        let _ = writeln!(out, "**{}**\n\n{}", escape(&block.title()), markdown_table(&header, &rows, 1));
    }
    let _ = writeln!(out, "{}", reading(blocks));
    for (number, text) in notes.texts() {
        let _ = writeln!(out, "{}{number}. {}", if number == 1 { "\n" } else { "" }, escape(text));
    }
    out.push('\n');
    out
}

fn row(block: &Block, row: &Row, notes: &mut Footnotes) -> Vec<String> {
    let mut cells = vec![escape(&row.label())];
    for entry in &row.entries {
        let parts = parts(row, entry.as_ref(), block.threads, "×", notes);
        let mut words = vec![parts.figure, escape(&parts.interval).replace("\\[", "[").replace("\\]", "]"), parts.mark];
        words.extend(parts.footnote.map(|number| format!("({number})")));
        words.retain(|word| !word.is_empty());
        cells.push(words.join(" "));
    }
    cells
}
