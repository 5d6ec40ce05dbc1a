//! `gate`: whether this build, or a recorded run, is worse than another.

mod study;

use super::select::Select;
use super::suite::{models, parse_name, suite_digest};
use super::{run_folder, say};
use crate::driver::interrupt::Interrupt;
use crate::driver::now;
use crate::error::{Error, exit_code};
use crate::gate::side::{Program, Side};
use crate::gate::{Kept, Setting, baseline};
use crate::machine;
use crate::plan::{self, Host};
use crate::probe::energy::{EnergyMeter, Options};
use anyhow::{Result, bail};
use clap::ValueEnum;
use reports::gate::show::{Format, show};
use reports::gate::{Outcome, Verdict, judge};
use std::path::{Path, PathBuf};
use std::time::Duration;
use suites::gate::{Gates, Kind};
use suites::record::SCHEMA;
use suites::run::{Plan, Run};
use suites::{Catalogue, Suite};

/// Arguments of `gate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Hold this build against that of a git revision, which is built first
    #[arg(long, value_name = "REV")]
    against: Option<String>,
    /// Hold this build against another program's file
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    against_program: Option<PathBuf>,
    /// Judge this program's file instead of this build
    #[arg(long, value_name = "FILE", conflicts_with_all = ["baseline", "study"])]
    candidate: Option<PathBuf>,
    /// Hold a recorded run, given as RUN, against this one
    #[arg(long, value_name = "RUN", conflicts_with_all = ["against", "against_program"], requires = "run")]
    baseline: Option<PathBuf>,
    /// The run that is judged, with --baseline
    #[arg(value_name = "RUN", requires = "baseline")]
    run: Option<PathBuf>,
    /// Measure the gate itself. `aa N`: N gates of this build against itself; `noisy CMD N`: the same, beside a shell command that is
    /// run again and again; `planted P N`: against itself with a decode slower by P per cent; `virtual N`: N gates drawn from the
    /// rounds of the studies in --out, and a chart of all
    #[arg(long, num_args = 2..=3, value_names = ["KIND", "CMD|P|N", "N"], conflicts_with_all = ["against", "against_program", "baseline"])]
    study: Option<Vec<String>>,
    /// A file of gates instead of the program's own
    #[arg(long)]
    gates: Option<PathBuf>,
    #[command(flatten)]
    select: Select,
    /// Time for all rounds [default: that of the gates]
    #[arg(long, value_parser = super::suite::parse_duration)]
    budget: Option<Duration>,
    /// Take an intended change of these metrics for none
    #[arg(long, value_delimiter = ',', value_name = "METRIC")]
    allow: Vec<String>,
    /// How to print the outcome
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// Write the outcome to files too, as FORMAT=FILE
    #[arg(long, value_name = "FORMAT=FILE", value_parser = parse_also)]
    also: Vec<(Form, PathBuf)>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Name of the gate's folder; a study of that name is gone on with [default: gate, date and time]
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    #[command(flatten)]
    energy: Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Markdown,
    Json,
    Junit,
    Bmf,
    ActionBenchmark,
    Badge,
    Annotations,
}

impl Form {
    fn format(self) -> Format {
        match self {
            Form::Table => Format::Table,
            Form::Markdown => Format::Markdown,
            Form::Json => Format::Json,
            Form::Junit => Format::Junit,
            Form::Bmf => Format::Bmf,
            Form::ActionBenchmark => Format::ActionBenchmark,
            Form::Badge => Format::Badge,
            Form::Annotations => Format::Annotations,
        }
    }
}

fn parse_also(text: &str) -> Result<(Form, PathBuf), String> {
    let (format, file) = text.split_once('=').ok_or("expected FORMAT=FILE")?;
    Ok((Form::from_str(format, false)?, file.into()))
}

/// Runs `gate`: exit 0 when nothing regressed, 1 when something did, 2 when it could not be told of something.
///
/// # Errors
/// Bad names, files and revisions; a results folder that can't be written.
pub fn run(args: &Args) -> Result<u8> {
    match held(args) {
        // 1 would say that something regressed.
        Err(error) if exit_code(&error) == 1 => {
            eprintln!("could not judge: {error:#}");
            Ok(2)
        }
        done => done,
    }
}

fn held(args: &Args) -> Result<u8> {
    let mut gates = gates(args)?;
    gates.rule.budget = args.budget.unwrap_or(gates.rule.budget);
    if let (Some(baseline), Some(run)) = (&args.baseline, &args.run) {
        let load = |run: &Path| reports::load(&run_folder(run, &args.out));
        return tell(args, judge(&gates, &load(baseline)?, &load(run)?)?);
    }
    if let Some(words) = &args.study {
        return match study::parse(words)? {
            study::Asked::Virtual(count) => study::virtually(&args.out, &gates, count),
            study::Asked::Real(kind, count) => {
                // What is counted and not timed is never wrong, and would only take time.
                gates.metrics.retain(|metric| metric.kind != Kind::Instructions);
                study::run(args, &Bench::open(args, gates)?, &kind, count)
            }
        };
    }
    let program = match (&args.against, &args.against_program) {
        (Some(revision), _) => baseline::of_revision(revision),
        (_, Some(file)) => baseline::of_file(file, "--against-program"),
        _ => {
            bail!(Error::Usage("give --against REV, --against-program FILE, --baseline RUN RUN or --study".to_owned()))
        }
    };
    let program = program?;
    single(args, &Bench::open(args, gates)?, &program)
}

fn gates(args: &Args) -> Result<Gates> {
    let gates = match &args.gates {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::Input(format!("{}: {e}", path.display())))?;
            Gates::parse(&text, &path.display().to_string())?
        }
        None => Gates::embedded()?,
    };
    for name in &args.allow {
        if !gates.metrics.iter().any(|metric| metric.name == *name) {
            bail!(suites::Error::unknown("metric", name, gates.metrics.iter().map(|metric| metric.name.as_str())));
        }
    }
    Ok(gates)
}

/// Prints an outcome, with what is allowed taken out, and tells the exit code.
fn tell(args: &Args, mut outcome: Outcome) -> Result<u8> {
    for line in &mut outcome.lines {
        if line.verdict == Verdict::Regressed && args.allow.contains(&line.metric) {
            let note = line.note.take().map_or(String::new(), |note| format!(": {note}"));
            (line.verdict, line.note) = (Verdict::Unchanged, Some(format!("regressed, which was allowed{note}")));
        }
    }
    for (form, path) in &args.also {
        let text = show(&outcome, form.format())?;
        std::fs::write(path, text).map_err(|e| Error::Usage(format!("--also: {}: {e}", path.display())))?;
    }
    say(show(&outcome, args.format.format())?.trim_end())?;
    Ok(outcome.exit_code())
}

/// What every gate of a command shares.
struct Bench {
    suite: Suite,
    catalogue: Catalogue,
    host: Host,
    plan: Plan,
    gates: Gates,
    run: Run,
    interrupt: Interrupt,
}

impl Bench {
    fn open(args: &Args, gates: Gates) -> Result<Bench> {
        let catalogue = Catalogue::embedded()?;
        let suite = super::select::suite(&gates.suite, &catalogue)?;
        let meter = EnergyMeter::open(&args.energy);
        let (energy, energy_window) = (meter.describe(), meter.available().then(|| meter.shortest_window()));
        drop(meter);
        let machine = machine::describe(energy, false);
        let mut host = args.select.host(&suite, &catalogue, machine.isa.clone())?;
        host.energy_window = energy_window;
        let plan = plan::make(&suite, &catalogue, &args.select.filter(), &host)?;
        let build = machine::build();
        let run = Run {
            schema: SCHEMA,
            name: String::new(),
            suite: suite.name.clone(),
            suite_digest: suite_digest(&suite),
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            seed: plan.seed,
            started: now(),
            finished: None,
            warnings: machine::warnings(&machine, &build),
            build,
            machine,
            models: models(&suite, &plan)?,
            outside: Vec::new(),
        };
        for warning in &run.warnings {
            eprintln!("warning: {warning}");
        }
        let interrupt = Interrupt::default();
        interrupt.install()?;
        Ok(Bench { suite, catalogue, host, plan, gates, run, interrupt })
    }

    /// One gate, its runs in `folder`.
    fn gate(&self, args: &Args, folder: &Path, baseline: &Program, candidate: &Program) -> Result<Kept> {
        let setting = Setting {
            suite: &self.suite,
            catalogue: &self.catalogue,
            host: &self.host,
            plan: &self.plan,
            gates: &self.gates,
        };
        let side = |name: &str, program: &Program| -> Result<Side<'_>> {
            let mut side = Side::create(setting, (folder, name), program, &self.run)?;
            let driver = side.driver();
            driver.energy.clone_from(&args.energy);
            driver.data.clone_from(&args.select.data);
            driver.interrupt = self.interrupt.clone();
            Ok(side)
        };
        let (mut before, mut after) = (side("baseline", baseline)?, side("candidate", candidate)?);
        let kept = crate::gate::run(setting, &mut before, &mut after)?;
        before.finish()?;
        after.finish()?;
        Ok(kept)
    }
}

fn default_name() -> String {
    format!("gate-{}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"))
}

fn single(args: &Args, bench: &Bench, program: &Program) -> Result<u8> {
    let folder = args.out.join(args.name.clone().unwrap_or_else(default_name));
    let exists = |e| Error::Usage(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(&args.out).map_err(exists)?;
    std::fs::create_dir(&folder).map_err(exists)?;
    eprintln!("{}: at most about {}", folder.display(), crate::progress::short(bench.gates.rule.budget));
    let candidate = args.candidate.as_ref().map(|file| baseline::of_file(file, "--candidate"));
    let kept = bench.gate(args, &folder, program, &candidate.unwrap_or_else(baseline::own)?)?;
    kept.write(&folder)?;
    tell(args, kept.outcome)
}
