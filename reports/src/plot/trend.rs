//! A history's series: a panel for each machine, suite, model and workload, a line for each cell, a diamond where a change begins.

use super::chart::{Axis, Chart, Marker, NEUTRAL, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain};
use super::draw_file;
use super::history::{MACHINE, PANELS, TITLE, WIDE_TITLE, place, time};
use crate::class;
use crate::error::Error;
use crate::trend;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the legend says of a change point.
const CHANGE: &str = "change begins (advisory)";

/// Draws `series` of one metric into `path`, an SVG or, by its ending, a PNG. The first panels are drawn that a page holds; how
/// many were left out is the answer.
///
/// # Errors
/// [`Error::Mixed`] with no series or those of several metrics; a file that can't be written.
pub fn draw(series: &[trend::Series], path: &Path) -> Result<usize, Error> {
    let metrics: BTreeSet<_> = series.iter().map(|s| (&s.key.metric, &s.key.unit, &s.key.kind)).collect();
    if metrics.len() != 1 {
        return Err(Error::Mixed(format!("a chart is of one metric, found {}", metrics.len())));
    }
    let (chart, left_out) = chart(series).ok_or_else(|| Error::Mixed("there is nothing to draw".to_owned()))?;
    let extension = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) { "png" } else { "svg" };
    draw_file(&chart, path, extension).map_err(|message| Error::Write { path: path.to_owned(), message })?;
    Ok(left_out)
}

fn chart(series: &[trend::Series]) -> Option<(Chart, usize)> {
    let key = &series.first()?.key;
    let machines = class::names(series.iter().map(|s| &s.key.machine), MACHINE);
    let several = machines.len() > 1;
    let suites: BTreeSet<&str> = series.iter().map(|s| s.key.suite.as_str()).collect();
    let workloads: BTreeSet<&str> = series.iter().map(|s| s.key.workload.as_str()).collect();
    let runs: BTreeSet<(&str, &str)> =
        series.iter().flat_map(|s| &s.points).map(|p| (p.started.as_str(), p.run.as_str())).collect();
    let runs: Vec<(&str, &str)> = runs.into_iter().collect();
    let mut looks: Vec<String> = Vec::new();
    let mut panels: BTreeMap<(usize, &str, &str, &str), Vec<&trend::Series>> = BTreeMap::new();
    for one in series {
        let machine = machines.iter().position(|(known, _)| known.differs(&one.key.machine).is_empty()).unwrap_or(0);
        place(&mut looks, line_name(&one.key));
        panels.entry((machine, &one.key.suite, &one.key.workload, &one.key.model)).or_default().push(one);
    }
    let title = |(machine, suite, workload, model): (usize, &str, &str, &str)| {
        let parts = [
            (true, model),
            (workloads.len() > 1, workload),
            (suites.len() > 1, suite),
            (several, &*machines[machine].1),
        ];
        let shown: Vec<&str> = parts.into_iter().filter(|(shown, _)| *shown).map(|(_, text)| text).collect();
        plain(&shown.join(", "), if several { WIDE_TITLE } else { TITLE })
    };
    let all: Vec<Panel> =
        panels.into_iter().filter_map(|(key, lines)| panel(title(key), &runs, &lines, &looks)).collect();
    let left_out = all.len().saturating_sub(PANELS);
    let one = |many: bool, text: &str| if many { String::new() } else { format!("{text}, ") };
    let machine = if several { String::new() } else { format!(" · {}", machines.first()?.1) };
    let named = format!("{}{}", one(suites.len() > 1, &key.suite), one(workloads.len() > 1, &key.workload));
    let chart = Chart {
        title: plain(&format!("{} ({}) over runs", key.metric, key.kind), 80),
        subtitle: plain(&format!("{named}a point a run, bars are 95 % intervals{machine}"), usize::MAX),
        columns: if several { 1 } else { 3 },
        panels: all.into_iter().take(PANELS).collect(),
    };
    (!chart.panels.is_empty()).then_some((chart, left_out))
}

/// Engine, threads and what else sets the cell apart (the end of its id: cache type, instruction set).
fn line_name(key: &trend::Key) -> String {
    let usual = format!("{}/{}/t{}/{}", key.engine, key.model, key.threads, key.workload);
    let variant = key.cell.strip_prefix(&usual).unwrap_or("").replace('/', " ");
    let plural = if key.threads == 1 { "" } else { "s" };
    plain(&format!("{}{variant}, {} thread{plural}", key.engine, key.threads), usize::MAX)
}

fn panel(title: String, runs: &[(&str, &str)], lines: &[&trend::Series], looks: &[String]) -> Option<Panel> {
    let mut drawn: Vec<Series> = Vec::new();
    let mut changes: Vec<Point> = Vec::new();
    for (group, one) in lines.iter().enumerate() {
        let at = |point: &trend::Point| {
            let place = runs.binary_search(&(point.started.as_str(), point.run.as_str())).unwrap_or(0) as f64;
            let n = Some(point.n as usize);
            Point { x: place, y: point.value, interval: point.interval, group: group as u32, model: None, n }
        };
        changes.extend(one.changes.iter().map(|change| at(&one.points[change.at])).map(|p| Point::bare(p.x, p.y)));
        let name = line_name(&one.key);
        let points: Vec<Point> = one.points.iter().map(at).collect();
        // Series of several builds are one look and lines apart, by their groups.
        match drawn.iter_mut().find(|known| known.name == name) {
            Some(known) => known.points.extend(points),
            None => {
                let colour = looks.iter().position(|known| *known == name).unwrap_or(0);
                drawn.push(Series { name, colour, stroke: Stroke::Solid, marker: Marker::Filled, points });
            }
        }
    }
    if !changes.is_empty() {
        let (name, stroke, marker) = (CHANGE.to_owned(), Stroke::None, Marker::Diamond);
        drawn.push(Series { name, colour: NEUTRAL, stroke, marker, points: changes });
    }
    let unit = &lines.first()?.key.unit;
    let y = Axis::fit(unit, Scale::Linear, drawn.iter().flat_map(|s| &s.points).flat_map(extent))?;
    let begun: Vec<&str> = runs.iter().map(|(begun, _)| *begun).collect();
    Some(Panel::new(title, time(&begun), y, drawn))
}
