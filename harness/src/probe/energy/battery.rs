//! What a battery gives while the machine runs on it: the whole machine's power, screen included.

use super::source::{Domain, EnergySource, Info, Missing, Part, Raw, Scale, number, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use suites::record::EnergyKind;

/// Where Linux keeps batteries below the root of sysfs.
const TREE: &str = "class/power_supply";
/// How often batteries tell something new, roughly: firmware decides.
const REFRESH: Duration = Duration::from_secs(1);

/// The machine's batteries.
pub struct Battery {
    info: Info,
    folders: Vec<PathBuf>,
}

impl Battery {
    /// Looks for batteries of the machine (not of its mouse) below `root`.
    ///
    /// # Errors
    /// None, none that tells its power, or none that is being discharged: on mains, a battery does not measure.
    pub fn open(root: &Path) -> Result<Battery, Missing> {
        let tree = root.join(TREE);
        let mut folders: Vec<PathBuf> = fs::read_dir(&tree).into_iter().flatten().flatten().map(|e| e.path()).collect();
        folders.retain(|folder| {
            let is = |file: &str, value: &str| text(&folder.join(file)).is_ok_and(|found| found == value);
            is("type", "Battery") && !is("scope", "Device")
        });
        folders.sort();
        if folders.is_empty() {
            return Err(Missing::new(format!("no battery at {}", tree.display())));
        }
        for folder in &folders {
            read(folder).map_err(|reason| Missing {
                remedy: reason.contains("not discharging").then(|| "unplug the mains, and measure again".to_owned()),
                reason,
            })?;
        }
        let domain = |folder: &PathBuf| Domain {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            part: Part::Counted,
            scale: Scale::Power,
        };
        let domains = folders.iter().map(domain).collect();
        let info = Info { name: "battery".to_owned(), kind: EnergyKind::Measured, domains, refresh: REFRESH };
        Ok(Battery { info, folders })
    }
}

impl EnergySource for Battery {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        self.folders.iter().map(|folder| read(folder)).collect()
    }
}

/// Watts of a battery that is being discharged; of one of several that is idle meanwhile, 0.
fn read(folder: &Path) -> Result<Raw, String> {
    let status = text(&folder.join("status"))?;
    match status.as_str() {
        "Discharging" => {}
        // Of two batteries one is used up before the other: this one then truly gives nothing.
        "Not charging" if power(folder) == Ok(0.0) => return Ok(Raw::Watts(0.0)),
        _ => return Err(format!("{}: {status}, not discharging: the mains' power is not seen", folder.display())),
    }
    power(folder).map(Raw::Watts)
}

fn power(folder: &Path) -> Result<f64, String> {
    let micro = |file: &str| number::<i64>(&folder.join(file)).map(|value| value.unsigned_abs() as f64 / 1e6);
    // Drivers give current as negative while discharging, or not.
    match micro("power_now") {
        Ok(watts) => Ok(watts),
        Err(reason) => {
            let amps = micro("current_now").map_err(|other| format!("{reason}; {other}"))?;
            Ok(amps * micro("voltage_now")?)
        }
    }
}
