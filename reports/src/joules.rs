//! The metrics of energy: joules of the windows, of each source and of each stage. Each figure is of one kind, measured or
//! modelled, and of one source.

use crate::cells::{Collector, Kind};
use std::collections::BTreeSet;
use suites::cell::Phase;
use suites::eval::TaskOutcome;
use suites::record::{Energy, EnergyKind, Joules, Measurement, SourceEnergy, Stage, StageRecord};

/// The source that models the papers' arithmetic alone: it stands beside a machine's joules and never for them.
pub(crate) const ARITHMETIC: &str = "arithmetic";
/// Its domain of everything at 45 nm; its total is at 7 nm.
const AT_45_NM: &str = "at 45 nm";
/// The metric of its joules at 7 nm.
pub(crate) const AT_7_NM_METRIC: &str = "arithmetic_joules_per_token";
/// The metric of its joules at 45 nm.
pub(crate) const AT_45_NM_METRIC: &str = "arithmetic_45nm_joules_per_token";
/// The metric of a task's answer.
pub(crate) const PER_ANSWER: &str = "joules_per_answer";
/// Each stage, the beginning of its metrics' names, and what tables call it.
pub(crate) const STAGES: [(Stage, &str, &str); 6] = [
    (Stage::IdleBefore, "idle_before", "rest before"),
    (Stage::Load, "load", "load"),
    (Stage::Prefill, "prefill", "prefill"),
    (Stage::Decode, "decode", "decode"),
    (Stage::IdleAfter, "idle_after", "rest after"),
    (Stage::Tasks, "tasks", "tasks"),
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
    let mut names: Vec<&str> = vec![&first.source];
    for joules in &of_kind {
        if !names.contains(&joules.source.as_str()) {
            names.push(&joules.source);
        }
    }
    let source = names.join(", ");
    let mut note = format!("source {}", marked(&source, kind));
    if names.len() > 1 {
        note.push_str("; processes differ in their source");
    }
    let doubts: BTreeSet<&String> = of_kind.iter().flat_map(|j| &j.doubts).collect();
    for doubt in doubts.into_iter().take(3) {
        note = format!("{note}; {doubt}");
    }
    sourced(c, &source, &note);
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
        sourced(c, &source, &note);
    }
}

/// Names and kinds of the sources that have a total in a stage of any process, in the order of trust: the records' own, in
/// which a source stands even where its reading was invalid.
pub(crate) fn sources<'a>(
    processes: impl Iterator<Item = &'a Measurement>,
    stages: &[Stage],
) -> Vec<(String, EnergyKind)> {
    let mut found: Vec<((String, EnergyKind), bool)> = Vec::new();
    let read = processes.flat_map(|m| &m.phases).filter(|s| stages.contains(&s.stage)).flat_map(|s| &s.sources);
    for source in read {
        let own = (source.source.clone(), source.kind);
        match found.iter_mut().find(|(known, _)| *known == own) {
            Some((_, total)) => *total |= source.total_uj.is_some(),
            None => found.push((own, source.total_uj.is_some())),
        }
    }
    // Stable: within a kind the records' order of trust stays.
    found.sort_by_key(|((_, kind), _)| *kind == EnergyKind::Modelled);
    found.into_iter().filter(|(_, total)| *total).map(|(own, _)| own).collect()
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
    let all = sources(c.processes.iter().copied(), &[stage]);
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

/// Stages of rest.
const RESTS: [Stage; 2] = [Stage::IdleBefore, Stage::IdleAfter];

/// Joules, watts and peak memory of each stage that any process has told of, and watts of both rests together. The joules of a
/// stage are of the most trusted source that has a total there.
fn of_stages(c: &mut Collector<'_, Measurement>) {
    for (stage, name, _) in STAGES {
        if c.processes.iter().all(|m| record_of(m, stage).is_none()) {
            continue;
        }
        if let Some(own) = trusted(&sources(c.processes.iter().copied(), &[stage])) {
            of_stage(c, stage, name, &own);
            if stage == Stage::Tasks {
                of_answers(c, &own);
            }
        }
        let peak = |m: &Measurement| Some(record_of(m, stage)?.peak_rss_bytes? as f64);
        c.add(format!("{name}_peak_rss_bytes"), "bytes", Kind::Measured, "not read in the stage", peak);
    }
    let Some(own) = trusted(&sources(c.processes.iter().copied(), &RESTS)) else { return };
    c.add("idle_watts", "W", kind_of(own.1), "no joules of that source at rest", |m| rest_watts(m, &own));
    sourced(c, &own.0, &format!("source {}", marked(&own.0, kind_of(own.1))));
}

/// One stage's joules, net of rest where it is not rest itself, and its mean and peak watts, by one source.
fn of_stage(c: &mut Collector<'_, Measurement>, stage: Stage, name: &str, own: &(String, EnergyKind)) {
    type Figure<'a> = (&'a str, &'static str, &'static str, fn(&Measurement, &Part<'_>) -> Option<f64>);
    let missing = "no joules of that source in the stage";
    let figures: [Figure<'_>; 4] = [
        ("joules", "J", missing, |_, part| Some(part.joules)),
        ("net_joules", "J", "no joules of that source at rest", |m, part| {
            Some(part.joules - rest_watts(m, part.own)? * part.seconds)
        }),
        ("watts", "W", missing, |_, part| (part.seconds > 0.0).then(|| part.joules / part.seconds)),
        ("peak_watts", "W", "the source tells no peak", |_, part| part.peak_watts),
    ];
    let kind = kind_of(own.1);
    let note = format!("source {}", marked(&own.0, kind));
    for (what, unit, missing, figure) in figures {
        if what == "net_joules" && RESTS.contains(&stage) {
            continue;
        }
        c.add(format!("{name}_{what}"), unit, kind, missing, |m| figure(m, &part(m, stage, own)?));
        sourced(c, &own.0, &note);
    }
}

/// Joules of all tasks together for each item that was answered.
fn of_answers(c: &mut Collector<'_, Measurement>, own: &(String, EnergyKind)) {
    let missing = "no joules of that source in the stage, or a task without answers";
    c.add(PER_ANSWER, "J/answer", kind_of(own.1), missing, |m| {
        let answers = answers(m).filter(|&n| n > 0)?;
        Some(part(m, Stage::Tasks, own)?.joules / answers as f64)
    });
    sourced(c, &own.0, &format!("source {}", marked(&own.0, kind_of(own.1))));
}

/// Items that a process answered; `None` where a task broke off, as its joules are in the stage and its answers are not.
pub(crate) fn answers(m: &Measurement) -> Option<u64> {
    let items = |outcome: &TaskOutcome| match outcome {
        TaskOutcome::Ok(accuracy) => Some(u64::from(accuracy.items)),
        TaskOutcome::Unavailable { .. } => None,
    };
    m.accuracy.iter().map(items).sum()
}

/// What one source has counted in one stage of a process.
struct Part<'a> {
    own: &'a (String, EnergyKind),
    joules: f64,
    seconds: f64,
    peak_watts: Option<f64>,
}

fn part<'a>(m: &Measurement, stage: Stage, own: &'a (String, EnergyKind)) -> Option<Part<'a>> {
    let record = record_of(m, stage)?;
    let source = source_of(record, own)?;
    let peak_watts = source.peak_mw.map(|mw| mw as f64 / 1e3);
    Some(Part { own, joules: source.total_uj? as f64 / 1e6, seconds: record.window_ns as f64 / 1e9, peak_watts })
}

/// Mean watts over both rests, joules of both over the time of both, as the harness nets its windows; `None` where a rest has
/// no total of that source.
fn rest_watts(m: &Measurement, own: &(String, EnergyKind)) -> Option<f64> {
    let (mut joules, mut seconds) = (0.0, 0.0);
    for stage in RESTS.into_iter().filter(|&stage| record_of(m, stage).is_some()) {
        let part = part(m, stage, own)?;
        joules += part.joules;
        seconds += part.seconds;
    }
    (seconds > 0.0).then(|| joules / seconds)
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
