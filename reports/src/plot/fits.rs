//! Time of a token over the bytes it reads, with the line through it and what that predicts.

use super::Plot;
use super::chart::{Axis, Band, Chart, Marker, Panel, Point, Scale, Series, Stroke};
use super::charts::{extent, plain, subtitle};
use crate::analysis::{Analysis, variant};
use crate::load::RunData;
use crate::prediction::{EngineFit, Placed, fits};
use suites::cell::Workload;

/// Points of a line: smooth on a log axis.
const STEPS: usize = 33;
/// Most engines: more would hide each other.
const LINES: usize = 6;

/// A series of points, a line and a band for each engine that has a fit.
pub(crate) fn chart(data: &RunData, analysis: &Analysis, workload: Workload) -> Option<(Plot, Chart)> {
    let fits: Vec<EngineFit> = fits(analysis, workload).into_iter().take(LINES).collect();
    let threads = fits.first()?.cell.threads;
    let (mut series, mut bands) = (Vec::new(), Vec::new());
    for fit in &fits {
        let (lines, band) = of_engine(analysis, fit);
        series.extend(lines);
        bands.extend(band);
    }
    let points = || series.iter().flat_map(|s| &s.points);
    let x = Axis::fit("bytes read a token (log scale)", Scale::Log, points().map(|p| p.x))?;
    let within = bands.iter().flat_map(|b: &Band| &b.points).flat_map(|&(_, low, high)| [low, high]);
    let y = Axis::fit("ms a token", Scale::Log, points().flat_map(extent).chain(within))?;
    let panel = Panel { bands, ..Panel::new(String::new(), x, y, series) };
    let title = "Decode time by bytes read".to_owned();
    let caption = "Lines: overhead + bytes / bandwidth, fitted to the processes; solid between the sizes measured, dashed beyond. Hollow points, dashed lines \
        and bands (95 % intervals of prediction) are predicted, not measured.";
    let plot = Plot { stem: "decode-fit", title: title.clone(), caption: caption.to_owned() };
    let subtitle = subtitle(data, &format!("{workload}, {threads} threads, median of processes"));
    Some((plot, Chart { title, subtitle, columns: 3, panels: vec![panel] }))
}

fn of_engine(analysis: &Analysis, fit: &EngineFit) -> (Vec<Series>, Option<Band>) {
    let colour = analysis.colour(&fit.cell);
    let name = plain(&format!("{}{}", analysis.shown(&fit.cell.engine), variant(&fit.cell)), usize::MAX);
    let place = |p: &Placed| {
        let ms = p.seconds.scaled(1e3);
        Point { x: p.bytes, y: ms.value, interval: ms.interval, ..Point::default() }
    };
    let series = |name: String, stroke, marker, points| Series { name, colour, stroke, marker, points };
    let (low, high) = fit.fit.range;
    let mut all = vec![
        series(format!("{name}, measured"), Stroke::None, Marker::Filled, fit.measured.iter().map(place).collect()),
        series(format!("{name}, fit"), Stroke::Solid, Marker::None, line(fit, low, high)),
    ];
    if fit.predicted.is_empty() {
        return (all, None);
    }
    let most = fit.predicted.iter().map(|p| p.bytes).fold(high, f64::max);
    let predicted = format!("{name}, prediction");
    if most > high {
        all.push(series(predicted.clone(), Stroke::Dashed, Marker::None, line(fit, high, most)));
    }
    let hollow = fit.predicted.iter().zip(0..).map(|(p, group)| Point { group, interval: None, ..place(p) }).collect();
    all.push(series(predicted, Stroke::Dashed, Marker::Hollow, hollow));
    let interval = |x: f64| {
        let (low, high) = fit.fit.predict(x).interval?;
        Some((x, low * 1e3, high * 1e3))
    };
    let band = steps(low, most).filter_map(interval).collect();
    (all, Some(Band { name: format!("{name}, 95 % interval of prediction"), colour, points: band }))
}

fn line(fit: &EngineFit, from: f64, to: f64) -> Vec<Point> {
    steps(from, to).map(|x| Point::bare(x, fit.fit.line.at(x) * 1e3)).collect()
}

/// From `from` to `to`, evenly on a log axis.
fn steps(from: f64, to: f64) -> impl Iterator<Item = f64> {
    (0..STEPS).map(move |i| from * (to / from).powf(i as f64 / (STEPS - 1) as f64))
}
