//! The legend: what is drawn, each name once, in a strip of its own.

use super::canvas::{Anchor, Canvas, DARK};
use super::chart::{Chart, Marker, NEUTRAL, Panel, Series, Stroke};
use super::draw::{BODY, TITLE_HEIGHT, WIDTH};
use plotters::prelude::DrawingBackend;
use std::collections::BTreeMap;

/// Top of the first entry.
const LEGEND_TOP: f64 = TITLE_HEIGHT + 36.0;
/// From an entry to the next, and from a line of a name to the next.
const ENTRY: f64 = 26.0;
const NAME_LINE: f64 = 17.0;
/// How much of what is below a band covers.
pub(super) const BAND: f64 = 0.2;
/// What a line and marker take to the left of the name, and what is left free around both.
const KEY: f64 = 78.0;
/// Widest name; a longer one goes on in a second line, or more.
const NAME: f64 = 300.0;

/// A name with what it stands for.
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

/// What the legend names, each name once (with its marker, if any line of the name has one): lines, areas, parts of bars. Only what
/// lies within its axes. Where markers have a shape of their own, series are shown by colour, and behind all of them their
/// points' models by shape.
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
    let drawn = || chart.panels.iter().flat_map(|p| p.series.iter().filter(|s| is_drawn(p, s)));
    for s in drawn() {
        match s.marker {
            Marker::Shape(_) => add(&*s.name, s.colour, Key::Block { hatched: false }),
            marker => add(&*s.name, s.colour, Key::Line(s.stroke, marker)),
        }
    }
    for band in chart.panels.iter().flat_map(|p| &p.bands).filter(|band| !band.points.is_empty()) {
        add(&*band.name, band.colour, Key::Area);
    }
    for part in chart.panels.iter().flat_map(|p| &p.bars).flat_map(|bar| &bar.segments) {
        add(&*part.name, part.colour, Key::Block { hatched: part.hatched });
    }
    entries.extend(shapes(drawn()));
    entries
}

/// Whether any of a series lies within its panel's axes.
fn is_drawn(panel: &Panel, series: &Series) -> bool {
    series.points.iter().any(|p| panel.x.place(p.x).is_some() && panel.y.place(p.y).is_some())
}

/// The models that shapes stand for, in the order of the shapes.
fn shapes<'a>(drawn: impl Iterator<Item = &'a Series>) -> impl Iterator<Item = Entry<'a>> {
    let mut models: BTreeMap<(usize, &str), Marker> = BTreeMap::new();
    for series in drawn {
        let Marker::Shape(at) = series.marker else { continue };
        let named = series.points.iter().filter_map(|p| p.model.as_deref());
        models.extend(named.map(|model| ((at, model), series.marker)));
    }
    let entry = |((_, name), marker)| Entry { name, colour: NEUTRAL, key: Key::Line(Stroke::None, marker) };
    models.into_iter().map(entry)
}

/// Where the legend ends, in logical units.
pub(super) fn bottom(chart: &Chart) -> f64 {
    // Before there is a canvas to measure text on: no letter of a name is wider than this.
    let lines = |name: &str| wrapped(name, |text| text.chars().count() as f64 * BODY * 0.7).len() as f64;
    let legend: f64 = entries(chart).iter().map(|e| ENTRY + NAME_LINE * (lines(e.name) - 1.0)).sum();
    LEGEND_TOP + legend
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

/// Draws the legend in a strip of its own beside the panels, never over data. Returns the strip's width.
pub(super) fn draw<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, chart: &Chart) -> Result<f64, String> {
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

#[cfg(test)]
mod tests {
    use super::super::chart::{Axis, Point, Scale};
    use super::super::draw::height;
    use super::*;

    fn series(name: &str, marker: Marker, x: f64) -> Series {
        let points = vec![Point { model: Some(format!("model at {x}")), ..Point::bare(x, x) }];
        Series { name: name.to_owned(), colour: 0, stroke: Stroke::Solid, marker, points }
    }

    fn of(series: Vec<Series>) -> Chart {
        let axis = Axis::fit("x", Scale::Linear, [1.0].into_iter()).unwrap();
        let panel = Panel::new(String::new(), axis.clone(), axis, series);
        Chart { title: String::new(), subtitle: String::new(), columns: 3, panels: vec![panel.clone(), panel] }
    }

    fn named(names: &[&str]) -> Chart {
        of(names.iter().map(|name| series(name, Marker::Filled, 0.5)).collect())
    }

    #[test]
    fn a_picture_is_as_high_as_its_legend() {
        let names: Vec<String> = (0..12).map(|i| format!("engine {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(height(&named(&names[..3])), TITLE_HEIGHT + 250.0);
        assert_eq!(height(&named(&names)), LEGEND_TOP + 12.0 * ENTRY, "two panels' series are named once");
    }

    #[test]
    fn a_legend_names_what_is_drawn_and_no_more() {
        let empty = Series { points: Vec::new(), ..series("empty", Marker::Filled, 0.5) };
        let chart = of(vec![series("in", Marker::Filled, 0.5), empty, series("out", Marker::Filled, 9.0)]);
        let names: Vec<&str> = entries(&chart).iter().map(|e| e.name).collect();
        assert_eq!(names, ["in"]);
    }

    #[test]
    fn shapes_are_named_behind_colours() {
        let shape = |name, at, x| series(name, Marker::Shape(at), x);
        let chart = of(vec![shape("ternary", 1, 0.5), shape("ternary", 0, 0.75), shape("f16", 1, 0.5)]);
        let found = entries(&chart);
        let names: Vec<&str> = found.iter().map(|e| e.name).collect();
        assert_eq!(names, ["ternary", "f16", "model at 0.75", "model at 0.5"]);
        assert!(matches!(found[1].key, Key::Block { hatched: false }));
        assert!(matches!(found[2].key, Key::Line(Stroke::None, Marker::Shape(0))));
        assert!(found[2..].iter().all(|e| e.colour == NEUTRAL));
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
