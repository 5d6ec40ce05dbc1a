//! The history of all runs of a results folder: `results/history.sqlite`.
//!
//! It holds nothing that the run folders do not: it can be deleted, and `history --add results/*/` makes it anew. Every figure is a row
//! of a run's `summary.csv`, not rounded. A run is added in one transaction, so that it is there whole or not at all, whatever ends
//! the program and however many others write; it is told apart by name and beginning, and by a digest of its files, so that the same
//! run is there once and a resumed one replaces what was there of it.

mod entry;
mod read;
mod schema;

use crate::error::Error;
use anyhow::{Context as _, Result, bail};
pub use entry::Entry;
pub use read::Filter;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
pub use schema::LATEST;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the file in a results folder.
pub const FILE: &str = "history.sqlite";
/// How long to wait for other programs that write. A run's transaction takes milliseconds; only a stopped program holds on.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one attempt to the next, where SQLite itself does not wait.
const PAUSE: Duration = Duration::from_millis(10);

/// An open history.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    db: Connection,
}

/// What became of a run that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was not there.
    New,
    /// It was there, with these very files.
    Known,
    /// It was there as it had been before it was gone on with.
    Replaced,
}

impl History {
    /// Opens the history in the file `path`, which is made if it is not there, and brings it to this program's version.
    ///
    /// # Errors
    /// A file that is no database, or another program's, or damaged, or of a newer version of this program; one that can't be written.
    pub fn open(path: &Path) -> Result<History> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(|e| wrong(path, e))?;
        let mut history = History { path: path.to_owned(), db };
        history.db.busy_timeout(PATIENCE).map_err(|e| wrong(path, e))?;
        // Looked at before anything is written: what is not ours stays as it is.
        let found = patiently(|| schema::version(&history.db)).map_err(|e| wrong(path, e))?;
        refuse(path, found)?;
        patiently(|| settings(&history.db)).map_err(|e| wrong(path, e))?;
        schema::migrate(&mut history.db, schema::STEPS).map_err(|e| wrong(path, e))?;
        Ok(history)
    }

    /// Opens the history in the file `path` that must be there.
    ///
    /// # Errors
    /// There is none, and what [`History::open`] refuses.
    pub fn open_existing(path: &Path) -> Result<History> {
        if !path.exists() {
            let message = "there is no history yet: `suite` writes it, `history --add RUN..` takes in earlier runs";
            bail!(Error::Input(format!("{}: {message}", path.display())));
        }
        History::open(path)
    }

    /// Adds a run, in one transaction: whole or not at all.
    ///
    /// # Errors
    /// Writing fails, or another program has been writing for 30 s.
    pub fn add(&mut self, entry: &Entry) -> Result<Added> {
        Ok(insert(&mut self.db, entry).map_err(|e| wrong(&self.path, e))?)
    }
}

/// Adds the run in `folder`, whose files are `data`, to the history beside it.
///
/// # Errors
/// What [`History::open`] and [`History::add`] refuse.
pub fn feed(folder: &Path, data: &reports::RunData) -> Result<Added> {
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let beside = folder.parent().unwrap_or(&folder).join(FILE);
    let entry = Entry::new(entry::digest(&folder)?, data);
    History::open(&beside)?.add(&entry)
}

/// A version that this program can't go on with, and what is not its own.
fn refuse(path: &Path, found: schema::Found) -> Result<()> {
    let message = match found {
        schema::Found::Version(version) if version > LATEST => format!(
            "written by a newer version of this program (version {version}, this one knows {LATEST}): use that, or delete the \
             file and make it anew by `history --add`"
        ),
        schema::Found::Foreign => "a database, but no history of runs".to_owned(),
        schema::Found::Version(_) => return Ok(()),
    };
    bail!(Error::Input(format!("{}: {message}", path.display())))
}

/// What holds for a connection.
fn settings(db: &Connection) -> rusqlite::Result<()> {
    // Readers and a writer do not wait for each other. Where there is no shared memory for it, SQLite stays with its rollback
    // journal, which is as safe.
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A run that was told to be added survives a power failure too. That costs one flush a run.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)
}

/// Tries again while the file is another's. SQLite waits by itself for most locks, but not for those of a change of journal.
fn patiently<T>(mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if busy(&error) && begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

fn busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn wrong(path: &Path, error: rusqlite::Error) -> Error {
    let what = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "expected a SQLite database, which it is not",
        Some(ErrorCode::DatabaseCorrupt) => "damaged: delete it and make it anew by `history --add`",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program has been writing there for 30 s",
        _ => "can't be used",
    };
    Error::Input(format!("{}: {what} ({error})", path.display()))
}

fn insert(db: &mut Connection, entry: &Entry) -> rusqlite::Result<Added> {
    // Immediate: one that begins to read and then writes would fail where another wrote in between, and not wait.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let count = |sql: &str, of: &str| transaction.query_row(sql, [of], |row| row.get::<_, i64>(0));
    if count("SELECT count(*) FROM runs WHERE digest = ?1", &entry.digest)? > 0 {
        return Ok(Added::Known);
    }
    let visit = &entry.visit;
    let replaced =
        transaction.execute("DELETE FROM runs WHERE name = ?1 AND started = ?2", params![visit.name, visit.started])?;
    transaction.execute(
        "INSERT INTO runs (name, started, finished, digest, suite, suite_digest, revision, dirty, cpu, cpus, machine, profile, build)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            visit.name,
            visit.started,
            entry.finished,
            entry.digest,
            visit.suite,
            visit.suite_digest,
            visit.revision,
            visit.dirty,
            visit.machine.cpu,
            visit.machine.cpus,
            json(&visit.machine)?,
            visit.build.profile,
            json(&visit.build)?,
        ],
    )?;
    figures(&transaction, transaction.last_insert_rowid(), entry)?;
    transaction.commit()?;
    Ok(if replaced > 0 { Added::Replaced } else { Added::New })
}

fn figures(db: &Connection, run: i64, entry: &Entry) -> rusqlite::Result<()> {
    let mut insert = db.prepare(
        "INSERT INTO figures (run, cell, engine, model, model_digest, threads, workload, metric, value, unit, lo, hi, n, kind, status, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    for row in &entry.figures {
        insert.execute(params![
            run,
            row.cell,
            row.engine,
            row.model,
            entry.models.get(&row.model).map_or("", String::as_str),
            row.threads,
            row.workload,
            row.metric,
            row.value,
            row.unit,
            row.interval.map(|(lo, _)| lo),
            row.interval.map(|(_, hi)| hi),
            row.n as i64,
            row.kind.name(),
            row.status.name(),
            row.reason,
        ])?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

#[cfg(test)]
mod tests;
