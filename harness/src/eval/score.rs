//! From answers to an item's part in each figure, by the rules of EleutherAI's lm-evaluation-harness.

use super::backend::{Made, Refused, Scored};
use super::judge;
use super::sandbox::{Limits, Program, Sandbox, Verdict};
use crate::error::Error;
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use suites::eval::{Answer, Row};
use suites::task::{Ask, Item, Judge, Metric, Prompt};

/// What was read out of a generated answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Right (1) or wrong (0), by metric.
    pub scores: BTreeMap<Metric, f64>,
    /// What was found in it.
    pub found: BTreeMap<Metric, String>,
}

/// The first 16 hexadecimal digits of the BLAKE3 of every text of an item, each after its length.
pub fn prompt_digest(item: &Item) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    match &item.ask {
        Ask::Choices(choices) => choices.pairs.iter().for_each(|pair| {
            add(&pair.context);
            add(&pair.continuation);
        }),
        Ask::Likelihood(pair) => {
            add(&pair.context);
            add(&pair.continuation);
        }
        Ask::Document(text) => add(&text.text),
        Ask::Generate(prompt) => {
            add(&prompt.prompt);
            prompt.stops.iter().for_each(|stop| add(stop));
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The index of the greatest value; the first of equals, as NumPy's argmax.
fn argmax(values: impl Iterator<Item = f64>) -> u32 {
    let mut best = (f64::NEG_INFINITY, 0);
    for (value, index) in values.zip(0..) {
        if value > best.0 {
            best = (value, index);
        }
    }
    best.1
}

/// The answer to an item of choices, or of one likelihood, from the scores of its pairs.
pub fn scored(item: &Item, scored: &[Scored]) -> Answer {
    let truncated = scored.iter().map(|s| s.truncated).sum();
    if let Ask::Choices(choices) = &item.ask {
        let loglikelihoods: Vec<f64> = scored.iter().map(|s| s.loglikelihood).collect();
        let by_chars = loglikelihoods.iter().zip(&choices.chars).map(|(l, &chars)| l / f64::from(chars.max(1)));
        return Answer::Choices {
            choice: argmax(loglikelihoods.iter().copied()),
            choice_norm: argmax(by_chars),
            loglikelihoods,
            tokens: scored.iter().map(|s| s.tokens).collect(),
            gold: choices.gold.clone(),
            truncated,
        };
    }
    let Scored { loglikelihood, tokens, greedy, .. } = scored[0];
    Answer::Likelihood { loglikelihood, tokens, greedy, truncated }
}

/// An item's row; a refused one is skipped.
pub fn row(item: &Item, answer: Result<Answer, Refused>, metrics: &[Metric]) -> Row {
    let answer = answer.unwrap_or_else(|Refused(reason)| Answer::Skipped { reason });
    let scores = metrics.iter().filter_map(|&metric| Some((metric, score(metric, &answer)?))).collect();
    Row { index: item.index, prompt: prompt_digest(item), answer, scores }
}

/// The row of a generated answer.
pub fn judged(item: &Item, made: Made, judged: Judged) -> Row {
    let Made { text, tokens, stop, truncated, .. } = made;
    let answer = Answer::Text { text, tokens, stop, found: judged.found, truncated };
    Row { index: item.index, prompt: prompt_digest(item), answer, scores: judged.scores }
}

/// What an answer adds to a figure; `None` if it has no part in it.
fn score(metric: Metric, answer: &Answer) -> Option<f64> {
    let is = |right: bool| Some(f64::from(u8::from(right)));
    match (metric, answer) {
        (Metric::Acc, Answer::Choices { choice, gold, .. }) => is(gold.contains(choice)),
        (Metric::AccNorm, Answer::Choices { choice_norm, gold, .. }) => is(gold.contains(choice_norm)),
        (Metric::Mc2, Answer::Choices { loglikelihoods, gold, .. }) => Some(share_of(loglikelihoods, gold)),
        (Metric::Acc, Answer::Likelihood { greedy, .. }) => is(*greedy),
        (Metric::Perplexity, Answer::Likelihood { loglikelihood, .. }) => Some(*loglikelihood),
        (
            Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte,
            Answer::Document { loglikelihood, .. },
        ) => Some(*loglikelihood),
        _ => None,
    }
}

/// The probability of `gold` among all choices.
fn share_of(loglikelihoods: &[f64], gold: &[u32]) -> f64 {
    let most = loglikelihoods.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let p = |l: &f64| (l - most).exp();
    let right: f64 = gold.iter().map(|&index| p(&loglikelihoods[index as usize])).sum();
    right / loglikelihoods.iter().map(p).sum::<f64>()
}

/// The row of a document that makes no item: line and reason.
pub fn unreadable((line, reason): &(u32, String)) -> Row {
    let answer = Answer::Skipped { reason: reason.clone() };
    Row { index: *line, prompt: String::new(), answer, scores: BTreeMap::new() }
}

/// Judges generated answers.
pub struct Judges {
    sandbox: Option<Sandbox>,
}

/// What judges the answers to `items`.
///
/// # Errors
/// Items whose answers are programs, where those may not or cannot be run.
pub fn judge(items: &[Item], run_code: bool) -> Result<Judges> {
    let program = |item: &Item| matches!(&item.ask, Ask::Generate(Prompt { judge: Judge::Python { .. }, .. }));
    if !items.iter().any(program) {
        return Ok(Judges { sandbox: None });
    }
    if !run_code {
        let what = "this task is judged by running programs that the model writes: --run-generated-code does, confined";
        bail!(Error::Usage(what.to_owned()));
    }
    let sandbox = Sandbox::open().map_err(|reason| Error::Usage(reason.to_string()))?;
    Ok(Judges { sandbox: Some(sandbox) })
}

impl Judges {
    /// Right or wrong, by every figure that this kind of answer has.
    ///
    /// # Errors
    /// A program that was not run, as its confinement did not come about.
    pub fn judge(&mut self, prompt: &Prompt, answer: &str) -> Result<Judged> {
        let mut judged = Judged::default();
        let mut add = |metric: Metric, found: String, right: bool| {
            judged.scores.insert(metric, f64::from(u8::from(right)));
            judged.found.insert(metric, found);
        };
        match &prompt.judge {
            Judge::Gsm8k { target } => {
                let judge::Gsm8k { strict, flexible } = judge::gsm8k(answer, target);
                add(Metric::ExactMatchStrict, strict.extracted, strict.right);
                add(Metric::ExactMatchFlexible, flexible.extracted, flexible.right);
            }
            Judge::Math { target } => {
                let found = judge::math(answer, target);
                add(Metric::ExactMatch, found.extracted, found.right);
            }
            Judge::Python { prompt, test, entry_point } => {
                let program = Program { prompt, completion: answer, test, entry_point };
                let (told, passed) = self.run(&program)?;
                add(Metric::PassAt1, told, passed);
            }
        }
        Ok(judged)
    }

    /// What came of a program, and whether it passed.
    fn run(&self, program: &Program<'_>) -> Result<(String, bool)> {
        let Some(sandbox) = &self.sandbox else { bail!("no sandbox was opened for programs") };
        Ok(match sandbox.run(program, &Limits::default()) {
            Verdict::Passed => ("passed".to_owned(), true),
            Verdict::Failed { reason } => (format!("failed: {reason}"), false),
            Verdict::TimedOut => ("timed out".to_owned(), false),
            Verdict::Killed { reason } => (format!("killed: {reason}"), false),
            Verdict::NotRun { reason } => bail!("a program was not run: {reason}"),
        })
    }
}
