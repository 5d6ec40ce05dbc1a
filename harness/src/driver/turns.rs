//! A process whose windows are measured in turns with those of another that runs beside it.

use super::process::{Ended, TURNS, Worker};
use super::{Driver, now, refused, unasked, verified};
use crate::protocol::Reference;
use crate::store::Store;
use anyhow::Result;
use suites::record::{Failure, Outcome};
use suites::run::{PlannedCell, Step};

/// A process that is ready for turns, or why there is none.
pub struct Turns<'p> {
    cell: &'p PlannedCell,
    block: u32,
    started: String,
    process: Result<(Worker, Vec<Reference>), Failure>,
    taken: usize,
}

impl Turns<'_> {
    /// Lets it measure one window; false if it can't, which [`Driver::end`] then tells the reason of.
    pub fn turn(&mut self) -> bool {
        let done = self.process.as_mut().is_ok_and(|(worker, _)| worker.turn());
        self.taken += usize::from(done);
        done
    }

    /// Whether it can take turns.
    pub fn runs(&self) -> bool {
        self.process.is_ok()
    }
}

impl Driver<'_> {
    /// Starts a process of a cell, and waits until it is ready for its first turn.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`]; the store can't be written.
    pub fn begin<'p>(&mut self, cell: &'p PlannedCell, block: u32, store: &mut Store) -> Result<Turns<'p>> {
        let turns = |process| Turns { cell, block, started: now(), process, taken: 0 };
        let request = match self.ask(cell, block, store)? {
            Ok(request) => request,
            Err(failure) => return Ok(turns(Err(failure))),
        };
        let started = now();
        let timeout = self.timeout(cell.predicted_ns);
        let mut worker = match Worker::start(&self.command, (&request, true), timeout, &self.interrupt)? {
            Ok(worker) => worker,
            Err(failure) => return Ok(turns(Err(failure))),
        };
        let process = if worker.ready() {
            Ok((worker, request.references))
        } else {
            Err(match worker.end()? {
                Ended::Failed(failure) if failure.stderr_tail.contains(TURNS) => Failure {
                    message: "the program knows of no turns: it was built before gates took them".to_owned(),
                    ..failure
                },
                Ended::Failed(failure) => failure,
                _ => refused("protocol", "the worker ended without waiting for a turn"),
            })
        };
        Ok(Turns { started, ..turns(process) })
    }

    /// Waits for the end of a process that has had its last turn, and records what came of it; `order` is its place among the
    /// run's records.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`]; the store can't be written.
    pub fn end(&mut self, turns: Turns<'_>, order: usize, store: &mut Store) -> Result<Outcome> {
        let Turns { cell, block, started, process, taken } = turns;
        let outcome = match process {
            Err(failure) => Outcome::Failed(failure),
            Ok((worker, references)) => match worker.end()? {
                Ended::Measured(measurement) if measurement.samples.len() != taken => {
                    let told = measurement.samples.len();
                    Outcome::Failed(refused("protocol", &format!("the worker told of {told} windows in {taken} turns")))
                }
                Ended::Measured(measurement) => verified(measurement, &references),
                Ended::Failed(failure) => Outcome::Failed(failure),
                Ended::Answered(_) | Ended::Overhead(_) => unasked(),
            },
        };
        store.record(&self.row(cell, Step { block, cell: 0 }, order, started, outcome.clone()))?;
        Ok(outcome)
    }
}
