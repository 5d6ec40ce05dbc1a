//! The engines of a run, ranked by speed: at each model, thread count and workload, and over all of them.
//!
//! A run's cells were measured in turn, so that two engines are divided within a block, where both met the same machine. No figure
//! is of more than one run.

mod show;

use crate::analysis::{Analysis, variant};
use crate::cells::CellSummary;
use crate::compare::block_ratios;
use crate::load::RunData;
use crate::sheet::Figure;
use crate::stats::{estimate, median};
use crate::versus::{block_means, differences};
use serde::Serialize;
use std::collections::BTreeSet;

pub use show::show;

/// One run's engines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// The run.
    pub run: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// The engine that ratios are over; `None`: the fastest of each list.
    pub baseline: Option<String>,
    /// A list a model, thread count, workload and variant that two engines or more were measured at.
    pub places: Vec<Place>,
    /// Over the places that every engine was measured at; empty where there is none.
    pub overall: Vec<Standing>,
    /// Places that it is formed over.
    pub overall_places: usize,
    /// Places that some engine has no figure of: not in it.
    pub left_out: usize,
    /// Places that one engine alone was measured at.
    pub single: usize,
    /// What a reader must know: the run's warnings, why nothing is ranked overall.
    pub notes: Vec<String>,
}

/// What was measured with several engines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Model.
    pub model: String,
    /// Threads.
    pub threads: u32,
    /// Workload.
    pub workload: String,
    /// ` kv-f32 isa-avx2`; empty by default.
    pub variant: String,
    /// The engines, the first the fastest.
    pub standings: Vec<Standing>,
    /// Engines that have a cell here and no figure, with the reason.
    pub absent: Vec<(String, String)>,
}

/// An engine's place in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// From 1. Those that cannot be told from the first of their rank share it, and the next has as many less.
    pub rank: usize,
    /// Whether it shares its rank.
    pub tied: bool,
    /// The engine.
    pub engine: String,
    /// Whether an outside program's, whose answer is not checked.
    pub outside: bool,
    /// Median tokens/s; overall the median over blocks of their geometric mean.
    pub tokens_per_second: f64,
    /// Its speed over that of the baseline, or of the first: the median of the ratios in each block that holds both. `None` if no
    /// block does, or the baseline is not in the list.
    pub ratio: Option<Figure>,
    /// The same over the first of its rank, or, of that one, over the first of the rank above: what the rank was decided by.
    pub decided_by: Option<Figure>,
}

/// An engine's speeds by block.
struct Runner {
    engine: String,
    outside: bool,
    by_block: Vec<(u32, f64)>,
}

/// Ranks the engines of a run, all or those in `engines`; ratios are over `baseline` where it is given.
pub fn rank(data: &RunData, baseline: Option<&str>, engines: &[String]) -> Ranking {
    let analysis = Analysis::new(data);
    let mut by_place: Vec<(Key, Vec<&CellSummary>)> = Vec::new();
    for cell in analysis.cells.iter().filter(|c| engines.is_empty() || engines.contains(&c.cell.engine)) {
        let key = key(cell);
        match by_place.iter_mut().find(|(known, _)| *known == key) {
            Some((_, cells)) => cells.push(cell),
            None => by_place.push((key, vec![cell])),
        }
    }
    let (mut places, mut single) = (Vec::new(), 0);
    for ((model, threads, workload, variant), cells) in &by_place {
        let runners: Vec<Runner> = cells.iter().filter_map(|cell| runner(cell)).collect();
        match runners.len() {
            0 => {}
            1 => single += 1,
            _ => places.push(Place {
                model: model.clone(),
                threads: *threads,
                workload: workload.clone(),
                variant: variant.clone(),
                standings: standings(runners, baseline),
                absent: cells.iter().filter(|cell| runner(cell).is_none()).map(|cell| absent(cell)).collect(),
            }),
        }
    }
    let mut notes = data.run.warnings.clone();
    let Overall { runners, places: overall_places, left_out } = overall(&by_place, &mut notes);
    Ranking {
        run: data.run.name.clone(),
        started: data.run.started.clone(),
        baseline: baseline.map(str::to_owned),
        places,
        overall: if runners.len() < 2 { Vec::new() } else { standings(runners, baseline) },
        overall_places,
        left_out,
        single,
        notes,
    }
}

/// Model, threads, workload, variant.
type Key = (String, u32, String, String);

fn key(cell: &CellSummary) -> Key {
    let c = &cell.cell;
    (c.model.clone(), c.threads, c.workload.to_string(), variant(c))
}

fn runner(cell: &CellSummary) -> Option<Runner> {
    let measured = cell.status.measured() && !cell.by_block.is_empty();
    let (engine, outside) = (cell.cell.engine.clone(), cell.outside);
    measured.then(|| Runner { engine, outside, by_block: cell.by_block.clone() })
}

fn absent(cell: &CellSummary) -> (String, String) {
    let reason = cell.reason.as_deref().unwrap_or("no window with tokens and a duration");
    (cell.cell.engine.clone(), format!("{}: {reason}", cell.status.name()))
}

/// Every engine over the places that all of them were measured at.
struct Overall {
    runners: Vec<Runner>,
    places: usize,
    left_out: usize,
}

/// Engines that were measured nowhere are in no place's way: they are told of in each list.
fn overall(by_place: &[(Key, Vec<&CellSummary>)], notes: &mut Vec<String>) -> Overall {
    let all: Vec<Vec<Runner>> =
        by_place.iter().map(|(_, cells)| cells.iter().filter_map(|cell| runner(cell)).collect()).collect();
    let engines: BTreeSet<String> = all.iter().flatten().map(|runner| runner.engine.clone()).collect();
    let (whole, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|runners| runners.len() == engines.len());
    let left_out = rest.iter().filter(|runners| !runners.is_empty()).count();
    let mut runners = Vec::new();
    for engine in &engines {
        let own: Vec<&Runner> = whole.iter().flatten().filter(|runner| runner.engine == *engine).collect();
        let blocks: Vec<&[(u32, f64)]> = own.iter().map(|runner| runner.by_block.as_slice()).collect();
        let by_block: Vec<(u32, f64)> = block_means(&blocks).into_iter().collect();
        if !by_block.is_empty() {
            let outside = own.iter().any(|runner| runner.outside);
            runners.push(Runner { engine: engine.clone(), outside, by_block });
        } else if !whole.is_empty() {
            notes.push(format!("{engine} is not ranked overall: no block holds all of its places"));
        }
    }
    if runners.len() < 2 {
        let why = if engines.len() < 2 { "there are not two engines" } else { "no place has a figure of every engine" };
        notes.push(format!("nothing is ranked overall: {why} (--engines chooses)"));
    }
    Overall { runners, places: whole.len(), left_out }
}

/// The list, the fastest by its median first. An engine shares the rank of the first of the rank above unless the interval of
/// its ratio to that one lies below 1: without an interval none is told from another.
fn standings(mut runners: Vec<Runner>, baseline: Option<&str>) -> Vec<Standing> {
    let speed = |runner: &Runner| median(&runner.by_block.iter().map(|(_, speed)| *speed).collect::<Vec<_>>());
    runners.sort_by(|a, b| speed(b).unwrap_or(0.0).total_cmp(&speed(a).unwrap_or(0.0)).then(a.engine.cmp(&b.engine)));
    let speeds: Vec<f64> = runners.iter().filter_map(speed).collect();
    let over = |own: &Runner, other: &Runner| estimate(&block_ratios(&own.by_block, &other.by_block)).map(Figure::from);
    let base = baseline.map_or(Some(0), |name| runners.iter().position(|runner| runner.engine == name));
    let (mut ranks, mut leader): (Vec<(usize, Option<Figure>)>, usize) = (Vec::new(), 0);
    for (at, own) in runners.iter().enumerate() {
        let decided_by = if at == 0 { None } else { over(own, &runners[leader]) };
        if decided_by.is_some_and(|ratio| ratio.hi.is_some_and(|hi| hi < 1.0)) {
            leader = at;
        }
        ranks.push((leader + 1, decided_by));
    }
    let shares = |rank: usize| ranks.iter().filter(|(other, _)| *other == rank).count() > 1;
    let list = runners.iter().zip(speeds).zip(&ranks).enumerate();
    list.map(|(at, ((own, tokens_per_second), (rank, decided_by)))| Standing {
        rank: *rank,
        tied: shares(*rank),
        engine: own.engine.clone(),
        outside: own.outside,
        tokens_per_second,
        ratio: base.filter(|base| *base != at).and_then(|base| over(own, &runners[base])),
        decided_by: *decided_by,
    })
    .collect()
}

/// Of several runs, why each stands alone: what differs from the first, or that they were made at different times.
pub fn apart(runs: &[RunData]) -> Vec<String> {
    let [first, others @ ..] = runs else { return Vec::new() };
    let told = |other: &RunData| {
        let differ = differences(&first.run, &other.run);
        let (one, other) = (&first.run.name, &other.run.name);
        if differ.is_empty() {
            format!(
                "{one} and {other} are alike (machine, build, suite, models) but were made at different times: each is ranked by itself"
            )
        } else {
            format!("{one} and {other} can't be compared: {}", differ.join("; "))
        }
    };
    others.iter().map(told).collect()
}
