//! Figures and foreign text as tables print them.

use crate::stats::Estimate;
use std::collections::BTreeMap;

/// Three significant digits, no exponent: `0.0123`, `4.56`, `78.9`, `1234`.
pub(crate) fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e7).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let digits = 2 - magnitude.log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 6) as usize)
}

/// `12.3 [11.9, 12.8]`, or `12.3 [n=1]` where one process gives no interval.
pub(crate) fn with_interval(figure: Estimate) -> String {
    match figure.interval {
        Some((lo, hi)) => format!("{} [{}, {}]", short(figure.value), short(lo), short(hi)),
        None => format!("{} [n={}]", short(figure.value), figure.n),
    }
}

/// `1.23 GiB`.
pub(crate) fn bytes(value: f64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fit = units.into_iter().find(|&(size, _)| value >= size as f64);
    match fit {
        Some((size, unit)) => format!("{} {unit}", short(value / size as f64)),
        None => format!("{value:.0} B"),
    }
}

/// `12.3 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", short(share * 100.0))
}

/// Text from a record made harmless in one cell of a Markdown table: no line ends, no markup.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text inside a Markdown code span: one line, no backtick.
pub(crate) fn code(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            ' '
        } else if c == '`' {
            '\''
        } else {
            c
        }
    };
    format!("`{}`", text.chars().map(plain).collect::<String>())
}

/// Text for a terminal: one line, no control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A Markdown table; cells are written as they are. The first `left` columns are aligned left, the others right.
pub(crate) fn markdown_table(header: &[String], rows: &[Vec<String>], left: usize) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(header);
    out.push('|');
    for column in 0..header.len() {
        out.push_str(if column < left { " --- |" } else { " ---: |" });
    }
    out.push('\n');
    for row in rows {
        out.push_str(&line(row));
    }
    out
}

/// Numbered footnotes: the same text gets the same number.
#[derive(Default)]
pub(crate) struct Footnotes {
    numbers: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Footnotes {
    /// The number of a footnote saying `text`.
    pub(crate) fn number(&mut self, text: &str) -> usize {
        *self.numbers.entry(text.to_owned()).or_insert_with(|| {
            self.texts.push(text.to_owned());
            self.texts.len()
        })
    }

    /// Texts in order of their numbers, from 1.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.texts.iter().enumerate().map(|(i, t)| (i + 1, t.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(short(0.01234), "0.0123");
        assert_eq!(short(9.876), "9.88");
        assert_eq!(short(123.4), "123");
        assert_eq!(short(98_765.4), "98765");
        assert_eq!(short(1e300), "1.00e300");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(percent(0.825), "82.5 %");
    }

    #[test]
    fn foreign_text_stays_in_its_cell() {
        assert_eq!(escape("a|b\n<c>"), "a\\|b &lt;c&gt;");
        assert_eq!(code("a`b\nc"), "`a'b c`");
    }
}
