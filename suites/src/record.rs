//! The row every result is kept in: `results/<run>/records.jsonl`, one JSON object a line.
//!
//! Raw samples, integers, base units: `_ns` nanoseconds, `_bytes` bytes, `_uj` microjoules, `_ppb` parts per 10⁹.
//! Unknown is `None` (and a reason where one is due), never 0.

pub mod energy;
pub mod stage;

use crate::cell::Cell;
use crate::eval::TaskOutcome;
use crate::outside::Kind;
use crate::run::Limit;
pub use energy::{DomainEnergy, Energy, EnergyKind, Joules, SourceEnergy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use stage::{Stage, StageFacts, StageRecord};
use std::collections::BTreeMap;

/// Version of [`Record`], [`crate::run::Run`] and [`crate::run::Plan`] as written.
pub const SCHEMA: u32 = 11;
/// Oldest version that readers take: what later ones added is optional in it. Any other is refused.
pub const OLDEST_SCHEMA: u32 = 1;
/// Difference of two readers of the same energy counters, as a share, beyond which they are said to disagree.
pub const READERS_DISAGREE: f64 = 0.02;

/// One execution of one cell, in one worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the run (its folder).
    pub run: String,
    /// Name of the suite.
    pub suite: String,
    /// What was measured.
    pub cell: Cell,
    /// Block: every cell runs once a block, in an order reshuffled by the seed.
    pub block: u32,
    /// Position in the whole run's order.
    pub order: u32,
    /// When the worker was started, RFC 3339, UTC.
    pub started: String,
    /// Build profile of the program that measured.
    pub profile: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a cell. A failure is a row, not a gap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "status")]
pub enum Outcome {
    /// Measured, and the answer was right.
    Ok(Box<Measurement>),
    /// Measured by an outside program, which gives no answer to check; none in records of schema 6 and before.
    Outside(Box<Outside>),
    /// Not measured, or measured with a wrong answer.
    Failed(Failure),
    /// Not attempted.
    Na(NotApplicable),
}

/// Why a cell has no figures although it was attempted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// `spawn`, `load`, `check`, `measure`, `protocol`, `timeout`, `killed` or `reference`.
    pub stage: String,
    /// One line.
    pub message: String,
    /// The worker's last lines on stderr.
    pub stderr_tail: String,
    /// The failed check, where the answer was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// Why a cell was not attempted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotApplicable {
    /// One line, as a table's footnote prints it.
    pub reason: String,
}

/// Everything one worker measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// What actually ran.
    pub ran: Ran,
    /// From the request to a model ready to run.
    pub load_ns: u64,
    /// The timed windows, in order; warm-up left out.
    pub samples: Vec<Sample>,
    /// Sizes counted by the engine.
    pub footprint: Footprint,
    /// The worker's memory.
    pub memory: Memory,
    /// Joules over the windows, or why there are none.
    pub energy: Energy,
    /// Its stages, from rest to rest; empty in records of schema 7 and before, and in those of schema 8 where there is no source of
    /// energy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<StageRecord>,
    /// Counters over the windows, of all threads together.
    pub counters: Vec<Counter>,
    /// The same counters, as far as they are there, of each thread of the engine's pool; empty in records of schema 8 and before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thread_counters: Vec<ThreadCounters>,
    /// How the answer was checked.
    pub check: Check,
    /// What a sparse engine left unread in the windows; `None` of any other, where no single token was evaluated, and in
    /// records of schema 4 and before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<Sparsity>,
    /// What a bounded head read in the windows; `None` where tokens were not chosen by one, and in records of schema 5 and
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounded: Option<Bounded>,
    /// What the model makes of the suite's tasks, answered after the windows of the first block alone: answers do not change
    /// from process to process. Empty without tasks, in other blocks, and in records of schema 9 and before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accuracy: Vec<TaskOutcome>,
    /// What else the machine did meanwhile.
    pub interference: Interference,
    /// The machine's limit, and how near the windows came; `None` if it could not be measured, and in records of schema 3
    /// and before.
    #[serde(default)]
    pub limit: Option<Share>,
}

/// What an outside program says that it measured, and what was seen of its process. Unlike a [`Measurement`] it comes with no
/// checked answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// The program.
    pub program: Program,
    /// The model as the program reads it.
    pub model: OutsideModel,
    /// The timed windows, in order, by the program's own clock; its warm-up left out.
    pub samples: Vec<Sample>,
    /// Why the answer was not checked.
    pub unchecked: String,
    /// The process's memory, looked at while it ran.
    pub memory: Memory,
    /// From its start to its end, loading and warm-up included.
    pub process_ns: u64,
    /// Joules over all of that, as the program does not tell when its windows begin; or why there are none.
    pub process_energy: Energy,
    /// What else the machine did from the process's start to its end.
    pub interference: Interference,
    /// Decode: read bandwidth, and how near the windows came to it if all of the file's weights were read for a token.
    /// Prefill: `None`, as what such a program multiplies is not known.
    pub limit: Option<Share>,
}

/// An outside program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// How it is spoken to.
    pub kind: Kind,
    /// Name of its file; `run.json` has the digest.
    pub file: String,
    /// What it was given; files by name alone.
    pub arguments: Vec<String>,
    /// Revision it was built from, by its own account.
    pub commit: Option<String>,
    /// Number of that build, by its own account.
    pub build: Option<u64>,
    /// Instruction set it was built for, by the user's word.
    pub isa: Option<String>,
    /// What else it says of itself and of its settings.
    pub told: BTreeMap<String, String>,
}

/// A model file as an outside program reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutsideModel {
    /// Name of the file; `run.json` has the digest.
    pub file: String,
    /// Such as `bitnet 2B IQ2_BN`.
    pub description: String,
    /// Bytes of all tensors in memory, as the program counts them; an output head that is the embedding may count twice.
    pub bytes: u64,
    /// Weights in them.
    pub weights: u64,
    /// Size of the file.
    pub file_bytes: Option<u64>,
}

/// How near a speed came to what the machine allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The limit, measured with as many threads just before the worker was started.
    pub of: Limit,
    /// Decode: bytes of weights and of the key/value cache that a token reads, at the window's middle depth. Prefill:
    /// multiplications and additions of a token in the linear layers of the blocks.
    pub per_token: u64,
    /// The median window's tokens per second times `per_token` over the limit, in millionths.
    pub share_ppm: u64,
}

/// What actually ran, as opposed to what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// Instruction-set path: `scalar`, `avx2`, `avxvnni`, `avx512` or `amx`.
    pub isa: String,
    /// Packing of the linear layers.
    pub linear: String,
    /// Element type of the output head.
    pub head: String,
    /// Element type of the KV cache.
    pub kv: String,
    /// Build profile of the worker.
    pub profile: String,
    /// Whether each thread was pinned to a CPU.
    pub pinned: bool,
}

/// One timed window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Tokens processed.
    pub tokens: u32,
    /// Length of the window.
    pub duration_ns: u64,
    /// Prefill: from the prompt's submission to the first token chosen. Decode: `None`.
    pub ttft_ns: Option<u64>,
    /// Decode: latency of each token. Prefill: empty.
    pub token_ns: Vec<u64>,
}

/// Sizes counted by the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Footprint {
    /// All weights as packed in memory: linear layers, embedding, head, norms.
    pub weights_bytes: u64,
    /// Linear layers alone.
    pub linear_bytes: u64,
    /// Weight bytes read to decode one token; of a sparse engine or a bounded head, the mean of the windows' tokens.
    pub read_per_token_bytes: u64,
    /// Weights of the linear layers of all blocks, each a multiply-add a token; `None` in records of schema 3 and before.
    #[serde(default)]
    pub linear_weights: Option<u64>,
    /// The KV cache as allocated.
    pub kv_bytes: u64,
}

/// What a sparse engine left unread of the feed-forwards, over the single tokens of the windows. Of random weights, these
/// shares are the weights' alone: they say nothing of a trained model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sparsity {
    /// Single tokens evaluated.
    pub tokens: u64,
    /// Layers passed by them: tokens times the model's layers.
    pub layers: u64,
    /// Of those, the ones that read single rows of `up` (in the others, zeros were too few).
    pub up_layers: u64,
    /// Of those, the ones that read single columns of `down`.
    pub down_layers: u64,
    /// Single rows are read where at most this share of gates is above 0.
    pub up_crossover_percent: u32,
    /// Single columns are read where at most this share of activations is not 0.
    pub down_crossover_percent: u32,
    /// Gates.
    pub gates: u64,
    /// Gates of 0 or less.
    pub zero_gates: u64,
    /// Activations of `down` that are 0 as int8: those behind such gates, and those that round to 0.
    pub zero_activations: u64,
    /// Weight bytes of `up` and `down` read.
    pub read_bytes: u64,
    /// Weight bytes of `up` and `down` that the dense engine reads for as many layers.
    pub dense_bytes: u64,
}

/// What a bounded head read over the windows' tokens. How few rows its bound leaves depends on the weights' and the
/// activations' values: random ones say nothing of a trained model's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounded {
    /// Tokens chosen.
    pub tokens: u64,
    /// Bytes read for them: of the copy and of the f16 head.
    pub read_bytes: u64,
    /// Rows that the copy's first 4 bits left open, of all tokens.
    pub refined_rows: u64,
    /// Rows computed from the f16 head where candidates alone were, of all tokens (panels of 16 at a time).
    pub rescored_rows: u64,
    /// Tokens for which all of the f16 head was read.
    pub full_steps: u64,
    /// Rows of the head.
    pub rows: u64,
    /// Columns kept as f16 in the copy.
    pub kept_columns: u64,
    /// Bytes of the f16 head: what a token reads without the copy.
    pub full_bytes: u64,
    /// Bytes of the copy's first 4 bits, which every token reads.
    pub first_bytes: u64,
    /// Bytes of the whole copy, which is held beside the f16 head.
    pub copy_bytes: u64,
}

/// The worker's memory, from its own `/proc/self/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// `VmHWM`.
    pub peak_rss_bytes: Option<u64>,
    /// `RssAnon` at the end of the windows.
    pub rss_anon_bytes: Option<u64>,
    /// `RssFile` at the end of the windows.
    pub rss_file_bytes: Option<u64>,
    /// Of it, pages of the program itself and its libraries; `None` of outside programs and in records of schema 10 and before. How
    /// many of them a process maps around a fault rests on what of the file the page cache has, not on what the program does.
    #[serde(default)]
    pub rss_program_bytes: Option<u64>,
    /// What the plan predicted for the peak.
    pub predicted_bytes: u64,
}

/// One counter over the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// `instructions`, `context-switches`.
    pub name: String,
    /// The count, unscaled; `None` where it could not be read.
    pub value: Option<u64>,
    /// Time the counter was enabled; `None` of what the kernel always counts, read from `/proc` where perf is forbidden.
    pub enabled_ns: Option<u64>,
    /// Time it was counting; less than enabled when multiplexed.
    pub running_ns: Option<u64>,
    /// Why there is no value.
    pub unavailable: Option<String>,
}

/// One thread's counters over the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThreadCounters {
    /// Its number in the pool, from 0: the thread that calls, too, is one of it.
    pub thread: u32,
    /// Its counters that have a value.
    pub counters: Vec<Counter>,
}

/// How the answer was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// BLAKE3 of the probe's logits, bit for bit.
    pub digest: String,
    /// Most likely token after the probe.
    pub argmax: u32,
    /// Every comparison made; all must pass.
    pub comparisons: Vec<Comparison>,
}

impl Check {
    /// Whether there was something to compare with, and every comparison passed.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(|c| c.pass)
    }
}

/// One comparison of this cell's answer with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// With what: `scalar reference`, `pair f16`, `one-by-one decode`.
    pub against: String,
    /// Distance: root mean square of the difference over that of the reference. `None` if not finite.
    pub relative_rms_ppb: Option<u64>,
    /// The stated bound; 0 means equal bit for bit.
    pub bound_ppb: u64,
    /// Whether it held.
    pub pass: bool,
}

/// What else the machine did during the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interference {
    /// CPU time stolen by the hypervisor, of all CPUs.
    pub steal_ns: Option<u64>,
    /// Involuntary context switches of the worker.
    pub involuntary_switches: Option<u64>,
    /// Load average over one minute at the start, in thousandths.
    pub load_milli: Option<u64>,
    /// DRAM read bandwidth in bytes per second with as many threads, measured just before the worker was started.
    /// `None` for prefill, which it does not limit, and in records of schema 1.
    #[serde(default)]
    pub bandwidth_before: Option<u64>,
}

impl Measurement {
    /// The speed in tokens per second: the median over the windows, so that one disturbed window does not carry it.
    /// `None` without a window that has tokens and a duration.
    pub fn tokens_per_second(&self) -> Option<f64> {
        tokens_per_second(&self.samples)
    }
}

impl OutsideModel {
    /// Bytes that a token reads if it reads all tensors of the file, each once: no more than the program counts, nor than the
    /// file has.
    pub fn read_per_token_bytes(&self) -> u64 {
        self.file_bytes.map_or(self.bytes, |file| file.min(self.bytes))
    }
}

impl Outside {
    /// As [`Measurement::tokens_per_second`].
    pub fn tokens_per_second(&self) -> Option<f64> {
        tokens_per_second(&self.samples)
    }
}

fn tokens_per_second(samples: &[Sample]) -> Option<f64> {
    let windows = samples.iter().filter(|s| s.duration_ns > 0 && s.tokens > 0);
    let mut speeds: Vec<f64> = windows.map(|s| f64::from(s.tokens) * 1e9 / s.duration_ns as f64).collect();
    speeds.sort_unstable_by(f64::total_cmp);
    let middle = speeds.len() / 2;
    match speeds.len() {
        0 => None,
        even if even % 2 == 0 => Some((speeds[middle - 1] + speeds[middle]) / 2.0),
        _ => Some(speeds[middle]),
    }
}

impl Record {
    /// The measurement, if the cell succeeded.
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.outcome {
            Outcome::Ok(measurement) => Some(measurement),
            _ => None,
        }
    }

    /// What an outside program measured, if it did.
    pub fn outside(&self) -> Option<&Outside> {
        match &self.outcome {
            Outcome::Outside(outside) => Some(outside),
            _ => None,
        }
    }
}
