//! A table with what is to be said below it, for a terminal or a page; and CSV and JSON of rows that serialise.

use crate::stats::Estimate;
use crate::text::{Footnotes, escape, markdown_table, plain};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// How a command's answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a terminal.
    Table,
    /// GitHub's Markdown.
    Markdown,
    /// A row a figure, nothing rounded; unknown is empty.
    Csv,
    /// Everything, as one document.
    Json,
}

/// A figure with its interval, as JSON and CSV have it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// The interval's lower end, at 95 %.
    pub lo: Option<f64>,
    /// Its upper end.
    pub hi: Option<f64>,
    /// Replicates.
    pub n: usize,
}

impl From<Estimate> for Figure {
    fn from(estimate: Estimate) -> Figure {
        let (lo, hi) = estimate.interval.unzip();
        Figure { value: estimate.value, lo, hi, n: estimate.n }
    }
}

impl Figure {
    /// `0.973 [0.951, 0.992]`; ratios near 1 need three places, whatever the size.
    pub(crate) fn ratio(&self) -> String {
        match (self.lo, self.hi) {
            (Some(lo), Some(hi)) => format!("{:.3} [{lo:.3}, {hi:.3}]", self.value),
            _ => format!("{:.3}", self.value),
        }
    }
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// The line above it.
    pub title: String,
    /// Names of its columns.
    pub header: Vec<String>,
    /// Cells as they are; a writer makes them harmless.
    pub rows: Vec<Vec<String>>,
    /// How many columns are text, on the left; the others are figures.
    pub left: usize,
    /// Lines below it.
    pub notes: Vec<String>,
}

impl Sheet {
    /// One of these columns.
    pub fn new(title: impl Into<String>, left: usize, header: &[&str]) -> Sheet {
        let header = header.iter().map(|&name| name.to_owned()).collect();
        Sheet { title: title.into(), header, rows: Vec::new(), left, notes: Vec::new() }
    }

    /// A row; its last cell gets the numbers of `notes`, each of which is told once below the table.
    pub(crate) fn noted(&mut self, mut row: Vec<String>, notes: &[String], known: &mut Footnotes) {
        let numbers: Vec<String> = notes.iter().map(|note| known.number(note).to_string()).collect();
        row.push(if numbers.is_empty() { String::new() } else { format!("({})", numbers.join(", ")) });
        self.rows.push(row);
    }

    /// Writes the notes that [`Sheet::noted`] numbered.
    pub(crate) fn tell(&mut self, known: &Footnotes) {
        self.notes.extend(known.texts().map(|(number, text)| format!("({number}) {text}")));
    }

    /// For a terminal: control characters are blanks.
    pub fn terminal(&self) -> String {
        let mut out = format!("{}\n", plain(&self.title));
        if !self.rows.is_empty() {
            let mut table = Table::new();
            table.load_style(presets::ASCII_FULL_CONDENSED);
            table.set_header(self.header.iter().map(|name| plain(name)));
            table.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| plain(cell))));
            for (at, column) in table.column_iter_mut().enumerate() {
                let side = if at < self.left { CellAlignment::Left } else { CellAlignment::Right };
                column.set_cell_alignment(side);
            }
            out.push_str(&format!("{table}\n"));
        }
        for note in &self.notes {
            out.push_str(&format!("{}\n", plain(note)));
        }
        out
    }

    /// For a page: no markup comes through.
    pub fn markdown(&self) -> String {
        let mut out = format!("**{}**\n\n", escape(&self.title));
        if !self.rows.is_empty() {
            let cells = |row: &Vec<String>| row.iter().map(|cell| escape(cell)).collect::<Vec<_>>();
            let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
            out.push_str(&markdown_table(&cells(&self.header), &rows, self.left));
            out.push('\n');
        }
        for note in &self.notes {
            out.push_str(&format!("- {}\n", escape(note)));
        }
        out
    }
}

/// Sheets one after the other, as text.
pub(crate) fn text(sheets: &[Sheet], format: Format) -> String {
    let markdown = format == Format::Markdown;
    let one = |sheet: &Sheet| if markdown { sheet.markdown() } else { sheet.terminal() };
    sheets.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// CSV with a header, which stands there without rows too.
pub(crate) fn csv<T: Serialize>(header: &[&str], rows: &[T]) -> Result<String, String> {
    let mut out = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    out.write_record(header).map_err(|e| e.to_string())?;
    rows.iter().try_for_each(|row| out.serialize(row)).map_err(|e| e.to_string())?;
    String::from_utf8(out.into_inner().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// One document.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_harms_neither_terminal_nor_page() {
        let mut sheet = Sheet::new("a\u{1b}[2J", 1, &["name", "x"]);
        let mut known = Footnotes::default();
        for note in ["b|c", "b|c", "d"] {
            sheet.noted(vec!["<i>\n".to_owned()], &[note.to_owned()], &mut known);
        }
        sheet.tell(&known);
        assert_eq!(sheet.rows.iter().map(|row| row[1].as_str()).collect::<Vec<_>>(), ["(1)", "(1)", "(2)"]);
        let terminal = sheet.terminal();
        assert!(terminal.starts_with("a [2J\n") && terminal.ends_with("(1) b|c\n(2) d\n"), "{terminal}");
        let page = sheet.markdown();
        assert!(page.contains("| &lt;i&gt;  | (1) |") && page.contains("- (1) b\\|c"), "{page}");
    }

    #[test]
    fn unknown_is_empty_in_csv() {
        let rows = [(1.5, None::<f64>, "a,b"), (2.0, Some(3.0), "c")];
        assert_eq!(csv(&["x", "y", "z"], &rows).unwrap(), "x,y,z\n1.5,,\"a,b\"\n2.0,3.0,c\n");
        assert_eq!(csv::<(f64,)>(&["x"], &[]).unwrap(), "x\n");
    }
}
