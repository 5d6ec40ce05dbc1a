//! What sparse engines left unread: kept apart from the dense figures, as it depends on the weights' values.

use crate::analysis::Analysis;
use crate::cells::CellSummary;
use crate::text::{escape, markdown_table, percent, with_interval};
use std::fmt::Write;

/// The section, or nothing where no sparse engine was measured.
pub(crate) fn section(analysis: &Analysis) -> String {
    let share = |c: &CellSummary, name: &str| c.figure(name).map_or(String::new(), |f| percent(f.value));
    let mut rows = Vec::new();
    for c in analysis.cells.iter().filter(|c| c.metric("zero_gate_share").is_some()) {
        let mut row = vec![escape(&c.cell.model), escape(&c.cell.engine), c.cell.threads.to_string()];
        let names =
            ["zero_gate_share", "zero_activation_share", "up_by_rows_share", "down_by_columns_share", "ffn_read_share"];
        row.extend(names.map(|name| share(c, name)));
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
        "zero gates",
        "zero activations of down",
        "layers that read up by rows",
        "layers that read down by columns",
        "bytes of up and down read",
        "speed-up over dense",
    ];
    let mut out = format!("## Exact sparsity\n\n{NOTE}\n\n");
    let _ = writeln!(out, "{}", markdown_table(&header.map(str::to_owned), &rows, 2));
    out
}

/// Said wherever a sparse engine ran.
pub(crate) const NOTE: &str = "Sparse engines read less where gates are zero. Of synthetic weights that share was set, or is \
    chance: it says nothing of a trained model's, and neither does a speed that comes of it.";
