//! Measured and modelled joules are told apart in everything that a run is rendered to.

mod fixture;
mod marks;

use fixture::Shape;
use marks::{Digits, faults, shows};
use std::collections::BTreeMap;
use std::path::Path;
use suites::Record;
use suites::cell::Phase;
use suites::eval::{Accuracy, AccuracyFigure, TaskOutcome};
use suites::record::*;
use suites::run::Plan;

const SHAPE: Shape<'_> =
    Shape { models: &["125m", "700m"], threads: &[2], workloads: &["pp64", "tg16"], blocks: 2, joules: false };
/// Joules by RAPL, net of rest, the peak in watts, the second reader's, at rest, and a stage's net of that.
const MEASURED: [&str; 6] = ["379", "313", "391", "347", "359", "343"];
/// The same of a model, without a second reader; arithmetic of both engines at 7 and 45 nm.
const MODELLED: [&str; 9] = ["617", "613", "631", "647", "552", "733", "739", "757", "769"];
const DIGITS: Digits<'_> = Digits { measured: &MEASURED, modelled: &MODELLED };
/// Tokens and length of every window: powers of ten keep a figure's digits.
const TOKENS: u64 = 100;
const WINDOW_NS: u64 = 10_000_000_000;

/// Which joules a cell's records hold.
#[derive(Clone, Copy, PartialEq)]
struct Has {
    measured: bool,
    modelled: bool,
}
const MEASURED_ONLY: Has = Has { measured: true, modelled: false };
const MODELLED_ONLY: Has = Has { measured: false, modelled: true };
const BOTH: Has = Has { measured: true, modelled: true };
const NONE: Has = Has { measured: false, modelled: false };

fn source(name: &str, kind: EnergyKind, total_uj: u64, domains: &[(&str, u64)]) -> SourceEnergy {
    let domain = |&(name, energy_uj): &(&str, u64)| DomainEnergy { domain: name.to_owned(), energy_uj };
    SourceEnergy {
        source: name.to_owned(),
        kind,
        total_uj: Some(total_uj),
        invalid: None,
        peak_mw: Some(if kind == EnergyKind::Measured { 39_100 } else { 63_100 }),
        domains: domains.iter().map(domain).collect(),
        doubts: vec![format!("{name} was read late")],
        readings: 9,
    }
}

/// What is read in a stage: at rest, joules of rest; arithmetic only where tokens are.
fn sources(stage: Stage, ternary: bool, has: Has) -> Vec<SourceEnergy> {
    let rest = matches!(stage, Stage::IdleBefore | Stage::IdleAfter);
    let mut all = Vec::new();
    if has.measured {
        let (rapl, pmu) = if rest { (35_900_000, 35_900_000) } else { (379_000_000, 347_000_000) };
        all.push(source("powercap", EnergyKind::Measured, rapl, &[]));
        all.push(source("perf", EnergyKind::Measured, pmu, &[]));
    }
    if has.modelled {
        let busy = if rest { 64_700_000 } else { 617_000_000 };
        all.push(source("cpu-time", EnergyKind::Modelled, busy, &[]));
        let counts = matches!(stage, Stage::Prefill | Stage::Decode);
        let (nm7, nm45) = if ternary { (7_330, 7_390) } else { (757_000, 769_000) };
        let (nm7, nm45) = if counts { (nm7, nm45) } else { (0, 0) };
        let domains = [("linear", nm7), ("scales", 0), ("attention", 0), ("at 45 nm", nm45)];
        all.push(source("arithmetic", EnergyKind::Modelled, nm7, &domains));
    }
    all
}

fn joules(source: &str, total_uj: u64, net_uj: i64, peak_mw: u64) -> Joules {
    Joules {
        source: source.to_owned(),
        total_uj,
        domains: Vec::new(),
        window_ns: WINDOW_NS,
        tokens: TOKENS,
        net_uj: Some(net_uj),
        peak_mw: Some(peak_mw),
        doubts: vec!["wraps are unknown".to_owned()],
    }
}

fn fill(record: &mut Record, has: Has) {
    let Outcome::Ok(m) = &mut record.outcome else { return };
    let ternary = record.cell.engine == "ternary";
    let windows = if record.cell.workload.phase == Phase::Decode { Stage::Decode } else { Stage::Prefill };
    m.energy = match (has.measured, has.modelled) {
        (true, _) => Energy::Measured(joules("powercap", 379_000_000, 313_000_000, 39_100)),
        (_, true) => Energy::Modelled(joules("cpu-time", 617_000_000, 613_000_000, 63_100)),
        _ => Energy::Unavailable { reason: "no powercap zone under /sys/class/powercap".to_owned() },
    };
    let stages = [Stage::IdleBefore, Stage::Load, windows, Stage::IdleAfter];
    let stage = |stage| StageRecord {
        stage,
        window_ns: WINDOW_NS,
        tokens: if stage == windows { TOKENS } else { 0 },
        peak_rss_bytes: Some(5 << 20),
        sources: sources(stage, ternary, has),
        facts: None,
    };
    m.phases = stages.map(stage).to_vec();
    // Powers of ten keep the digits, and draw the lines of a chart apart.
    let times = if ternary { 1 } else { 10 } * if record.cell.model == "125m" { 1 } else { 10 };
    if let Energy::Measured(joules) | Energy::Modelled(joules) = &mut m.energy {
        joules.total_uj *= times;
        joules.net_uj = joules.net_uj.map(|uj| uj * times as i64);
        joules.peak_mw = joules.peak_mw.map(|mw| mw * times);
    }
    for source in m.phases.iter_mut().flat_map(|s| &mut s.sources).filter(|s| s.source != "arithmetic") {
        source.total_uj = source.total_uj.map(|uj| uj * times);
        source.peak_mw = source.peak_mw.map(|mw| mw * times);
    }
}

/// Renders a run whose cells have what `of` says of their model: names and texts of all that comes out, the suite's own table too.
fn render(of: impl Fn(&str) -> Has) -> BTreeMap<String, String> {
    render_edited(of, |_| ())
}

/// The same with the records as `edit` leaves them.
fn render_edited(of: impl Fn(&str) -> Has, edit: impl Fn(&mut Vec<Record>)) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut records = fixture::write(dir.path(), &SHAPE);
    for record in &mut records {
        let has = of(&record.cell.model);
        fill(record, has);
    }
    edit(&mut records);
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    reports::render(dir.path()).unwrap();
    let mut files = BTreeMap::new();
    files.insert("stdout".to_owned(), reports::table(&reports::load(dir.path()).unwrap()));
    for folder in [dir.path().to_owned(), dir.path().join("plots")] {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if ["summary.csv", "report.md"].contains(&name.as_str()) || name.ends_with(".svg") {
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    // To look at the pictures: KEEP_PLOTS=folder.
    if let Some(keep) = std::env::var_os("KEEP_PLOTS") {
        let keep = Path::new(&keep).join(files.keys().filter(|k| k.contains("energy")).cloned().collect::<String>());
        std::fs::create_dir_all(&keep).unwrap();
        for path in std::fs::read_dir(dir.path().join("plots")).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&path, keep.join(path.file_name().unwrap())).unwrap();
        }
        std::fs::copy(dir.path().join("report.md"), keep.join("report.md")).unwrap();
    }
    files
}

fn rows<'a>(files: &'a BTreeMap<String, String>, name: &str, parts: &[&str]) -> Vec<&'a str> {
    files[name].lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
}

/// The check below means something only if nothing else in the run has these digits.
#[test]
fn nothing_else_has_the_digits_of_the_joules() {
    let files = render(|_| NONE);
    for (name, text) in files.iter().filter(|(name, _)| !name.ends_with(".svg")) {
        for line in text.lines() {
            assert!(!shows(line, &MEASURED) && !shows(line, &MODELLED), "{name}: {line}");
        }
    }
    assert!(!files.keys().any(|name| name.contains("energy")), "{:?}", files.keys());
    assert!(!rows(&files, "report.md", &["J/token unavailable in 8 cells: no powercap zone"]).is_empty());
    assert!(rows(&files, "report.md", &["| mean W |"]).is_empty(), "a table of nothing");
}

#[test]
fn measured_joules_are_never_called_modelled() {
    let files = render(|_| MEASURED_ONLY);
    assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
    for digits in MEASURED {
        let found = |name: &str| files[name].lines().any(|line| shows(line, &[digits]));
        assert!(found("summary.csv") && found("report.md"), "{digits} is nowhere");
    }
    assert!(files.contains_key("decode-energy.svg") && !files.contains_key("decode-energy-modelled.svg"));
    // 347 over 379 J: the readers disagree, and it is said.
    let apart = rows(&files, "report.md", &["| perf |", "over 2 % apart"]);
    assert!(apart.len() == 8 && apart.iter().all(|row| row.contains("0.916")), "{apart:?}");
    assert_eq!(rows(&files, "report.md", &["doubt of perf"]).len(), 1, "told once");
    assert!(!files["report.md"].contains("Modelled, not measured"));
}

#[test]
fn modelled_joules_are_always_called_so() {
    let files = render(|_| MODELLED_ONLY);
    assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
    for digits in MODELLED {
        let found = |name: &str| files[name].lines().any(|line| shows(line, &[digits]));
        assert!(found("summary.csv") && found("report.md"), "{digits} is nowhere");
    }
    for stem in ["decode-energy", "decode-joules", "prefill-joules", "energy-stages"] {
        let has = |name: String| files.contains_key(&name);
        assert!(has(format!("{stem}-modelled.svg")) && !has(format!("{stem}.svg")), "{stem}");
    }
    // At rest the arithmetic is 0 by its nature, which is no machine's joules.
    assert!(rows(&files, "report.md", &["rest before", "arithmetic"]).is_empty());
}

#[test]
fn both_kinds_stand_apart() {
    let (files, measured) = (render(|_| BOTH), render(|_| MEASURED_ONLY));
    assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
    let row = |metric: &str| rows(&files, "summary.csv", &[",ternary,125m,2,tg16,", &format!(",{metric},")]).join("\n");
    assert!(row("joules_per_token").contains(",3.79,J/token,3.79,3.79,2,measured,ok,source powercap; wraps"));
    assert!(
        row("cpu_time_joules_per_token").contains(",6.17,J/token,6.17,6.17,2,modelled,ok,source cpu-time (modelled)")
    );
    let arithmetic = row("arithmetic_joules_per_token");
    assert!(arithmetic.contains(",modelled,ok,\"source arithmetic (modelled), 7 nm\""), "{arithmetic}");
    assert!(row("arithmetic_45nm_joules_per_token").contains(",0.0000739,J/token,"), "{}", files["summary.csv"]);
    assert!(row("load_joules").contains(",379,J,") && row("idle_watts").contains(",3.59,W,3.59,3.59,2,measured,"));
    assert!(row("load_net_joules").contains(",343.1,J,") && row("load_peak_watts").contains(",39.1,W,"));
    assert!(
        row("decode_net_joules").contains(",2,measured,ok,source powercap") && row("idle_before_net_joules").is_empty()
    );
    assert!(row("decode_peak_rss_bytes").contains(",5242880,bytes,") && row("prefill_joules").is_empty());
    let papers = rows(&files, "report.md", &["| 125m | ternary |", "`tg16`", "**modelled**", "103×", "104×"]);
    assert_eq!(papers.len(), 1, "{}", files["report.md"]);
    // What is modelled beside it moves no point of a measured chart.
    for chart in ["decode-energy.svg", "prefill-energy.svg"] {
        assert_eq!(files[chart], measured[chart]);
    }
    assert!(!files.keys().any(|name| name.contains("modelled")));
}

/// The arithmetic alone is no machine's energy: it has its table, and the reason why there are no joules stands beside it.
#[test]
fn arithmetic_never_stands_for_the_machine() {
    let files = render_edited(
        |_| MODELLED_ONLY,
        |records| {
            for record in records {
                let Outcome::Ok(m) = &mut record.outcome else { continue };
                m.energy = Energy::Unavailable { reason: "nothing measures".to_owned() };
                m.phases.iter_mut().for_each(|stage| stage.sources.retain(|s| s.source == "arithmetic"));
            }
        },
    );
    assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
    let page = &files["report.md"];
    assert!(page.contains("unavailable in 8 cells: nothing measures") && page.contains("### Modelled, not measured"));
    assert!(!page.contains("| mean W |") && !files.keys().any(|name| name.contains("energy")));
    assert!(
        rows(&files, "summary.csv", &["_watts,"]).is_empty() && rows(&files, "summary.csv", &["_joules,"]).is_empty()
    );
}

/// Where the most trusted source fails in one process, it stays the most trusted of the others, and a figure of two sources names
/// both.
#[test]
fn a_failed_reading_does_not_change_the_order_of_trust() {
    let files = render_edited(
        |_| BOTH,
        |records| {
            for record in records.iter_mut().filter(|r| r.block == 0) {
                let Outcome::Ok(m) = &mut record.outcome else { continue };
                m.energy = Energy::Measured(joules("perf", 347_000_000, 313_000_000, 39_100));
                for source in m.phases.iter_mut().flat_map(|s| &mut s.sources).filter(|s| s.source == "powercap") {
                    (source.total_uj, source.invalid) = (None, Some("it went on too far".to_owned()));
                }
            }
        },
    );
    let row = |metric: &str| rows(&files, "summary.csv", &[",ternary,125m,2,tg16,", &format!(",{metric},")]).join("\n");
    let stage = row("load_joules");
    assert!(stage.contains(",379,J,,,1,measured,ok,source powercap; from 1 of 2 processes"), "{stage}");
    assert!(row("perf_over_powercap").contains(",0.915") && row("powercap_over_perf").is_empty());
    let both = row("joules_per_token");
    assert!(both.contains("processes differ in their source"), "{both}");
    assert!(both.contains("source perf, powercap"), "{both}");
    let first = rows(&files, "report.md", &["| 125m | ternary |", "`tg16`", "| powercap |", "the most trusted"]);
    assert_eq!(first.len(), 1, "{}", files["report.md"]);
}

/// An outside program's joules are modelled where its process's are.
#[test]
fn outside_joules_keep_their_kind() {
    for (has, kind) in [(MEASURED_ONLY, "measured"), (MODELLED_ONLY, "modelled")] {
        let add = |records: &mut Vec<Record>| {
            let theirs: Vec<Record> = records.iter().filter_map(fixture::outside).collect();
            records.extend(theirs.into_iter().filter(|r| r.block == 0));
        };
        let files = render_edited(|_| has, add);
        assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
        let found = rows(&files, "summary.csv", &[",theirs,", ",process_joules,"]);
        assert!(!found.is_empty() && found.iter().all(|row| row.contains(&format!(",{kind},outside,"))), "{found:?}");
    }
}

/// `UPDATE_GOLDEN=1` rewrites the snapshot after a change that was meant.
#[test]
fn metrics_of_energy_are_golden() {
    let files = render(|_| BOTH);
    let energy =
        |line: &&str| ["J/token", ",J,", ",W,", "J s/token2", "_peak_rss_", "_over_"].iter().any(|p| line.contains(p));
    let found: String = rows(&files, "summary.csv", &[",ternary/125m/t2/"])
        .into_iter()
        .filter(energy)
        .map(|l| format!("{l}\n"))
        .collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/energy.csv");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn a_chart_of_measured_joules_leaves_out_models_that_have_modelled_ones() {
    let files = render(|model| if model == "125m" { MEASURED_ONLY } else { MODELLED_ONLY });
    assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
    let chart = &files["decode-energy.svg"];
    assert!(chart.contains("125m") && !chart.contains("700m"), "{chart}");
    let said = files["report.md"].matches("modelled alone are left out").count();
    assert_eq!(said, 5, "by size and as bars of both phases, and by stage");
    for stem in ["decode-joules", "prefill-joules", "energy-stages"] {
        let chart = &files[&format!("{stem}.svg")];
        assert!(chart.contains("125m") && !chart.contains("700m"), "{stem}: {chart}");
    }
}

/// The check can fail: each way of leaving out the mark is found.
#[test]
fn a_renderer_that_forgets_the_mark_is_found_out() {
    let good = render(|_| MODELLED_ONLY);
    let spoilt = |name: &str| {
        let mut files = good.clone();
        let text = files[name].replace("odelled", "easured");
        files.insert(name.to_owned(), text);
        faults(&files, &DIGITS)
    };
    for name in ["summary.csv", "report.md", "decode-energy-modelled.svg"] {
        let found = spoilt(name);
        assert!(!found.is_empty() && found.iter().all(|fault| fault.starts_with(name)), "{name}: {found:?}");
    }
    // One row is enough, on any output.
    let one = |name: &str, text: &str| faults(&BTreeMap::from([(name.to_owned(), text.to_owned())]), &DIGITS).len();
    assert_eq!(one("stdout", "| ternary | 6.17 J |\n| f16 | 61.7 W | modelled |\n| f16 | 9 J |"), 1);
    assert_eq!(one("summary.csv", "x,joules_per_token,0.0000733,J/token,,,1,derived,ok,"), 1);
    assert_eq!(one("report.md", "| 3.79 | **modelled** |\n| 3.79 | measured |"), 1, "the other way round");
    assert_eq!(one("decode-energy.svg", "<text>J/token</text><text>modelled</text>"), 1);
    assert_eq!(one("decode-energy-modelled.svg", "<text>J/token</text>"), 1);
    assert_eq!(one("memory.svg", "<text x=\"10\">61.7</text>"), 1, "a figure in a picture");
    assert_eq!(one("memory.svg", "<text x=\"617\">5</text>"), 0, "a coordinate");
    assert_eq!(one("x-modelled.svg", "<text>3.79</text><text>modelled</text>"), 1, "both in one picture");
}

/// A task of a hundred items, answered by the first block's decode processes; `None`: it broke off.
fn answer(record: &mut Record, has: Has, items: Option<u32>) {
    let ternary = record.cell.engine == "ternary";
    let Outcome::Ok(m) = &mut record.outcome else { return };
    if record.block > 0 || record.cell.workload.phase == Phase::Prefill {
        return;
    }
    let figures = vec![AccuracyFigure {
        metric: suites::task::Metric::Acc,
        value: 0.5,
        stderr: None,
        interval: Some((0.4, 0.6)),
    }];
    let task = "arc_easy".to_owned();
    let log = "items/none.jsonl".to_owned();
    m.accuracy.push(match items {
        Some(items) => TaskOutcome::Ok(Accuracy {
            task,
            items,
            skipped: 0,
            truncated: 0,
            fewshot: 0,
            figures,
            tokens: 1000,
            duration_ns: WINDOW_NS,
            log,
        }),
        None => TaskOutcome::Unavailable { task, reason: "no items".to_owned() },
    });
    if m.phases.iter().any(|s| s.stage == Stage::Tasks) {
        return;
    }
    let sources = sources(Stage::Tasks, ternary, has);
    let (peak_rss_bytes, facts) = (Some(5 << 20), None);
    m.phases.push(StageRecord {
        stage: Stage::Tasks,
        window_ns: WINDOW_NS,
        tokens: 1000,
        peak_rss_bytes,
        sources,
        facts,
    });
}

/// 379 J of a hundred answers are 3.79 J each; a model's joules are called so; a task that broke off leaves none.
#[test]
fn joules_of_an_answer_say_how_they_are_known() {
    let has = |model: &str| if model == "125m" { MEASURED_ONLY } else { MODELLED_ONLY };
    let answered = |more: Option<Option<u32>>| {
        render_edited(has, |records| {
            for record in records.iter_mut() {
                let has = has(&record.cell.model);
                answer(record, has, Some(100));
                more.into_iter().for_each(|items| answer(record, has, items));
            }
        })
    };
    let files = answered(None);
    assert_eq!(faults(&files, &DIGITS), Vec::<String>::new());
    let page = |parts: &[&str]| rows(&files, "report.md", parts).len();
    assert_eq!(page(&["### Joules of an answer"]), 1);
    assert_eq!(page(&["| 125m | ternary | 2 | powercap | measured | 100 | 3.79 |"]), 1);
    assert_eq!(page(&["| 700m | ternary | 2 | cpu-time | **modelled** | 100 | 6.17 |"]), 1);
    assert_eq!(rows(&files, "summary.csv", &["joules_per_answer", "J/answer"]).len(), 4, "two models by two engines");
    let twice = answered(Some(Some(300)));
    assert_eq!(rows(&twice, "report.md", &["| 125m | ternary | 2 | powercap | measured | 400 | 0.948 |"]).len(), 1);
    let broken = answered(Some(None));
    assert!(rows(&broken, "report.md", &["### Joules of an answer"]).is_empty());
}
