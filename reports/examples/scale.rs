//! Reports at scale: writes a made-up run of 10,000 cells and 1,000,000 timed windows into a temporary folder (or the one given,
//! which then keeps it), renders it in a process of its own, and prints what that took.
//!
//! ```text
//! cargo run -p reports --example scale
//! cargo run -p reports --example scale -- FOLDER
//! ```
//!
//! Exit code 1 if it took longer than 5 s or more than 500 MB.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;
use suites::Catalogue;
use suites::cell::{Cell, KvCache, Phase, Workload};
use suites::record::*;
use suites::run::*;

const CELLS: usize = 10_000;
const BLOCKS: u32 = 5;
/// Windows of a process: 10,000 cells of 5 processes have a million.
const WINDOWS: u32 = 20;
/// Tokens of a decode window, each with its latency.
const TOKENS: u32 = 4;
const SECONDS: f64 = 5.0;
const BYTES: u64 = 500_000_000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    match (args.next(), args.next()) {
        (Some(word), Some(folder)) if word == "render" => render(Path::new(&folder)),
        (Some(folder), None) => measure(Path::new(&folder)),
        (None, _) => measure(tempfile::tempdir()?.path()),
        _ => Err("expected a folder, or nothing".into()),
    }
}

fn measure(folder: &Path) -> Result<ExitCode> {
    let begun = Instant::now();
    let (cells, windows, latencies, bytes) = write(folder)?;
    println!(
        "written: {cells} cells, {windows} windows, {latencies} latencies, {} MB, {:.2} s",
        bytes / 1_000_000,
        begun.elapsed().as_secs_f64()
    );
    // A process of its own: its peak of memory is that of rendering alone.
    let status = Command::new(std::env::current_exe()?).arg("render").arg(folder).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(folder: &Path) -> Result<ExitCode> {
    let begun = Instant::now();
    let data = reports::load(folder)?;
    let loaded = begun.elapsed().as_secs_f64();
    let analysis = reports::analysis::Analysis::new(&data);
    let analysed = begun.elapsed().as_secs_f64();
    println!("load {loaded:.2} s, analysis of {} cells {:.2} s", analysis.cells.len(), analysed - loaded);
    drop((analysis, data));
    let begun = Instant::now();
    let rendered = reports::render(folder)?;
    let took = begun.elapsed().as_secs_f64();
    let peak = peak_bytes()?;
    println!("load, analyse and render {} files: {took:.2} s, peak {} MB", rendered.written.len(), peak / 1_000_000);
    Ok(if took < SECONDS && peak < BYTES { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Cells of the catalogue's shapes and engines, until there are enough: cells, windows, latencies and bytes written.
fn write(folder: &Path) -> Result<(usize, u64, u64, u64)> {
    let catalogue = Catalogue::embedded()?;
    let workloads: Vec<Workload> =
        ["tg16", "tg16@d1024", "tg16@d2048", "tg16@d4096", "tg16@d8192", "pp128", "pp512", "pp1024"]
            .into_iter()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
    let threads = 1u32..;
    let models: Vec<(&str, u64)> = catalogue
        .models
        .iter()
        .filter_map(|m| match m {
            suites::ModelSpec::Synthetic(s) => Some((m.name(), s.linear_params())),
            suites::ModelSpec::File(_) => None,
        })
        .collect();
    let all = threads.flat_map(|t| workloads.iter().map(move |w| (t, *w)));
    let all = all.flat_map(|(t, w)| models.iter().map(move |m| (t, w, *m)));
    let all = all.flat_map(|(t, w, m)| catalogue.engines.iter().map(move |e| (t, w, m, e.name.clone())));
    std::fs::create_dir_all(folder)?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("records.jsonl"))?);
    let (mut cells, mut windows, mut latencies, mut order) = (Vec::new(), 0, 0, 0);
    for (threads, workload, (model, params), engine) in all.take(CELLS) {
        let cell = Cell { engine, model: model.to_owned(), threads, workload, kv: KvCache::F16, isa: None };
        for block in 0..BLOCKS {
            let measurement = measurement(&cell, params, block);
            windows += measurement.samples.len() as u64;
            latencies += measurement.samples.iter().map(|s| s.token_ns.len() as u64).sum::<u64>();
            serde_json::to_writer(&mut file, &record(&cell, block, order, measurement))?;
            file.write_all(b"\n")?;
            order += 1;
        }
        let planned = PlannedCell {
            cell,
            outside: false,
            blocks: BLOCKS,
            predicted_bytes: 1,
            predicted_ns: 1,
            na: None,
            tasks: Vec::new(),
        };
        cells.push(planned);
    }
    file.flush()?;
    let count = cells.len();
    let plan = Plan { schema: SCHEMA, seed: 7, cells, steps: Vec::new() };
    std::fs::write(folder.join("plan.json"), serde_json::to_vec(&plan)?)?;
    std::fs::write(folder.join("run.json"), serde_json::to_vec(&run())?)?;
    Ok((count, windows, latencies, std::fs::metadata(folder.join("records.jsonl"))?.len()))
}

fn record(cell: &Cell, block: u32, order: u32, measurement: Measurement) -> Record {
    Record {
        schema: SCHEMA,
        run: "scale".to_owned(),
        suite: "scale".to_owned(),
        cell: cell.clone(),
        block,
        order,
        started: "2026-01-01T00:00:00Z".to_owned(),
        profile: "dev".to_owned(),
        outcome: Outcome::Ok(Box::new(measurement)),
    }
}

/// A process as fast as its bytes at 20 GB/s allow, a little apart from block to block and window to window.
fn measurement(cell: &Cell, params: u64, block: u32) -> Measurement {
    let ternary = cell.engine.starts_with("ternary");
    let weights = if ternary { params / 4 } else { params * 2 } + 100_000_000;
    let token_ns = weights / 20 / u64::from(cell.threads) + 1;
    let against = "scalar reference".to_owned();
    Measurement {
        ran: Ran {
            isa: "avx512".to_owned(),
            linear: if ternary { "ternary-2bit" } else { "f16" }.to_owned(),
            head: "f16".to_owned(),
            kv: "f16".to_owned(),
            profile: "dev".to_owned(),
            pinned: true,
        },
        load_ns: 1_000_000_000,
        samples: samples(cell, token_ns, block),
        footprint: Footprint {
            weights_bytes: weights,
            linear_bytes: weights - 100_000_000,
            linear_weights: Some(params),
            read_per_token_bytes: weights,
            kv_bytes: 1 << 20,
        },
        memory: Memory {
            peak_rss_bytes: Some(weights + (60 << 20)),
            rss_anon_bytes: Some(weights),
            rss_file_bytes: Some(9 << 20),
            rss_program_bytes: Some(6 << 20),
            predicted_bytes: weights + (64 << 20),
        },
        energy: joules(token_ns),
        phases: Vec::new(),
        counters: Vec::new(),
        thread_counters: Vec::new(),
        check: Check {
            digest: "00".to_owned(),
            argmax: 1,
            comparisons: vec![Comparison { against, relative_rms_ppb: Some(0), bound_ppb: 0, pass: true }],
        },
        sparsity: None,
        bounded: None,
        accuracy: Vec::new(),
        interference: Interference {
            steal_ns: Some(0),
            involuntary_switches: Some(4),
            load_milli: Some(900),
            bandwidth_before: Some(20_000_000_000),
        },
        limit: None,
    }
}

fn samples(cell: &Cell, token_ns: u64, block: u32) -> Vec<Sample> {
    let decode = cell.workload.phase == Phase::Decode;
    let wobble = |i: u64| token_ns + token_ns * ((i * 7919 + u64::from(block) * 104_729) % 97) / 1000;
    let window = |w: u32| {
        let ns = wobble(u64::from(w));
        Sample {
            tokens: if decode { TOKENS } else { cell.workload.tokens },
            duration_ns: ns * u64::from(TOKENS),
            ttft_ns: (!decode).then_some(ns * u64::from(TOKENS)),
            token_ns: (0..if decode { TOKENS } else { 0 }).map(|i| wobble(u64::from(w * TOKENS + i))).collect(),
        }
    };
    (0..WINDOWS).map(window).collect()
}

fn joules(token_ns: u64) -> Energy {
    Energy::Measured(Joules {
        source: "powercap".to_owned(),
        total_uj: token_ns * u64::from(TOKENS * WINDOWS) / 30,
        domains: vec![DomainEnergy { domain: "package-0".to_owned(), energy_uj: 1 }],
        window_ns: token_ns * u64::from(TOKENS * WINDOWS),
        tokens: u64::from(TOKENS * WINDOWS),
        net_uj: None,
        peak_mw: Some(25_000),
        doubts: Vec::new(),
    })
}

fn run() -> Run {
    let limit = |name: &str, unit: &str, per_second| Limit {
        threads: 1,
        name: name.to_owned(),
        unit: unit.to_owned(),
        per_second: Some(per_second),
        how: String::new(),
    };
    Run {
        schema: SCHEMA,
        name: "scale".to_owned(),
        suite: "scale".to_owned(),
        suite_digest: "blake3:00".to_owned(),
        command: vec!["scale".to_owned()],
        seed: 7,
        started: "2026-01-01T00:00:00Z".to_owned(),
        finished: Some("2026-01-01T00:10:00Z".to_owned()),
        build: Build {
            version: "0.1.0".to_owned(),
            git_revision: None,
            git_dirty: None,
            profile: "dev".to_owned(),
            opt_level: "3".to_owned(),
            debug_assertions: false,
            rustc: String::new(),
            target: String::new(),
        },
        machine: Machine {
            cpu: "made up".to_owned(),
            cpus: 32,
            cores: Some(32),
            topology: None,
            isa: vec!["avx512".to_owned()],
            caches: Vec::new(),
            memory_bytes: None,
            available_bytes: None,
            bandwidth: vec![Bandwidth { threads: 1, bytes_per_second: 20_000_000_000 }],
            limits: vec![limit("dram", "bytes/s", 20_000_000_000), limit("int8", "operations/s", 400_000_000_000)],
            kernel: String::new(),
            virtualisation: None,
            governor: None,
            turbo: None,
            load_milli: None,
            temperature_mc: None,
            energy: "powercap".to_owned(),
        },
        models: Vec::new(),
        outside: Vec::new(),
        warnings: Vec::new(),
    }
}
