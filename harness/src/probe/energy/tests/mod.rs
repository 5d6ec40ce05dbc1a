//! Sources and ledger without hardware: trees as the kernel lays them out, a scripted clock, and scripted counters.

mod ledger;
mod trees;

use super::clock::{Clock, Moment};
use super::ledger::{Lap, Ledger};
use super::meter::Meter;
use super::source::{Domain, EnergySource, Info, MOST_WATTS, Part, Raw, Scale, Wraps};
use super::{EnergyMeter, Options, battery::Battery, hwmon::Hwmon, perf::Perf, powercap::Powercap};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use suites::record::{Energy, EnergyKind, SourceEnergy};

/// A clock that is set by hand, and sources that look at it.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Moment>>);

impl Script {
    fn pass(&self, seconds: f64) {
        let mut now = self.0.lock().unwrap();
        now.awake += Duration::from_secs_f64(seconds);
        now.all += Duration::from_secs_f64(seconds);
    }

    fn sleep(&self, seconds: f64) {
        self.0.lock().unwrap().all += Duration::from_secs_f64(seconds);
    }
}

impl Clock for Script {
    fn now(&self) -> Moment {
        *self.0.lock().unwrap()
    }
}

/// Gives what it is told to.
#[derive(Clone)]
struct Told(Arc<Mutex<Vec<Result<Raw, String>>>>, Info);

impl EnergySource for Told {
    fn info(&self) -> &Info {
        &self.1
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        self.0.lock().unwrap().clone()
    }
}

impl Told {
    fn one(scale: Scale) -> Told {
        let domain = Domain { name: "package-0".to_owned(), part: Part::Counted, scale };
        let refresh = Duration::from_millis(1);
        let info = Info { name: "told".to_owned(), kind: EnergyKind::Measured, domains: vec![domain], refresh };
        Told(Arc::new(Mutex::new(vec![Ok(Raw::Count(0))])), info)
    }

    fn counter(range: u64) -> Told {
        Told::one(Scale::Counter { unit_uj: 1.0, wraps: Wraps::After { range, most_watts: MOST_WATTS } })
    }

    fn say(&self, value: Result<Raw, &str>) {
        *self.0.lock().unwrap() = vec![value.map_err(str::to_owned)];
    }

    fn ledger(&self, clock: &Script) -> Ledger {
        Ledger::new(Box::new(clock.clone()), vec![Box::new(self.clone())])
    }
}

fn below(root: &Path) -> Options {
    Options { sysfs_root: Some(root.to_owned()), ..Options::default() }
}

fn only(lap: &Lap) -> &SourceEnergy {
    let [source] = lap.sources.as_slice() else { panic!("{lap:?}") };
    source
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

fn zone(root: &Path, folder: &str, name: &str, energy: u64, range: u64) {
    let (energy, range) = (energy.to_string(), range.to_string());
    let folder = format!("class/powercap/{folder}");
    let file = |file| format!("{folder}/{file}");
    let files = [
        (file("name"), name),
        (file("energy_uj"), &energy),
        (file("max_energy_range_uj"), &range),
        (file("enabled"), "1"),
    ];
    write(root, &files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
}

const INTEL: u64 = 262_143_328_850;
const AMD: u64 = 65_532_610_987;

/// A laptop: one package with cores and graphics, psys, and the package once more by MMIO.
fn laptop(root: &Path, joules: u64) {
    let uj = joules * 1_000_000;
    write(root, &[("class/powercap/intel-rapl/enabled", "1")]);
    zone(root, "intel-rapl/intel-rapl:0", "package-0", uj, INTEL);
    zone(root, "intel-rapl/intel-rapl:0/intel-rapl:0:0", "core", uj / 2, INTEL);
    zone(root, "intel-rapl/intel-rapl:0/intel-rapl:0:1", "uncore", uj / 10, INTEL);
    zone(root, "intel-rapl/intel-rapl:1", "psys", uj * 2, INTEL);
    zone(root, "intel-rapl-mmio/intel-rapl-mmio:0", "package-0", uj, INTEL);
}

fn ledger_of(root: &Path, clock: &Script) -> Ledger {
    let source = Powercap::open(root).unwrap_or_else(|missing| panic!("{missing:?}"));
    Ledger::new(Box::new(clock.clone()), vec![Box::new(source)])
}
