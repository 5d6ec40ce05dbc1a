//! The history's tables, and how an older file gets them.

use rusqlite::{Connection, TransactionBehavior};

/// What marks the file as this program's (`TRIT`).
const APPLICATION: i32 = 0x5452_4954;

/// One step a version: step 1 makes an empty file a history of version 1, step 2 brings that to version 2, and so on. A step that
/// was once released is never changed; what changes is a step of its own, added at the end.
///
/// `machine` and `build` are the classes by which runs compare (`reports::class`), as JSON; `cpu`, `cpus` and `profile` are parts of
/// them for whoever asks the file by hand.
pub(super) const STEPS: &[&str] = &[
    "CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        started TEXT NOT NULL,
        finished TEXT,
        digest TEXT NOT NULL UNIQUE,
        suite TEXT NOT NULL,
        suite_digest TEXT NOT NULL,
        revision TEXT,
        dirty INTEGER,
        cpu TEXT NOT NULL,
        cpus INTEGER NOT NULL,
        machine TEXT NOT NULL,
        profile TEXT NOT NULL,
        build TEXT NOT NULL,
        UNIQUE (name, started)
    ) STRICT;
    CREATE TABLE figures (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        cell TEXT NOT NULL,
        engine TEXT NOT NULL,
        model TEXT NOT NULL,
        model_digest TEXT NOT NULL,
        threads INTEGER NOT NULL,
        workload TEXT NOT NULL,
        metric TEXT NOT NULL,
        value REAL,
        unit TEXT NOT NULL,
        lo REAL,
        hi REAL,
        n INTEGER NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (run, cell, metric, kind)
    ) STRICT, WITHOUT ROWID;",
    // One metric of all runs is what is asked for; without it every figure is read.
    "CREATE INDEX figures_by_metric ON figures (metric, model, engine);",
];

/// The version that this program reads and writes.
pub const LATEST: u32 = STEPS.len() as u32;

/// What a file turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A history of this version; 0 if the file is empty.
    Version(u32),
    /// A database that is no history.
    Foreign,
}

/// Looks at a file and changes nothing.
pub(super) fn version(db: &Connection) -> rusqlite::Result<Found> {
    // One statement, one state of the file: another program may be migrating it.
    let sql = "SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id), \
        (SELECT count(*) FROM sqlite_schema)";
    let (version, application, tables): (i64, i32, i64) =
        db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(match (u32::try_from(version), application) {
        (Ok(version @ 1..), APPLICATION) => Found::Version(version),
        (Ok(0), 0) if tables == 0 => Found::Version(0),
        _ => Found::Foreign,
    })
}

/// Brings a history to the version that `steps` lead to, in one transaction: a program that is ended in it leaves the file as it was.
pub(super) fn migrate(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let version = |db: &Connection| db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    if version(db)? >= steps.len() as i64 {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another program may have been first.
    let done = usize::try_from(version(&transaction)?).unwrap_or(usize::MAX);
    for step in steps.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if done < steps.len() {
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", steps.len() as i64)?;
    }
    transaction.commit()
}
