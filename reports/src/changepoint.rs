//! Change points of a series: where the values after are distributed otherwise than those before.
//!
//! E-divisive (Matteson and James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data", 2014,
//! arXiv 1306.4933) for single values and means: the energy statistic with exponent 1 is 0 where two distributions are the same, and
//! nothing is assumed of them. Series are parted hierarchically, each time where the statistic is largest, for as long as a
//! permutation test says that so large a value is not chance. Pure and seeded: the same series has the same change points, on any
//! machine. They are advice: a test at 1 % is wrong about one in a hundred series in which nothing happened.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seed of the permutations (the paper's number), published so that a test can be made again.
pub const SEED: u64 = 1306_4933;
/// Permutations of each test. With 999 the least p is 0.001, and at [`LEVEL`] the tenth largest decides.
pub const PERMUTATIONS: u32 = 999;
/// Largest p of a change point. Stricter than the usual 0.05, as a history holds dozens of series and each is tested. It takes ten
/// values or so: the two halves of eight come out apart by chance once in 35 orders.
pub const LEVEL: f64 = 0.01;
/// Fewest values on either side of a change. One or two odd runs are a disturbance and no change; and from three on the
/// distances within a side are more than one.
pub const MIN_SEGMENT: usize = 3;
/// Most values that are looked at, the latest: work and memory grow with the square.
pub const LONGEST: usize = 500;
/// Sums of the same distances in another order differ in their last bits; they are equal for the test.
const ROUNDING: f64 = 1e-9;

/// A change point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Index of the first value after the change.
    pub at: usize,
    /// Share of permutations (the series itself counted as one) whose statistic is as large or larger; at most [`LEVEL`].
    pub p: f64,
    /// The scaled energy statistic, in units of the values.
    pub statistic: f64,
}

/// A way to part a segment.
#[derive(Clone, Copy, Debug)]
struct Split {
    at: usize,
    statistic: f64,
}

/// The change points of `values`, in order; none if a value is not finite. Of more than [`LONGEST`] values the latest are looked at.
pub fn changes(values: &[f64]) -> Vec<Change> {
    changes_at(values, LEVEL)
}

fn changes_at(values: &[f64], level: f64) -> Vec<Change> {
    if values.iter().any(|v| !v.is_finite()) {
        return Vec::new();
    }
    let skipped = values.len().saturating_sub(LONGEST);
    let mut values = values[skipped..].to_vec();
    let mut bounds = vec![0, values.len()];
    let mut found = Vec::new();
    // Each step tests the best of all splits. The first that is not significant ends it, as the paper has it.
    while let Some((split, p)) = step(&mut values, &bounds, found.len() as u64, level) {
        found.push(Change { at: skipped + split.at, p, statistic: split.statistic });
        bounds.push(split.at);
        bounds.sort_unstable();
    }
    found.sort_by_key(|change| change.at);
    found
}

/// The best split of all segments and its p, if that is at most `level`. `values` are as they were, afterwards.
fn step(values: &mut [f64], bounds: &[usize], number: u64, level: f64) -> Option<(Split, f64)> {
    let observed = best(values, bounds)?;
    // As large as observed in more permutations than this, and p is over the level whatever the others say.
    let most = (level * f64::from(PERMUTATIONS + 1)).floor() as u32;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    rng.set_stream(number);
    let mut order = values.to_vec();
    let mut as_large = 1;
    for _ in 0..PERMUTATIONS {
        if as_large > most {
            return None;
        }
        for pair in bounds.windows(2) {
            shuffle(&mut order[pair[0]..pair[1]], &mut rng);
        }
        let drawn = best(&order, bounds).map_or(0.0, |split| split.statistic);
        as_large += u32::from(drawn >= observed.statistic * (1.0 - ROUNDING));
    }
    let p = f64::from(as_large) / f64::from(PERMUTATIONS + 1);
    (as_large <= most).then_some((observed, p))
}

fn shuffle(values: &mut [f64], rng: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        let other = rng.random_range(0..=last as u64) as usize;
        values.swap(last, other);
    }
}

/// The split with the largest statistic over all segments between `bounds`; the first of equals.
fn best(values: &[f64], bounds: &[usize]) -> Option<Split> {
    let mut best: Option<Split> = None;
    for pair in bounds.windows(2) {
        let Some(split) = best_of(&values[pair[0]..pair[1]]) else { continue };
        if best.is_none_or(|known| split.statistic > known.statistic) {
            best = Some(Split { at: pair[0] + split.at, ..split });
        }
    }
    best
}

/// The best split of one segment: `values[..at]` against `values[at..end]` for every `at` and `end`, as the paper has it: where
/// there are several changes, all that follows the first may hide it. `None` if it is too short.
fn best_of(values: &[f64]) -> Option<Split> {
    let n = values.len();
    if n < 2 * MIN_SEGMENT {
        return None;
    }
    let within = Within::new(values);
    let mut best: Option<Split> = None;
    for at in MIN_SEGMENT..=n - MIN_SEGMENT {
        for end in at + MIN_SEGMENT..=n {
            let statistic = within.statistic(at, end);
            if best.is_none_or(|known| statistic > known.statistic) {
                best = Some(Split { at, statistic });
            }
        }
    }
    best
}

/// Sums of distances of all pairs inside every stretch of a segment.
struct Within {
    n: usize,
    /// Row `a`, column `b`: the sum over pairs of `values[a..b]`.
    sums: Vec<f64>,
}

impl Within {
    fn new(values: &[f64]) -> Within {
        let n = values.len();
        let mut sums = vec![0.0; (n + 1) * (n + 1)];
        for b in 1..=n {
            let last = values[b - 1];
            let mut to_last = 0.0;
            for a in (0..b).rev() {
                to_last += (values[a] - last).abs();
                sums[a * (n + 1) + b] = sums[a * (n + 1) + b - 1] + to_last;
            }
        }
        Within { n, sums }
    }

    fn of(&self, a: usize, b: usize) -> f64 {
        self.sums[a * (self.n + 1) + b]
    }

    /// `nm / (n + m)` times the energy distance of the first `at` values to those from there to `end` (equations 4 and 5 of the paper).
    fn statistic(&self, at: usize, end: usize) -> f64 {
        let (before, after) = (self.of(0, at), self.of(at, end));
        let between = self.of(0, end) - before - after;
        let (n, m) = (at as f64, (end - at) as f64);
        let pairs = |k: f64| k * (k - 1.0) / 2.0;
        n * m / (n + m) * (2.0 / (n * m) * between - before / pairs(n) - after / pairs(m))
    }
}

#[cfg(test)]
mod tests;
