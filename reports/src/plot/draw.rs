//! Draws a chart: title, legend strip on the right, panels in a grid.

use super::canvas::{Anchor, Canvas, DARK, GREY, GRID};
use super::chart::{Axis, BAR_SHARE, Bar, Chart, Marker, NEUTRAL, Panel, Point, Series, Stroke};
use plotters::prelude::DrawingBackend;
use std::collections::BTreeMap;

/// Width of a picture in logical units.
pub(crate) const WIDTH: f64 = 960.0;
const TITLE_HEIGHT: f64 = 66.0;
const BODY: f64 = 15.0;
const SMALL: f64 = 14.0;

/// Top of the first entry of the legend.
const LEGEND_TOP: f64 = TITLE_HEIGHT + 36.0;
/// From an entry of the legend to the next, and from a line of a name to the next.
const ENTRY: f64 = 26.0;
const NAME_LINE: f64 = 17.0;
/// How much of what is below a band covers.
const BAND: f64 = 0.2;
/// What a legend's line and marker take to the left of the name, and what is left free around both.
const KEY: f64 = 78.0;
/// Widest name in the legend; a longer one goes on in a second line, or more.
const NAME: f64 = 300.0;

/// Height of a chart's picture in logical units: what its panels take, and no less than its legend.
pub(crate) fn height(chart: &Chart) -> f64 {
    let rows = chart.panels.len().div_ceil(columns(chart)).max(1) as f64;
    let panels = match (chart.panels.len(), chart.columns) {
        (0 | 1, _) => 560.0,
        (_, 1) => TITLE_HEIGHT + 360.0 * rows,
        _ => TITLE_HEIGHT + 250.0 * rows,
    };
    // Before there is a canvas to measure text on: no letter of a name is wider than this.
    let lines = |name: &str| wrapped(name, |text| text.chars().count() as f64 * BODY * 0.7).len() as f64;
    let legend: f64 = entries(chart).iter().map(|e| ENTRY + NAME_LINE * (lines(e.name) - 1.0)).sum();
    panels.max(LEGEND_TOP + legend)
}

/// A name in the legend with what it stands for.
struct Entry<'a> {
    name: &'a str,
    colour: usize,
    key: Key,
}

/// How a legend shows what it names.
enum Key {
    Line(Stroke, Marker),
    Block { hatched: bool },
    Area,
}

/// What the legend names, each name once (with its marker, if any line of the name has one): lines, areas, parts of bars.
fn entries(chart: &Chart) -> Vec<Entry<'_>> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut add = |name, colour, key| match places.get(name).map(|&at| (&mut entries[at].key, &key)) {
        Some((Key::Line(_, known @ Marker::None), Key::Line(_, marker))) => *known = *marker,
        Some(_) => {}
        None => {
            places.insert(name, entries.len());
            entries.push(Entry { name, colour, key });
        }
    };
    for s in chart.panels.iter().flat_map(|p| &p.series) {
        add(&*s.name, s.colour, Key::Line(s.stroke, s.marker));
    }
    for band in chart.panels.iter().flat_map(|p| &p.bands) {
        add(&*band.name, band.colour, Key::Area);
    }
    for part in chart.panels.iter().flat_map(|p| &p.bars).flat_map(|bar| &bar.segments) {
        add(&*part.name, part.colour, Key::Block { hatched: part.hatched });
    }
    entries
}

/// `name` in lines no wider than [`NAME`], broken at spaces; a single word may be wider.
fn wrapped(name: &str, width: impl Fn(&str) -> f64) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in name.split(' ') {
        let last = lines.len() - 1;
        let longer = if lines[last].is_empty() { word.to_owned() } else { format!("{} {word}", lines[last]) };
        if lines[last].is_empty() || width(&longer) <= NAME {
            lines[last] = longer;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
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

/// Least height of what can be pointed at, however low a bar is.
const LEAST_HEIGHT: f64 = 8.0;

/// Draws the whole chart; returns where its points and bars lie, panel by panel.
pub(crate) fn chart<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, chart: &Chart) -> Result<Vec<Spot>, String> {
    canvas.text(&chart.title, (24.0, 12.0), 21.0, DARK, Anchor::TopLeft, true)?;
    canvas.text(&chart.subtitle, (24.0, 40.0), SMALL, GREY, Anchor::TopLeft, false)?;
    let strip = legend(canvas, chart)?;
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

/// The legend in a strip of its own beside the panels, never over data. Returns the strip's width.
fn legend<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, chart: &Chart) -> Result<f64, String> {
    let measured = |text: &str| canvas.text_width(text, BODY).unwrap_or(f64::INFINITY);
    let entries: Vec<(Entry<'_>, Vec<String>)> =
        entries(chart).into_iter().map(|e| (wrapped(e.name, measured), e)).map(|(lines, e)| (e, lines)).collect();
    let widest = entries.iter().flat_map(|(_, lines)| lines).map(|line| measured(line)).fold(0.0, f64::max);
    let strip = (widest + KEY).min(WIDTH / 2.0);
    let left = WIDTH - strip + 12.0;
    let mut y = LEGEND_TOP;
    for (entry, lines) in &entries {
        let (from, to) = ((left + 8.0, y - 7.0), (left + 28.0, y + 7.0));
        match entry.key {
            Key::Line(stroke, marker) => {
                canvas.line(&[(left, y), (left + 36.0, y)], entry.colour, 2.2, stroke)?;
                canvas.marker((left + 18.0, y), entry.colour, marker)?;
            }
            Key::Block { hatched } => canvas.block(from, to, entry.colour, hatched)?,
            Key::Area => canvas.area(&[from, (to.0, from.1), to, (from.0, to.1)], entry.colour, BAND)?,
        }
        for line in lines {
            canvas.text(line, (left + 44.0, y), BODY, DARK, Anchor::MiddleLeft, false)?;
            y += NAME_LINE;
        }
        y += ENTRY - NAME_LINE;
    }
    Ok(strip)
}

/// Where the data lies within a panel.
struct Frame<'a> {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: &'a Axis,
    y: &'a Axis,
}

impl Frame<'_> {
    fn across(&self, value: f64) -> Option<f64> {
        Some(self.left + self.x.place(value)? * (self.right - self.left))
    }

    fn up(&self, value: f64) -> Option<f64> {
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
    if titled > 0.0 {
        canvas.text(&panel.title, (frame.left, area[1] + 2.0), BODY, DARK, Anchor::TopLeft, true)?;
    }
    canvas.text(&panel.y.label, (area[0] + 24.0, frame.top - 8.0), SMALL, GREY, Anchor::BottomLeft, false)?;
    axes(canvas, &frame, &rows, panel.bars.is_empty())?;
    for band in &panel.bands {
        let at = |x: f64, y: f64| Some((frame.across(x)?, frame.up(y.clamp(frame.y.low, frame.y.high))?));
        let low = band.points.iter().filter_map(|&(x, low, _)| at(x, low));
        let high = band.points.iter().rev().filter_map(|&(x, _, high)| at(x, high));
        let corners: Vec<(f64, f64)> = low.chain(high).collect();
        if corners.len() > 3 {
            canvas.area(&corners, band.colour, BAND)?;
        }
    }
    panel.bars.iter().try_for_each(|bar| draw_bar(canvas, &frame, bar))?;
    if let Some(y) = panel.mark.and_then(|mark| frame.up(mark)) {
        canvas.grey_line(&[(frame.left, y), (frame.right, y)], DARK, 1.2)?;
    }
    let mut spots: Vec<Spot> =
        panel.bars.iter().enumerate().filter_map(|(index, bar)| bar_spot(&frame, index, bar)).collect();
    for (index, series) in panel.series.iter().enumerate() {
        draw_series(canvas, &frame, series)?;
        let spot = |(point, p): (usize, &Point)| {
            let at = (frame.across(p.x)?, frame.up(p.y)?);
            Some(Spot { panel: 0, what: Drawn::Point { series: index, point }, at })
        };
        spots.extend(series.points.iter().enumerate().filter_map(spot));
    }
    for note in &panel.notes {
        let (Some(x), Some(y)) = (frame.across(note.x), frame.up(note.y)) else { continue };
        let (at, anchor) = if note.leftward {
            ((x - 4.0, y - 3.0), Anchor::BottomRight)
        } else {
            ((x + 6.0, y + 3.0), Anchor::TopLeft)
        };
        canvas.text(&note.text, at, SMALL, GREY, anchor, false)?;
    }
    let middle = (frame.left + frame.right) / 2.0;
    canvas.text(&panel.x.label, (middle, area[3] - 6.0), SMALL, GREY, Anchor::BottomMiddle, false)?;
    Ok(spots)
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
        canvas.marker(place, series.colour, series.marker)?;
    }
    Ok(())
}

/// The interval of a value at `x`, with feet.
fn whisker<DB: DrawingBackend>(
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

/// Where a bar lies, all its parts together.
fn bar_spot(frame: &Frame<'_>, index: usize, bar: &Bar) -> Option<Spot> {
    let (left, right) = (frame.across(bar.x - bar.width / 2.0)?, frame.across(bar.x + bar.width / 2.0)?);
    let sum: f64 = bar.segments.iter().map(|part| part.size).sum();
    let bottom = frame.up(0.0)?;
    let top = frame.up(sum)?.min(bottom - LEAST_HEIGHT);
    let what = Drawn::Bar { bar: index, size: (right - left, bottom - top) };
    Some(Spot { panel: 0, what, at: (left, top) })
}

/// A bar's parts from 0 up, its interval, and its text above both.
fn draw_bar<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, bar: &Bar) -> Result<(), String> {
    let edges = (frame.across(bar.x - bar.width / 2.0), frame.across(bar.x + bar.width / 2.0));
    let (Some(left), Some(right)) = edges else { return Ok(()) };
    let mut below = 0.0;
    for part in &bar.segments {
        let (Some(from), Some(to)) = (frame.up(below), frame.up(below + part.size)) else { break };
        canvas.block((left, from), (right, to), part.colour, part.hatched)?;
        below += part.size;
    }
    let middle = (left + right) / 2.0;
    whisker(canvas, frame, middle, bar.interval, NEUTRAL)?;
    let top = bar.interval.map_or(below, |(_, high)| high.max(below));
    let Some(top) = frame.up(top) else { return Ok(()) };
    // Neighbours may have texts of their own.
    let room = (right - left) / BAR_SHARE - 2.0;
    for label in &bar.labels {
        if canvas.text_width(label, SMALL)? <= room {
            return canvas.text(label, (middle, top - 5.0), SMALL, DARK, Anchor::BottomMiddle, false);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Chart {
        let series = |name: &&str| Series {
            name: (*name).to_owned(),
            colour: 0,
            stroke: Stroke::Solid,
            marker: Marker::Filled,
            points: Vec::new(),
        };
        let axis = Axis::fit("x", super::super::chart::Scale::Linear, [1.0].into_iter()).unwrap();
        let series = names.iter().map(series).collect();
        let panel = Panel::new(String::new(), axis.clone(), axis, series);
        Chart { title: String::new(), subtitle: String::new(), columns: 3, panels: vec![panel.clone(), panel] }
    }

    #[test]
    fn a_picture_is_as_high_as_its_legend() {
        let names: Vec<String> = (0..12).map(|i| format!("engine {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(height(&named(&names[..3])), TITLE_HEIGHT + 250.0);
        assert_eq!(height(&named(&names)), LEGEND_TOP + 12.0 * ENTRY, "two panels' series are named once");
    }

    #[test]
    fn a_long_name_goes_on_in_a_second_line() {
        let by_letters = |text: &str| text.len() as f64 * 10.0;
        assert_eq!(wrapped("ternary", by_letters), ["ternary"]);
        assert_eq!(
            wrapped("0123456789 0123456789 0123456789 x", by_letters),
            ["0123456789 0123456789", "0123456789 x"]
        );
        let one = "0123456789012345678901234567890123456789";
        assert_eq!(wrapped(one, by_letters), [one]);
    }
}
