//! Draws a chart: title, legend strip on the right, panels in a grid.

use super::bar_draw;
use super::canvas::{Anchor, Canvas, DARK, GREY, GRID};
use super::chart::{Axis, Chart, Marker, Note, Panel, Point, Series, Stroke};
use super::labels::{self, Area, Label, Line};
use super::legend::{self, BAND};
use super::shapes;
use plotters::prelude::DrawingBackend;
use std::collections::BTreeMap;

/// Width of a picture in logical units.
pub(crate) const WIDTH: f64 = 960.0;
pub(super) const TITLE_HEIGHT: f64 = 66.0;
pub(super) const BODY: f64 = 15.0;
pub(super) const SMALL: f64 = 14.0;

/// Height of a chart's picture in logical units: what its panels take, and no less than its legend.
pub(crate) fn height(chart: &Chart) -> f64 {
    let rows = chart.panels.len().div_ceil(columns(chart)).max(1) as f64;
    let panels = match (chart.panels.len(), chart.columns) {
        (0 | 1, _) => 560.0,
        (_, 1) => TITLE_HEIGHT + 360.0 * rows,
        _ => TITLE_HEIGHT + 250.0 * rows,
    };
    panels.max(legend::bottom(chart))
}

fn columns(chart: &Chart) -> usize {
    let wanted = match chart.panels.len() {
        0 | 1 => 1,
        2..=4 => 2,
        _ => 3,
    };
    wanted.min(chart.columns).max(1)
}

/// Where something was drawn, in logical units: a point's middle, a bar's upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) panel: usize,
    pub(crate) what: Drawn,
    pub(crate) at: (f64, f64),
}

/// What was drawn, by its place in the panel; of a bar its width and height too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Drawn {
    Point { series: usize, point: usize },
    Bar { bar: usize, size: (f64, f64) },
}

/// Draws the whole chart; returns where its points and bars lie, panel by panel.
pub(crate) fn chart<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, chart: &Chart) -> Result<Vec<Spot>, String> {
    canvas.text(&chart.title, (24.0, 12.0), 21.0, DARK, Anchor::TopLeft, true)?;
    canvas.text(&chart.subtitle, (24.0, 40.0), SMALL, GREY, Anchor::TopLeft, false)?;
    let strip = legend::draw(canvas, chart)?;
    let columns = columns(chart);
    let rows = chart.panels.len().div_ceil(columns).max(1);
    let (width, height) = ((WIDTH - strip) / columns as f64, (height(chart) - TITLE_HEIGHT) / rows as f64);
    let mut spots = Vec::new();
    for (index, one) in chart.panels.iter().enumerate() {
        let left = width * (index % columns) as f64;
        let top = TITLE_HEIGHT + height * (index / columns) as f64;
        let drawn = panel(canvas, one, [left, top, left + width, top + height])?;
        spots.extend(drawn.into_iter().map(|spot| Spot { panel: index, ..spot }));
    }
    Ok(spots)
}

/// Where the data lies within a panel.
pub(super) struct Frame<'a> {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: &'a Axis,
    pub(super) y: &'a Axis,
}

impl Frame<'_> {
    pub(super) fn across(&self, value: f64) -> Option<f64> {
        Some(self.left + self.x.place(value)? * (self.right - self.left))
    }

    pub(super) fn up(&self, value: f64) -> Option<f64> {
        Some(self.bottom - self.y.place(value)? * (self.bottom - self.top))
    }
}

fn panel<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, panel: &Panel, area: [f64; 4]) -> Result<Vec<Spot>, String> {
    let mut tick_width = 0.0f64;
    for (_, label) in &panel.y.ticks {
        tick_width = tick_width.max(canvas.text_width(label, SMALL)?);
    }
    let titled = if panel.title.is_empty() { 0.0 } else { 20.0 };
    let rows = label_rows(canvas, panel, area)?;
    let deepest = rows.iter().copied().max().unwrap_or(0) as f64;
    let frame = Frame {
        left: area[0] + 24.0 + tick_width + 8.0,
        top: area[1] + 26.0 + titled,
        right: area[2] - 14.0,
        bottom: area[3] - 50.0 - 17.0 * deepest,
        x: &panel.x,
        y: &panel.y,
    };
    let width = |text: &str, size: f64| canvas.text_width(text, size).unwrap_or(f64::INFINITY);
    let texts = bar_draw::texts(&frame, &panel.bars, &width);
    let raised = texts.raised(&frame, &panel.bars, &width);
    let frame = Frame { y: &raised, ..frame };
    if titled > 0.0 {
        canvas.text(&panel.title, (frame.left, area[1] + 2.0), BODY, DARK, Anchor::TopLeft, true)?;
    }
    canvas.text(&panel.y.label, (area[0] + 24.0, frame.top - 8.0), SMALL, GREY, Anchor::BottomLeft, false)?;
    axes(canvas, &frame, &rows, panel.bars.is_empty())?;
    bands(canvas, &frame, panel)?;
    panel.bars.iter().try_for_each(|bar| bar_draw::draw(canvas, &frame, bar))?;
    texts.draw(canvas, &frame, &panel.bars)?;
    if let Some(y) = panel.mark.and_then(|mark| frame.up(mark)) {
        canvas.grey_line(&[(frame.left, y), (frame.right, y)], DARK, 1.2)?;
    }
    panel.series.iter().try_for_each(|series| draw_series(canvas, &frame, series))?;
    shapes::draw(canvas, &frame, panel)?;
    notes(canvas, &frame, panel)?;
    let middle = (frame.left + frame.right) / 2.0;
    canvas.text(&panel.x.label, (middle, area[3] - 6.0), SMALL, GREY, Anchor::BottomMiddle, false)?;
    Ok(spots(&frame, panel))
}

/// Where bars and points lie.
fn spots(frame: &Frame<'_>, panel: &Panel) -> Vec<Spot> {
    let mut spots: Vec<Spot> =
        panel.bars.iter().enumerate().filter_map(|(index, bar)| bar_draw::spot(frame, index, bar)).collect();
    for (index, series) in panel.series.iter().enumerate() {
        let spot = |(point, p): (usize, &Point)| {
            let at = (frame.across(p.x)?, frame.up(p.y)?);
            Some(Spot { panel: 0, what: Drawn::Point { series: index, point }, at })
        };
        spots.extend(series.points.iter().enumerate().filter_map(spot));
    }
    spots
}

fn bands<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, panel: &Panel) -> Result<(), String> {
    for band in &panel.bands {
        let at = |x: f64, y: f64| Some((frame.across(x)?, frame.up(y.clamp(frame.y.low, frame.y.high))?));
        let low = band.points.iter().filter_map(|&(x, low, _)| at(x, low));
        let high = band.points.iter().rev().filter_map(|&(x, _, high)| at(x, high));
        let corners: Vec<(f64, f64)> = low.chain(high).collect();
        if corners.len() > 3 {
            canvas.area(&corners, band.colour, BAND)?;
        }
    }
    Ok(())
}

/// Names of lines beside them, clear of each other and where they can of points, intervals and lines.
fn notes<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, panel: &Panel) -> Result<(), String> {
    let at = |x: f64, y: f64| Some((frame.across(x)?, frame.up(y)?));
    let label = |note: &Note| {
        let [from, to] = note.line;
        let width = canvas.text_width(&note.text, SMALL).ok()?;
        Some(Label { line: [at(from.0, from.1)?, at(to.0, to.1)?], size: (width, SMALL), upper: note.upper })
    };
    let labels: Vec<(&Note, Label)> = panel.notes.iter().filter_map(|note| Some((note, label(note)?))).collect();
    if labels.is_empty() {
        return Ok(());
    }
    let points = || panel.series.iter().filter(|s| s.marker != Marker::None).flat_map(|s| &s.points);
    let whole = |p: &Point| p.interval.into_iter().flat_map(|(low, high)| [low, high]).chain([p.y]);
    let taken: Vec<Area> =
        points().flat_map(|p| whole(p).filter_map(|y| at(p.x, y))).map(|place| Area::around(place, 7.0)).collect();
    let stretches = panel.series.iter().filter(|s| s.stroke != Stroke::None).flat_map(|s| s.points.windows(2));
    let lines: Vec<Line> =
        stretches.filter_map(|pair| Some([at(pair[0].x, pair[0].y)?, at(pair[1].x, pair[1].y)?])).collect();
    let within = Area { left: frame.left, top: frame.top, right: frame.right, bottom: frame.bottom };
    let (notes, labels): (Vec<&Note>, Vec<Label>) = labels.into_iter().unzip();
    for (note, area) in notes.iter().zip(labels::place(&labels, &within, &taken, &lines)) {
        let Some(area) = area else { continue };
        canvas.text(&note.text, (area.left, (area.top + area.bottom) / 2.0), SMALL, GREY, Anchor::MiddleLeft, false)?;
    }
    Ok(())
}

/// The row each x label stands in, so that near neighbours do not overlap.
fn label_rows<DB: DrawingBackend>(
    canvas: &Canvas<'_, DB>,
    panel: &Panel,
    area: [f64; 4],
) -> Result<Vec<usize>, String> {
    let span = area[2] - area[0] - 90.0;
    let mut ends = [f64::NEG_INFINITY; 4];
    let mut rows = Vec::new();
    for (value, label) in &panel.x.ticks {
        let half = canvas.text_width(label, SMALL)? / 2.0;
        let centre = panel.x.place(*value).unwrap_or(0.0) * span;
        let row = ends.iter().position(|end| centre - half > *end + 6.0).unwrap_or(ends.len() - 1);
        ends[row] = centre + half;
        rows.push(row);
    }
    Ok(rows)
}

fn axes<DB: DrawingBackend>(
    canvas: &Canvas<'_, DB>,
    frame: &Frame<'_>,
    rows: &[usize],
    across: bool,
) -> Result<(), String> {
    for (value, label) in &frame.y.ticks {
        let Some(y) = frame.up(*value) else { continue };
        canvas.grey_line(&[(frame.left, y), (frame.right, y)], GRID, 1.0)?;
        canvas.text(label, (frame.left - 7.0, y), SMALL, DARK, Anchor::MiddleRight, false)?;
    }
    for ((value, label), &row) in frame.x.ticks.iter().zip(rows) {
        let Some(x) = frame.across(*value) else { continue };
        let below = frame.bottom + 6.0 + 17.0 * row as f64;
        if across {
            canvas.grey_line(&[(x, frame.top), (x, frame.bottom)], GRID, 1.0)?;
        }
        canvas.grey_line(&[(x, frame.bottom), (x, frame.bottom + 5.0)], GREY, 1.0)?;
        canvas.text(label, (x, below), SMALL, DARK, Anchor::TopMiddle, false)?;
    }
    let corners = [(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)];
    canvas.grey_line(&corners, DARK, 1.4)
}

fn draw_series<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, series: &Series) -> Result<(), String> {
    let at = |p: &Point| Some((frame.across(p.x)?, frame.up(p.y)?));
    let mut groups: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for point in &series.points {
        groups.entry(point.group).or_default().extend(at(point));
    }
    for line in groups.values().filter(|line| line.len() > 1) {
        canvas.line(line, series.colour, 2.2, series.stroke)?;
    }
    for point in &series.points {
        let Some(place) = at(point) else { continue };
        whisker(canvas, frame, place.0, point.interval, series.colour)?;
        if !matches!(series.marker, Marker::Shape(_)) {
            canvas.marker(place, series.colour, series.marker)?;
        }
    }
    Ok(())
}

/// The interval of a value at `x`, with feet.
pub(super) fn whisker<DB: DrawingBackend>(
    canvas: &Canvas<'_, DB>,
    frame: &Frame<'_>,
    x: f64,
    interval: Option<(f64, f64)>,
    colour: usize,
) -> Result<(), String> {
    let Some((low, high)) = interval else { return Ok(()) };
    let (low, high) = (frame.up(low).unwrap_or(frame.bottom), frame.up(high).unwrap_or(frame.top));
    canvas.line(&[(x, low), (x, high)], colour, 1.4, Stroke::Solid)?;
    [low, high]
        .into_iter()
        .try_for_each(|end| canvas.line(&[(x - 4.0, end), (x + 4.0, end)], colour, 1.4, Stroke::Solid))
}
