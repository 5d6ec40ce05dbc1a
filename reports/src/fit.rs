//! A line through the times of a token over the bytes it reads, and what it predicts of other sizes. Pure.
//!
//! Decode is reading: a token that reads `x` bytes takes `y = a + b x` seconds, `1/b` being the bandwidth that is reached and `a`
//! what does not grow with the model. Errors of such times are relative (a guest's steal or a throttled clock stretches a long
//! window as much as a short one), so squares of *relative* residuals `(a + b x) / y - 1` are summed: every size counts alike,
//! and the largest does not decide alone. A fit of the logarithms would weigh alike, but its exponent means nothing and bends
//! what is predicted beyond the sizes measured. Neither coefficient may be negative: no time is.
//!
//! How uncertain it is follows from how sizes lie off the line, how blocks differ, and what is left of processes (`spread`).

mod spread;

use crate::stats::Estimate;
use spread::Spread;
use std::collections::BTreeSet;

/// Fewest sizes: two would lie on any line, and leave nothing to judge it by.
pub const MIN_SIZES: usize = 3;

/// One process's time of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Block that it ran in.
    pub block: u32,
    /// Bytes that a token reads.
    pub bytes: f64,
    /// Seconds of a token.
    pub seconds: f64,
}

/// Seconds of a token as a function of the bytes it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Seconds that do not depend on the bytes; 0 or more.
    pub overhead: f64,
    /// Seconds a byte; 0 or more.
    pub per_byte: f64,
}

impl Line {
    /// Seconds of a token that reads `bytes`.
    pub fn at(self, bytes: f64) -> f64 {
        self.overhead + self.per_byte * bytes
    }
}

/// Sums over points from which the line follows.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    u: f64,
    v: f64,
    uu: f64,
    uv: f64,
    vv: f64,
    n: f64,
}

impl Sums {
    /// With `u = 1 / y` and `v = x / y` the relative residual is `a u + b v - 1`.
    fn add(&mut self, x: f64, y: f64) {
        let (u, v) = (1.0 / y, x / y);
        self.u += u;
        self.v += v;
        self.uu += u * u;
        self.uv += u * v;
        self.vv += v * v;
        self.n += 1.0;
    }

    fn determinant(&self) -> f64 {
        self.uu * self.vv - self.uv * self.uv
    }

    /// The least squares, of either sign.
    fn free(&self) -> (f64, f64) {
        let a = (self.u * self.vv - self.v * self.uv) / self.determinant();
        let b = (self.v * self.uu - self.u * self.uv) / self.determinant();
        (a, b)
    }

    /// Variance of `p a + q b` where that of a relative residual is 1, of coefficients of either sign.
    fn free_variance(&self, p: f64, q: f64) -> f64 {
        (p * p * self.vv - 2.0 * p * q * self.uv + q * q * self.uu) / self.determinant()
    }

    /// The same of the coefficients of `line`, of which one that is 0 is not uncertain.
    fn variance(&self, line: Line, p: f64, q: f64) -> f64 {
        match (line.overhead > 0.0, line.per_byte > 0.0) {
            (true, true) => self.free_variance(p, q),
            (true, false) => p * p / self.uu,
            (false, _) => q * q / self.vv,
        }
    }

    fn squares(&self, a: f64, b: f64) -> f64 {
        a * a * self.uu + 2.0 * a * b * self.uv + b * b * self.vv - 2.0 * (a * self.u + b * self.v) + self.n
    }

    /// The least squares with neither coefficient under 0; `None` where all points have one size.
    fn solve(&self) -> Option<(f64, f64)> {
        // Relative to its terms: 0 but for rounding where x is the same everywhere.
        if self.n < 2.0 || self.determinant() <= 1e-9 * self.uu * self.vv {
            return None;
        }
        let (a, b) = self.free();
        if a >= 0.0 && b >= 0.0 {
            return Some((a, b));
        }
        let (flat, steep) = ((self.u / self.uu, 0.0), (0.0, self.v / self.vv));
        Some(if self.squares(flat.0, flat.1) < self.squares(steep.0, steep.1) { flat } else { steep })
    }
}

/// A line with what is uncertain about it.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The line through all points.
    pub line: Line,
    /// Points.
    pub n: usize,
    /// Blocks.
    pub blocks: usize,
    /// Least and most bytes of a point: what lies beyond is extrapolated.
    pub range: (f64, f64),
    /// Sums over all points, with bytes in units of the largest size, so that both coefficients are of one order.
    sums: Sums,
    spread: Spread,
}

impl Fit {
    /// Fits `points`; `None` with fewer than [`MIN_SIZES`] sizes, or where a point is no positive number.
    pub fn new(points: &[Point]) -> Option<Fit> {
        let usable = |v: f64| v.is_finite() && v > 0.0;
        if !points.iter().all(|p| usable(p.bytes) && usable(p.seconds) && usable(p.bytes / p.seconds)) {
            return None;
        }
        let mut sizes: Vec<f64> = points.iter().map(|p| p.bytes).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.dedup();
        let range = (*sizes.first()?, *sizes.last()?);
        if sizes.len() < MIN_SIZES {
            return None;
        }
        let mut sums = Sums::default();
        points.iter().for_each(|p| sums.add(p.bytes / range.1, p.seconds));
        let (overhead, slope) = sums.solve()?;
        let line = Line { overhead, per_byte: slope / range.1 };
        let blocks = points.iter().map(|p| p.block).collect::<BTreeSet<u32>>().len();
        Some(Fit { line, n: points.len(), blocks, range, sums, spread: Spread::of(points, line) })
    }

    /// Coefficients over 0.
    fn coefficients(&self) -> usize {
        usize::from(self.line.overhead > 0.0) + usize::from(self.line.per_byte > 0.0)
    }

    /// Seconds that do not depend on the bytes, with their interval; none of one block, which does not tell how blocks differ.
    pub fn overhead(&self) -> Estimate {
        // About the coefficient that least squares would have below 0 too, so that it holds the true one, which is not, as often.
        let (free, _) = self.sums.free();
        let half = self.spread.of_line(2, self.sums.free_variance(1.0, 0.0), free * free);
        let interval = half.map(|half| ((free - half).max(0.0), (free + half).max(0.0)));
        Estimate { value: self.line.overhead, interval, n: self.blocks }
    }

    /// Bytes a second that the slope stands for, with their interval, of one block none; `None` where time does not grow with bytes.
    pub fn bandwidth(&self) -> Option<Estimate> {
        let value = 1.0 / self.line.per_byte;
        let slope = self.line.per_byte * self.range.1;
        let variance = self.sums.variance(self.line, 0.0, 1.0) / (slope * slope);
        let half = self.spread.of_line(self.coefficients(), variance, 1.0);
        value.is_finite().then(|| Estimate { value, interval: half.map(|half| around(value, half)), n: self.blocks })
    }

    /// The predicted seconds of a process's token that reads `bytes`, with the interval that holds a new process, in a new block, of
    /// a size that was not measured. With one block how blocks differ is not in it. Meant for no fewer bytes than were measured: below
    /// them what counts is the overhead, which large sizes hardly show.
    pub fn predict(&self, bytes: f64) -> Estimate {
        let value = self.line.at(bytes);
        let variance = self.sums.variance(self.line, 1.0, bytes / self.range.1) / (value * value);
        let half = self.spread.of_new(self.coefficients(), variance);
        Estimate { value, interval: Some(around(value, half)), n: self.n }
    }
}

/// The interval of a value that is uncertain by a part `half` of it either way.
fn around(value: f64, half: f64) -> (f64, f64) {
    (value / (1.0 + half), value * (1.0 + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(block: u32, bytes: f64, seconds: f64) -> Point {
        Point { block, bytes, seconds }
    }

    fn near(found: f64, want: f64) {
        assert!((found - want).abs() <= 1e-9 * want.abs().max(1e-12), "{found}, expected {want}");
    }

    #[test]
    fn points_on_a_line_give_the_line() {
        // 2 ms and 10 GB/s.
        let points: Vec<Point> =
            [1e8, 1e9, 4e9].iter().flat_map(|&x| [0, 1].map(|block| point(block, x, 0.002 + x / 1e10))).collect();
        let fit = Fit::new(&points).unwrap();
        near(fit.line.overhead, 0.002);
        near(fit.line.per_byte, 1e-10);
        near(fit.bandwidth().unwrap().value, 1e10);
        let predicted = fit.predict(2e10);
        near(predicted.value, 2.002);
        let (low, high) = predicted.interval.unwrap();
        assert!((low - 2.002).abs() < 1e-6 && (high - 2.002).abs() < 1e-6, "nothing is uncertain: {low} {high}");
        assert_eq!((fit.n, fit.blocks, fit.range), (6, 2, (1e8, 4e9)));
    }

    /// By hand: y = 2, 2, 4 at x = 1, 2, 4. u = 1/2, 1/2, 1/4; v = 1/2, 1, 1. Sums: u 5/4, v 5/2, uu 9/16, uv 1, vv 9/4.
    /// Determinant 81/64 - 1 = 17/64; a = (5/4 * 9/4 - 5/2) / (17/64) = (5/16) / (17/64) = 20/17;
    /// b = (5/2 * 9/16 - 5/4) / (17/64) = (5/32) / (17/64) = 10/17.
    #[test]
    fn relative_squares_by_hand() {
        let points = [(1.0, 2.0), (2.0, 2.0), (4.0, 4.0)].map(|(x, y)| point(0, x, y));
        let line = Fit::new(&points).unwrap().line;
        near(line.overhead, 20.0 / 17.0);
        near(line.per_byte, 10.0 / 17.0);
    }

    /// Times that grow faster than the bytes would have a negative overhead: then it is 0, and b = sum v / sum vv.
    /// y = 1, 3, 9 at x = 1, 2, 4: v = 1, 2/3, 4/9; b = (19/9) / (133/81) = 171/133.
    #[test]
    fn no_time_is_negative() {
        let points = [(1.0, 1.0), (2.0, 3.0), (4.0, 9.0)].map(|(x, y)| point(0, x, y));
        let fit = Fit::new(&points).unwrap();
        assert_eq!(fit.line.overhead, 0.0);
        near(fit.line.per_byte, 171.0 / 133.0);
        // Times that fall: the slope is 0, a = sum u / sum uu.
        let points = [(1.0, 4.0), (2.0, 2.0), (4.0, 1.0)].map(|(x, y)| point(0, x, y));
        let fit = Fit::new(&points).unwrap();
        assert_eq!((fit.line.per_byte, fit.bandwidth()), (0.0, None));
        near(fit.line.overhead, 1.75 / 1.3125);
    }

    #[test]
    fn one_block_has_no_interval_over_blocks_and_too_few_sizes_no_line() {
        let points = [(1.0, 2.0), (2.0, 2.0), (4.0, 4.0)].map(|(x, y)| point(3, x, y));
        let fit = Fit::new(&points).unwrap();
        assert_eq!((fit.overhead().interval, fit.overhead().n), (None, 1));
        assert!(fit.predict(8.0).interval.is_some(), "its residuals differ");
        assert!(Fit::new(&points[..2]).is_none());
        assert!(Fit::new(&[point(0, 1.0, 1.0); 9]).is_none());
        assert!(Fit::new(&[]).is_none());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Fit::new(&[points[0], points[1], points[2], point(0, 8.0, bad)]).is_none(), "{bad}");
        }
    }

    /// What differs between blocks alone: the line of all is between theirs, and a new block may be as far again.
    #[test]
    fn more_scatter_makes_wider_intervals_and_more_bytes_too() {
        let of = |noise: f64| {
            let wobble = |block: u32, x: f64| point(block, x, (0.1 + x) * (1.0 + noise * f64::from(block % 3)));
            let points: Vec<Point> = (0..3).flat_map(|b| [1.0, 2.0, 3.0, 5.0].map(|x| wobble(b, x))).collect();
            Fit::new(&points).unwrap()
        };
        let width = |estimate: Estimate| {
            let (low, high) = estimate.interval.unwrap();
            assert!(low < estimate.value && estimate.value < high, "{estimate:?}");
            high / low
        };
        let (some, more) = (of(0.01), of(0.05));
        assert!(width(some.predict(10.0)) < width(more.predict(10.0)));
        assert!(width(some.bandwidth().unwrap()) < width(more.bandwidth().unwrap()));
        assert!(width(some.overhead()) < width(more.overhead()));
        assert!(
            width(more.bandwidth().unwrap()) < width(more.predict(10.0)),
            "a new block differs by more than the mean of three"
        );
    }
}
