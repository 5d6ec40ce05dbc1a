//! What is read out of generated answers, by the rules of EleutherAI's lm-evaluation-harness (commit 4e7e0d47).

mod latex;

use regex::Regex;
use std::borrow::Cow;
use std::sync::OnceLock;

pub use latex::{equivalent, last_boxed, normalised};

/// Stands for an answer that nothing was found in.
pub const INVALID: &str = "[invalid]";

fn pattern<'a>(cell: &'a OnceLock<Regex>, pattern: &str) -> &'a Regex {
    cell.get_or_init(|| Regex::new(pattern).expect("a pattern of this file"))
}

/// GSM8K, strict: what stands after the first `#### ` (`gsm8k.yaml`, filter `strict-match`).
pub fn gsm8k_strict(answer: &str) -> String {
    static STRICT: OnceLock<Regex> = OnceLock::new();
    let found = pattern(&STRICT, r"#### (\-?[0-9\.,]+)").captures(answer);
    found.map_or(INVALID, |found| found.get(1).map_or(INVALID, |number| number.as_str())).trim().to_owned()
}

/// GSM8K, flexible: the last number (`gsm8k.yaml`, filter `flexible-extract`).
pub fn gsm8k_flexible(answer: &str) -> String {
    static FLEXIBLE: OnceLock<Regex> = OnceLock::new();
    let found = pattern(&FLEXIBLE, r"-?[$0-9.,]{2,}|-?[0-9]+").find_iter(answer).last();
    found.map_or(INVALID, |number| number.as_str()).trim().to_owned()
}

/// Whether an extracted number is the reference's, both without what GSM8K's rule ignores: `,`, `$`, all up to `#### `, a
/// final `.`, and case.
pub fn gsm8k_equal(found: &str, target: &str) -> bool {
    gsm8k_plain(found) == gsm8k_plain(target)
}

fn gsm8k_plain(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    let after = plain.rfind("#### ").map_or(plain.as_str(), |at| &plain[at + 5..]);
    // Python's `\.$` matches before a final line end, too.
    let (body, end) = after.strip_suffix('\n').map_or((after, ""), |body| (body, "\n"));
    let whole: Cow<'_, str> = match body.strip_suffix('.') {
        Some(body) => Cow::Owned(format!("{body}{end}")),
        None => Cow::Borrowed(after),
    };
    whole.to_lowercase()
}

/// MATH: the content of the last `\boxed{}`, or [`INVALID`].
pub fn math(answer: &str) -> String {
    last_boxed(answer).unwrap_or(INVALID).to_owned()
}

#[cfg(test)]
mod tests;
