//! The history as programs meet it: written by several at once, and by some that are killed.
#![cfg(unix)]

use harness::history::{Added, Entry, FILE, History, LATEST};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A small committed run.
const COMMITTED: &str = "base3-gnr-2cpu";
/// How often writers are killed.
const KILLS: u64 = 200;
/// Runs that the killed writers write, over and over.
const NAMES: u64 = 8;
/// Where the writer is to write, and from which number on: what makes it one.
const WRITER: &str = "TRITMARK_TEST_HISTORY_WRITER";

fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results")
}

/// A copy of the committed run under another name, as a folder in `out`.
fn copied(out: &Path, name: &str) -> PathBuf {
    let folder = out.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["run.json", "plan.json", "records.jsonl"] {
        let text = std::fs::read_to_string(results().join(COMMITTED).join(file)).unwrap();
        std::fs::write(folder.join(file), text.replace(COMMITTED, name)).unwrap();
    }
    folder
}

fn harness(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn sound(db: &Connection) {
    let told: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(told, "ok");
    assert_eq!(number(db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

/// The run of that number: one of a few names, whose figures all have the number as their value.
fn numbered(entry: &Entry, number: u64) -> Entry {
    let mut entry = entry.clone();
    entry.visit.name = format!("run-{}", number % NAMES);
    entry.digest = format!("digest-{number}");
    entry.visit.revision = Some(number.to_string());
    entry.figures.iter_mut().for_each(|row| row.value = Some(number as f64));
    entry
}

/// Not a test by itself: what the killed process does. It writes run after run, and tells of each that is there.
#[test]
fn writer() {
    let Ok(task) = std::env::var(WRITER) else { return };
    let (from, path) = task.split_once(' ').unwrap();
    let entry = Entry::of(&results().join(COMMITTED)).unwrap();
    let mut history = History::open(Path::new(path)).unwrap();
    for number in from.parse::<u64>().unwrap().. {
        assert_ne!(history.add(&numbered(&entry, number)).unwrap(), Added::Known);
        let mut out = std::io::stdout().lock();
        writeln!(out, "added {number}").and_then(|()| out.flush()).unwrap();
    }
}

fn start_writer(path: &Path, from: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "writer", "--nocapture"]).env(WRITER, format!("{from} {}", path.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the child after a random while; half of the time after it told something. The answer is all that it told.
fn kill(mut child: Child, rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    let waits = rng.random_bool(0.5);
    while waits && !told.contains("added") {
        assert!(out.read_line(&mut told).unwrap() > 0, "it ended by itself: {told}");
    }
    std::thread::sleep(Duration::from_micros(rng.random_range(0..if waits { 15_000 } else { 60_000 })));
    child.kill().unwrap();
    out.read_to_string(&mut told).unwrap();
    child.wait().unwrap();
    told.lines().map(str::to_owned).collect()
}

/// Whatever was killed when: the file is sound, every run in it whole, and none is gone that was told to be there.
fn check(path: &Path, figures: i64, told: &BTreeMap<String, u64>) {
    if !path.exists() {
        assert!(told.is_empty());
        return;
    }
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    sound(&db);
    match number(&db, "PRAGMA user_version") {
        0 => {
            assert_eq!((number(&db, "SELECT count(*) FROM sqlite_schema"), told.len()), (0, 0), "no half of a history")
        }
        version => assert_eq!(version, i64::from(LATEST)),
    }
    if number(&db, "SELECT count(*) FROM sqlite_schema") == 0 {
        return;
    }
    let sql = "SELECT name, revision, (SELECT count(*) FROM figures WHERE run = id), (SELECT min(value) FROM figures WHERE run = id), \
        (SELECT max(value) FROM figures WHERE run = id) FROM runs";
    let mut select = db.prepare(sql).unwrap();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (name, revision): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        let (count, least, most): (i64, f64, f64) = (row.get(2).unwrap(), row.get(3).unwrap(), row.get(4).unwrap());
        assert_eq!(count, figures, "{name} is not whole");
        if name.starts_with("run-") {
            let of: u64 = revision.parse().unwrap();
            assert_eq!((least, most), (of as f64, of as f64), "{name} is of two");
            assert!(found.insert(name, of).is_none());
        } else {
            assert!(found.insert(name, 0).is_none());
        }
    }
    for (name, number) in told {
        let there = found.get(name);
        assert!(there.is_some_and(|there| there >= number), "{name}: {number} was told to be there, found {there:?}");
    }
}

/// Of every five that are killed four write run after run, and one is the program itself. Now and then the file is deleted, so that
/// some are killed while they make it.
#[test]
fn a_kill_at_any_moment_leaves_every_run_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let copies: Vec<PathBuf> = (0..6).map(|n| copied(folder.path(), &format!("copy-{n}"))).collect();
    let out = folder.path().to_str().unwrap();
    let mut adding = vec!["history", "--out", out, "--add"];
    adding.extend(copies.iter().map(|copy| copy.to_str().unwrap()));
    let figures = Entry::of(&copies[0]).unwrap().figures.len() as i64;
    let mut rng = ChaCha8Rng::seed_from_u64(200);
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut writes = 0;
    for round in 0..KILLS {
        if round % 20 == 10 {
            for end in ["", "-wal", "-shm", "-journal"] {
                let _ = std::fs::remove_file(folder.path().join(format!("{FILE}{end}")));
            }
            told.clear();
        }
        if round % 5 == 4 {
            if let Ok(db) = Connection::open(&path) {
                // So that there is something to add.
                let _ = db.execute_batch("PRAGMA foreign_keys = ON; DELETE FROM runs WHERE name LIKE 'copy-%'");
                told.retain(|name, _| !name.starts_with("copy-"));
            }
            let child = harness(&adding).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let lines = kill(child, &mut rng);
            told.extend(lines.iter().filter_map(|l| l.strip_suffix(": added")).map(|name| (name.to_owned(), 0)));
        } else {
            let lines = kill(start_writer(&path, (round + 1) * 1_000_000), &mut rng);
            for number in lines.iter().filter_map(|l| l.strip_prefix("added ")).filter_map(|n| n.parse::<u64>().ok()) {
                told.insert(format!("run-{}", number % NAMES), number);
                writes += 1;
            }
        }
        check(&path, figures, &told);
    }
    assert!(writes >= KILLS / 4, "{writes} runs were written: too few for kills to have met one");
    // What they left goes on as if nothing had been.
    assert_eq!(harness(&adding).output().unwrap().status.code(), Some(0));
    let db = Connection::open(&path).unwrap();
    sound(&db);
    assert_eq!(number(&db, "SELECT count(*) FROM runs WHERE name LIKE 'copy-%'"), 6);
}

#[test]
fn four_programs_that_write_at_once_have_every_run_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let copies: Vec<PathBuf> = (0..12).map(|n| copied(folder.path(), &format!("copy-{n}"))).collect();
    let figures = Entry::of(&copies[0]).unwrap().figures.len() as i64;
    let begin = |turn: usize| {
        // Each in another order; the file is not there yet.
        let mut turned = copies.clone();
        turned.rotate_left(turn * 3);
        let mut command = harness(&["history", "--out", folder.path().to_str().unwrap(), "--add"]);
        command.args(turned).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let writers: Vec<Child> = (0..4).map(begin).collect();
    let outputs: Vec<Output> = writers.into_iter().map(|writer| writer.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    }
    let lines: Vec<String> =
        outputs.iter().flat_map(|o| stdout(o).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(lines.iter().filter(|line| line.ends_with(": added")).count(), 12, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.ends_with(": already there")).count(), 36, "{lines:?}");
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    sound(&db);
    assert_eq!(number(&db, "SELECT count(*) FROM runs"), 12);
    assert_eq!(number(&db, "SELECT count(*) FROM figures"), 12 * figures);
}

/// Twelve copies of a run, the last five of them slower.
#[test]
fn a_change_is_shown_and_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let path = folder.path().join(FILE);
    let entry = Entry::of(&results().join(COMMITTED)).unwrap();
    let mut history = History::open(&path).unwrap();
    for day in 1..=14 {
        let mut entry = numbered(&entry, day);
        entry.visit.name = format!("night-{day}");
        entry.visit.dirty = Some(false);
        entry.visit.started = format!("2026-01-{day:02}T03:00:00.000Z");
        let speed = if day < 8 { 50.0 } else { 40.0 } + (day % 3) as f64 / 10.0;
        entry.figures.iter_mut().for_each(|row| row.value = Some(speed));
        history.add(&entry).unwrap();
    }
    let usual = ["history", "--out", out, "--model", "7b", "--engine", "ternary"];
    let ask = |more: &[&str]| harness(&[&usual, more].concat()).output().unwrap();
    let svg = folder.path().join("history.svg");
    let output = ask(&["--chart", svg.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("since 2026-01-08 03:00 (8): 50.1 to 40.1 (-20.0 %)"), "{}", stdout(&output));
    assert!(std::fs::read_to_string(&svg).unwrap().contains("change begins"));
    let document: serde_json::Value = serde_json::from_slice(&ask(&["--format", "json"]).stdout).unwrap();
    assert_eq!(document["series"][0]["points"].as_array().unwrap().len(), 14);
    assert!(stdout(&ask(&["--format", "csv"])).starts_with("suite,suite_digest,machine,"));
    assert!(stdout(&ask(&["--format", "markdown"])).contains("| --- |"));
    let output = harness(&["history", "--out", out, "--metric", "tokens"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(stderr(&output).contains("`tokens_per_second`"), "{}", stderr(&output));
}

#[test]
fn every_committed_run_fits_and_what_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let output = harness(&["history", "--out", out]).output().unwrap();
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("no history yet"), "{}", stderr(&output));
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(results()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    let (runs, others): (Vec<PathBuf>, Vec<PathBuf>) =
        folders.into_iter().partition(|folder| folder.join("run.json").is_file());
    assert!(runs.len() >= 10);
    let output = harness(&["history", "--out", out, "--add"]).args(&others).args(&runs).output().unwrap();
    assert_eq!(output.status.code(), Some(u8::from(!others.is_empty()).into()), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches(": left out: ").count(), others.len(), "{}", stderr(&output));
    assert_eq!(stdout(&output).matches(": added").count(), runs.len(), "{}", stdout(&output));
}

/// The fake worker of the suite's tests.
#[test]
fn a_suite_feeds_it_and_does_not_fail_where_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let suite = "name = \"own\"\nabout = \"a test\"\nblocks = 2\nseed = 9\ntimeout = \"60s\"\nmin_window = \"1ms\"\n\
        [[group]]\nmodels = [\"tiny-260k\"]\nengines = [\"ternary\", \"f16\"]\nthreads = [1]\nworkloads = [\"tg8\"]\n";
    std::fs::write(folder.path().join("own.toml"), suite).unwrap();
    let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/worker.sh");
    std::fs::copy(fake, folder.path().join("worker.sh")).unwrap();
    std::fs::write(folder.path().join("worker.sh.kind"), "ok").unwrap();
    let run = |more: &[&str]| {
        let usual = ["suite", "./own.toml", "--worker", "./worker.sh", "--out", "out"];
        harness(&[&usual, more].concat()).current_dir(folder.path()).output().unwrap()
    };
    let path = folder.path().join("out").join(FILE);
    // Nothing is measured at first, then it is gone on with: one run.
    assert_eq!(run(&["--name", "one", "--budget", "0s"]).status.code(), Some(0));
    let values = || {
        let db = Connection::open(&path).unwrap();
        (
            number(&db, "SELECT count(*) FROM runs"),
            number(&db, "SELECT count(value) FROM figures WHERE metric = 'tokens_per_second'"),
        )
    };
    assert_eq!(values(), (1, 0));
    assert_eq!(run(&["--resume", "one", "--budget", "10m"]).status.code(), Some(0));
    assert_eq!(values(), (1, 2));
    let again = harness(&["history", "--out", "out", "--add", "one"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(stdout(&again), "one: already there\n");
    std::fs::write(&path, "no database, however one looks at it, and long enough to be looked at. ".repeat(9)).unwrap();
    let output = run(&["--name", "two", "--budget", "0s"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: this run is not in the history: "), "{}", stderr(&output));
    assert!(stderr(&output).contains(FILE), "{}", stderr(&output));
}
