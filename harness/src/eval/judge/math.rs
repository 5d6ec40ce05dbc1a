//! Answers in LaTeX: `tasks/hendrycks_math/utils.py`, function by function.

use super::{INVALID, Judged};
use regex::Regex;
use std::sync::LazyLock;

/// What Python's `int` takes, without the blanks around it.
static INTEGER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[+-]?\d+(_\d+)*$").expect("a valid expression"));
/// What `int` then prints as it stood.
static PLAIN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(0|-?[1-9][0-9]*)$").expect("a valid expression"));
/// Most digits that Python's `int` takes.
const MOST_DIGITS: usize = 4300;

/// The reference implementation fails here with an error, after which it compares the texts as they are.
struct Raises;

/// Judges `output` by the last box in it; `target` is the reference answer alone. Without a box it is wrong.
pub fn math(output: &str, target: &str) -> Judged {
    match boxed(output) {
        Some(answer) => Judged { extracted: answer.to_owned(), right: equivalent(answer, target) },
        None => Judged { extracted: INVALID.to_owned(), right: false },
    }
}

/// What the last box of `output` holds: `\boxed 5` up to a dollar sign if there is any such, else `\boxed{5}`, else
/// `\fbox{5}`, each with balanced braces.
///
/// `last_boxed_only_string` and `remove_boxed`, except that `\fbox{}` is taken (they find it, then fail) and that what they
/// fail at otherwise, `\boxed\frac{1}{2}`, is no box.
pub fn boxed(output: &str) -> Option<&str> {
    if let Some((_, last)) = output.rsplit_once("\\boxed ") {
        return last.split('$').next();
    }
    let (begin, command) = match output.rfind("\\boxed") {
        Some(begin) => (begin, "\\boxed"),
        None => (output.rfind("\\fbox")?, "\\fbox"),
    };
    let inner = output[begin..].strip_prefix(command)?.strip_prefix('{')?;
    let mut depth = 1;
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inner[..at]);
        }
    }
    None
}

/// Whether two answers are one up to notation: `is_equiv`.
pub fn equivalent(one: &str, other: &str) -> bool {
    match (strip_string(one), strip_string(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn strip_string(text: &str) -> Result<String, Raises> {
    let mut text = text.replace('\n', "").replace("\\!", "").replace("\\\\", "\\");
    text = text.replace("tfrac", "frac").replace("dfrac", "frac").replace("\\left", "").replace("\\right", "");
    text = text.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "");
    text = remove_right_units(&text)?.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Ok(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    // "k = 5" is "5".
    if let Some((name, value)) = text.split_once('=')
        && !value.contains('=')
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    text = fix_fracs(&fix_sqrt(&text)?.replace(' ', ""))?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    fix_a_slash_b(text)
}

fn remove_right_units(text: &str) -> Result<&str, Raises> {
    match text.split_once("\\text{ ") {
        Some((_, units)) if units.contains("\\text{ ") => Err(Raises),
        Some((value, _)) => Ok(value),
        None => Ok(text),
    }
}

/// `\sqrt3` to `\sqrt{3}`.
fn fix_sqrt(text: &str) -> Result<String, Raises> {
    let mut parts = text.split("\\sqrt");
    let mut fixed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        fixed.push_str("\\sqrt");
        match part.chars().next().ok_or(Raises)? {
            '{' => fixed.push_str(part),
            first => {
                fixed.extend(['{', first, '}']);
                fixed.push_str(&part[first.len_utf8()..]);
            }
        }
    }
    Ok(fixed)
}

/// `\frac12` and `\frac1{2}` to `\frac{1}{2}`; all stays as it was if a numerator ends the text.
fn fix_fracs(text: &str) -> Result<String, Raises> {
    let mut parts = text.split("\\frac");
    let mut fixed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        fixed.push_str("\\frac");
        let mut characters = part.chars();
        match (characters.next().ok_or(Raises)?, characters.next()) {
            ('{', _) => fixed.push_str(part),
            (_, None) => return Ok(text.to_owned()),
            (above, Some('{')) => {
                fixed.extend(['{', above, '}', '{']);
                fixed.push_str(characters.as_str());
            }
            (above, Some(below)) => {
                fixed.extend(['{', above, '}', '{', below, '}']);
                fixed.push_str(characters.as_str());
            }
        }
    }
    Ok(fixed)
}

/// `1/2` to `\frac{1}{2}`, of plain integers only.
fn fix_a_slash_b(text: String) -> Result<String, Raises> {
    let Some((above, below)) = text.split_once('/').filter(|(_, below)| !below.contains('/')) else {
        return Ok(text);
    };
    if !is_integer(above) || !is_integer(below) {
        return Err(Raises);
    }
    if PLAIN.is_match(above) && PLAIN.is_match(below) {
        return Ok(format!("\\frac{{{above}}}{{{below}}}"));
    }
    Ok(text)
}

/// Whether Python's `int` takes it.
fn is_integer(text: &str) -> bool {
    // Python counts the separators U+001C to U+001F as blanks too.
    let text = text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c));
    INTEGER.is_match(text) && text.chars().filter(|&c| !matches!(c, '+' | '-' | '_')).count() <= MOST_DIGITS
}
