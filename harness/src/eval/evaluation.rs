//! One task on one engine, from its log to its figures.

use super::backend::Backend;
use super::log::Log;
use super::score::{self, Judged};
use super::task::Prepared;
use super::{Run, Spent};
use crate::driver::interrupt::Interrupt;
use anyhow::Result;
use std::path::Path;
use suites::eval::{Accuracy, Header, Part, Row};
use suites::task::Prompt;

/// All that an evaluation needs but who answers.
pub struct Evaluation<'a> {
    /// The task and its items.
    pub prepared: &'a Prepared,
    /// What decides the figures.
    pub header: &'a Header,
    /// Who goes to work.
    pub part: Part,
    /// The log's file.
    pub log: &'a Path,
    /// Whether programs that the model writes may be run, confined.
    pub run_code: bool,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// Whether progress is shown.
    pub show: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Found {
    /// The figures.
    pub accuracy: Accuracy,
    /// What was spent now.
    pub spent: Spent,
    /// Every item asked for, in order.
    pub rows: Vec<Row>,
}

impl Evaluation<'_> {
    /// Answers what the log has no answer to, and computes the figures of the items asked for.
    ///
    /// # Errors
    /// As [`super::run`]; generated programs that may not, or cannot, be run.
    pub fn run(&self, backend: &mut dyn Backend) -> Result<Found> {
        let Prepared { items, skipped, .. } = self.prepared;
        let mut judge = score::judge(items, self.run_code)?;
        let mut log = Log::open(self.log, self.header, &self.part)?;
        let known = log.rows();
        let unreadable: Vec<Row> =
            skipped.iter().filter(|skip| !known.contains_key(&skip.0)).map(score::unreadable).collect();
        log.append(&unreadable)?;
        let spent = {
            let mut judge = |prompt: &Prompt, text: &str| -> Result<Judged> { judge.judge(prompt, text) };
            let metrics = &self.header.metrics;
            let mut run = Run { metrics, judge: &mut judge, interrupt: self.interrupt, show: self.show };
            super::run(&mut run, items, backend, &mut log)?
        };
        let mut wanted: Vec<u32> = items.iter().map(|item| item.index).chain(skipped.iter().map(|s| s.0)).collect();
        wanted.sort_unstable();
        let rows: Vec<Row> = wanted.iter().filter_map(|index| log.rows().get(index).cloned()).collect();
        let all: Vec<&Row> = rows.iter().collect();
        let accuracy = Accuracy {
            task: self.header.task.clone(),
            items: rows.iter().filter(|row| row.skipped().is_none()).count() as u32,
            skipped: rows.iter().filter(|row| row.skipped().is_some()).count() as u32,
            truncated: rows.iter().filter(|row| row.truncated() > 0).count() as u32,
            fewshot: self.header.fewshot,
            figures: reports::accuracy::figures(&self.header.metrics, &all),
            tokens: spent.tokens,
            duration_ns: u64::try_from(spent.duration.as_nanos()).unwrap_or(u64::MAX),
            log: self.log.display().to_string(),
        };
        Ok(Found { accuracy, spent, rows })
    }
}
