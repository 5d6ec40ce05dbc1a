//! Claims answered from a made-up run.

mod fixture;

use reports::claims::{self, Bench, Format, Verdict};
use std::collections::BTreeMap;
use suites::claim;
use suites::eval::{Accuracy, AccuracyFigure, TaskOutcome};
use suites::record::{Energy, Outcome, Record};
use suites::task::Metric;

const SHAPE: fixture::Shape<'_> = fixture::Shape {
    models: &["125m", "350m", "700m", "7b", "100b"],
    threads: &[1, 2],
    workloads: &["tg16", "pp64"],
    blocks: 3,
    joules: false,
};

/// A run whose records are as the fixture has them but for `change`.
fn bench(name: &str, shape: &fixture::Shape<'_>, change: impl Fn(&mut Record)) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let run = load(folder.path(), name, shape, change);
    let mut benches = claims::answer(&claim::embedded().unwrap(), &[run], &BTreeMap::new());
    assert_eq!(benches.len(), 1);
    benches.pop().unwrap()
}

fn load(
    folder: &std::path::Path,
    name: &str,
    shape: &fixture::Shape<'_>,
    change: impl Fn(&mut Record),
) -> reports::RunData {
    let mut records = fixture::write(folder, shape);
    let mut data = reports::load(folder).unwrap();
    data.run.name = name.to_owned();
    records.iter_mut().for_each(|record| {
        record.run = name.to_owned();
        change(record);
    });
    fixture::write_files(folder, &data.run, &data.plan, &records);
    reports::load(folder).unwrap()
}

fn answer<'a>(bench: &'a Bench, id: &str) -> &'a claims::Answer {
    bench.answers.iter().find(|answer| answer.claim.id == id).unwrap()
}

fn part<'a>(answer: &'a claims::Answer, of: &str) -> &'a claims::Part {
    answer.parts.iter().find(|part| part.of == of).unwrap()
}

/// Sets tokens a second of every window of a process.
fn set_speed(record: &mut Record, speed: f64) {
    if let Outcome::Ok(measurement) = &mut record.outcome {
        for sample in &mut measurement.samples {
            sample.duration_ns = (f64::from(sample.tokens) * 1e9 / speed) as u64;
        }
    }
}

#[test]
fn speedups_are_judged_size_by_size() {
    // As the paper has it for 125M at the best thread count, half of it for 350M (3.05), twice it for 700M (3.88).
    let bench = bench("speeds", &fixture::Shape { threads: &[1, 2], ..SHAPE }, |record| {
        let ratio = match record.cell.model.as_str() {
            "125m" => 2.37,
            "350m" => 1.0,
            _ => 7.8,
        };
        let drift = 1.0 + f64::from(record.block) / 10.0;
        let base = 10.0 * drift * f64::from(record.cell.threads);
        set_speed(record, if record.cell.engine == "ternary" { base * ratio } else { base });
    });
    let best = answer(&bench, "x86-speedup");
    assert_eq!(best.verdict, Verdict::Partly);
    let of = |model: &str| part(best, model);
    let ours = of("125m").ours.as_ref().unwrap();
    // The drift of 20 % over the blocks is none of the ratio's.
    let (lo, hi) = ours.estimate.interval.unwrap();
    assert!((ours.estimate.value - 2.37).abs() < 1e-3 && hi - lo < 1e-3, "{ours:?}");
    assert_eq!((ours.estimate.n, of("125m").verdict), (3, Verdict::Reproduced));
    assert_eq!(ours.how, "ternary (2 threads) over f16 (2 threads), tg16");
    assert_eq!(ours.run.as_deref(), Some("speeds"));
    assert_eq!(of("700m").verdict, Verdict::Exceeded);
    // With two threads its f16 cell failed the check: one thread stands for it, against the two of ternary.
    let ours = of("350m").ours.as_ref().unwrap();
    assert_eq!(ours.how, "ternary (2 threads) over f16 (1 thread), tg16");
    assert!((ours.estimate.value - 2.0).abs() < 1e-3 && of("350m").verdict == Verdict::NotReproduced, "{ours:?}");
    let told = of("1b").ours.as_ref().unwrap_err();
    assert_eq!(told, "the run has no decode cell of 1b with ternary");
    assert_eq!(part(best, "7b").ours.as_ref().unwrap_err(), "1 of the 3 processes or blocks that a verdict takes");
    let two = answer(&bench, "x86-speedup-2-threads");
    assert_eq!(part(two, "350m").ours.as_ref().unwrap_err(), "f16 failed: check: logits differ | by 0.2");
    assert!(best.differs.iter().any(|d| d.contains("the paper's: i7-13700H")), "{:?}", best.differs);
    assert_eq!(best.growth.as_deref(), Some("the gain grows with size from 125m to 700m"));
}

#[test]
fn what_cannot_be_tested_says_why() {
    let bench = bench("none", &SHAPE, |_| ());
    let why = |id: &str, of: &str| part(answer(&bench, id), of).ours.clone().unwrap_err();
    assert!(why("arm-speedup", "7b").starts_with("speaks of aarch64; this program was built for x86_64"));
    assert_eq!(why("x86-energy", "700m"), "no measured joules: no powercap zone under /sys/class/powercap");
    assert_eq!(why("2b4t-latency", "2b4t"), "the run has no decode cell of 2b4t with ternary");
    assert_eq!(why("2b4t-accuracy", "acc:boolq"), "the run has no measured cell of bitnet-b1.58-2B-4T");
    let lacking = why("lossless", "bitnet_b1_58-large");
    assert!(lacking.starts_with(
        "no record holds generated tokens beside an FP32 kernel's. Lacking are continuations of bitnet_b1_58-large"
    ));
    assert!(lacking.ends_with("No process of ternary was held against its scalar path either"), "{lacking}");
    assert_eq!(why("kernels-over-q4_0", "700m"), "the run has no decode cell of 700m with llama.cpp-q4_0");
    for id in
        ["arm-speedup", "x86-energy", "x86-joules", "2b4t-latency", "2b4t-accuracy", "lossless", "kernels-over-q4_0"]
    {
        assert_eq!(answer(&bench, id).verdict, Verdict::NotTestable, "{id}");
    }
    let why = part(answer(&bench, "100b-reading-speed"), "100b").ours.clone().unwrap_err();
    assert_eq!(why, "1 of the 3 processes or blocks that a verdict takes");
}

/// Logits equal to the engine's own scalar path are no tokens equal to an FP32 kernel's, however many there are: told, not judged.
#[test]
fn equal_logits_do_not_stand_for_equal_tokens() {
    let bench = bench("checked", &SHAPE, |record| {
        let block = record.block;
        if let (Outcome::Ok(measurement), "ternary", "125m") =
            (&mut record.outcome, record.cell.engine.as_str(), record.cell.model.as_str())
        {
            let comparison = &mut measurement.check.comparisons[0];
            comparison.against = "scalar reference".to_owned();
            (comparison.bound_ppb, comparison.relative_rms_ppb) = (0, Some(0));
            comparison.pass = block != 2;
        }
    });
    let lossless = answer(&bench, "lossless");
    let why = lossless.parts[0].ours.clone().unwrap_err();
    assert_eq!(lossless.verdict, Verdict::NotTestable);
    // Four cells of three blocks, of which one did not pass.
    assert!(
        why.contains("in 8 of 12 processes of ternary (1 model) equal bit for bit to that of its own scalar path"),
        "{why}"
    );
    assert!(why.contains("1,000 prompts, 100 tokens") && why.ends_with("one row is no continuation"), "{why}");
}

#[test]
fn joules_are_measured_or_not_judged() {
    let with = fixture::Shape { joules: true, threads: &[1], models: &["700m", "125m"], ..SHAPE };
    // A quarter of the baseline's joules: 75 % less, over the 71.9 % of the paper but within its band.
    let joules = |record: &mut Record, modelled: bool| {
        let ternary = record.cell.engine == "ternary";
        // The fixture's own failure of one block is not what is tested here.
        if let Outcome::Failed(_) = record.outcome {
            record.outcome = Outcome::Ok(Box::new(fixture::measurement(&record.cell, 700_000_000, record.block, true)));
        }
        if let Outcome::Ok(measurement) = &mut record.outcome {
            let Energy::Measured(joules) = &mut measurement.energy else { panic!() };
            joules.doubts = vec!["few refreshes".to_owned()];
            joules.total_uj = if ternary { 250_000 } else { 1_000_000 } * joules.tokens;
            if modelled {
                measurement.energy = Energy::Modelled(joules.clone());
            }
        }
    };
    let measured = bench("measured", &with, |record| joules(record, false));
    let found = part(answer(&measured, "x86-energy"), "700m");
    let ours = found.ours.as_ref().unwrap();
    assert!((ours.estimate.value - 0.75).abs() < 1e-9, "{ours:?}");
    assert_eq!((found.verdict, ours.kind.as_str()), (Verdict::Reproduced, "measured, powercap; doubt: few refreshes"));
    let found = part(answer(&measured, "x86-joules"), "700m");
    assert_eq!(found.verdict, Verdict::Exceeded, "0.25 J where 0.384 J are claimed: {found:?}");
    let modelled = bench("modelled", &with, |record| joules(record, true));
    let why = part(answer(&modelled, "x86-energy"), "700m").ours.clone().unwrap_err();
    assert_eq!(why, "no measured joules: joules of powercap are modelled");
}

#[test]
fn runs_of_one_build_answer_together_and_others_apart() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, models: &'static [&'static str], revision: &str| {
        let folder = folder.path().join(name);
        let mut run = load(&folder, name, &fixture::Shape { models, ..SHAPE }, |_| ());
        run.run.build.git_revision = Some(revision.to_owned());
        run
    };
    let runs = [of("a", &["125m"], "1"), of("b", &["350m", "700m"], "1"), of("c", &["125m"], "2")];
    let benches = claims::answer(&claim::embedded().unwrap(), &runs, &BTreeMap::new());
    assert_eq!(benches.iter().map(|b| b.runs.clone()).collect::<Vec<_>>(), [vec!["a", "b"], vec!["c"]]);
    let tested = |bench: &Bench| -> Vec<(String, String)> {
        let parts = answer(bench, "x86-speedup").parts.iter();
        parts.filter_map(|p| Some((p.of.clone(), p.ours.as_ref().ok()?.run.clone()?))).collect()
    };
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(tested(&benches[0]), pairs(&[("125m", "a"), ("350m", "b"), ("700m", "b")]));
    assert_eq!(tested(&benches[1]), pairs(&[("125m", "c")]));
}

#[test]
fn a_debug_build_tests_no_speed() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = load(folder.path(), "debug", &SHAPE, |_| ());
    run.run.build.debug_assertions = true;
    let benches = claims::answer(&claim::embedded().unwrap(), &[run], &BTreeMap::new());
    let why = part(answer(&benches[0], "x86-speedup"), "125m").ours.clone().unwrap_err();
    assert!(why.contains("debug assertions"), "{why}");
}

#[test]
fn every_form_has_every_claim() {
    let bench = [bench("hostile | <b>run</b>", &SHAPE, |_| ())];
    let of = |format| claims::show(&bench, format).unwrap();
    let (table, markdown) = (of(Format::Table), of(Format::Markdown));
    for answer in &bench[0].answers {
        assert!(table.contains(&answer.claim.id), "{table}");
        assert!(markdown.contains(&answer.claim.source.replace('_', "\\_")), "{markdown}");
    }
    assert!(!markdown.contains("<b>") && markdown.contains("hostile \\| &lt;b&gt;"), "{markdown}");
    assert!(markdown.contains("**busy machine: load 3.1**"));
    let figures: usize = bench[0].answers.iter().map(|answer| answer.parts.len()).sum();
    let text = of(Format::Csv);
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), figures);
    // What is computed from a shape has no replicates, and says no number of them.
    let computed = rows.iter().filter(|row| row[12].starts_with("modelled"));
    assert!(computed.clone().count() == 12 && computed.clone().all(|row| row[11].is_empty()));
    // A figure or a reason, never neither.
    assert!(rows.iter().all(|row| row[8].is_empty() != row[17].is_empty()));
    let json: serde_json::Value = serde_json::from_str(&of(Format::Json)).unwrap();
    assert_eq!(json["benches"][0]["claims"].as_array().unwrap().len(), bench[0].answers.len());
    assert_eq!(of(Format::Json), of(Format::Json));
}

#[test]
fn an_outside_baseline_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let shape = fixture::Shape { models: &["125m"], threads: &[2], ..SHAPE };
    let run = load(folder.path(), "outside", &shape, |record| {
        if record.cell.engine == "f16" {
            *record = fixture::outside(record).unwrap();
        }
    });
    let mut claims = claim::embedded().unwrap();
    claims.retain(|claim| claim.id == "x86-speedup");
    claims[0].baseline = "theirs".to_owned();
    let benches = claims::answer(&claims, &[run], &BTreeMap::new());
    let ours = part(&benches[0].answers[0], "125m").ours.clone().unwrap();
    assert_eq!(ours.how, "ternary (2 threads) over theirs (2 threads, answers unchecked), tg16");
}

#[test]
fn accuracy_is_judged_with_as_many_examples_and_an_interval() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |task: &str, metric, value: f64, fewshot, interval| {
        TaskOutcome::Ok(Accuracy {
            task: task.to_owned(),
            items: 500,
            skipped: 0,
            truncated: 0,
            fewshot,
            figures: vec![AccuracyFigure { metric, value, stderr: None, interval }],
            tokens: 1,
            duration_ns: 1,
            log: "items/none.jsonl".to_owned(),
        })
    };
    let shape = fixture::Shape { models: &["125m"], threads: &[1], ..SHAPE };
    let run = load(folder.path(), "asked", &shape, |record| {
        if let (Outcome::Ok(measurement), 0, "ternary") =
            (&mut record.outcome, record.block, record.cell.engine.as_str())
        {
            measurement.accuracy = vec![
                asked("boolq", Metric::Acc, 0.80, 0, Some((0.79, 0.81))),
                asked("mmlu", Metric::Acc, 0.53, 0, Some((0.52, 0.54))),
                asked("winogrande", Metric::Acc, 0.72, 0, None),
                asked("piqa", Metric::AccNorm, 0.5, 0, Some((0.45, 0.55))),
            ];
        }
    });
    let called = BTreeMap::from([("bitnet-b1.58-2B-4T".to_owned(), "125m".to_owned())]);
    let benches = claims::answer(&claim::embedded().unwrap(), &[run], &called);
    let answer = answer(&benches[0], "2b4t-accuracy");
    let of = |task: &str| part(answer, task);
    assert_eq!((of("acc:boolq").verdict, of("acc_norm:piqa").verdict), (Verdict::Reproduced, Verdict::NotReproduced));
    assert_eq!(of("acc:boolq").ours.as_ref().unwrap().estimate.n, 500);
    let why = |task: &str| of(task).ours.clone().unwrap_err();
    assert_eq!(why("acc:mmlu"), "asked with 0 examples; the paper's figure is with 5");
    assert_eq!(why("acc:winogrande"), "no interval over 500 items");
    assert_eq!(why("acc_norm:arc_easy"), "ternary has no acc_norm:arc_easy of 125m");
}

/// What `scripts/check-tex` compiles too; `UPDATE_GOLDEN=1` rewrites it after a change that was meant.
#[test]
fn latex_is_golden_and_harmless() {
    const ODD: &str = "a_b%#&~^\\{x}$y|<z>\"'`[--]*é中×";
    let folder = tempfile::tempdir().unwrap();
    let mut run = load(folder.path(), "made-up", &SHAPE, |_| ());
    run.run.machine.cpu = format!("\\input{{/etc/passwd}} {ODD}");
    run.run.warnings.push(ODD.to_owned());
    let mut claims = claim::embedded().unwrap();
    claims.retain(|claim| ["x86-speedup-2-threads", "x86-energy"].contains(&claim.id.as_str()));
    for claim in &mut claims {
        for text in [&mut claim.text, &mut claim.source, &mut claim.why, &mut claim.id] {
            text.push_str(ODD);
        }
    }
    let benches = claims::answer(&claims, &[run], &BTreeMap::new());
    let of = |standalone| claims::show(&benches, Format::Latex { standalone }).unwrap();
    let alone = of(true);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/claims.tex");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &alone).unwrap();
    }
    assert_eq!(alone, std::fs::read_to_string(&path).unwrap());
    assert!(!alone.contains("\\input") && !of(false).contains("documentclass"));
    assert!(alone.contains("a\\_b\\%\\#\\&\\textasciitilde{}"), "{alone}");
    // The verdicts, and the figures of the one claim that could be tested.
    assert_eq!(alone.matches("\\begin{longtable}").count(), 2, "{alone}");
    assert!(alone.contains("\\raggedright not testable here"), "{alone}");
    // A row has as many cells as its head, and each ends by the command that leaves `\\raggedright` alone.
    for line in alone.lines().filter(|line| line.contains("\\raggedright") && line.contains(" & ")) {
        assert!([4, 5].contains(&line.matches(" & ").count()) && line.ends_with(" \\tabularnewline"), "{line}");
    }
}
