//! RAPL by the kernel's powercap tree: `class/powercap/<control type>:<zone>[:<zone>]`, of Intel and AMD alike.
//!
//! The `powercap` crate knows neither names of sockets nor wraps, adds parents to their children, and leaves out zones that
//! it can't read; it is the reference that this reader is tested against.

use super::source::{Domain, EnergySource, Info, MOST_WATTS, Missing, Part, Raw, Scale, Wraps, number, text};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use suites::record::EnergyKind;

/// Where Linux keeps the tree below the root of sysfs.
const TREE: &str = "class/powercap";
/// How deep zones lie below it: control type, package, its part.
const DEPTH: usize = 3;
/// When zones are opened, counters of two dies are taken for one if they differ by no more than the package can have used between
/// their two readings, and this.
const ALIAS_SLACK: Duration = Duration::from_millis(20);
/// Microjoules by which they may then differ in any reading, however it was held up.
const ALIAS_UJ: u64 = (MOST_WATTS * 1e6 / 10.0) as u64;
/// Readings of a file that is empty while its writer replaces the contents.
const TRIES: u32 = 5;
/// How many times a zone's own limit its power may come to.
pub(crate) const OVER_LIMIT: f64 = 1.5;

/// A zone as found.
#[derive(Debug)]
struct Zone {
    folder: PathBuf,
    /// `intel-rapl`, `intel-rapl-mmio`.
    control: String,
    /// Numbers after it.
    place: Vec<u32>,
    /// What the kernel calls it: `package-0`, `dram`.
    name: String,
}

/// The zones of a tree.
pub struct Powercap {
    info: Info,
    folders: Vec<PathBuf>,
    /// Domains of one counter: the one that counts, another that must go on following it, and the counter's range.
    aliases: Vec<(usize, usize, u64)>,
}

impl Powercap {
    /// Looks for zones below `root`, in `class/powercap` or, as a host passes a tree into a guest, in `root` itself.
    ///
    /// # Errors
    /// No zone, or one that counts can't be read.
    pub fn open(root: &Path) -> Result<Powercap, Missing> {
        let tree = root.join(TREE);
        let mut zones = zones(&tree);
        if zones.is_empty() {
            zones = self::zones(root);
        }
        if zones.is_empty() {
            let reason =
                format!("no powercap tree at {} (no RAPL, or a guest without it)", tree.join("intel-rapl").display());
            return Err(Missing::new(reason));
        }
        let (mut domains, mut folders, mut values): (Vec<Domain>, Vec<PathBuf>, Vec<(u64, Instant)>) =
            Default::default();
        for zone in &zones {
            let domain = Domain { name: path(zone, &zones), part: part(zone, &zones), scale: scale(&zone.folder) };
            match value(&zone.folder) {
                Ok(value) => {
                    domains.push(domain);
                    folders.push(zone.folder.clone());
                    values.push((value, Instant::now()));
                }
                // What is not counted can be missed.
                Err(_) if domain.part != Part::Counted => {}
                Err(reason) => return Err(unreadable(reason, &zone.folder)),
            }
        }
        let aliases = aliases(&mut domains, &values);
        let info = Info {
            name: "powercap".to_owned(),
            kind: EnergyKind::Measured,
            domains,
            refresh: Duration::from_millis(1),
        };
        Ok(Powercap { info, folders, aliases })
    }
}

impl EnergySource for Powercap {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        let values: Vec<Result<u64, String>> = self.folders.iter().map(|folder| value(folder)).collect();
        let mut out: Vec<Result<Raw, String>> = values.iter().map(|value| value.clone().map(Raw::Count)).collect();
        for &(counted, other, range) in &self.aliases {
            if let (Ok(a), Ok(b)) = (&values[counted], &values[other])
                && apart(*a, *b, range) > ALIAS_UJ
            {
                let name = &self.info.domains[other].name;
                out[counted] = Err(format!("{name} counts on its own, and was taken for the same counter"));
            }
        }
        out
    }
}

/// Folders with a counter below `root`, in the order of their names; each once, however many links lead to it.
fn zones(root: &Path) -> Vec<Zone> {
    let (mut found, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![(root.to_owned(), 0)]);
    while let Some((folder, depth)) = open.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for entry in entries {
            let file_name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (control, place) = match file_name.split_once(':') {
                Some((control, rest)) => (control, rest.split(':').map(|n| u32::from_str_radix(n, 16).ok()).collect()),
                None => (file_name.as_str(), Some(Vec::new())),
            };
            let (Some(place), true) = (place, control.starts_with("intel-rapl") || control.starts_with("amd")) else {
                continue;
            };
            if depth + 1 < DEPTH && entry.is_dir() {
                open.push((entry.clone(), depth + 1));
            }
            let mut once = || seen.insert(fs::canonicalize(&entry).unwrap_or_else(|_| entry.clone()));
            if !place.is_empty() && entry.join("energy_uj").exists() && once() {
                let name = text(&entry.join("name")).unwrap_or_default();
                found.push(Zone { folder: entry, control: control.to_owned(), place, name });
            }
        }
    }
    found.sort_by(|a, b| (&a.control, &a.place).cmp(&(&b.control, &b.place)));
    found
}

impl Zone {
    fn is_package(&self) -> bool {
        self.place.len() == 1 && self.name.starts_with("package")
    }

    fn parent<'a>(&self, zones: &'a [Zone]) -> Option<&'a Zone> {
        let above = self.place.split_last()?.1;
        zones.iter().find(|zone| zone.control == self.control && zone.place == above)
    }
}

/// A zone's name with those above it: `package-0/core`, `intel-rapl-mmio/package-0`.
fn path(zone: &Zone, zones: &[Zone]) -> String {
    let own = if zone.name.is_empty() { format!("zone-{:?}", zone.place) } else { zone.name.clone() };
    match zone.parent(zones) {
        Some(parent) => format!("{}/{own}", path(parent, zones)),
        None if zone.control == "intel-rapl" => own,
        None => format!("{}/{own}", zone.control),
    }
}

/// What a zone adds to the total: packages, and memory beside them. Parts of a package are in it, psys holds packages, and
/// a package's other register is the same energy again.
fn part(zone: &Zone, zones: &[Zone]) -> Part {
    let left = |why: String| Part::Left(why);
    let earlier = |other: &&Zone| (&other.control, &other.place) < (&zone.control, &zone.place);
    if let Some(parent) = zone.parent(zones) {
        let beside = zone.name == "dram" && part(parent, zones) == Part::Counted;
        return if beside { Part::Counted } else { left(format!("inside {}", path(parent, zones))) };
    }
    if zone.is_package() {
        let twin = zones.iter().filter(earlier).find(|other| other.is_package() && other.name == zone.name);
        return twin.map_or(Part::Counted, |twin| left(format!("the same energy as {}", path(twin, zones))));
    }
    if zones.iter().any(Zone::is_package) {
        return left("it holds the packages".to_owned());
    }
    let first = zones.iter().filter(earlier).find(|other| other.place.len() == 1);
    first.map_or(Part::Counted, |first| left(format!("beside {}", first.name)))
}

fn scale(folder: &Path) -> Scale {
    let range: Result<u64, String> = number(&folder.join("max_energy_range_uj"));
    let wraps = match range {
        Ok(range) if range > 0 => Wraps::After { range, most_watts: most_watts(folder) },
        Ok(_) => Wraps::Unknown("it is given as 0".to_owned()),
        Err(reason) => Wraps::Unknown(reason),
    };
    Scale::Counter { unit_uj: 1.0, wraps }
}

/// The highest power that is reckoned with: [`MOST_WATTS`], or [`OVER_LIMIT`] times the zone's own limit where that is higher.
fn most_watts(folder: &Path) -> f64 {
    let files = (0..3).flat_map(|n| ["max_power_uw", "power_limit_uw"].map(|file| format!("constraint_{n}_{file}")));
    let limits = files.filter_map(|file| number::<u64>(&folder.join(file)).ok());
    // A limit beyond 10 kW is no limit but a register that was never set.
    let highest = limits.filter(|&limit| limit < 10_000_000_000).max().unwrap_or(0);
    MOST_WATTS.max(OVER_LIMIT * highest as f64 / 1e6)
}

fn value(folder: &Path) -> Result<u64, String> {
    let file = folder.join("energy_uj");
    for _ in 1..TRIES {
        if text(&file)?.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        } else {
            break;
        }
    }
    number(&file)
}

/// Dies of one package whose counters are one: AMD's registers count the package, and are listed once a die. Only the first
/// of them stays counted.
fn aliases(domains: &mut [Domain], values: &[(u64, Instant)]) -> Vec<(usize, usize, u64)> {
    let die_of = |name: &str| name.split_once("-die-").map(|(package, _)| package.to_owned());
    let mut found = Vec::new();
    for other in 0..domains.len() {
        let Some(package) = die_of(&domains[other].name).filter(|_| domains[other].part == Part::Counted) else {
            continue;
        };
        let first = (0..other)
            .find(|&i| domains[i].part == Part::Counted && die_of(&domains[i].name).as_ref() == Some(&package));
        let (Some(first), Scale::Counter { wraps: Wraps::After { range, .. }, .. }) = (first, &domains[other].scale)
        else {
            continue;
        };
        let range = *range;
        let ((value, then), (second, now)) = (values[first], values[other]);
        let most_uj = MOST_WATTS * 1e6 * (now - then + ALIAS_SLACK).as_secs_f64();
        if apart(value, second, range) as f64 <= most_uj {
            domains[other].part = Part::Left(format!("the same counter as {}", domains[first].name));
            found.push((first, other, range));
        }
    }
    found
}

/// How far two values of a counter that wraps are apart, the shorter way.
fn apart(a: u64, b: u64, range: u64) -> u64 {
    let difference = a.abs_diff(b);
    difference.min(range.saturating_sub(difference))
}

/// `energy_uj` is readable by root alone since CVE-2020-8694: says so, with the command that grants all zones at once.
fn unreadable(reason: String, folder: &Path) -> Missing {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let mode = fs::metadata(folder.join("energy_uj")).map(|file| (file.permissions().mode() & 0o7777, file.uid()));
    let reason =
        mode.map_or(reason.clone(), |(mode, owner)| format!("{reason}: its mode is {mode:04o}, its owner {owner}"));
    let tree = folder.ancestors().find(|above| above.ends_with("powercap")).unwrap_or(folder);
    let now = format!("sudo find -L {} -maxdepth 3 -name energy_uj -exec chmod a+r {{}} +", tree.display());
    let grant = format!("sudo scripts/grant-rapl --apply (or, until the next boot: {now})");
    Missing { reason, remedy: Some(grant) }
}
