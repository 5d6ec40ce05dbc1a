//! What the regular expressions of a tokenizer.json may cost to build: a hostile one takes a third of a second each.

use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

use serde_json::Value;

use super::TokenizerError;
use super::json::wrong;

/// Most regular expressions of a file; models are seen with five.
const MOST_PATTERNS: usize = 8;
/// Most that they may cost together: five of LLaMA 3's and GPT-4o's are within it (a test).
const MOST_COST: u64 = 4096;
/// The cost of a class of characters, a literal one being 1: `\p{N}` becomes some hundred states.
const CLASS_COST: u64 = 8;

/// Refuses more or costlier regular expressions than a model would have.
pub(super) fn check_patterns(path: &Path, json: &Value) -> Result<(), TokenizerError> {
    // A token of the vocabulary may be called `Regex`.
    let parts = ["normalizer", "pre_tokenizer", "post_processor", "decoder"];
    let mut patterns = Vec::new();
    parts.iter().for_each(|part| collect(&json[*part], &mut patterns));
    if patterns.len() > MOST_PATTERNS {
        let found = patterns.len();
        return Err(wrong(path, format!("expected at most {MOST_PATTERNS} regular expressions, found {found}")));
    }
    let cost = patterns.iter().fold(0, |sum: u64, pattern| sum.saturating_add(cost(pattern)));
    if cost > MOST_COST {
        let rule = format!("a class of characters counts {CLASS_COST}, {{n}} as often as n says");
        let found = format!("expected regular expressions of cost {MOST_COST} at most, found {cost} ({rule})");
        return Err(wrong(path, found));
    }
    Ok(())
}

fn collect<'a>(json: &'a Value, patterns: &mut Vec<&'a str>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| collect(item, patterns)),
        Value::Object(map) => {
            patterns.extend(map.get("Regex").and_then(Value::as_str));
            map.values().for_each(|value| collect(value, patterns));
        }
        _ => {}
    }
}

/// The cost of building a pattern: its atoms, each as often as counted repetitions around it say.
fn cost(pattern: &str) -> u64 {
    let mut chars = pattern.chars().peekable();
    // The sums of the groups around the innermost open one, its own, and the cost of the atom just read.
    let (mut around, mut sum, mut last) = (Vec::new(), 0u64, 0u64);
    while let Some(c) = chars.next() {
        match c {
            '(' => {
                around.push(std::mem::take(&mut sum));
                last = 0;
            }
            ')' => {
                last = std::mem::take(&mut sum);
                sum = around.pop().unwrap_or(0).saturating_add(last);
            }
            '{' => {
                let repeated = last.saturating_mul(repetitions(&mut chars).max(1));
                sum = sum.saturating_add(repeated - last);
                last = repeated;
            }
            '*' | '+' | '?' => {}
            _ => {
                last = atom(c, &mut chars);
                sum = sum.saturating_add(last);
            }
        }
    }
    around.into_iter().fold(sum, u64::saturating_add)
}

/// The largest number up to the closing brace: of `3}`, `1,3}` or `3,}` 3.
fn repetitions(chars: &mut Peekable<Chars<'_>>) -> u64 {
    let inside: String = chars.by_ref().take_while(|&c| c != '}').collect();
    // What is too long for a number is refused when it is built.
    inside.split(',').filter_map(|n| n.trim().parse().ok()).max().unwrap_or(0)
}

/// The cost of the atom that begins with `c`, and the rest of it read.
fn atom(c: char, chars: &mut Peekable<Chars<'_>>) -> u64 {
    match c {
        '.' => CLASS_COST,
        '[' => class(chars),
        '\\' => match chars.next() {
            Some('p' | 'P') => {
                // `\pN` or `\p{Number}`.
                if chars.next() == Some('{') {
                    chars.by_ref().take_while(|&c| c != '}').for_each(drop);
                }
                CLASS_COST
            }
            Some('x' | 'u' | 'U') if chars.next_if_eq(&'{').is_some() => {
                chars.by_ref().take_while(|&c| c != '}').for_each(drop);
                1
            }
            Some(letter) if letter.is_ascii_alphabetic() => CLASS_COST,
            _ => 1,
        },
        _ => 1,
    }
}

/// The cost of `[..]`, classes in classes included, whose first bracket was read.
fn class(chars: &mut Peekable<Chars<'_>>) -> u64 {
    let (mut cost, mut depth) = (CLASS_COST, 1);
    chars.next_if_eq(&'^');
    // A bracket that comes first stands for itself.
    chars.next_if_eq(&']');
    while depth > 0
        && let Some(c) = chars.next()
    {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            '\\' => cost = cost.saturating_add(atom('\\', chars)),
            _ => cost = cost.saturating_add(1),
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_classes_groups_and_repetitions_are_counted() {
        for (pattern, wanted) in [
            ("", 0),
            ("abc", 3),
            ("a|b+", 3),
            (r"\p{N}{1,3}", 24),
            (r"\pN\x{1F600}\n\.", 8 + 1 + 8 + 1),
            ("[^\\r\\n]?", 8 + 8 + 8),
            ("[]a]{2}", 18),
            ("[a[bc]]d", 8 + 3 + 1),
            ("(?:ab){3}c", 10),
            ("((a{10}){10}){10}", 1000),
            ("a{3,}", 3),
            ("a{0}", 1),
            (")(a", 1),
            ("{9}", 0),
        ] {
            assert_eq!(cost(pattern), wanted, "{pattern}");
        }
        assert_eq!(cost(&format!("{}a{}", "(".repeat(40), "{99})".repeat(40))), u64::MAX);
    }
}
