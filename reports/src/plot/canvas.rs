//! Lines, markers and text in logical units, on any plotters backend.

use super::chart::{Marker, NEUTRAL, Stroke};
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
/// Shapes of [`Marker::Shape`]: circle, square, triangle, diamond, triangle on its tip.
const SHAPES: usize = 5;
/// The ink of [`NEUTRAL`].
const INK: RGBColor = RGBColor(110, 110, 110);
const REGULAR: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
const BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold.ttf");

/// The colour of a place in the palette, which begins anew at its end.
pub(crate) fn ink(colour: usize) -> RGBColor {
    if colour == NEUTRAL { INK } else { PALETTE[colour % PALETTE.len()] }
}

/// A lighter tone of a place in the palette.
fn light(colour: usize) -> RGBColor {
    let RGBColor(r, g, b) = ink(colour);
    let [r, g, b] = [r, g, b].map(|channel| 255 - (255 - channel) / 4);
    RGBColor(r, g, b)
}

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
    pub(crate) fn line(&self, points: &[(f64, f64)], colour: usize, width: f64, stroke: Stroke) -> Result<(), String> {
        let style = ink(colour).stroke_width(self.stroke(width));
        match stroke {
            Stroke::None => Ok(()),
            Stroke::Solid => self.path(points, style),
            Stroke::Dashed => dashes(points, 7.0, 4.0).iter().try_for_each(|dash| self.path(dash, style)),
        }
    }

    /// An area in a colour of the palette, of which a share `opacity` covers what is below.
    pub(crate) fn area(&self, corners: &[(f64, f64)], colour: usize, opacity: f64) -> Result<(), String> {
        let pixels: Vec<(i32, i32)> = corners.iter().map(|&p| self.pixel(p)).collect();
        self.root.draw(&Polygon::new(pixels, ink(colour).mix(opacity).filled())).map_err(|e| e.to_string())
    }

    /// A rectangle from `from` to `to`: filled, lighter where the palette begins anew; hatched, if it is.
    pub(crate) fn block(&self, from: (f64, f64), to: (f64, f64), colour: usize, hatched: bool) -> Result<(), String> {
        let corners = [self.pixel(from), self.pixel(to)];
        let anew = colour != NEUTRAL && colour / PALETTE.len() % 2 == 1;
        let ink = ink(colour);
        let outline = ink.stroke_width(self.stroke(1.2));
        let fill = match (hatched, anew) {
            (false, false) => 1.0,
            (false, true) => 0.4,
            (true, _) => 0.18,
        };
        self.root.draw(&Rectangle::new(corners, ink.mix(fill).filled())).map_err(|e| e.to_string())?;
        if hatched || anew {
            self.root.draw(&Rectangle::new(corners, outline)).map_err(|e| e.to_string())?;
        }
        let lines = if hatched { slanted(from, to, if anew { 12.0 } else { 6.0 }) } else { Vec::new() };
        lines.iter().try_for_each(|line| self.path(line, outline))
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
        // The kind of shape: circle, square, triangle, diamond.
        let kind = if colour == NEUTRAL { 0 } else { colour / PALETTE.len() % 2 * 2 + colour % 2 };
        let ink = ink(colour);
        match marker {
            Marker::None => Ok(()),
            Marker::Filled => self.shape(at, kind, 4.5, ink),
            Marker::Diamond => self.shape(at, 3, 4.5, ink),
            Marker::Hollow => self.shape(at, kind, 4.5, ink).and_then(|()| self.shape(at, kind, 2.5, WHITE)),
            Marker::Shape(place) => self.placed(at, place, colour, super::shapes::LEAST),
        }
    }

    /// The shape of a place among [`SHAPES`], which begin anew hollow; lighter where the palette begins anew. Half its width is
    /// `size`.
    pub(crate) fn placed(&self, at: (f64, f64), place: usize, colour: usize, size: f64) -> Result<(), String> {
        let (kind, hollow) = (place % SHAPES, place / SHAPES % 2 == 1);
        let anew = colour != NEUTRAL && colour / PALETTE.len() % 2 == 1;
        // A rim of white sets apart what lies close.
        self.shape(at, kind, size + 1.0, WHITE)?;
        self.shape(at, kind, size, ink(colour))?;
        match (hollow, anew) {
            (false, false) => Ok(()),
            (false, true) => self.shape(at, kind, size - 1.8, light(colour)),
            (true, false) => self.shape(at, kind, size - 2.5, WHITE),
            (true, true) => self.shape(at, kind, size - 1.2, WHITE),
        }
    }

    fn shape(&self, at: (f64, f64), kind: usize, size: f64, fill: RGBColor) -> Result<(), String> {
        let (x, y) = self.pixel(at);
        let half = (size * self.scale).round() as i32;
        // Corners alone make these shapes smaller to the eye than circle and square.
        let long = (size * self.scale * 1.3).round() as i32;
        let drawn = match kind {
            0 => self.root.draw(&Circle::new((x, y), half, fill.filled())),
            1 => self.root.draw(&Rectangle::new([(x - half, y - half), (x + half, y + half)], fill.filled())),
            2 => {
                let corners = vec![(x, y - long), (x + long, y + half), (x - long, y + half)];
                self.root.draw(&Polygon::new(corners, fill.filled()))
            }
            4 => {
                let corners = vec![(x, y + long), (x + long, y - half), (x - long, y - half)];
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

    /// Text that reads upwards from `at`, the middle of its beginning.
    pub(crate) fn upright(&self, text: &str, at: (f64, f64), size: f64, colour: RGBColor) -> Result<(), String> {
        let style = self.style(size, false).color(&colour).pos(Anchor::MiddleLeft.pos());
        let style = style.transform(FontTransform::Rotate270);
        // What is down for the letters is to the right.
        let at = (at.0 + size * self.lower, at.1);
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

/// Lines from lower left to upper right through a rectangle, `apart` units from one to the next along an edge.
fn slanted(from: (f64, f64), to: (f64, f64), apart: f64) -> Vec<[(f64, f64); 2]> {
    let (left, right) = (from.0.min(to.0), from.0.max(to.0));
    let (top, bottom) = (from.1.min(to.1), from.1.max(to.1));
    let (width, height) = (right - left, bottom - top);
    let count = ((width + height) / apart).clamp(0.0, 1000.0) as u32;
    // `reach` is how far the line's upper end is from the lower left corner, along the left and the upper edge.
    let line = |reach: f64| {
        let start = (left + (reach - height).max(0.0), bottom - reach.min(height));
        let end = (left + reach.min(width), bottom - (reach - width).max(0.0));
        [start, end]
    };
    (1..=count).map(|i| f64::from(i) * apart).filter(|&reach| reach < width + height).map(line).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As Machado, Oliveira and Fernandes (2009) simulate dichromats, in linear light.
    const SEEN_BY: [(&str, [[f64; 3]; 3]); 4] = [
        ("any", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopes",
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        ),
        (
            "deuteranopes",
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        ),
        (
            "tritanopes",
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
        ),
    ];

    /// CIE L*a*b* of linear sRGB, white of D65.
    fn lab([r, g, b]: [f64; 3]) -> [f64; 3] {
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505;
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089;
        let f = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
        [116.0 * f(y) - 16.0, 500.0 * (f(x) - f(y)), 200.0 * (f(y) - f(z))]
    }

    fn linear(channel: u8) -> f64 {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    }

    #[test]
    fn colours_differ_with_any_vision() {
        for (who, matrix) in SEEN_BY {
            let seen = |colour: RGBColor| {
                let light = [linear(colour.0), linear(colour.1), linear(colour.2)];
                lab(matrix.map(|row| row.iter().zip(light).map(|(m, c)| m * c).sum::<f64>().clamp(0.0, 1.0)))
            };
            let colours: Vec<[f64; 3]> = PALETTE.into_iter().map(seen).collect();
            for (i, one) in colours.iter().enumerate() {
                for (j, other) in colours.iter().enumerate().skip(i + 1) {
                    let distance = one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    // A just noticeable difference is 2.3.
                    assert!(distance > 9.0, "{who}: {i} and {j} are {distance:.1} apart");
                }
            }
        }
    }

    #[test]
    fn hatching_stays_in_its_block() {
        for (from, to) in [((10.0, 50.0), (30.0, 20.0)), ((0.0, 0.0), (3.0, 200.0)), ((5.0, 5.0), (5.0, 5.0))] {
            for (x, y) in slanted(from, to, 6.0).into_iter().flatten() {
                assert!((from.0..=to.0).contains(&x) && y >= from.1.min(to.1) && y <= from.1.max(to.1), "{x} {y}");
            }
        }
        assert_eq!(slanted((0.0, 10.0), (10.0, 0.0), 5.0).len(), 3);
    }
}
