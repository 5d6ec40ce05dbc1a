//! A chart in the page: its SVG, a place to point at for every point and bar, and a table of the same numbers.

use crate::plot::chart::{Bar, Chart, Marker, Panel, Point, Series};
use crate::plot::{Drawing, Drawn, Plot, Spot, draw_text};
use crate::text::short;
use serde::Serialize;

/// Which parts of a distribution are told in numbers, in percent.
const TOLD: [f64; 6] = [5.0, 25.0, 50.0, 75.0, 90.0, 99.0];

/// Above it a drawing has nothing but its title.
const TOP: u32 = 30;

/// A chart as the template has it.
#[derive(Serialize)]
pub(super) struct Picture {
    /// What names it in the page: its stem, in a page of several runs behind the run's place.
    id: String,
    title: String,
    caption: String,
    width: u32,
    /// Where the drawing begins, below its title's place, and how high it is from there.
    top: u32,
    height: u32,
    /// SVG without its outermost element; made by our own drawing, which escapes its texts.
    drawing: String,
    dots: Vec<Dot>,
    /// Column titles of the numbers.
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// What can be pointed at: a point, or a bar of some width and height.
#[derive(Serialize)]
struct Dot {
    x: f64,
    y: f64,
    size: Option<(f64, f64)>,
    text: String,
}

impl Picture {
    /// The same for a page of several runs: its id behind `place`, its title before the run's name.
    pub(super) fn of_run(self, place: &str, run: &str) -> Picture {
        Picture { id: format!("{place}-{}", self.id), title: format!("{}: {run}", self.title), ..self }
    }

    /// About how many bytes it takes in the page: a text of a point or bar stands there twice.
    pub(super) fn weight(&self) -> usize {
        const TAGS: usize = 120;
        let dots: usize = self.dots.iter().map(|dot| TAGS + 2 * dot.text.len()).sum();
        let cells: usize = self.rows.iter().flatten().map(|cell| cell.len() + TAGS / 5).sum();
        self.drawing.len() + dots + cells
    }
}

/// Draws a chart for the page.
pub(super) fn picture(plot: Plot, chart: Chart) -> Result<Picture, String> {
    // The page has the title above the chart already.
    let chart = &Chart { title: String::new(), ..chart };
    let Drawing { svg, size: (width, height), spots } = draw_text(chart)?;
    let told: Vec<&Spot> = spots.iter().filter(|spot| is_told(chart, spot)).collect();
    let dots = told.iter().filter_map(|spot| dot(chart, spot)).collect();
    let points = told.iter().filter_map(|spot| numbers(chart, spot));
    let rows = points.chain(chart.panels.iter().flat_map(|panel| bars(chart, panel))).collect();
    let first = chart.panels.first();
    let across = first.map_or("x", |p| match p.x.label.as_str() {
        _ if named(p) => "model",
        "" => "group",
        label => label,
    });
    let up = first.map(|p| p.y.label.as_str()).filter(|label| !label.is_empty()).unwrap_or("value");
    let titles = ["panel", "line", across, up, "95 % interval", "n"];
    let columns = titles[usize::from(!entitled(chart))..].iter().map(|title| super::line(title)).collect();
    let Plot { stem, title, caption } = plot;
    let drawing = inside(&svg).ok_or("a drawing without its outermost element")?;
    let drawing = drawing.chars().filter(|c| !super::turns(*c)).collect();
    Ok(Picture {
        id: stem.to_owned(),
        title,
        caption,
        width,
        top: TOP,
        height: height - TOP,
        drawing,
        dots,
        columns,
        rows,
    })
}

/// Whether pairs of axes have names: a single one may have none.
fn entitled(chart: &Chart) -> bool {
    chart.panels.iter().any(|panel| !panel.title.is_empty())
}

/// What stands between the first tag and the last.
fn inside(svg: &str) -> Option<&str> {
    let rest = &svg[svg.find("<svg")?..];
    let rest = &rest[rest.find('>')? + 1..];
    Some(&rest[..rest.rfind("</svg>")?])
}

/// Whether models are named across.
fn named(panel: &Panel) -> bool {
    panel.series.iter().flat_map(|s| &s.points).any(|p| p.model.is_some())
}

fn point_of<'a>(chart: &'a Chart, spot: &Spot) -> Option<(&'a Panel, &'a Series, &'a Point)> {
    let panel = chart.panels.get(spot.panel)?;
    let Drawn::Point { series, point } = spot.what else { return None };
    let series = panel.series.get(series)?;
    Some((panel, series, series.points.get(point)?))
}

/// Every bar, and every point that has a marker; of a curve without markers the first point at or over each of [`TOLD`].
fn is_told(chart: &Chart, spot: &Spot) -> bool {
    let (Drawn::Point { point: index, .. }, Some((_, series, point))) = (spot.what, point_of(chart, spot)) else {
        return matches!(spot.what, Drawn::Bar { .. });
    };
    if series.marker != Marker::None {
        return true;
    }
    let before = index.checked_sub(1).and_then(|i| series.points.get(i)).map_or(0.0, |p| p.y);
    // A curve of several cells begins anew.
    let before = if before > point.y { 0.0 } else { before };
    TOLD.iter().any(|&q| before < q && point.y >= q)
}

fn dot(chart: &Chart, spot: &Spot) -> Option<Dot> {
    let panel = chart.panels.get(spot.panel)?;
    let (text, size) = match spot.what {
        Drawn::Point { .. } => (point_text(chart, spot)?, None),
        Drawn::Bar { bar, size } => (bar_text(panel, panel.bars.get(bar)?), Some(size)),
    };
    let text = text.lines().map(super::line).collect::<Vec<_>>().join("\n");
    let tenth = |v: f64| (v * 10.0).round() / 10.0;
    Some(Dot { x: tenth(spot.at.0), y: tenth(spot.at.1), size: size.map(|(w, h)| (tenth(w), tenth(h))), text })
}

fn point_text(chart: &Chart, spot: &Spot) -> Option<String> {
    let (panel, series, point) = point_of(chart, spot)?;
    let mut text = place(&[panel.title.as_str(), point.model.as_deref().unwrap_or("")]);
    text.push_str(&format!("{}\n{} {}", series.name, short(point.y), panel.y.label));
    text.push_str(&bracketed(point.interval));
    if point.model.is_none() {
        text.push_str(&format!("\n{}: {}", panel.x.label, short(point.x)));
    }
    Some(text + &replicates(point.n))
}

/// A bar's parts, the whole of several, its interval, and what stands above it.
fn bar_text(panel: &Panel, bar: &Bar) -> String {
    let unit = &panel.y.label;
    let mut lines: Vec<String> =
        bar.segments.iter().map(|part| format!("{}: {} {unit}", part.name, short(part.size))).collect();
    if bar.segments.len() > 1 {
        lines.push(format!("together: {} {unit}", short(bar.segments.iter().map(|part| part.size).sum())));
    }
    let mut text = place(&[panel.title.as_str()]) + &group(panel, bar) + "\n" + &lines.join("\n");
    text.push_str(&bracketed(bar.interval));
    if let Some(change) = bar.labels.first() {
        text.push_str(&format!("\n{change} to the engine that it is paired with"));
    }
    text + &replicates(bar.n)
}

/// Where something stands, each part before a dot.
fn place(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(|part| format!("{part} · ")).collect()
}

fn bracketed(interval: Option<(f64, f64)>) -> String {
    interval.map_or(String::new(), |(low, high)| format!(" [{}, {}]", short(low), short(high)))
}

fn replicates(n: Option<usize>) -> String {
    n.map_or(String::new(), |n| format!("\nn = {n}"))
}

/// The name across that a bar stands over.
fn group(panel: &Panel, bar: &Bar) -> String {
    let near = |a: &&(f64, String), b: &&(f64, String)| (a.0 - bar.x).abs().total_cmp(&(b.0 - bar.x).abs());
    panel.x.ticks.iter().min_by(near).map_or(String::new(), |(_, name)| super::line(name))
}

fn numbers(chart: &Chart, spot: &Spot) -> Option<Vec<String>> {
    let (panel, series, point) = point_of(chart, spot)?;
    let interval = point.interval.map_or("none".to_owned(), |(low, high)| format!("[{}, {}]", short(low), short(high)));
    let across = point.model.as_deref().map_or_else(|| short(point.x), super::line);
    let n = point.n.map_or(String::new(), |n| n.to_string());
    let panel = entitled(chart).then(|| super::line(&panel.title));
    Some(panel.into_iter().chain([super::line(&series.name), across, short(point.y), interval, n]).collect())
}

/// A row each part of each bar; the interval is of the whole bar, and stands with its last part.
fn bars(chart: &Chart, panel: &Panel) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for bar in &panel.bars {
        let group = group(panel, bar);
        for (index, part) in bar.segments.iter().enumerate() {
            let whole = bar.interval.filter(|_| index + 1 == bar.segments.len());
            let interval = whole.map_or("none".to_owned(), |(low, high)| format!("[{}, {}]", short(low), short(high)));
            let title = entitled(chart).then(|| super::line(&panel.title));
            let n = bar.n.map_or(String::new(), |n| n.to_string());
            let texts = [super::line(&part.name), group.clone(), short(part.size), interval, n];
            rows.push(title.into_iter().chain(texts).collect());
        }
    }
    rows
}
