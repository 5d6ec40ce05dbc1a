//! Facts from `/proc` and `/sys` of each stage: memory, faults, steal, load, frequency, temperature, throttling.
//!
//! Both roots are given, so that a tree made for a test, or passed into a guest, is read the same way. What can't be read has
//! a reason that names the file looked for; it is never 0.

use super::energy::source::number;
use super::lockstep::allowed_cpus;
use super::procfs;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use suites::record::StageFacts;

/// CPUs below the root of sysfs.
const CPUS: &str = "devices/system/cpu";
/// Thousandths of a degree Celsius that a sensor is believed: one that is not connected tells 0, 127 or 255 degrees, or some
/// below 0, and processors stop short of 125.
pub(crate) const PLAUSIBLE_MC: std::ops::RangeInclusive<i64> = 1_000..=125_000;

/// A fact as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// As records name it, with its unit: `rss_anon_bytes`.
    pub name: &'static str,
    /// Its value, a count's since the process or the machine was started; or why it can't be read, with the file looked for.
    pub value: Result<i64, String>,
}

/// Where facts are read.
#[derive(Clone, Debug)]
pub struct Facts {
    proc: PathBuf,
    sys: PathBuf,
    /// The CPUs whose frequency matters.
    cpus: Vec<usize>,
}

/// Counts as they were at some moment; those of a stage are differences of two.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    major_faults: Option<u64>,
    steal_ns: Option<u64>,
    throttled: Option<Throttled>,
}

impl Facts {
    /// Of this process on this machine, with `sysfs_root` in place of `/sys`.
    pub fn of_machine(sysfs_root: Option<&Path>) -> Facts {
        Facts::new(Path::new("/proc"), sysfs_root.unwrap_or(Path::new("/sys")), allowed_cpus())
    }

    /// Of the process `self` below `proc`, and of the machine below `proc` and `sys`; frequencies are those of `cpus`.
    pub fn new(proc: &Path, sys: &Path, cpus: Vec<usize>) -> Facts {
        Facts { proc: proc.to_owned(), sys: sys.to_owned(), cpus }
    }

    /// Counts as they are now.
    pub fn counts(&self) -> Counts {
        Counts {
            major_faults: self.major_faults().ok(),
            steal_ns: self.steal_ns().ok(),
            throttled: self.throttled().ok(),
        }
    }

    /// The facts of a stage that ends now and began when the counts were `before`. A count that fell is `None`.
    pub fn since(&self, before: &Counts) -> StageFacts {
        // First, as it is the first to change when the work is done.
        let frequency_khz = self.frequency_khz().ok();
        let now = self.counts();
        let grown = |now: Option<u64>, before: Option<u64>| now?.checked_sub(before?);
        StageFacts {
            rss_anon_bytes: self.rss_anon_bytes().ok(),
            rss_file_bytes: self.rss_file_bytes().ok(),
            major_faults: grown(now.major_faults, before.major_faults),
            steal_ns: grown(now.steal_ns, before.steal_ns),
            load_milli: self.load_milli().ok(),
            frequency_khz,
            temperature_mc: self.temperature_mc().ok(),
            throttled: now.throttled.zip(before.throttled.as_ref()).and_then(|(now, before)| now.since(before)),
        }
    }

    /// Every fact as it is now, or why it can't be read.
    pub fn told(&self) -> Vec<Fact> {
        let fact = |name, value: Result<u64, String>| Fact {
            name,
            value: value.and_then(|value| i64::try_from(value).map_err(|_| format!("{value} is no such count"))),
        };
        vec![
            fact("rss_anon_bytes", self.rss_anon_bytes()),
            fact("rss_file_bytes", self.rss_file_bytes()),
            fact("major_faults", self.major_faults()),
            fact("steal_ns", self.steal_ns()),
            fact("load_milli", self.load_milli()),
            fact("frequency_khz", self.frequency_khz()),
            Fact { name: "temperature_mc", value: self.temperature_mc() },
            fact("throttled", self.throttled().and_then(|all| all.total().ok_or("too many to add up".to_owned()))),
        ]
    }

    fn rss_anon_bytes(&self) -> Result<u64, String> {
        self.of_proc("self/status", "RssAnon", |status| procfs::memory(status).anon)
    }

    fn rss_file_bytes(&self) -> Result<u64, String> {
        self.of_proc("self/status", "RssFile", |status| procfs::memory(status).file)
    }

    fn major_faults(&self) -> Result<u64, String> {
        self.of_proc("self/stat", "majflt", major_faults)
    }

    fn steal_ns(&self) -> Result<u64, String> {
        self.of_proc("stat", "steal of all CPUs", procfs::steal_in)
    }

    fn load_milli(&self) -> Result<u64, String> {
        self.of_proc("loadavg", "load", procfs::load_in)
    }

    fn of_proc(&self, file: &str, what: &str, parse: impl Fn(&str) -> Option<u64>) -> Result<u64, String> {
        let path = self.proc.join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        parse(&text).ok_or_else(|| format!("{}: no {what} that can be read", path.display()))
    }

    /// Mean of the CPUs' current frequencies; of all that the process may use, or of none.
    fn frequency_khz(&self) -> Result<u64, String> {
        let mut sum = 0u128;
        for cpu in &self.cpus {
            let path = self.sys.join(CPUS).join(format!("cpu{cpu}/cpufreq/scaling_cur_freq"));
            let khz: u64 = number(&path)?;
            if khz == 0 {
                return Err(format!("{}: 0 kHz is no frequency", path.display()));
            }
            sum += u128::from(khz);
        }
        let mean = sum.checked_div(self.cpus.len() as u128).ok_or("no CPU that may be used is known")?;
        u64::try_from(mean).map_err(|_| format!("{mean} kHz is no frequency"))
    }

    /// The hottest sensor that is believed.
    fn temperature_mc(&self) -> Result<i64, String> {
        let (zones, devices) = (self.sys.join("class/thermal"), self.sys.join("class/hwmon"));
        let mut files: Vec<PathBuf> =
            entries(&zones).filter(|(name, _)| name.starts_with("thermal_zone")).map(|(_, p)| p.join("temp")).collect();
        for (_, device) in entries(&devices).filter(|(name, _)| name.starts_with("hwmon")) {
            let is_one = |(name, _): &(String, PathBuf)| name.starts_with("temp") && name.ends_with("_input");
            files.extend(entries(&device).filter(is_one).map(|(_, path)| path));
        }
        let found = files.iter().filter_map(|path| number::<i64>(path).ok()).filter(|mc| PLAUSIBLE_MC.contains(mc));
        found.max().ok_or_else(|| {
            let (zones, devices) = (zones.display(), devices.display());
            match files.len() {
                0 => format!("no {zones}/thermal_zone*/temp and no {devices}/hwmon*/temp*_input"),
                n => format!("none of {n} sensors at {zones} and {devices} can be read and believed"),
            }
        })
    }

    /// How often each CPU has seen its core and its package throttled. Kernels count so on Intel's alone.
    fn throttled(&self) -> Result<Throttled, String> {
        let tree = self.sys.join(CPUS);
        let mut counts = BTreeMap::new();
        let is_cpu = |name: &str| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok());
        for (name, folder) in entries(&tree).filter(|(name, _)| is_cpu(name)) {
            let known = |file: &str| {
                let text = fs::read_to_string(folder.join("topology").join(file)).unwrap_or_default();
                Some(text.trim().to_owned()).filter(|text| !text.is_empty())
            };
            // Without a topology each CPU is a core of its own, and all are of one package.
            let core = || format!("core of {}", known("thread_siblings_list").unwrap_or_else(|| name.clone()));
            let package = || format!("package {}", known("physical_package_id").unwrap_or_default());
            let throttle = folder.join("thermal_throttle");
            if let Some(count) = present(&throttle.join("core_throttle_count"))? {
                counts.insert((core(), name.clone()), count);
            }
            if let Some(count) = present(&throttle.join("package_throttle_count"))? {
                counts.insert((package(), name.clone()), count);
            }
        }
        let missing = || format!("no {}/cpu*/thermal_throttle/core_throttle_count", tree.display());
        if counts.is_empty() { Err(missing()) } else { Ok(Throttled(counts)) }
    }
}

/// Counts of throttling: by what was throttled, a core or a package, and by the CPU that saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Throttled(BTreeMap<(String, String), u64>);

impl Throttled {
    /// Events between `before` and this; `None` where a count fell, or a CPU came or went.
    fn since(&self, before: &Throttled) -> Option<u64> {
        if self.0.len() != before.0.len() {
            return None;
        }
        let grown = self.0.iter().map(|(key, now)| Some((key.clone(), now.checked_sub(*before.0.get(key)?)?)));
        Throttled(grown.collect::<Option<_>>()?).total()
    }

    /// Every event once: each CPU of a core, or of a package, has a count of the same ones, and one that slept through some has
    /// fewer.
    fn total(&self) -> Option<u64> {
        let mut most: BTreeMap<&str, u64> = BTreeMap::new();
        for ((what, _), &count) in &self.0 {
            let known = most.entry(what).or_default();
            *known = count.max(*known);
        }
        most.values().try_fold(0, |sum: u64, &count| sum.checked_add(count))
    }
}

/// The number in a file; `None` if there is no such file.
fn present(path: &Path) -> Result<Option<u64>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => number(path).map(Some),
    }
}

/// Names and paths in a folder; nothing where it can't be listed.
fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

/// `majflt` of a `/proc/PID/stat`, of all threads together. The name before it may hold spaces and parentheses.
fn major_faults(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests;
