//! Energy: sources behind one trait, the ledger that makes joules of their readings, and the thread that reads often enough.
//!
//! ```text
//! meter powercap perf hwmon battery powermetrics cpu-time arithmetic -> EnergySource -> Ledger (wraps, gaps, faults) -> Lap -> record
//!                                                  ^ Meter: read every 100 ms
//! ```

pub mod arithmetic;
pub mod battery;
pub mod clock;
pub mod cpu_time;
pub mod external;
pub mod hwmon;
pub mod ledger;
pub mod meter;
pub mod perf;
pub mod powercap;
pub mod powermetrics;
mod program;
pub mod source;
#[cfg(test)]
mod tests;

use self::arithmetic::{Arithmetic, Tally};
use self::external::Spec;
use self::ledger::Lap;
use self::meter::{Meter, PERIOD};
use self::source::{EnergySource, Found, Info, Missing, Part};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use suites::record::{Energy, EnergyKind};

/// Shortest window that energy is told of, where the work can be repeated: METHODOLOGY.md.
pub(crate) const WINDOW: Duration = Duration::from_secs(2);
/// Longest that a window is made for the sake of a slow source.
pub(crate) const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// Refreshes of the most trusted source that a window is repeated for.
pub(crate) const WINDOW_REFRESHES: u32 = 100;

/// Where sources are looked for, and which the user names beside what is found.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Look for energy counters, frequencies and temperatures below this folder instead of /sys
    #[arg(long)]
    pub sysfs_root: Option<PathBuf>,
    /// A meter of your own, trusted most: file:PATH, or command:PROGRAM that prints a line a reading; each a number with J, Wh, kWh or
    /// W, such as `1234.5 J`. Or powermetrics:PROGRAM, whose output is that of macOS's powermetrics
    #[arg(long = "meter", value_name = "SPEC")]
    pub meters: Vec<Spec>,
    /// Model energy, where none can be measured, as the share of busy CPU time times these watts; marked as modelled
    #[arg(long, value_parser = watts)]
    pub cpu_watts: Option<f64>,
}

fn watts(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|watts| (0.001..=1e6).contains(watts));
    found.ok_or_else(|| format!("expected watts, such as 65, found `{text}`"))
}

/// Looks for every source, the most trusted first.
pub fn discover(options: &Options) -> Vec<Found> {
    let sysfs_root = options.sysfs_root.as_deref();
    let root = sysfs_root.unwrap_or(Path::new("/sys"));
    // The kernel opens its own machine's PMU, whatever another machine's tree says.
    let perf = match sysfs_root {
        None => perf::Perf::open(root, &perf::opened),
        Some(_) => Err(Missing::new("not this machine's tree: its PMU can't be opened")),
    };
    let meter = |spec: &Spec| Found { name: spec.name(), source: external::open(spec) };
    let mut all: Vec<Found> = options.meters.iter().map(meter).collect();
    all.extend([
        found("powercap", powercap::Powercap::open(root)),
        found("perf", perf),
        found("hwmon", hwmon::Hwmon::open(root)),
        found("battery", battery::Battery::open(root)),
        found("powermetrics", powermetrics::Powermetrics::open(sysfs_root)),
    ]);
    all.extend(options.cpu_watts.map(|watts| found("cpu-time", cpu_time::CpuTime::open(Path::new("/proc"), watts))));
    all
}

fn found<S: EnergySource + 'static>(name: &'static str, source: Result<S, Missing>) -> Found {
    Found { name, source: source.map(|source| Box::new(source) as Box<dyn EnergySource>) }
}

/// The sources of a machine, being read; or the reasons why there are none.
pub struct EnergyMeter {
    meter: Meter,
    missing: Vec<(&'static str, Missing)>,
}

impl EnergyMeter {
    /// Looks for sources and begins to read them.
    pub fn open(options: &Options) -> EnergyMeter {
        EnergyMeter::start(discover(options))
    }

    /// The same for a process that runs an engine of the project, whose arithmetic is modelled by what it adds to `tally`.
    pub fn of_engine(options: &Options, tally: &Tally) -> EnergyMeter {
        let mut all = discover(options);
        all.push(found(arithmetic::NAME, Ok(Arithmetic::new(tally.clone()))));
        EnergyMeter::start(all)
    }

    /// Without any source.
    pub fn none(reason: &'static str) -> EnergyMeter {
        EnergyMeter::start(vec![Found { name: "energy", source: Err(Missing::new(reason)) }])
    }

    fn start(all: Vec<Found>) -> EnergyMeter {
        let (mut sources, mut missing) = (Vec::new(), Vec::new());
        for Found { name, source } in all {
            match source {
                Ok(source) => sources.push(source),
                Err(reason) => missing.push((name, reason)),
            }
        }
        EnergyMeter { meter: Meter::start(sources, PERIOD), missing }
    }

    /// One line: the sources found with what counts of each, or why there are none and what to do about it.
    pub fn describe(&self) -> String {
        let infos: Vec<Info> = self.meter.infos().into_iter().filter(|info| info.name != arithmetic::NAME).collect();
        if infos.is_empty() {
            return format!("unavailable: {}", self.reason());
        }
        let one = |info: &Info| {
            let counted = info.domains.iter().filter(|domain| domain.part == Part::Counted);
            let names: Vec<&str> = counted.map(|domain| domain.name.as_str()).collect();
            let mark = if info.kind == EnergyKind::Modelled { " (modelled)" } else { "" };
            format!("{}{mark}: {}", info.name, names.join(", "))
        };
        infos.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Why each source that is not there is not.
    pub fn missing(&self) -> &[(&'static str, Missing)] {
        &self.missing
    }

    /// The sources, as they are read.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether joules can be measured.
    pub fn available(&self) -> bool {
        self.trusted().is_some()
    }

    /// The most trusted source that measures.
    fn trusted(&self) -> Option<Info> {
        self.meter.infos().into_iter().find(|info| info.kind == EnergyKind::Measured)
    }

    /// The shortest window whose joules are told to about 1 %: 2 s, and a hundred refreshes of the most trusted source as far
    /// as 10 s. Nothing where none measures.
    pub fn shortest_window(&self) -> Duration {
        self.trusted().map_or(Duration::ZERO, |info| (info.refresh * WINDOW_REFRESHES).clamp(WINDOW, LONGEST_WINDOW))
    }

    /// Begins a window.
    pub fn begin(&self) {
        self.meter.lap();
    }

    /// Ends a window, and begins the next.
    pub fn lap(&self) -> Lap {
        self.meter.lap()
    }

    /// A whole window's lap with what must be said of its length.
    pub fn judged(&self, lap: Lap) -> Lap {
        lap.doubted(&self.meter.infos())
    }

    /// The energy of a window in which `tokens` tokens were processed, by the most trusted source.
    pub fn energy(&self, lap: &Lap, tokens: u64) -> Energy {
        lap.energy(tokens, || self.reason())
    }

    /// Why each source that is not there is not, in one line.
    pub fn reason(&self) -> String {
        let one = |(_, missing): &(&str, Missing)| match &missing.remedy {
            Some(remedy) => format!("{} (mended by: {remedy})", missing.reason),
            None => missing.reason.clone(),
        };
        self.missing.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}
