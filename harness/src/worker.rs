//! One cell in its own process: load, check, measure. A request comes in on stdin, events go out on stdout.

mod overhead;
#[cfg(feature = "planted")]
mod planted;
mod tasks;

use crate::answer;
use crate::local::{self, Opened};
use crate::machine;
use crate::probe::counters::{self, Counters};
use crate::probe::energy::EnergyMeter;
use crate::probe::energy::arithmetic::Tally;
use crate::probe::{facts::Facts, phases::Phases, procfs};
use crate::protocol::{Answer, Event, Mode, Request};
use anyhow::{Context as _, Result, anyhow, ensure};
use engine::bounded::BoundedHead;
use engine::model::{Model, Session};
use std::io::{BufRead, Read as _, Write as _};
use std::time::{Duration, Instant};
use suites::Phase;
use suites::arithmetic::{Counted, Layers};
use suites::model::HeadMode;
use suites::record::{
    Bounded, Check, Footprint, Interference, Measurement, Memory, Ran, Sample, Sparsity, Stage, ThreadCounters,
};

/// Windows repeated at most, however short they are.
pub(crate) const MAX_SAMPLES: usize = 1000;
/// Tokens of a warm-up before prefill at most.
pub(crate) const WARM_UP_PREFILL: u32 = 32;
/// Tokens of a warm-up before decoding, behind the depth.
pub(crate) const WARM_UP_DECODE: u32 = 3;
/// How long a process runs before each window of a turn, at least.
pub(crate) const SETTLE: Duration = Duration::from_millis(5);
/// Largest request read from stdin.
const MAX_REQUEST: u64 = 16 << 20;
/// Longest line that gives a turn.
const MAX_TURN: u64 = 64;

/// A stage of the work, for the record of a failure.
struct Failed {
    stage: &'static str,
    error: anyhow::Error,
    check: Option<Check>,
}

fn at(stage: &'static str) -> impl Fn(anyhow::Error) -> Failed {
    move |error| Failed { stage, error, check: None }
}

/// Runs the request on stdin; with `parent`, no longer than that process lives; with `turns`, a window for each line after it. The outcome, failures included, is told by events; the exit code is 1 after a failure.
///
/// # Errors
/// Only if stdin or stdout fail.
pub fn main(parent: Option<i32>, turns: bool) -> Result<u8> {
    if let Some(parent) = parent {
        crate::parent::end_with(parent)?;
    }
    emit(&Event::Started { pid: std::process::id(), profile: machine::build().profile })?;
    let mut input = std::io::stdin().lock();
    let (mut text, mut bounded) = (String::new(), (&mut input).take(MAX_REQUEST));
    let read = if turns { bounded.read_line(&mut text) } else { bounded.read_to_string(&mut text) };
    read.context("reading the request")?;
    let request = serde_json::from_str(&text).context("the request").map_err(at("protocol"));
    let result = request.and_then(|r| run(&r, turns.then_some(&mut input)));
    match result {
        Ok(event) => emit(&event).map(|()| 0),
        Err(Failed { stage, error, check }) => {
            emit(&Event::Failed { stage: stage.to_owned(), message: format!("{error:#}"), check })?;
            Ok(1)
        }
    }
}

fn emit(event: &Event) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, event)?;
    out.write_all(b"\n")?;
    out.flush().context("writing an event")
}

/// What reads energy all the time.
fn meter(request: &Request, tally: &Tally) -> EnergyMeter {
    match request.mode {
        Mode::Measure => EnergyMeter::of_engine(&request.energy, tally),
        // Of overhead, windows without a meter are to have none.
        Mode::Answer | Mode::Overhead { .. } => EnergyMeter::none("not asked for"),
    }
}

fn run(request: &Request, turns: Option<&mut impl BufRead>) -> Result<Event, Failed> {
    let tally = Tally::default();
    let energy = meter(request, &tally);
    // Before the pool: only threads made later are counted.
    let mut counters = Counters::open();
    let facts = Facts::of_machine(request.energy.sysfs_root.as_deref());
    let mut phases = Phases::new(&energy, Duration::from_nanos(request.idle_ns), facts);
    if request.mode == Mode::Measure {
        phases.rest(Stage::IdleBefore);
    }
    phases.begin();
    let start = Instant::now();
    let cell = &request.cell;
    let path = request.model_path.as_deref();
    let weights = (request.format, request.head);
    let opened = local::open(&request.model, path, weights, cell.isa.as_deref(), cell.threads).map_err(at("load"))?;
    let wanted = request.head == HeadMode::Bounded && request.mode == Mode::Measure;
    let bounded = wanted.then(|| local::bounded(&opened)).transpose().map_err(at("load"))?;
    let load_ns = nanos(start);
    phases.end(Stage::Load, 0);
    emit(&Event::Loaded { load_ns }).map_err(at("protocol"))?;
    let vocab = opened.model.config().vocab;
    let context = (cell.workload.context() as usize).max(answer::BATCH_TOKENS);
    let mut session = opened.session(context, local::kv(cell.kv)).map_err(at("load"))?;
    let found = answer::probe(&mut session, request.seed, vocab).map_err(at("check"))?;
    if request.mode == Mode::Answer {
        return Ok(Event::Answer(found));
    }
    let bounded = bounded.as_ref();
    if let Some(head) = bounded {
        session.use_bounded_head(head).map_err(|error| at("load")(error.into()))?;
    }
    let check = checked(request, &mut session, found, bounded.is_some())?;
    emit(&Event::Checked { check: check.clone() }).map_err(at("protocol"))?;
    let price = Price { tally, counted: opened.counted(), layers: Layers::of(request.format) };
    // Windows in turns are measured as often as asked; those after them are for joules alone.
    let wanted = Duration::from_nanos(if turns.is_some() { 0 } else { request.min_window_ns });
    let min_window = wanted.max(energy.shortest_window());
    counters.open_threads(&counters::pool_threads(), opened.pool.threads());
    let mut bench = Bench { request, session: &mut session, bounded, vocab, price, min_window };
    bench.warm_up(&mut phases).map_err(at("measure"))?;
    if let Mode::Overhead { quads } = request.mode {
        let quads = bench.overhead(quads, &request.energy).map_err(at("measure"))?;
        return Ok(Event::Overhead { quads });
    }
    let in_turns = turns.map(|turns| bench.in_turns(turns)).transpose().map_err(at("measure"))?;
    let mut measured = bench.windows(&mut phases, &mut counters).map_err(at("measure"))?;
    measured.samples = in_turns.unwrap_or(measured.samples);
    phases.rest(Stage::IdleAfter);
    let bytes = (session.kv_bytes() as u64, bounded.map_or(0, |head| head.bytes() as u64));
    let accuracy = tasks::answer(request, &opened, &mut phases);
    let measurement = finish(request, &opened, bytes, load_ns, check, measured, phases);
    Ok(Event::Done(Box::new(Measurement { accuracy, ..measurement })))
}

/// Holds the answer `found` against the references, a batch's against single tokens', and a bounded head's tokens against the whole one's.
fn checked(request: &Request, session: &mut Session<'_>, found: Answer, bounded: bool) -> Result<Check, Failed> {
    let vocab = found.vocab as usize;
    let mut comparisons: Vec<_> = request.references.iter().map(|r| answer::compare(&found, r)).collect();
    if request.cell.workload.phase == Phase::Prefill {
        comparisons.push(answer::batch_equals_decode(session, request.seed, vocab).map_err(at("check"))?);
    }
    if bounded {
        comparisons.push(answer::same_tokens(session, request.seed, vocab).map_err(at("check"))?);
    }
    let check = Check { digest: found.digest, argmax: found.argmax, comparisons };
    if check.passed() {
        return Ok(check);
    }
    Err(Failed { stage: "check", error: anyhow!("{}", explain(&check)), check: Some(check) })
}

/// Why a check failed, in one line.
fn explain(check: &Check) -> String {
    let failed = check.comparisons.iter().filter(|c| !c.pass).map(|c| {
        let found = c.relative_rms_ppb.map_or("not comparable".to_owned(), |d| format!("{:.6}", d as f64 / 1e9));
        let bound =
            if c.bound_ppb == 0 { "0, bit for bit".to_owned() } else { format!("{:.6}", c.bound_ppb as f64 / 1e9) };
        format!("against {}: relative rms distance {found}, bound {bound}", c.against)
    });
    let list: Vec<String> = failed.collect();
    if list.is_empty() {
        "nothing to hold the answer against".to_owned()
    } else {
        format!("wrong answer {}", list.join("; "))
    }
}

/// What the windows gave.
struct Measured {
    samples: Vec<Sample>,
    counters: Vec<suites::record::Counter>,
    thread_counters: Vec<ThreadCounters>,
    sparsity: Option<Sparsity>,
    bounded: Option<Bounded>,
    interference: Interference,
}

/// Weight bytes that a token reads: what the model has, less what was left out of the feed-forwards on average, and what a
/// bounded head read on average in place of the whole one.
fn read_per_token(model: &Model, sparsity: Option<&Sparsity>, bounded: Option<&Bounded>) -> u64 {
    let left_out = sparsity.map_or(0, |s| s.dense_bytes.saturating_sub(s.read_bytes) / s.tokens);
    let read = model.footprint().read_per_token as u64 - left_out;
    bounded.map_or(read, |b| read - b.full_bytes + b.read_bytes / b.tokens)
}

struct Bench<'a, 'm> {
    request: &'a Request,
    session: &'a mut Session<'m>,
    /// The copy by which tokens are chosen in decode.
    bounded: Option<&'a BoundedHead<'m>>,
    vocab: usize,
    price: Price,
    /// The window is repeated until this much is measured: what was asked for, or what energy needs.
    min_window: Duration,
}

/// What the arithmetic of a token is modelled to take, and where it is added up.
struct Price {
    tally: Tally,
    counted: Counted,
    layers: Layers,
}

impl Price {
    fn add(&self, from: u32, tokens: u32, times: usize) {
        let (from, tokens) = (u64::from(from), u64::from(tokens));
        self.tally.add(&self.counted, self.layers, (from, from + tokens), times as u64);
    }
}

impl Bench<'_, '_> {
    fn prompt(&self, count: u32) -> Vec<u32> {
        answer::tokens(self.request.seed, self.vocab, count as usize)
    }

    /// Brings caches, pages and clocks to where they stay: a short batch, or the depth and a few tokens.
    fn warm_up(&mut self, phases: &mut Phases<'_>) -> Result<()> {
        let workload = self.request.cell.workload;
        phases.begin();
        self.fill(workload.depth())?;
        if workload.phase == Phase::Decode && workload.depth() > 0 {
            self.price.add(0, workload.depth(), 1);
            phases.end(Stage::Prefill, workload.depth().into());
        }
        match workload.phase {
            Phase::Prefill => {
                let tokens = self.prompt(workload.tokens.min(WARM_UP_PREFILL));
                self.session.prefill(&tokens)?;
            }
            Phase::Decode => {
                for token in self.prompt(workload.tokens.min(WARM_UP_DECODE)) {
                    self.step(token)?;
                }
            }
        }
        Ok(())
    }

    /// Fills the cache to `depth` positions; outside every window.
    fn fill(&mut self, depth: u32) -> Result<()> {
        self.session.truncate(0);
        if depth > 0 {
            let tokens = self.prompt(depth);
            self.session.prefill(&tokens)?;
        }
        Ok(())
    }

    /// A window whenever the driver says so, until it says no more. Joules, counters and interference of so short windows would be
    /// those of the other side's too: they are of the windows afterwards.
    fn in_turns(&mut self, turns: &mut impl BufRead) -> Result<Vec<Sample>> {
        let tokens = self.prompt(self.request.cell.workload.tokens);
        let (mut samples, mut line) = (Vec::new(), String::new());
        loop {
            emit(&Event::Ready)?;
            line.clear();
            if turns.by_ref().take(MAX_TURN).read_line(&mut line).context("waiting for a turn")? == 0 {
                return Ok(samples);
            }
            ensure!(samples.len() < MAX_SAMPLES, "more than {MAX_SAMPLES} turns");
            self.settle(&tokens)?;
            samples.push(self.sample(&tokens)?);
        }
    }

    /// Brings back into caches what the other side's turn has put out of them.
    fn settle(&mut self, tokens: &[u32]) -> Result<()> {
        let (workload, start) = (self.request.cell.workload, Instant::now());
        for round in 0.. {
            match (workload.phase, round % tokens.len().max(1)) {
                (Phase::Prefill, _) => {
                    self.session.truncate(workload.depth() as usize);
                    self.session.prefill(&tokens[..tokens.len().min(WARM_UP_PREFILL as usize)])?;
                }
                (Phase::Decode, nth) => {
                    if nth == 0 {
                        self.session.truncate(workload.depth() as usize);
                    }
                    self.step(tokens[nth])?;
                }
            }
            if start.elapsed() >= SETTLE {
                break;
            }
        }
        Ok(())
    }

    /// One window behind the depth.
    fn sample(&mut self, tokens: &[u32]) -> Result<Sample> {
        let workload = self.request.cell.workload;
        self.session.truncate(workload.depth() as usize);
        match workload.phase {
            Phase::Prefill => self.prefill(tokens),
            Phase::Decode => self.decode(tokens),
        }
    }

    /// Repeats the window until [`Bench::min_window`] is measured.
    fn windows(&mut self, phases: &mut Phases<'_>, counters: &mut Counters) -> Result<Measured> {
        let workload = self.request.cell.workload;
        let load_milli = procfs::load_milli();
        let (steal, switches) = (procfs::steal_ns(), procfs::involuntary_switches());
        let tokens = self.prompt(workload.tokens);
        let mut samples: Vec<Sample> = Vec::new();
        let mut measured_ns = 0;
        let (reads, head_reads) = (self.session.sparse_reads(), self.session.head_reads());
        phases.begin();
        counters.start();
        while samples.is_empty()
            || (u128::from(measured_ns) < self.min_window.as_nanos() && samples.len() < MAX_SAMPLES)
        {
            let sample = self.sample(&tokens)?;
            measured_ns += sample.duration_ns;
            samples.push(sample);
        }
        counters.stop();
        self.price.add(workload.depth(), workload.tokens, samples.len());
        phases.end(stage(workload.phase), samples.iter().map(|s| u64::from(s.tokens)).sum());
        let since = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Ok(Measured {
            samples,
            counters: counters.read(),
            thread_counters: counters.read_threads(),
            sparsity: reads.and_then(|before| local::sparsity(self.session, before)),
            bounded: self.bounded.zip(head_reads).and_then(|(h, before)| local::head_reads(self.session, h, before)),
            interference: Interference {
                steal_ns: since(procfs::steal_ns(), steal),
                involuntary_switches: since(procfs::involuntary_switches(), switches),
                load_milli,
                bandwidth_before: None,
            },
        })
    }

    fn prefill(&mut self, tokens: &[u32]) -> Result<Sample> {
        let start = Instant::now();
        let logits = self.session.prefill(tokens)?;
        let duration_ns = nanos(start);
        std::hint::black_box(answer::argmax(logits));
        Ok(Sample { tokens: tokens.len() as u32, duration_ns, ttft_ns: Some(nanos(start)), token_ns: Vec::new() })
    }

    /// Appends a token, and computes all logits, or chooses one by a bounded head.
    fn step(&mut self, token: u32) -> Result<()> {
        if self.bounded.is_some() {
            std::hint::black_box(self.session.decode_greedy(token)?);
        } else {
            std::hint::black_box(self.session.decode(token)?);
        }
        Ok(())
    }

    fn decode(&mut self, tokens: &[u32]) -> Result<Sample> {
        let mut token_ns = Vec::with_capacity(tokens.len());
        let start = Instant::now();
        let mut last = start;
        for &token in tokens {
            self.step(token)?;
            #[cfg(feature = "planted")]
            planted::slow(last);
            let now = Instant::now();
            token_ns.push((now - last).as_nanos() as u64);
            last = now;
        }
        let duration_ns = (last - start).as_nanos() as u64;
        Ok(Sample { tokens: tokens.len() as u32, duration_ns, ttft_ns: None, token_ns })
    }
}

/// The stage of a cell's windows.
fn stage(phase: Phase) -> Stage {
    match phase {
        Phase::Prefill => Stage::Prefill,
        Phase::Decode => Stage::Decode,
    }
}

fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

fn finish(
    request: &Request,
    opened: &Opened,
    (kv_bytes, copy_bytes): (u64, u64),
    load_ns: u64,
    check: Check,
    measured: Measured,
    phases: Phases<'_>,
) -> Measurement {
    let memory = procfs::own_memory();
    let footprint = opened.model.footprint();
    Measurement {
        ran: Ran {
            isa: opened.kernels.isa().to_string(),
            linear: opened.model.linear_kind().to_owned(),
            head: match request.head {
                HeadMode::Full => opened.model.head().kind().to_owned(),
                HeadMode::Bounded => format!("{} bounded", opened.model.head().kind()),
            },
            kv: format!("{:?}", request.cell.kv).to_lowercase(),
            profile: machine::build().profile,
            pinned: opened.pool.pinned(),
        },
        load_ns,
        samples: measured.samples,
        footprint: Footprint {
            weights_bytes: footprint.total() as u64 + copy_bytes,
            linear_bytes: footprint.linear_bytes as u64,
            read_per_token_bytes: read_per_token(&opened.model, measured.sparsity.as_ref(), measured.bounded.as_ref()),
            linear_weights: Some(footprint.linear_weights as u64),
            kv_bytes,
        },
        memory: Memory {
            peak_rss_bytes: phases.peak(),
            rss_anon_bytes: memory.anon,
            rss_file_bytes: memory.file,
            rss_program_bytes: procfs::own_program(),
            predicted_bytes: request.predicted_bytes,
        },
        energy: phases.energy(stage(request.cell.workload.phase)),
        phases: phases.into_records(),
        counters: measured.counters,
        thread_counters: measured.thread_counters,
        check,
        sparsity: measured.sparsity,
        bounded: measured.bounded,
        accuracy: Vec::new(),
        interference: measured.interference,
        limit: None,
    }
}
