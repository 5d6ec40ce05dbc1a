//! Paper-style tables for LaTeX: the package booktabs, notes below each table, no other packages.

use super::tex::{self, escape};
use super::{parts, reading};
use crate::load::RunData;
use crate::paper::{self, Block, Row, Selection};
use crate::text::Footnotes;
use std::fmt::Write;

/// Most models across a page; more go into a table of their own.
const ACROSS: usize = 9;

/// Up to as many models, intervals stand beside their figures rather than below, so that tables of many engines fit a page.
const ROOMY: usize = 4;

/// The tables of all runs; alone, a whole document.
pub(super) fn document(runs: &[RunData], selection: &Selection, standalone: bool) -> String {
    let mut out = String::new();
    for data in runs {
        let run = &data.run;
        let of = format!("Run {} on {}.", run.name, run.machine.cpu);
        for block in paper::blocks(data, selection) {
            let columns: Vec<usize> = (0..block.models.len()).collect();
            for columns in columns.chunks(ACROSS) {
                out.push_str(&table(&block, columns, &of));
            }
        }
    }
    tex::document(&out, &["booktabs"], standalone)
}

/// One table: `columns` are the places of the models shown. Of many models, intervals stand on a line of their own
/// below the figures.
fn table(block: &Block, columns: &[usize], of: &str) -> String {
    let mut notes = Footnotes::default();
    let names: Vec<String> = columns.iter().map(|&column| escape(&block.models[column])).collect();
    let caption = format!("{}: tokens/s. {of}", block.title());
    let mut out = format!(
        "\n\\begin{{table}}[htbp]\n\\centering\n\\caption{{{}}}\n\\begin{{tabular}}{{@{{}}l*{{{}}}{{r}}@{{}}}}\n\\toprule\n & {} \\\\\n",
        escape(&caption),
        columns.len(),
        names.join(" & ")
    );
    let mut before = None;
    for row in &block.rows {
        if before != Some(row.quantity) {
            out.push_str("\\midrule\n");
            before = Some(row.quantity);
        }
        out.push_str(&lines(block, row, columns, &mut notes));
    }
    out.push_str(
        "\\bottomrule\n\\end{tabular}\n\n\\smallskip\n\\begin{minipage}{\\linewidth}\\footnotesize\\raggedright\n",
    );
    // Writing to a String can't fail.
    let _ = writeln!(out, "{}\\par", escape(&reading(std::slice::from_ref(block))));
    for (number, text) in notes.texts() {
        let _ = writeln!(out, "\\textsuperscript{{{number}}}\\,{}\\par", escape(text));
    }
    out.push_str("\\end{minipage}\n\\end{table}\n");
    out
}

/// A row's figures and, where any has one, a line of intervals.
fn lines(block: &Block, row: &Row, columns: &[usize], notes: &mut Footnotes) -> String {
    let mut figures = vec![escape(&row.label())];
    let mut intervals = vec![String::new()];
    for &column in columns {
        let entry = row.entries.get(column).and_then(Option::as_ref);
        let parts = parts(row, entry, block.threads, "×", notes);
        let mut figure = escape(&parts.figure);
        if !parts.mark.is_empty() {
            let _ = write!(figure, " {{\\scriptsize {}}}", escape(&parts.mark));
        }
        if let Some(number) = parts.footnote {
            let _ = write!(figure, "\\textsuperscript{{{number}}}");
        }
        let interval = match parts.interval.as_str() {
            "" => String::new(),
            interval => format!("{{\\scriptsize {}}}", escape(interval)),
        };
        if columns.len() <= ROOMY && !interval.is_empty() {
            figure = format!("{figure} {interval}");
            intervals.push(String::new());
        } else {
            intervals.push(interval);
        }
        figures.push(figure);
    }
    let mut out = format!("{} \\\\\n", figures.join(" & "));
    if intervals.iter().any(|i| !i.is_empty()) {
        let _ = writeln!(out, "{} \\\\", intervals.join(" & "));
    }
    out
}
