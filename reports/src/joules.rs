//! The metrics of energy: joules of the windows, of each source and of each stage. Each figure is of one kind, measured or
//! modelled, and of one source.

use crate::cells::{Collector, Kind};
use std::collections::BTreeSet;
use suites::cell::Phase;
use suites::record::{Energy, EnergyKind, Joules, Measurement, SourceEnergy, Stage, StageRecord};

/// The source that models the papers' arithmetic alone: it stands beside a machine's joules and never for them.
pub(crate) const ARITHMETIC: &str = "arithmetic";
/// Its domain of everything at 45 nm; its total is at 7 nm.
const AT_45_NM: &str = "at 45 nm";
/// The metric of its joules at 7 nm.
pub(crate) const AT_7_NM_METRIC: &str = "arithmetic_joules_per_token";
/// The metric of its joules at 45 nm.
pub(crate) const AT_45_NM_METRIC: &str = "arithmetic_45nm_joules_per_token";
/// Each stage, the beginning of its metrics' names, and what tables call it.
pub(crate) const STAGES: [(Stage, &str, &str); 5] = [
    (Stage::IdleBefore, "idle_before", "rest before"),
    (Stage::Load, "load", "load"),
    (Stage::Prefill, "prefill", "prefill"),
    (Stage::Decode, "decode", "decode"),
    (Stage::IdleAfter, "idle_after", "rest after"),
];

/// The kind of a source as metrics have it.
pub(crate) fn kind_of(kind: EnergyKind) -> Kind {
    match kind {
        EnergyKind::Measured => Kind::Measured,
        EnergyKind::Modelled => Kind::Modelled,
    }
}

/// A source's name with its kind where that must be said: `powercap`, `cpu-time (modelled)`.
pub(crate) fn marked(source: &str, kind: Kind) -> String {
    if kind == Kind::Modelled { format!("{source} (modelled)") } else { source.to_owned() }
}

/// The beginning of the metrics of a source: its name in letters, digits and `_`.
pub(crate) fn stem(source: &str) -> String {
    source.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The stage that holds a cell's windows.
pub(crate) fn windows(phase: Phase) -> Stage {
    match phase {
        Phase::Prefill => Stage::Prefill,
        Phase::Decode => Stage::Decode,
    }
}

/// Every metric of energy of a cell whose windows are of `phase`.
pub(crate) fn metrics(c: &mut Collector<'_, Measurement>, phase: Phase) {
    of_windows(c);
    of_sources(c, windows(phase));
    of_stages(c);
}

/// Measured joules where any process has them; modelled ones, marked as such, only where none has. Never mixed.
fn of_windows(c: &mut Collector<'_, Measurement>) {
    let measured = c.processes.iter().any(|m| matches!(m.energy, Energy::Measured(_)));
    let modelled = c.processes.iter().any(|m| matches!(m.energy, Energy::Modelled(_)));
    let joules = |m: &Measurement| match &m.energy {
        Energy::Measured(joules) => Some(joules.clone()),
        Energy::Modelled(joules) if !measured => Some(joules.clone()),
        _ => None,
    };
    let reason = c.processes.iter().find_map(|m| match &m.energy {
        Energy::Unavailable { reason } => Some(reason.clone()),
        _ => None,
    });
    let reason = reason.unwrap_or_else(|| "no joules of that kind, or none per token".to_owned());
    let kind = if modelled && !measured { Kind::Modelled } else { Kind::Measured };
    c.add("joules_per_token", "J/token", kind, &reason, |m| {
        let joules = joules(m)?;
        (joules.tokens > 0).then(|| joules.total_uj as f64 / 1e6 / joules.tokens as f64)
    });
    let of_kind: Vec<Joules> = c.processes.iter().filter_map(|m| joules(m)).collect();
    let Some(first) = of_kind.first() else { return };
    let mut note = format!("source {}", marked(&first.source, kind));
    let doubts: BTreeSet<&String> = of_kind.iter().flat_map(|j| &j.doubts).collect();
    for doubt in doubts.into_iter().take(3) {
        note = format!("{note}; {doubt}");
    }
    sourced(c, &first.source, &note);
    let missing = "not measured at rest, or in records before schema 8";
    type Figure = (&'static str, &'static str, fn(&Joules) -> Option<f64>);
    let figures: [Figure; 4] = [
        ("net_joules_per_token", "J/token", |j| (j.tokens > 0).then_some(j.net_uj? as f64 / 1e6 / j.tokens as f64)),
        ("average_watts", "W", |j| (j.window_ns > 0).then(|| j.total_uj as f64 * 1e3 / j.window_ns as f64)),
        ("peak_watts", "W", |j| Some(j.peak_mw? as f64 / 1e3)),
        // Joules and seconds of a token, multiplied.
        ("energy_delay", "J s/token2", |j| {
            let tokens = (j.tokens > 0).then_some(j.tokens as f64)?;
            Some(j.total_uj as f64 / 1e6 / tokens * (j.window_ns as f64 / 1e9 / tokens))
        }),
    ];
    for (name, unit, figure) in figures {
        c.add(name, unit, kind, missing, |m| figure(&joules(m)?));
        sourced(c, &first.source, &note);
    }
}

/// Names and kinds of the sources that any process has read in a stage, in the order of trust.
fn sources(processes: &[&Measurement], stage: Stage) -> Vec<(String, EnergyKind)> {
    let mut found: Vec<(String, EnergyKind)> = Vec::new();
    for source in processes.iter().flat_map(|m| &m.phases).filter(|s| s.stage == stage).flat_map(|s| &s.sources) {
        let own = (source.source.clone(), source.kind);
        if source.total_uj.is_some() && !found.contains(&own) {
            found.push(own);
        }
    }
    // Stable: within a kind the records' order of trust stays.
    found.sort_by_key(|(_, kind)| *kind == EnergyKind::Modelled);
    found
}

fn record_of(m: &Measurement, stage: Stage) -> Option<&StageRecord> {
    m.phases.iter().find(|s| s.stage == stage)
}

fn source_of<'a>(stage: &'a StageRecord, (name, kind): &(String, EnergyKind)) -> Option<&'a SourceEnergy> {
    stage.sources.iter().find(|s| s.source == *name && s.kind == *kind)
}

fn per_token(uj: u64, stage: &StageRecord) -> Option<f64> {
    (stage.tokens > 0).then(|| uj as f64 / 1e6 / stage.tokens as f64)
}

/// Each modelled source's joules a token of the windows, and each measured one's where there are several, with the ratio to
/// the most trusted.
fn of_sources(c: &mut Collector<'_, Measurement>, stage: Stage) {
    let all = sources(c.processes, stage);
    let measured: Vec<&(String, EnergyKind)> = all.iter().filter(|(_, k)| *k == EnergyKind::Measured).collect();
    let first = measured.first().copied();
    let missing = "no joules of that source";
    for own in &all {
        let (name, kind) = (&own.0, kind_of(own.1));
        if kind == Kind::Measured && measured.len() < 2 {
            continue;
        }
        let paper = name == ARITHMETIC && kind == Kind::Modelled;
        let process = if paper { ", 7 nm" } else { "" };
        c.add(format!("{}_joules_per_token", stem(name)), "J/token", kind, missing, |m| {
            let stage = record_of(m, stage)?;
            per_token(source_of(stage, own)?.total_uj?, stage)
        });
        sourced(c, name, &format!("source {}{process}", marked(name, kind)));
        if paper {
            c.add(AT_45_NM_METRIC, "J/token", kind, missing, |m| {
                let stage = record_of(m, stage)?;
                let domain = source_of(stage, own)?.domains.iter().find(|d| d.domain == AT_45_NM)?;
                per_token(domain.energy_uj, stage)
            });
            sourced(c, name, &format!("source {}, 45 nm", marked(name, kind)));
        }
        if let Some(first) = first.filter(|first| kind == Kind::Measured && *first != own) {
            let ratio = format!("{}_over_{}", stem(name), stem(&first.0));
            c.add(ratio, "ratio", Kind::Derived, missing, |m| {
                let stage = record_of(m, stage)?;
                let base = source_of(stage, first)?.total_uj.filter(|&uj| uj > 0)?;
                Some(source_of(stage, own)?.total_uj? as f64 / base as f64)
            });
            sourced(c, name, "joules of the windows");
        }
    }
}

/// Joules, mean watts and peak memory of each stage that any process has told of, and watts of both rests together. The
/// joules of a stage are of the most trusted source that has a total there.
fn of_stages(c: &mut Collector<'_, Measurement>) {
    for (stage, name, _) in STAGES {
        if c.processes.iter().all(|m| record_of(m, stage).is_none()) {
            continue;
        }
        if let Some(own) = trusted(&sources(c.processes, stage)) {
            let kind = kind_of(own.1);
            let note = format!("source {}", marked(&own.0, kind));
            let missing = "no joules of that source in the stage";
            let total = |m: &Measurement| {
                let stage = record_of(m, stage)?;
                Some((source_of(stage, &own)?.total_uj?, stage.window_ns))
            };
            c.add(format!("{name}_joules"), "J", kind, missing, |m| Some(total(m)?.0 as f64 / 1e6));
            sourced(c, &own.0, &note);
            c.add(format!("{name}_watts"), "W", kind, missing, |m| {
                let (uj, ns) = total(m)?;
                (ns > 0).then(|| uj as f64 * 1e3 / ns as f64)
            });
            sourced(c, &own.0, &note);
        }
        let peak = |m: &Measurement| Some(record_of(m, stage)?.peak_rss_bytes? as f64);
        c.add(format!("{name}_peak_rss_bytes"), "bytes", Kind::Measured, "not read in the stage", peak);
    }
    rest(c);
}

/// Mean watts over both rests: joules of both over the time of both.
fn rest(c: &mut Collector<'_, Measurement>) {
    let rests = [Stage::IdleBefore, Stage::IdleAfter];
    let mut all: Vec<(String, EnergyKind)> = Vec::new();
    for own in rests.iter().flat_map(|&stage| sources(c.processes, stage)) {
        if !all.contains(&own) {
            all.push(own);
        }
    }
    all.sort_by_key(|(_, kind)| *kind == EnergyKind::Modelled);
    let Some(own) = trusted(&all) else { return };
    let kind = kind_of(own.1);
    c.add("idle_watts", "W", kind, "no joules of that source at rest", |m| {
        let (mut uj, mut ns) = (0.0, 0.0);
        for stage in m.phases.iter().filter(|s| rests.contains(&s.stage)) {
            uj += source_of(stage, &own)?.total_uj? as f64;
            ns += stage.window_ns as f64;
        }
        (ns > 0.0).then(|| uj * 1e3 / ns)
    });
    sourced(c, &own.0, &format!("source {}", marked(&own.0, kind)));
}

/// The first of `sources` that tells of the machine's joules.
fn trusted(sources: &[(String, EnergyKind)]) -> Option<(String, EnergyKind)> {
    sources.iter().find(|(name, _)| name != ARITHMETIC).cloned()
}

/// Says of the last metric, if it has a figure, which source it is of, and puts `note` before what it says of itself.
fn sourced(c: &mut Collector<'_, Measurement>, source: &str, note: &str) {
    if let Some(metric) = c.out.last_mut().filter(|metric| metric.figure.is_ok()) {
        metric.source = Some(source.to_owned());
        metric.note = Some(metric.note.take().map_or(note.to_owned(), |own| format!("{note}; {own}")));
    }
}
