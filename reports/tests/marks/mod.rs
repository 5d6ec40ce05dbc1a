//! Finds modelled joules that are not called modelled in what a run is rendered to.
//!
//! A figure is known by its first three digits wherever the point stands: a value keeps them as joules, as watts and a token's share
//! if its windows are powers of ten long. So a test picks values whose digits nothing else in its run has.

use std::collections::BTreeMap;

/// The first digits of the joules of a run, by kind.
pub(crate) struct Digits<'a> {
    pub(crate) measured: &'a [&'a str],
    pub(crate) modelled: &'a [&'a str],
}

/// The first three digits of every number in `line`, fewer where it has no more; without leading zeros.
pub(crate) fn leading(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|number| number.chars().filter(char::is_ascii_digit).collect::<String>())
        .map(|digits| digits.trim_start_matches('0').chars().take(3).collect::<String>())
        .filter(|digits| !digits.is_empty())
        .collect()
}

/// Whether a number of `line` begins with one of `digits`.
pub(crate) fn shows(line: &str, digits: &[&str]) -> bool {
    leading(line).iter().any(|found| digits.contains(&found.as_str()))
}

/// The words and figures of a picture, without its coordinates.
fn words(svg: &str) -> String {
    let after_tags = svg.split('<').filter_map(|part| part.split_once('>'));
    after_tags.map(|(_, text)| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" | ")
}

/// What is wrong in the rendered `files`: names and texts. Every row (the words of a picture are one) with a modelled figure says
/// modelled, none with a measured figure does, none has both; a chart of joules says modelled if and only if its name does.
pub(crate) fn faults(files: &BTreeMap<String, String>, digits: &Digits<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, text) in files {
        let picture = name.ends_with(".svg");
        let rows: Vec<String> = if picture { vec![words(text)] } else { text.lines().map(str::to_owned).collect() };
        for row in rows {
            let said = row.to_lowercase().contains("modelled");
            if shows(&row, digits.modelled) && !said {
                faults.push(format!("{name}: modelled and unmarked: {row}"));
            }
            if shows(&row, digits.measured) && said {
                faults.push(format!("{name}: measured and called modelled: {row}"));
            }
            if picture && row.contains("J/token") && said != name.contains("modelled") {
                faults.push(format!("{name}: a chart of joules whose name and text differ on modelled: {row}"));
            }
        }
    }
    faults
}
