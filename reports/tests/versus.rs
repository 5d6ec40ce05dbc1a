//! Two runs held against each other, with figures worked out by hand.

mod fixture;

use fixture::{near, record, run};
use reports::versus::{Change, Line, Versus, compare, show};
use reports::{Error, RunData, sheet::Format};
use std::collections::BTreeMap;
use suites::cell::{Cell, KvCache};
use suites::record::{Energy, Failure, Joules, Outcome, Record, SCHEMA};
use suites::run::{Digest, Plan, Run};

const DRIFT: f64 = 0.15;

fn cell(engine: &str, workload: &str) -> Cell {
    let (engine, model) = (engine.to_owned(), "125m".to_owned());
    Cell { engine, model, threads: 1, workload: workload.parse().unwrap(), kv: KvCache::F16, isa: None }
}

fn data(name: &str, cells: &[(&str, &str, &[f64])]) -> RunData {
    let records = cells.iter().flat_map(|(engine, workload, speeds)| {
        let cell = cell(engine, workload);
        (0..).zip(*speeds).map(move |(block, speed)| record(&cell, block, *speed)).collect::<Vec<_>>()
    });
    RunData {
        run: Run { name: name.to_owned(), ..run() },
        plan: Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() },
        records: records.collect(),
        notes: Vec::new(),
        items: BTreeMap::new(),
    }
}

fn line<'a>(versus: &'a Versus, cell: &str, metric: &str) -> &'a Line {
    versus.cells.iter().find(|line| line.cell == cell && line.metric == metric).expect("a line")
}

/// A: 10 and 20 in every block: 2 [2, 2]. B: medians 5 and 5.5; the least and the largest medians of resamples of three come up
/// in 7/27 each, their corners in 6.7 %: 4.5/6 to 6.5/4. Of both: geometric means of blocks are the roots of 40, 50, 60 and
/// of 90, 110, 130.
#[test]
fn ratios_intervals_and_means_are_those_worked_out_by_hand() {
    let one = [("ternary", "tg8", &[10.0; 3][..]), ("f16", "tg8", &[4.0, 5.0, 6.0]), ("f16", "pp8", &[1.0; 3])];
    let other = [("ternary", "tg8", &[20.0; 3][..]), ("f16", "tg8", &[6.5, 4.5, 5.5]), ("ternary", "pp8", &[1.0; 3])];
    let found = compare(&data("one", &one), &data("other", &other), DRIFT).unwrap();
    let speed = line(&found, "ternary/125m/t1/tg8", "tokens_per_second");
    let ratio = speed.ratio.unwrap();
    assert_eq!((speed.baseline_n, speed.candidate_n, ratio.n, speed.change), (3, 3, 3, Change::Higher));
    near(speed.baseline, 10.0);
    near(speed.candidate, 20.0);
    [Some(ratio.value), ratio.lo, ratio.hi].into_iter().for_each(|figure| near(figure, 2.0));
    let speed = line(&found, "f16/125m/t1/tg8", "tokens_per_second");
    let ratio = speed.ratio.unwrap();
    near(Some(ratio.value), 1.1);
    near(ratio.lo, 0.75);
    near(ratio.hi, 1.625);
    assert_eq!(speed.change, Change::NotToldApart);
    for metric in ["peak_rss_bytes", "load_seconds"] {
        let line = line(&found, "f16/125m/t1/tg8", metric);
        assert_eq!((line.ratio.unwrap().value, line.change, line.kind), (1.0, Change::NotToldApart, "measured"));
    }
    assert!(found.cells.iter().all(|line| line.metric != "joules_per_token"), "neither has joules");
    let apart: Vec<_> = found.unpaired.iter().map(|c| (c.cell.as_str(), &*c.baseline, &*c.candidate)).collect();
    let want =
        [("f16/125m/t1/pp8", "measured", "not in the run"), ("ternary/125m/t1/pp8", "not in the run", "measured")];
    assert_eq!(apart, want);
    let [all] = found.means.as_slice() else { panic!("each engine has one cell, and so the workload both: {found:?}") };
    let ratio = all.ratio.unwrap();
    assert_eq!((all.of.as_str(), all.cells, all.left_out, ratio.n), ("all", 2, 2, 3));
    near(Some(ratio.value), (110.0f64 / 50.0).sqrt());
    near(ratio.lo, (90.0f64 / 60.0).sqrt());
    near(ratio.hi, (130.0f64 / 40.0).sqrt());
}

#[test]
fn drift_is_taken_off_and_one_process_tells_nothing() {
    let change = |speeds: &[f64]| {
        let pair = (data("one", &[("f16", "tg8", &[10.0; 3])]), data("other", &[("f16", "tg8", speeds)]));
        let found = compare(&pair.0, &pair.1, DRIFT).unwrap();
        (found.cells[0].change, found.cells[0].ratio.unwrap().lo)
    };
    assert_eq!(change(&[11.4; 3]).0, Change::NotToldApart, "14 % is less than the drift");
    assert_eq!(change(&[11.6; 3]).0, Change::Higher);
    assert_eq!(change(&[8.8; 3]).0, Change::NotToldApart, "a part of 1/1.15 is 0.87");
    assert_eq!(change(&[8.6; 3]).0, Change::Lower);
    assert_eq!(change(&[30.0]), (Change::Unknown, None));
}

fn joules(record: &mut Record, source: &str, measured: bool, per_token_uj: u64) {
    let Outcome::Ok(made) = &mut record.outcome else { panic!("a measurement") };
    let joules = Joules {
        source: source.to_owned(),
        total_uj: 10 * per_token_uj,
        domains: Vec::new(),
        window_ns: 1,
        tokens: 10,
        net_uj: None,
        peak_mw: None,
        doubts: Vec::new(),
    };
    made.energy = if measured { Energy::Measured(joules) } else { Energy::Modelled(joules) };
}

#[test]
fn joules_are_divided_only_where_both_are_of_one_source() {
    let made = |source: &str, measured, uj| {
        let mut data = data("x", &[("f16", "tg8", &[10.0; 2])]);
        data.records.iter_mut().for_each(|record| joules(record, source, measured, uj));
        data
    };
    let told = |one: &RunData, other: &RunData| {
        let found = compare(one, other, DRIFT).unwrap();
        let line = line(&found, "f16/125m/t1/tg8", "joules_per_token");
        (line.ratio.map(|ratio| (ratio.value * 1e9).round() / 1e9), line.kind, line.change, line.notes.join("; "))
    };
    let (measured, half) = (made("powercap", true, 2000), made("powercap", true, 1000));
    let want = (Some(0.5), "measured", Change::Lower, "joules by powercap".to_owned());
    assert_eq!(told(&measured, &half), want);
    let table = show(&compare(&measured, &half, DRIFT).unwrap(), Format::Table).unwrap();
    assert!(table.contains("joules_per_token (measured)"), "{table}");
    let modelled = made("cpu-time", false, 1000);
    let (ratio, kind, change, notes) = told(&measured, &modelled);
    assert_eq!((ratio, kind, change), (None, "modelled", Change::Unknown));
    assert!(notes.contains("sources differ: powercap and cpu-time (modelled)"), "{notes}");
    let (ratio, kind, ..) = told(&modelled, &modelled);
    assert_eq!((ratio, kind), (Some(1.0), "modelled"));
    let found = compare(&modelled, &modelled, DRIFT).unwrap();
    for format in [Format::Table, Format::Markdown] {
        let text = show(&found, format).unwrap();
        let line = text.lines().find(|line| line.contains("joules")).unwrap().replace('\\', "");
        assert!(line.contains("joules_per_token (modelled)"), "{line}");
    }
    let (ratio, .., notes) = told(&measured, &data("x", &[("f16", "tg8", &[10.0; 2])]));
    assert!(ratio.is_none() && notes.contains("powercap and none"), "{notes}");
}

#[test]
fn runs_that_differ_are_refused_with_the_field() {
    let one = data("one", &[("f16", "tg8", &[10.0; 3])]);
    let model = |digest: &str| vec![Digest { name: "125m".to_owned(), digest: digest.to_owned() }];
    type Case = (&'static str, fn(&mut Run));
    let cases: [Case; 8] = [
        ("machine's CPU: \"Example CPU 9000 @ 2.6 GHz\" and \"Another\"", |run| run.machine.cpu = "Another".to_owned()),
        ("machine's number of CPUs: 4 and 8", |run| run.machine.cpus = 8),
        ("machine's turbo: None and Some(true)", |run| run.machine.turbo = Some(true)),
        ("build profile: \"dev\" and \"test\"", |run| run.build.profile = "test".to_owned()),
        ("schema of the records: 11 and 9", |run| run.schema = 9),
        ("suite: \"fixture\" and \"own\"", |run| run.suite = "own".to_owned()),
        ("text of the suite (cells, windows, blocks): \"blake3:00\" and \"blake3:01\"", |run| {
            run.suite_digest = "blake3:01".to_owned();
        }),
        ("a run that another build went on with", |run| run.warnings.push("resumed by another build".to_owned())),
    ];
    for (want, change) in cases {
        let mut other = data("other", &[("f16", "tg8", &[10.0; 3])]);
        change(&mut other.run);
        let Err(Error::Mixed(message)) = compare(&one, &other, DRIFT) else { panic!("{want}: not refused") };
        assert!(message.starts_with("runs one and other can't be compared: ") && message.contains(want), "{message}");
    }
    let (mut one, mut other) = (one.clone(), one);
    (one.run.models, other.run.models) = (model("blake3:1"), model("blake3:2"));
    let message = compare(&one, &other, DRIFT).unwrap_err().to_string();
    assert!(message.contains("digest of model `125m`: \"blake3:1\" and \"blake3:2\""), "{message}");
    // The revision is what a comparison is about.
    let mut other = one.clone();
    other.run.build.git_revision = Some("0123".to_owned());
    assert!(compare(&one, &other, DRIFT).is_ok());
}

#[test]
fn failed_cells_and_other_answers_are_told() {
    let one = data("one", &[("f16", "tg8", &[10.0; 3]), ("ternary", "tg8", &[1.0])]);
    let mut other = data("other", &[("f16", "tg8", &[10.0; 3]), ("ternary", "tg8", &[1.0])]);
    for record in &mut other.records {
        match &mut record.outcome {
            outcome if record.cell.engine == "ternary" => {
                let (stage, message) = ("load".to_owned(), "no such\nmodel".to_owned());
                *outcome = Outcome::Failed(Failure { stage, message, stderr_tail: String::new(), check: None });
            }
            Outcome::Ok(made) => (made.check.digest, made.ran.isa) = ("01".to_owned(), "avx512".to_owned()),
            _ => {}
        }
    }
    let found = compare(&one, &other, DRIFT).unwrap();
    assert_eq!((found.unpaired.len(), &*found.unpaired[0].candidate), (1, "failed: load: no such"));
    let notes = found.cells[0].notes.join("; ");
    assert!(notes.contains("ISA path differs: avx2 and avx512") && notes.contains("the logits differ"), "{notes}");
    assert!(found.means.is_empty(), "one cell is no mean");
    let table = show(&found, Format::Table).unwrap();
    assert!(table.contains("drift by 15.0 % and more") && table.contains("Not compared: 1 cells"), "{table}");
    let csv = show(&found, Format::Csv).unwrap();
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4, "{csv}");
    let json: serde_json::Value = serde_json::from_str(&show(&found, Format::Json).unwrap()).unwrap();
    assert_eq!(json["cells"][0]["ratio"]["value"], 1.0);
}
