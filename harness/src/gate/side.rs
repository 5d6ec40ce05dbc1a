//! One side of a gate: a program, and the run folder that its records go to.

use super::Setting;
use crate::driver::Driver;
use crate::driver::interrupt::Interrupt;
use crate::driver::process::WorkerCommand;
use crate::driver::turns::Turns;
use crate::store::Store;
use anyhow::Result;
use std::path::{Path, PathBuf};
use suites::record::{Measurement, Outcome};
use suites::run::{Build, PlannedCell, Run};

/// A program to be measured.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is called in the outcome: a revision, a file.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What starts its workers.
    pub command: WorkerCommand,
    /// How it was built.
    pub build: Build,
}

/// One side.
pub struct Side<'a> {
    /// What it is called.
    pub name: String,
    /// The program's file.
    pub path: PathBuf,
    driver: Driver<'a>,
    store: Store,
    run: Run,
    order: usize,
}

impl<'a> Side<'a> {
    /// Makes the run folder `out/side`; `run` tells of the machine and the models.
    ///
    /// # Errors
    /// The folder exists, or can't be written.
    pub fn create(setting: Setting<'a>, (out, side): (&Path, &str), program: &Program, run: &Run) -> Result<Side<'a>> {
        let mut driver = Driver::new(setting.suite, setting.catalogue, setting.host, program.command.clone());
        let run = Run { name: side.to_owned(), build: program.build.clone(), ..run.clone() };
        driver.run.clone_from(&run.name);
        driver.profile.clone_from(&run.build.profile);
        driver.limits = false;
        let store = Store::create(out, side)?;
        store.keep_suite(&setting.suite.text)?;
        store.write_plan(setting.plan)?;
        store.write_run(&run)?;
        Ok(Side { name: program.name.clone(), path: program.path.clone(), driver, store, run, order: 0 })
    }

    /// Its driver, for what both sides share: the interrupt, where energy and data are found.
    pub fn driver(&mut self) -> &mut Driver<'a> {
        &mut self.driver
    }

    /// What stops it.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.driver.interrupt
    }

    /// Starts one process of a cell, ready for turns.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`], and a store that can't be written.
    pub(super) fn begin<'p>(&mut self, cell: &'p PlannedCell, block: u32) -> Result<Turns<'p>> {
        self.driver.begin(cell, block, &mut self.store)
    }

    /// Ends a process; why there is no figure, if there is none.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`], and a store that can't be written.
    pub(super) fn end(&mut self, turns: Turns<'_>) -> Result<Result<Box<Measurement>, String>> {
        let outcome = self.driver.end(turns, self.order, &mut self.store)?;
        self.order += 1;
        Ok(match outcome {
            Outcome::Ok(measurement) => Ok(measurement),
            Outcome::Failed(failure) => Err(format!("{}: {}", failure.stage, failure.message)),
            Outcome::Na(na) => Err(na.reason),
            Outcome::Outside(_) => Err("an outside program has no checked answer".to_owned()),
        })
    }

    /// Closes the run's books.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(&mut self) -> Result<()> {
        self.run.finished = Some(crate::driver::now());
        self.store.write_run(&self.run)
    }
}
