//! The papers' figures made anew: the run's speeds and speed-ups beside those of arXiv 2410.16144, tables 4 and 5.

use super::Plot;
use super::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain, point, subtitle};
use crate::analysis::{Analysis, params, variant};
use crate::cells::{CellSummary, Status, fastest};
use crate::compare::block_ratios;
use crate::load::RunData;
use crate::stats::{Estimate, estimate};
use std::collections::BTreeMap;
use suites::Catalogue;
use suites::cell::Workload;
use suites::published::{Published, Table};

/// The tables of the paper's figures, and the panel of each.
const TABLES: [(&str, &str); 2] =
    [("2410.16144/table4", "Best thread count for each figure"), ("2410.16144/table5", "2 threads")];
const SOURCE: &str = "arXiv 2410.16144";
const CAPTION: &str = "Filled, solid: this run. Hollow, dashed: as printed in arXiv 2410.16144v2, table 4 (best thread count) and table 5 (2 threads), on other \
    machines, of models of the same shapes; what does not stand there is N/A in the paper. Bars are 95 % intervals.";

/// Speed and speed-up by size, where the run has a size that the paper has.
pub(crate) fn charts(data: &RunData, analysis: &Analysis, workload: Workload) -> Vec<(Plot, Chart)> {
    let (Ok(published), Ok(catalogue)) = (Published::embedded(), Catalogue::embedded()) else { return Vec::new() };
    let size = |name: &String| Some((name.clone(), params(catalogue.model(name).ok()?)?));
    let tables: Vec<(&Table, &str)> =
        TABLES.iter().filter_map(|(name, title)| Some((published.table(name).ok()?, *title))).collect();
    let known = |c: &&CellSummary| {
        let plain = c.status == Status::Ok && variant(&c.cell).is_empty();
        plain && tables.iter().any(|(table, _)| table.sizes.contains(&c.cell.model))
    };
    let cells: Vec<&CellSummary> = analysis.measured(workload).filter(known).collect();
    let sizes: BTreeMap<String, f64> = tables.iter().flat_map(|(table, _)| &table.sizes).filter_map(size).collect();
    let of = Of { analysis, cells: &cells, sizes: &sizes };
    let one = |stem: &'static str, title: &str, unit: &str, of: &dyn Fn(&Table) -> Vec<Series>| {
        let panel = |(table, title): &(&Table, &str)| {
            let series = of(table);
            let ours = series.iter().any(|s| s.stroke == Stroke::Solid);
            let points = || series.iter().flat_map(|s| &s.points);
            let mut x = Axis::fit("model, placed by its parameters (log scale)", Scale::Log, points().map(|p| p.x))?;
            let known = table.sizes.iter().filter_map(|size| Some((*sizes.get(size)?, size.clone())));
            x.ticks = known.filter(|(at, _)| points().any(|p| p.x == *at)).collect();
            let mark = stem.ends_with("speedup").then_some(1.0);
            let y = Axis::fit(unit, Scale::Log, points().flat_map(extent).chain(mark))?;
            ours.then(|| Panel { mark, ..Panel::new((*title).to_owned(), x, y, series) })
        };
        let panels: Vec<Panel> = tables.iter().filter_map(panel).collect();
        let plot = Plot { stem, title: title.to_owned(), caption: CAPTION.to_owned() };
        let what = format!("{workload} here; published: {SOURCE}, tables 4 and 5");
        let chart = Chart { title: title.to_owned(), subtitle: subtitle(data, &what), columns: 1, panels };
        (!chart.panels.is_empty()).then_some((plot, chart))
    };
    // Ours are drawn last: of points at one place ours is seen.
    let speeds = |table: &Table| of.their_speeds(table).into_iter().chain(of.our_speeds(table)).collect();
    let ratios = |table: &Table| of.their_speedups(table).into_iter().chain(of.our_speedups(table)).collect();
    let speed = one("published-speed", "Decode speed beside the published figures", "tokens/s", &speeds);
    let title = "Decode speed-up beside the published figures";
    let speedup = one("published-speedup", title, "times the baseline's tokens/s", &ratios);
    speed.into_iter().chain(speedup).collect()
}

/// The cell of each engine and model under a table's thread setting: the fastest, or the one with as many threads.
fn chosen<'a>(cells: &[&'a CellSummary], table: &Table) -> BTreeMap<(&'a str, &'a str), &'a CellSummary> {
    let mut groups: BTreeMap<(&str, &str), Vec<&CellSummary>> = BTreeMap::new();
    for &cell in cells.iter().filter(|c| table.threads.fits(c.cell.threads)) {
        groups.entry((&cell.cell.engine, &cell.cell.model)).or_default().push(cell);
    }
    groups.into_iter().filter_map(|(place, cells)| Some((place, fastest(cells.into_iter())?))).collect()
}

/// In the order of sizes, so that lines run from left to right, and of colours.
fn sorted(mut series: Vec<Series>) -> Vec<Series> {
    series.iter_mut().for_each(|s| s.points.sort_by(|a, b| a.x.total_cmp(&b.x)));
    series.sort_by_key(|s| s.colour);
    series
}

/// What the series are drawn from.
struct Of<'a> {
    analysis: &'a Analysis,
    cells: &'a [&'a CellSummary],
    /// Parameters of the sizes that the tables have.
    sizes: &'a BTreeMap<String, f64>,
}

impl Of<'_> {
    fn our_speeds(&self, table: &Table) -> Vec<Series> {
        let mut series = Vec::new();
        for ((engine, _), cell) in chosen(self.cells, table) {
            if let Some(figure) = cell.figure("tokens_per_second") {
                self.add(&mut series, &format!("{engine}, this run"), cell, figure);
            }
        }
        sorted(series)
    }

    /// Block by block between the two chosen cells, whose thread counts may differ.
    fn our_speedups(&self, table: &Table) -> Vec<Series> {
        let chosen = chosen(self.cells, table);
        let mut series = Vec::new();
        for ((engine, model), cell) in &chosen {
            let pair = self.analysis.pairs.iter().find(|(candidate, _)| candidate == engine);
            let Some((_, baseline)) = pair else { continue };
            let Some(base) = chosen.get(&(baseline.as_str(), *model)) else { continue };
            if let Some(figure) = estimate(&block_ratios(&cell.by_block, &base.by_block)) {
                self.add(&mut series, &format!("{engine} / {baseline}, this run"), cell, figure);
            }
        }
        sorted(series)
    }

    /// Adds a point to the series of `name`, which may be new.
    fn add(&self, series: &mut Vec<Series>, name: &str, cell: &CellSummary, figure: Estimate) {
        let Some((x, _)) = self.analysis.place(&cell.cell.model) else { return };
        let (name, point) = (plain(name, usize::MAX), point(x, figure, 0));
        match series.iter_mut().find(|known| known.name == name) {
            Some(known) => known.points.push(point),
            None => {
                let colour = self.analysis.colour(&cell.cell);
                let (stroke, marker) = (Stroke::Solid, Marker::Filled);
                series.push(Series { name, colour, stroke, marker, points: vec![point] });
            }
        }
    }

    /// A published series: its colour is the `place`th after those of the run's own cells.
    fn theirs(&self, table: &Table, name: &str, place: usize, figure: impl Fn(&str) -> Option<f64>) -> Series {
        let at = |size: &String| Some(Point::bare(*self.sizes.get(size)?, figure(size)?));
        let points = table.sizes.iter().filter_map(at).collect();
        let (name, colour) = (format!("{name}, published"), self.analysis.colours() + place);
        Series { name, colour, stroke: Stroke::Dashed, marker: Marker::Hollow, points }
    }

    fn their_speeds(&self, table: &Table) -> Vec<Series> {
        let rows = table.rows.iter().zip(0..);
        rows.map(|(row, place)| {
            self.theirs(table, &format!("{}, {}", row.engine, row.device), place, |size| row.figure(size))
        })
        .collect()
    }

    fn their_speedups(&self, table: &Table) -> Vec<Series> {
        let all = table.comparisons.iter().zip(0..);
        all.map(|(c, place)| {
            self.theirs(table, &format!("{} / {}, {}", c.engine, c.over, c.device), place, |size| c.figure(size))
        })
        .collect()
    }
}
