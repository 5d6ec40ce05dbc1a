//! `energy overhead`: what reading energy costs a decode, as an interleaved study with its interval.

use crate::cmd::{say, suite::parse_name};
use crate::driver::interrupt::Interrupt;
use crate::driver::process::{self, Ended, WorkerCommand};
use crate::error::Error;
use crate::plan::{self, predict};
use crate::probe::energy::meter::PERIOD;
use crate::probe::energy::{EnergyMeter, Options};
use crate::protocol::{Mode, Quad, Reference, Request};
use crate::{driver, machine};
use anyhow::{Context as _, Result, bail};
use reports::stats::{self, Estimate, median};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use suites::cell::{KvCache, Phase, Workload};
use suites::model::{EngineSpec, ModelSpec};
use suites::run::{Build, Machine};
use suites::{Catalogue, Cell};

/// The bound that is judged: METHODOLOGY.md.
pub(crate) const BOUND: f64 = 0.01;
/// Version of [`Study`].
const SCHEMA: u32 = 1;

/// Arguments of `energy overhead`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A model of models.toml that is made of a shape
    #[arg(long, default_value = "700m")]
    model: String,
    /// An engine of engines.toml
    #[arg(long, default_value = "ternary")]
    engine: String,
    /// Threads [default: all CPUs, so that the reading thread has none to itself]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Tokens of a window: some tenths of a second's
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u32).range(1..=65536))]
    tokens: u32,
    /// Processes, the replicates
    #[arg(long, default_value = "8", value_parser = clap::value_parser!(u32).range(2..=1000))]
    processes: u32,
    /// Quads of windows in a process (with a meter, without, without, with), and as many of the control
    #[arg(long, default_value = "6", value_parser = clap::value_parser!(u32).range(1..=1000))]
    quads: u32,
    /// Seed of tokens and of the interval
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Folder for the study's own
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Name of the folder made in it [default: overhead-<date>-<time>]
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// The study as written to `overhead.json`. Times in nanoseconds.
#[derive(Debug, Serialize)]
struct Study {
    schema: u32,
    command: Vec<String>,
    started: String,
    machine: Machine,
    build: Build,
    warnings: Vec<String>,
    cell: Cell,
    seed: u64,
    /// The sources that were read, as `doctor` names them.
    sources: String,
    /// Whether they are a tree of files made for the study, as this machine has none that measures.
    made_tree: bool,
    read_every_ms: u64,
    /// Quads by process.
    processes: Vec<Vec<Quad>>,
    /// Time with a meter over time without, less 1.
    overhead: Option<Figure>,
    /// The same of the control, where there is no meter in either.
    control: Option<Figure>,
    bound: f64,
    verdict: &'static str,
}

/// Median over processes of the median over their quads, with its 95 % interval over processes.
#[derive(Debug, Serialize)]
struct Figure {
    value: f64,
    lo: Option<f64>,
    hi: Option<f64>,
    processes: usize,
}

/// Runs the study: exit 0 if the whole interval lies below the bound, 1 if it lies above, 2 if it can't be judged.
///
/// # Errors
/// Unknown names, a folder that exists, a worker that fails or answers wrongly.
pub(super) fn run(args: &Args) -> Result<u8> {
    let catalogue = Catalogue::embedded()?;
    let (model, engine) = (catalogue.model(&args.model)?, catalogue.engine(&args.engine)?);
    if !matches!(model, ModelSpec::Synthetic(_)) {
        bail!(Error::Usage(format!("--model {}: expected a model made of a shape", args.model)));
    }
    let name = args.name.clone().unwrap_or_else(|| format!("overhead-{}", stamp()));
    let folder = args.out.join(&name);
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    std::fs::create_dir(&folder).map_err(|error| Error::Usage(format!("--name: {}: {error}", folder.display())))?;
    let outcome = study(args, model, engine);
    let study = outcome.inspect_err(|_| {
        // Nothing was found: the name is free again.
        let _ = std::fs::remove_dir(&folder);
    })?;
    let path = folder.join("overhead.json");
    std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&study)?))
        .with_context(|| path.display().to_string())?;
    say(table(&study))?;
    say(path.display())?;
    Ok(match study.verdict {
        BELOW => 0,
        ABOVE => 1,
        _ => 2,
    })
}

const BELOW: &str = "below the bound";
const ABOVE: &str = "above the bound";
const OPEN: &str = "not judged: the interval holds the bound";

fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

fn study(args: &Args, model: &ModelSpec, engine: &EngineSpec) -> Result<Study> {
    let started = driver::now();
    let found = EnergyMeter::open(&args.options);
    let made = if found.available() { None } else { Some(made_tree().context("making a tree of counters")?) };
    let options = match &made {
        Some(tree) => Options { sysfs_root: Some(tree.path().to_owned()), ..args.options.clone() },
        None => args.options.clone(),
    };
    let described = found.describe();
    drop(found);
    let machine = machine::describe(described, false);
    let sources = EnergyMeter::open(&options).describe();
    let workload = Workload { phase: Phase::Decode, tokens: args.tokens, depth: None };
    let cell = Cell {
        engine: engine.name.clone(),
        model: model.name().to_owned(),
        threads: args.threads.unwrap_or(machine.cpus),
        workload,
        kv: KvCache::F16,
        isa: None,
    };
    let processes = measure(args, model, engine, &cell, &options)?;
    let overhead = estimate(&processes, true);
    let control = estimate(&processes, false);
    let build = machine::build();
    Ok(Study {
        schema: SCHEMA,
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        started,
        warnings: machine::warnings(&machine, &build),
        machine,
        build,
        cell,
        seed: args.seed,
        sources,
        made_tree: made.is_some(),
        read_every_ms: PERIOD.as_millis() as u64,
        processes,
        verdict: verdict(overhead),
        overhead: overhead.map(Figure::from),
        control: control.map(Figure::from),
        bound: BOUND,
    })
}

/// The quads of every process, each of which has answered as the scalar reference does.
fn measure(
    args: &Args,
    model: &ModelSpec,
    engine: &EngineSpec,
    cell: &Cell,
    options: &Options,
) -> Result<Vec<Vec<Quad>>> {
    let (command, interrupt) = (WorkerCommand::own()?, Interrupt::default());
    interrupt.install()?;
    let request = |cell: &Cell, mode: Mode, references: Vec<Reference>| Request {
        cell: cell.clone(),
        model: model.clone(),
        model_path: None,
        format: engine.format,
        head: engine.head,
        seed: args.seed,
        min_window_ns: 0,
        idle_ns: 0,
        predicted_bytes: 0,
        mode,
        references,
        energy: options.clone(),
        tasks: Vec::new(),
    };
    let cpus = machine::cpus();
    let reference = plan::reference_cell(model, engine, cell.kv, cpus);
    let timeout = Duration::from_secs(120) + Duration::from_nanos(predict::reference_ns(model, cpus)) * 3;
    let answer = match process::run(&command, &request(&reference, Mode::Answer, Vec::new()), timeout, &interrupt)? {
        Ended::Answered(answer) => answer,
        other => bail!("the reference answer: {}", told(other)),
    };
    let references = vec![Reference { against: "scalar reference".to_owned(), answer, bound_ppb: 0 }];
    let asked = request(cell, Mode::Overhead { quads: args.quads }, references);
    let mut processes = Vec::new();
    for index in 1..=args.processes {
        eprintln!("process {index} of {}", args.processes);
        match process::run(&command, &asked, timeout * (1 + args.quads), &interrupt)? {
            Ended::Overhead(quads) => processes.push(quads),
            other => bail!("process {index}: {}", told(other)),
        }
    }
    Ok(processes)
}

fn told(ended: Ended) -> String {
    match ended {
        Ended::Failed(failure) => format!("{}: {}", failure.stage, failure.message),
        _ => "it did what it was not asked for".to_owned(),
    }
}

/// Counters as two sockets with memory have them, in plain files: reading them costs what files cost; a register's read comes
/// on top.
fn made_tree() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let zone = |path: String, name: &str| -> std::io::Result<()> {
        let zone = folder.path().join("class/powercap/intel-rapl").join(path);
        std::fs::create_dir_all(&zone)?;
        for (file, text) in [("name", name), ("energy_uj", "123456789"), ("max_energy_range_uj", "262143328850")] {
            std::fs::write(zone.join(file), format!("{text}\n"))?;
        }
        Ok(())
    };
    for socket in 0..2 {
        zone(format!("intel-rapl:{socket}"), &format!("package-{socket}"))?;
        zone(format!("intel-rapl:{socket}/intel-rapl:{socket}:0"), "dram")?;
    }
    Ok(folder)
}

/// Time with a meter over time without, less 1, of the quads that are `sampled`, or of the control's.
fn estimate(processes: &[Vec<Quad>], sampled: bool) -> Option<Estimate> {
    let ratio = |quad: &Quad| quad.with_ns.iter().sum::<u64>() as f64 / quad.without_ns.iter().sum::<u64>() as f64;
    let of = |quads: &Vec<Quad>| {
        let ratios: Vec<f64> = quads.iter().filter(|quad| quad.sampled == sampled).map(ratio).collect();
        median(&ratios).map(|ratio| ratio - 1.0)
    };
    let replicates: Vec<f64> = processes.iter().filter_map(of).collect();
    stats::estimate(&replicates)
}

fn verdict(overhead: Option<Estimate>) -> &'static str {
    match overhead.and_then(|found| found.interval) {
        Some((_, hi)) if hi < BOUND => BELOW,
        Some((lo, _)) if lo > BOUND => ABOVE,
        _ => OPEN,
    }
}

impl From<Estimate> for Figure {
    fn from(found: Estimate) -> Figure {
        let (lo, hi) = found.interval.unzip();
        Figure { value: found.value, lo, hi, processes: found.n }
    }
}

fn table(study: &Study) -> String {
    let percent = |share: f64| format!("{:+.3} %", share * 100.0);
    let figure = |figure: &Option<Figure>| {
        figure.as_ref().map_or("unknown".to_owned(), |f| {
            let interval = f.lo.zip(f.hi).map(|(lo, hi)| format!(" [{}, {}]", percent(lo), percent(hi)));
            format!("{}{}", percent(f.value), interval.unwrap_or_default())
        })
    };
    let windows: usize = study.processes.iter().map(|quads| quads.len() * 4).sum();
    let made = if study.made_tree { " (files made for this study: nothing measures here)" } else { "" };
    [
        format!("cell      {}, {} processes, {windows} windows", study.cell.id(), study.processes.len()),
        format!("sources   {}{made}, read every {} ms", study.sources, study.read_every_ms),
        format!("overhead  {} of decode time", figure(&study.overhead)),
        format!("control   {}: no meter in either half", figure(&study.control)),
        format!("verdict   {} of {:.0} %", study.verdict, study.bound * 100.0),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(overhead: f64) -> Vec<Quad> {
        let with = (1e9 * (1.0 + overhead)) as u64;
        let quad = |sampled: bool, with| Quad { sampled, with_ns: [with; 2], without_ns: [1_000_000_000; 2] };
        vec![quad(true, with), quad(false, 1_000_000_000), quad(true, with)]
    }

    #[test]
    fn the_interval_is_over_processes_and_decides() {
        let judge = |of: &[f64]| {
            let processes: Vec<Vec<Quad>> = of.iter().map(|&overhead| process(overhead)).collect();
            let found = estimate(&processes, true);
            assert_eq!(estimate(&processes, false).unwrap().value, 0.0);
            verdict(found)
        };
        assert_eq!(judge(&[0.001, 0.002, 0.003]), BELOW);
        assert_eq!(judge(&[0.02, 0.03, 0.02]), ABOVE);
        assert_eq!(judge(&[0.001, 0.002, 0.03]), OPEN);
        assert_eq!(judge(&[0.001]), OPEN, "one process has no interval");
    }

    #[test]
    fn a_made_tree_is_a_source() {
        let tree = made_tree().unwrap();
        let options = Options { sysfs_root: Some(tree.path().to_owned()), ..Options::default() };
        assert_eq!(
            EnergyMeter::open(&options).describe(),
            "powercap: package-0, package-0/dram, package-1, package-1/dram"
        );
    }
}
