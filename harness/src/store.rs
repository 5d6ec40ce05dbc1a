//! The run folder: `run.json`, `plan.json`, `records.jsonl`, `answers.jsonl`.

use crate::error::Error;
use crate::protocol::{Answer, Request};
use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use suites::cell::KvCache;
use suites::record::{Record, SCHEMA};
use suites::run::{Plan, Run};

/// The suite's text in a run folder.
pub const SUITE_FILE: &str = "suite.toml";

/// A reference answer as kept for `--resume`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAnswer {
    /// Model name.
    pub model: String,
    /// Engine name.
    pub engine: String,
    /// KV-cache type.
    pub kv: KvCache,
    /// The answer.
    pub answer: Answer,
}

/// An open run folder. Records are appended one by one and reach the disk before the next cell begins.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    records: File,
    answers: File,
}

/// What an earlier, unfinished run left behind.
#[derive(Debug)]
pub struct Earlier {
    /// Its provenance.
    pub run: Run,
    /// Its plan.
    pub plan: Plan,
    /// Its whole records.
    pub records: Vec<Record>,
    /// Its reference answers.
    pub answers: Vec<KeptAnswer>,
    /// Whether a last, torn line was dropped.
    pub torn: bool,
}

impl Store {
    /// Makes the folder `out/name`.
    ///
    /// # Errors
    /// It exists, or can't be made.
    pub fn create(out: &Path, name: &str) -> Result<Store> {
        let unusable = |folder: &Path, error| Error::Usage(format!("--out: {}: {error}", folder.display()));
        fs::create_dir_all(out).map_err(|error| unusable(out, error))?;
        let folder = out.join(name);
        if let Err(error) = fs::create_dir(&folder) {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                let message = format!("{} exists: give another --name, or --resume it", folder.display());
                bail!(Error::Usage(message));
            }
            bail!(unusable(&folder, error));
        }
        Store::append_to(folder)
    }

    /// Opens the folder of an earlier run, dropping a torn last line of its records.
    ///
    /// # Errors
    /// Files that are missing, of another schema version, or no records (file and line named).
    pub fn resume(folder: &Path) -> Result<(Store, Earlier)> {
        let run: Run = read_json(&folder.join("run.json"))?;
        let plan: Plan = read_json(&folder.join("plan.json"))?;
        if run.schema != SCHEMA || plan.schema != SCHEMA {
            let found = run.schema.max(plan.schema);
            bail!(Error::Input(format!("{}: expected schema version {SCHEMA}, found {found}", folder.display())));
        }
        // The lock comes first: a line that another program is writing is not torn.
        let store = Store::append_to(folder.to_owned())?;
        let (records, torn) = read_lines(&folder.join("records.jsonl"))?;
        let (answers, _) = read_lines(&folder.join("answers.jsonl"))?;
        Ok((store, Earlier { run, plan, records, answers, torn }))
    }

    fn append_to(folder: PathBuf) -> Result<Store> {
        let open = |name: &str| {
            let path = folder.join(name);
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())
        };
        let (records, answers) = (open("records.jsonl")?, open("answers.jsonl")?);
        // Two programs writing to one run would interleave their blocks.
        if rustix::fs::flock(&records, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(Error::Usage(format!("{}: another run is writing there", folder.display())));
        }
        Ok(Store { folder, records, answers })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the suite that the run is made of, so that it can be gone on with.
    ///
    /// # Errors
    /// Writing fails.
    pub fn keep_suite(&self, text: &str) -> Result<()> {
        let path = self.folder.join(SUITE_FILE);
        fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// Appends a record and waits until it is on the disk.
    ///
    /// # Errors
    /// Writing fails.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        append(&mut self.records, record).with_context(|| self.folder.join("records.jsonl").display().to_string())
    }

    /// Keeps the request of a cell in `requests.jsonl`: a line of it on the stdin of `harness worker` repeats the cell.
    ///
    /// # Errors
    /// Writing fails.
    pub fn request(&mut self, request: &Request) -> Result<()> {
        let path = self.folder.join("requests.jsonl");
        let open = OpenOptions::new().create(true).append(true).open(&path).map_err(Into::into);
        open.and_then(|mut file| append(&mut file, request)).with_context(|| path.display().to_string())
    }

    /// Keeps a reference answer for a resumed run.
    ///
    /// # Errors
    /// Writing fails.
    pub fn answer(&mut self, answer: &KeptAnswer) -> Result<()> {
        append(&mut self.answers, answer).with_context(|| self.folder.join("answers.jsonl").display().to_string())
    }

    /// Writes `run.json`, whole or not at all.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write_run(&self, run: &Run) -> Result<()> {
        self.write("run.json", run)
    }

    /// Writes `plan.json`, whole or not at all.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        self.write("plan.json", plan)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.folder.join(name);
        let write = || -> Result<()> {
            let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(&self.folder)?;
            serde_json::to_writer_pretty(&mut file, value)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| path.display().to_string())
    }
}

/// Results are to be read by others too (within the umask), unlike what temporary files usually hold.
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o644)
}

fn append(file: &mut File, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let input = |e: &dyn std::fmt::Display| Error::Input(format!("{}: {e}", path.display()));
    let text = fs::read(path).map_err(|e| input(&e))?;
    Ok(serde_json::from_slice(&text).map_err(|e| input(&e))?)
}

/// Reads JSON lines. A last line without its end is cut off from the file; the flag tells of it.
fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<(Vec<T>, bool)> {
    let input = |e: &dyn std::fmt::Display| Error::Input(format!("{}: {e}", path.display()));
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), false)),
        read => read.map_err(|e| input(&e))?,
    };
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let mut values = Vec::new();
    for (index, line) in bytes[..whole].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let value = serde_json::from_slice(line);
        values.push(value.map_err(|e| Error::Input(format!("{}:{}: {e}", path.display(), index + 1)))?);
    }
    let torn = whole < bytes.len();
    if torn {
        let file = OpenOptions::new().write(true).open(path).map_err(|e| input(&e))?;
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(|e| input(&e))?;
    }
    Ok((values, torn))
}
