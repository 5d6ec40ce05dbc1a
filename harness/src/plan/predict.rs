//! How long a worker will take, roughly, before anything was measured. The rates are those of a slow machine, so that a
//! budget is rather kept than broken; what is seen during a run scales them.

use std::time::Duration;
use suites::cell::{Cell, Phase};
use suites::eval::TaskAsk;
use suites::model::{ModelSpec, WeightFormat};
use suites::{Catalogue, Suite};

/// Weights of a synthetic model made a second.
const MAKE_WEIGHTS: f64 = 3e8;
/// Bytes of f16 weights read and packed from a file a second.
const LOAD_BYTES: f64 = 5e8;
/// Weight bytes one thread gets through a second in decode.
const DECODE_BYTES: f64 = 6e9;
/// Threads after which memory bandwidth ends the gain.
const DECODE_THREADS: u32 = 4;
/// Multiply-adds a second of one thread in prefill.
const TERNARY_MACS: f64 = 5e10;
/// As [`TERNARY_MACS`], in f16.
const F16_MACS: f64 = 2e10;
/// Multiply-adds a second of one thread on the scalar path, and in the reference engine.
const SCALAR_MACS: f64 = 5e8;
/// Tokens of the answer's probe.
const PROBE: f64 = 5.0;
/// Tokens of the check that a batch equals one-by-one decoding.
const BATCH: f64 = 29.0;
/// Start and end of a process.
const PROCESS: f64 = 0.1;

fn weights(model: &ModelSpec) -> f64 {
    match model {
        ModelSpec::Synthetic(s) => {
            (s.linear_params() + u64::from(s.vocab) * u64::from(s.hidden) * if s.tied { 1 } else { 2 }) as f64
        }
        ModelSpec::File(file) => file.f16_bytes as f64 / 2.0,
    }
}

fn load_seconds(model: &ModelSpec) -> f64 {
    match model {
        ModelSpec::Synthetic(_) => weights(model) / MAKE_WEIGHTS,
        ModelSpec::File(file) => file.f16_bytes as f64 / LOAD_BYTES,
    }
}

/// Wall time of one worker running `cell`: making the model, the check, the warm-up, the windows.
pub fn cell_ns(model: &ModelSpec, format: WeightFormat, cell: &Cell, min_window: Duration) -> u64 {
    let streamed = model.weight_bytes(format) as f64 / (DECODE_BYTES * f64::from(cell.threads.min(DECODE_THREADS)));
    let macs = match format {
        format if format.is_ternary() => TERNARY_MACS,
        WeightFormat::Reference => SCALAR_MACS,
        _ => F16_MACS,
    };
    let prefill = weights(model) / (macs * f64::from(cell.threads));
    // The reference computes longer than it reads.
    let decode = if format == WeightFormat::Reference { prefill.max(streamed) } else { streamed };
    let (tokens, depth) = (f64::from(cell.workload.tokens), f64::from(cell.workload.depth()));
    let (window, check) = match cell.workload.phase {
        Phase::Prefill => (tokens * prefill, PROBE * decode + BATCH * (decode + prefill)),
        Phase::Decode => (tokens * decode, PROBE * decode),
    };
    let warm_up = depth * prefill + 0.1 * window;
    let windows = window.max(min_window.as_secs_f64() + 0.5 * window);
    nanos(PROCESS + load_seconds(model) + check + warm_up + windows)
}

/// Items of a task that names no limit, and tokens of an item, about.
const ITEMS: u32 = 600;
const ITEM_TOKENS: f64 = 100.0;

/// Wall time of answering `tasks` on a cell's model and engine; 0 of an outside one, which answers none.
pub fn tasks_ns(suite: &Suite, catalogue: &Catalogue, cell: &Cell, tasks: &[TaskAsk]) -> u64 {
    let Ok((model, engine)) = super::resolve(suite, catalogue, cell) else { return 0 };
    let macs = if engine.format.is_ternary() { TERNARY_MACS } else { F16_MACS };
    let items: f64 = tasks.iter().map(|ask| f64::from(ask.limit.unwrap_or(ITEMS))).sum();
    nanos(items * ITEM_TOKENS * weights(model) / (macs * f64::from(cell.threads)))
}

/// Wall time of an outside program's process running `cell` on a model file of `bytes`: loading, a warm-up as long as a window
/// where it is of prefill, the windows; and as much for a process that finds out how many of them there must be.
pub fn outside_ns(model: &ModelSpec, bytes: u64, cell: &Cell, min_window: Duration) -> u64 {
    let threads = f64::from(cell.threads);
    let decode = bytes as f64 / (DECODE_BYTES * f64::from(cell.threads.min(DECODE_THREADS)));
    // What it multiplies is not known; files of few bits a weight are mostly multiplied as integers.
    let macs = if (bytes as f64) < weights(model) { TERNARY_MACS } else { F16_MACS };
    let prefill = weights(model) / (macs * threads);
    let (tokens, depth) = (f64::from(cell.workload.tokens), f64::from(cell.workload.depth.unwrap_or(0)));
    let (window, warm_up) = match cell.workload.phase {
        Phase::Prefill => (tokens * prefill, tokens * prefill),
        Phase::Decode => (tokens * decode, decode),
    };
    let start = PROCESS + bytes as f64 / LOAD_BYTES + warm_up + depth * prefill;
    let windows = window.max(min_window.as_secs_f64() + 0.5 * window);
    nanos(2.0 * start + window + windows)
}

/// Wall time of a worker that computes the scalar reference's answer on `threads` threads.
pub fn reference_ns(model: &ModelSpec, threads: u32) -> u64 {
    nanos(PROCESS + load_seconds(model) + PROBE * weights(model) / (SCALAR_MACS * f64::from(threads)))
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
