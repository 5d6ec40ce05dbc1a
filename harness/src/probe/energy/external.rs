//! Meters outside the machine: a file that someone keeps up to date, or a program that prints a line a reading, such as a
//! wall meter's. Each reading is a number and its unit: `1234.5 J`, `0.7 kWh`, `45.2 W`.

use super::powermetrics::{self, Powermetrics};
use super::program::Program;
use super::source::{Domain, EnergySource, Info, Missing, Part, Raw, Scale, Wraps, text};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use suites::record::EnergyKind;

/// Where readings come from, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spec {
    /// `file:PATH`.
    File(PathBuf),
    /// `command:PROGRAM AND ARGUMENTS`, by the shell.
    Command(String),
    /// `powermetrics`, or `powermetrics:PROGRAM AND ARGUMENTS` that prints as macOS's powermetrics does.
    Powermetrics(String),
}

impl Spec {
    /// The source's name in records.
    pub fn name(&self) -> &'static str {
        match self {
            Spec::File(_) => "file",
            Spec::Command(_) => "command",
            Spec::Powermetrics(_) => "powermetrics",
        }
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        match text.split_once(':') {
            None if text == "powermetrics" => Ok(Spec::Powermetrics(powermetrics::COMMAND.to_owned())),
            Some(("powermetrics", words)) if !words.trim().is_empty() => Ok(Spec::Powermetrics(words.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Spec::File(path.into())),
            Some(("command", words)) if !words.trim().is_empty() => Ok(Spec::Command(words.to_owned())),
            _ => Err(format!("expected file:PATH, command:PROGRAM or powermetrics, found `{text}`")),
        }
    }
}

/// A reading in base units.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    Microjoules(u64),
    Watts(f64),
}

/// Reads `NUMBER UNIT`.
fn reading(line: &str) -> Result<Reading, String> {
    let shown = || line.chars().take(40).collect::<String>();
    let expected = || format!("expected a number with J, mJ, uJ, Wh, kWh, W, mW or uW, found `{}`", shown());
    let (number, unit) = line.trim().split_once(char::is_whitespace).ok_or_else(expected)?;
    let number: f64 = number.parse().map_err(|_| expected())?;
    let joules = |factor: f64| {
        let microjoules = number * factor * 1e6;
        let sane = microjoules.is_finite() && (0.0..9e15).contains(&microjoules);
        if sane { Ok(Reading::Microjoules(microjoules.round() as u64)) } else { Err(expected()) }
    };
    let watts = |factor: f64| if number.is_finite() { Ok(Reading::Watts(number * factor)) } else { Err(expected()) };
    match unit.trim() {
        "J" => joules(1.0),
        "mJ" => joules(1e-3),
        "uJ" => joules(1e-6),
        "Wh" => joules(3600.0),
        "kWh" => joules(3_600_000.0),
        "W" => watts(1.0),
        "mW" => watts(1e-3),
        "uW" => watts(1e-6),
        _ => Err(expected()),
    }
}

fn raw(reading: Reading) -> Raw {
    match reading {
        Reading::Microjoules(count) => Raw::Count(count),
        Reading::Watts(watts) => Raw::Watts(watts),
    }
}

fn info(name: &str, first: Reading, refresh: Duration) -> Info {
    let scale = match first {
        Reading::Microjoules(_) => Scale::Counter { unit_uj: 1.0, wraps: Wraps::Never },
        Reading::Watts(_) => Scale::Power,
    };
    let domain = Domain { name: "meter".to_owned(), part: Part::Counted, scale };
    Info { name: name.to_owned(), kind: EnergyKind::Measured, domains: vec![domain], refresh }
}

/// A meter of either kind.
///
/// # Errors
/// It gives no reading, or no number with a unit.
pub fn open(spec: &Spec) -> Result<Box<dyn EnergySource>, Missing> {
    match spec {
        Spec::File(path) => {
            let first = text(path).and_then(|line| reading(&line)).map_err(Missing::new)?;
            Ok(Box::new(File { info: info("file", first, Duration::from_millis(100)), path: path.clone() }))
        }
        Spec::Command(words) => Ok(Box::new(Command::start(words).map_err(Missing::new)?)),
        Spec::Powermetrics(words) => Ok(Box::new(Powermetrics::start(words)?)),
    }
}

struct File {
    info: Info,
    path: PathBuf,
}

impl EnergySource for File {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        vec![text(&self.path).and_then(|line| reading(&line)).map(raw)]
    }
}

/// A program's readings.
struct Command {
    info: Info,
    program: Program<Reading>,
}

impl Command {
    /// Starts it, and waits for two lines: how far apart they are tells how often there is something new.
    fn start(words: &str) -> Result<Command, String> {
        let program = Program::start(words, |line| Some(reading(line)))?;
        let (first, apart) = program.two()?;
        Ok(Command { info: info("command", first, apart), program })
    }
}

impl EnergySource for Command {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        vec![self.program.last(self.info.refresh * 4).map(raw)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_or_refused() {
        assert_eq!(reading("1234.5 J\n"), Ok(Reading::Microjoules(1_234_500_000)));
        assert_eq!(reading(" 0.5 kWh"), Ok(Reading::Microjoules(1_800_000_000_000)));
        assert_eq!(reading("45.25  W"), Ok(Reading::Watts(45.25)));
        assert_eq!(reading("250 mW"), Ok(Reading::Watts(0.25)));
        for bad in ["", "12", "J", "x W", "12 V", "-3 J", "1e300 kWh", "nan J", "inf W"] {
            assert!(reading(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_meter_is_a_file_or_a_command() {
        assert_eq!("file:/tmp/x".parse(), Ok(Spec::File("/tmp/x".into())));
        assert_eq!("command:wattd -i 100".parse(), Ok(Spec::Command("wattd -i 100".to_owned())));
        for bad in ["", "file:", "command: ", "/tmp/x", "http://x"] {
            assert!(bad.parse::<Spec>().unwrap_err().contains("expected file:PATH"), "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meter");
        assert!(open(&Spec::File(path.clone())).err().unwrap().reason.contains("meter"));
        std::fs::write(&path, "3 J\n").unwrap();
        let mut meter = open(&Spec::File(path.clone())).unwrap_or_else(|missing| panic!("{missing:?}"));
        assert_eq!(meter.read(), [Ok(Raw::Count(3_000_000))]);
        std::fs::write(&path, "broken\n").unwrap();
        assert!(meter.read()[0].as_ref().unwrap_err().contains("expected a number"));
    }

    #[test]
    fn a_program_is_heard_line_by_line_and_its_end_is_said() {
        let words = "for i in 1 2 3 4 5 6; do echo \"$i W\"; sleep 0.05; done".to_owned();
        let mut meter = open(&Spec::Command(words)).unwrap_or_else(|missing| panic!("{missing:?}"));
        assert!(meter.info().refresh >= Duration::from_millis(40), "{:?}", meter.info());
        assert!(matches!(meter.read()[0], Ok(Raw::Watts(watts)) if watts >= 2.0));
        std::thread::sleep(Duration::from_millis(600));
        assert!(meter.read()[0].as_ref().unwrap_err().contains("has ended"));
        for (words, reason) in
            [("true", "it ended"), ("echo hello; sleep 5", "expected a number"), ("exit 3", "it ended")]
        {
            let missing = open(&Spec::Command(words.to_owned())).err().unwrap();
            assert!(missing.reason.contains(reason), "{words}: {missing:?}");
        }
    }
}
