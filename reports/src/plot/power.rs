//! How often a gate finds what was planted, against how much that was.

use super::chart::{Axis, Chart, Marker, NEUTRAL, Panel, Point, Scale, Series, Stroke};
use super::draw_file;
use crate::error::Error;
use crate::gate::virtually::Rate;
use std::path::{Path, PathBuf};

/// Draws `rates` into `stem`.svg and `stem`.png: virtual gates as a line, real ones as points. Where nothing was planted, the share
/// is that of false alarms.
///
/// # Errors
/// There is nothing to draw; files that can't be written.
pub fn draw(rates: &[Rate], subtitle: &str, stem: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |path: &Path, message: String| Error::Write { path: path.to_owned(), message };
    let chart = chart(rates, subtitle).ok_or_else(|| fail(stem, "there is nothing to draw".to_owned()))?;
    let write = |extension: &str| {
        let path = stem.with_extension(extension);
        draw_file(&chart, &path, extension).map_err(|message| fail(&path, message))?;
        Ok(path)
    };
    ["svg", "png"].into_iter().map(write).collect()
}

fn chart(rates: &[Rate], subtitle: &str) -> Option<Chart> {
    let point = |rate: &Rate| {
        let (share, (low, high)) = rate.share(if rate.percent > 0.0 { rate.found } else { rate.alarms });
        let interval = Some((100.0 * low, 100.0 * high));
        Point { interval, n: Some(rate.gates as usize), ..Point::bare(rate.percent, 100.0 * share) }
    };
    let of = |wanted: &dyn Fn(&Rate) -> bool| rates.iter().filter(|rate| wanted(rate)).map(point).collect::<Vec<_>>();
    let series =
        |name: &str, colour, stroke, marker, points| Series { name: name.to_owned(), colour, stroke, marker, points };
    let (drawn, quiet) = (of(&|rate| rate.drawn), of(&|rate| !rate.drawn && rate.neighbour.is_none()));
    let noisy = of(&|rate| rate.neighbour.is_some());
    let all = [
        series("virtual gates", 0, Stroke::Solid, Marker::Filled, drawn),
        series("real gates", NEUTRAL, Stroke::None, Marker::Diamond, quiet),
        series("real gates beside a neighbour", 1, Stroke::None, Marker::Hollow, noisy),
    ];
    let series: Vec<Series> = all.into_iter().filter(|series| !series.points.is_empty()).collect();
    let points = || series.iter().flat_map(|series| &series.points);
    let x =
        Axis::fit("decode slower by, per cent (0: the same program)", Scale::Linear, points().map(|point| point.x))?;
    let y = Axis::fit("gates that said \"regressed\", per cent", Scale::Linear, [0.0, 100.0].into_iter())?;
    Some(Chart {
        title: "What the gate finds, and what it makes up".to_owned(),
        subtitle: subtitle.to_owned(),
        columns: 1,
        panels: vec![Panel::new(String::new(), x, y, series)],
    })
}
