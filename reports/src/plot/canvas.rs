//! Lines, markers and text in logical units, on any plotters backend.

use super::chart::Marker;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::sync::OnceLock;

/// Text and axes.
pub(crate) const DARK: RGBColor = RGBColor(34, 34, 34);
/// Labels of axes.
pub(crate) const GREY: RGBColor = RGBColor(96, 96, 96);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(226, 226, 226);
/// Okabe and Ito's palette, told apart with any colour vision (without its yellow and black).
const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const REGULAR: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
const BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold.ttf");

/// Makes the embedded font known to plotters, once a process.
pub(crate) fn fonts() -> Result<(), String> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        register_font("sans-serif", FontStyle::Normal, REGULAR).is_ok()
            && register_font("sans-serif", FontStyle::Bold, BOLD).is_ok()
    });
    if *done { Ok(()) } else { Err("the embedded font can't be read".to_owned()) }
}

/// The point of a text that its position names.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    TopLeft,
    TopMiddle,
    MiddleLeft,
    MiddleRight,
    BottomLeft,
    BottomMiddle,
}

impl Anchor {
    fn pos(self) -> Pos {
        let (h, v) = match self {
            Anchor::TopLeft => (HPos::Left, VPos::Top),
            Anchor::TopMiddle => (HPos::Center, VPos::Top),
            Anchor::MiddleLeft => (HPos::Left, VPos::Center),
            Anchor::MiddleRight => (HPos::Right, VPos::Center),
            Anchor::BottomLeft => (HPos::Left, VPos::Bottom),
            Anchor::BottomMiddle => (HPos::Center, VPos::Bottom),
        };
        Pos::new(h, v)
    }
}

/// A drawing area in logical units, `scale` pixels each.
pub(crate) struct Canvas<'a, DB: DrawingBackend> {
    pub(crate) root: &'a DrawingArea<DB, Shift>,
    pub(crate) scale: f64,
    /// How far text is moved down, in parts of its size.
    pub(crate) lower: f64,
}

impl<DB: DrawingBackend> Canvas<'_, DB> {
    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn stroke(&self, width: f64) -> u32 {
        (width * self.scale).round().max(1.0) as u32
    }

    /// A line in a colour of the palette.
    pub(crate) fn line(&self, points: &[(f64, f64)], colour: usize, width: f64, dashed: bool) -> Result<(), String> {
        let style = PALETTE[colour % PALETTE.len()].stroke_width(self.stroke(width));
        if !dashed {
            return self.path(points, style);
        }
        dashes(points, 7.0, 4.0).iter().try_for_each(|dash| self.path(dash, style))
    }

    /// A line in one of the greys.
    pub(crate) fn grey_line(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Result<(), String> {
        self.path(points, colour.stroke_width(self.stroke(width)))
    }

    fn path(&self, points: &[(f64, f64)], style: ShapeStyle) -> Result<(), String> {
        let pixels: Vec<(i32, i32)> = points.iter().map(|&p| self.pixel(p)).collect();
        self.root.draw(&PathElement::new(pixels, style)).map_err(|e| e.to_string())
    }

    /// A marker: its shape changes with the colour, and again where the palette begins anew, so that engines differ by
    /// shape too.
    pub(crate) fn marker(&self, at: (f64, f64), colour: usize, marker: Marker) -> Result<(), String> {
        let ink = PALETTE[colour % PALETTE.len()];
        match marker {
            Marker::None => Ok(()),
            Marker::Filled => self.shape(at, colour, 4.5, ink),
            Marker::Hollow => self.shape(at, colour, 4.5, ink).and_then(|()| self.shape(at, colour, 2.5, WHITE)),
        }
    }

    fn shape(&self, at: (f64, f64), colour: usize, size: f64, fill: RGBColor) -> Result<(), String> {
        let (x, y) = self.pixel(at);
        let half = (size * self.scale).round() as i32;
        // Corners alone make these shapes smaller to the eye than circle and square.
        let long = (size * self.scale * 1.3).round() as i32;
        let drawn = match (colour / PALETTE.len() % 2, colour % 2) {
            (0, 0) => self.root.draw(&Circle::new((x, y), half, fill.filled())),
            (0, _) => self.root.draw(&Rectangle::new([(x - half, y - half), (x + half, y + half)], fill.filled())),
            (_, 0) => {
                let corners = vec![(x, y - long), (x + long, y + half), (x - long, y + half)];
                self.root.draw(&Polygon::new(corners, fill.filled()))
            }
            _ => {
                let corners = vec![(x, y - long), (x + long, y), (x, y + long), (x - long, y)];
                self.root.draw(&Polygon::new(corners, fill.filled()))
            }
        };
        drawn.map_err(|e| e.to_string())
    }

    /// Text with a point of it at `at`.
    pub(crate) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
        bold: bool,
    ) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let style = self.style(size, bold).color(&colour).pos(anchor.pos());
        let at = (at.0, at.1 + size * self.lower);
        self.root.draw_text(text, &style, self.pixel(at)).map_err(|e| e.to_string())
    }

    /// Width of a text in logical units.
    pub(crate) fn text_width(&self, text: &str, size: f64) -> Result<f64, String> {
        let style = self.style(size, false);
        let (width, _) = self.root.estimate_text_size(text, &style).map_err(|e| e.to_string())?;
        Ok(f64::from(width) / self.scale)
    }

    fn style(&self, size: f64, bold: bool) -> TextStyle<'static> {
        let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
        TextStyle::from(FontDesc::new(FontFamily::SansSerif, size * self.scale, style))
    }
}

/// Cuts a polyline into dashes of `on` units with gaps of `off`.
fn dashes(points: &[(f64, f64)], on: f64, off: f64) -> Vec<Vec<(f64, f64)>> {
    let mut out = Vec::new();
    let mut current: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    let (mut drawing, mut left) = (true, on);
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let t = done / length;
            let at = (from.0 + (to.0 - from.0) * t, from.1 + (to.1 - from.1) * t);
            if drawing {
                current.push(at);
                out.push(std::mem::take(&mut current));
            }
            drawing = !drawing;
            current = vec![at];
            left = if drawing { on } else { off };
        }
        left -= length - done;
        if drawing {
            current.push(to);
        }
    }
    if drawing && current.len() > 1 {
        out.push(current);
    }
    out
}
