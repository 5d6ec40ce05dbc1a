//! Facts of each stage and counters of each thread, as a real worker's record has them on whatever machine this is.
#![cfg(target_os = "linux")]

use harness::probe::energy::EnergyMeter;
use harness::probe::facts::Facts;
use harness::probe::phases::Phases;
use harness::probe::procfs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use suites::Record;
use suites::record::{Energy, Stage};

const BLOCK: usize = 64 << 20;

fn harness(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harness")).current_dir(folder).args(arguments).output().unwrap()
}

/// Whether the kernel forgets a peak when asked; says why if not.
fn can_reset() -> bool {
    procfs::reset_peak().map_err(|error| eprintln!("skipped: /proc/self/clear_refs: {error}")).is_ok()
}

#[test]
fn a_records_stages_have_their_facts_and_its_threads_their_counters() {
    let folder = tempfile::tempdir().unwrap();
    let suite = "name = \"own\"\nabout = \"a test\"\nblocks = 1\nseed = 9\ntimeout = \"60s\"\nmin_window = \"300ms\"\n\
        [[group]]\nmodels = [\"125m\"]\nengines = [\"ternary\"]\nthreads = [2]\nworkloads = [\"tg16\"]\n";
    std::fs::write(folder.path().join("own.toml"), suite).unwrap();
    // A tree without any source of energy, frequency or temperature.
    std::fs::create_dir(folder.path().join("sys")).unwrap();
    let output =
        harness(folder.path(), &["suite", "./own.toml", "--sysfs-root", "sys", "--out", "out", "--name", "run"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let records = std::fs::read_to_string(folder.path().join("out/run/records.jsonl")).unwrap();
    let record: Record = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    let measured = record.measurement().unwrap();
    assert!(matches!(&measured.energy, Energy::Unavailable { reason } if reason.contains("powercap")), "{measured:?}");
    let stages: Vec<Stage> = measured.phases.iter().map(|phase| phase.stage).collect();
    assert_eq!(stages, [Stage::Load, Stage::Prefill, Stage::Decode]);
    for phase in &measured.phases {
        let facts = phase.facts.as_ref().unwrap();
        assert_eq!(phase.peak_rss_bytes.is_some(), can_reset(), "{phase:?}");
        assert!(phase.peak_rss_bytes <= measured.memory.peak_rss_bytes, "{phase:?}");
        assert!(facts.rss_anon_bytes > Some(1 << 20) && facts.rss_file_bytes.is_some(), "{phase:?}");
        assert!(facts.major_faults.is_some() && facts.steal_ns.is_some() && facts.load_milli.is_some(), "{phase:?}");
        // The root is the one given, not the machine's.
        assert_eq!((facts.frequency_khz, facts.temperature_mc, facts.throttled), (None, None, None), "{phase:?}");
    }
    // Each counter of the process is there of each thread too, and none that has no value.
    let names: Vec<&str> = measured.counters.iter().filter(|c| c.value.is_some()).map(|c| c.name.as_str()).collect();
    let numbers: Vec<u32> = measured.thread_counters.iter().map(|thread| thread.thread).collect();
    assert_eq!(numbers, if names.is_empty() { vec![] } else { vec![0, 1] });
    for thread in &measured.thread_counters {
        assert_eq!(thread.counters.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), names, "{thread:?}");
        assert!(thread.counters.iter().all(|c| c.value.is_some() && c.enabled_ns != Some(0)), "{thread:?}");
    }
    // No other threads work in the windows.
    let switches = measured.counters.iter().find(|c| c.name == "context-switches").unwrap();
    if let Some(all) = switches.value {
        let threads = measured.thread_counters.iter().flat_map(|thread| &thread.counters);
        let sum: u64 = threads.filter(|c| c.name == switches.name).filter_map(|c| c.value).sum();
        assert!(sum <= all && all <= 2 * sum + 100, "{sum} of {all}");
    }
}

#[test]
fn without_a_source_of_energy_a_stage_is_told_of_and_its_joules_are_not() {
    let meter = EnergyMeter::none("a test");
    let mut phases = Phases::new(&meter, Duration::from_secs(9), Facts::of_machine(None));
    phases.rest(Stage::IdleBefore);
    phases.begin();
    std::thread::sleep(Duration::from_millis(20));
    phases.end(Stage::Load, 0);
    phases.begin();
    phases.end(Stage::Decode, 16);
    assert_eq!(phases.energy(Stage::Decode), Energy::Unavailable { reason: "a test".to_owned() });
    assert_eq!(phases.energy(Stage::Prefill), Energy::Unavailable { reason: "a test".to_owned() });
    let found = phases.into_records();
    assert_eq!(
        found.iter().map(|phase| (phase.stage, phase.tokens)).collect::<Vec<_>>(),
        [(Stage::Load, 0), (Stage::Decode, 16)]
    );
    assert!(found[0].window_ns >= 20_000_000 && found.iter().all(|phase| phase.sources.is_empty()), "{found:?}");
    assert!(found.iter().all(|phase| phase.facts.as_ref().is_some_and(|facts| facts.rss_anon_bytes.is_some())));
}

/// Here, where the other tests hold little memory themselves, and not beside those that do.
#[test]
fn a_peak_is_forgotten_when_asked() {
    if !can_reset() {
        return;
    }
    let peak = || procfs::own_memory().peak.unwrap();
    let block = vec![1u8; BLOCK];
    assert!(std::hint::black_box(&block)[BLOCK - 1] == 1 && peak() >= BLOCK as u64);
    let before = peak();
    drop(block);
    procfs::reset_peak().unwrap();
    let after = peak();
    assert!(after + BLOCK as u64 / 2 < before, "{after} after {before}");
}

#[test]
fn doctor_tells_each_fact_or_the_file_it_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("sys/class/thermal/thermal_zone0/temp", "41500\n");
    let told = harness(folder.path(), &["doctor", "--sysfs-root", "sys", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let of = |name: &str| told["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == name).unwrap();
    assert_eq!((&of("temperature_mc")["value"], &of("temperature_mc")["unavailable"]), (&41_500.into(), &().into()));
    assert!(of("rss_anon_bytes")["value"].as_u64() > Some(100_000), "{told:#}");
    for (name, file) in [("frequency_khz", "cpufreq/scaling_cur_freq"), ("throttled", "core_throttle_count")] {
        assert!(of(name)["value"].is_null(), "{told:#}");
        assert!(of(name)["unavailable"].as_str().unwrap().contains(file), "{told:#}");
    }
    let told = harness(folder.path(), &["doctor", "--sysfs-root", "sys"]);
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("fact         temperature: 41.5 C\n"), "{told}");
    assert!(told.contains("fact         no throttled: no sys/devices/system/cpu/cpu*/thermal_throttle/"), "{told}");
}
