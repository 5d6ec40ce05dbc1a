//! What an energy source is: its domains, how each is read, and the trait that all of them implement.

use std::time::Duration;
use suites::record::EnergyKind;

/// A power that no package, board or machine of this project's users passes for longer than a refresh: it bounds how soon a
/// counter wraps, and how far it can have come between two readings. 1.5 times 500 W, the largest thermal design power of a
/// socket today; a zone that states a higher limit of its own raises it.
pub const MOST_WATTS: f64 = 750.0;

/// What a source is, without its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// `powercap`, `perf`, `hwmon`, `battery`, `file`, `command`, `powermetrics`, `cpu-time`, `arithmetic`.
    pub name: String,
    /// Whether it reads joules or computes them.
    pub kind: EnergyKind,
    /// What it tells apart, in the order in which [`EnergySource::read`] gives the values.
    pub domains: Vec<Domain>,
    /// How often its values change: windows must be long beside it. 0 of what this process adds up itself, which need not be read
    /// in between.
    pub refresh: Duration,
}

/// One counter or sensor of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Path of names: `package-0`, `package-0/core`, `ina3221/VDD_IN`.
    pub name: String,
    /// Whether the source's total contains it, or why not.
    pub part: Part,
    /// How its values are to be read.
    pub scale: Scale,
}

/// A domain's part in its source's total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Added to it.
    Counted,
    /// Not added, and why: `inside package-0`, `the same counter as package-0-die-0`.
    Left(String),
}

/// How a domain's values become joules.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// The value is a count that only grows, but for wraps.
    Counter {
        /// Microjoules a count.
        unit_uj: f64,
        /// When it begins again.
        wraps: Wraps,
    },
    /// The value is power, to be integrated by the trapezoid rule.
    Power,
}

/// When a counter begins again at 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Wraps {
    /// Never in practice, such as a 64-bit one.
    Never,
    /// After this count, not before what `most_watts` makes of it.
    After {
        /// Largest count.
        range: u64,
        /// Highest power that it can have to count, in watts.
        most_watts: f64,
    },
    /// Its range can't be told, and why. A fall can then be no energy; without one a wrap is unlikely but not excluded.
    Unknown(String),
}

/// One value as read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raw {
    /// Of a [`Scale::Counter`].
    Count(u64),
    /// Of a [`Scale::Power`].
    Watts(f64),
}

/// A source of joules that can be read. Sources that can't are a [`Missing`] instead.
pub trait EnergySource: Send {
    /// What it is. Does not change.
    fn info(&self) -> &Info;

    /// A value for each domain, or why it could not be read: one line with file and reason.
    fn read(&mut self) -> Vec<Result<Raw, String>>;
}

/// Why a source is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What was looked for, and what was found instead.
    pub reason: String,
    /// The command that mends it, where one does.
    pub remedy: Option<String>,
}

impl Missing {
    /// A reason that no command mends.
    pub fn new(reason: impl Into<String>) -> Missing {
        Missing { reason: reason.into(), remedy: None }
    }
}

/// A source, or why it is not there.
pub struct Found {
    /// As in [`Info::name`].
    pub name: &'static str,
    /// The source.
    pub source: Result<Box<dyn EnergySource>, Missing>,
}

impl Domain {
    /// Longest time between two readings after which this domain's energy is still certain: half of what it takes to wrap at
    /// the highest power; of power, what a trapezoid may span. `None` where no time is too long.
    pub fn longest_gap(&self, refresh: Duration) -> Option<Duration> {
        match &self.scale {
            Scale::Counter { unit_uj, wraps: Wraps::After { range, most_watts } } => {
                let seconds = *range as f64 * unit_uj / 1e6 / most_watts / 2.0;
                Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
            }
            Scale::Counter { .. } => None,
            Scale::Power => Some((refresh * 10).max(Duration::from_secs(5))),
        }
    }
}

impl Info {
    /// The shortest [`Domain::longest_gap`] of all.
    pub fn longest_gap(&self) -> Option<Duration> {
        self.domains.iter().filter_map(|domain| domain.longest_gap(self.refresh)).min()
    }
}

/// The first line of a small file such as those of sysfs, without white space around it.
///
/// # Errors
/// One line with path and reason.
pub fn text(path: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A number in a file of sysfs.
///
/// # Errors
/// One line with path, what was found and what was expected.
pub fn number<N: std::str::FromStr>(path: &std::path::Path) -> Result<N, String> {
    let text = text(path)?;
    let shown: String = text.chars().take(40).collect();
    text.parse().map_err(|_| format!("{}: expected a number, found `{shown}`", path.display()))
}
