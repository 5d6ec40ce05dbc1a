//! Facts from `/proc`. Everything that can't be read is `None`, never 0.

use std::fs;
use std::path::Path;

/// One `Name:  123 kB` line of `/proc/self/status`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    let value: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then_some(value * 1024)
}

/// This process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnMemory {
    /// `VmHWM`: peak resident set since the start or the last reset.
    pub peak: Option<u64>,
    /// `RssAnon`.
    pub anon: Option<u64>,
    /// `RssFile`.
    pub file: Option<u64>,
}

/// Reads this process's memory from `/proc/self/status`. `ru_maxrss` is no substitute: it survives `exec`.
pub fn own_memory() -> OwnMemory {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let read = |name| status_bytes(&status, name);
    OwnMemory { peak: read("VmHWM"), anon: read("RssAnon"), file: read("RssFile") }
}

/// CPU time stolen by the hypervisor since boot, over all CPUs, in nanoseconds.
pub fn steal_ns() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: u64 = stat.lines().find_map(|l| l.strip_prefix("cpu "))?.split_whitespace().nth(7)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    (per_second > 0).then(|| ticks * (1_000_000_000 / per_second))
}

/// Involuntary context switches of all threads of this process.
pub fn involuntary_switches() -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").ok()? {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("nonvoluntary_ctxt_switches:"))?;
        sum += line.trim().parse::<u64>().ok()?;
    }
    Some(sum)
}

/// Load average over one minute, in thousandths.
pub fn load_milli() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    (load.is_finite() && load >= 0.0).then(|| (load * 1000.0).round() as u64)
}

/// Memory that can be taken without swapping: `MemAvailable`, or what the cgroup leaves, whichever is less.
pub fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let available = status_bytes(&meminfo, "MemAvailable")?;
    Some(cgroup_left(Path::new("/sys/fs/cgroup")).map_or(available, |left| left.min(available)))
}

/// `memory.max` less `memory.current` of a cgroup v2, if it has a limit.
fn cgroup_left(root: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(root.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_parse_or_are_none() {
        let text = "Name:\tx\nVmHWM:\t    1724 kB\nRssAnon:\t 12 MB\nRssFile:\tgarbage kB\n";
        assert_eq!(status_bytes(text, "VmHWM"), Some(1724 * 1024));
        for name in ["RssAnon", "RssFile", "VmPeak", "VmHW"] {
            assert_eq!(status_bytes(text, name), None, "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_peak_grows_with_what_is_touched() {
        let before = own_memory().peak.unwrap();
        let block = vec![1u8; 64 << 20];
        assert!(own_memory().peak.unwrap() >= before.max(64 << 20), "{}", block.len());
    }
}
