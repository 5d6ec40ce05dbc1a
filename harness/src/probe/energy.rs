//! Energy counters: the kernel's powercap tree (RAPL). Where there is none, the reason and the remedy are kept.
//!
//! The `powercap` crate finds the zones and reads the counters; names, psys against packages, and wraps are handled
//! here, as the crate does neither (its `total_energy` adds parents to their children and psys to packages).

use powercap::{IntelRapl, PowerCap};
use std::path::{Path, PathBuf};
use suites::record::{DomainEnergy, Energy, Joules};

/// Where Linux keeps the powercap tree below the sysfs root.
const POWERCAP: &str = "class/powercap";

/// One counter.
struct Zone {
    domain: String,
    /// Counts towards the total: a package, never its children, never psys beside packages.
    counted: bool,
    /// The counter wraps after this value; `None` where it can't be read.
    range_uj: Option<u64>,
    key: Key,
}

#[derive(Clone, Copy)]
enum Key {
    Socket(u8),
    Domain(u8, u8),
}

/// An energy source that can be read, or the reason why there is none.
pub struct EnergyMeter {
    source: Result<Source, String>,
}

struct Source {
    rapl: IntelRapl,
    zones: Vec<Zone>,
}

/// Counter values at one moment.
pub struct Reading(Result<Vec<u64>, String>);

impl EnergyMeter {
    /// Looks for a powercap tree below `sysfs_root` (`/sys` when `None`).
    pub fn open(sysfs_root: Option<&Path>) -> EnergyMeter {
        let root = sysfs_root.unwrap_or(Path::new("/sys")).join(POWERCAP);
        EnergyMeter { source: Source::open(&root) }
    }

    /// One line: the domains found, or why there are none and what to do about it.
    pub fn describe(&self) -> String {
        match &self.source {
            Ok(source) => {
                let names: Vec<&str> = source.zones.iter().map(|z| z.domain.as_str()).collect();
                format!("powercap: {}", names.join(", "))
            }
            Err(reason) => format!("unavailable: {reason}"),
        }
    }

    /// Whether joules can be measured.
    pub fn available(&self) -> bool {
        self.source.is_ok()
    }

    /// Reads every counter.
    pub fn read(&self) -> Reading {
        Reading(self.source.as_ref().map_err(Clone::clone).and_then(Source::read))
    }

    /// Energy between two readings, `window_ns` apart, in which `tokens` tokens were processed.
    pub fn between(&self, before: &Reading, after: &Reading, window_ns: u64, tokens: u64) -> Energy {
        let energy = || -> Result<Joules, String> {
            let source = self.source.as_ref().map_err(Clone::clone)?;
            let (before, after) = (before.0.as_ref().map_err(Clone::clone)?, after.0.as_ref().map_err(Clone::clone)?);
            let mut domains = Vec::new();
            let mut total_uj = 0;
            for ((zone, &b), &a) in source.zones.iter().zip(before).zip(after) {
                let energy_uj = difference(b, a, zone.range_uj).ok_or_else(|| {
                    format!("{}: counter fell from {b} to {a} uJ and its range is unknown", zone.domain)
                })?;
                total_uj += if zone.counted { energy_uj } else { 0 };
                domains.push(DomainEnergy { domain: zone.domain.clone(), energy_uj });
            }
            Ok(Joules { source: "powercap".to_owned(), total_uj, domains, window_ns, tokens })
        };
        match energy() {
            Ok(joules) => Energy::Measured(joules),
            Err(reason) => Energy::Unavailable { reason },
        }
    }
}

/// Microjoules from `before` to `after` on a counter that wraps at `range`; `None` if it fell and the range is unknown.
fn difference(before: u64, after: u64, range: Option<u64>) -> Option<u64> {
    match after.checked_sub(before) {
        Some(difference) => Some(difference),
        None => Some(range?.checked_sub(before)? + after),
    }
}

impl Source {
    fn open(root: &Path) -> Result<Source, String> {
        let control = root.join("intel-rapl");
        let tree = PowerCap::try_from(root)
            .map_err(|_| format!("no powercap tree at {} (no RAPL, or a guest without it)", control.display()))?;
        let mut zones = Vec::new();
        for (&id, socket) in &tree.intel_rapl.sockets {
            let folder = control.join(format!("intel-rapl:{id:x}"));
            let name = zone_name(&folder)?;
            let readable = |error: powercap::ReadError| unreadable(&folder.join("energy_uj"), &error);
            socket.energy().map_err(readable)?;
            let package = name.starts_with("package");
            let range_uj = socket.max_energy_range().ok();
            zones.push(Zone { domain: name.clone(), counted: package, range_uj, key: Key::Socket(id) });
            for (&sub, domain) in &socket.domains {
                let sub_name = domain.name().map_err(|e| format!("{}: {e:?}", folder.display()))?;
                let file = folder.join(format!("intel-rapl:{id:x}:{sub:x}")).join("energy_uj");
                domain.energy().map_err(|error| unreadable(&file, &error))?;
                let range_uj = domain.max_energy_range().ok();
                let domain = format!("{name}/{}", sub_name.trim());
                zones.push(Zone { domain, counted: false, range_uj, key: Key::Domain(id, sub) });
            }
        }
        if zones.is_empty() {
            return Err(format!("{} has no zones", control.display()));
        }
        if !zones.iter().any(|z| z.counted) {
            // No package: psys, where it is all there is, stands for the machine.
            zones.iter_mut().filter(|z| matches!(z.key, Key::Socket(_))).for_each(|z| z.counted = true);
        }
        zones.sort_by(|a, b| a.domain.cmp(&b.domain));
        Ok(Source { rapl: tree.intel_rapl, zones })
    }

    fn read(&self) -> Result<Vec<u64>, String> {
        let one = |zone: &Zone| {
            let value = match zone.key {
                Key::Socket(id) => self.rapl.sockets[&id].energy(),
                Key::Domain(id, sub) => self.rapl.sockets[&id].domains[&sub].energy(),
            };
            value.map_err(|e| format!("{}: {e:?}", zone.domain))
        };
        self.zones.iter().map(one).collect()
    }
}

fn zone_name(folder: &Path) -> Result<String, String> {
    let path: PathBuf = folder.join("name");
    let name = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(name.trim().to_owned())
}

/// `energy_uj` is readable by root alone since CVE-2020-8694: says so, with the command that grants all zones at once.
fn unreadable(path: &Path, error: &powercap::ReadError) -> String {
    let below = path.ancestors().find(|folder| folder.ends_with("intel-rapl")).unwrap_or(path);
    let grant = format!("find -L {} -maxdepth 3 -name energy_uj -exec chmod a+r {{}} +", below.display());
    format!("{} can't be read ({error:?}); as root: {grant}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn zone(root: &Path, path: &str, name: &str, energy: u64, range: u64) {
        let folder = root.join(POWERCAP).join("intel-rapl").join(path);
        fs::create_dir_all(&folder).unwrap();
        for (file, value) in [
            ("name", name.to_owned()),
            ("energy_uj", energy.to_string()),
            ("max_energy_range_uj", range.to_string()),
            ("enabled", "1".to_owned()),
        ] {
            fs::write(folder.join(file), value + "\n").unwrap();
        }
    }

    fn laptop(energy: u64) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(POWERCAP).join("intel-rapl")).unwrap();
        fs::write(root.path().join(POWERCAP).join("intel-rapl/enabled"), "1\n").unwrap();
        set(root.path(), energy);
        root
    }

    fn set(root: &Path, energy: u64) {
        zone(root, "intel-rapl:0", "package-0", energy, 10_000);
        zone(root, "intel-rapl:0/intel-rapl:0:0", "core", energy / 2, 10_000);
        zone(root, "intel-rapl:1", "psys", energy * 2, 100_000);
    }

    #[test]
    fn packages_alone_make_the_total() {
        let root = laptop(1000);
        let meter = EnergyMeter::open(Some(root.path()));
        assert_eq!(meter.describe(), "powercap: package-0, package-0/core, psys");
        let before = meter.read();
        set(root.path(), 1600);
        let Energy::Measured(joules) = meter.between(&before, &meter.read(), 5, 7) else { panic!("readable") };
        assert_eq!((joules.total_uj, joules.tokens, joules.window_ns), (600, 7, 5));
        let domains: Vec<u64> = joules.domains.iter().map(|d| d.energy_uj).collect();
        assert_eq!(domains, [600, 300, 1200]);
    }

    #[test]
    fn a_wrap_is_undone_at_the_zones_own_range() {
        assert_eq!(difference(9_000, 500, Some(10_000)), Some(1_500));
        assert_eq!(difference(9_000, 500, None), None);
        assert_eq!(difference(5, 5, None), Some(0));
    }

    #[test]
    fn a_failed_read_is_no_zero() {
        let root = laptop(1000);
        let meter = EnergyMeter::open(Some(root.path()));
        let before = meter.read();
        fs::write(root.path().join(POWERCAP).join("intel-rapl/intel-rapl:0/energy_uj"), "garbage").unwrap();
        let energy = meter.between(&before, &meter.read(), 5, 7);
        assert!(matches!(energy, Energy::Unavailable { ref reason } if reason.contains("package-0")), "{energy:?}");
    }

    #[test]
    fn no_tree_says_where_it_was_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let meter = EnergyMeter::open(Some(root.path()));
        assert!(!meter.available());
        assert!(meter.describe().contains("class/powercap/intel-rapl"), "{}", meter.describe());
    }
}
