//! Rounds of both sides' processes, and what they say of the metrics that differ from process to process.

use super::Setting;
use super::side::Side;
use crate::driver::turns::Turns;
use anyhow::Result;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reports::gate::{Line, Round, Series, Track, Verdict, go_on, round};
use std::time::{Duration, Instant};
use suites::Cell;
use suites::gate::{Gates, Kind};
use suites::record::Measurement;
use suites::run::PlannedCell;

/// A process's figures, or why there are none.
pub(super) type Told = Result<Box<Measurement>, String>;
/// What baseline and candidate told.
pub(super) type Both = [Told; 2];
/// Most times that both sides take two turns in a round.
pub(crate) const MOST_QUADS: usize = 64;
/// Fewest, however long they take.
pub(crate) const FEWEST_QUADS: usize = 3;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    tracks: Vec<Track>,
    /// Of each cell, what the first round told.
    pub(super) first: Vec<(Cell, Both)>,
    /// Of each cell, what the round told in which a process of it failed.
    pub(super) failed: Vec<Option<Both>>,
}

impl Measured {
    /// Whether a series is to go on and can.
    fn busy(&self, track: &Track) -> bool {
        track.wants() && track.cells.iter().all(|&cell| self.failed[cell].is_none())
    }

    pub(super) fn into_series(self) -> Vec<Series> {
        self.tracks.into_iter().map(|track| track.series).filter(|series| !series.rounds.is_empty()).collect()
    }
}

/// Measures until every driving metric is judged, every suspicion has been held against fresh rounds, or the time is up.
pub(super) fn measure<'a>(setting: Setting<'_>, baseline: &mut Side<'a>, candidate: &mut Side<'a>) -> Result<Measured> {
    let rule = &setting.gates.rule;
    let cells: Vec<&PlannedCell> =
        setting.plan.cells.iter().filter(|cell| cell.na.is_none() && !cell.outside).collect();
    let mut measured = Measured {
        tracks: tracks(setting.gates, &cells),
        first: Vec::new(),
        failed: cells.iter().map(|_| None).collect(),
    };
    let (rng, until) = (ChaCha8Rng::seed_from_u64(rule.seed), Instant::now() + rule.budget);
    let mut bench = Bench { cells, rng, turns: rule.turns, sides: [baseline, candidate] };
    for round in 0.. {
        let last = Instant::now() >= until;
        // Every cell runs once, however late it is: what is the same in every process is told by the first.
        if round == 0 || !last {
            bench.all(round, &mut measured)?;
        }
        let Measured { tracks, failed, .. } = &mut measured;
        if !go_on(tracks, rule, last, |track| track.cells.iter().all(|&cell| failed[cell].is_none())) {
            break;
        }
    }
    Ok(measured)
}

/// A series for each metric of each cell, and of each pair of cells for ratios.
fn tracks(gates: &Gates, cells: &[&PlannedCell]) -> Vec<Track> {
    let mut tracks = Vec::new();
    for metric in gates.metrics.iter().filter(|metric| metric.kind.by_rounds()) {
        let track = |of: String, cells: Vec<usize>| Track::new(metric.clone(), of, cells);
        for (index, PlannedCell { cell, .. }) in cells.iter().enumerate() {
            if metric.kind != Kind::Ratio {
                if has(cell, metric.kind) {
                    tracks.push(track(cell.id(), vec![index]));
                }
                continue;
            }
            let beside = |other: &&&PlannedCell| {
                other.cell.engine == "f16" && Cell { engine: cell.engine.clone(), ..other.cell.clone() } == *cell
            };
            let pair = cells
                .iter()
                .position(|other| beside(&other))
                .filter(|_| cell.engine == "ternary" && has(cell, Kind::Decode));
            tracks.extend(pair.map(|other| track(format!("{} over f16", cell.id()), vec![index, other])));
        }
    }
    tracks
}

/// Whether a cell's workload has such a figure.
fn has(cell: &Cell, kind: Kind) -> bool {
    let decode = cell.workload.phase == suites::Phase::Decode;
    match kind {
        Kind::Decode | Kind::Joules => decode,
        Kind::Prefill | Kind::Ttft => !decode,
        // A model is loaded the same way for either workload.
        Kind::Load | Kind::Memory => decode,
        // No other cell has it.
        Kind::Pmu => decode && cell.threads == 1,
        Kind::Ratio | Kind::Accuracy | Kind::Answer | Kind::Binary | Kind::Instructions => false,
    }
}

struct Bench<'s, 'd, 'p> {
    cells: Vec<&'p PlannedCell>,
    rng: ChaCha8Rng,
    turns: Duration,
    sides: [&'s mut Side<'d>; 2],
}

impl Bench<'_, '_, '_> {
    /// A round of every cell that a series wants one of; of all in round 0.
    fn all(&mut self, round: u32, measured: &mut Measured) -> Result<()> {
        for index in 0..self.cells.len() {
            let wanted = |track: &Track| track.cells.contains(&index) && measured.busy(track);
            if round > 0 && !measured.tracks.iter().any(wanted) {
                continue;
            }
            let both = self.round(index, round)?;
            match &both {
                [Ok(a), Ok(b)] => add(&mut measured.tracks, index, a, b),
                _ => measured.failed[index] = Some(both.clone()),
            }
            if round == 0 {
                measured.first.push((self.cells[index].cell.clone(), both));
            }
        }
        add_ratios(&mut measured.tracks);
        Ok(())
    }

    /// A round of a cell: a process of either side, which take turns. Who loads first is by lot.
    fn round(&mut self, index: usize, round: u32) -> Result<Both> {
        let cell = self.cells[index];
        let swapped = self.rng.random::<bool>();
        let order = if swapped { [1, 0] } else { [0, 1] };
        let [mut first, mut second] =
            [self.sides[order[0]].begin(cell, round)?, self.sides[order[1]].begin(cell, round)?];
        self.turns(&mut first, &mut second);
        let told = [self.sides[order[0]].end(first)?, self.sides[order[1]].end(second)?];
        Ok(match told {
            [a, b] if swapped => [b, a],
            told => told,
        })
    }

    /// Four turns at a time, until the time is up: one side, the other twice, the first again; which side is first is by lot. One that can't
    /// take turns leaves the other the fewest there are, which tell whether that can.
    fn turns<'t>(&mut self, first: &mut Turns<'t>, second: &mut Turns<'t>) {
        let both = first.runs() && second.runs();
        let until = Instant::now() + if both { self.turns } else { Duration::ZERO };
        for quad in 0..MOST_QUADS {
            if quad >= FEWEST_QUADS && Instant::now() >= until {
                break;
            }
            let (a, b) =
                if self.rng.random::<bool>() { (&mut *first, &mut *second) } else { (&mut *second, &mut *first) };
            let done = [a.turn(), b.turn(), b.turn(), a.turn()];
            if both && done.contains(&false) {
                break;
            }
        }
    }
}

fn add(tracks: &mut [Track], cell: usize, baseline: &Measurement, candidate: &Measurement) {
    for track in tracks.iter_mut().filter(|track| track.cells == [cell]) {
        track.series.rounds.extend(round(baseline, candidate, track.metric.kind));
    }
}

/// Ratios of the rounds that both cells have had.
fn add_ratios(tracks: &mut [Track]) {
    let decoded: Vec<(usize, Vec<Round>)> = tracks
        .iter()
        .filter(|track| track.metric.kind == Kind::Decode)
        .map(|track| (track.cells[0], track.series.rounds.clone()))
        .collect();
    let of = |cell: usize| decoded.iter().find(|(index, _)| *index == cell).map_or(&[][..], |(_, rounds)| rounds);
    for track in tracks.iter_mut().filter(|track| track.metric.kind == Kind::Ratio) {
        let (own, other) = (of(track.cells[0]), of(track.cells[1]));
        track.series.rounds = own.iter().zip(other).map(|(a, b)| a.over(b)).collect();
    }
}

/// What the rounds say.
pub(super) fn lines(gates: &Gates, measured: &Measured) -> Vec<Line> {
    measured.tracks.iter().map(|track| line(gates, measured, track)).collect()
}

fn line(gates: &Gates, measured: &Measured, track: &Track) -> Line {
    let (metric, effects) = (&track.metric, track.series.effects());
    let mut line = Line {
        threshold: metric.threshold,
        drives: metric.drives,
        n: Some(effects.len()),
        values: track.series.medians(),
        unit: metric.kind.unit().to_owned(),
        ..Line::new(&metric.name, &track.series.of)
    };
    let Some(judged) = track.judged(&gates.rule) else {
        let (verdict, note) = missing(measured, track);
        return Line { verdict, note: Some(note), ..line };
    };
    line.note = match track.unconfirmed() {
        true => Some("seen once; the rounds that were to confirm it were not all run".to_owned()),
        false => failure(measured, track).map(|(_, note)| note),
    };
    line.verdict = judged.verdict;
    line.change = judged.estimate.map(f64::exp_m1);
    line.interval = judged.interval.map(|(lo, hi)| (lo.exp_m1(), hi.exp_m1()));
    line.smallest = judged.smallest();
    line
}

/// Why a series has no rounds.
fn missing(measured: &Measured, track: &Track) -> (Verdict, String) {
    let none = match track.metric.kind {
        Kind::Joules => "no joules were measured",
        Kind::Pmu => "no counter of this CPU told instructions (`doctor` says why)",
        Kind::Memory => {
            "peak memory, or the pages of the program in it, is not told by this system or a program of before schema 11"
        }
        _ => "no round was measured",
    };
    failure(measured, track).unwrap_or_else(|| (Verdict::Na, none.to_owned()))
}

/// What a series' cells failed by, if they did. That the candidate fails is judged once, by a line of its own.
fn failure(measured: &Measured, track: &Track) -> Option<(Verdict, String)> {
    let mut failed = track.cells.iter().filter_map(|&cell| measured.failed[cell].as_ref());
    failed.find_map(|[baseline, candidate]| match (baseline, candidate) {
        (_, Err(reason)) => Some((Verdict::Na, format!("the candidate fails: {reason}"))),
        (Err(reason), Ok(_)) => Some((Verdict::Inconclusive, format!("the baseline fails: {reason}"))),
        (Ok(_), Ok(_)) => None,
    })
}
