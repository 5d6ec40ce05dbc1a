//! Accuracy tasks on any engine: what is asked, who answers, what is read out of the answers, what is kept.

pub mod backend;
pub mod endpoint;
pub mod engine;
pub mod evaluation;
pub mod judge;
pub mod log;
pub mod remote;
pub mod sandbox;
pub mod score;
pub mod task;

pub use evaluation::Evaluation;

use crate::driver::interrupt::Interrupt;
use crate::error::Error;
use crate::progress::Progress;
use anyhow::{Result, bail};
use backend::{Backend, Made, Refused, Scored};
use log::Log;
use std::time::{Duration, Instant};
use suites::eval::{Answer, Row};
use suites::task::{Ask, Item, Metric, Pair, Prompt};

/// Pairs put to an engine at once; an item's stay together.
const PAIRS: usize = 128;

/// What an evaluation went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Items answered now, not found in the log.
    pub items: u32,
    /// Tokens evaluated and made for them: what was asked is counted once, however little of it had to be evaluated again.
    pub tokens: u64,
    /// Time it took.
    pub duration: Duration,
}

/// What an evaluation needs besides its items and who answers them.
pub struct Run<'a> {
    /// The figures wanted.
    pub metrics: &'a [Metric],
    /// Judges generated answers.
    pub judge: &'a mut dyn FnMut(&Prompt, &str) -> Result<score::Judged>,
    /// Ctrl-C: what is answered is kept.
    pub interrupt: &'a Interrupt,
    /// Whether progress is shown.
    pub show: bool,
}

/// Answers every item that `log` has no answer to, and logs it.
///
/// # Errors
/// [`Error::Interrupted`]; an engine that fails; a log that cannot be written; an item whose logged prompt is another.
pub fn run(run: &mut Run<'_>, items: &[Item], backend: &mut dyn Backend, log: &mut Log) -> Result<Spent> {
    check_prompts(items, log)?;
    let open: Vec<&Item> = items.iter().filter(|item| !log.rows().contains_key(&item.index)).collect();
    let chunks = chunks(&open, backend.together());
    let size = |chunk: &&[&Item]| chunk.iter().map(|item| cost(item)).sum::<u64>();
    let mut progress = Progress::new(chunks.iter().map(size).collect());
    let mut spent = Spent::default();
    for chunk in chunks {
        if run.interrupt.requested() {
            bail!(Error::Interrupted);
        }
        progress.begin(&format!("items {} to {}", chunk[0].index, chunk[chunk.len() - 1].index));
        let start = Instant::now();
        let (rows, tokens) = answer(run, chunk, backend)?;
        log.append(&rows)?;
        let took = start.elapsed();
        spent.items += rows.len() as u32;
        spent.tokens += tokens;
        spent.duration += took;
        if run.show {
            let done = log.rows().len();
            progress.end(&format!("{done} of {} items", items.len()), took, true);
        }
    }
    progress.finish();
    Ok(spent)
}

/// A log answers what it was asked: another prompt of the same line would be another item.
fn check_prompts(items: &[Item], log: &Log) -> Result<()> {
    for item in items {
        let Some(row) = log.rows().get(&item.index) else { continue };
        let (found, expected) = (&row.prompt, score::prompt_digest(item));
        if *found != expected {
            let path = log.path().display();
            bail!(Error::Input(format!("{path}: item {}: expected prompt {expected}, found {found}", item.index)));
        }
    }
    Ok(())
}

/// What a backend is given at once: as many generations as it makes together, pairs up to [`PAIRS`], one document.
fn chunks<'a, 'i>(open: &'a [&'i Item], together: usize) -> Vec<&'a [&'i Item]> {
    let (mut chunks, mut start) = (Vec::new(), 0);
    while start < open.len() {
        let (mut end, mut pairs) = (start, 0);
        while let Some(item) = open.get(end) {
            let (count, most) = match &item.ask {
                Ask::Choices(choices) => (choices.pairs.len(), PAIRS),
                Ask::Likelihood(_) => (1, PAIRS),
                Ask::Document(_) => (1, 1),
                Ask::Generate(_) => (1, together),
            };
            if end > start && pairs + count > most {
                break;
            }
            (end, pairs) = (end + 1, pairs + count);
        }
        chunks.push(&open[start..end]);
        start = end;
    }
    chunks
}

/// How long an item takes, roughly, in nanoseconds of a slow machine: progress is scaled by what is seen.
fn cost(item: &Item) -> u64 {
    let bytes = match &item.ask {
        Ask::Choices(choices) => {
            let first = choices.pairs.first().map_or(0, |pair| pair.context.len());
            first + choices.pairs.iter().map(|pair| pair.continuation.len()).sum::<usize>()
        }
        Ask::Likelihood(pair) => pair.context.len() + pair.continuation.len(),
        Ask::Document(text) => text.text.len(),
        Ask::Generate(prompt) => prompt.prompt.len() + 20 * prompt.max_tokens as usize,
    };
    1_000_000 * bytes as u64
}

/// Rows of a chunk, whose items are all of one kind, and the tokens it took.
fn answer(run: &mut Run<'_>, chunk: &[&Item], backend: &mut dyn Backend) -> Result<(Vec<Row>, u64)> {
    let mut tokens = 0;
    let mut rows = Vec::with_capacity(chunk.len());
    match &chunk[0].ask {
        Ask::Choices(_) | Ask::Likelihood(_) => {
            let pairs: Vec<&Pair> = chunk.iter().flat_map(|item| pairs(item)).collect();
            let mut scored = backend.loglikelihoods(&pairs)?.into_iter();
            for item in chunk {
                let own: Result<Vec<Scored>, Refused> = scored.by_ref().take(pairs_of(item)).collect();
                tokens += own.iter().flatten().map(|s| u64::from(s.tokens + s.context)).sum::<u64>();
                rows.push(score::row(item, own.map(|own| score::scored(item, &own)), run.metrics));
            }
        }
        Ask::Document(text) => {
            let found = backend.document(&text.text)?;
            tokens += found.iter().map(|scored| u64::from(scored.tokens)).sum::<u64>();
            let answer = found.map(|s| Answer::Document {
                loglikelihood: s.loglikelihood,
                tokens: s.tokens,
                words: text.words,
                bytes: text.bytes,
            });
            rows.push(score::row(chunk[0], answer, run.metrics));
        }
        Ask::Generate(_) => {
            let prompts: Vec<&Prompt> = chunk.iter().filter_map(|item| prompt(item)).collect();
            for (item, made) in chunk.iter().zip(backend.generate(&prompts)?) {
                tokens += made.iter().map(|made: &Made| u64::from(made.tokens + made.prompt)).sum::<u64>();
                rows.push(match (made, prompt(item)) {
                    (Ok(made), Some(prompt)) => {
                        let judged = (run.judge)(prompt, &made.text)?;
                        score::judged(item, made, judged)
                    }
                    (Err(refused), _) => score::row(item, Err(refused), run.metrics),
                    (Ok(_), None) => unreachable!("items of a chunk are of one kind"),
                });
            }
        }
    }
    Ok((rows, tokens))
}

fn pairs(item: &Item) -> &[Pair] {
    match &item.ask {
        Ask::Choices(choices) => &choices.pairs,
        Ask::Likelihood(pair) => std::slice::from_ref(pair),
        Ask::Document(_) | Ask::Generate(_) => &[],
    }
}

fn pairs_of(item: &Item) -> usize {
    pairs(item).len()
}

fn prompt(item: &Item) -> Option<&Prompt> {
    match &item.ask {
        Ask::Generate(prompt) => Some(prompt),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
