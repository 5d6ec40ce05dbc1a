//! `doctor`: what this machine can measure, what it can't, and the command that mends it.

use super::say;
use crate::machine;
use crate::probe::energy::arithmetic::Tally;
use crate::probe::energy::source::{Domain, Info, Missing, Part, Scale};
use crate::probe::energy::{EnergyMeter, Options};
use crate::probe::facts::{Fact, Facts};
use crate::probe::{counters::Counters, procfs};
use anyhow::Result;
use suites::run::{Build, Machine};

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Runs `doctor`: exit 0 when energy can be measured, 2 when it can't.
///
/// # Errors
/// Only if stdout fails.
pub fn run(args: &Args) -> Result<u8> {
    let meter = EnergyMeter::of_engine(&args.options, &Tally::default());
    let (machine, steal) = procfs::steal_share(|| machine::describe(meter.describe(), true));
    let build = machine::build();
    let warnings = machine::warnings(&machine, &build);
    let mut counters = Counters::open();
    counters.start();
    counters.stop();
    let counters = counters.read();
    let facts = facts(&Facts::of_machine(args.options.sysfs_root.as_deref()));
    if args.json {
        let object = serde_json::json!({
            "machine": machine, "build": build, "warnings": warnings, "counters": counters,
            "energy_available": meter.available(), "energy": sources(&meter), "steal_share": steal,
            "facts": facts.iter().map(fact_object).collect::<Vec<_>>(),
        });
        say(object)?;
        return Ok(if meter.available() { 0 } else { 2 });
    }
    say(report(&machine, &build, steal))?;
    for line in energy_lines(&meter) {
        say(line)?;
    }
    for counter in counters {
        let state = counter.unavailable.unwrap_or_else(|| "available".to_owned());
        say(format_args!("counter      {}: {state}", counter.name))?;
    }
    for fact in &facts {
        say(fact_line(fact))?;
    }
    for warning in warnings {
        say(format_args!("warning      {warning}"))?;
    }
    Ok(if meter.available() { 0 } else { 2 })
}

/// What a record tells of each stage, as it is now.
fn facts(facts: &Facts) -> Vec<Fact> {
    let peak = procfs::own_memory().peak.and_then(|bytes| i64::try_from(bytes).ok());
    let peak = match procfs::reset_peak() {
        Err(error) => Err(format!("/proc/self/clear_refs: {error}: no stage's peak can be told from those before it")),
        Ok(()) => peak.ok_or("/proc/self/status: no VmHWM that can be read".to_owned()),
    };
    std::iter::once(Fact { name: "peak_rss_bytes", value: peak }).chain(facts.told()).collect()
}

fn fact_object(fact: &Fact) -> serde_json::Value {
    serde_json::json!({ "name": fact.name, "value": fact.value.as_ref().ok(), "unavailable": fact.value.as_ref().err() })
}

/// A fact in the unit that its name ends with, or why there is none.
fn fact_line(fact: &Fact) -> String {
    let (name, unit) = fact.name.rsplit_once('_').unwrap_or((fact.name, ""));
    let (name, unit, digits, per) = match unit {
        "bytes" => (name, " MB", 1, 1e6),
        "ns" => (name, " s", 2, 1e9),
        "milli" => (name, "", 2, 1e3),
        "khz" => (name, " MHz", 0, 1e3),
        "mc" => (name, " C", 1, 1e3),
        _ => (fact.name, "", 0, 1.0),
    };
    let name = name.replace('_', " ");
    match &fact.value {
        Ok(value) => format!("fact         {name}: {:.digits$}{unit}", *value as f64 / per),
        Err(reason) => format!("fact         no {name}: {reason}"),
    }
}

/// Every source, found or not.
fn sources(meter: &EnergyMeter) -> Vec<serde_json::Value> {
    let period = meter.meter().period().as_millis();
    let found = |info: &Info| {
        let domain = |domain: &Domain| {
            let left = match &domain.part {
                Part::Counted => None,
                Part::Left(why) => Some(why),
            };
            let gap = domain.longest_gap(info.refresh).map(|gap| gap.as_secs_f64());
            serde_json::json!({
                "name": domain.name, "counted": left.is_none(), "left_out": left, "longest_gap_s": gap,
                "unit": if domain.scale == Scale::Power { "W" } else { "J" },
            })
        };
        let domains: Vec<_> = info.domains.iter().map(domain).collect();
        serde_json::json!({
            "source": info.name, "kind": info.kind, "available": true, "domains": domains,
            "refresh_ms": info.refresh.as_secs_f64() * 1e3, "read_every_ms": period,
        })
    };
    let missing = |(name, missing): &(&str, Missing)| {
        serde_json::json!({
            "source": name, "available": false, "reason": missing.reason, "remedy": missing.remedy,
        })
    };
    meter.meter().infos().iter().map(found).chain(meter.missing().iter().map(missing)).collect()
}

/// The same for reading.
fn energy_lines(meter: &EnergyMeter) -> Vec<String> {
    let mut lines = Vec::new();
    for info in meter.meter().infos() {
        lines.push(format!("energy       {} ({}):", info.name, info.kind.name()));
        lines.extend(info.domains.iter().map(|domain| match &domain.part {
            Part::Counted => format!("               {}, counted", domain.name),
            Part::Left(why) => format!("               {}, not counted: {why}", domain.name),
        }));
    }
    for (name, missing) in meter.missing() {
        lines.push(format!("energy       no {name}: {}", missing.reason));
        lines.extend(missing.remedy.iter().map(|remedy| format!("               mended by: {remedy}")));
    }
    lines
}

/// What was found, a line each; unknown is said, never 0.
fn report(machine: &Machine, build: &Build, steal: Option<f64>) -> String {
    let unknown = || "unknown".to_owned();
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let size = |bytes: Option<u64>| bytes.map_or_else(unknown, gigabytes);
    let caches: Vec<String> = machine.caches.iter().map(|(n, b)| format!("{n} {} KiB", b / 1024)).collect();
    let steal = steal.map_or_else(unknown, |s| format!("{:.1} % of CPU time went to other guests just now", s * 100.0));
    let mut lines = vec![
        format!("CPU          {}, {} CPUs usable", machine.cpu, machine.cpus),
        format!("ISA paths    {}", machine.isa.join(", ")),
        format!("caches       {}", if caches.is_empty() { unknown() } else { caches.join(", ") }),
        format!("memory       {}, {} available", size(machine.memory_bytes), size(machine.available_bytes)),
    ];
    lines.extend(machine.bandwidth.iter().map(|b| {
        format!("DRAM read    {}/s at {} thread(s), measured just now", gigabytes(b.bytes_per_second), b.threads)
    }));
    let governor = machine.governor.clone().unwrap_or_else(|| "not readable (no cpufreq)".to_owned());
    lines.extend([
        format!("kernel       {}", machine.kernel),
        format!("hypervisor   {}", machine.virtualisation.clone().unwrap_or_else(|| "none seen".to_owned())),
        format!("governor     {governor}"),
        format!("steal        {steal}"),
        format!("build        {} profile, opt-level {}, {}", build.profile, build.opt_level, build.rustc),
    ]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_told_in_units_or_with_their_reason() {
        let line = |name, value| fact_line(&Fact { name, value });
        for (name, value, want) in [
            ("rss_anon_bytes", 12_345_678, "rss anon: 12.3 MB"),
            ("steal_ns", 1_500_000_000, "steal: 1.50 s"),
            ("load_milli", 1250, "load: 1.25"),
            ("frequency_khz", 2_499_600, "frequency: 2500 MHz"),
            ("temperature_mc", 63_500, "temperature: 63.5 C"),
            ("major_faults", 7, "major faults: 7"),
            ("throttled", 3, "throttled: 3"),
        ] {
            assert_eq!(line(name, Ok(value)), format!("fact         {want}"));
        }
        assert_eq!(line("throttled", Err("no file".to_owned())), "fact         no throttled: no file");
    }
}
