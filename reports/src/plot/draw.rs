//! Draws a chart: title, legend strip on the right, panels in a grid.

use super::canvas::{Anchor, Canvas, DARK, GREY, GRID};
use super::chart::{Axis, Chart, Marker, Panel, Point, Series};
use plotters::prelude::DrawingBackend;

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
/// What a legend's line and marker take to the left of the name, and what is left free around both.
const KEY: f64 = 78.0;
/// Widest name in the legend; a longer one goes on in a second line, or more.
const NAME: f64 = 300.0;

/// Height of a chart's picture in logical units: what its panels take, and no less than its legend.
pub(crate) fn height(chart: &Chart) -> f64 {
    let rows = chart.panels.len().div_ceil(columns(chart.panels.len()));
    let panels = if rows <= 1 && chart.panels.len() <= 1 { 560.0 } else { TITLE_HEIGHT + 250.0 * rows as f64 };
    // Before there is a canvas to measure text on: no letter of a name is wider than this.
    let lines = |name: &str| wrapped(name, |text| text.chars().count() as f64 * BODY * 0.7).len() as f64;
    let legend: f64 = entries(chart).iter().map(|e| ENTRY + NAME_LINE * (lines(&e.name) - 1.0)).sum();
    panels.max(LEGEND_TOP + legend)
}

/// The series that the legend names, each name once.
fn entries(chart: &Chart) -> Vec<&Series> {
    let mut entries: Vec<&Series> = Vec::new();
    for series in chart.panels.iter().flat_map(|p| &p.series) {
        if !entries.iter().any(|known| known.name == series.name) {
            entries.push(series);
        }
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

fn columns(panels: usize) -> usize {
    match panels {
        0 | 1 => 1,
        2..=4 => 2,
        _ => 3,
    }
}

/// Where a point was drawn, in logical units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) panel: usize,
    pub(crate) series: usize,
    pub(crate) point: usize,
    pub(crate) at: (f64, f64),
}

/// Draws the whole chart; returns where its points lie, panel by panel and series by series.
pub(crate) fn chart<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, chart: &Chart) -> Result<Vec<Spot>, String> {
    canvas.text(&chart.title, (24.0, 12.0), 21.0, DARK, Anchor::TopLeft, true)?;
    canvas.text(&chart.subtitle, (24.0, 40.0), SMALL, GREY, Anchor::TopLeft, false)?;
    let strip = legend(canvas, chart)?;
    let columns = columns(chart.panels.len());
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
    let entries: Vec<(&Series, Vec<String>)> =
        entries(chart).into_iter().map(|e| (e, wrapped(&e.name, measured))).collect();
    let widest = entries.iter().flat_map(|(_, lines)| lines).map(|line| measured(line)).fold(0.0, f64::max);
    let strip = (widest + KEY).min(WIDTH / 2.0);
    let left = WIDTH - strip + 12.0;
    let mut y = LEGEND_TOP;
    for (entry, lines) in &entries {
        canvas.line(&[(left, y), (left + 36.0, y)], entry.colour, 2.2, entry.dashed)?;
        canvas.marker((left + 18.0, y), entry.colour, entry.marker)?;
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
    axes(canvas, &frame, &rows)?;
    if let Some(y) = panel.mark.and_then(|mark| frame.up(mark)) {
        canvas.grey_line(&[(frame.left, y), (frame.right, y)], DARK, 1.2)?;
    }
    let mut spots = Vec::new();
    for (index, series) in panel.series.iter().enumerate() {
        draw_series(canvas, &frame, series)?;
        let spot = |(point, p): (usize, &Point)| {
            let at = (frame.across(p.x)?, frame.up(p.y)?);
            Some(Spot { panel: 0, series: index, point, at })
        };
        spots.extend(series.points.iter().enumerate().filter_map(spot));
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

fn axes<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, rows: &[usize]) -> Result<(), String> {
    for (value, label) in &frame.y.ticks {
        let Some(y) = frame.up(*value) else { continue };
        canvas.grey_line(&[(frame.left, y), (frame.right, y)], GRID, 1.0)?;
        canvas.text(label, (frame.left - 7.0, y), SMALL, DARK, Anchor::MiddleRight, false)?;
    }
    for ((value, label), &row) in frame.x.ticks.iter().zip(rows) {
        let Some(x) = frame.across(*value) else { continue };
        let below = frame.bottom + 6.0 + 17.0 * row as f64;
        canvas.grey_line(&[(x, frame.top), (x, frame.bottom)], GRID, 1.0)?;
        canvas.grey_line(&[(x, frame.bottom), (x, frame.bottom + 5.0)], GREY, 1.0)?;
        canvas.text(label, (x, below), SMALL, DARK, Anchor::TopMiddle, false)?;
    }
    let corners = [(frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom)];
    canvas.grey_line(&corners, DARK, 1.4)
}

fn draw_series<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, series: &Series) -> Result<(), String> {
    let at = |p: &Point| Some((frame.across(p.x)?, frame.up(p.y)?));
    let mut groups: Vec<u32> = series.points.iter().map(|p| p.group).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let line: Vec<(f64, f64)> = series.points.iter().filter(|p| p.group == group).filter_map(at).collect();
        if line.len() > 1 {
            canvas.line(&line, series.colour, 2.2, series.dashed)?;
        }
    }
    for point in &series.points {
        let Some((x, y)) = at(point) else { continue };
        if let Some((low, high)) = point.interval {
            let (low, high) = (frame.up(low).unwrap_or(frame.bottom), frame.up(high).unwrap_or(frame.top));
            canvas.line(&[(x, low), (x, high)], series.colour, 1.4, false)?;
            for end in [low, high] {
                canvas.line(&[(x - 4.0, end), (x + 4.0, end)], series.colour, 1.4, false)?;
            }
        }
        if series.marker != Marker::None {
            canvas.marker((x, y), series.colour, series.marker)?;
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
            dashed: false,
            marker: Marker::Filled,
            points: Vec::new(),
        };
        let axis = Axis::fit("x", super::super::chart::Scale::Linear, [1.0].into_iter()).unwrap();
        let series = names.iter().map(series).collect();
        let panel = Panel { title: String::new(), x: axis.clone(), y: axis, series, mark: None };
        Chart { title: String::new(), subtitle: String::new(), panels: vec![panel.clone(), panel] }
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
