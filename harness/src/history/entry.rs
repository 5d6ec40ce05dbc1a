//! A run as the history takes it.

use crate::error::Error;
use anyhow::{Result, bail};
use reports::RunData;
use reports::class::{BuildClass, MachineClass};
use reports::summary::{self, Row};
use reports::trend::Visit;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

/// A run and its figures.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of its `run.json` and `records.jsonl`: the same run has the same.
    pub digest: String,
    /// The run.
    pub visit: Visit,
    /// When it ended, RFC 3339, UTC; `None` if it was interrupted or still runs.
    pub finished: Option<String>,
    /// The rows of its `summary.csv`.
    pub figures: Vec<Row>,
    /// Digest of each model.
    pub models: BTreeMap<String, String>,
}

impl Entry {
    /// The run in `folder`.
    ///
    /// # Errors
    /// What [`reports::load`](fn@reports::load) refuses.
    pub fn of(folder: &Path) -> Result<Entry> {
        // First the digest: of a run that goes on meanwhile it is then an old one, and the next time the run is taken anew.
        let digest = digest(folder)?;
        Ok(Entry::new(digest, &reports::load(folder)?))
    }

    /// The run `data`, whose files have this digest.
    pub(super) fn new(digest: String, data: &RunData) -> Entry {
        let run = &data.run;
        Entry {
            digest,
            visit: Visit {
                name: run.name.clone(),
                started: run.started.clone(),
                suite: run.suite.clone(),
                suite_digest: run.suite_digest.clone(),
                revision: run.build.git_revision.clone(),
                dirty: run.build.git_dirty,
                machine: MachineClass::from(&run.machine),
                build: BuildClass::from(run),
            },
            finished: run.finished.clone(),
            figures: summary::of(data),
            models: run.models.iter().map(|model| (model.name.clone(), model.digest.clone())).collect(),
        }
    }
}

/// BLAKE3 of the files that a run's figures come from; no `records.jsonl` is an empty one.
pub(super) fn digest(folder: &Path) -> Result<String> {
    let read = |name: &str| std::fs::read(folder.join(name));
    let input = |name: &str, error: std::io::Error| Error::Input(format!("{}: {error}", folder.join(name).display()));
    let run = read("run.json").map_err(|e| input("run.json", e))?;
    let records = match read("records.jsonl") {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => bail!(input("records.jsonl", error)),
        Ok(records) => records,
    };
    let mut hasher = blake3::Hasher::new();
    // The length parts the two: no other files give the same bytes.
    hasher.update(&(run.len() as u64).to_le_bytes()).update(&run).update(&records);
    Ok(format!("blake3:{}", hasher.finalize().to_hex()))
}
