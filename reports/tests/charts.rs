//! What each chart shows, and what is never drawn together.

mod fixture;

use fixture::Shape;
use reports::{Error, RunData};
use std::path::Path;
use suites::eval::{Accuracy, AccuracyFigure, TaskOutcome};
use suites::record::{Energy, OLDEST_SCHEMA, Outcome, SCHEMA};
use suites::run::{Limit, Plan, Run};

const SIZES: Shape<'_> = Shape {
    models: &["125m", "700m", "1.5b", "3.8b", "30b"],
    threads: &[1, 2],
    workloads: &["pp64", "tg16"],
    blocks: 3,
    joules: true,
};

fn plan() -> Plan {
    Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() }
}

fn text(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The words of a picture, in the order drawn.
fn words(dir: &Path, stem: &str) -> Vec<String> {
    let svg = text(dir, &format!("plots/{stem}.svg"));
    let parts = svg.split('<').filter_map(|part| part.split_once('>'));
    parts.map(|(_, text)| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn has(words: &[String], wanted: &[&str]) {
    for part in wanted {
        assert!(words.iter().any(|word| word.contains(part)), "no `{part}` in {words:?}");
    }
}

#[test]
fn the_roofline_has_limits_and_cells_by_thread_count() {
    let dir = tempfile::tempdir().unwrap();
    let records = fixture::write(dir.path(), &SIZES);
    reports::render(dir.path()).unwrap();
    let before = words(dir.path(), "roofline");
    has(&before, &["1 thread", "2 threads", "DRAM 20.0 GB/s", "DRAM 32.0 GB/s", "ternary, decode", "f16, prefill"]);
    assert!(!before.iter().any(|word| word.contains("GOP/s")), "schema 3 and before: bandwidth alone");
    let mut run = fixture::run();
    for (name, unit, per_second) in [
        ("dram", "bytes/s", Some(21_000_000_000)),
        ("l2", "bytes/s", Some(90_000_000_000)),
        ("int8", "operations/s", Some(400_000_000_000)),
        ("bf16", "operations/s", None),
    ] {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        run.machine.limits.push(Limit { threads: 1, name, unit, per_second, how: String::new() });
    }
    fixture::write_files(dir.path(), &run, &plan(), &records);
    reports::render(dir.path()).unwrap();
    let found = words(dir.path(), "roofline");
    has(&found, &["1 thread", "DRAM 21.0 GB/s", "int8 400 GOP/s", "limit of reading", "peak of multiply-adds"]);
    assert!(!found.iter().any(|word| word.contains("bf16") || word.contains("2 threads") || word.contains("L2")));
}

#[test]
fn published_series_stand_beside_ours_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SIZES);
    reports::render(dir.path()).unwrap();
    let speed = words(dir.path(), "published-speed");
    let names = ["ternary, this run", "f16, this run", "bitnet.cpp, i7-13700H,", "llama.cpp, M2 Ultra,", "published"];
    has(&speed, &names);
    let last = |part: &str| speed.iter().rposition(|word| word.contains(part)).unwrap();
    assert!(last("this run") > last("published"), "what is drawn last is seen where points meet: {speed:?}");
    has(&speed, &["Best thread count for each figure", "2 threads", "arXiv 2410.16144, tables 4 and 5", "100b"]);
    has(&words(dir.path(), "published-speedup"), &["ternary / f16, this run", "bitnet.cpp / llama.cpp,"]);
    assert!(text(dir.path(), "report.md").contains("as printed in arXiv 2410.16144v2, table 4"));
    // Answers that nobody checked do not stand for the run's.
    let mut records = fixture::write(dir.path(), &SIZES);
    let theirs: Vec<_> = records.iter().filter(|r| r.cell.engine == "ternary").filter_map(fixture::outside).collect();
    records.extend(theirs);
    fixture::write_files(dir.path(), &fixture::run(), &plan(), &records);
    reports::render(dir.path()).unwrap();
    assert!(!words(dir.path(), "published-speed").iter().any(|word| word.contains("theirs")));
    // A run without such a size has nothing to stand beside.
    let other = tempfile::tempdir().unwrap();
    fixture::write(other.path(), &Shape { models: &["2b4t"], ..SIZES });
    reports::render(other.path()).unwrap();
    assert!(!other.path().join("plots/published-speed.svg").exists());
}

#[test]
fn what_was_not_measured_is_called_a_prediction() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SIZES);
    reports::render(dir.path()).unwrap();
    let found = words(dir.path(), "decode-fit");
    has(&found, &["ternary, measured", "f16, fit", "f16, prediction", "95 % interval of", "prediction"]);
    let page = text(dir.path(), "report.md");
    let section = &page[page.find("## Fit and prediction").unwrap()..];
    let section = &section[..section.find("\n![").unwrap()];
    assert!(section.contains("**Predicted, not measured**") && section.contains("predicted tokens/s"));
    // 30b by f16 did not fit, by ternary it was measured; 70b was not run.
    let row = |model: &str, engine: &str| section.contains(&format!("| {model} | {engine} | 2 |"));
    assert!(row("30b", "f16") && !row("30b", "ternary") && row("70b", "ternary") && !row("125m", "f16"), "{section}");
    // No figure of a prediction is among the figures.
    assert!(!text(dir.path(), "summary.csv").lines().any(|line| line.contains(",70b,")));
    let two = tempfile::tempdir().unwrap();
    fixture::write(two.path(), &Shape { models: &["125m", "700m"], ..SIZES });
    reports::render(two.path()).unwrap();
    assert!(!two.path().join("plots/decode-fit.svg").exists(), "two sizes lie on any line");
}

#[test]
fn joules_are_bars_with_what_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SIZES);
    reports::render(dir.path()).unwrap();
    let found = words(dir.path(), "decode-joules");
    has(&found, &["1 thread", "2 threads", "ternary", "f16", "125m", "3.8b", "J/token"]);
    let changes = found.iter().filter(|word| word.starts_with('−') && word.ends_with(" %")).count();
    assert_eq!(changes, 8, "two thread counts of four models: {found:?}");
    has(&words(dir.path(), "latency"), &["p50", "p95", "p99"]);
}

/// What the first block's process answered: better, the bigger the model.
fn answers(record: &mut suites::Record) {
    let Outcome::Ok(m) = &mut record.outcome else { return };
    if record.block > 0 || record.cell.workload.phase == suites::Phase::Prefill {
        return;
    }
    let value = 0.4 + (m.footprint.weights_bytes as f64).log10() / 40.0;
    let figure = AccuracyFigure {
        metric: suites::task::Metric::Acc,
        value,
        stderr: None,
        interval: Some((value - 0.02, value + 0.02)),
    };
    m.accuracy.push(TaskOutcome::Ok(Accuracy {
        task: "arc_easy".to_owned(),
        items: 100,
        skipped: 0,
        truncated: 0,
        fewshot: 0,
        figures: vec![figure],
        tokens: 1000,
        duration_ns: 1_000_000_000,
        log: "items/none.jsonl".to_owned(),
    }));
}

/// Accuracy stands against time in one chart, against joules in another, and modelled joules have their own.
#[test]
fn accuracy_against_measured_and_modelled_joules_are_two_charts() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = fixture::write(dir.path(), &SIZES);
    records.iter_mut().for_each(answers);
    let charts = |records: &[suites::Record]| {
        fixture::write_files(dir.path(), &fixture::run(), &plan(), records);
        reports::render(dir.path()).unwrap();
        // To look at the pictures: KEEP_PLOTS=folder.
        if let Some(keep) = std::env::var_os("KEEP_PLOTS") {
            std::fs::create_dir_all(&keep).unwrap();
            for path in std::fs::read_dir(dir.path().join("plots")).unwrap().map(|entry| entry.unwrap().path()) {
                std::fs::copy(&path, Path::new(&keep).join(path.file_name().unwrap())).unwrap();
            }
        }
        ["accuracy", "accuracy-energy", "accuracy-energy-modelled"]
            .map(|stem| dir.path().join(format!("plots/{stem}.svg")).exists())
    };
    assert_eq!(charts(&records), [true, true, false]);
    let found = words(dir.path(), "accuracy");
    has(&found, &["ms/token", "arc_easy", "ternary", "125m"]);
    for name in ["ternary", "f16", "125m", "700m"] {
        let said = found.iter().filter(|word| *word == name).count();
        assert_eq!(said, 1, "{name}: in the legend and nowhere between the points: {found:?}");
    }
    let energy = words(dir.path(), "accuracy-energy");
    has(&energy, &["J/token", "arc_easy", "f16", "700m"]);
    assert!(!energy.iter().any(|word| word.to_lowercase().contains("modelled")));
    // Some modelled: they are left out of the measured chart. All: a chart that says so.
    let model = |records: &mut [suites::Record], which: &dyn Fn(&suites::Record) -> bool| {
        for record in records.iter_mut().filter(|r| which(r)) {
            let Outcome::Ok(m) = &mut record.outcome else { continue };
            if let Energy::Measured(joules) = m.energy.clone() {
                m.energy = Energy::Modelled(joules);
            }
        }
    };
    model(&mut records, &|r| r.cell.engine == "f16");
    assert_eq!(charts(&records), [true, true, false]);
    assert!(!words(dir.path(), "accuracy-energy").iter().any(|word| word.contains("f16")));
    model(&mut records, &|_| true);
    assert_eq!(charts(&records), [true, false, true]);
    has(
        &words(dir.path(), "accuracy-energy-modelled"),
        &["Accuracy and energy, modelled", "J/token, modelled, not measured"],
    );
}

#[test]
fn geometric_means_are_of_shared_models_alone() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SIZES);
    let data = reports::load(dir.path()).unwrap();
    let together = reports::analysis::Analysis::new(&data).together;
    assert_eq!(together.len(), 4, "two workloads, two thread counts");
    for one in &together {
        // By f16 30b is N/A. ternary's 700m failed in block 1 at one thread; 3.8b and smaller ran in three blocks.
        let blocks = if one.cell.threads == 1 { 2 } else { 3 };
        assert_eq!((one.models, one.left_out, one.mean.unwrap().n), (4, 1, blocks), "{one:?}");
    }
    reports::render(dir.path()).unwrap();
    assert!(text(dir.path(), "report.md").contains("| `tg16` | ternary / f16 | 2 | 4 | 1 |"));
}

/// Nothing but the run's own records is ever taken into a median.
#[test]
fn records_of_another_program_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = fixture::write(dir.path(), &SIZES);
    let refused = |run: &Run, edit: &dyn Fn(&mut suites::Record), word: &str| {
        let mut records = good.clone();
        edit(&mut records[3]);
        fixture::write_files(dir.path(), run, &plan(), &records);
        let error = reports::load(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Foreign { line: 4, .. }), "{error}");
        assert!(error.to_string().contains(&format!("records.jsonl:4: {word}: expected")), "{error}");
    };
    let run = fixture::run();
    refused(&run, &|r| r.schema = SCHEMA - 1, "schema");
    refused(&run, &|r| r.run = "another".to_owned(), "run");
    refused(&run, &|r| r.suite = "another".to_owned(), "suite");
    refused(&run, &|r| r.profile = "release".to_owned(), "profile");
    // A run that is of an older version throughout is read.
    let old: Vec<suites::Record> =
        good.iter().cloned().map(|r| suites::Record { schema: OLDEST_SCHEMA, ..r }).collect();
    fixture::write_files(dir.path(), &Run { schema: OLDEST_SCHEMA, ..run }, &plan(), &old);
    assert_eq!(reports::load(dir.path()).unwrap().records.len(), good.len());
}

/// Runs in time, each as `edit` leaves it; speeds grow by a tenth from one to the next.
fn runs(edits: &[&dyn Fn(&mut Run)]) -> Vec<RunData> {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { models: &["125m"], workloads: &["tg16"], threads: &[2], ..SIZES };
    let good = fixture::write(dir.path(), &shape);
    let one = |(at, edit): (usize, &&dyn Fn(&mut Run))| {
        let mut run = fixture::run();
        run.name = format!("night-{at}");
        run.started = format!("2026-01-0{}T03:00:00Z", at + 1);
        edit(&mut run);
        let mut records = good.clone();
        for record in &mut records {
            (record.run, record.suite, record.profile) =
                (run.name.clone(), run.suite.clone(), run.build.profile.clone());
            if let Outcome::Ok(m) = &mut record.outcome {
                m.samples.iter_mut().for_each(|s| s.duration_ns = s.duration_ns * 10 / (10 + at as u64));
            }
        }
        fixture::write_files(dir.path(), &run, &plan(), &records);
        reports::load(dir.path()).unwrap()
    };
    edits.iter().enumerate().map(one).collect()
}

/// Lines of two points or more in a picture, but for the axes and grid.
fn drawn(svg: &str, colour: &str) -> usize {
    let wide = |line: &&str| line.starts_with("<polyline") && line.contains("stroke-width=\"2\"");
    svg.lines().filter(wide).filter(|line| line.contains(colour)).count()
}

/// The colour of the first engine.
const TERNARY: &str = "#0072B2";

fn history(runs: &[RunData]) -> (Vec<String>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let written = reports::history(runs, &dir.path().join("plots")).unwrap();
    assert_eq!(written.len(), 2, "decode alone was run: {written:?}");
    let bytes = || written.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let first = bytes();
    reports::history(runs, &dir.path().join("plots")).unwrap();
    assert!(first == bytes(), "the same runs, the same bytes");
    let svg = text(dir.path(), "plots/history-decode.svg");
    // One of them is in the legend.
    (words(dir.path(), "history-decode"), drawn(&svg, TERNARY) - 1)
}

#[test]
fn runs_of_one_machine_and_build_are_one_line() {
    let same = |_: &mut Run| ();
    let other_revision = |run: &mut Run| run.build.git_revision = Some("1234567".to_owned());
    let three = runs(&[&same, &other_revision, &same]);
    let (words, lines) = history(&three);
    has(&words, &["125m", "ternary, 2 threads", "01-01 03:00", "01-03 03:00", "Example CPU 9000"]);
    assert_eq!(lines, 1, "revisions are what a history is of");
    let mut turned = three;
    turned.reverse();
    assert_eq!(history(&turned), (words, lines), "by their beginnings, however they are given");
}

#[test]
fn machines_and_builds_are_kept_apart() {
    let same = |_: &mut Run| ();
    let machine = |run: &mut Run| run.machine.cpu = "Other CPU".to_owned();
    let (words, lines) = history(&runs(&[&same, &same, &machine, &machine]));
    has(&words, &["125m: Example CPU 9000", "125m: Other CPU"]);
    assert_eq!(lines, 2, "a panel each");
    type Edit = fn(&mut Run);
    let others: [Edit; 5] = [
        |run| run.build.profile = "release".to_owned(),
        |run| run.build.rustc = "rustc 2.0".to_owned(),
        |run| run.suite_digest = "blake3:01".to_owned(),
        |run| run.models = vec![suites::run::Digest { name: "125m".to_owned(), digest: "blake3:02".to_owned() }],
        |run| run.warnings = vec!["resumed at noon with another build of the program".to_owned()],
    ];
    for (at, other) in others.iter().enumerate() {
        let (_, lines) = history(&runs(&[&same, &same, other]));
        assert_eq!(lines, 1, "{at}: the third stands alone");
        let (_, lines) = history(&runs(&[&same, other]));
        assert_eq!(lines, 0, "{at}: no line from one to the other");
    }
}

#[test]
fn what_no_history_can_hold_is_refused() {
    let same = |_: &mut Run| ();
    let suite = |run: &mut Run| run.suite = "another".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let message = |runs: &[RunData]| match reports::history(runs, dir.path()) {
        Err(Error::Mixed(message)) => message,
        other => panic!("{other:?}"),
    };
    let two = runs(&[&same, &suite]);
    assert!(message(&two).contains("is of `fixture`, night-1 of `another`"), "{}", message(&two));
    assert!(message(&two[..1]).contains("two runs or more"));
    assert!(message(&[two[0].clone(), two[0].clone()]).contains("given twice"));
}
