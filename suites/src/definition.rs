//! Suites: wire type first, then the checked domain type.

use crate::catalogue::Catalogue;
use crate::cell::{Cell, KvCache, Workload};
use crate::error::Error;
use crate::eval::TaskAsk;
use crate::model::{EngineSpec, ModelFile, ModelSpec, Shape, with_hint};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use toml::Spanned;

/// A suite file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSuite {
    name: String,
    about: String,
    blocks: u32,
    seed: u64,
    budget: Option<Spanned<String>>,
    timeout: Spanned<String>,
    min_window: Spanned<String>,
    idle: Option<Spanned<String>>,
    group: Vec<WireGroup>,
    #[serde(default)]
    synthetic: Vec<Shape>,
    #[serde(default)]
    file: Vec<ModelFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireGroup {
    models: Vec<Spanned<String>>,
    #[serde(default)]
    fallback: Vec<Spanned<String>>,
    #[serde(default)]
    engines: Vec<Spanned<String>>,
    #[serde(default)]
    outside: Vec<Spanned<String>>,
    threads: WireThreads,
    workloads: Vec<Spanned<String>>,
    #[serde(default)]
    kv: KvCache,
    isa: Option<Spanned<String>>,
    blocks: Option<u32>,
    #[serde(default)]
    tasks: Vec<TaskAsk>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of thread counts, or \"powers-of-two\"")]
enum WireThreads {
    Counts(Vec<u32>),
    Rule(String),
}

/// Which thread counts a group runs at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Exactly these.
    Counts(Vec<u32>),
    /// 1, 2, 4, .. up to the machine's CPUs, and that number itself.
    PowersOfTwo,
}

impl Threads {
    /// The counts on a machine with `cpus` usable CPUs.
    pub fn on(&self, cpus: u32) -> Vec<u32> {
        match self {
            Threads::Counts(counts) => counts.clone(),
            Threads::PowersOfTwo => {
                let mut counts: Vec<u32> = (0..32).map(|p| 1 << p).take_while(|&n| n <= cpus).collect();
                if counts.last() != Some(&cpus) && cpus > 0 {
                    counts.push(cpus);
                }
                counts
            }
        }
    }
}

/// Cells that share engines, models, thread counts and workloads.
#[derive(Clone, Debug)]
pub struct Group {
    /// Model names, all known.
    pub models: Vec<String>,
    /// Model names that stand in for file models that are not on this machine.
    pub fallback: Vec<String>,
    /// Engine names, all known.
    pub engines: Vec<String>,
    /// Names of outside engines: which programs they are, the user's `--outside` file says ([`crate::outside`]).
    pub outside: Vec<String>,
    /// Thread counts.
    pub threads: Threads,
    /// Timed windows.
    pub workloads: Vec<Workload>,
    /// KV-cache type.
    pub kv: KvCache,
    /// Forced instruction set.
    pub isa: Option<String>,
    /// Blocks (processes per cell) where this group has fewer than the suite.
    pub blocks: u32,
    /// What is asked of each model after the windows of its first block.
    pub tasks: Vec<TaskAsk>,
}

/// A cell as a suite asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is measured.
    pub cell: Cell,
    /// Processes.
    pub blocks: u32,
    /// What is asked of the model besides.
    pub tasks: Vec<TaskAsk>,
}

/// A checked suite.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Name on the command line.
    pub name: String,
    /// One line for `list`.
    pub about: String,
    /// Processes per cell: the replicates that intervals are formed over.
    pub blocks: u32,
    /// Seed of the cell order.
    pub seed: u64,
    /// Time after which no new cell is begun, unless the command line says otherwise.
    pub budget: Option<Duration>,
    /// Time after which a worker is killed, or thrice what was predicted for it, whichever is longer.
    pub timeout: Duration,
    /// A window is repeated inside the process until this much time is measured.
    pub min_window: Duration,
    /// Where energy can be measured, the machine is measured at rest for so long before each cell and after it: 2 s unless said.
    pub idle: Duration,
    /// What runs.
    pub groups: Vec<Group>,
    /// Every model the suite may name: the catalogue's and its own.
    pub models: Vec<ModelSpec>,
    /// The text the suite was read from, for its digest.
    pub text: String,
}

/// How long the machine is measured at rest unless the suite says: long beside a counter's refresh.
pub const IDLE: Duration = Duration::from_secs(2);
/// Most cells that a suite may ask for.
const MAX_CELLS: usize = 100_000;

impl Suite {
    /// Reads a suite from TOML. `origin` is the file name for messages.
    ///
    /// # Errors
    /// Syntax, unknown keys, unknown models or engines (each with line and nearest right name), values out of range.
    pub fn parse(text: &str, origin: &str, catalogue: &Catalogue) -> Result<Suite, Error> {
        let parse = |message: String| Error::Parse { origin: origin.to_owned(), message };
        let wire: WireSuite = toml::from_str(text).map_err(|e| parse(with_hint(&e.to_string())))?;
        let mut models = catalogue.models.clone();
        for model in
            wire.synthetic.into_iter().map(ModelSpec::Synthetic).chain(wire.file.into_iter().map(ModelSpec::File))
        {
            crate::catalogue::add_model(&mut models, model, origin)?;
        }
        let context = Context { text, origin, models: &models, engines: &catalogue.engines };
        let range = |key: &str, value: u32| {
            if (1..=1000).contains(&value) { Ok(value) } else { Err(context.value(key, "1 to 1000", value)) }
        };
        let blocks = range("blocks", wire.blocks)?;
        let mut groups = Vec::new();
        for group in wire.group {
            let limit = group.blocks.map_or(Ok(blocks), |b| range("group.blocks", b))?;
            if limit > blocks {
                return Err(context.value("group.blocks", &format!("at most the suite's {blocks}"), limit));
            }
            groups.push(context.group(group, limit)?);
        }
        if groups.is_empty() {
            return Err(context.value("group", "at least one", "none"));
        }
        context.fits(&groups)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if wire.name.is_empty() || wire.name.starts_with(['.', '-']) || !wire.name.chars().all(plain) {
            return Err(context.value(
                "name",
                "letters, digits, `-`, `_` and `.`, as runs are named by it",
                &wire.name,
            ));
        }
        Ok(Suite {
            name: wire.name,
            about: wire.about,
            blocks,
            seed: wire.seed,
            budget: wire.budget.map(|b| context.duration("budget", &b)).transpose()?,
            timeout: context.duration("timeout", &wire.timeout)?,
            min_window: context.duration("min_window", &wire.min_window)?,
            idle: wire.idle.map_or(Ok(IDLE), |idle| context.duration("idle", &idle))?,
            groups,
            models,
            text: text.to_owned(),
        })
    }

    /// The model called `name`.
    pub fn model(&self, name: &str) -> Option<&ModelSpec> {
        self.models.iter().find(|m| m.name() == name)
    }

    /// Whether the suite's engine called `name` is an outside one; no engine of the project has such a name.
    pub fn is_outside(&self, name: &str) -> bool {
        self.groups.iter().any(|g| g.outside.iter().any(|outside| outside == name))
    }

    /// Every cell on a machine with `cpus` CPUs, without repeats, in order of definition.
    /// `present` tells whether a file model is on this machine; a missing one is replaced by the group's fallback, if any.
    pub fn cells(&self, cpus: u32, present: impl Fn(&ModelSpec) -> bool) -> Vec<Asked> {
        let mut seen = BTreeSet::new();
        let mut cells = Vec::new();
        for group in &self.groups {
            let missing = |name: &String| self.model(name).is_some_and(|m| !present(m));
            let mut models: Vec<&String> =
                group.models.iter().filter(|name| group.fallback.is_empty() || !missing(name)).collect();
            if models.len() < group.models.len() {
                models.extend(&group.fallback);
            }
            for model in models {
                for &threads in &group.threads.on(cpus) {
                    for engine in group.engines.iter().chain(&group.outside) {
                        for &workload in &group.workloads {
                            let cell = Cell {
                                engine: engine.clone(),
                                model: model.clone(),
                                threads,
                                workload,
                                kv: group.kv,
                                isa: group.isa.clone(),
                            };
                            if seen.insert(cell.clone()) {
                                cells.push(Asked { cell, blocks: group.blocks, tasks: group.tasks.clone() });
                            }
                        }
                    }
                }
            }
        }
        cells
    }
}

/// What messages need: the text for line numbers, and the names that exist.
struct Context<'a> {
    text: &'a str,
    origin: &'a str,
    models: &'a [ModelSpec],
    engines: &'a [EngineSpec],
}

impl Context<'_> {
    /// Refuses more cells than any machine could run.
    fn fits(&self, groups: &[Group]) -> Result<(), Error> {
        let threads = |group: &Group| match &group.threads {
            Threads::Counts(counts) => counts.len(),
            Threads::PowersOfTwo => 14,
        };
        let models = |group: &Group| group.models.len() + group.fallback.len();
        let engines = |group: &Group| group.engines.len() + group.outside.len();
        let cells = |group: &Group| threads(group) * models(group) * engines(group) * group.workloads.len();
        let asked: usize = groups.iter().map(cells).sum();
        if asked > MAX_CELLS {
            return Err(self.value("group", &format!("at most {MAX_CELLS} cells in all"), asked));
        }
        Ok(())
    }

    fn group(&self, wire: WireGroup, blocks: u32) -> Result<Group, Error> {
        let model_names = || self.models.iter().map(ModelSpec::name);
        let models = self.names("model", &wire.models, model_names)?;
        let fallback = self.names("model", &wire.fallback, model_names)?;
        let engines = self.names("engine", &wire.engines, || self.engines.iter().map(|e| e.name.as_str()))?;
        let outside: Vec<String> = wire.outside.iter().map(|name| self.outside(name)).collect::<Result<_, _>>()?;
        if models.is_empty() || engines.is_empty() && outside.is_empty() || wire.workloads.is_empty() {
            return Err(self.value("group", "at least one model, engine and workload", "an empty list"));
        }
        let threads = match wire.threads {
            WireThreads::Rule(rule) if rule == "powers-of-two" => Threads::PowersOfTwo,
            WireThreads::Rule(rule) => {
                return Err(self.value("group.threads", "a list of thread counts, or \"powers-of-two\"", rule));
            }
            WireThreads::Counts(counts) if counts.is_empty() => {
                return Err(self.value("group.threads", "at least one thread count", "an empty list"));
            }
            WireThreads::Counts(counts) => match counts.iter().find(|n| !(1..=4096).contains(*n)) {
                Some(n) => return Err(self.value("group.threads", "counts of 1 to 4096", n)),
                None => Threads::Counts(counts),
            },
        };
        let workloads = wire.workloads.iter().map(|w| {
            w.get_ref().parse().map_err(|message: String| Error::Parse {
                origin: format!("{}:{}", self.origin, self.line(w)),
                message,
            })
        });
        let isa = match &wire.isa {
            Some(isa) => self
                .names("isa", std::slice::from_ref(isa), || ["scalar", "avx2", "avxvnni", "avx512", "amx"].into_iter())?
                .pop(),
            None => None,
        };
        Ok(Group {
            models,
            fallback,
            engines,
            outside,
            threads,
            workloads: workloads.collect::<Result<_, _>>()?,
            kv: wire.kv,
            isa,
            blocks,
            tasks: wire.tasks,
        })
    }

    /// The name of an outside engine, which no file of the program lists.
    fn outside(&self, name: &Spanned<String>) -> Result<String, Error> {
        let own = |name: &str| self.engines.iter().any(|e| e.name == name);
        match crate::outside::name(name.get_ref(), own) {
            Ok(()) => Ok(name.get_ref().clone()),
            Err(expected) => Err(Error::Parse {
                origin: format!("{}:{}", self.origin, self.line(name)),
                message: format!("group.outside: expected {expected}, found `{}`", name.get_ref()),
            }),
        }
    }

    fn names<'n, I: Iterator<Item = &'n str>>(
        &self,
        what: &'static str,
        names: &[Spanned<String>],
        known: impl Fn() -> I,
    ) -> Result<Vec<String>, Error> {
        let check = |name: &Spanned<String>| match known().any(|k| k == name.get_ref()) {
            true => Ok(name.get_ref().clone()),
            false => Err(Error::Parse {
                origin: format!("{}:{}", self.origin, self.line(name)),
                message: Error::unknown(what, name.get_ref(), known()).to_string(),
            }),
        };
        names.iter().map(check).collect()
    }

    fn line<T>(&self, spanned: &Spanned<T>) -> usize {
        1 + self.text.as_bytes()[..spanned.span().start].iter().filter(|&&b| b == b'\n').count()
    }

    fn value(&self, key: &str, expected: &str, found: impl ToString) -> Error {
        Error::Value {
            origin: self.origin.to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.to_string(),
        }
    }

    fn duration(&self, key: &str, text: &Spanned<String>) -> Result<Duration, Error> {
        parse_duration(text.get_ref()).ok_or_else(|| Error::Parse {
            origin: format!("{}:{}", self.origin, self.line(text)),
            message: format!(
                "{key}: expected a duration such as `500ms`, `90s`, `30m` or `2h`, found `{}`",
                text.get_ref()
            ),
        })
    }
}

/// `500ms`, `90s`, `30m` or `2h`; at most 30 days.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value: u64 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let factor = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let milliseconds = value.checked_mul(factor).filter(|ms| *ms <= 30 * 86_400_000)?;
    Some(Duration::from_millis(milliseconds))
}
