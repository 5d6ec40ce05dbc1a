//! The joules of a record: by stage, by source, by domain, each measured or modelled and always called so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Joules over the timed windows. A modelled joule is never called measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Energy {
    /// Read from a counter or meter.
    Measured(Joules),
    /// Computed from a model.
    Modelled(Joules),
    /// No source, or an invalid reading.
    Unavailable {
        /// What was looked for, and what to do about it.
        reason: String,
    },
}

/// Energy of the windows, by source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Joules {
    /// `powercap`, for example.
    pub source: String,
    /// Sum over packages (parents never added to their children).
    pub total_uj: u64,
    /// Every domain read, parents and children alike.
    pub domains: Vec<DomainEnergy>,
    /// Length of the window the joules belong to.
    pub window_ns: u64,
    /// Tokens processed in that window.
    pub tokens: u64,
    /// `total_uj` less what the machine takes at rest in as much time; `None` where that was not measured, and in records of schema
    /// 7 and before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_uj: Option<i64>,
    /// Highest power over any stretch of 50 ms or more, in milliwatts; `None` in records of schema 7 and before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_mw: Option<u64>,
    /// What makes the figure less than certain; none in records of schema 7 and before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// Whether joules were read or computed. A computed joule is never called measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnergyKind {
    /// Read from a counter, a sensor or a meter.
    Measured,
    /// Computed from a model.
    Modelled,
}

impl EnergyKind {
    /// The name in records and tables.
    pub fn name(self) -> &'static str {
        match self {
            EnergyKind::Measured => "measured",
            EnergyKind::Modelled => "modelled",
        }
    }
}

/// What one source has counted over a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceEnergy {
    /// `powercap`, for example.
    pub source: String,
    /// Measured or modelled.
    pub kind: EnergyKind,
    /// Sum over what counts (parents never added to their children); `None` where any of it is unknown.
    pub total_uj: Option<u64>,
    /// Why there is no total.
    pub invalid: Option<String>,
    /// Highest power over any stretch of 50 ms or more, in milliwatts.
    pub peak_mw: Option<u64>,
    /// Every domain whose energy is known, parents and children alike.
    pub domains: Vec<DomainEnergy>,
    /// What makes the figures less than certain, and domains without a figure.
    pub doubts: Vec<String>,
    /// Readings in the window.
    pub readings: u32,
}

/// One domain's energy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainEnergy {
    /// `package-0`, `package-0/dram`, `psys`.
    pub domain: String,
    /// Microjoules over the window.
    pub energy_uj: u64,
}
