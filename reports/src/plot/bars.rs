//! Joules as bars: of a token, with what each engine saves; of a process, stage by stage. Measured and modelled joules have
//! charts of their own, and modelled bars are hatched.

use super::Plot;
use super::chart::{Axis, BAR_SHARE, Bar, Chart, NEUTRAL, Panel, Scale, Segment};
use super::charts::{plain, subtitle};
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind};
use crate::joules::STAGES;
use crate::load::RunData;
use crate::stats::Estimate;
use std::collections::BTreeMap;
use suites::cell::{Phase, Workload};
use suites::record::Stage;

/// Most panels: a page's height.
const PANELS: usize = 15;
/// Width of all bars of a group together; the rest is air.
const GROUP: f64 = 0.78;

/// The figure of a metric whose kind is `kind`.
fn of_kind(cell: &CellSummary, metric: &str, kind: Kind) -> Option<Estimate> {
    cell.metric(metric).filter(|m| m.kind == kind)?.figure.as_ref().ok().copied()
}

/// Joules a token: a panel a model, a group the least and the most threads, a bar an engine, above it its change to the engine that it is
/// paired with. Modelled ones only where none are measured.
pub(crate) fn joules(
    data: &RunData,
    analysis: &Analysis,
    workload: Workload,
    [measured, modelled]: [&'static str; 2],
    name: &str,
) -> Option<(Plot, Chart)> {
    let threads = || analysis.measured(workload).map(|c| c.cell.threads);
    let ends = [threads().min(), threads().max()];
    let at_ends = |c: &&CellSummary| ends.contains(&Some(c.cell.threads));
    let cells: Vec<&CellSummary> = analysis.measured(workload).filter(at_ends).collect();
    let of = |kind, unit| {
        let by_model = |model: &str| cells.iter().copied().filter(|c| c.cell.model == model).collect::<Vec<_>>();
        let all = analysis.models.iter().map(|m| (m.name.as_str(), by_model(&m.name)));
        let panels = all.filter_map(|(model, cells)| token_panel(analysis, model, &cells, kind, unit));
        panels.take(PANELS).collect::<Vec<Panel>>()
    };
    let what = format!("{workload}, median of processes, bars are 95 % intervals");
    let caption = "Above a bar: the change of its median to that of the engine that it is paired with. Each model has a scale of its own, from 0.";
    let title = format!("{name} energy of a token");
    let panels = of(Kind::Measured, "J/token");
    if !panels.is_empty() {
        let caption = format!("{caption}{}", left_out(cells.iter().copied(), "joules_per_token"));
        return Some(finish(data, measured, [&title, &what, &caption], panels));
    }
    let panels = of(Kind::Modelled, "J/token, modelled, not measured");
    let caption = format!("Modelled, not measured. {caption}");
    let title = format!("{title}, modelled");
    (!panels.is_empty()).then(|| finish(data, modelled, [&title, &what, &caption], panels))
}

/// What a chart of measured joules says of cells that have but modelled ones.
fn left_out<'a>(mut cells: impl Iterator<Item = &'a CellSummary>, metric: &str) -> &'static str {
    let any = cells.any(|c| of_kind(c, metric, Kind::Modelled).is_some());
    if any { " Cells whose joules are modelled alone are left out." } else { "" }
}

fn finish(data: &RunData, stem: &'static str, [title, what, caption]: [&str; 3], panels: Vec<Panel>) -> (Plot, Chart) {
    let plot = Plot { stem, title: title.to_owned(), caption: caption.to_owned() };
    (plot, Chart { title: title.to_owned(), subtitle: subtitle(data, what), columns: 2, panels })
}

fn token_panel(analysis: &Analysis, model: &str, cells: &[&CellSummary], kind: Kind, unit: &str) -> Option<Panel> {
    let figure = |c: &CellSummary| of_kind(c, "joules_per_token", kind);
    let cells: Vec<(&CellSummary, Estimate)> = cells.iter().filter_map(|c| Some((*c, figure(c)?))).collect();
    let mut threads: Vec<u32> = cells.iter().map(|(c, _)| c.cell.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let mut looks: Vec<usize> = cells.iter().map(|(c, _)| analysis.colour(&c.cell)).collect();
    looks.sort_unstable();
    looks.dedup();
    let width = GROUP / looks.len().max(1) as f64;
    let mut bars = Vec::new();
    for (cell, joules) in &cells {
        let group = threads.iter().position(|t| *t == cell.cell.threads)? as f64;
        let own = looks.iter().position(|look| *look == analysis.colour(&cell.cell))? as f64;
        let name = format!("{}{}", analysis.shown(&cell.cell.engine), variant(&cell.cell));
        let part = Segment {
            name: plain(&name, usize::MAX),
            colour: analysis.colour(&cell.cell),
            hatched: kind == Kind::Modelled,
            size: joules.value,
        };
        bars.push(Bar {
            x: group + (own + 0.5) * width - GROUP / 2.0,
            width: width * BAR_SHARE,
            segments: vec![part],
            interval: joules.interval,
            labels: change(analysis, cell, *joules, &cells),
            n: Some(joules.n),
        });
    }
    let group = |threads: &u32| format!("{threads} thread{}", if *threads == 1 { "" } else { "s" });
    panel(model, &threads.iter().map(group).collect::<Vec<_>>(), unit, bars)
}

/// The change of a cell's joules to its pair's in the same place, in per cent, with a decimal and without; nothing without such a cell.
fn change(analysis: &Analysis, cell: &CellSummary, own: Estimate, cells: &[(&CellSummary, Estimate)]) -> Vec<String> {
    let pair = analysis.pairs.iter().find(|(candidate, _)| *candidate == cell.cell.engine);
    let base = pair.and_then(|(_, baseline)| {
        let mut like = cell.cell.clone();
        like.engine.clone_from(baseline);
        cells.iter().find(|(c, _)| c.cell == like).map(|(_, figure)| figure.value)
    });
    match base {
        Some(base) if base > 0.0 => {
            let percent = (own.value / base - 1.0) * 100.0;
            [format!("{percent:+.1} %"), format!("{percent:+.0} %")].map(|text| text.replace('-', "−")).to_vec()
        }
        _ => Vec::new(),
    }
}

/// A panel of bars, with room for their texts above; `None` without a bar.
fn panel(title: &str, groups: &[String], unit: &str, bars: Vec<Bar>) -> Option<Panel> {
    let top = |bar: &Bar| {
        let sum: f64 = bar.segments.iter().map(|part| part.size).sum();
        bar.interval.map_or(sum, |(_, high)| high.max(sum))
    };
    let most = bars.iter().map(top).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let y = Axis::fit(unit, Scale::Linear, [0.0, most * 1.12].into_iter())?;
    Some(Panel { bars, ..Panel::new(plain(title, 30), Axis::named(groups), y, Vec::new()) })
}

/// What a stage is drawn in: rest is neutral.
fn stage_colour(stage: Stage) -> usize {
    match stage {
        Stage::IdleBefore | Stage::IdleAfter => NEUTRAL,
        Stage::Load => 4,
        Stage::Prefill => 5,
        Stage::Decode => 0,
        Stage::Tasks => 3,
    }
}

/// Joules of a whole process from rest to rest: a panel a model and workload, a bar an engine, its stages one on the other.
pub(crate) fn stages(data: &RunData, analysis: &Analysis) -> Option<(Plot, Chart)> {
    let note = "Medians of processes, at the most threads; a decode process has its windows in `decode`, a prefill process in \
        `prefill`. Each panel has a scale of its own, from 0.";
    let of = |kind, unit| {
        let main = [Phase::Decode, Phase::Prefill].into_iter().filter_map(|phase| analysis.main_workload(phase));
        main.flat_map(|workload| stage_panels(analysis, workload, kind, unit)).take(PANELS).collect::<Vec<Panel>>()
    };
    let title = "Energy by stage";
    let panels = of(Kind::Measured, "J");
    if !panels.is_empty() {
        let note = format!("{note}{}", left_out(analysis.cells.iter(), "load_joules"));
        return Some(finish(data, "energy-stages", [title, "from rest to rest", &note], panels));
    }
    let panels = of(Kind::Modelled, "J, modelled, not measured");
    let (title, note) = (format!("{title}, modelled"), format!("Modelled, not measured. {note}"));
    (!panels.is_empty()).then(|| finish(data, "energy-stages-modelled", [&title, "from rest to rest", &note], panels))
}

fn stage_panels(analysis: &Analysis, workload: Workload, kind: Kind, unit: &str) -> Vec<Panel> {
    let Some(most) = analysis.measured(workload).map(|c| c.cell.threads).max() else { return Vec::new() };
    let mut by_model: BTreeMap<&str, Vec<&CellSummary>> = BTreeMap::new();
    for cell in analysis.measured(workload).filter(|c| c.cell.threads == most) {
        by_model.entry(&cell.cell.model).or_default().push(cell);
    }
    let mut panels = Vec::new();
    for (model, cells) in analysis.models.iter().filter_map(|m| by_model.get_key_value(m.name.as_str())) {
        let (mut names, mut bars) = (Vec::new(), Vec::new());
        for cell in cells {
            let segments = segments(cell, kind);
            if segments.is_empty() {
                continue;
            }
            bars.push(Bar { x: bars.len() as f64, width: 0.6, segments, interval: None, labels: Vec::new(), n: None });
            names.push(plain(&format!("{}{}", analysis.shown(&cell.cell.engine), variant(&cell.cell)), 40));
        }
        panels.extend(panel(&format!("{model}, {workload}"), &names, unit, bars));
    }
    panels
}

fn segments(cell: &CellSummary, kind: Kind) -> Vec<Segment> {
    let joules = |name: &str| of_kind(cell, &format!("{name}_joules"), kind).map(|f| f.value).filter(|j| *j > 0.0);
    let hatched = kind == Kind::Modelled;
    let segment = |(stage, name, title): (Stage, &str, &str)| {
        let colour = stage_colour(stage);
        let title = if colour == NEUTRAL { "rest before and after" } else { title };
        Some(Segment { name: title.to_owned(), colour, hatched, size: joules(name)? })
    };
    STAGES.into_iter().filter_map(segment).collect()
}
