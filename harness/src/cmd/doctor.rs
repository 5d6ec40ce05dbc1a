//! `doctor`: what this machine can measure, what it can't, and the command that mends it.

use crate::machine;
use crate::probe::{counters::Counters, energy::EnergyMeter};
use anyhow::Result;
use std::path::PathBuf;

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// Look for energy counters below this folder instead of /sys
    #[arg(long)]
    sysfs_root: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Runs `doctor`: exit 0 when energy can be measured, 2 when it can't.
///
/// # Errors
/// Only if stdout fails.
pub fn run(args: &Args) -> Result<u8> {
    let meter = EnergyMeter::open(args.sysfs_root.as_deref());
    let mut machine = machine::describe(true);
    machine.energy = meter.describe();
    let build = machine::build();
    let warnings = machine::warnings(&machine, &build);
    let counters = Counters::open().read();
    if args.json {
        let object = serde_json::json!({
            "machine": machine, "build": build, "warnings": warnings, "counters": counters,
            "energy_available": meter.available(),
        });
        println!("{object}");
        return Ok(if meter.available() { 0 } else { 2 });
    }
    let unknown = || "unknown".to_owned();
    println!("CPU          {}, {} CPUs usable", machine.cpu, machine.cpus);
    println!("ISA paths    {}", machine.isa.join(", "));
    let caches: Vec<String> = machine.caches.iter().map(|(n, b)| format!("{n} {} KiB", b / 1024)).collect();
    println!("caches       {}", if caches.is_empty() { unknown() } else { caches.join(", ") });
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let size = |bytes: Option<u64>| bytes.map_or_else(unknown, |b| format!("{:.1} GB", gigabytes(b)));
    println!("memory       {}, {} available", size(machine.memory_bytes), size(machine.available_bytes));
    for b in &machine.bandwidth {
        println!(
            "DRAM read    {:.1} GB/s at {} thread(s), measured just now",
            gigabytes(b.bytes_per_second),
            b.threads
        );
    }
    println!("kernel       {}", machine.kernel);
    println!("hypervisor   {}", machine.virtualisation.clone().unwrap_or_else(|| "none seen".to_owned()));
    println!("governor     {}", machine.governor.clone().unwrap_or_else(|| "not readable (no cpufreq)".to_owned()));
    println!("build        {} profile, opt-level {}, {}", build.profile, build.opt_level, build.rustc);
    println!("energy       {}", machine.energy);
    for counter in counters {
        println!("counter      {}: {}", counter.name, counter.unavailable.unwrap_or_else(|| "available".to_owned()));
    }
    for warning in warnings {
        println!("warning      {warning}");
    }
    Ok(if meter.available() { 0 } else { 2 })
}
