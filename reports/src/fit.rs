//! A line through the times of a token over the bytes it reads, and what it predicts of other sizes. Pure and seeded.
//!
//! Decode is reading: a token that reads `x` bytes takes `y = a + b x` seconds, `1/b` being the bandwidth that is reached and `a`
//! what does not grow with the model. Errors of such times are relative (a guest's steal or a throttled clock stretches a long
//! window as much as a short one), so squares of *relative* residuals `(a + b x) / y - 1` are summed: every size counts alike,
//! and the largest does not decide alone. A fit of the logarithms would weigh alike, but its exponent means nothing and bends
//! what is predicted beyond the sizes measured. Neither coefficient may be negative: no time is.

use crate::stats::{CONFIDENCE, Estimate, RESAMPLES, quantile_sorted};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

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

/// Sums over points from which the line follows; those of several blocks add.
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
        let one = Sums { u, v, uu: u * u, uv: u * v, vv: v * v, n: 1.0 };
        *self = self.plus(one);
    }

    fn plus(self, other: Sums) -> Sums {
        Sums {
            u: self.u + other.u,
            v: self.v + other.v,
            uu: self.uu + other.uu,
            uv: self.uv + other.uv,
            vv: self.vv + other.vv,
            n: self.n + other.n,
        }
    }

    fn squares(&self, a: f64, b: f64) -> f64 {
        a * a * self.uu + 2.0 * a * b * self.uv + b * b * self.vv - 2.0 * (a * self.u + b * self.v) + self.n
    }

    /// The least squares with neither coefficient under 0; `None` where all points have one size.
    fn solve(&self) -> Option<(f64, f64)> {
        let determinant = self.uu * self.vv - self.uv * self.uv;
        // Relative to its terms: 0 but for rounding where x is the same everywhere.
        if self.n < 2.0 || determinant <= 1e-9 * self.uu * self.vv {
            return None;
        }
        let a = (self.u * self.vv - self.v * self.uv) / determinant;
        let b = (self.v * self.uu - self.u * self.uv) / determinant;
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
    /// Line of each resample of the blocks; one alone, the line itself, where there is but one block.
    resampled: Vec<Line>,
    /// Relative residuals, widened for the two coefficients that were fitted.
    residuals: Vec<f64>,
    seed: u64,
}

impl Fit {
    /// Fits `points`; `None` with fewer than [`MIN_SIZES`] sizes, or where a point is no positive number.
    pub fn new(points: &[Point], seed: u64) -> Option<Fit> {
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
        // In units of the largest size, so that both coefficients are of one order.
        let scale = range.1;
        let mut blocks: BTreeMap<u32, Sums> = BTreeMap::new();
        for p in points {
            blocks.entry(p.block).or_default().add(p.bytes / scale, p.seconds);
        }
        let blocks: Vec<Sums> = blocks.into_values().collect();
        let line = |(a, b): (f64, f64)| Line { overhead: a, per_byte: b / scale };
        let all = line(blocks.iter().fold(Sums::default(), |sum, &block| sum.plus(block)).solve()?);
        let resampled =
            if blocks.len() < 2 { vec![all] } else { resample(&blocks, seed).into_iter().map(line).collect() };
        let n = points.len();
        let widen = (n as f64 / (n as f64 - 2.0)).sqrt();
        let residuals = points.iter().map(|p| (all.at(p.bytes) / p.seconds - 1.0) * widen).collect();
        Some(Fit { line: all, n, blocks: blocks.len(), range, resampled, residuals, seed })
    }

    /// Seconds that do not depend on the bytes, with their interval over blocks.
    pub fn overhead(&self) -> Estimate {
        self.of_line(|line| line.overhead)
    }

    /// Bytes a second that the slope stands for, with their interval over blocks; `None` where time does not grow with bytes.
    pub fn bandwidth(&self) -> Option<Estimate> {
        let estimate = self.of_line(|line| 1.0 / line.per_byte);
        estimate.value.is_finite().then_some(estimate)
    }

    fn of_line(&self, of: impl Fn(Line) -> f64) -> Estimate {
        let mut values: Vec<f64> = self.resampled.iter().map(|&line| of(line)).collect();
        let interval = if self.blocks < 2 { None } else { Some(interval(&mut values)) };
        Estimate { value: of(self.line), interval, n: self.blocks }
    }

    /// The predicted seconds of a process's token that reads `bytes`, with a prediction interval: the line of a resample of
    /// the blocks and a residual of the fit drawn together, so that it holds what the line is uncertain of and what
    /// processes and sizes differ by. With one block the first part is missing.
    pub fn predict(&self, bytes: f64) -> Estimate {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(u32::MAX));
        let mut draws: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let line = self.resampled[rng.random_range(0..self.resampled.len() as u64) as usize];
                let residual = self.residuals[rng.random_range(0..self.residuals.len() as u64) as usize];
                // A residual is how far the line is over the time, in parts of the time.
                line.at(bytes) / (1.0 + residual).max(0.1)
            })
            .collect();
        Estimate { value: self.line.at(bytes), interval: Some(interval(&mut draws)), n: self.n }
    }
}

/// Coefficients of [`RESAMPLES`] resamples of the blocks; those whose points have one size have none.
fn resample(blocks: &[Sums], seed: u64) -> Vec<(f64, f64)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(blocks.len() as u64);
    let mut draw = |_| {
        let drawn = (0..blocks.len()).map(|_| blocks[rng.random_range(0..blocks.len() as u64) as usize]);
        drawn.fold(Sums::default(), Sums::plus).solve()
    };
    (0..RESAMPLES).filter_map(&mut draw).collect()
}

/// The percentile interval at [`CONFIDENCE`].
fn interval(values: &mut [f64]) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let at = |q| quantile_sorted(values, q).unwrap_or(f64::NAN);
    (at(tail), at(1.0 - tail))
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
        let fit = Fit::new(&points, 1).unwrap();
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
        let line = Fit::new(&points, 1).unwrap().line;
        near(line.overhead, 20.0 / 17.0);
        near(line.per_byte, 10.0 / 17.0);
    }

    /// Times that grow faster than the bytes would have a negative overhead: then it is 0, and b = sum v / sum vv.
    /// y = 1, 3, 9 at x = 1, 2, 4: v = 1, 2/3, 4/9; b = (19/9) / (133/81) = 171/133.
    #[test]
    fn no_time_is_negative() {
        let points = [(1.0, 1.0), (2.0, 3.0), (4.0, 9.0)].map(|(x, y)| point(0, x, y));
        let fit = Fit::new(&points, 1).unwrap();
        assert_eq!(fit.line.overhead, 0.0);
        near(fit.line.per_byte, 171.0 / 133.0);
        // Times that fall: the slope is 0, a = sum u / sum uu.
        let points = [(1.0, 4.0), (2.0, 2.0), (4.0, 1.0)].map(|(x, y)| point(0, x, y));
        let fit = Fit::new(&points, 1).unwrap();
        assert_eq!((fit.line.per_byte, fit.bandwidth()), (0.0, None));
        near(fit.line.overhead, 1.75 / 1.3125);
    }

    #[test]
    fn one_block_has_no_interval_over_blocks_and_too_few_sizes_no_line() {
        let points = [(1.0, 2.0), (2.0, 2.0), (4.0, 4.0)].map(|(x, y)| point(3, x, y));
        let fit = Fit::new(&points, 1).unwrap();
        assert_eq!((fit.overhead().interval, fit.overhead().n), (None, 1));
        assert!(fit.predict(8.0).interval.is_some(), "its residuals differ");
        assert!(Fit::new(&points[..2], 1).is_none());
        assert!(Fit::new(&[point(0, 1.0, 1.0); 9], 1).is_none());
        assert!(Fit::new(&[], 1).is_none());
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Fit::new(&[points[0], points[1], points[2], point(0, 8.0, bad)], 1).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_answer() {
        let wobble = |block: u32, x: f64| point(block, x, (0.1 + x) * (1.0 + 0.05 * f64::from(block % 3)));
        let points: Vec<Point> = (0..3).flat_map(|b| [1.0, 2.0, 3.0, 5.0].map(|x| wobble(b, x))).collect();
        let of = |seed| Fit::new(&points, seed).unwrap().predict(10.0);
        assert_eq!(of(4), of(4));
        let (low, high) = of(4).interval.unwrap();
        assert!(low < of(4).value && of(4).value < high);
    }
}
