//! `suite`: run a suite and write `results/<run>/`.

use super::select::{self, Select};
use super::{run_folder, say};
use crate::driver::process::WorkerCommand;
use crate::driver::{Driver, Summary, now};
use crate::error::Error;
use crate::plan::{self, Host};
use crate::probe::energy::{EnergyMeter, Options};
use crate::store::SUITE_FILE;
use crate::store::{Earlier, Store};
use crate::{history, machine, progress};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use suites::model::ModelSpec;
use suites::record::SCHEMA;
use suites::run::{Digest, Plan, Run};
use suites::{Catalogue, Suite};

/// Arguments of `suite`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of a suite, or a TOML file; may be left out with --resume
    #[arg(required_unless_present = "resume")]
    suite: Option<String>,
    #[command(flatten)]
    select: Select,
    /// Begin no cell that would end later than this, such as 30m [default: the suite's]
    #[arg(long, value_parser = parse_duration)]
    budget: Option<Duration>,
    /// Show the plan and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on with an unfinished run: its name or folder
    #[arg(long, conflicts_with_all = ["engines", "models", "threads", "blocks", "shard", "name", "dry_run"])]
    resume: Option<PathBuf>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Name of the run [default: suite, date and time]
    #[arg(long, value_parser = parse_name)]
    name: Option<String>,
    #[command(flatten)]
    energy: Options,
    /// Keep each cell's request in requests.jsonl: a line of it on the stdin of `harness worker` repeats that cell
    #[arg(long)]
    keep_requests: bool,
    /// Program that runs a cell, instead of this one (for tests)
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("expected a duration such as 90s, 30m or 2h, found `{text}`");
    suites::definition::parse_duration(text).ok_or_else(bad)
}

pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && !text.starts_with('.') && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

/// A run ready to be run.
struct Prepared {
    store: Store,
    run: Run,
    plan: Plan,
    earlier: Option<Earlier>,
}

/// Runs `suite`: exit 0 when every cell was measured or not applicable, 1 when one failed, 130 after Ctrl-C.
///
/// # Errors
/// Bad names, bad files, a results folder that can't be written.
pub fn run(args: &Args) -> Result<u8> {
    let catalogue = Catalogue::embedded()?;
    let folder = args.resume.as_ref().map(|run| run_folder(run, &args.out));
    let resumed = folder.as_deref().map(Store::resume).transpose()?;
    let name = match (&args.suite, &resumed) {
        (Some(name), _) => name.clone(),
        (None, Some((store, earlier))) => {
            // A suite of the user's own was kept with its run.
            let kept = store.folder().join(SUITE_FILE);
            if kept.is_file() { kept.display().to_string() } else { earlier.run.suite.clone() }
        }
        (None, None) => bail!(Error::Usage("name a suite".to_owned())),
    };
    let suite = select::suite(&name, &catalogue)?;
    let meter = EnergyMeter::open(&args.energy);
    let (energy, energy_window) = (meter.describe(), meter.available().then(|| meter.shortest_window()));
    drop(meter);
    let description = machine::describe(energy, !args.dry_run);
    let mut host = args.select.host(&suite, &catalogue, description.isa.clone())?;
    host.energy_window = energy_window;
    if args.dry_run {
        let plan = plan::make(&suite, &catalogue, &args.select.filter(), &host)?;
        say(super::plan::table(&suite, &plan, args.budget.or(suite.budget)).trim_end())?;
        return Ok(0);
    }
    let prepared = match resumed {
        Some((store, earlier)) => resume(&suite, &catalogue, &host, &description, (store, earlier))?,
        None => begin(args, &suite, &catalogue, &host, description)?,
    };
    let worker = args.worker.as_ref().map(|program| WorkerCommand(vec![program.into()]));
    let mut driver = Driver::new(&suite, &catalogue, &host, worker.map_or_else(WorkerCommand::own, Ok)?);
    driver.energy.clone_from(&args.energy);
    driver.run.clone_from(&prepared.run.name);
    driver.profile.clone_from(&prepared.run.build.profile);
    driver.data.clone_from(&args.select.data);
    driver.keep_requests = args.keep_requests;
    driver.budget = args.budget.or(suite.budget);
    driver.interrupt.install()?;
    execute(&mut driver, prepared)
}

fn begin(
    args: &Args,
    suite: &Suite,
    catalogue: &Catalogue,
    host: &Host,
    machine: suites::run::Machine,
) -> Result<Prepared> {
    let plan = plan::make(suite, catalogue, &args.select.filter(), host)?;
    let default = || format!("{}-{}", suite.name, jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let name = args.name.clone().unwrap_or_else(default);
    let build = machine::build();
    let run = Run {
        schema: SCHEMA,
        name: name.clone(),
        suite: suite.name.clone(),
        suite_digest: suite_digest(suite),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        seed: plan.seed,
        started: now(),
        finished: None,
        warnings: machine::warnings(&machine, &build),
        build,
        machine,
        models: models(suite, &plan)?,
        outside: host.outside.files(&plan)?,
    };
    let store = Store::create(&args.out, &name)?;
    store.keep_suite(&suite.text)?;
    store.write_plan(&plan)?;
    store.write_run(&run)?;
    let predicted: u64 = plan.steps.iter().map(|s| plan.cells[s.cell as usize].predicted_ns).sum();
    let predicted = progress::short(Duration::from_nanos(predicted));
    eprintln!(
        "{}: {} cells, {} steps, at most about {predicted}",
        store.folder().display(),
        plan.cells.len(),
        plan.steps.len()
    );
    Ok(Prepared { store, run, plan, earlier: None })
}

/// Goes on with a run, if suite, models, machine and build are still those it was begun with: a figure is a median over
/// processes, and never over those of two programs.
fn resume(
    suite: &Suite,
    catalogue: &Catalogue,
    host: &Host,
    machine: &suites::run::Machine,
    (store, earlier): (Store, Earlier),
) -> Result<Prepared> {
    let (run, plan) = (earlier.run.clone(), earlier.plan.clone());
    let folder = store.folder().display();
    let found = suite_digest(suite);
    if run.suite_digest != found {
        let message = format!(
            "{folder}: made of another suite `{}` (digest {}, now {found}): start a new run",
            run.suite, run.suite_digest
        );
        bail!(Error::Input(message));
    }
    if run.models != models(suite, &plan)? {
        bail!(Error::Input(format!("{folder}: the models' definitions have changed since: start a new run")));
    }
    if let Some(step) = plan.steps.iter().find(|s| s.cell as usize >= plan.cells.len()) {
        bail!(Error::Input(format!("{folder}/plan.json: a step names cell {} of {}", step.cell, plan.cells.len())));
    }
    let identity = |m: &suites::run::Machine| (m.cpu.clone(), m.cpus, m.isa.clone());
    if identity(&run.machine) != identity(machine) {
        let was = format!("{} with {} CPUs ({})", run.machine.cpu, run.machine.cpus, run.machine.isa.join(", "));
        bail!(Error::Input(format!("{folder}: begun on another machine, {was}: start a new run")));
    }
    for cell in plan.cells.iter().filter(|c| c.na.is_none()) {
        if cell.outside {
            if let Err(reason) = host.outside.find(&cell.cell.engine) {
                bail!(Error::Input(format!("{folder}: engine `{}`: {reason}", cell.cell.engine)));
            }
            continue;
        }
        let (model, _) = plan::resolve(suite, catalogue, &cell.cell)?;
        if let Err(reason) = host.path(model) {
            bail!(Error::Input(format!("{folder}: model `{}`: {reason} (or give --data again)", model.name())));
        }
    }
    if run.outside != host.outside.files(&plan)? {
        bail!(Error::Input(format!("{folder}: the outside engines' files have changed since: start a new run")));
    }
    if run.build != machine::build() {
        let revision = run.build.git_revision.as_deref().unwrap_or("unknown revision");
        let message = format!("{folder}: begun with another build of the program ({revision}): start a new run");
        bail!(Error::Input(message));
    }
    if earlier.torn {
        eprintln!("{folder}/records.jsonl: dropped a torn last line");
    }
    eprintln!("{folder}: going on after {} records", earlier.records.len());
    Ok(Prepared { store, run, plan, earlier: Some(earlier) })
}

/// Runs the plan, closes the run's books and renders the report, after an interrupt too.
fn execute(driver: &mut Driver<'_>, prepared: Prepared) -> Result<u8> {
    let Prepared { mut store, mut run, plan, earlier } = prepared;
    let (records, answers) = earlier.map_or_else(Default::default, |e| (e.records, e.answers));
    driver.keep(answers);
    let summary = driver.run(&plan, &records, &mut store)?;
    run.finished = (!summary.interrupted).then(now);
    store.write_run(&run)?;
    let data = reports::load(store.folder())?;
    reports::render(store.folder())?;
    say(reports::table(&data))?;
    say(store.folder().join("report.md").display())?;
    // The run's own files are the truth; the history can be made anew from them.
    if let Err(error) = history::feed(store.folder(), &data) {
        eprintln!("warning: this run is not in the history: {error:#}");
    }
    let Summary { ok, failed, na, interrupted } = summary;
    eprintln!("{ok} measured, {failed} failed, {na} not applicable or not begun");
    if interrupted {
        eprintln!("interrupted: go on with --resume {}", store.folder().display());
        return Ok(130);
    }
    let failures = data.records.iter().any(|r| matches!(r.outcome, suites::record::Outcome::Failed(_)));
    Ok(u8::from(failures))
}

fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

/// Digest of a suite's text.
pub(crate) fn suite_digest(suite: &Suite) -> String {
    digest(suite.text.as_bytes())
}

/// Digests of the models in `plan`.
pub(crate) fn models(suite: &Suite, plan: &Plan) -> Result<Vec<Digest>> {
    let names: BTreeSet<&str> = plan.cells.iter().map(|c| c.cell.model.as_str()).collect();
    let known = names.into_iter().filter_map(|name| suite.model(name));
    known
        .map(|model| {
            let digest = match model {
                ModelSpec::Synthetic(shape) => digest(&serde_json::to_vec(shape)?),
                ModelSpec::File(file) => format!("sha256:{}", file.sha256),
            };
            Ok(Digest { name: model.name().to_owned(), digest })
        })
        .collect()
}
