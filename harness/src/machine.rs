//! Provenance: the machine a run is made on and how the program was built.

use crate::probe::{lockstep, procfs, roofline};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use suites::run::{Bandwidth, Build, Limit, Machine, Topology};

/// How this program was built.
pub fn build() -> Build {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: known(env!("BUILD_GIT")),
        git_dirty: env!("BUILD_DIRTY").parse().ok(),
        profile: env!("BUILD_PROFILE").to_owned(),
        opt_level: env!("BUILD_OPT_LEVEL").to_owned(),
        debug_assertions: cfg!(debug_assertions),
        rustc: env!("BUILD_RUSTC").to_owned(),
        target: env!("BUILD_TARGET").to_owned(),
    }
}

/// CPUs this process may use.
pub fn cpus() -> u32 {
    lockstep::allowed_cpus().len() as u32
}

/// Memory that can be taken without swapping, in bytes.
pub fn available_bytes() -> Option<u64> {
    procfs::available_bytes()
}

/// Thread counts in powers of two up to `cpus`, and `cpus` itself.
pub fn thread_counts(cpus: u32) -> Vec<u32> {
    suites::definition::Threads::PowersOfTwo.on(cpus)
}

/// Describes this machine, with what [`EnergyMeter::describe`] says of its energy; measures its limits too (one to two seconds a
/// thread count) when asked.
///
/// [`EnergyMeter::describe`]: crate::probe::energy::EnergyMeter::describe
pub fn describe(energy: String, measure_limits: bool) -> Machine {
    let cpus = cpus();
    let limits: Vec<Limit> = match measure_limits {
        true => thread_counts(cpus).into_iter().flat_map(|n| roofline::measure(n as usize)).collect(),
        false => Vec::new(),
    };
    let dram = |limit: &Limit| {
        let bytes_per_second = limit.per_second.filter(|_| limit.name == "dram")?;
        Some(Bandwidth { threads: limit.threads, bytes_per_second })
    };
    let mut system = sysinfo::System::new().ok();
    if let Some(system) = &mut system {
        system.refresh_memory();
        system.refresh_cpu_all();
    }
    let brand = system.as_ref().and_then(|s| Some(s.cpus().first()?.brand().trim().to_owned()));
    Machine {
        cpu: brand.filter(|b| !b.is_empty()).unwrap_or_else(|| "unknown".to_owned()),
        cpus,
        cores: sysinfo::System::physical_core_count().ok().map(|n| n as u32),
        topology: Some(topology(Path::new("/sys/devices/system"))),
        isa: crate::local::isas(),
        caches: caches(),
        memory_bytes: system.as_ref().map(sysinfo::System::total_memory).filter(|&bytes| bytes > 0),
        available_bytes: available_bytes(),
        bandwidth: limits.iter().filter_map(dram).collect(),
        limits,
        kernel: sysinfo::System::kernel_long_version().unwrap_or_else(|_| "unknown".to_owned()),
        virtualisation: virtualisation(),
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo: turbo(),
        load_milli: procfs::load_milli(),
        temperature_mc: temperature(),
        energy,
    }
}

/// Load average over one minute, in thousandths, beyond which a machine is called busy.
pub(crate) const BUSY_MILLI: u64 = 500;

/// What a reader must know before believing a figure.
pub fn warnings(machine: &Machine, build: &Build) -> Vec<String> {
    let mut warnings = Vec::new();
    if build.opt_level != "3" || build.debug_assertions {
        warnings.push(format!(
            "built with opt-level {} and debug assertions {}: speeds say nothing",
            build.opt_level, build.debug_assertions
        ));
    }
    if build.git_dirty == Some(true) {
        warnings.push("built from a working tree with uncommitted changes".to_owned());
    }
    if let Some(load) = machine.load_milli.filter(|&l| l > BUSY_MILLI) {
        warnings.push(format!("busy machine: load average {:.2} at the start", load as f64 / 1000.0));
    }
    if let Some(hypervisor) = &machine.virtualisation {
        warnings.push(format!("virtual machine ({hypervisor}): absolute times drift, compare ratios"));
    }
    if let Some(governor) = machine.governor.as_ref().filter(|g| *g != "performance") {
        warnings.push(format!("cpufreq governor is {governor}"));
    }
    warnings
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Sockets, NUMA nodes and threads a core, from `cpu/cpu*/topology` and `node/node*` below `root`.
fn topology(root: &Path) -> Topology {
    let numbered = |folder: &str, prefix: &str| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let is_one = |name: &String| {
            name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        entries.filter_map(|e| e.file_name().into_string().ok()).filter(is_one).collect::<Vec<_>>()
    };
    let cpus = numbered("cpu", "cpu");
    let of = |cpu: &String, file: &str| {
        let text = fs::read_to_string(root.join("cpu").join(cpu).join("topology").join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    };
    let count = |found: usize| u32::try_from(found).ok().filter(|&n| n > 0);
    let sockets: BTreeSet<String> = cpus.iter().filter_map(|cpu| of(cpu, "physical_package_id")).collect();
    // A mask in hexadecimal words: its bits are the threads of one core.
    let siblings = cpus.first().and_then(|cpu| of(cpu, "thread_siblings"));
    let bits = siblings.map(|mask| mask.chars().filter_map(|c| c.to_digit(16)).map(u32::count_ones).sum::<u32>());
    Topology {
        sockets: count(sockets.len()),
        numa_nodes: count(numbered("node", "node").len()),
        threads_per_core: bits.filter(|&n| n > 0),
    }
}

fn turbo() -> Option<bool> {
    let boost = read("/sys/devices/system/cpu/cpufreq/boost").map(|t| t == "1");
    boost.or_else(|| read("/sys/devices/system/cpu/intel_pstate/no_turbo").map(|t| t == "0"))
}

/// Data and unified caches of CPU 0, by the kernel's account.
fn caches() -> Vec<(String, u64)> {
    let mut caches = Vec::new();
    for index in 0..8 {
        let file = |name: &str| read(&format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
        let (Some(level), Some(kind), Some(size)) = (file("level"), file("type"), file("size")) else { continue };
        let kilobytes = size.strip_suffix('K').and_then(|k| k.parse::<u64>().ok());
        if let (Some(kilobytes), true) = (kilobytes, kind != "Instruction") {
            let suffix = if kind == "Data" { "d" } else { "" };
            caches.push((format!("L{level}{suffix}"), kilobytes * 1024));
        }
    }
    caches
}

#[cfg(target_arch = "x86_64")]
fn virtualisation() -> Option<String> {
    let info = raw_cpuid::CpuId::new().get_hypervisor_info()?;
    Some(format!("{:?}", info.identify()))
}

#[cfg(not(target_arch = "x86_64"))]
fn virtualisation() -> Option<String> {
    read("/sys/hypervisor/type")
}

/// The hottest sensor, in thousandths of a degree Celsius.
fn temperature() -> Option<i64> {
    let components = sysinfo::Components::new_with_refreshed_list().ok()?;
    let hottest = components
        .iter()
        .filter_map(sysinfo::Component::temperature)
        .fold(None, |a: Option<f32>, t| Some(a.map_or(t, |a| a.max(t))));
    hottest.filter(|t| t.is_finite()).map(|t| (f64::from(t) * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_is_counted_or_unknown() {
        let root = tempfile::tempdir().unwrap();
        let none = Topology { sockets: None, numa_nodes: None, threads_per_core: None };
        assert_eq!(topology(root.path()), none);
        for cpu in 0..8 {
            let folder = root.path().join(format!("cpu/cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("physical_package_id"), format!("{}\n", cpu / 4)).unwrap();
            fs::write(folder.join("thread_siblings"), format!("00000000,000000{:02x}\n", 3 << (cpu / 2 * 2))).unwrap();
        }
        for other in ["cpu/cpufreq", "cpu/cpuidle", "node/node0", "node/node1", "node/power"] {
            fs::create_dir_all(root.path().join(other)).unwrap();
        }
        let found = Topology { sockets: Some(2), numa_nodes: Some(2), threads_per_core: Some(2) };
        assert_eq!(topology(root.path()), found);
    }
}
