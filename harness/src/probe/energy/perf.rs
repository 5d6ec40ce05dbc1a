//! RAPL by the kernel's `power` PMU: 64-bit counts of 2^-32 J that the kernel keeps from wrapping. For all of the machine, on
//! the CPUs that `cpumask` names.

use super::source::{Domain, EnergySource, Info, Missing, Part, Raw, Scale, Wraps, number, text};
use perf_event::events::Software;
use perf_event::{Builder, Counter};
use std::path::Path;
use std::time::Duration;
use suites::record::EnergyKind;

/// Where Linux describes the PMU below the root of sysfs.
const PMU: &str = "bus/event_source/devices/power";
/// Events in the order in which they are shown: name, whether it counts. Cores and graphics are in the package, which psys
/// holds; memory is beside it.
const EVENTS: [(&str, &str, Option<&str>); 5] = [
    ("energy-pkg", "package", None),
    ("energy-ram", "dram", None),
    ("energy-cores", "cores", Some("inside package")),
    ("energy-gpu", "gpu", Some("inside package")),
    ("energy-psys", "psys", Some("it holds the packages")),
];

/// An open counter: reads the count.
pub type Open = Box<dyn FnMut() -> Result<u64, String> + Send>;

/// Opens the event `config` of the PMU `kind` on a CPU. Tests have one of their own.
pub type Opener<'a> = &'a dyn Fn(u32, u64, usize) -> Result<Open, String>;

/// The PMU's counters.
pub struct Perf {
    info: Info,
    counters: Vec<Open>,
}

impl Perf {
    /// Looks for the PMU below `root`, and opens its counters by `opener`.
    ///
    /// # Errors
    /// No such PMU, or a package that can't be opened.
    pub fn open(root: &Path, opener: Opener<'_>) -> Result<Perf, Missing> {
        let pmu = root.join(PMU);
        let missing = |_| Missing::new(format!("no power PMU at {} (no RAPL, or a guest without it)", pmu.display()));
        let kind: u32 = number(&pmu.join("type")).map_err(missing)?;
        let cpus = list(&text(&pmu.join("cpumask")).map_err(Missing::new)?).map_err(Missing::new)?;
        let (mut domains, mut counters) = (Vec::new(), Vec::new());
        for (event, name, left) in EVENTS {
            let file = pmu.join("events").join(event);
            if !file.exists() {
                continue;
            }
            let config = config(&text(&file).map_err(Missing::new)?).map_err(Missing::new)?;
            let scale: f64 = number(&pmu.join("events").join(format!("{event}.scale"))).map_err(Missing::new)?;
            for (index, &cpu) in cpus.iter().enumerate() {
                match opener(kind, config, cpu) {
                    Ok(counter) => counters.push(counter),
                    Err(_) if left.is_some() => continue,
                    Err(reason) => return Err(refused(&format!("{event} on CPU {cpu}: {reason}"))),
                }
                let part = left.map_or(Part::Counted, |why| Part::Left(why.to_owned()));
                let scale = Scale::Counter { unit_uj: scale * 1e6, wraps: Wraps::Never };
                domains.push(Domain { name: format!("{name}-{index}"), part, scale });
            }
        }
        if !domains.iter().any(|domain| domain.part == Part::Counted) {
            return Err(Missing::new(format!("{} has no event of packages", pmu.display())));
        }
        let refresh = Duration::from_millis(1);
        Ok(Perf { info: Info { name: "perf".to_owned(), kind: EnergyKind::Measured, domains, refresh }, counters })
    }
}

impl EnergySource for Perf {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        self.counters.iter_mut().map(|counter| counter().map(Raw::Count)).collect()
    }
}

fn refused(reason: &str) -> Missing {
    let denied = reason.contains("denied") || reason.contains("not permitted");
    let remedy = denied.then(|| "sudo sysctl kernel.perf_event_paranoid=0".to_owned());
    Missing { reason: reason.to_owned(), remedy }
}

/// Opens a counter of this machine.
///
/// # Errors
/// As the kernel says.
pub fn opened(kind: u32, config: u64, cpu: usize) -> Result<Open, String> {
    let mut builder = Builder::new().kind(Software::DUMMY).any_pid().one_cpu(cpu);
    // The PMU counts everything on a package: with anything excluded, the kernel refuses.
    builder.include_kernel().include_hv();
    let attributes = builder.attrs_mut();
    attributes.type_ = kind;
    attributes.config = config;
    let mut counter = builder.build().map_err(|error| error.to_string())?;
    counter.enable().map_err(|error| error.to_string())?;
    Ok(Box::new(move || read(&mut counter)))
}

fn read(counter: &mut Counter) -> Result<u64, String> {
    // The crate asserts that a counter ran no longer than it was enabled, which the kernel breaks now and then.
    let read = std::panic::AssertUnwindSafe(|| counter.read());
    let read = std::panic::catch_unwind(read).map_err(|_| "the kernel gave impossible times".to_owned())?;
    read.map_err(|error| error.to_string())
}

/// The number of an event: `event=0x02`.
fn config(text: &str) -> Result<u64, String> {
    let number = text.split(',').find_map(|term| term.strip_prefix("event=0x"));
    let number = number.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    number.ok_or_else(|| format!("expected an event such as `event=0x02`, found `{text}`"))
}

/// CPUs of a list such as `0,18` or `0-1`.
fn list(text: &str) -> Result<Vec<usize>, String> {
    let bad = || format!("expected a list of CPUs such as `0,18`, found `{text}`");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
        let span: std::ops::RangeInclusive<usize> = first..=last;
        if last > 1 << 20 {
            return Err(bad());
        }
        cpus.extend(span);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_events_are_read_or_refused() {
        assert_eq!(list("0,18").unwrap(), [0, 18]);
        assert_eq!(list("0-2,5").unwrap(), [0, 1, 2, 5]);
        assert!(list("").is_err() && list("x").is_err() && list("0-99999999").is_err());
        assert_eq!(config("event=0x02").unwrap(), 2);
        assert!(config("umask=0x1").is_err());
    }
}
