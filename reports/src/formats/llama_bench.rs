//! What llama.cpp's `llama-bench` prints, of our measurements, so that scripts made for it read them.
//!
//! Names, order and types of the fields are those of `tools/llama-bench/llama-bench.cpp` at revision 0104b151c56d, and one
//! more, `use_mmap`, which revisions before `load_mode` had and `scripts/compare-llama-bench.py` asks for. A row is a cell; its
//! samples are the timed windows of all its processes, and means and deviations are over those, as llama-bench forms
//! them. The figures of `summary.csv` are medians over processes.

use super::Format;
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Status};
use crate::load::RunData;
use crate::text::plain;
use std::fmt::Write;
use suites::Catalogue;
use suites::cell::{Cell, Phase};
use suites::model::{MAX_BATCH, ModelSpec};
use suites::record::{Measurement, Record};

/// A field's type, as llama-bench has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Bool,
    Int,
    Real,
}

use Type::{Bool, Int, Real, Text};

const FIELDS: [(&str, Type); 41] = [
    ("build_commit", Text),
    ("build_number", Int),
    ("cpu_info", Text),
    ("gpu_info", Text),
    ("backends", Text),
    ("model_filename", Text),
    ("model_type", Text),
    ("model_size", Int),
    ("model_n_params", Int),
    ("n_batch", Int),
    ("n_ubatch", Int),
    ("n_threads", Int),
    ("cpu_mask", Text),
    ("cpu_strict", Bool),
    ("poll", Int),
    ("type_k", Text),
    ("type_v", Text),
    ("n_gpu_layers", Int),
    ("n_cpu_moe", Int),
    ("split_mode", Text),
    ("main_gpu", Int),
    ("no_kv_offload", Bool),
    ("flash_attn", Int),
    ("devices", Text),
    ("tensor_split", Text),
    ("tensor_buft_overrides", Text),
    ("load_mode", Text),
    ("use_mmap", Bool),
    ("embeddings", Bool),
    ("no_op_offload", Int),
    ("no_host", Bool),
    ("fit_target", Int),
    ("fit_min_ctx", Int),
    ("n_prompt", Int),
    ("n_gen", Int),
    ("n_depth", Int),
    ("test_time", Text),
    ("avg_ns", Int),
    ("stddev_ns", Int),
    ("avg_ts", Real),
    ("stddev_ts", Real),
];

/// A number that nothing tells: `null` in JSON, NULL in SQL.
const UNKNOWN: &str = "null";

/// One test of llama-bench's: a cell.
pub(super) struct Test {
    /// In the order of [`FIELDS`].
    values: Vec<String>,
    /// Length of each window in nanoseconds.
    samples_ns: Vec<u64>,
    /// Tokens per second of each window.
    samples_ts: Vec<f64>,
}

impl Test {
    fn value(&self, field: &str) -> &str {
        let place = FIELDS.iter().position(|(name, _)| *name == field);
        place.and_then(|place| self.values.get(place)).map_or("", String::as_str)
    }

    fn number(&self, field: &str) -> f64 {
        self.value(field).parse().unwrap_or(0.0)
    }
}

/// The rows of all runs. Cells without a checked answer are left out and noted: failed and N/A ones, and those of outside
/// programs, whose own output has them.
pub(super) fn rows(runs: &[RunData], notes: &mut Vec<String>) -> Vec<Test> {
    let catalogue = Catalogue::embedded().ok();
    let mut tests = Vec::new();
    for data in runs {
        if data.run.build.git_dirty == Some(true) {
            notes.push(format!("{}: built from a tree that differs from its build_commit", data.run.name));
        }
        let analysis = Analysis::new(data);
        for cell in &analysis.cells {
            let left_out = match cell.status {
                Status::Ok => match test(data, &analysis, catalogue.as_ref(), cell) {
                    Some(test) => {
                        tests.push(test);
                        cell.reason.as_ref().map(|reason| format!("of what is left: {reason}"))
                    }
                    None => Some("left out: no window with tokens and a duration".to_owned()),
                },
                status => {
                    let reason = cell.reason.as_deref().unwrap_or("no reason recorded");
                    Some(format!("left out ({}): {reason}", status.name()))
                }
            };
            notes.extend(left_out.map(|why| plain(&format!("{}: {}: {why}", data.run.name, cell.cell.id()))));
        }
    }
    tests
}

fn test(data: &RunData, analysis: &Analysis, catalogue: Option<&Catalogue>, summary: &CellSummary) -> Option<Test> {
    let cell = &summary.cell;
    let mut records: Vec<(&Record, &Measurement)> =
        data.records.iter().filter(|r| r.cell == *cell).filter_map(|r| Some((r, r.measurement()?))).collect();
    records.sort_by_key(|(record, _)| record.block);
    let (first, measured) = *records.first()?;
    let windows = records.iter().flat_map(|(_, m)| &m.samples).filter(|s| s.duration_ns > 0 && s.tokens > 0);
    let (samples_ns, samples_ts): (Vec<u64>, Vec<f64>) =
        windows.map(|s| (s.duration_ns, f64::from(s.tokens) * 1e9 / s.duration_ns as f64)).unzip();
    let lengths: Vec<f64> = samples_ns.iter().map(|&ns| ns as f64).collect();
    let ((avg_ns, stddev_ns), (avg_ts, stddev_ts)) = (mean_and_deviation(&lengths)?, mean_and_deviation(&samples_ts)?);
    let (prompt, generated) = match cell.workload.phase {
        Phase::Prefill => (cell.workload.tokens, 0),
        Phase::Decode => (0, cell.workload.tokens),
    };
    let text = |field: &str| -> String {
        match field {
            // As git abbreviates it; llama-bench has no number to match ours, so 0.
            "build_commit" => data.run.build.git_revision.as_deref().unwrap_or("unknown").chars().take(9).collect(),
            "cpu_info" => plain(&data.run.machine.cpu),
            "backends" => "CPU".to_owned(),
            "model_filename" => file_name(catalogue, &cell.model),
            // The engine is part of what the model is in memory.
            "model_type" => plain(&format!("{} {}{}", cell.model, cell.engine, isa(cell))),
            "model_size" => known(Some(measured.footprint.weights_bytes as f64)),
            "model_n_params" => known(analysis.model(&cell.model).and_then(|model| model.params)),
            "n_batch" | "n_ubatch" => MAX_BATCH.to_string(),
            "n_threads" => cell.threads.to_string(),
            "cpu_mask" => "0x0".to_owned(),
            "cpu_strict" => u8::from(measured.ran.pinned).to_string(),
            // Between jobs of a window, threads spin.
            "poll" => "100".to_owned(),
            "type_k" | "type_v" => cell.kv.name().to_owned(),
            "split_mode" | "devices" | "tensor_buft_overrides" => "none".to_owned(),
            "tensor_split" => "0.00".to_owned(),
            // Weights are packed into memory of the process's own.
            "load_mode" => "none".to_owned(),
            "n_prompt" => prompt.to_string(),
            "n_gen" => generated.to_string(),
            "n_depth" => cell.workload.depth().to_string(),
            "test_time" => seconds(&first.started),
            "avg_ns" => (avg_ns as u64).to_string(),
            "stddev_ns" => (stddev_ns as u64).to_string(),
            "avg_ts" => format!("{avg_ts:.6}"),
            "stddev_ts" => format!("{stddev_ts:.6}"),
            // No GPU, nothing offloaded, mapped or embedded.
            "gpu_info" => String::new(),
            _ => "0".to_owned(),
        }
    };
    Some(Test { values: FIELDS.iter().map(|(name, _)| text(name)).collect(), samples_ns, samples_ts })
}

/// Name of the file behind a model; of one made in memory, its own name.
fn file_name(catalogue: Option<&Catalogue>, model: &str) -> String {
    match catalogue.and_then(|c| c.model(model).ok()) {
        Some(ModelSpec::File(file)) => plain(&file.file),
        _ => plain(model),
    }
}

fn isa(cell: &Cell) -> String {
    // The KV cache has fields of its own.
    variant(&Cell { kv: suites::cell::KvCache::F16, ..cell.clone() })
}

/// A count; one that nothing tells, as of weights that take no bytes, is [`UNKNOWN`].
fn known(count: Option<f64>) -> String {
    count.filter(|count| *count > 0.0).map_or(UNKNOWN.to_owned(), |count| format!("{count:.0}"))
}

/// `2026-01-01T00:00:00Z` of an RFC 3339 time with parts of seconds.
fn seconds(time: &str) -> String {
    let time = plain(time);
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time,
    }
}

/// Mean and, over n - 1, standard deviation (0 of one value, as llama-bench has it).
fn mean_and_deviation(values: &[f64]) -> Option<(f64, f64)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
    (mean.is_finite() && deviation.is_finite()).then_some((mean, deviation))
}

/// Prints `tests` as llama-bench does with `-o json`, `jsonl`, `sql` or `md`.
pub(super) fn print(tests: &[Test], format: Format) -> String {
    match format {
        Format::LlamaBenchJson => {
            let tests: Vec<String> = tests.iter().map(json).collect();
            format!("[\n{}\n]\n", tests.join(",\n"))
        }
        Format::LlamaBenchJsonl => tests.iter().map(|t| format!("{{{}}}\n", pairs(t).join(", "))).collect(),
        Format::LlamaBenchSql => sql(tests),
        _ => markdown(tests),
    }
}

fn json(test: &Test) -> String {
    let lines: Vec<String> = pairs(test).iter().map(|pair| format!("    {pair}")).collect();
    format!("  {{\n{}\n  }}", lines.join(",\n"))
}

/// `"name": value` of every field, and of the samples.
fn pairs(test: &Test) -> Vec<String> {
    let field = |((name, kind), value): (&(&str, Type), &String)| match kind {
        // A string always has a JSON form.
        Text => format!("\"{name}\": {}", serde_json::Value::from(value.as_str())),
        Bool => format!("\"{name}\": {}", value != "0"),
        Int | Real => format!("\"{name}\": {value}"),
    };
    let mut all: Vec<String> = FIELDS.iter().zip(&test.values).map(field).collect();
    let lengths: Vec<String> = test.samples_ns.iter().map(u64::to_string).collect();
    let speeds: Vec<String> = test.samples_ts.iter().map(|ts| format!("{ts:.4}")).collect();
    all.push(format!("\"samples_ns\": [ {} ]", lengths.join(", ")));
    all.push(format!("\"samples_ts\": [ {} ]", speeds.join(", ")));
    all
}

fn sql(tests: &[Test]) -> String {
    let kind = |kind: Type| match kind {
        Text => "TEXT",
        Bool | Int => "INTEGER",
        Real => "REAL",
    };
    let columns: Vec<String> = FIELDS.iter().map(|(name, of)| format!("  {name} {}", kind(*of))).collect();
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let mut out = format!("CREATE TABLE IF NOT EXISTS llama_bench (\n{}\n);\n\n", columns.join(",\n"));
    for test in tests {
        let quoted = |(value, (_, kind)): (&String, &(&str, Type))| match kind {
            Int if value == UNKNOWN => "NULL".to_owned(),
            _ => format!("'{}'", value.replace('\'', "''")),
        };
        let values: Vec<String> = test.values.iter().zip(&FIELDS).map(quoted).collect();
        // Writing to a String can't fail.
        let _ = writeln!(out, "INSERT INTO llama_bench ({}) VALUES ({});", names.join(", "), values.join(", "));
    }
    out
}

fn markdown(tests: &[Test]) -> String {
    let mut out = format!(
        "| {:<30} | {:>10} | {:>10} | {:<10} | {:>7} | {:>15} | {:>20} |\n",
        "model", "size", "params", "backend", "threads", "test", "t/s"
    );
    let dashes = |width: usize, end: &str| format!(" {}{end} |", "-".repeat(width - 1));
    let widths = [(30, "-"), (10, ":"), (10, ":"), (10, "-"), (7, ":"), (15, ":"), (20, ":")];
    let _ = writeln!(out, "|{}", widths.map(|(width, end)| dashes(width, end)).concat());
    let mut builds: Vec<&str> = Vec::new();
    for test in tests {
        let speed = format!("{:.2} ± {:.2}", test.number("avg_ts"), test.number("stddev_ts"));
        let _ = writeln!(
            out,
            "| {:<30} | {:>10} | {:>10} | {:<10} | {:>7} | {:>15} | {speed:>20} |",
            test.value("model_type").replace('|', "\\|"),
            shown(test, "model_size", size),
            shown(test, "model_n_params", count),
            test.value("backends"),
            test.value("n_threads"),
            name(test),
        );
        if !builds.contains(&test.value("build_commit")) {
            builds.push(test.value("build_commit"));
        }
    }
    for build in builds {
        let _ = write!(out, "\nbuild: {build} (0)\n");
    }
    out
}

/// A field's number by `form`, or that it is unknown.
fn shown(test: &Test, field: &str, form: fn(f64) -> String) -> String {
    if test.value(field) == UNKNOWN { "unknown".to_owned() } else { form(test.number(field)) }
}

/// `pp512`, `tg128 @ d16`.
fn name(test: &Test) -> String {
    let (prompt, generated, depth) = (test.value("n_prompt"), test.value("n_gen"), test.value("n_depth"));
    let tokens = if generated == "0" { format!("pp{prompt}") } else { format!("tg{generated}") };
    if depth == "0" { tokens } else { format!("{tokens} @ d{depth}") }
}

fn size(bytes: f64) -> String {
    let mebibytes = bytes / 1024.0 / 1024.0;
    if mebibytes < 1024.0 { format!("{mebibytes:.2} MiB") } else { format!("{:.2} GiB", mebibytes / 1024.0) }
}

fn count(parameters: f64) -> String {
    if parameters < 1e9 { format!("{:.2} M", parameters / 1e6) } else { format!("{:.2} B", parameters / 1e9) }
}
