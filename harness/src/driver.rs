//! Runs a plan: one worker process a step, its answer held against the references, a record whatever comes of it.

pub mod child;
pub mod interrupt;
mod limit;
pub(crate) mod outside;
pub mod pipes;
pub mod process;
pub mod turns;

use crate::error::Error;
use crate::local::PAIR_BOUND_PPB;
use crate::plan::{self, Host, predict};
use crate::probe::energy::Options;
use crate::progress::Progress;
use crate::protocol::{Answer, Mode, Reference, Request, TaskRequest};
use crate::store::{KeptAnswer, Store};
use anyhow::Result;
use interrupt::Interrupt;
use process::{Ended, WorkerCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use suites::cell::KvCache;
use suites::eval::TaskAsk;
use suites::model::{EngineSpec, ModelSpec, WeightFormat};
use suites::record::{Check, Failure, Measurement, NotApplicable, Outcome, Record, SCHEMA, Sample};
use suites::run::{Plan, PlannedCell, Step};
use suites::{Catalogue, Cell, Suite};

/// How many times its predicted time a process may take, whatever shorter timeout the suite has.
pub(crate) const PATIENCE: u64 = 3;

/// Model, engine and KV-cache type: what a reference answer depends on.
type Key = (String, String, KvCache);

/// Everything a run needs besides its plan.
pub struct Driver<'a> {
    /// The suite.
    pub suite: &'a Suite,
    /// Engines.
    pub catalogue: &'a Catalogue,
    /// The machine.
    pub host: &'a Host,
    /// Where energy is read.
    pub energy: Options,
    /// What starts a worker.
    pub command: WorkerCommand,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// Name of the run.
    pub run: String,
    /// Build profile of this program.
    pub profile: String,
    /// Where fetched data lie, if not in the usual folders.
    pub data: Option<PathBuf>,
    /// Whether each request is kept in the run folder, so that its worker can be run by hand.
    pub keep_requests: bool,
    /// Whether the machine's limit is measured before each cell, for the share of it that was reached.
    pub limits: bool,
    /// No cell is begun that would end later than this after the start.
    pub budget: Option<Duration>,
    /// Reference answers, by what they depend on.
    answers: BTreeMap<Key, Result<Answer, Failure>>,
    /// Windows that a process of an outside cell takes, as earlier blocks told.
    windows: BTreeMap<Cell, u32>,
    /// Time spent on reference answers, which the cells' predictions leave out.
    answering: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cells measured.
    pub ok: u32,
    /// Cells failed.
    pub failed: u32,
    /// Cells not attempted.
    pub na: u32,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
}

impl<'a> Driver<'a> {
    /// A driver with nothing answered yet.
    pub fn new(suite: &'a Suite, catalogue: &'a Catalogue, host: &'a Host, command: WorkerCommand) -> Driver<'a> {
        Driver {
            suite,
            catalogue,
            host,
            energy: Options::default(),
            command,
            interrupt: Interrupt::default(),
            run: suite.name.clone(),
            profile: String::new(),
            data: None,
            keep_requests: false,
            limits: true,
            budget: None,
            answers: BTreeMap::new(),
            windows: BTreeMap::new(),
            answering: Duration::ZERO,
        }
    }

    /// Takes over the answers of an earlier part of the run.
    pub fn keep(&mut self, answers: Vec<KeptAnswer>) {
        self.answers.extend(answers.into_iter().map(|k| ((k.model, k.engine, k.kv), Ok(k.answer))));
    }

    /// Runs every step of `plan` that `earlier` has no record of.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn run(&mut self, plan: &Plan, earlier: &[Record], store: &mut Store) -> Result<Summary> {
        let done = finished(plan, earlier);
        let mut summary = Summary::default();
        for (index, cell) in plan.cells.iter().enumerate() {
            let Some(reason) = &cell.na else { continue };
            let step = Step { block: 0, cell: index as u32 };
            if !done.contains(&(step.block, step.cell)) {
                let outcome = Outcome::Na(NotApplicable { reason: reason.clone() });
                store.record(&self.row(cell, step, plan.steps.len() + index, now(), outcome))?;
            }
            summary.na += 1;
        }
        let open: Vec<(usize, Step)> =
            plan.steps.iter().copied().enumerate().filter(|(_, s)| !done.contains(&(s.block, s.cell))).collect();
        let mut progress = Progress::new(open.iter().map(|(_, s)| plan.cells[s.cell as usize].predicted_ns).collect());
        let start = Instant::now();
        for (order, step) in open {
            let cell = &plan.cells[step.cell as usize];
            progress.begin(&format!("{} block {}", cell.cell.id(), step.block));
            let (begun, started, answering) = (Instant::now(), now(), self.answering);
            let outcome = match self.budget.filter(|&budget| self.exceeds(budget, start, cell, progress.scale())) {
                Some(budget) => Ok(over_budget(budget)),
                None if cell.outside => self.outside_step(cell),
                None => self.step(cell, step.block, store),
            };
            let outcome = match outcome {
                Err(error) if error.is::<Error>() => {
                    summary.interrupted = true;
                    break;
                }
                outcome => outcome?,
            };
            match &outcome {
                Outcome::Ok(_) | Outcome::Outside(_) => summary.ok += 1,
                Outcome::Failed(_) => summary.failed += 1,
                Outcome::Na(_) => summary.na += 1,
            }
            let took = begun.elapsed().saturating_sub(self.answering - answering);
            progress.end(&told(cell, step, &outcome), took, !matches!(outcome, Outcome::Na(_)));
            store.record(&self.row(cell, step, order, started, outcome))?;
        }
        progress.finish();
        Ok(summary)
    }

    fn row(&self, cell: &PlannedCell, step: Step, order: usize, started: String, outcome: Outcome) -> Record {
        Record {
            schema: SCHEMA,
            run: self.run.clone(),
            suite: self.suite.name.clone(),
            cell: cell.cell.clone(),
            block: step.block,
            order: order as u32,
            started,
            profile: self.profile.clone(),
            outcome,
        }
    }

    /// Whether `cell`, with the references it still lacks, would end after the budget.
    fn exceeds(&self, budget: Duration, start: Instant, cell: &PlannedCell, scale: f64) -> bool {
        // An outside cell has no engine of the catalogue, and no references.
        let references = plan::resolve(self.suite, self.catalogue, &cell.cell).map_or(0, |(model, engine)| {
            let missing = |engine: &EngineSpec| !self.answers.contains_key(&key(model, engine, cell.cell.kv));
            let count = std::iter::once(engine).chain(self.pair(model, engine, cell.cell.kv)).filter(|e| missing(e));
            count.count() as u64 * predict::reference_ns(model, self.host.cpus)
        });
        let seconds = (cell.predicted_ns.saturating_add(references)) as f64 / 1e9 * scale;
        start.elapsed().as_secs_f64() + seconds > budget.as_secs_f64()
    }

    /// Runs one cell once.
    fn step(&mut self, cell: &PlannedCell, block: u32, store: &mut Store) -> Result<Outcome> {
        let request = match self.ask(cell, block, store)? {
            Ok(request) => request,
            Err(failure) => return Ok(Outcome::Failed(failure)),
        };
        let (model, engine) = plan::resolve(self.suite, self.catalogue, &cell.cell)?;
        let limit = self.limits.then(|| limit::before(&cell.cell, model, engine));
        let ended = process::run(&self.command, &request, self.timeout(cell.predicted_ns), &self.interrupt)?;
        Ok(match ended {
            Ended::Measured(mut measurement) => {
                if let Some(limit) = limit {
                    measurement.interference.bandwidth_before = limit.per_second.filter(|_| limit.name == "dram");
                    measurement.limit = limit::share(limit, cell.cell.workload, &measurement);
                }
                verified(measurement, &request.references)
            }
            Ended::Failed(failure) => Outcome::Failed(failure),
            Ended::Answered(_) | Ended::Overhead(_) => unasked(),
        })
    }

    /// What a cell's worker is asked, or why a reference that it needs is missing.
    fn ask(&mut self, cell: &PlannedCell, block: u32, store: &mut Store) -> Result<Result<Request, Failure>> {
        let (suite, catalogue) = (self.suite, self.catalogue);
        let (model, engine) = plan::resolve(suite, catalogue, &cell.cell)?;
        let own = match self.answer(model, engine, cell.cell.kv, store)? {
            Ok(answer) => answer,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut references = vec![Reference { against: "scalar reference".to_owned(), answer: own, bound_ppb: 0 }];
        if let Some(pair) = self.pair(model, engine, cell.cell.kv) {
            match self.answer(model, pair, cell.cell.kv, store)? {
                Ok(answer) => {
                    let against = format!("pair {}", pair.name);
                    // All ternary formats have the very same bits, but of a file's head that a bounded copy wants widened.
                    let one_head = engine.head == pair.head || matches!(model, ModelSpec::Synthetic(_));
                    let exact = engine.format.is_ternary() && pair.format == WeightFormat::Ternary && one_head;
                    let bound_ppb = if exact { 0 } else { PAIR_BOUND_PPB };
                    references.push(Reference { against, answer, bound_ppb });
                }
                Err(failure) => return Ok(Err(failure)),
            }
        }
        let mut request = self.request(&cell.cell, model, engine, cell.predicted_bytes, Mode::Measure, references);
        if block == 0 {
            request.tasks = cell.tasks.iter().map(|ask| self.task(&cell.cell, model, ask, store)).collect();
        }
        if self.keep_requests {
            store.request(&request)?;
        }
        Ok(Ok(request))
    }

    /// The engine that must agree on `model`, where there is one and it fits into memory here.
    fn pair(&self, model: &ModelSpec, engine: &EngineSpec, kv: KvCache) -> Option<&'a EngineSpec> {
        let ModelSpec::Synthetic(_) = model else { return None };
        let pair = self.catalogue.engine(engine.pair.as_ref()?).ok()?;
        let cell = plan::reference_cell(model, pair, kv, self.host.cpus);
        self.host.fits(model.predict_bytes(&cell, pair)).then_some(pair)
    }

    /// The scalar answer of `engine` on `model`: computed once, then remembered, failures too.
    fn answer(
        &mut self,
        model: &ModelSpec,
        engine: &EngineSpec,
        kv: KvCache,
        store: &mut Store,
    ) -> Result<Result<Answer, Failure>> {
        let key = key(model, engine, kv);
        if let Some(known) = self.answers.get(&key) {
            return Ok(known.clone());
        }
        let cell = plan::reference_cell(model, engine, kv, self.host.cpus);
        let bytes = model.predict_bytes(&cell, engine) + self.host.mapped_bytes(model);
        let request = self.request(&cell, model, engine, bytes, Mode::Answer, Vec::new());
        let begun = Instant::now();
        let timeout = self.timeout(predict::reference_ns(model, self.host.cpus));
        let ended = process::run(&self.command, &request, timeout, &self.interrupt)?;
        self.answering += begun.elapsed();
        let answer = match ended {
            Ended::Answered(answer) => {
                let (model, engine, kv) = key.clone();
                store.answer(&KeptAnswer { model, engine, kv, answer: answer.clone() })?;
                Ok(answer)
            }
            Ended::Failed(failure) => Err(Failure {
                stage: "reference".to_owned(),
                message: format!("{}: {}: {}", cell.id(), failure.stage, failure.message),
                ..failure
            }),
            Ended::Measured(_) | Ended::Overhead(_) => {
                Err(refused("reference", "the worker measured, but was asked to answer"))
            }
        };
        self.answers.insert(key, answer.clone());
        Ok(answer)
    }

    /// What the worker is told of a task; its items are logged in the run's folder.
    fn task(&self, cell: &Cell, model: &ModelSpec, ask: &TaskAsk, store: &Store) -> TaskRequest {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
        let name: String = format!("{}-{}", cell.id(), ask.task).chars().map(plain).collect();
        let name = format!("items/{}.jsonl", name.trim_end_matches(".toml"));
        let model_digest = match model {
            ModelSpec::File(file) => Some(file.sha256.clone()),
            ModelSpec::Synthetic(_) => None,
        };
        TaskRequest { ask: ask.clone(), data: self.data.clone(), model_digest, log: store.folder().join(&name), name }
    }

    /// The suite's timeout, or what a large model needs even on a machine slower than predicted.
    fn timeout(&self, predicted_ns: u64) -> Duration {
        self.suite.timeout.max(Duration::from_nanos(predicted_ns.saturating_mul(PATIENCE)))
    }

    fn request(
        &self,
        cell: &Cell,
        model: &ModelSpec,
        engine: &EngineSpec,
        predicted_bytes: u64,
        mode: Mode,
        references: Vec<Reference>,
    ) -> Request {
        Request {
            cell: cell.clone(),
            model: model.clone(),
            model_path: self.host.files.get(model.name()).and_then(|found| found.clone().ok()),
            format: engine.format,
            head: engine.head,
            seed: self.suite.seed,
            min_window_ns: u64::try_from(self.suite.min_window.as_nanos()).unwrap_or(u64::MAX),
            idle_ns: u64::try_from(self.suite.idle.as_nanos()).unwrap_or(u64::MAX),
            predicted_bytes,
            mode,
            references,
            energy: self.energy.clone(),
            tasks: Vec::new(),
        }
    }
}

fn key(model: &ModelSpec, engine: &EngineSpec, kv: KvCache) -> Key {
    (model.name().to_owned(), engine.name.clone(), kv)
}

/// Block and cell of every step that needs no further attempt: measured, failed, or planned as not applicable. What a
/// budget cut off is open.
fn finished(plan: &Plan, records: &[Record]) -> BTreeSet<(u32, u32)> {
    let indices: BTreeMap<&Cell, u32> = plan.cells.iter().zip(0..).map(|(c, i)| (&c.cell, i)).collect();
    let settled = |r: &&Record| {
        let planned = |i: &u32| plan.cells[*i as usize].na.is_some();
        !matches!(r.outcome, Outcome::Na(_)) || indices.get(&r.cell).is_some_and(planned)
    };
    records.iter().filter(settled).filter_map(|r| Some((r.block, *indices.get(&r.cell)?))).collect()
}

/// A measurement is one only if it measured something and the answer was held against every reference.
fn verified(measurement: Box<Measurement>, references: &[Reference]) -> Outcome {
    let check: &Check = &measurement.check;
    let compared =
        |r: &Reference| check.comparisons.iter().any(|c| c.against == r.against && c.bound_ppb == r.bound_ppb);
    let message = if measurement.samples.iter().all(|s| s.tokens == 0 || s.duration_ns == 0) {
        "the worker measured nothing"
    } else if !references.iter().all(compared) {
        "the worker left out a comparison it was asked for"
    } else if !check.passed() {
        "wrong answer"
    } else {
        return Outcome::Ok(measurement);
    };
    Outcome::Failed(Failure { check: Some(measurement.check), ..refused("check", message) })
}

fn refused(stage: &str, message: &str) -> Failure {
    Failure { stage: stage.to_owned(), message: message.to_owned(), stderr_tail: String::new(), check: None }
}

fn unasked() -> Outcome {
    Outcome::Failed(refused("protocol", "the worker answered, but was asked to measure"))
}

fn over_budget(budget: Duration) -> Outcome {
    let reason = format!("budget of {} used up", crate::progress::short(budget));
    Outcome::Na(NotApplicable { reason })
}

/// One line about a step, for who watches.
fn told(cell: &PlannedCell, step: Step, outcome: &Outcome) -> String {
    let what = match outcome {
        Outcome::Ok(m) => speed(&m.samples),
        Outcome::Outside(o) => format!("{}, {}", speed(&o.samples), o.unchecked),
        Outcome::Failed(f) => format!("FAILED at {}: {}", f.stage, f.message),
        Outcome::Na(na) => format!("N/A: {}", na.reason),
    };
    format!("{} block {}: {what}", cell.cell.id(), step.block)
}

/// Tokens per second over all windows, for who watches.
fn speed(samples: &[Sample]) -> String {
    let tokens: f64 = samples.iter().map(|s| f64::from(s.tokens)).sum();
    let seconds: f64 = samples.iter().map(|s| s.duration_ns as f64 / 1e9).sum();
    format!("{:.1} tokens/s", tokens / seconds)
}

/// Now, RFC 3339, UTC.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
