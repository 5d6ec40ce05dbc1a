//! Energy: sources behind one trait, the ledger that makes joules of their readings, and the thread that reads often enough.
//!
//! ```text
//! powercap perf hwmon battery -> EnergySource -> Ledger (wraps, gaps, faults) -> Lap -> record
//!                                                  ^ Meter: read every 100 ms
//! ```

pub mod battery;
pub mod clock;
pub mod hwmon;
pub mod ledger;
pub mod meter;
pub mod perf;
pub mod powercap;
pub mod source;
#[cfg(test)]
mod tests;

use self::ledger::Lap;
use self::meter::{Meter, PERIOD};
use self::source::{EnergySource, Found, Info, Missing, Part};
use std::path::Path;
use suites::record::{Energy, EnergyKind};

/// Looks for every source, the most trusted first, below `sysfs_root` (`/sys` when `None`).
pub fn discover(sysfs_root: Option<&Path>) -> Vec<Found> {
    let root = sysfs_root.unwrap_or(Path::new("/sys"));
    // The kernel opens its own machine's PMU, whatever another machine's tree says.
    let perf = match sysfs_root {
        None => perf::Perf::open(root, &perf::opened),
        Some(_) => Err(Missing::new("not this machine's tree: its PMU can't be opened")),
    };
    vec![
        found("powercap", powercap::Powercap::open(root)),
        found("perf", perf),
        found("hwmon", hwmon::Hwmon::open(root)),
        found("battery", battery::Battery::open(root)),
    ]
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
    /// Looks for sources below `sysfs_root` (`/sys` when `None`) and begins to read them.
    pub fn open(sysfs_root: Option<&Path>) -> EnergyMeter {
        let (mut sources, mut missing) = (Vec::new(), Vec::new());
        for Found { name, source } in discover(sysfs_root) {
            match source {
                Ok(source) => sources.push(source),
                Err(reason) => missing.push((name, reason)),
            }
        }
        EnergyMeter { meter: Meter::start(sources, PERIOD), missing }
    }

    /// One line: the sources found with what counts of each, or why there are none and what to do about it.
    pub fn describe(&self) -> String {
        let infos = self.meter.infos();
        if infos.is_empty() {
            return format!("unavailable: {}", self.reason());
        }
        let one = |info: &Info| {
            let counted = info.domains.iter().filter(|domain| domain.part == Part::Counted);
            let names: Vec<&str> = counted.map(|domain| domain.name.as_str()).collect();
            format!("{}: {}", info.name, names.join(", "))
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
        self.meter.infos().iter().any(|info| info.kind == EnergyKind::Measured)
    }

    /// Begins a window.
    pub fn begin(&self) {
        self.meter.lap();
    }

    /// Ends a window, and begins the next.
    pub fn lap(&self) -> Lap {
        self.meter.lap()
    }

    /// The energy of a window in which `tokens` tokens were processed, by the most trusted source.
    pub fn energy(&self, lap: &Lap, tokens: u64) -> Energy {
        lap.energy(tokens, || self.reason())
    }

    fn reason(&self) -> String {
        let one = |(_, missing): &(&str, Missing)| match &missing.remedy {
            Some(remedy) => format!("{} (mended by: {remedy})", missing.reason),
            None => missing.reason.clone(),
        };
        self.missing.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}
