//! What a run writes beside its records: `run.json` (provenance) and `plan.json`.

use crate::cell::Cell;
use crate::eval::TaskAsk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Provenance of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// [`crate::record::SCHEMA`].
    pub schema: u32,
    /// Name of the run (its folder).
    pub name: String,
    /// Name of the suite.
    pub suite: String,
    /// BLAKE3 of the suite's text.
    pub suite_digest: String,
    /// The command line.
    pub command: Vec<String>,
    /// Seed of the cell order.
    pub seed: u64,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; `None` while running or when interrupted.
    pub finished: Option<String>,
    /// The program.
    pub build: Build,
    /// The machine.
    pub machine: Machine,
    /// Models of the plan, each with its digest.
    pub models: Vec<Digest>,
    /// Outside engines of the plan that are here; none in runs of schema 6 and before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<OutsideFiles>,
    /// What a reader must know before believing a figure: debug build, busy machine, emulation.
    pub warnings: Vec<String>,
}

/// A named thing's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Name.
    pub name: String,
    /// `blake3:..` of a definition or an outside engine's file, `sha256:..` of a model's file.
    pub digest: String,
}

/// The files behind an outside engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutsideFiles {
    /// Name in suites.
    pub name: String,
    /// Name and digest of the program's file.
    pub program: Digest,
    /// The user's arguments.
    pub args: Vec<String>,
    /// Instruction set that the program was built for, by the user's word.
    pub isa: Option<String>,
    /// Model files of the plan.
    pub models: Vec<OutsideModelFile>,
}

/// The file that an outside engine has for a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutsideModelFile {
    /// The model's name in suites.
    pub model: String,
    /// Name and digest of the file.
    pub file: Digest,
}

/// How the program was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Version of the workspace.
    pub version: String,
    /// Git revision, if built in a checkout.
    pub git_revision: Option<String>,
    /// Whether tracked files differed from it.
    pub git_dirty: Option<bool>,
    /// Cargo profile, such as `dev` or `release`.
    pub profile: String,
    /// Optimisation level.
    pub opt_level: String,
    /// Whether debug assertions were on.
    pub debug_assertions: bool,
    /// Compiler version.
    pub rustc: String,
    /// Target triple.
    pub target: String,
}

/// The machine a run was made on. `None` where it can't be read there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// CPU brand string.
    pub cpu: String,
    /// CPUs this process may use.
    pub cpus: u32,
    /// Physical cores.
    pub cores: Option<u32>,
    /// Sockets, NUMA nodes and threads a core of the whole machine; `None` in runs of schema 1.
    #[serde(default)]
    pub topology: Option<Topology>,
    /// Instruction-set paths the engine can use here.
    pub isa: Vec<String>,
    /// Cache sizes as the CPU reports them, `L1d`, `L2`, `L3`, in bytes (of one instance).
    pub caches: Vec<(String, u64)>,
    /// Installed memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory available at the start in bytes, cgroup limits considered.
    pub available_bytes: Option<u64>,
    /// DRAM read bandwidth measured at the start; a thread count that could not be measured is left out.
    pub bandwidth: Vec<Bandwidth>,
    /// Every limit measured at the start, DRAM included; empty in runs of schema 3 and before.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Operating system and kernel.
    pub kernel: String,
    /// Hypervisor, if one is seen.
    pub virtualisation: Option<String>,
    /// cpufreq governor of CPU 0.
    pub governor: Option<String>,
    /// Whether frequency boost is on.
    pub turbo: Option<bool>,
    /// Load average over one minute at the start, in thousandths.
    pub load_milli: Option<u64>,
    /// Hottest sensor at the start, in thousandths of a degree Celsius.
    pub temperature_mc: Option<i64>,
    /// Energy sources found, or why there is none.
    pub energy: String,
}

/// How the machine's CPUs are grouped. `None` where the system does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// CPU packages.
    pub sockets: Option<u32>,
    /// NUMA nodes.
    pub numa_nodes: Option<u32>,
    /// Hardware threads of one core.
    pub threads_per_core: Option<u32>,
}

/// Read bandwidth at a thread count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Threads reading, each pinned.
    pub threads: u32,
    /// Bytes per second: of several access patterns the best, of its passes the median.
    pub bytes_per_second: u64,
}

/// What the machine can do at most, at a thread count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Threads, each pinned.
    pub threads: u32,
    /// `dram`, `l3` and `l2`: reading; `int8`, `bf16` and `f32`: multiplying and adding.
    pub name: String,
    /// `bytes/s` or `operations/s`, a multiply-add being two.
    pub unit: String,
    /// Over all threads: of several ways the best, of its passes the median. `None` where it can't be measured.
    pub per_second: Option<u64>,
    /// The way, or why there is none.
    pub how: String,
}

/// What a run set out to do, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`crate::record::SCHEMA`].
    pub schema: u32,
    /// Seed of the order.
    pub seed: u64,
    /// Every cell, in order of definition.
    pub cells: Vec<PlannedCell>,
    /// The order: each step runs one cell once.
    pub steps: Vec<Step>,
}

/// A cell with its predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedCell {
    /// What is measured.
    pub cell: Cell,
    /// Whether the engine is an outside one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// Processes (replicates).
    pub blocks: u32,
    /// Predicted peak memory of its worker.
    pub predicted_bytes: u64,
    /// Predicted wall time of one process.
    pub predicted_ns: u64,
    /// Why it will not be attempted.
    pub na: Option<String>,
    /// What is asked of its model, in the first block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskAsk>,
}

/// One execution of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Block.
    pub block: u32,
    /// Index into [`Plan::cells`].
    pub cell: u32,
}
