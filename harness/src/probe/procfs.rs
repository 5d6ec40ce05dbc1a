//! Facts from `/proc`. Everything that can't be read is `None`, never 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// One `Name:  123 kB` line of `/proc/self/status`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    let value: u64 = words.next()?.parse().ok()?;
    value.checked_mul(1024).filter(|_| words.next() == Some("kB"))
}

/// A process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// `VmHWM`: peak resident set since the start or the last reset.
    pub peak: Option<u64>,
    /// `RssAnon`.
    pub anon: Option<u64>,
    /// `RssFile`.
    pub file: Option<u64>,
}

/// Reads this process's memory from `/proc/self/status`. `ru_maxrss` is no substitute: it survives `exec`.
pub fn own_memory() -> ProcessMemory {
    memory(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Resident bytes of this process that are pages of its program and libraries, unwritten: what of their files is mapped, as
/// `/proc/self/smaps` tells it. The kernel maps what it has of a file around each fault, so that two builds of the same source, or
/// one before and after its file is written anew, differ by megabytes.
pub fn own_program() -> Option<u64> {
    program_in(&fs::read_to_string("/proc/self/smaps").ok()?)
}

/// The same of the text of a `smaps`: `Rss` less `Anonymous` of all mappings of files that have an executable one.
fn program_in(smaps: &str) -> Option<u64> {
    let (mut resident, mut executable): (BTreeMap<&str, u64>, BTreeSet<&str>) = Default::default();
    let (mut file, mut rss) = (None, None);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        if !first.ends_with(':') {
            // `begin-end rwxp offset device inode path`: of no file unless the path is absolute.
            file = line.find('/').map(|at| &line[at..]);
            executable.extend(file.filter(|_| second.as_bytes().get(2) == Some(&b'x')));
        } else if first == "Rss:" {
            rss = status_bytes(line, "Rss");
        } else if let (Some(file), "Anonymous:") = (file, first) {
            *resident.entry(file).or_default() += rss.take()?.checked_sub(status_bytes(line, "Anonymous")?)?;
        }
    }
    let program = |(file, _): &(&&str, &u64)| executable.contains(*file);
    Some(resident.iter().filter(program).map(|(_, bytes)| bytes).sum()).filter(|_| !executable.is_empty())
}

/// Has the kernel forget this process's peak, which then begins anew from what is resident.
///
/// # Errors
/// `/proc/self/clear_refs` can't be written; the peak stays that of all time.
pub fn reset_peak() -> std::io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// The memory of the process `pid` that runs another program than this one; `None` if it runs this one (it has yet to become
/// the other), and of a process that is gone.
pub fn memory_of_other(pid: u32) -> Option<ProcessMemory> {
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let pid = pid.to_string();
    let other = program(&pid).is_some_and(|found| Some(found) != program("self"));
    other.then(|| memory(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()))
}

/// What a `/proc/PID/status` tells of memory.
pub(super) fn memory(status: &str) -> ProcessMemory {
    let read = |name| status_bytes(status, name);
    ProcessMemory { peak: read("VmHWM"), anon: read("RssAnon"), file: read("RssFile") }
}

/// CPU time stolen by the hypervisor since boot, over all CPUs, in nanoseconds.
pub fn steal_ns() -> Option<u64> {
    steal_in(&fs::read_to_string("/proc/stat").ok()?)
}

/// The same of the text of a `/proc/stat`.
pub(super) fn steal_in(stat: &str) -> Option<u64> {
    let ticks: u64 = stat.lines().find_map(|l| l.strip_prefix("cpu "))?.split_whitespace().nth(7)?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    ticks.checked_mul(1_000_000_000u64.checked_div(per_second)?)
}

/// Share of all CPU time that the hypervisor gave to others while `work` ran; `None` where it can't be read, or where
/// `work` was too short for the kernel's clock ticks.
pub fn steal_share<T>(work: impl FnOnce() -> T) -> (T, Option<f64>) {
    let read = || cpu_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default());
    let before = read();
    let result = work();
    let share = || {
        let ((all_before, steal_before), (all, steal)) = (before?, read()?);
        let all = all.checked_sub(all_before).filter(|&ticks| ticks > 0)?;
        Some(steal.saturating_sub(steal_before) as f64 / all as f64)
    };
    (result, share())
}

/// Clock ticks of all CPUs since boot: in all states together, and stolen. Guest time is part of user time already.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|t| t.parse().ok()).take(8).collect();
    Some((ticks.iter().sum(), *ticks.get(7)?))
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
    load_in(&fs::read_to_string("/proc/loadavg").ok()?)
}

/// The same of the text of a `/proc/loadavg`.
pub(super) fn load_in(text: &str) -> Option<u64> {
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    (load.is_finite() && load >= 0.0).then(|| (load * 1000.0).round() as u64)
}

/// Memory that can be taken without swapping: `MemAvailable`, or what the cgroup leaves, whichever is less.
pub fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let available = status_bytes(&meminfo, "MemAvailable")?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(cgroup_left(Path::new("/sys/fs/cgroup"), &own).map_or(available, |left| left.min(available)))
}

/// What the memory cgroups of this process leave, `own` being its `/proc/self/cgroup`: the least over the group and its
/// ancestors of limit less usage, page cache that can be dropped not counted as used. Versions 2 and 1; `None` without a
/// limit.
fn cgroup_left(root: &Path, own: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, limit, used, cache) = match controllers {
            "" => (root.to_owned(), "memory.max", "memory.current", "inactive_file "),
            list if list.split(',').any(|c| c == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            }
            _ => continue,
        };
        for folder in base.join(path.trim_start_matches('/')).ancestors().take_while(|f| f.starts_with(&base)) {
            let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
            let (Some(most), Some(now)) = (number(limit), number(used)) else { continue };
            let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let cached = stat.lines().find_map(|l| l.strip_prefix(cache)?.trim().parse::<u64>().ok()).unwrap_or(0);
            let free = most.saturating_sub(now.saturating_sub(cached));
            least = Some(least.map_or(free, |least| least.min(free)));
        }
    }
    least
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

    #[test]
    fn the_tightest_cgroup_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, files: [(&str, &str); 3]| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        };
        let v2 = |max, now, stat| [("memory.max", max), ("memory.current", now), ("memory.stat", stat)];
        write("a/b", v2("max\n", "50\n", "anon 1\n"));
        assert_eq!(cgroup_left(root.path(), "0::/a/b\n"), None);
        write("a", v2("1000\n", "700\n", "anon 500\ninactive_file 200\n"));
        assert_eq!(cgroup_left(root.path(), "0::/a/b\n"), Some(500));
        assert_eq!(cgroup_left(root.path(), "0::/\n"), None);
        let v1 = [("memory.limit_in_bytes", "900"), ("memory.usage_in_bytes", "600"), ("memory.stat", "cache 5\n")];
        write("memory/x", v1);
        assert_eq!(cgroup_left(root.path(), "5:cpu,cpuacct:/x\n4:memory:/x\n0::/a\n"), Some(300));
        assert_eq!(cgroup_left(root.path(), "garbage"), None);
    }

    #[test]
    fn ticks_are_summed_without_guests() {
        let stat = "cpu  10 1 5 80 2 0 1 4 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(cpu_ticks(stat), Some((103, 4)));
        assert_eq!(cpu_ticks("cpu  10 1 5\n"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn pages_of_the_program_are_of_files_with_code() {
        let mapping = |head: &str, rss: u64, anonymous: u64| {
            format!("{head}\nSize: 99 kB\nRss: {rss} kB\nPss: 1 kB\nAnonymous: {anonymous} kB\nVmFlags: rd mr\n")
        };
        let text = [
            mapping("1000-2000 r--p 00000000 fe:00 7   /a b/harness", 10, 0),
            mapping("2000-3000 r-xp 00001000 fe:00 7   /a b/harness", 20, 4),
            mapping("3000-4000 rw-p 00002000 fe:00 7   /a b/harness", 5, 5),
            mapping("4000-5000 rw-p 00000000 00:00 0", 1000, 1000),
            mapping("5000-6000 r--s 00000000 fe:00 9   /models/m.gguf", 5000, 0),
            mapping("6000-7000 r-xp 00000000 00:00 0   [vdso]", 4, 0),
        ]
        .concat();
        assert_eq!(program_in(&text), Some(26 * 1024));
        assert_eq!((program_in(""), program_in("1000-2000 r--p 0 0 7 /x\nRss: 1 kB\n")), (None, None));
        assert_eq!(program_in("1000-2000 r-xp 0 0 7 /x\nRss: 1 MB\nAnonymous: 0 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_program_is_part_of_the_files() {
        let program = own_program().unwrap();
        // Exact as `smaps` is; the sums of `status` are late by what each CPU keeps to itself.
        let all = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let files = status_bytes(&all, "Rss").unwrap() - status_bytes(&all, "Anonymous").unwrap();
        assert!((100_000..=files).contains(&program), "{program} {files}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_peak_grows_with_what_is_touched() {
        let before = own_memory().peak.unwrap();
        let block = vec![1u8; 64 << 20];
        assert!(own_memory().peak.unwrap() >= before.max(64 << 20), "{}", block.len());
    }
}
