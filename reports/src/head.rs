//! What bounded heads read: kept apart from the whole heads' figures, as it depends on the values of weights and activations.

use crate::analysis::Analysis;
use crate::cells::CellSummary;
use crate::text::{bytes, escape, markdown_table, percent, short, with_interval};
use std::fmt::Write;

/// The section, or nothing where no bounded head was measured.
pub(crate) fn section(analysis: &Analysis) -> String {
    let text = |c: &CellSummary, name: &str, say: fn(f64) -> String| {
        c.figure(name).map_or(String::new(), |figure| say(figure.value))
    };
    let mut rows = Vec::new();
    for c in analysis.cells.iter().filter(|c| c.metric("head_read_bytes").is_some()) {
        let mut row = vec![escape(&c.cell.model), escape(&c.cell.engine), c.cell.threads.to_string()];
        row.push(text(c, "head_open_share", percent));
        row.push(text(c, "head_rescored_rows", short));
        row.push(text(c, "head_full_share", percent));
        row.push(text(c, "head_read_bytes", bytes));
        row.push(text(c, "head_read_share", percent));
        row.push(c.figure("speedup").map_or(String::new(), |f| format!("{}×", with_interval(f))));
        rows.push(row);
    }
    if rows.is_empty() {
        return String::new();
    }
    let header = [
        "model",
        "engine",
        "threads",
        "rows open after 4 bits",
        "rows of f16 a token",
        "tokens that read the whole head",
        "head bytes a token",
        "of the f16 head's",
        "speed-up over the pair",
    ];
    let mut out = format!("## Bounded head\n\n{NOTE}\n\n");
    let _ = writeln!(out, "{}", markdown_table(&header.map(str::to_owned), &rows, 2));
    out
}

/// Said wherever a bounded head ran.
pub(crate) const NOTE: &str = "Bounded heads choose the f16 head's own token and read less of it. How much less depends on the \
    values of weights and activations: the logits of synthetic weights are random, and theirs is no trained model's share.";
