//! Draws markers whose shape is their model's, so that each is seen however close they lie.

use super::canvas::Canvas;
use super::chart::{Marker, Panel};
use super::draw::Frame;
use plotters::prelude::DrawingBackend;

/// Half the width of a marker that stands alone, in logical units.
pub(super) const LEAST: f64 = 5.5;
/// How far the one below stands out behind the one above.
const RIM: f64 = 4.5;

/// Draws the shapes of a panel, above all lines and intervals.
pub(super) fn draw<DB: DrawingBackend>(
    canvas: &Canvas<'_, DB>,
    frame: &Frame<'_>,
    panel: &Panel,
) -> Result<(), String> {
    let mut shapes = Vec::new();
    for series in &panel.series {
        let Marker::Shape(place) = series.marker else { continue };
        let at = series.points.iter().filter_map(|p| Some((frame.across(p.x)?, frame.up(p.y)?)));
        shapes.extend(at.map(|at| (at, place, series.colour)));
    }
    let sizes = sizes(&shapes.iter().map(|(at, _, _)| *at).collect::<Vec<_>>());
    let mut drawn = shapes.into_iter().zip(sizes);
    drawn.try_for_each(|((at, place, colour), size)| canvas.placed(at, place, colour, size))
}

/// Half the width of each marker: where several lie close, the earlier is the larger and stands out behind the later.
fn sizes(places: &[(f64, f64)]) -> Vec<f64> {
    let mut sizes = vec![LEAST; places.len()];
    for (at, own) in places.iter().enumerate().rev() {
        for (other, above) in places.iter().enumerate().skip(at + 1) {
            let apart = (own.0 - above.0).hypot(own.1 - above.1);
            sizes[at] = sizes[at].max(sizes[other] + RIM - apart);
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_stands_out_behind_those_above() {
        let same = [(50.0, 50.0); 6];
        let row: Vec<(f64, f64)> = (0..6).map(|i| (f64::from(i) * 5.0, 9.0)).collect();
        let mixed = [(0.0, 0.0), (4.0, 3.0), (90.0, 0.0), (0.0, 0.0), (0.0, 1.0)];
        for places in [&same[..], &row[..], &mixed[..]] {
            let sizes = sizes(places);
            for (at, place) in places.iter().enumerate() {
                for other in at + 1..places.len() {
                    let apart = (place.0 - places[other].0).hypot(place.1 - places[other].1);
                    assert!(sizes[at] + apart >= sizes[other] + RIM - 1e-9, "{at} is lost behind {other}: {sizes:?}");
                }
            }
        }
        assert_eq!(sizes(&row), [LEAST; 6], "apart enough to be seen as they are");
        assert_eq!(sizes(&mixed)[2], LEAST, "alone");
        assert_eq!(sizes(&same), [5.0, 4.0, 3.0, 2.0, 1.0, 0.0].map(|above| LEAST + above * RIM));
    }
}
