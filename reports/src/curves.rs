//! A picture of curves that come from no run: the losses of a training.

use crate::error::Error;
use crate::plot::chart::{Axis, Chart, Marker, Panel, Point, Scale, Series};
use crate::plot::draw_file;
use std::path::{Path, PathBuf};

/// A named curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// As the legend names it.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Draws `curves` into `stem`.svg and `stem`.png; the vertical axis is logarithmic.
///
/// # Errors
/// Curves without a point that can be shown; files that cannot be written.
pub fn draw(title: &str, [across, up]: [&str; 2], curves: &[Curve], stem: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |path: &Path, message: String| Error::Write { path: path.to_owned(), message };
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let axes =
        Axis::fit(across, Scale::Linear, points().map(|p| p.0)).zip(Axis::fit(up, Scale::Log, points().map(|p| p.1)));
    let (x, y) = axes.ok_or_else(|| fail(stem, "expected points, found none that can be shown".to_owned()))?;
    let series = curves.iter().enumerate().map(|(colour, curve)| Series {
        name: curve.name.clone(),
        colour,
        dashed: colour % 2 == 1,
        marker: Marker::None,
        points: curve.points.iter().map(|&(x, y)| Point { x, y, ..Point::default() }).collect(),
    });
    let panel = Panel { title: String::new(), x, y, series: series.collect(), mark: None };
    let chart = Chart { title: title.to_owned(), subtitle: String::new(), panels: vec![panel] };
    ["svg", "png"]
        .into_iter()
        .map(|extension| {
            let path = stem.with_extension(extension);
            draw_file(&chart, &path, extension).map_err(|message| fail(&path, message))?;
            Ok(path)
        })
        .collect()
}
