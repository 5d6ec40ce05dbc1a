//! The parts of `report.md` around the results: provenance, checks, what is missing, how to read it.

use crate::analysis::{Analysis, variant};
use crate::cells::Status;
use crate::load::RunData;
use crate::text::{bytes, code, escape, markdown_table, short, with_interval};
use std::collections::BTreeMap;
use std::fmt::Write;
use suites::record::{Check, Outcome, Record};
use suites::run::{Build, Machine, Topology};

/// What every report ends with.
pub(crate) const HOW_TO_READ: &str = "\
## How to read this

- A **process** is the replicate: each cell ran in one worker process a block, in seeded random order. A process's
  speed is the median over its timed windows; the figure is the median over processes.
- `12.3 [11.9, 12.8]` is a median and its 95 % interval over processes. With two to five processes the interval is the
  observed range, which holds the true median in 50, 75, 87.5 and 93.8 % of all runs. `[n=1]` has no interval: one process can't give one.
- **Speed-up** is candidate over baseline, divided block by block, so that drift of the machine cancels; the interval
  is over blocks.
- **Share of bandwidth** is tokens/s × bytes of weights and key/value cache read per token / read bandwidth measured with as many
  threads just before the process was started (at the start of the run in records of schema 1; without the cache before schema 4).
  Near 100 % the memory is the limit; over 100 % means that part of the weights stays in cache.
- **Outside** engines are other programs, run in the same order and timed by their own clocks. Their answers are not
  checked, so nothing says that such a speed is one of right answers. What they don't tell (latencies, load time, joules
  of a window) is N/A; that they read all of their model file for a token is assumed.
- **Modelled** joules are computed, not read from a counter or meter. They stand in rows and charts of their own and say so.
- **N/A** was not attempted, **FAILED** was and did not hold; the footnotes say why. A cell with one wrong answer is
  failed, however fast.
- Every figure is in `summary.csv`, every raw sample in `records.jsonl`.
";

/// A column of [`apart`]: its title, the metric, and how its figure is said.
pub(crate) type Column = (&'static str, &'static str, fn(f64) -> String);

/// What stands apart in a section of its own: cells that have the first of `columns`, and their
/// speed-up under the title `speedup`. Nothing if there are none.
pub(crate) fn apart(analysis: &Analysis, (title, note): (&str, &str), columns: &[Column], speedup: &str) -> String {
    let mut rows = Vec::new();
    let first = columns.first().map_or("", |(_, metric, _)| *metric);
    for c in analysis.cells.iter().filter(|c| c.metric(first).is_some()) {
        let mut row = vec![escape(&c.cell.model), escape(&c.cell.engine), c.cell.threads.to_string()];
        row.extend(columns.iter().map(|(_, metric, say)| c.figure(metric).map_or(String::new(), |f| say(f.value))));
        row.push(c.figure("speedup").map_or(String::new(), |f| format!("{}×", with_interval(f))));
        rows.push(row);
    }
    if rows.is_empty() {
        return String::new();
    }
    let titles = columns.iter().map(|(title, ..)| *title);
    let header: Vec<String> =
        ["model", "engine", "threads"].into_iter().chain(titles).chain([speedup]).map(str::to_owned).collect();
    format!("## {title}\n\n{note}\n\n{}\n", markdown_table(&header, &rows, 2))
}

/// Title, warnings, machine, build and the command.
pub(crate) fn header(data: &RunData, analysis: &Analysis) -> String {
    let run = &data.run;
    let mut out = format!("# Run {}\n\n", escape(&run.name));
    for warning in warnings(data) {
        let _ = writeln!(out, "> **Warning:** {}\n", escape(&warning));
    }
    let _ = writeln!(out, "Suite {} · {}.\n", code(&run.suite), counts(data, analysis));
    // Four spaces make a code block that no text inside can close.
    let _ = writeln!(out, "Command:\n\n    {}\n", command(data));
    let rows: Vec<Vec<String>> =
        facts(data).into_iter().map(|(name, value)| vec![name.to_owned(), escape(&value)]).collect();
    let _ = writeln!(out, "{}", markdown_table(&["machine and build".to_owned(), String::new()], &rows, 2));
    out
}

/// How many cells there are of each status, and how many processes were recorded.
pub(crate) fn counts(data: &RunData, analysis: &Analysis) -> String {
    let count = |status: Status| analysis.cells.iter().filter(|c| c.status == status).count();
    let outside = match count(Status::Outside) {
        0 => String::new(),
        n => format!("{n} measured by outside programs, "),
    };
    format!(
        "{} cells: {} measured, {outside}{} failed, {} N/A · {} processes recorded",
        analysis.cells.len(),
        count(Status::Ok),
        count(Status::Failed),
        count(Status::Na),
        data.records.iter().filter(|r| !matches!(r.outcome, Outcome::Na(_))).count(),
    )
}

/// The command line, as a shell would take it back.
pub(crate) fn command(data: &RunData) -> String {
    let words: Vec<String> = data.run.command.iter().map(|word| shell_word(word)).collect();
    words.join(" ")
}

/// Machine, build and provenance, in the order that reports have them.
pub(crate) fn facts(data: &RunData) -> Vec<(&'static str, String)> {
    let run = &data.run;
    let mut facts = machine(&run.machine);
    facts.extend(program(&run.build));
    facts.extend([
        ("suite digest", run.suite_digest.clone()),
        ("seed", run.seed.to_string()),
        ("started", run.started.clone()),
        ("finished", run.finished.clone().unwrap_or_else(|| "not finished".to_owned())),
    ]);
    facts
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn machine(machine: &Machine) -> Vec<(&'static str, String)> {
    let bandwidth: Vec<String> = machine
        .bandwidth
        .iter()
        .map(|b| format!("{} GB/s (threads: {})", short(b.bytes_per_second as f64 / 1e9), b.threads))
        .collect();
    let caches: Vec<String> =
        machine.caches.iter().map(|(name, size)| format!("{name} {}", bytes(*size as f64))).collect();
    let size = |b: Option<u64>| b.map_or_else(unknown, |b| bytes(b as f64));
    let milli = |value: f64, unit: &str| format!("{}{unit}", short(value / 1000.0));
    let list = |items: Vec<String>| if items.is_empty() { unknown() } else { items.join(", ") };
    vec![
        ("CPU", machine.cpu.clone()),
        ("CPUs / cores", format!("{} / {}", machine.cpus, machine.cores.map_or_else(unknown, |c| c.to_string()))),
        ("topology", machine.topology.as_ref().map_or_else(unknown, topology)),
        ("instruction sets", list(machine.isa.clone())),
        ("caches", list(caches)),
        ("memory", format!("{}, {} available", size(machine.memory_bytes), size(machine.available_bytes))),
        ("read bandwidth", if bandwidth.is_empty() { "not measured".to_owned() } else { bandwidth.join(", ") }),
        ("kernel", machine.kernel.clone()),
        ("virtualisation", machine.virtualisation.clone().unwrap_or_else(|| "none seen".to_owned())),
        ("governor", machine.governor.clone().unwrap_or_else(unknown)),
        ("turbo", machine.turbo.map_or_else(unknown, |t| if t { "on" } else { "off" }.to_owned())),
        ("load at start", machine.load_milli.map_or_else(unknown, |l| milli(l as f64, ""))),
        ("temperature at start", machine.temperature_mc.map_or_else(unknown, |t| milli(t as f64, " °C"))),
        ("energy", machine.energy.clone()),
    ]
}

fn program(build: &Build) -> Vec<(&'static str, String)> {
    let revision = build.git_revision.as_deref().map_or_else(unknown, |r| {
        let dirty = match build.git_dirty {
            Some(true) => " (dirty)",
            Some(false) => "",
            None => " (dirtiness unknown)",
        };
        format!("{r}{dirty}")
    });
    let assertions = if build.debug_assertions { "on" } else { "off" };
    vec![
        ("program", format!("{} {revision}", build.version)),
        ("profile", format!("{}, opt-level {}, debug assertions {assertions}", build.profile, build.opt_level)),
        ("compiler", format!("{}, {}", build.rustc, build.target)),
    ]
}

fn topology(topology: &Topology) -> String {
    let parts = [
        (topology.sockets, "sockets"),
        (topology.numa_nodes, "NUMA nodes"),
        (topology.threads_per_core, "threads a core"),
    ];
    let text = |(count, what): (Option<u32>, &str)| count.map_or(format!("{what} unknown"), |n| format!("{n} {what}"));
    parts.map(text).join(", ")
}

/// What a reader must know first: the run's own warnings, what the build and the files show, without repeats.
pub(crate) fn warnings(data: &RunData) -> Vec<String> {
    let (run, build) = (&data.run, &data.run.build);
    let mut all = run.warnings.clone();
    let mentions = |all: &[String], word: &str| all.iter().any(|w| w.to_lowercase().contains(word));
    if (build.debug_assertions || build.opt_level == "0") && !mentions(&all, "debug") {
        all.push("made by a debug build: speeds mean nothing".to_owned());
    }
    if build.git_dirty == Some(true) && !mentions(&all, "dirty") {
        all.push("the working tree was dirty: the revision does not tell what ran".to_owned());
    }
    if run.finished.is_none() {
        all.push("the run did not finish: figures are of the blocks recorded so far".to_owned());
    }
    if data.records.iter().filter_map(Record::measurement).any(|m| m.sparsity.is_some()) {
        all.push(crate::sparsity::NOTE.to_owned());
    }
    if data.records.iter().filter_map(Record::measurement).any(|m| m.bounded.is_some()) {
        all.push(crate::head::NOTE.to_owned());
    }
    all.extend(data.notes.iter().cloned());
    all
}

/// A word as a shell would take it back.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let clean: String = word.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("'{}'", clean.replace('\'', "'\\''"))
}

/// Answer checks of all processes together.
pub(crate) struct Checks {
    /// How many processes answered rightly, of how many checked, and how many of outside programs are unchecked.
    pub(crate) text: String,
    /// What was compared with, passed of made, largest distance, bound; empty if no answer was checked.
    pub(crate) rows: Vec<[String; 4]>,
}

/// Titles of the columns of [`Checks::rows`].
pub(crate) const CHECK_COLUMNS: [&str; 4] = ["compared with", "passed", "largest distance", "bound"];

#[derive(Default)]
struct Tally {
    made: usize,
    passed: usize,
    worst: Option<u64>,
    bound: u64,
    not_finite: usize,
}

impl Tally {
    fn row(&self, against: &str) -> [String; 4] {
        let mut worst = self.worst.map_or("not finite".to_owned(), ppb);
        if self.not_finite > 0 && self.worst.is_some() {
            worst = format!("{worst}, and {} not finite", self.not_finite);
        }
        let bound = if self.bound == 0 { "equal bit for bit".to_owned() } else { ppb(self.bound) };
        [against.to_owned(), format!("{} of {}", self.passed, self.made), worst, bound]
    }
}

/// How many answers were checked, and the largest distance of each kind of comparison against its bound.
pub(crate) fn tally(data: &RunData) -> Checks {
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let (mut passed, mut total) = (0usize, 0usize);
    let checks = data.records.iter().filter_map(|r| match &r.outcome {
        Outcome::Ok(m) => Some(&m.check),
        Outcome::Failed(f) => f.check.as_ref(),
        Outcome::Na(_) | Outcome::Outside(_) => None,
    });
    for check in checks {
        total += 1;
        passed += usize::from(Check::passed(check));
        for comparison in &check.comparisons {
            let tally = tallies.entry(&comparison.against).or_default();
            tally.made += 1;
            tally.passed += usize::from(comparison.pass);
            tally.bound = tally.bound.max(comparison.bound_ppb);
            tally.worst = tally.worst.max(comparison.relative_rms_ppb);
            tally.not_finite += usize::from(comparison.relative_rms_ppb.is_none());
        }
    }
    let outside = match data.records.iter().filter(|r| r.outside().is_some()).count() {
        0 => String::new(),
        n => format!("\n\nOf {n} processes of outside programs no answer was checked."),
    };
    let text = match total {
        0 => "No process got as far as an answer check.".to_owned(),
        _ => format!(
            "{passed} of {total} processes answered rightly. Distance: root mean square of the logits' difference over \
             that of the reference's logits."
        ),
    };
    let rows = tallies.iter().map(|(against, t)| t.row(against)).collect();
    Checks { text: text + &outside, rows: if total == 0 { Vec::new() } else { rows } }
}

/// The section of answer checks.
pub(crate) fn checks(data: &RunData) -> String {
    let Checks { text, rows } = tally(data);
    if rows.is_empty() {
        return format!("## Answer checks\n\n{text}\n\n");
    }
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    let header = CHECK_COLUMNS.map(str::to_owned);
    format!("## Answer checks\n\n{text}\n\n{}\n", markdown_table(&header, &rows, 1))
}

/// Geometric means of speed-ups over the models that both engines were measured with; nothing without two such models.
pub(crate) fn together(analysis: &Analysis) -> String {
    let rows: Vec<Vec<String>> = analysis
        .together
        .iter()
        .map(|t| {
            let threads = format!("{}{}", t.cell.threads, variant(&t.cell));
            let mean = t.mean.map_or("N/A: no block holds all".to_owned(), |mean| format!("{}×", with_interval(mean)));
            let engines = format!("{} / {}", t.cell.engine, t.baseline);
            let (models, left_out) = (t.models.to_string(), t.left_out.to_string());
            vec![code(&t.cell.workload.to_string()), escape(&engines), escape(&threads), models, left_out, mean]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let header =
        ["workload", "engines", "threads", "models", "left out", "geometric mean of speed-ups"].map(str::to_owned);
    format!(
        "## Speed-ups over all models\n\nThe geometric mean over the models that both engines were measured with, within each block that \
         holds all of them; the median over those blocks.\n\n{}\n",
        markdown_table(&header, &rows, 2)
    )
}

fn ppb(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("{:.2e}", value as f64 / 1e9) }
}

/// Failed and N/A cells with their reasons, cells of one reason together.
pub(crate) fn missing(analysis: &Analysis) -> String {
    let mut by_reason: Vec<(Status, &str, Vec<String>)> = Vec::new();
    for cell in &analysis.cells {
        let Some(reason) = cell.reason.as_deref() else { continue };
        let id = cell.cell.id();
        match by_reason.iter_mut().find(|(status, text, _)| *status == cell.status && *text == reason) {
            Some((_, _, ids)) => ids.push(id),
            None => by_reason.push((cell.status, reason, vec![id])),
        }
    }
    if by_reason.is_empty() {
        return String::new();
    }
    let mut out = "## Failures and cells without figures\n\n".to_owned();
    for (status, reason, ids) in &by_reason {
        let what = match status {
            Status::Ok => "measured, not by every process",
            Status::Outside => "measured by an outside program",
            Status::Failed => "FAILED",
            Status::Na => "N/A",
        };
        let ids: Vec<String> = ids.iter().map(|id| code(id)).collect();
        let _ = writeln!(out, "- **{what}**: {}: {}", escape(reason), ids.join(", "));
    }
    out.push('\n');
    out
}
