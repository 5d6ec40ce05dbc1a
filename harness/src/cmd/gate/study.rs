//! `gate --study`: how often the gate is wrong, and what it finds.

use super::{Args, Bench, say};
use crate::error::Error;
use crate::gate::baseline;
use crate::gate::neighbour::Neighbour;
use crate::gate::study::{PLANTED, TRIALS, Trials};
use anyhow::{Context as _, Result, bail};
use reports::gate::virtually::{self, Rate};
use reports::gate::{Study, Tally, Verdict};
use std::path::Path;
use suites::gate::Gates;

/// What is planted in virtual gates, in per cent of a token's time: closer where the threshold lies.
const PERCENTS: [f64; 13] = [0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];

/// What was asked for.
pub(super) enum Asked {
    /// So many gates.
    Real(Study, usize),
    /// So many for each of [`PERCENTS`], of the rounds of those that were run.
    Virtual(u32),
}

/// Reads the words after `--study`.
pub(super) fn parse(words: &[String]) -> Result<Asked> {
    let expected = "--study: expected `aa N`, `noisy CMD N`, `planted P N` or `virtual N`";
    let bad = || Error::Usage(expected.to_owned());
    let (kind, what, count) = match words {
        [kind, count] => (kind.as_str(), None, count),
        [kind, what, count] => (kind.as_str(), Some(what), count),
        _ => bail!(bad()),
    };
    let count: u32 = count.parse().ok().filter(|&count| count > 0).ok_or_else(bad)?;
    let study = match (kind, what) {
        ("aa", None) => Study::Aa,
        ("virtual", None) => return Ok(Asked::Virtual(count)),
        ("noisy", Some(command)) => Study::Noisy { neighbour: command.clone() },
        ("planted", Some(percent)) => {
            let percent: f64 = percent.parse().map_err(|_| bad())?;
            if !(percent > 0.0 && percent <= 1000.0) {
                let message = format!("--study planted: expected more than 0 %, at most 1000 %, found {percent}");
                bail!(Error::Usage(message));
            }
            if !cfg!(feature = "planted") {
                let message = "--study planted: this program can't be slowed: build it with --features harness/planted";
                bail!(Error::Usage(message.to_owned()));
            }
            Study::Planted { percent }
        }
        _ => bail!(bad()),
    };
    Ok(Asked::Real(study, count as usize))
}

/// Runs gates until there are `count` in the study's folder.
pub(super) fn run(args: &Args, bench: &Bench, study: &Study, count: usize) -> Result<u8> {
    let program = baseline::own()?;
    let mut candidate = program.clone();
    if let Study::Planted { percent } = study {
        // The worker is told by its environment, as no request knows of it.
        let mut words = vec!["env".into(), format!("{PLANTED}={percent}").into()];
        words.extend(std::mem::take(&mut candidate.command.0));
        candidate.command.0 = words;
    }
    let kind = match study {
        Study::Aa => "aa".to_owned(),
        Study::Noisy { .. } => "noisy".to_owned(),
        Study::Planted { percent } => format!("planted-{percent}"),
    };
    let name = args.name.clone().unwrap_or_else(|| format!("gate-study-{kind}"));
    let mut trials = Trials::open(&args.out.join(name), study)?;
    let neighbour = study.neighbour().map(Neighbour::start).transpose()?;
    while trials.done.len() < count {
        let kept = bench.gate(args, &trials.place()?, &program, &candidate)?;
        if let Some(neighbour) = &neighbour {
            neighbour.check()?;
        }
        trials.add(study, kept)?;
        let verdict =
            trials.done.last().and_then(|trial| trial.outcome.verdict()).map_or("nothing judged", Verdict::name);
        eprintln!("{}/{count}: {verdict}; {}", trials.done.len(), Tally::of(&trials.done));
    }
    say(format!("{study}: {}", Tally::of(&trials.done)))?;
    Ok(0)
}

/// Draws virtual gates from the studies in the folder `out`, and writes `power.csv`, `power.svg` and `power.png` there.
pub(super) fn virtually(out: &Path, gates: &Gates, count: u32) -> Result<u8> {
    let folders = std::fs::read_dir(out).map_err(|e| Error::Input(format!("{}: {e}", out.display())))?;
    let mut files: Vec<_> = folders.filter_map(|entry| Some(entry.ok()?.path().join(TRIALS))).collect();
    files.retain(|file| file.is_file());
    files.sort();
    let mut trials = Vec::new();
    for file in &files {
        trials.extend(reports::gate::trials(file)?);
    }
    let mut rates = virtually::draw(gates, &trials, &PERCENTS, count)
        .map_err(|error| Error::Input(format!("{}/*/{TRIALS}: {error}", out.display())))?;
    rates.extend(virtually::real(&trials));
    let stem = out.join("power");
    let csv = stem.with_extension("csv");
    std::fs::write(&csv, virtually::csv(&rates)?).with_context(|| csv.display().to_string())?;
    let real = rates.iter().find(|rate: &&Rate| !rate.drawn && rate.percent == 0.0).map_or(0, |rate| rate.gates);
    let subtitle = format!(
        "{count} virtual gates for each, of blocks of {} rounds of {real} real ones; bars are exact 95 % intervals",
        virtually::BLOCK
    );
    reports::power(&rates, &subtitle, &stem)?;
    say(virtually::table(&rates))?;
    Ok(0)
}
