//! What the driver and a worker say to each other: one [`Request`] on stdin (JSON, then end of file; to `worker --turns` one line, then a line
//! a turn), one
//! [`Event`] a line on stdout. Prose goes to stderr.

use crate::probe::energy::Options;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use suites::Cell;
use suites::eval::TaskAsk;
use suites::model::{HeadMode, ModelSpec, WeightFormat};
use suites::record::{Check, Measurement};

/// All that a worker needs to know; it reads no catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to run.
    pub cell: Cell,
    /// The cell's model, whole.
    pub model: ModelSpec,
    /// Where a file model lies.
    pub model_path: Option<PathBuf>,
    /// How the cell's engine keeps its linear layers.
    pub format: WeightFormat,
    /// How it chooses tokens in decode.
    pub head: HeadMode,
    /// Seed of probe and prompt tokens.
    pub seed: u64,
    /// The window is repeated until this much time is measured.
    pub min_window_ns: u64,
    /// The machine is measured at rest for so long before and after, where energy can be measured.
    pub idle_ns: u64,
    /// What the plan predicted for the worker's peak memory, to be recorded beside what was seen.
    pub predicted_bytes: u64,
    /// Measure, or answer only.
    pub mode: Mode,
    /// What the probe's logits must agree with before anything is timed.
    pub references: Vec<Reference>,
    /// Where energy is read.
    pub energy: Options,
    /// What is asked of the model after the windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskRequest>,
}

/// A task to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// Which, and how much of it.
    pub ask: TaskAsk,
    /// Where fetched data lie, if not in the usual folders.
    pub data: Option<PathBuf>,
    /// Digest of the model's file.
    pub model_digest: Option<String>,
    /// The file its items are logged in.
    pub log: PathBuf,
    /// The same, as the record has it: in the run's folder.
    pub name: String,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Load, check, measure: ends with [`Event::Done`].
    Measure,
    /// Load and run the probe: ends with [`Event::Answer`].
    Answer,
    /// Load, check, and time windows with and without a meter of energy: ends with [`Event::Overhead`].
    Overhead {
        /// How many times four windows, and as many of the control.
        quads: u32,
    },
}

/// An answer to agree with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Whose it is: `scalar reference`, `pair f16`.
    pub against: String,
    /// The answer.
    pub answer: Answer,
    /// Greatest relative root-mean-square distance in parts per 10⁹; 0 means equal bit for bit.
    pub bound_ppb: u64,
}

/// The logits after the probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// BLAKE3 of all logits' bits.
    pub digest: String,
    /// Most likely token, the lowest of equals.
    pub argmax: u32,
    /// Number of logits.
    pub vocab: u32,
    /// Up to 256 logits, chosen by a fixed seed: index and `f32` bits.
    pub sample: Vec<(u32, u32)>,
}

/// Four windows of a decode, two with a meter of energy and two without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quad {
    /// Whether there was a meter: in a control, there is none in any window.
    pub sampled: bool,
    /// Lengths of the two with one, in nanoseconds.
    pub with_ns: [u64; 2],
    /// Lengths of the two without.
    pub without_ns: [u64; 2],
}

/// What a worker reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "event")]
pub enum Event {
    /// The worker runs.
    Started {
        /// Its process id.
        pid: u32,
        /// Its build profile.
        profile: String,
    },
    /// The model is ready.
    Loaded {
        /// From the request to a model ready to run.
        load_ns: u64,
    },
    /// The answer was right.
    Checked {
        /// How it was checked.
        check: Check,
    },
    /// A worker that takes turns waits for its next, or for the end of stdin if there is none.
    Ready,
    /// The last event of [`Mode::Answer`].
    Answer(Answer),
    /// The last event of [`Mode::Overhead`].
    Overhead {
        /// In order.
        quads: Vec<Quad>,
    },
    /// The last event of [`Mode::Measure`].
    Done(Box<Measurement>),
    /// The last event of either, when something went wrong.
    Failed {
        /// `load`, `check`, `measure` or `protocol`.
        stage: String,
        /// One line.
        message: String,
        /// The failed check, where the answer was wrong.
        check: Option<Check>,
    },
}
