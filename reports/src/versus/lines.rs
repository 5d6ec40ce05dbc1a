//! The metrics of one cell in two runs.

use super::{Change, Line};
use crate::cells::{CellSummary, Kind};
use crate::joules::{kind_of, marked};
use crate::load::RunData;
use crate::ranks::ratio;
use crate::sheet::Figure;
use crate::stats::median;
use std::collections::BTreeSet;
use suites::record::{Energy, EnergyKind, Joules, Measurement, Outside, Ran, Record};

/// The metric of joules, which never stands without its kind.
pub(super) const JOULES: &str = "joules_per_token";

/// A cell's processes in one run.
pub(super) struct Processes<'a> {
    summary: &'a CellSummary,
    own: Vec<&'a Measurement>,
    outside: Vec<&'a Outside>,
}

impl<'a> Processes<'a> {
    pub(super) fn of(summary: &'a CellSummary, data: &'a RunData) -> Processes<'a> {
        let records = || data.records.iter().filter(|record| record.cell == summary.cell);
        let own = records().filter_map(Record::measurement).collect();
        Processes { summary, own, outside: records().filter_map(Record::outside).collect() }
    }

    fn speeds(&self) -> Vec<f64> {
        self.summary.by_block.iter().map(|(_, speed)| *speed).collect()
    }

    fn peaks(&self) -> Vec<f64> {
        let memories = self.own.iter().map(|m| &m.memory).chain(self.outside.iter().map(|o| &o.memory));
        memories.filter_map(|memory| memory.peak_rss_bytes).map(|bytes| bytes as f64).collect()
    }

    fn loads(&self) -> Vec<f64> {
        self.own.iter().map(|m| m.load_ns as f64 / 1e9).collect()
    }

    /// Measured joules where any process has them, else modelled ones; never both. Outside programs' are of whole processes.
    fn joules(&self) -> Option<Source> {
        let of = |kind: EnergyKind| {
            let joules = |m: &&Measurement| match &m.energy {
                Energy::Measured(joules) if kind == EnergyKind::Measured => Some(joules.clone()),
                Energy::Modelled(joules) if kind == EnergyKind::Modelled => Some(joules.clone()),
                _ => None,
            };
            let all: Vec<Joules> = self.own.iter().filter_map(joules).filter(|j| j.tokens > 0).collect();
            let names: BTreeSet<&str> = all.iter().map(|joules| joules.source.as_str()).collect();
            let source = names.into_iter().collect::<Vec<_>>().join(", ");
            let per_token = all.iter().map(|j| j.total_uj as f64 / 1e6 / j.tokens as f64).collect();
            (!all.is_empty()).then_some(Source { kind: kind_of(kind), source, per_token })
        };
        of(EnergyKind::Measured).or_else(|| of(EnergyKind::Modelled))
    }
}

/// Joules a token by one kind of source.
struct Source {
    kind: Kind,
    source: String,
    per_token: Vec<f64>,
}

/// Speed, memory, load and, where either run has any, joules.
pub(super) fn of_cell(sides: &[Processes<'_>; 2], drift: f64) -> Vec<Line> {
    let [before, after] = sides;
    let line = |metric, unit, values: [Vec<f64>; 2], drift: f64| {
        let ratio = ratio(&values[1], &values[0]).map(Figure::from);
        Line {
            cell: before.summary.cell.id(),
            metric,
            unit,
            baseline: median(&values[0]),
            candidate: median(&values[1]),
            baseline_n: values[0].len(),
            candidate_n: values[1].len(),
            change: Change::of(ratio.as_ref(), drift),
            ratio,
            kind: Kind::Measured.name(),
            notes: Vec::new(),
        }
    };
    let mut speed = line("tokens_per_second", "tokens/s", [before.speeds(), after.speeds()], drift);
    speed.notes = ran_differently(before, after);
    let memory = line("peak_rss_bytes", "bytes", [before.peaks(), after.peaks()], 0.0);
    let load = line("load_seconds", "s", [before.loads(), after.loads()], drift);
    let mut lines = vec![speed, memory, load];
    let [one, other] = [before.joules(), after.joules()];
    if one.is_some() || other.is_some() {
        let values = [&one, &other].map(|side| side.as_ref().map_or(Vec::new(), |s| s.per_token.clone()));
        let mut joules = line(JOULES, "J/token", values, drift);
        let kinds: BTreeSet<&str> = [&one, &other].into_iter().flatten().map(|side| side.kind.name()).collect();
        joules.kind = if kinds.contains("modelled") { "modelled" } else { "measured" };
        let told = |side: &Option<Source>| side.as_ref().map(|side| marked(&side.source, side.kind));
        let sources = [told(&one), told(&other)];
        if sources[0] == sources[1] {
            joules.notes.extend(sources[0].as_ref().map(|source| format!("joules by {source}")));
        } else {
            let [one, other] = sources.map(|source| source.unwrap_or_else(|| "none".to_owned()));
            (joules.ratio, joules.change) = (None, Change::Unknown);
            joules.notes.push(format!("joules are not divided, their sources differ: {one} and {other}"));
        }
        lines.push(joules);
    }
    for line in &mut lines {
        // Outside programs tell of no loading, and a kernel may not tell of memory.
        if line.ratio.is_none() && line.notes.is_empty() {
            line.notes.push(format!("no {} in both", line.metric));
        } else if line.ratio.is_some_and(|ratio| ratio.lo.is_none()) {
            line.notes.push("no interval: it takes two processes of each run".to_owned());
        }
    }
    lines
}

/// What of a cell ran in another way than before, though its name is the same; and what must be known of its answer.
fn ran_differently(before: &Processes<'_>, after: &Processes<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if before.summary.outside {
        notes.push("an outside program's own figures: its answer is not checked".to_owned());
    }
    type Fact = (&'static str, fn(&Ran) -> String);
    let facts: [Fact; 5] = [
        ("ISA path", |ran| ran.isa.clone()),
        ("packing", |ran| ran.linear.clone()),
        ("head", |ran| ran.head.clone()),
        ("KV cache", |ran| ran.kv.clone()),
        ("pinning", |ran| ran.pinned.to_string()),
    ];
    for (what, of) in facts {
        let [one, other] = [before, after].map(|side| side.own.iter().map(|m| of(&m.ran)).collect::<BTreeSet<_>>());
        let told = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        if one != other {
            notes.push(format!("{what} differs: {} and {}", told(&one), told(&other)));
        }
    }
    let digests = |side: &Processes<'_>| side.own.iter().map(|m| m.check.digest.clone()).collect::<BTreeSet<_>>();
    if digests(before) != digests(after) {
        notes.push("the logits differ from the baseline's; each is right within its bound".to_owned());
    }
    notes
}
