//! macOS's `powermetrics`, by its text: each sample tells how long it took and the mean power meanwhile, so that joules are
//! their product and no power is guessed between samples. Its figures are Apple's estimates of what the package draws.
//!
//! ```text
//! *** Sampled system activity (Fri Oct 28 10:51:16 2022 +0200) (100.93ms elapsed) ***
//! CPU Power: 1042 mW
//! Combined Power (CPU + GPU + ANE): 1051 mW
//! ```

use super::program::Program;
use super::source::{Domain, EnergySource, Info, Missing, Part, Raw, Scale, Wraps};
use std::path::Path;
use suites::record::EnergyKind;

/// How it is called: ten samples a second, without asking for a password.
pub const COMMAND: &str = "sudo -n powermetrics --samplers cpu_power -i 100 2>&1";

/// Lines that are told apart: how each begins, and its domain. Of the totals, the first that a sample has is counted.
const TOTALS: [(&str, &str); 3] = [
    ("Combined Power (CPU + GPU + ANE):", "combined"),
    ("Package Power:", "package"),
    ("Intel energy model derived package power (CPUs+GT+SA):", "package"),
];
const PARTS: [(&str, &str); 4] =
    [("CPU Power:", "cpu"), ("GPU Power:", "gpu"), ("ANE Power:", "ane"), ("DRAM Power:", "dram")];

/// What all samples so far add up to.
pub struct Powermetrics {
    info: Info,
    program: Program<Sums>,
}

/// Microjoules by domain since the start, in the order in which the first sample names the domains.
type Sums = Vec<(&'static str, f64)>;

impl Powermetrics {
    /// On macOS, its own program.
    ///
    /// # Errors
    /// Another system, a tree that is not this machine's, or no right to run it.
    pub fn open(sysfs_root: Option<&Path>) -> Result<Powermetrics, Missing> {
        if !cfg!(target_os = "macos") {
            return Err(Missing::new("macOS alone has it"));
        }
        match sysfs_root {
            Some(_) => Err(Missing::new("not this machine's tree: its powermetrics can't be run")),
            None => Powermetrics::start(COMMAND),
        }
    }

    /// A program that prints the same.
    ///
    /// # Errors
    /// No sample with a power comes.
    pub fn start(words: &str) -> Result<Powermetrics, Missing> {
        let mut samples = Samples::default();
        let heard = Program::start(words, move |line| samples.hear(line));
        let missing = |reason: String| Missing {
            reason,
            remedy: Some("sudo -v before, or a line for powermetrics in /etc/sudoers.d".to_owned()),
        };
        let program = heard.map_err(missing)?;
        let (first, refresh) = program.two().map_err(missing)?;
        let total = TOTALS.iter().map(|(_, domain)| domain).find(|total| first.iter().any(|(name, _)| name == *total));
        let domain = |(name, _): &(&str, f64)| Domain {
            name: (*name).to_owned(),
            part: match total {
                Some(total) if total != name => Part::Left(format!("inside {total}")),
                _ => Part::Counted,
            },
            scale: Scale::Counter { unit_uj: 1.0, wraps: Wraps::Never },
        };
        let domains = first.iter().map(domain).collect();
        let info = Info { name: "powermetrics".to_owned(), kind: EnergyKind::Measured, domains, refresh };
        Ok(Powermetrics { info, program })
    }
}

impl EnergySource for Powermetrics {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        let sums = self.program.last(self.info.refresh * 4);
        let of = |domain: &Domain| {
            let sums = sums.as_ref().map_err(Clone::clone)?;
            let sum = sums.iter().find(|(name, _)| *name == domain.name);
            let missing = || "the last sample has no such line".to_owned();
            sum.map(|(_, microjoules)| Raw::Count(microjoules.round() as u64)).ok_or_else(missing)
        };
        self.info.domains.iter().map(of).collect()
    }
}

/// The samples of a text, line by line.
#[derive(Default)]
struct Samples {
    /// Of the sample that is being read: its length, and what it has named.
    elapsed_ms: Option<f64>,
    milliwatts: Vec<(&'static str, f64)>,
    sums: Sums,
}

impl Samples {
    /// The sums, where this line ends a sample: its total's, or without one the first of the next.
    fn hear(&mut self, line: &str) -> Option<Result<Sums, String>> {
        if let Some(rest) = line.strip_prefix("*** Sampled system activity") {
            let ended = self.end();
            self.elapsed_ms = elapsed(rest);
            return ended;
        }
        let known =
            TOTALS.iter().chain(&PARTS).find_map(|(begin, name)| Some((*name, line.trim().strip_prefix(begin)?)));
        let (name, milliwatts) = known.and_then(|(name, value)| Some((name, milliwatts(value)?)))?;
        if !self.milliwatts.iter().any(|(seen, _)| *seen == name) {
            self.milliwatts.push((name, milliwatts));
        }
        // A total comes after its parts.
        if TOTALS.iter().any(|(_, total)| *total == name) { self.end() } else { None }
    }

    fn end(&mut self) -> Option<Result<Sums, String>> {
        let milliwatts = std::mem::take(&mut self.milliwatts);
        let elapsed_ms = self.elapsed_ms.take()?;
        if milliwatts.is_empty() {
            return Some(Err("a sample without a line of power: is the sampler cpu_power on?".to_owned()));
        }
        if self.sums.is_empty() {
            self.sums = milliwatts.iter().map(|(name, _)| (*name, 0.0)).collect();
        }
        for (name, sum) in &mut self.sums {
            match milliwatts.iter().find(|(known, _)| known == name) {
                Some((_, milliwatts)) => *sum += milliwatts * elapsed_ms,
                // From here on its energy is not known: a sum that falls is seen by whoever reads it.
                None => *sum = 0.0,
            }
        }
        Some(Ok(self.sums.clone()))
    }
}

/// ` (date) (100.93ms elapsed) ***`, in milliseconds.
fn elapsed(text: &str) -> Option<f64> {
    let (_, last) = text.rsplit_once('(')?;
    let number: f64 = last.split_once("ms elapsed")?.0.trim().parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number)
}

/// ` 1042 mW` or ` 1.04W`, in milliwatts.
fn milliwatts(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = match text.strip_suffix("mW") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('W')?, 1e3),
    };
    let number: f64 = number.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "*** Sampled system activity (Fri Oct 28 10:51:16 2022 +0200) (100.50ms elapsed) ***\n\n\
        **** Processor usage ****\n\nE-Cluster Online: 100%\nE-Cluster Power: 30 mW\nCPU 0 frequency: 1017 MHz\n\
        CPU Power: 1042 mW\nGPU Power: 9 mW\nANE Power: 0 mW\nCombined Power (CPU + GPU + ANE): 1051 mW\n\n";

    fn heard(text: &str) -> (Samples, Vec<Result<Sums, String>>) {
        let mut samples = Samples::default();
        let all = text.lines().filter_map(|line| samples.hear(line)).collect();
        (samples, all)
    }

    #[test]
    fn a_sample_is_its_power_times_its_length() {
        let (_, all) = heard(&SAMPLE.repeat(3));
        let last = all.last().unwrap().as_ref().unwrap();
        assert_eq!((all.len(), last.len()), (3, 4));
        let of = |domain: &str| last.iter().find(|(name, _)| *name == domain).unwrap().1;
        // Milliwatts times milliseconds are microjoules.
        assert!((of("combined") - 3.0 * 1051.0 * 100.5).abs() < 1e-6, "{last:?}");
        assert!((of("cpu") - 3.0 * 1042.0 * 100.5).abs() < 1e-6, "{last:?}");
    }

    #[test]
    fn other_machines_name_their_totals_otherwise() {
        let intel = "*** Sampled system activity (x) (1000.00ms elapsed) ***\n\
            Intel energy model derived package power (CPUs+GT+SA): 2.50W\n";
        assert_eq!(heard(intel).1, [Ok(vec![("package", 2_500_000.0)])]);
        // Without a total, a sample ends where the next begins.
        let parts = "*** Sampled system activity (x) (10ms elapsed) ***\nCPU Power: 5 mW\nGPU Power: 1 mW\n";
        assert_eq!(heard(&parts.repeat(2)).1, [Ok(vec![("cpu", 50.0), ("gpu", 10.0)])]);
    }

    #[test]
    fn what_is_missing_is_no_zero() {
        let (_, all) = heard("*** Sampled system activity (x) (10ms elapsed) ***\n*** Sampled system activity (x) (1");
        assert!(all[0].as_ref().unwrap_err().contains("without a line of power"), "{all:?}");
        // A torn head: no length, no energy, and no sample.
        assert!(heard("*** Sampled system activity (x) (nanms elapsed) ***\nPackage Power: 5 mW\n").1.is_empty());
        for bad in ["Package Power: -5 mW", "Package Power: 5 mJ", "Package Power: x mW", "Package Power: inf W"] {
            assert!(
                heard(&format!("*** Sampled system activity (x) (10ms elapsed) ***\n{bad}\n")).1.is_empty(),
                "{bad}"
            );
        }
        let torn = SAMPLE.replace("CPU Power: 1042 mW\n", "");
        let (_, all) = heard(&format!("{SAMPLE}{torn}"));
        assert_eq!(all[1].as_ref().unwrap().iter().find(|(name, _)| *name == "cpu").unwrap().1, 0.0, "it falls");
    }

    #[test]
    fn a_program_that_prints_the_same_is_a_source() {
        let words = format!("while true; do printf '%b' '{}'; sleep 0.05; done", SAMPLE.replace('\n', "\\n"));
        let mut source = Powermetrics::start(&words).unwrap_or_else(|missing| panic!("{missing:?}"));
        let parts: Vec<(&str, bool)> =
            source.info().domains.iter().map(|d| (d.name.as_str(), d.part == Part::Counted)).collect();
        assert_eq!(parts, [("cpu", false), ("gpu", false), ("ane", false), ("combined", true)]);
        assert!(matches!(source.read()[3], Ok(Raw::Count(count)) if count >= 105_625), "{:?}", source.read());
        let missing = Powermetrics::start("echo powermetrics must be invoked as the superuser; exit 1").err().unwrap();
        assert!(missing.reason.contains("it ended after `powermetrics must be invoked"), "{missing:?}");
        assert!(missing.remedy.unwrap().contains("sudo"));
    }
}
