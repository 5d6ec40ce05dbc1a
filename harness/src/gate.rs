//! A gate: candidate and baseline measured side by side, round by round, until it is clear which is worse.

pub mod baseline;
mod fixed;
mod instructions;
pub mod neighbour;
pub(crate) mod rounds;
pub mod side;
pub mod study;

use crate::driver::now;
use crate::plan::Host;
use anyhow::Result;
use reports::gate::{Outcome, SCHEMA, Series};
use serde::{Deserialize, Serialize};
use side::Side;
use std::path::Path;
use std::time::Instant;
use suites::gate::Gates;
use suites::run::Plan;
use suites::{Catalogue, Suite};

/// The file of a gate's folder that holds its outcome and what it rests on.
pub const FILE: &str = "gate.json";

/// What a gate is made of.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The suite whose cells are measured.
    pub suite: &'a Suite,
    /// Engines.
    pub catalogue: &'a Catalogue,
    /// This machine.
    pub host: &'a Host,
    /// The cells.
    pub plan: &'a Plan,
    /// What is judged.
    pub gates: &'a Gates,
}

/// An outcome with its rounds, as kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What is said.
    pub outcome: Outcome,
    /// The rounds it rests on.
    pub series: Vec<Series>,
}

impl Kept {
    /// Writes it into `folder`, whole or not at all.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.persist(folder.join(FILE))?;
        Ok(())
    }
}

/// Measures both sides and judges.
///
/// # Errors
/// [`crate::error::Error::Interrupted`], and a store that can't be written.
pub fn run<'a>(setting: Setting<'_>, baseline: &mut Side<'a>, candidate: &mut Side<'a>) -> Result<Kept> {
    let (started, begun) = (now(), Instant::now());
    let measured = rounds::measure(setting, baseline, candidate)?;
    let mut lines = rounds::lines(setting.gates, &measured);
    lines.extend(fixed::lines(setting, &measured, [baseline, candidate])?);
    let outcome = Outcome {
        schema: SCHEMA,
        baseline: baseline.name.clone(),
        candidate: candidate.name.clone(),
        started,
        seconds: Some(begun.elapsed().as_secs_f64()),
        lines,
    };
    Ok(Kept { outcome, series: measured.into_series() })
}
