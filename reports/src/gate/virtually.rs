//! Virtual gates: what the rule would have said of rounds drawn anew from those of real gates.
//!
//! Neighbouring rounds are alike, as neighbours on the machine come and go: so whole blocks of rounds are drawn (the circular block
//! bootstrap, Politis and Romano 1992), and all metrics of a round together.

use super::{Round, Study, Track, Trial, Verdict, go_on};
use crate::error::Error;
use crate::stats::{median, proportion};
use crate::text::{escape, markdown_table, plain, short};
use comfy_table::{Table, presets};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::Path;
use suites::gate::{Gates, Kind};

/// Rounds of a block: half of those of a first look.
pub const BLOCK: usize = 5;

/// How often gates of one kind said what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// By how many per cent the candidate's decode is slower; 0 if it is the same program.
    pub percent: f64,
    /// Whether the gates are virtual.
    pub drawn: bool,
    /// What was done to the machine meanwhile, if anything.
    pub neighbour: Option<String>,
    /// Gates.
    pub gates: u32,
    /// Those that found the decode slower.
    pub found: u32,
    /// Those that said of something that it changed, though it had not.
    pub alarms: u32,
    /// Those that could not tell of something that rounds went on for.
    pub inconclusive: u32,
    /// Median number of rounds of the series with the most; `None` of none.
    pub rounds: Option<f64>,
    /// Length of the longest in seconds, of real ones.
    pub longest: Option<f64>,
}

impl Rate {
    /// The share of `count` of the gates, with Clopper and Pearson's 95 % interval. Of virtual gates it tells how exact the
    /// simulation is, not how well the rounds they were drawn from stand for other days and machines.
    pub fn share(&self, count: u32) -> (f64, (f64, f64)) {
        (f64::from(count) / f64::from(self.gates.max(1)), proportion(count, self.gates, 0.05))
    }
}

/// Real gates by what was done to their candidate.
pub fn real(trials: &[Trial]) -> Vec<Rate> {
    let mut kinds: Vec<&Study> = Vec::new();
    for trial in trials {
        if !kinds.contains(&&trial.study) {
            kinds.push(&trial.study);
        }
    }
    kinds.into_iter().map(|kind| of_kind(kind, trials)).collect()
}

fn of_kind(kind: &Study, trials: &[Trial]) -> Rate {
    let own: Vec<Trial> = trials.iter().filter(|trial| trial.study == *kind).cloned().collect();
    let tally = super::Tally::of(&own);
    let rounds: Vec<f64> = own.iter().map(|trial| longest(trial) as f64).collect();
    Rate {
        percent: kind.percent(),
        drawn: false,
        neighbour: kind.neighbour().map(str::to_owned),
        gates: tally.gates,
        found: tally.found,
        alarms: tally.alarms,
        inconclusive: tally.inconclusive,
        rounds: median(&rounds),
        longest: tally.longest,
    }
}

/// Rounds of the series with the most.
fn longest(trial: &Trial) -> usize {
    trial.series.iter().map(|series| series.rounds.len()).max().unwrap_or(0)
}

const HEADER: [&str; 8] = [
    "decode slower by %",
    "gates",
    "found",
    "false alarms",
    "inconclusive",
    "rounds, median",
    "longest, s",
    "neighbour",
];

fn cells(rate: &Rate) -> [String; 8] {
    // Close to all, two more digits tell how close.
    let per_cent = |share: f64| {
        if (0.99..1.0).contains(&share) { format!("{:.2}", 100.0 * share) } else { short(100.0 * share) }
    };
    let share = |count: u32| {
        let (_, (low, high)) = rate.share(count);
        format!("{count} ({} to {} %)", per_cent(low), per_cent(high))
    };
    [
        short(rate.percent),
        format!("{} {}", rate.gates, if rate.drawn { "virtual" } else { "real" }),
        if rate.percent > 0.0 { share(rate.found) } else { String::new() },
        share(rate.alarms),
        share(rate.inconclusive),
        rate.rounds.map_or(String::new(), short),
        rate.longest.map_or(String::new(), |seconds| format!("{seconds:.0}")),
        rate.neighbour.clone().unwrap_or_default(),
    ]
}

/// A table for a terminal, with exact 95 % intervals of the shares.
pub fn table(rates: &[Rate]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_header(HEADER);
    for rate in rates {
        table.add_row(cells(rate).map(|cell| plain(&cell)));
    }
    table.to_string()
}

/// The same as a table of Markdown.
pub fn markdown(rates: &[Rate]) -> String {
    let rows: Vec<Vec<String>> = rates.iter().map(|rate| cells(rate).iter().map(|c| escape(c)).collect()).collect();
    markdown_table(&HEADER.map(str::to_owned), &rows, 0)
}

/// A row each, as CSV.
///
/// # Errors
/// None but of the writer.
pub fn csv(rates: &[Rate]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for rate in rates {
        writer.serialize(rate)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// Reads what [`csv()`] has written.
///
/// # Errors
/// A file that can't be read; a row that is none of these, with its line.
pub fn read(path: &Path) -> Result<Vec<Rate>, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let parse = |(index, row): (usize, Result<Rate, csv::Error>)| {
        row.map_err(|e| Error::Parse { path: path.to_owned(), line: index + 2, message: e.to_string() })
    };
    csv::Reader::from_reader(&text[..]).deserialize().enumerate().map(parse).collect()
}

/// `count` virtual gates for each of `percents`, by which the candidate's decode is made slower; drawn from the gates among `trials`
/// of a program against itself without a neighbour.
///
/// # Errors
/// There are no such gates, or none of whose rounds any can be drawn.
pub fn draw(gates: &Gates, trials: &[Trial], percents: &[f64], count: u32) -> Result<Vec<Rate>, Error> {
    let source: Vec<&Trial> = trials.iter().filter(|trial| trial.study == Study::Aa && longest(trial) > 0).collect();
    let Some(first) = source.first() else {
        return Err(Error::Mixed("no gate of a program against itself to draw rounds from".to_owned()));
    };
    // As many rounds as the budget has time for, by how long those took.
    let per_round: Vec<f64> =
        source.iter().filter_map(|trial| Some(trial.outcome.seconds? / longest(trial) as f64)).collect();
    let most = median(&per_round).map_or(usize::MAX, |seconds| (gates.rule.budget.as_secs_f64() / seconds) as usize);
    let tracks: Vec<Track> = first
        .series
        .iter()
        .filter_map(|series| {
            let metric = gates.metrics.iter().find(|metric| metric.name == series.metric)?;
            Some(Track::new(metric.clone(), series.of.clone(), Vec::new()))
        })
        .collect();
    let of = |(stream, &percent): (usize, &f64)| {
        let mut rng = ChaCha8Rng::seed_from_u64(gates.rule.seed);
        rng.set_stream(stream as u64);
        let mut rate = Rate {
            percent,
            drawn: true,
            neighbour: None,
            gates: count,
            found: 0,
            alarms: 0,
            inconclusive: 0,
            rounds: None,
            longest: None,
        };
        let rounds: Vec<f64> =
            (0..count).map(|_| one(gates, &source, &tracks, most, &mut rng, &mut rate) as f64).collect();
        rate.rounds = median(&rounds);
        rate
    };
    Ok(percents.iter().enumerate().map(of).collect())
}

/// One virtual gate, counted in `rate`; its rounds.
fn one(
    gates: &Gates,
    source: &[&Trial],
    tracks: &[Track],
    most: usize,
    rng: &mut ChaCha8Rng,
    rate: &mut Rate,
) -> usize {
    let mut tracks = tracks.to_vec();
    let planted = (rate.percent / 100.0).ln_1p();
    let (mut trial, mut place, mut rounds) = (source[0], 0, 0);
    loop {
        if rounds % BLOCK == 0 {
            trial = source[rng.random_range(0..source.len() as u64) as usize];
            place = rng.random_range(0..longest(trial) as u64) as usize;
        }
        let wanted: Vec<String> =
            tracks.iter().filter(|track| track.wants()).map(|track| track.series.of.clone()).collect();
        for track in &mut tracks {
            let own = |series: &&super::Series| {
                series.metric == track.series.metric && series.of == track.series.of && !series.rounds.is_empty()
            };
            let cell = track.series.of.strip_suffix(" over f16").unwrap_or(&track.series.of);
            if rounds > 0 && !wanted.iter().any(|of| of == cell || *of == track.series.of) {
                continue;
            }
            let Some(series) = trial.series.iter().find(own) else { continue };
            let effect = series.rounds[place % series.rounds.len()].effect
                + if slowed(track.metric.kind) { planted } else { 0.0 };
            track.series.rounds.push(Round { baseline: 1.0, candidate: effect.exp(), effect });
        }
        (place, rounds) = (place + 1, rounds + 1);
        if !go_on(&mut tracks, &gates.rule, rounds >= most, |_| true) {
            break;
        }
    }
    let said = |track: &Track| track.judged(&gates.rule).map(|judged| judged.verdict);
    let changed = |track: &Track| matches!(said(track), Some(Verdict::Regressed | Verdict::Improved));
    let is_planted = |track: &Track| planted > 0.0 && slowed(track.metric.kind);
    let any = |wanted: &dyn Fn(&Track) -> bool| u32::from(tracks.iter().any(wanted));
    rate.found += any(&|track| track.metric.kind == Kind::Decode && said(track) == Some(Verdict::Regressed));
    rate.alarms += any(&|track| changed(track) && !is_planted(track));
    rate.inconclusive += any(&|track| track.metric.drives && said(track) == Some(Verdict::Inconclusive));
    rounds
}

/// Whether a decode made slower costs more by this metric. Both engines' decode is, so that their ratio stays.
fn slowed(kind: Kind) -> bool {
    matches!(kind, Kind::Decode | Kind::Joules | Kind::Pmu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Outcome, SCHEMA, Series};

    /// A gate of a program against itself of 20 rounds, whose effects are up to `spread`.
    fn trial(spread: f64, seed: u64) -> Trial {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut round = || {
            let effect = spread * (rng.random::<f64>() * 2.0 - 1.0);
            Round { baseline: 1.0, candidate: effect.exp(), effect }
        };
        let mut series = |metric: &str| Series {
            metric: metric.to_owned(),
            of: "ternary/m/t2/tg16".to_owned(),
            rounds: (0..20).map(|_| round()).collect(),
        };
        let outcome = Outcome {
            schema: SCHEMA,
            baseline: String::new(),
            candidate: String::new(),
            started: String::new(),
            seconds: Some(80.0),
            lines: Vec::new(),
        };
        Trial { study: Study::Aa, outcome, series: vec![series("decode"), series("memory")] }
    }

    #[test]
    fn quiet_rounds_find_what_is_planted_and_nothing_else() {
        let gates = Gates::embedded().unwrap();
        let trials: Vec<Trial> = (0..8).map(|seed| trial(0.01, seed)).collect();
        let rates = draw(&gates, &trials, &[0.0, 1.0, 5.0], 200).unwrap();
        let told = |rate: &Rate| (rate.found, rate.alarms, rate.inconclusive);
        assert_eq!(told(&rates[0]), (0, 0, 0), "{rates:?}");
        // Below the threshold.
        assert_eq!(told(&rates[1]), (0, 0, 0), "{rates:?}");
        assert_eq!(told(&rates[2]), (200, 0, 0), "{rates:?}");
        assert_eq!((rates[0].rounds, rates[2].rounds), (Some(10.0), Some(20.0)));
        // What is written is read.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), csv(&rates).unwrap()).unwrap();
        assert_eq!(read(file.path()).unwrap(), rates);
        std::fs::write(file.path(), "percent,drawn\n1.0,true\n").unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains(":2") && error.contains("gates"), "{error}");
        assert!(
            markdown(&rates).contains("| 5.00 | 200 virtual | 200 (98.2 to 100 %) | 0 (0 to 1.83 %) |"),
            "{}",
            markdown(&rates)
        );
        // The same draws every time.
        assert_eq!(draw(&gates, &trials, &[0.0, 1.0, 5.0], 200).unwrap(), rates);
    }

    #[test]
    fn wild_rounds_tell_nothing_within_the_budget() {
        let gates = Gates::embedded().unwrap();
        let trials: Vec<Trial> = (0..8).map(|seed| trial(0.5, seed)).collect();
        let rates = draw(&gates, &trials, &[0.0, 5.0], 100).unwrap();
        // Four seconds a round.
        let most = (gates.rule.budget.as_secs_f64() / 4.0).floor();
        assert!(rates[0].inconclusive > 95 && rates[0].rounds == Some(most), "{rates:?}");
        assert!(rates[1].found < 10, "{rates:?}");
    }

    #[test]
    fn blocks_keep_what_neighbouring_rounds_share() {
        // Long spells in which one side is slower: rounds drawn one by one would hide them.
        let spells = |flip: f64| {
            let mut trial = trial(0.002, 1);
            for (at, round) in trial.series[0].rounds.iter_mut().enumerate() {
                round.effect += if at < 10 { 0.05 * flip } else { -0.05 * flip };
            }
            trial
        };
        let rates = draw(&Gates::embedded().unwrap(), &[spells(1.0), spells(-1.0)], &[0.0], 500).unwrap();
        assert!(rates[0].alarms > 0, "{rates:?}");
    }

    #[test]
    fn without_gates_there_is_nothing_to_draw_from() {
        let planted = Trial { study: Study::Planted { percent: 5.0 }, ..trial(0.01, 1) };
        let error = draw(&Gates::embedded().unwrap(), &[planted], &[0.0], 1).unwrap_err().to_string();
        assert!(error.contains("no gate of a program against itself"), "{error}");
    }
}
