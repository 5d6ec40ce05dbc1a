//! Whether a generated answer is right, by the rules of EleutherAI's lm-evaluation-harness (commit 4e7e0d47).
//!
//! Pure functions of text. GSM8K follows the task `gsm8k` to the letter. MATH takes the last `\boxed{}` and compares it as
//! `hendrycks_math` does; an answer without a box is wrong (some versions of lm-evaluation-harness fall back on the text
//! between dollar signs). Programs are judged by running them: [`super::sandbox`].
//!
//! `scripts/oracle/judge.py` holds the tests' expectations against lm-evaluation-harness itself.

mod gsm8k;
mod math;

pub use gsm8k::{Gsm8k, gsm8k};
pub use math::{boxed, equivalent, math};

/// What stands for an answer in which nothing was found, as in lm-evaluation-harness.
pub const INVALID: &str = "[invalid]";

/// An answer, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What was taken from the answer, as it stood there; [`INVALID`] if there was nothing to take.
    pub extracted: String,
    /// Whether that is the reference's.
    pub right: bool,
}

#[cfg(test)]
mod tests;
