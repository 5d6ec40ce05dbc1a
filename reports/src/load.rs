//! Reads a run folder: `run.json`, `plan.json`, `records.jsonl`.

use crate::error::Error;
use crate::items::{self, Items};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use suites::eval::TaskOutcome;
use suites::record::{OLDEST_SCHEMA, Record, SCHEMA};
use suites::run::{Plan, Run};

/// A run as recorded.
#[derive(Clone, Debug)]
pub struct RunData {
    /// Provenance.
    pub run: Run,
    /// What was set out to do.
    pub plan: Plan,
    /// What came of it: one record a cell and block, in the order written.
    pub records: Vec<Record>,
    /// What was odd about the files, for the report's header: a torn last line, a block recorded twice.
    pub notes: Vec<String>,
    /// The logs of its tasks, by the name that the records have for them.
    pub items: BTreeMap<String, Items>,
}

#[derive(Deserialize)]
struct Version {
    schema: u64,
}

/// Reads the run in folder `run_dir`.
///
/// A last line of `records.jsonl` that lacks its line end and does not parse was torn by an interrupted write: it is
/// left out and noted. Where a cell and block is recorded twice (a resumed run), the later record counts. A missing
/// `records.jsonl` is a run with no records yet.
///
/// # Errors
/// Files that can't be read, lines that are no record (file and line named), another schema version, records of another run,
/// suite, schema version or build profile than `run.json` names: figures are medians over records, and never over those of
/// different programs. (The machine is that of `run.json`: a run is not resumed on another, nor by another build.)
pub fn load(run_dir: &Path) -> Result<RunData, Error> {
    let run: Run = document(&run_dir.join("run.json"), |run: &Run| run.schema)?;
    let plan: Plan = document(&run_dir.join("plan.json"), |plan: &Plan| plan.schema)?;
    let path = run_dir.join("records.jsonl");
    let mut notes = Vec::new();
    let (records, torn) = match File::open(&path) {
        Ok(file) => parse_records(BufReader::new(file), &path, &run)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            (Vec::new(), Some("no records.jsonl: nothing has been recorded yet".to_owned()))
        }
        Err(source) => return Err(Error::Read { path, source }),
    };
    notes.extend(torn);
    let (records, repeated) = latest(records);
    if repeated > 0 {
        notes.push(format!("{repeated} records were superseded by a later record of the same cell and block"));
    }
    let items = logs(run_dir, &records, &mut notes);
    Ok(RunData { run, plan, records, notes, items })
}

/// The logs that records name; one that is gone or unreadable is noted, as figures stand without it.
fn logs(run_dir: &Path, records: &[Record], notes: &mut Vec<String>) -> BTreeMap<String, Items> {
    let mut found = BTreeMap::new();
    for outcome in records.iter().filter_map(Record::measurement).flat_map(|m| &m.accuracy) {
        let TaskOutcome::Ok(accuracy) = outcome else { continue };
        let name = &accuracy.log;
        // A record comes from a file: it names files of its own run alone.
        let inside =
            name.strip_prefix("items/").is_some_and(|rest| !rest.contains(['/', '\\']) && !rest.starts_with('.'));
        match inside.then(|| items::load(&run_dir.join(name))) {
            Some(Ok(Some(items))) => drop(found.insert(name.clone(), items)),
            Some(Ok(None)) => notes.push(format!("{name}: empty: its items can't be compared")),
            Some(Err(error)) => notes.push(format!("{error}: its items can't be compared")),
            None => notes.push(format!("{name}: expected a file in items/: its items can't be compared")),
        }
    }
    found
}

/// Parses one line or document, checking the version first where the rest does not fit.
fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    line: usize,
    schema_of: impl Fn(&T) -> u32,
) -> Result<T, Error> {
    let wrong = |found: u64| Error::Schema { path: path.to_owned(), line, found, oldest: OLDEST_SCHEMA, want: SCHEMA };
    let known = |schema: u32| (OLDEST_SCHEMA..=SCHEMA).contains(&schema);
    match serde_json::from_slice::<T>(bytes) {
        Ok(value) if known(schema_of(&value)) => Ok(value),
        Ok(value) => Err(wrong(u64::from(schema_of(&value)))),
        // Another version may well have other keys: then the version is what to report.
        Err(error) => match serde_json::from_slice::<Version>(bytes) {
            Ok(version) if !u32::try_from(version.schema).is_ok_and(known) => Err(wrong(version.schema)),
            _ => {
                let line = line + error.line().saturating_sub(1);
                Err(Error::Parse { path: path.to_owned(), line, message: error.to_string() })
            }
        },
    }
}

fn document<T: DeserializeOwned>(path: &PathBuf, schema_of: impl Fn(&T) -> u32) -> Result<T, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
    parse(&bytes, path, 1, schema_of)
}

/// What sets a record apart from the run it stands in, if anything does.
fn foreign(record: &Record, run: &Run) -> Option<String> {
    let differs = |what: &str, found: &dyn std::fmt::Display, want: &dyn std::fmt::Display| {
        format!("{what}: expected that of run.json, {want}, found {found}: a run is of one program")
    };
    match record {
        r if r.schema != run.schema => Some(differs("schema", &r.schema, &run.schema)),
        r if r.run != run.name => Some(differs("run", &r.run, &run.name)),
        r if r.suite != run.suite => Some(differs("suite", &r.suite, &run.suite)),
        r if r.profile != run.build.profile => Some(differs("profile", &r.profile, &run.build.profile)),
        _ => None,
    }
}

/// All records, and a note if the last line was torn. One line is held at a time: a run may be bigger than what is made of it.
fn parse_records(mut file: impl BufRead, path: &Path, run: &Run) -> Result<(Vec<Record>, Option<String>), Error> {
    let mut records = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = file.read_until(b'\n', &mut line);
        if read.map_err(|source| Error::Read { path: path.to_owned(), source })? == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match parse(line.trim_ascii_end(), path, number, |record: &Record| record.schema) {
            Ok(record) => match foreign(&record, run) {
                None => records.push(record),
                Some(message) => return Err(Error::Foreign { path: path.to_owned(), line: number, message }),
            },
            Err(Error::Parse { .. }) if !line.ends_with(b"\n") => {
                let note = format!("records.jsonl:{number}: the last line is torn ({} bytes) and left out", line.len());
                return Ok((records, Some(note)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((records, None))
}

/// Keeps the last record of each cell and block; how many were dropped.
fn latest(records: Vec<Record>) -> (Vec<Record>, usize) {
    let mut last = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        last.insert((&record.cell, record.block), index);
    }
    let repeated = records.len() - last.len();
    let keep: std::collections::BTreeSet<usize> = last.into_values().collect();
    if repeated == 0 {
        return (records, 0);
    }
    let kept = records.into_iter().enumerate().filter(|(i, _)| keep.contains(i)).map(|(_, r)| r).collect();
    (kept, repeated)
}
