//! Answers for LaTeX: the packages booktabs and longtable, as the table of verdicts seldom fits a page.

use super::show::{TITLES, cells, part_titles, place, remarks, row, verdict};
use super::{Answer, Bench, Verdict};
use crate::formats::tex::{self, escape};
use std::fmt::Write;

/// Parts of the line that the columns of the table of verdicts take, in hundredths.
const SHARES: [u32; 5] = [30, 11, 18, 22, 19];
/// The same of a claim's table of figures.
const PART_SHARES: [u32; 6] = [16, 12, 16, 28, 16, 12];

/// The tables of all benches; alone, a whole document.
pub(super) fn document(benches: &[Bench], standalone: bool) -> String {
    let all: String = benches.iter().map(tables).collect();
    tex::document(&all, &["booktabs", "longtable"], standalone)
}

/// A bench's verdicts, and of each claim that could be tested its figures.
fn tables(bench: &Bench) -> String {
    let rows: Vec<[String; 5]> = bench.answers.iter().map(cells).collect();
    let mut out = table(&format!("Published claims. {}.", place(bench)), &SHARES, &TITLES, &rows);
    let warnings: Vec<String> = bench.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    out.push_str(&notes(&warnings));
    for answer in bench.answers.iter().filter(|answer| answer.verdict != Verdict::NotTestable) {
        let Answer { claim, parts, .. } = answer;
        let rows: Vec<[String; 6]> = parts.iter().map(|part| row(claim.metric, part)).collect();
        let caption = format!("{}: {}.", claim.id, verdict(answer));
        out.push_str(&table(&caption, &PART_SHARES, &part_titles(claim.metric), &rows));
        out.push_str(&notes(&remarks(answer).collect::<Vec<_>>()));
    }
    out
}

/// A table that goes on over pages, its columns set ragged; a row ends by `\tabularnewline`, as `\raggedright` takes `\\` for itself.
fn table<const N: usize>(caption: &str, shares: &[u32; N], titles: &[&str; N], rows: &[[String; N]]) -> String {
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.into_iter().map(|cell| format!("\\raggedright {cell}")).collect();
        format!("{} \\tabularnewline\n", cells.join(" & "))
    };
    // Between columns lie two `\tabcolsep`, at the outer edges none: a part of them is taken from each column.
    let gaps = 2.0 * (N as f64 - 1.0) / N as f64;
    let width = |share: &u32| format!("p{{\\dimexpr 0.{share:02}\\linewidth-{gaps:.3}\\tabcolsep\\relax}}");
    let columns: String = shares.iter().map(width).collect();
    let header = line(titles.iter().map(|title| escape(title)).collect());
    let head = format!("\\toprule\n{header}\\midrule\n");
    let rows: String = rows.iter().map(|row| line(row.iter().map(|cell| escape(cell)).collect())).collect();
    format!(
        "\n\\begingroup\\footnotesize\\setlength{{\\LTcapwidth}}{{\\linewidth}}\n\\begin{{longtable}}{{@{{}}{columns}@{{}}}}\n\
         \\caption{{{}}}\\\\\n{head}\\endfirsthead\n{head}\\endhead\n\\bottomrule\n\\endfoot\n{rows}\\end{{longtable}}\n\\endgroup\n",
        escape(caption)
    )
}

/// Lines in small print below a table.
fn notes(lines: &[String]) -> String {
    let mut out = String::new();
    for line in lines {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{{\\footnotesize\\noindent\\raggedright {}\\par}}", escape(line));
    }
    out
}
