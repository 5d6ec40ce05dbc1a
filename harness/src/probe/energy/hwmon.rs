//! Sensors of boards by hwmon: INA power monitors on ARM boards, ACPI power meters, AMD's energy driver, SCMI.
//!
//! Of the kernel's hwmon devices, the ones that measure the machine or its processor are known by name; a graphics card's
//! or a drive's is its own, and no part of what a model on the processor costs.

use super::source::{Domain, EnergySource, Info, MOST_WATTS, Missing, Part, Raw, Scale, Wraps, number, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use suites::record::EnergyKind;

/// Where Linux keeps the devices below the root of sysfs.
const TREE: &str = "class/hwmon";
/// Channels of a device at most.
const CHANNELS: u32 = 32;
/// Channels of an INA3221 that have voltage and current of a rail: the ones above are shunts' voltages, and sums.
const RAILS: u32 = 3;
/// Labels of a board's or a module's input, which feeds all other rails that INA monitors measure there (NVIDIA's Jetson
/// boards; those of the AGX series have none, and their rails add up).
const INPUTS: [&str; 4] = ["VDD_IN", "VIN", "POM_5V_IN", "5V_IN"];
/// A rail that another one feeds (Jetson AGX Orin).
const FED: (&str, &str) = ("VDDQ_VDD2_1V8AO", "VIN_SYS_5V0");
/// Label of a channel that is not connected.
const UNUSED: &str = "NC";

/// How a channel is read.
enum Channel {
    /// `energyN_input`, microjoules.
    Energy(PathBuf),
    /// `powerN_input` or `powerN_average`, microwatts.
    Power(PathBuf),
    /// `inN_input` in millivolts times `currN_input` in milliamperes.
    VoltsTimesAmps(PathBuf, PathBuf),
}

/// Channels of all devices that are known.
pub struct Hwmon {
    info: Info,
    channels: Vec<Channel>,
}

impl Hwmon {
    /// Looks for devices below `root`.
    ///
    /// # Errors
    /// No device that measures machine or processor, or one that can't be read.
    pub fn open(root: &Path) -> Result<Hwmon, Missing> {
        let tree = root.join(TREE);
        let mut devices: Vec<PathBuf> = fs::read_dir(&tree).into_iter().flatten().flatten().map(|e| e.path()).collect();
        devices.sort();
        let (mut found, mut others, mut refresh) = (Vec::new(), Vec::new(), Duration::from_millis(1));
        for device in devices {
            let name = text(&device.join("name")).unwrap_or_default();
            if !is_known(&name) {
                others.push(name);
                continue;
            }
            let interval = |file: &str| number::<u64>(&device.join(file)).ok();
            let interval = interval("update_interval").max(interval("power1_average_interval"));
            refresh = refresh.max(Duration::from_millis(interval.unwrap_or(10).min(10_000)));
            found.extend(of_device(&device, &name).into_iter().map(|(label, channel)| (name.clone(), label, channel)));
        }
        let rails: Vec<String> =
            found.iter().filter(|(name, ..)| is_ina(name)).map(|(_, label, _)| label.clone()).collect();
        let (mut domains, mut channels): (Vec<Domain>, Vec<Channel>) = Default::default();
        for (name, label, channel) in found {
            let part = part(&name, &label, &rails);
            if let (Part::Counted, Err(reason)) = (&part, read(&channel)) {
                return Err(Missing::new(reason));
            }
            let full = format!("{name}/{label}");
            // Two monitors of the same kind and label stay apart.
            let again = domains.iter().filter(|d| d.name == full || d.name.starts_with(&format!("{full}#"))).count();
            let unique = if again > 0 { format!("{full}#{}", again + 1) } else { full };
            domains.push(Domain { name: unique, part, scale: scale(&channel) });
            channels.push(channel);
        }
        if !domains.iter().any(|domain| domain.part == Part::Counted) {
            let seen = if others.is_empty() { "no devices".to_owned() } else { format!("only {}", others.join(", ")) };
            return Err(Missing::new(format!(
                "no power sensor of the machine or its processor at {} ({seen})",
                tree.display()
            )));
        }
        let info = Info { name: "hwmon".to_owned(), kind: EnergyKind::Measured, domains, refresh };
        Ok(Hwmon { info, channels })
    }
}

impl EnergySource for Hwmon {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        self.channels.iter().map(read).collect()
    }
}

/// Drivers that measure machine or processor: INA219 to INA3221, `power_meter` (ACPI), `amd_energy`, `scmi_sensors`.
fn is_known(name: &str) -> bool {
    is_ina(name) || matches!(name, "power_meter" | "amd_energy" | "scmi_sensors")
}

fn is_ina(name: &str) -> bool {
    name.strip_prefix("ina").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The channels of a device with their labels: energy where it counts it, else power, else volts times amperes.
fn of_device(device: &Path, name: &str) -> Vec<(String, Channel)> {
    let file = |kind: &str, n: u32, what: &str| {
        let path = device.join(format!("{kind}{n}_{what}"));
        path.exists().then_some(path)
    };
    let label = |kind: &str, n: u32| {
        let label = file(kind, n, "label").and_then(|path| text(&path).ok()).filter(|label| !label.is_empty());
        label.unwrap_or_else(|| format!("{kind}{n}"))
    };
    let is_on = |kind: &str, n: u32| file(kind, n, "enable").and_then(|path| number::<u32>(&path).ok()) != Some(0);
    let all = || 1..=CHANNELS;
    let energy: Vec<_> =
        all().filter_map(|n| Some((label("energy", n), Channel::Energy(file("energy", n, "input")?)))).collect();
    if !energy.is_empty() {
        return energy;
    }
    let watts = |n| file("power", n, "input").or_else(|| file("power", n, "average"));
    let power: Vec<_> = all().filter_map(|n| Some((label("power", n), Channel::Power(watts(n)?)))).collect();
    if !power.is_empty() || !is_ina(name) {
        return power;
    }
    let rail = |n| Some((label("in", n), Channel::VoltsTimesAmps(file("in", n, "input")?, file("curr", n, "input")?)));
    let rails = (1..=RAILS).filter(|&n| is_on("in", n)).filter_map(rail);
    rails.filter(|(label, _)| label != UNUSED).collect()
}

/// A board's input holds its other rails, whichever of its INA monitors (whose labels are `rails`) measures them; of AMD's
/// energy driver, sockets hold cores.
fn part(name: &str, label: &str, rails: &[String]) -> Part {
    if name == "amd_energy" {
        let socket = label.starts_with("Esocket");
        return if socket { Part::Counted } else { Part::Left("inside a socket".to_owned()) };
    }
    let input = INPUTS.iter().find(|input| rails.iter().any(|rail| rail == *input));
    match input {
        _ if !is_ina(name) => Part::Counted,
        Some(input) if *input != label => Part::Left(format!("the input, {input}, is counted")),
        None if label == FED.0 && rails.iter().any(|rail| rail == FED.1) => Part::Left(format!("inside {}", FED.1)),
        _ => Part::Counted,
    }
}

fn scale(channel: &Channel) -> Scale {
    match channel {
        // 64 bits in the kernel, whatever the device's own register holds.
        Channel::Energy(_) => {
            Scale::Counter { unit_uj: 1.0, wraps: Wraps::After { range: u64::MAX, most_watts: MOST_WATTS } }
        }
        Channel::Power(_) | Channel::VoltsTimesAmps(..) => Scale::Power,
    }
}

fn read(channel: &Channel) -> Result<Raw, String> {
    match channel {
        Channel::Energy(path) => number(path).map(Raw::Count),
        Channel::Power(path) => Ok(Raw::Watts(number::<i64>(path)? as f64 / 1e6)),
        Channel::VoltsTimesAmps(volts, amps) => {
            Ok(Raw::Watts(number::<i64>(volts)? as f64 * number::<i64>(amps)? as f64 / 1e6))
        }
    }
}
