//! Foreign text made harmless in LaTeX, and what stands around tables.

/// Wide paper and small margins by the kernel's own means, after the packages.
const PAGE: &str = "\\usepackage[a4paper,landscape,margin=15mm]{geometry}
\\setlength{\\parindent}{0pt}
\\emergencystretch=3em
\\begin{document}
";

/// `tables` behind a comment that names the packages they need; standalone, a whole document.
pub(crate) fn document(tables: &str, packages: &[&str], standalone: bool) -> String {
    let packages = packages.join(",");
    let needed = format!("% In the preamble: \\usepackage{{{packages}}}\n");
    if !standalone {
        return needed + tables;
    }
    format!("{needed}\\documentclass[10pt]{{article}}\n\\usepackage{{{packages}}}\n{PAGE}{tables}\\end{{document}}\n")
}

/// Text as LaTeX sets it literally: no command, no comment, no ligature, one line. What the standard fonts of pdfLaTeX
/// lack is told by its code point, as an unknown character would stop the run.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '%' | '_' | '#' | '&' | '{' | '}' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // A dash before a dash would be a long one.
            '-' if chars.peek() == Some(&'-') => out.push_str("-{}"),
            // Behind a line end these two would be its arguments.
            '[' | ']' | '*' => out.push_str(&format!("{{{c}}}")),
            c if c.is_control() => out.push(' '),
            c => match named(c) {
                Some(name) => out.push_str(name),
                // Latin letters that the standard fonts compose.
                None if c.is_ascii() || matches!(c, 'À'..='ÿ' if !matches!(c, 'Ð' | 'ð' | 'Þ' | 'þ')) => {
                    out.push(c)
                }
                None => out.push_str(&format!("{{[}}U+{:04X}{{]}}", u32::from(c))),
            },
        }
    }
    out
}

fn named(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\textbackslash{}",
        '~' => "\\textasciitilde{}",
        '^' => "\\textasciicircum{}",
        '<' => "\\textless{}",
        '>' => "\\textgreater{}",
        '|' => "\\textbar{}",
        '"' => "\\char34{}",
        '`' => "\\textasciigrave{}",
        '\'' => "\\textquotesingle{}",
        '×' => "\\(\\times\\)",
        '÷' => "\\(\\div\\)",
        '±' => "\\(\\pm\\)",
        '²' => "\\(^2\\)",
        '³' => "\\(^3\\)",
        '°' => "\\textdegree{}",
        'µ' | 'μ' => "\\textmu{}",
        '·' => "\\textperiodcentered{}",
        '–' => "--",
        '—' => "---",
        '‘' => "`",
        '’' => "'",
        '…' => "\\ldots{}",
        '\u{a0}' => " ",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_acts() {
        assert_eq!(escape("50 %_#&$"), "50 \\%\\_\\#\\&\\$");
        assert_eq!(escape("\\input{x}"), "\\textbackslash{}input\\{x\\}");
        assert_eq!(escape("~^"), "\\textasciitilde{}\\textasciicircum{}");
        assert_eq!(escape("[a]*\nb"), "{[}a{]}{*} b");
        assert_eq!(escape("a---b"), "a-{}-{}-b");
        assert_eq!(escape("é 2×, 中"), "é 2\\(\\times\\), {[}U+4E2D{]}");
    }
}
