//! The stages of a worker's life, each with its joules, its memory and what the machine did meanwhile.

use super::energy::SourceEnergy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stretch of a worker's life that is told of on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Before anything is loaded: the machine at rest.
    IdleBefore,
    /// From the request to a model ready to run.
    Load,
    /// Prompts in batches: the timed windows of a prefill cell, the filling of the cache of a deep decode cell.
    Prefill,
    /// Token by token: the timed windows of a decode cell.
    Decode,
    /// After the windows: the machine at rest again.
    IdleAfter,
    /// The suite's tasks, answered.
    Tasks,
}

/// What was seen of one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// Which.
    pub stage: Stage,
    /// Its length.
    pub window_ns: u64,
    /// Tokens processed in it.
    pub tokens: u64,
    /// `VmHWM` of the stage alone: the peak of the resident set since it began.
    pub peak_rss_bytes: Option<u64>,
    /// Joules by source, the most trusted first; empty where there is no source.
    pub sources: Vec<SourceEnergy>,
    /// What else `/proc` and `/sys` told; `None` in records of schema 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<StageFacts>,
}

/// What `/proc` and `/sys` told of a stage. What could not be read is `None`; `doctor` says why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageFacts {
    /// `RssAnon` at its end.
    pub rss_anon_bytes: Option<u64>,
    /// `RssFile` at its end.
    pub rss_file_bytes: Option<u64>,
    /// Page faults that the process waited for a disk with, in it.
    pub major_faults: Option<u64>,
    /// CPU time stolen by the hypervisor in it, of all CPUs.
    pub steal_ns: Option<u64>,
    /// Load average over one minute at its end, in thousandths.
    pub load_milli: Option<u64>,
    /// Mean of the current frequencies of the CPUs that the process may use, at its end, in kilohertz.
    pub frequency_khz: Option<u64>,
    /// The hottest sensor at its end, in thousandths of a degree Celsius.
    pub temperature_mc: Option<i64>,
    /// Times that a core or a package was throttled in it, of all CPUs.
    pub throttled: Option<u64>,
}
