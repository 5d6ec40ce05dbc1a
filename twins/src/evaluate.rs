//! Accuracy on held-out items, by the trainer's own forward pass, so that progress can be watched.

use crate::batches::Batch;
use crate::corpus::{problems, science, test_problems};
use crate::model::Model;
use crate::ops::loss::log_sum_exp;
use crate::tokens::{BOS, EOS, encode};
use crate::train::Plan;
use anyhow::Result;
use std::fmt;
use tokenizers::Tokenizer;

/// Items right, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Right ones.
    pub right: usize,
    /// All.
    pub all: usize,
}

impl fmt::Display for Score {
    /// The share and its 95 % interval (Wilson).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const Z: f64 = 1.96;
        let n = self.all.max(1) as f64;
        let p = self.right as f64 / n;
        let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let (low, high) = ((centre - half) * 100.0, (centre + half) * 100.0);
        write!(f, "{} of {} ({:.1} %, 95 % interval {low:.1} to {high:.1})", self.right, self.all, p * 100.0)
    }
}

/// What a model scores on each kind.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Problems whose `#### n` is right, decoded greedily.
    pub problems: Score,
    /// Questions whose right choice has the highest log-likelihood.
    pub science: Score,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "problems: {}\nscience: {}", self.problems, self.science)
    }
}

/// Longest answer, in tokens.
const LONGEST: usize = 140;

/// Evaluates on the first `items` items of each kind; science questions are taken from all over their list.
///
/// # Errors
/// What tokenizer and model say.
pub fn run(plan: &Plan, model: &Model, tokenizer: &Tokenizer, items: usize) -> Result<Report> {
    let mut right = 0;
    let tests = test_problems(plan.seed, items);
    for item in &tests {
        let text = greedy(model, tokenizer, &problems::prompt(&item.question))?;
        let found = text.split("#### ").nth(1).map(|rest| rest.trim().to_owned());
        right += usize::from(found.as_ref() == Some(&item.last));
    }
    let solved = Score { right, all: tests.len() };
    let all = science::test_items();
    let every = all.len().div_ceil(items.max(1)).max(1);
    let (mut right, mut asked) = (0, 0);
    for item in all.iter().step_by(every) {
        let mut best = (f32::NEG_INFINITY, 0);
        for (at, choice) in item.choices.iter().enumerate() {
            let score = log_likelihood(model, tokenizer, &science::prompt(&item.question), &format!(" {choice}"))?;
            if score > best.0 {
                best = (score, at);
            }
        }
        right += usize::from(best.1 == item.answer);
        asked += 1;
    }
    Ok(Report { problems: solved, science: Score { right, all: asked } })
}

/// What follows `prompt`, the likeliest token at a time, up to EOS.
fn greedy(model: &Model, tokenizer: &Tokenizer, prompt: &str) -> Result<String> {
    let mut ids = vec![BOS];
    ids.extend(encode(tokenizer, prompt)?);
    let first = ids.len();
    while ids.len() < model.shape.context && ids.len() < first + LONGEST {
        let rows = logits(model, &ids)?;
        let row = &rows[rows.len() - 1];
        let next = (0..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best }) as u32;
        if next == EOS {
            break;
        }
        ids.push(next);
    }
    tokenizer.decode(&ids[first..], true).map_err(|error| anyhow::anyhow!("{error}"))
}

/// Log-likelihood of `continuation` after `context`, tokenised together and parted at the context's token count.
fn log_likelihood(model: &Model, tokenizer: &Tokenizer, context: &str, continuation: &str) -> Result<f32> {
    let first = 1 + encode(tokenizer, context)?.len();
    let mut ids = vec![BOS];
    ids.extend(encode(tokenizer, &format!("{context}{continuation}"))?);
    let rows = logits(model, &ids)?;
    let of = |at: usize| rows[at - 1][ids[at] as usize] - log_sum_exp(&rows[at - 1]);
    Ok((first..ids.len()).map(of).sum())
}

/// Logits of every token of one text.
///
/// # Errors
/// A token that is not of the vocabulary; a text beyond the context.
pub fn logits(model: &Model, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
    Ok(model.forward(&Batch::of(ids))?.to_vec2()?)
}
