//! How often a gate is wrong: gates of a program against itself, and against itself made slower by a known part.

use super::Kept;
use crate::error::Error;
use anyhow::{Context as _, Result, bail};
use reports::gate::{Study, Trial};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The file of a study's folder that has a line for each gate.
pub const TRIALS: &str = "trials.jsonl";

/// Variable by which a program of the feature `planted` is told by how many per cent it is to decode slower.
pub const PLANTED: &str = "TRITMARK_PLANTED_PERCENT";

/// A study's folder: gates that were done are kept, the one in flight is lost with the program.
#[derive(Debug)]
pub struct Trials {
    folder: PathBuf,
    /// Those done.
    pub done: Vec<Trial>,
}

impl Trials {
    /// Opens `folder`, new or begun before.
    ///
    /// # Errors
    /// It can't be written, or holds trials of another kind of study.
    pub fn open(folder: &Path, kind: &Study) -> Result<Trials> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(TRIALS);
        let done = if path.exists() { reports::gate::trials(&path)? } else { Vec::new() };
        if let Some(other) = done.iter().find(|trial| trial.study != *kind) {
            let message = format!("{}: holds trials of {}, not of {}", path.display(), other.study, kind);
            bail!(Error::Usage(message));
        }
        // A torn last line of a program that was killed is no trial.
        let whole: String =
            done.iter().map(|trial| serde_json::to_string(trial).map(|line| line + "\n")).collect::<Result<_, _>>()?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(whole.as_bytes())?;
        file.persist(&path)?;
        Ok(Trials { folder: folder.to_owned(), done })
    }

    /// The folder that the next gate's runs go to, empty.
    ///
    /// # Errors
    /// What an earlier program left there can't be removed.
    pub fn place(&self) -> Result<PathBuf> {
        let place = self.folder.join("in-flight");
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
        }
        fs::create_dir(&place)?;
        Ok(place)
    }

    /// Keeps a gate's outcome and rounds, and lets go of its runs.
    ///
    /// # Errors
    /// Writing fails.
    pub fn add(&mut self, study: &Study, kept: Kept) -> Result<()> {
        let trial = Trial { study: study.clone(), outcome: kept.outcome, series: kept.series };
        let mut line = serde_json::to_vec(&trial)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(self.folder.join(TRIALS))?;
        file.write_all(&line)?;
        file.sync_data()?;
        self.done.push(trial);
        let place = self.folder.join("in-flight");
        fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
        Ok(())
    }
}
