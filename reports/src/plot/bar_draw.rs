//! Draws bars, and above each its text: level where all of a panel's texts have room, else upright.

use super::canvas::{Anchor, Canvas, DARK};
use super::chart::{Axis, BAR_SHARE, Bar, NEUTRAL};
use super::draw::{Drawn, Frame, SMALL, Spot, whisker};
use plotters::prelude::DrawingBackend;

/// Least height of what can be pointed at, however low a bar is.
const LEAST_HEIGHT: f64 = 8.0;
/// From a bar, or the end of its interval, to its text.
const GAP: f64 = 5.0;
/// How much of a text's size its letters take from one line to the next.
const LINE: f64 = 0.85;
/// Least size of an upright text: below, nothing can be read at half size.
const LEAST_TEXT: f64 = 10.0;

/// Where a bar lies, all its parts together.
pub(super) fn spot(frame: &Frame<'_>, index: usize, bar: &Bar) -> Option<Spot> {
    let (left, right) = edges(frame, bar)?;
    let bottom = frame.up(0.0)?;
    let top = frame.up(sum(bar))?.min(bottom - LEAST_HEIGHT);
    let what = Drawn::Bar { bar: index, size: (right - left, bottom - top) };
    Some(Spot { panel: 0, what, at: (left, top) })
}

fn edges(frame: &Frame<'_>, bar: &Bar) -> Option<(f64, f64)> {
    Some((frame.across(bar.x - bar.width / 2.0)?, frame.across(bar.x + bar.width / 2.0)?))
}

fn sum(bar: &Bar) -> f64 {
    bar.segments.iter().map(|part| part.size).sum()
}

/// The highest of a bar and its interval.
fn highest(bar: &Bar) -> f64 {
    let sum = sum(bar);
    bar.interval.map_or(sum, |(_, high)| high.max(sum))
}

/// Draws a bar's parts from 0 up, and its interval.
pub(super) fn draw<DB: DrawingBackend>(canvas: &Canvas<'_, DB>, frame: &Frame<'_>, bar: &Bar) -> Result<(), String> {
    let Some((left, right)) = edges(frame, bar) else { return Ok(()) };
    let mut below = 0.0;
    for part in &bar.segments {
        let (Some(from), Some(to)) = (frame.up(below), frame.up(below + part.size)) else { break };
        canvas.block((left, from), (right, to), part.colour, part.hatched)?;
        below += part.size;
    }
    whisker(canvas, frame, (left + right) / 2.0, bar.interval, NEUTRAL)
}

/// The texts of a panel's bars: which of each bar's, of what size, and how they stand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Texts<'a> {
    /// A text a bar, or none.
    chosen: Vec<Option<&'a str>>,
    size: f64,
    upright: bool,
}

/// Level texts if each bar that has some has one with room; else upright ones, smaller where bars are close.
pub(super) fn texts<'a>(frame: &Frame<'_>, bars: &'a [Bar], width: &dyn Fn(&str, f64) -> f64) -> Texts<'a> {
    // Neighbours may have texts of their own.
    let room = |bar: &Bar| edges(frame, bar).map_or(0.0, |(left, right)| (right - left) / BAR_SHARE - 2.0);
    let fits = |bar: &'a Bar| bar.labels.iter().map(String::as_str).find(|label| width(label, SMALL) <= room(bar));
    let level: Vec<Option<&str>> = bars.iter().map(fits).collect();
    if level.iter().zip(bars).all(|(text, bar)| text.is_some() || bar.labels.is_empty()) {
        return Texts { chosen: level, size: SMALL, upright: false };
    }
    let labelled = bars.iter().filter(|bar| !bar.labels.is_empty());
    let size = labelled.map(|bar| room(bar) / LINE).fold(SMALL, f64::min);
    let first = |bar: &'a Bar| bar.labels.first().map(String::as_str).filter(|_| size >= LEAST_TEXT);
    Texts { chosen: bars.iter().map(first).collect(), size, upright: true }
}

impl Texts<'_> {
    /// The axis up, raised so that upright texts lie within the frame.
    pub(super) fn raised(&self, frame: &Frame<'_>, bars: &[Bar], width: &dyn Fn(&str, f64) -> f64) -> Axis {
        let mut axis = frame.y.clone();
        let height = frame.bottom - frame.top;
        for (text, bar) in self.chosen.iter().zip(bars).filter(|_| self.upright) {
            let Some(text) = text else { continue };
            let room = (height - width(text, self.size) - 2.0 * GAP).max(height / 4.0);
            axis.high = axis.high.max(axis.low + (highest(bar) - axis.low) * height / room);
        }
        axis
    }

    /// Where the bar's text begins or has its lower middle.
    fn at(frame: &Frame<'_>, bar: &Bar) -> Option<(f64, f64)> {
        let (left, right) = edges(frame, bar)?;
        Some(((left + right) / 2.0, frame.up(highest(bar))? - GAP))
    }

    pub(super) fn draw<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<'_, DB>,
        frame: &Frame<'_>,
        bars: &[Bar],
    ) -> Result<(), String> {
        for (text, bar) in self.chosen.iter().zip(bars) {
            let (Some(text), Some(at)) = (text, Texts::at(frame, bar)) else { continue };
            match self.upright {
                true => canvas.upright(text, at, self.size, DARK)?,
                false => canvas.text(text, at, self.size, DARK, Anchor::BottomMiddle, false)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::chart::{Scale, Segment};
    use super::super::labels::Area;
    use super::*;

    const WIDTH: fn(&str, f64) -> f64 = |text, size| text.chars().count() as f64 * size * 0.6;

    /// Two groups of as many bars as there are engines, each half as high as the one before, all but the first with texts.
    fn bars(engines: u32) -> Vec<Bar> {
        let width = 0.78 / f64::from(engines);
        let bar = |group: f64, engine: u32| {
            let size = 0.5f64.powf(f64::from(engine));
            let labels = [format!("−{:.1} %", 100.0 - size * 100.0), format!("−{:.0} %", 100.0 - size * 100.0)];
            Bar {
                x: group + (f64::from(engine) + 0.5) * width - 0.39,
                width: width * BAR_SHARE,
                segments: vec![Segment { name: engine.to_string(), colour: 0, hatched: false, size }],
                interval: Some((size * 0.9, size * 1.1)),
                labels: if engine == 0 { Vec::new() } else { labels.to_vec() },
                n: None,
            }
        };
        [0.0, 1.0].iter().flat_map(|&group| (0..engines).map(move |engine| bar(group, engine))).collect()
    }

    /// The texts' areas in a panel of usual size.
    fn areas(engines: u32) -> (bool, Vec<Area>) {
        let bars = bars(engines);
        let x = Axis::named(&["1 thread".to_owned(), "2 threads".to_owned()]);
        let y = Axis::fit("J/token", Scale::Linear, [0.0, 1.1].into_iter()).unwrap();
        let frame = Frame { left: 60.0, top: 120.0, right: 380.0, bottom: 280.0, x: &x, y: &y };
        let texts = texts(&frame, &bars, &WIDTH);
        let raised = texts.raised(&frame, &bars, &WIDTH);
        let frame = Frame { y: &raised, ..frame };
        let area = |(text, bar): (&Option<&str>, &Bar)| {
            let (wide, (x, y)) = (WIDTH((*text)?, texts.size), Texts::at(&frame, bar)?);
            let (half, high) =
                if texts.upright { (texts.size * LINE / 2.0, wide) } else { (wide / 2.0, texts.size * LINE) };
            Some(Area { left: x - half, top: y - high, right: x + half, bottom: y })
        };
        (texts.upright, texts.chosen.iter().zip(&bars).filter_map(area).collect())
    }

    #[test]
    fn every_change_is_told_however_narrow_the_bars() {
        for engines in [2, 3, 4, 6, 8, 10] {
            let (upright, areas) = areas(engines);
            assert_eq!(upright, engines > 2, "{engines}");
            assert_eq!(areas.len(), 2 * (engines as usize - 1), "{engines} engines: a text each but the first");
            assert!(areas.iter().all(|area| area.top >= 120.0), "{engines}: {areas:?}");
            for (at, one) in areas.iter().enumerate() {
                assert!(areas[..at].iter().all(|other| !one.meets(other)), "{engines}: {areas:?}");
            }
        }
    }
}
