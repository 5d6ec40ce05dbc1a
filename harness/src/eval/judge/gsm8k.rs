//! Numbers of worked answers: `tasks/gsm8k/gsm8k.yaml`.

use super::{INVALID, Judged};
use regex::Regex;
use std::sync::LazyLock;

static STRICT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"#### (-?[0-9.,]+)").expect("a valid expression"));
static FLEXIBLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?[$0-9.,]{2,}|-?[0-9]+").expect("a valid expression"));

/// Both verdicts on an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gsm8k {
    /// By the number after the first `#### `.
    pub strict: Judged,
    /// By the last number, which may be no more than points and dollar signs.
    pub flexible: Judged,
}

/// Judges `output` by the reference answer, which is taken whole: what precedes its last `#### ` is dropped here.
///
/// The comparison is of text, not of numbers: `18.00` is not `18`.
pub fn gsm8k(output: &str, target: &str) -> Gsm8k {
    let target = bare(target);
    let judged = |found: Option<&str>| {
        let extracted = found.unwrap_or(INVALID).to_owned();
        Judged { right: bare(&extracted) == target, extracted }
    };
    let strict = STRICT.captures(output).and_then(|found| found.get(1)).map(|number| number.as_str());
    let flexible = FLEXIBLE.find_iter(output).last().map(|number| number.as_str());
    Gsm8k { strict: judged(strict), flexible: judged(flexible) }
}

/// What is compared: without commas, dollar signs, all up to the last `#### `, and a final point; in lower case.
fn bare(text: &str) -> String {
    let mut text = text.replace([',', '$'], "");
    if let Some(begin) = text.rfind("#### ") {
        text.drain(..begin + "#### ".len());
    }
    // Python's `$` is at the end and before a final line break.
    let end = text.strip_suffix('\n').unwrap_or(&text).len();
    if text.ends_with('.') {
        text.pop();
    } else if text[..end].ends_with('.') {
        text.remove(end - 1);
    }
    text.to_lowercase()
}
