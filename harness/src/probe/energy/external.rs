//! Meters outside the machine: a file that someone keeps up to date, or a program that prints a line a reading, such as a
//! wall meter's. Each reading is a number and its unit: `1234.5 J`, `0.7 kWh`, `45.2 W`.

use super::source::{Domain, EnergySource, Info, Missing, Part, Raw, Scale, Wraps, text};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use suites::record::EnergyKind;

/// Longest line of a program, in bytes.
const LINE: u64 = 4096;
/// How long a program may take to print its first line, and between any two.
const SILENCE: Duration = Duration::from_secs(10);

/// Where readings come from, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spec {
    /// `file:PATH`.
    File(PathBuf),
    /// `command:PROGRAM AND ARGUMENTS`, by the shell.
    Command(String),
}

impl Spec {
    /// The source's name in records.
    pub fn name(&self) -> &'static str {
        match self {
            Spec::File(_) => "file",
            Spec::Command(_) => "command",
        }
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Spec::File(path.into())),
            Some(("command", words)) if !words.trim().is_empty() => Ok(Spec::Command(words.to_owned())),
            _ => Err(format!("expected file:PATH or command:PROGRAM, found `{text}`")),
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
        Spec::Command(words) => {
            Program::start(words).map(|p| Box::new(p) as Box<dyn EnergySource>).map_err(Missing::new)
        }
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

/// A program that runs as long as it is read.
struct Program {
    info: Info,
    child: Child,
    said: Arc<Said>,
}

/// What it said last, and when.
#[derive(Default)]
struct Said {
    last: Mutex<Heard>,
    more: Condvar,
}

#[derive(Default)]
struct Heard {
    lines: u64,
    reading: Option<(Result<Reading, String>, Instant)>,
    ended: bool,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, line: &str) {
        let mut heard = self.lock();
        heard.lines += 1;
        heard.reading = Some((reading(line), Instant::now()));
        self.more.notify_all();
    }

    /// The first reading after `lines` lines were said, with their number; an error if none comes.
    fn after(&self, lines: u64) -> Result<(Reading, u64, Instant), String> {
        let (heard, late) = self
            .more
            .wait_timeout_while(self.lock(), SILENCE, |heard| heard.lines <= lines && !heard.ended)
            .unwrap_or_else(PoisonError::into_inner);
        match &heard.reading {
            _ if late.timed_out() => Err(format!("no line within {} s", SILENCE.as_secs())),
            Some((reading, at)) if heard.lines > lines => Ok((reading.clone()?, heard.lines, *at)),
            _ => Err("it ended".to_owned()),
        }
    }
}

impl Program {
    /// Starts it, and waits for two lines: how far apart they are tells how often there is something new.
    fn start(words: &str) -> Result<Program, String> {
        let mut command = Command::new("sh");
        command.args(["-c", words]).stdin(Stdio::null()).stdout(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| format!("{words}: {error}"))?;
        let said = Arc::new(Said::default());
        let (stdout, shared) = (child.stdout.take(), Arc::clone(&said));
        std::thread::spawn(move || {
            if let Some(stdout) = stdout {
                listen(BufReader::new(stdout), &shared);
            }
            shared.lock().ended = true;
            shared.more.notify_all();
        });
        let two = said.after(0).and_then(|(first, lines, then)| {
            let (_, _, now) = said.after(lines)?;
            Ok((first, now - then))
        });
        let mut program = Program { info: info("command", Reading::Watts(0.0), Duration::ZERO), child, said };
        let (first, apart) = two.map_err(|reason| format!("{words}: {reason}"))?;
        program.info = info("command", first, apart);
        Ok(program)
    }
}

/// Hears the lines of a program until it ends, or says one that is too long.
fn listen(mut out: impl std::io::BufRead, said: &Said) {
    let mut line = String::new();
    loop {
        line.clear();
        match out.by_ref().take(LINE).read_line(&mut line) {
            Ok(read) if read > 0 && line.ends_with('\n') => said.hear(&line),
            _ => return,
        }
    }
}

impl EnergySource for Program {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        let heard = self.said.lock();
        let most = (self.info.refresh * 4).clamp(Duration::from_secs(1), SILENCE);
        let value = match &heard.reading {
            _ if heard.ended => Err("the meter's program has ended".to_owned()),
            Some((_, at)) if at.elapsed() > most => Err(format!("no line for {:.1} s", at.elapsed().as_secs_f64())),
            Some((reading, _)) => reading.clone().map(raw),
            None => Err("nothing was said yet".to_owned()),
        };
        vec![value]
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // An error means that it has ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
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
