//! A whole run folder in, a whole report out.

mod fixture;

use fixture::Shape;
use reports::Error;
use std::collections::BTreeMap;
use std::path::Path;
use suites::record::{Bounded, Outcome, SCHEMA, Share, Sparsity};
use suites::run::{Limit, Plan};

const SMALL: Shape<'_> = Shape {
    models: &["125m", "350m", "30b"],
    threads: &[1, 2],
    workloads: &["pp64", "tg16"],
    blocks: 3,
    joules: false,
};
const FULL: Shape<'_> = Shape {
    models: &["125m", "350m", "700m", "1b", "1.5b", "2.5b", "2b4t", "3.8b", "7b", "13b", "30b", "smollm2-135m"],
    threads: &[1, 2, 4],
    workloads: &["pp512", "tg128", "tg128@d0", "tg128@d1024", "tg128@d4096"],
    blocks: 3,
    joules: true,
};

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("plots")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.insert(path.strip_prefix(dir).unwrap().display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

fn text(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

/// `UPDATE_GOLDEN=1` rewrites the snapshot after a change that was meant.
#[test]
fn summary_of_a_small_run_is_golden() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SMALL);
    reports::render(dir.path()).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/summary.csv");
    let found = text(dir.path(), "summary.csv");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(golden).unwrap());
    let header = "run,suite,cell,engine,model,threads,workload,metric,value,unit,lo,hi,n,kind,status,reason\n";
    assert!(found.starts_with(header));
    for bad in ["NaN", "inf"] {
        assert!(!found.contains(bad), "{bad}");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&one, &two] {
        fixture::write(dir.path(), &FULL);
        reports::render(dir.path()).unwrap();
    }
    let first = files(one.path());
    assert_eq!(first, files(two.path()));
    reports::render(one.path()).unwrap();
    assert_eq!(first, files(one.path()));
    assert_eq!(first.keys().filter(|k| k.ends_with(".png")).count(), 17);
    assert_eq!(first.keys().filter(|k| k.ends_with(".svg")).count(), 17);
    // To look at the pictures: KEEP_PLOTS=folder.
    if let Some(keep) = std::env::var_os("KEEP_PLOTS") {
        for (name, bytes) in &first {
            let path = Path::new(&keep).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn the_page_says_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SMALL);
    let rendered = reports::render(dir.path()).unwrap();
    assert!(rendered.written.iter().all(|p| p.is_file()));
    let page = text(dir.path(), "report.md");
    for wanted in [
        "busy machine: load 3.1",
        "tree was dirty",
        "harness suite fixture --out 'a b'",
        "logits differ \\| by 0.2",
        "30b needs 60 GiB",
        "J/token unavailable in 18 cells: no powercap zone",
        "plots/decode-speed.svg",
        "speed-up",
    ] {
        assert!(page.contains(wanted), "no `{wanted}` in:\n{page}");
    }
    assert!(!page.contains("energy.svg") && !dir.path().join("plots/decode-energy.svg").exists());
    let table = reports::table(&reports::load(dir.path()).unwrap());
    assert!(table.contains("FAILED (") && table.contains("N/A (") && table.contains("logits differ"), "{table}");
}

#[test]
fn empty_runs_and_runs_of_failures_render() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { schema: SCHEMA, seed: 1, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &[]);
    assert_eq!(reports::render(dir.path()).unwrap().written.len(), 2);
    assert_eq!(reports::table(&reports::load(dir.path()).unwrap()), "no cells\n");
    std::fs::remove_file(dir.path().join("records.jsonl")).unwrap();
    reports::render(dir.path()).unwrap();
    let only = |models: &'static [&'static str]| Shape {
        models,
        threads: &[2],
        workloads: &["tg16"],
        blocks: 1,
        joules: true,
    };
    let mut records = fixture::write(dir.path(), &only(&["350m"]));
    records.retain(|r| r.cell.engine == "f16");
    let data = |records: &[suites::Record]| {
        fixture::write_files(dir.path(), &fixture::run(), &plan, records);
        let rendered = reports::render(dir.path()).unwrap();
        (rendered.written.len(), text(dir.path(), "summary.csv"))
    };
    let (written, csv) = data(&records);
    assert_eq!((written, csv.lines().count()), (2, 2), "one failed row, no plot:\n{csv}");
    let records = fixture::write(dir.path(), &only(&["125m"]));
    let (written, csv) = data(&records);
    assert!(written > 2 && csv.contains(",1,measured,ok,"), "{csv}");
}

#[test]
fn huge_and_zero_values_do_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    for extreme in [u64::MAX, 0, 1] {
        let mut records = fixture::write(dir.path(), &SMALL);
        for record in &mut records {
            if let suites::record::Outcome::Ok(m) = &mut record.outcome {
                m.load_ns = extreme;
                m.footprint.weights_bytes = extreme;
                m.footprint.read_per_token_bytes = extreme;
                m.memory.peak_rss_bytes = Some(extreme);
                m.memory.predicted_bytes = extreme;
                for sample in &mut m.samples {
                    sample.duration_ns = extreme;
                    sample.token_ns.fill(extreme);
                }
            }
        }
        let plan = Plan { schema: SCHEMA, seed: 1, cells: Vec::new(), steps: Vec::new() };
        fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
        reports::render(dir.path()).unwrap();
        let csv = text(dir.path(), "summary.csv");
        assert!(!csv.contains("NaN") && !csv.contains("inf"), "{csv}");
    }
}

#[test]
fn speedup_is_the_median_of_block_ratios() {
    let dir = tempfile::tempdir().unwrap();
    let mut records =
        fixture::write(dir.path(), &Shape { models: &["125m"], threads: &[1], workloads: &["tg16"], ..SMALL });
    // Ratios by block: 2, 8, 4. The ratio of the medians would be 4000 / 1000 = 4 as well; so shift block 1.
    let durations = [(100, 200), (50, 400), (25, 100)];
    for record in &mut records {
        let (fast, slow) = durations[record.block as usize];
        let ternary = record.cell.engine == "ternary";
        if let suites::record::Outcome::Ok(m) = &mut record.outcome {
            m.samples.iter_mut().for_each(|s| s.duration_ns = if ternary { fast } else { slow });
        }
    }
    let plan = Plan { schema: SCHEMA, seed: 1, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    reports::render(dir.path()).unwrap();
    let csv = text(dir.path(), "summary.csv");
    assert!(csv.contains("tg16,speedup,4,x,2,8,3,derived,ok,"), "{csv}");
}

#[test]
fn torn_and_foreign_files() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SMALL);
    let path = dir.path().join("records.jsonl");
    let whole = text(dir.path(), "records.jsonl");
    let lines = whole.lines().count();
    std::fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    let data = reports::load(dir.path()).unwrap();
    assert_eq!(data.records.len(), lines - 1);
    assert!(data.notes[0].contains("torn"), "{:?}", data.notes);

    // A whole last line without its line end counts.
    std::fs::write(&path, whole.trim_end()).unwrap();
    assert_eq!(reports::load(dir.path()).unwrap().records.len(), lines);

    // The same block again: the later record counts.
    let first = whole.lines().next().unwrap();
    std::fs::write(&path, format!("{whole}{first}\n")).unwrap();
    assert_eq!(reports::load(dir.path()).unwrap().records.len(), lines);

    let garbage = format!("{first}\n{{\"schema\":1,\n{first}\n");
    std::fs::write(&path, garbage).unwrap();
    let error = reports::load(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Parse { line: 2, .. }) && error.to_string().contains("records.jsonl:2:"), "{error}");

    let next = u64::from(suites::record::SCHEMA) + 1;
    std::fs::write(&path, format!("{{\"schema\":{next},\"new\":true}}\n")).unwrap();
    let error = reports::load(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Schema { line: 1, found, .. } if found == next), "{error}");

    std::fs::remove_file(dir.path().join("run.json")).unwrap();
    assert!(reports::load(dir.path()).unwrap_err().to_string().contains("run.json"));
}

/// Not a benchmark: a guard against work that grows with the square of the cells.
#[test]
fn ten_thousand_cells_take_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..2500).map(|i| format!("m{i}")).collect();
    let models: Vec<&str> = names.iter().map(String::as_str).collect();
    let shape = Shape { models: &models, threads: &[1, 2], workloads: &["tg16"], blocks: 3, joules: false };
    assert_eq!(fixture::write(dir.path(), &shape).len(), 30_000);
    let begun = std::time::Instant::now();
    reports::render(dir.path()).unwrap();
    let took = begun.elapsed();
    println!("{took:?}");
    assert!(took.as_secs() < 30, "{took:?}");
}

/// Sparse cells are engines of their own: their counts stand apart, their speed is held against the dense engine's, and the
/// page says twice that random weights are no model.
#[test]
fn sparse_and_dense_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = fixture::write(dir.path(), &SMALL);
    reports::render(dir.path()).unwrap();
    let dense = text(dir.path(), "report.md");
    assert!(!dense.contains("Exact sparsity") && !text(dir.path(), "summary.csv").contains("zero_gate_share"));
    for record in &mut records {
        let sparse = record.cell.engine == "f16";
        record.cell.engine = if sparse { "ternary-sparse" } else { "ternary" }.to_owned();
        if let (Outcome::Ok(m), true) = (&mut record.outcome, sparse) {
            m.sparsity = Some(Sparsity {
                tokens: 16,
                layers: 480,
                up_layers: 480,
                down_layers: 120,
                up_crossover_percent: 90,
                down_crossover_percent: 80,
                gates: 4800,
                zero_gates: 3840,
                zero_activations: 3984,
                read_bytes: 200,
                dense_bytes: 1000,
            });
        }
    }
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    reports::render(dir.path()).unwrap();
    let page = text(dir.path(), "report.md");
    assert_eq!(page.matches("says nothing of a trained model").count(), 2, "{page}");
    let row = page.lines().find(|line| line.contains("80.0 %") && line.contains("ternary-sparse")).unwrap();
    for share in ["83.0 %", "100 %", "25.0 %", "20.0 %", "×"] {
        assert!(row.contains(share), "{share}: {row}");
    }
    let summary = text(dir.path(), "summary.csv");
    let of = |name: &str| summary.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
    assert!(
        !of("zero_gate_share").is_empty() && of("zero_gate_share").iter().all(|row| row.contains(",ternary-sparse,"))
    );
    assert!(of("speedup").iter().any(|row| row.contains(",ternary-sparse,")), "{summary}");
}

/// A deep cell stands beside the shallow one of its block; a cache too small to tell, or of no measured limit, doesn't.
#[test]
fn a_deep_cache_costs_what_it_does_over_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape { workloads: &["tg16", "tg16@d64", "tg16@d1024"], ..SMALL };
    let mut records = fixture::write(dir.path(), &shape);
    reports::render(dir.path()).unwrap();
    assert!(!text(dir.path(), "report.md").contains("## Depth"), "decode of the fixture has no limits");
    for record in &mut records {
        let depth = record.cell.workload.depth();
        // 1 MB in 100 at a depth of 64; 40 MB at one of 1024, and 4 ms, on a machine that reads 20 GB/s.
        let (bytes, ns) = match depth {
            16 => (100_000_000, 10_000_000),
            64 => (101_000_000, 11_000_000),
            _ => (140_000_000, 14_000_000 + 400_000 * u64::from(record.block)),
        };
        if let Outcome::Ok(m) = &mut record.outcome {
            m.samples.iter_mut().for_each(|sample| sample.duration_ns = ns * u64::from(sample.tokens));
            m.limit = Some(Share {
                of: Limit {
                    threads: record.cell.threads,
                    name: "dram".to_owned(),
                    unit: "bytes/s".to_owned(),
                    per_second: Some(if depth == 16 { 19_000_000_000 } else { 21_000_000_000 }),
                    how: "reading".to_owned(),
                },
                per_token: bytes,
                share_ppm: 0,
            });
        }
    }
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    reports::render(dir.path()).unwrap();
    let page = text(dir.path(), "report.md");
    let section = page.split("## Depth").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.contains("tg16@d")).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.contains("| tg16@d1024 | tg16 |")), "{section}");
    let row = rows.iter().find(|row| row.starts_with("| 125m | ternary | 1 |")).unwrap();
    for part in ["| 4.40 [4.00, 4.80] |", "| 2.00 [2.00, 2.00] |", "| 2.20 [2.00, 2.40]× |", "| 0.972 [0.946, 1.00]× |"]
    {
        assert!(row.contains(part), "{part}: {row}");
    }
    reports::html::render_run(&reports::load(dir.path()).unwrap(), dir.path(), None, None).unwrap();
    let page = text(dir.path(), "report.html");
    let table = page.split("<table id=\"depth\"").nth(1).unwrap().split("</table>").next().unwrap();
    for part in [">tg16@d1024<", "2.20× <small>[2.00, 2.40]</small>", "0.972× <small>[0.946, 1.00]</small>"] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

/// Bounded heads have their own section and metrics, and the page says twice that random logits are no model's.
#[test]
fn bounded_and_whole_heads_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = fixture::write(dir.path(), &SMALL);
    reports::render(dir.path()).unwrap();
    assert!(!text(dir.path(), "report.md").contains("Bounded head"));
    assert!(!text(dir.path(), "summary.csv").contains("head_read_share"));
    for record in &mut records {
        let bounded = record.cell.engine == "f16";
        record.cell.engine = if bounded { "ternary-bounded" } else { "ternary" }.to_owned();
        if let (Outcome::Ok(m), true) = (&mut record.outcome, bounded) {
            m.bounded = Some(Bounded {
                tokens: 16,
                read_bytes: 16 * 280,
                refined_rows: 16 * 5,
                rescored_rows: 32 * 16,
                full_steps: 4,
                rows: 100,
                kept_columns: 0,
                full_bytes: 1000,
                first_bytes: 260,
                copy_bytes: 520,
            });
        }
    }
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    reports::render(dir.path()).unwrap();
    let page = text(dir.path(), "report.md");
    assert_eq!(page.matches("no trained model's share").count(), 2, "{page}");
    let row = page.lines().find(|line| line.contains("28.0 %") && line.contains("ternary-bounded")).unwrap();
    for part in ["5.0 %", "| 32", "25.0 %", "280", "×"] {
        assert!(row.contains(part), "{part}: {row}");
    }
    let summary = text(dir.path(), "summary.csv");
    let of = |name: &str| summary.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
    assert!(!of("head_open_share").is_empty() && of("head_open_share").iter().all(|r| r.contains(",ternary-bounded,")));
}

/// An outside engine is in every table and plot, marked, with ratios, and never counts as checked.
#[test]
fn outside_engines_are_shown_and_marked() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = fixture::write(dir.path(), &SMALL);
    reports::render(dir.path()).unwrap();
    let without = text(dir.path(), "report.md");
    assert!(!without.contains("outside engines\n") && !text(dir.path(), "summary.csv").contains("ratio_to"));
    let theirs: Vec<_> = records.iter().filter(|r| r.cell.engine == "ternary").filter_map(fixture::outside).collect();
    records.extend(theirs);
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    reports::render(dir.path()).unwrap();
    let summary = text(dir.path(), "summary.csv");
    let rows = |parts: &[&str]| -> Vec<&str> {
        summary.lines().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
    };
    let ratios = rows(&[",ternary,125m,", ",ratio_to_theirs,"]);
    assert_eq!(ratios.len(), 4, "{summary}");
    assert!(ratios.iter().all(|row| row.contains(",2,x,2,2,3,derived,ok,")), "{ratios:?}");
    let speeds = rows(&[",theirs,", ",tokens_per_second,"]);
    assert!(!speeds.is_empty() && speeds.iter().all(|row| row.contains(",measured,outside,answer not checked")));
    assert!(rows(&[",theirs,", ",ok,"]).is_empty(), "never as if its answer were checked");
    let read = rows(&[",theirs,", ",read_per_token_bytes,"]);
    // The program counts more than the file has: each tensor is read once.
    assert!(
        !read.is_empty() && read.iter().all(|row| row.contains(",536870912,") && row.contains(",modelled,outside,"))
    );
    assert!(rows(&[",theirs,", ",token_latency_p50,"]).iter().all(|row| row.contains(",,ms,,,0,measured,na,")));
    // Where ours failed there is nothing to compare.
    assert!(rows(&[",f16,350m,2,", ",ratio_to_theirs,"]).is_empty());
    let page = text(dir.path(), "report.md");
    for part in ["## Beside outside engines", "| 2.00 [2.00, 2.00]× |", "abc1234 (build 42)", "| 512 MiB |"] {
        assert!(page.contains(part), "no `{part}` in:\n{page}");
    }
    assert!(page.contains("theirs (outside) tokens/s") && page.contains("no answer was checked"));
    assert!(text(dir.path(), "plots/decode-speed.svg").contains("theirs (outside)"));
    let table = reports::table(&reports::load(dir.path()).unwrap());
    assert!(table.contains("theirs (outside) t1") && table.contains("answer not checked"), "{table}");
}
