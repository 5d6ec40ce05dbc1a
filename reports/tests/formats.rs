//! Runs printed for other programs, against golden files. `UPDATE_GOLDEN=1` rewrites them after a change that was meant.

mod fixture;

use fixture::Shape;
use reports::RunData;
use reports::formats::{Format, Printed, print};
use reports::paper::{Selection, Threads, blocks};
use std::path::Path;
use suites::record::{Energy, Outcome, SCHEMA};
use suites::run::Plan;

const ODD: &str = "a_b%#&~^\\{x}$y|<z>\"'`[--]*é中×";

/// A run of good cells, failed and N/A ones, an outside engine, joules, and names and reasons that mean to do harm.
fn run(dir: &Path, joules: bool) -> RunData {
    let shape = Shape {
        models: &["125m", "350m", "30b", ODD],
        threads: &[1, 2],
        workloads: &["pp64", "tg16@d512"],
        blocks: 2,
        joules,
    };
    let mut records = fixture::write(dir, &shape);
    let theirs: Vec<_> = records.iter().filter(|r| r.cell.engine == "ternary").filter_map(fixture::outside).collect();
    records.extend(theirs);
    for record in &mut records {
        match &mut record.outcome {
            Outcome::Failed(failure) => failure.message = format!("\\input{{/etc/passwd}} {ODD} 'DROP'); --"),
            Outcome::Ok(m) if record.cell.threads == 1 => {
                if let Energy::Measured(joules) = m.energy.clone() {
                    m.energy = Energy::Modelled(joules);
                }
            }
            _ => {}
        }
    }
    let mut run = fixture::run();
    run.name = format!("made-up {ODD}");
    run.machine.cpu = "O'Example CPU; 100 % \\o/".to_owned();
    run.build.git_revision = Some("0123456789abcdef".to_owned());
    fixture::write_files(dir, &run, &Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() }, &records);
    reports::load(dir).unwrap()
}

fn printed(format: Format, selection: &Selection) -> Printed {
    let dir = tempfile::tempdir().unwrap();
    print(&[run(dir.path(), true)], format, selection).unwrap()
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn formats_are_golden() {
    let all = Selection::default();
    let names = [
        ("hostile.md", Format::Markdown),
        ("hostile.json", Format::Json),
        ("hostile.tex", Format::Latex { standalone: true }),
        ("llama-bench.json", Format::LlamaBenchJson),
        ("llama-bench.jsonl", Format::LlamaBenchJsonl),
        ("llama-bench.sql", Format::LlamaBenchSql),
        ("llama-bench.md", Format::LlamaBenchMd),
    ];
    for (name, format) in names {
        let found = printed(format, &all).text;
        golden(name, &found);
        assert!(!found.contains("NaN"), "{name}");
    }
}

#[test]
fn csv_has_one_header_for_all_runs() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let runs = [run(one.path(), true), run(two.path(), false)];
    let text = print(&runs, Format::Csv, &Selection::default()).unwrap().text;
    assert_eq!(text.matches("run,suite,cell,").count(), 1);
    let only = print(&runs[..1], Format::Csv, &Selection::default()).unwrap().text;
    assert!(text.starts_with(&only) && text.len() > only.len());
}

/// Every name and reason stands in LaTeX without a live special character.
#[test]
fn latex_is_harmless() {
    let text = printed(Format::Latex { standalone: false }, &Selection::default()).text;
    assert!(!text.contains("\\input") && !text.contains("documentclass"), "{text}");
    for line in text.lines().filter(|line| line.contains("a\\_b")) {
        assert!(
            line.contains("a\\_b\\%\\#\\&\\textasciitilde{}\\textasciicircum{}\\textbackslash{}\\{x\\}\\$y"),
            "{line}"
        );
    }
    let mut depth = 0;
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '{' if before != '\\' => depth += 1,
            '}' if before != '\\' => depth -= 1,
            _ => {}
        }
        assert!(depth >= 0);
        before = c;
    }
    assert_eq!(depth, 0);
}

#[test]
fn the_best_thread_count_is_picked_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = run(dir.path(), true);
    let selection = Selection {
        workloads: vec!["tg16@d512".parse().unwrap()],
        threads: vec![Threads::Best, Threads::Count(2), Threads::Count(7)],
        models: vec!["125m".to_owned(), "350m".to_owned()],
        engines: Vec::new(),
    };
    let [best, two] = &blocks(&data, &selection)[..] else { panic!("two blocks") };
    assert_eq!((best.threads, two.threads), (Threads::Best, Threads::Count(2)));
    assert_eq!(best.models, ["125m", "350m"]);
    let row = |label: &str| best.rows.iter().find(|r| r.label() == label).unwrap();
    assert_eq!(row("ternary").entries[0].as_ref().unwrap().threads, [2]);
    // The f16 cells of 350m fail with two threads: the best is of one.
    assert_eq!(row("f16").entries[1].as_ref().unwrap().threads, [1]);
    assert_eq!(row("ternary / f16").entries[1].as_ref().unwrap().threads, [2, 1]);
    let ratio = row("ternary / f16").entries[0].as_ref().unwrap().figure.unwrap();
    assert!(ratio.interval.is_some_and(|(lo, hi)| lo <= ratio.value && ratio.value <= hi));
    assert!(best.rows.iter().any(|r| r.label() == "theirs (outside)"));
    let failed = two.rows.iter().find(|r| r.label() == "f16").unwrap().entries[1].clone().unwrap();
    assert!(failed.figure.is_none() && failed.note.unwrap().contains("DROP"));
    let chosen = Selection { engines: vec!["f16".to_owned(), "theirs".to_owned()], ..selection };
    let labels: Vec<String> = blocks(&data, &chosen)[0].rows.iter().map(|row| row.label()).collect();
    assert_eq!(labels[..3], ["f16", "theirs (outside)", "f16 / theirs (outside)"], "{labels:?}");
    assert!(labels.iter().all(|label| !label.contains("ternary")), "{labels:?}");
}

/// What llama-bench's users' scripts rely on: depth, tokens, means over windows; unchecked and failed cells left out and noted.
#[test]
fn llama_bench_maps_cells() {
    let printed = printed(Format::LlamaBenchJsonl, &Selection::default());
    let rows: Vec<serde_json::Value> = printed.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decode =
        rows.iter().find(|r| r["model_type"] == "125m ternary" && r["n_gen"] == 16 && r["n_threads"] == 2).unwrap();
    assert_eq!((decode["n_prompt"].as_u64(), decode["n_depth"].as_u64()), (Some(0), Some(512)));
    assert_eq!(decode["build_commit"], "012345678");
    let samples: Vec<f64> = decode["samples_ts"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let mean = samples.iter().sum::<f64>() / samples.len() as f64;
    assert!((decode["avg_ts"].as_f64().unwrap() - mean).abs() < 1e-3);
    assert_eq!(decode["samples_ns"].as_array().unwrap().len(), samples.len());
    let prefill = rows.iter().find(|r| r["n_prompt"] == 64).unwrap();
    assert_eq!((prefill["n_gen"].as_u64(), prefill["n_depth"].as_u64()), (Some(0), Some(0)));
    assert!(rows.iter().all(|r| r["model_type"] != "125m theirs" && r["n_gpu_layers"] == 0));
    let left_out = |what: &str| printed.notes.iter().any(|n| n.contains(what));
    assert!(left_out("left out (outside)") && left_out("left out (failed)") && left_out("left out (na)"));
}

/// A model that no catalogue knows, and weights whose bytes no record tells: null and NULL, never a 0 that a script would take for one.
#[test]
fn llama_bench_writes_null_for_what_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = run(dir.path(), false);
    for record in data.records.iter_mut().filter(|record| record.cell.model == ODD) {
        if let Outcome::Ok(measurement) = &mut record.outcome {
            measurement.footprint.weights_bytes = 0;
        }
    }
    let of = |format| print(std::slice::from_ref(&data), format, &Selection::default()).unwrap().text;
    let array: Vec<serde_json::Value> = serde_json::from_str(&of(Format::LlamaBenchJson)).unwrap();
    let lines = of(Format::LlamaBenchJsonl);
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for rows in [&array, &lines] {
        let (odd, known): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["model_filename"] == ODD);
        assert!(odd.len() >= 4 && known.len() >= 4, "{} and {} rows", odd.len(), known.len());
        assert!(odd.iter().all(|row| row["model_n_params"].is_null() && row["model_size"].is_null()), "{odd:?}");
        let told = |row: &&serde_json::Value, field: &str| row[field].as_u64().is_some_and(|count| count > 0);
        assert!(known.iter().all(|row| told(row, "model_n_params") && told(row, "model_size")), "{known:?}");
    }
    // In SQL a quoted 'null' would be text.
    let sql = of(Format::LlamaBenchSql);
    let inserts: Vec<&str> = sql.lines().filter(|line| line.starts_with("INSERT") && line.contains("a_b%#")).collect();
    assert_eq!(inserts.len(), array.iter().filter(|row| row["model_filename"] == ODD).count());
    assert!(inserts.iter().all(|line| line.matches(", NULL, NULL, ").count() == 1), "{inserts:?}");
    assert!(!sql.contains("'null'"), "{sql}");
    assert_eq!(sql.matches("NULL, ").count(), 2 * inserts.len());
    let markdown = of(Format::LlamaBenchMd);
    assert_eq!(markdown.matches("|    unknown |    unknown |").count(), inserts.len(), "{markdown}");
}
