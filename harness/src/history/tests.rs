use super::*;
use reports::cells::{Kind, Status};
use reports::class::{BuildClass, MachineClass};
use reports::summary::Row;
use reports::trend::Visit;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn row(metric: &str, value: Option<f64>) -> Row {
    Row {
        cell: "ternary/700m/t2/tg128".to_owned(),
        engine: "ternary".to_owned(),
        model: "700m".to_owned(),
        threads: 2,
        workload: "tg128".to_owned(),
        metric: metric.to_owned(),
        value,
        unit: "tokens/s",
        interval: value.map(|v| (v - 0.1, v + 0.1)),
        n: 3,
        kind: Kind::Measured,
        status: if value.is_some() { Status::Ok } else { Status::Failed },
        reason: "it's a \"reason\"".to_owned(),
    }
}

fn entry(name: &str, started: &str, digest: &str, value: f64) -> Entry {
    Entry {
        digest: digest.to_owned(),
        visit: Visit {
            name: name.to_owned(),
            started: started.to_owned(),
            suite: "nightly".to_owned(),
            suite_digest: "blake3:01".to_owned(),
            revision: Some("abcdef0".to_owned()),
            dirty: None,
            machine: MachineClass {
                cpu: "Example CPU".to_owned(),
                cpus: 2,
                cores: None,
                isa: vec!["avx2".to_owned()],
                virtualisation: None,
                governor: Some("performance".to_owned()),
                turbo: Some(true),
            },
            build: BuildClass {
                profile: "dev".to_owned(),
                opt_level: "3".to_owned(),
                debug_assertions: false,
                rustc: "rustc 1.95.0".to_owned(),
                target: "x86_64-unknown-linux-gnu".to_owned(),
                alone: None,
            },
        },
        finished: None,
        figures: vec![row("tokens_per_second", Some(value)), row("load_seconds", None)],
        models: BTreeMap::from([("700m".to_owned(), "blake3:77".to_owned())]),
    }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    (folder, path)
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn filter(metric: &str) -> Filter {
    Filter { metric: metric.to_owned(), ..Filter::default() }
}

/// The values of the metric by the runs' beginnings.
fn values(history: &History, metric: &str) -> Vec<(String, Option<f64>)> {
    let (visits, figures) = history.figures(&filter(metric)).unwrap();
    let mut found: Vec<_> = figures.iter().map(|f| (f.visit, f.value)).collect();
    found.sort_by_key(|(visit, _)| *visit);
    found.into_iter().map(|(visit, value)| (visits[visit].name.clone(), value)).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let (_folder, path) = place();
    let mut history = History::open(&path).unwrap();
    let added = entry("a", "2026-01-01T00:00:00Z", "1", 12.5);
    assert_eq!(history.add(&added).unwrap(), Added::New);
    drop(history);
    let history = History::open_existing(&path).unwrap();
    let (visits, figures) = history.figures(&filter("tokens_per_second")).unwrap();
    assert_eq!(visits, [added.visit]);
    let [figure] = &figures[..] else { panic!("{figures:?}") };
    assert_eq!((figure.value, figure.interval, figure.n), (Some(12.5), Some((12.4, 12.6)), 3));
    assert_eq!((figure.model_digest.as_str(), figure.kind.as_str()), ("blake3:77", "measured"));
    let (_, figures) = history.figures(&filter("load_seconds")).unwrap();
    assert_eq!((figures[0].value, figures[0].interval), (None, None));
}

#[test]
fn a_run_is_there_once_and_a_resumed_one_replaces_what_was_there() {
    let (_folder, path) = place();
    let mut history = History::open(&path).unwrap();
    let (begun, later) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    assert_eq!(history.add(&entry("a", begun, "1", 1.0)).unwrap(), Added::New);
    assert_eq!(history.add(&entry("a", begun, "1", 1.0)).unwrap(), Added::Known);
    assert_eq!(history.add(&entry("a", begun, "2", 2.0)).unwrap(), Added::Replaced);
    // The name alone does not make it the same run: its folder may have been deleted, and made again.
    assert_eq!(history.add(&entry("a", later, "3", 3.0)).unwrap(), Added::New);
    let want = [("a".to_owned(), Some(2.0)), ("a".to_owned(), Some(3.0))];
    assert_eq!(values(&history, "tokens_per_second"), want);
    assert_eq!(number(&history.db, "SELECT count(*) FROM figures"), 4, "nothing is left of what was replaced");
}

#[test]
fn names_that_are_not_there_are_told_with_those_that_are() {
    let (_folder, path) = place();
    let mut history = History::open(&path).unwrap();
    history.add(&entry("a", "2026-01-01T00:00:00Z", "1", 1.0)).unwrap();
    let message = history.figures(&filter("tokens")).unwrap_err().to_string();
    assert!(
        message.contains("--metric: `tokens`") && message.contains("`load_seconds`, `tokens_per_second`"),
        "{message}"
    );
    let of = |suite: &str, threads| Filter { suite: Some(suite.to_owned()), threads, ..filter("load_seconds") };
    assert!(history.figures(&of("daily", None)).unwrap_err().to_string().contains("`nightly`"));
    assert_eq!(history.figures(&of("nightly", Some(2))).unwrap().1.len(), 1);
    assert_eq!(history.figures(&of("nightly", Some(1))).unwrap().1.len(), 0);
}

#[test]
fn a_file_of_version_1_is_brought_to_the_latest_and_keeps_its_runs() {
    let (_folder, path) = place();
    let mut db = Connection::open(&path).unwrap();
    schema::migrate(&mut db, &schema::STEPS[..1]).unwrap();
    insert(&mut db, &entry("old", "2026-01-01T00:00:00Z", "1", 5.0)).unwrap();
    assert_eq!(number(&db, "PRAGMA user_version"), 1);
    drop(db);
    let mut history = History::open_existing(&path).unwrap();
    assert_eq!(number(&history.db, "PRAGMA user_version"), i64::from(LATEST));
    assert_eq!(number(&history.db, "SELECT count(*) FROM sqlite_schema WHERE name = 'figures_by_metric'"), 1);
    assert_eq!(values(&history, "tokens_per_second"), [("old".to_owned(), Some(5.0))]);
    assert_eq!(history.add(&entry("new", "2026-01-02T00:00:00Z", "2", 6.0)).unwrap(), Added::New);
}

#[test]
fn a_step_that_fails_leaves_the_file_as_it_was() {
    let (_folder, path) = place();
    let mut history = History::open(&path).unwrap();
    history.add(&entry("a", "2026-01-01T00:00:00Z", "1", 1.0)).unwrap();
    let steps = [schema::STEPS, &["ALTER TABLE runs ADD COLUMN more TEXT", "DROP TABLE nothing"]].concat();
    assert!(schema::migrate(&mut history.db, &steps).is_err());
    assert_eq!(number(&history.db, "PRAGMA user_version"), i64::from(LATEST));
    assert_eq!(number(&history.db, "SELECT count(*) FROM pragma_table_info('runs') WHERE name = 'more'"), 0);
    schema::migrate(&mut history.db, &steps[..steps.len() - 1]).unwrap();
    assert_eq!(number(&history.db, "PRAGMA user_version"), i64::from(LATEST) + 1);
    assert_eq!(values(&history, "tokens_per_second").len(), 1);
}

#[test]
fn what_is_no_history_is_refused_by_name_and_left_as_it_is() {
    let (folder, path) = place();
    let message = |path: &Path| format!("{:#}", History::open(path).unwrap_err());
    assert!(format!("{:#}", History::open_existing(&path).unwrap_err()).contains("no history yet"));
    assert!(!path.exists());

    let text = folder.path().join("notes.txt");
    std::fs::write(
        &text,
        "no database at all, but longer than the header of one, which has one hundred bytes. ".repeat(4),
    )
    .unwrap();
    let before = std::fs::read(&text).unwrap();
    assert!(message(&text).contains("notes.txt: expected a SQLite database"), "{}", message(&text));
    assert_eq!(std::fs::read(&text).unwrap(), before);

    let other = folder.path().join("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let before = std::fs::read(&other).unwrap();
    assert!(message(&other).contains("other.sqlite: a database, but no history"), "{}", message(&other));
    assert_eq!(std::fs::read(&other).unwrap(), before);

    drop(History::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", LATEST + 1).unwrap();
    let want = format!("written by a newer version of this program (version {}, this one knows {LATEST})", LATEST + 1);
    assert!(message(&path).contains(&want) && message(&path).contains(FILE), "{}", message(&path));
}

#[test]
fn a_file_without_anything_in_it_becomes_a_history() {
    let (_folder, path) = place();
    std::fs::write(&path, "").unwrap();
    let history = History::open(&path).unwrap();
    let mode: String = history.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    assert_eq!(number(&history.db, "PRAGMA synchronous"), 2, "full");
}
