//! From the items of an evaluation to its figures, and from two evaluations of the same items to what sets them apart.

use crate::stats::{CONFIDENCE, RESAMPLES, quantile_sorted};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use suites::eval::{AccuracyFigure, Answer, Row};
use suites::task::Metric;

/// Seed of the bootstrap: figures are the same whenever they are computed.
const SEED: u64 = 1;

/// An item's part of a figure: what it adds, and what that is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    sum: f64,
    weight: f64,
}

/// What becomes of the mean.
fn finish(metric: Metric, mean: f64) -> f64 {
    match metric {
        Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity => (-mean).exp(),
        Metric::BitsPerByte => -mean / std::f64::consts::LN_2,
        _ => mean,
    }
}

/// The parts of one figure, of all rows that have it.
fn shares(metric: Metric, rows: &[&Row]) -> Vec<Share> {
    let share = |row: &&Row| {
        let sum = *row.scores.get(&metric)?;
        let weight = match (&row.answer, metric) {
            (Answer::Document { words, .. }, Metric::WordPerplexity) => *words as f64,
            (Answer::Document { bytes, .. }, Metric::BytePerplexity | Metric::BitsPerByte) => *bytes as f64,
            _ => 1.0,
        };
        Some(Share { sum, weight })
    };
    rows.iter().filter_map(share).collect()
}

fn mean(shares: impl Iterator<Item = Share>) -> f64 {
    let (sum, weight) = shares.fold((0.0, 0.0), |(sum, weight), share| (sum + share.sum, weight + share.weight));
    sum / weight
}

/// The figures of `metrics` over `rows`, in this order; items that were skipped are in none. A metric that no row has is
/// left out.
///
/// Means are plain, with the sample deviation over the square root of `n` as standard error, as EleutherAI's
/// lm-evaluation-harness has it. Perplexities are exp(-sum of log-likelihoods / sum of items, words or bytes); their standard
/// error is the deviation of the bootstrap. Intervals are of 10,000 resamples of the items, from a fixed seed: their percentiles, but of
/// perplexities, which a few long documents may decide, those of the studentised mean; where all items are right or all wrong, the exact
/// binomial interval.
pub fn figures(metrics: &[Metric], rows: &[&Row]) -> Vec<AccuracyFigure> {
    let figure = |&metric: &Metric| {
        let shares = shares(metric, rows);
        let value = finish(metric, mean(shares.iter().copied()));
        if shares.is_empty() || !value.is_finite() {
            return None;
        }
        if shares.len() < 2 {
            return Some(AccuracyFigure { metric, value, stderr: None, interval: None });
        }
        let resampled = resample(&shares, |drawn| finish(metric, mean(drawn)));
        let plain = finish(metric, 2.0) == 2.0;
        let stderr = if plain { standard_error(&shares) } else { deviation(&resampled) };
        let range = if plain {
            unanimous(value, shares.len()).unwrap_or_else(|| interval(&resampled))
        } else {
            let (low, high) = studentised(&shares);
            let (a, b) = (finish(metric, low), finish(metric, high));
            (a.min(b), a.max(b))
        };
        Some(AccuracyFigure { metric, value, stderr: Some(stderr), interval: Some(range) })
    };
    metrics.iter().filter_map(figure).collect()
}

/// The interval where all items are right, or all wrong: resamples would all be alike, and claim to be certain. Clopper and
/// Pearson's exact one, Biometrika 26, 1934.
fn unanimous(value: f64, n: usize) -> Option<(f64, f64)> {
    let tail = ((1.0 - CONFIDENCE) / 2.0).powf(1.0 / n as f64);
    match value {
        0.0 => Some((0.0, 1.0 - tail)),
        1.0 => Some((tail, 1.0)),
        _ => None,
    }
}

/// Sample deviation over the square root of the number.
fn standard_error(shares: &[Share]) -> f64 {
    let values: Vec<f64> = shares.iter().map(|share| share.sum).collect();
    deviation(&values) / (values.len() as f64).sqrt()
}

/// Deviation, divided by `n - 1`.
fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// [`RESAMPLES`] of a statistic over items drawn with replacement, ascending.
fn resample<T: Copy>(items: &[T], statistic: impl Fn(&mut dyn Iterator<Item = T>) -> f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    rng.set_stream(items.len() as u64);
    let mut found: Vec<f64> = (0..RESAMPLES)
        .map(|_| statistic(&mut (0..items.len()).map(|_| items[rng.random_range(0..items.len() as u64) as usize])))
        .collect();
    found.sort_unstable_by(f64::total_cmp);
    found
}

/// The interval of a ratio of sums by the studentised bootstrap (Hall, Annals of Statistics 16, 1988): the errors of resamples are
/// taken in units of each one's own standard error. Percentiles hold 91 % where values are skewed.
fn studentised(shares: &[Share]) -> (f64, f64) {
    let (centre, error) = ratio(shares.iter().copied());
    let errors = resample(shares, |drawn| {
        let (of, error) = ratio(drawn);
        if error > 0.0 { (of - centre) / error } else { 0.0 }
    });
    let (low, high) = interval(&errors);
    (centre - high * error, centre - low * error)
}

/// Sum over weights, and its standard error: that of the residuals `sum - ratio * weight`.
fn ratio(shares: impl Iterator<Item = Share>) -> (f64, f64) {
    let (mut s, mut w, mut ss, mut sw, mut ww, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for Share { sum, weight } in shares {
        s += sum;
        w += weight;
        ss += sum * sum;
        sw += sum * weight;
        ww += weight * weight;
        n += 1.0;
    }
    let ratio = s / w;
    let squares = (ss - 2.0 * ratio * sw + ratio * ratio * ww).max(0.0);
    (ratio, (squares * n / (n - 1.0)).sqrt() / w)
}

/// The middle [`CONFIDENCE`] of ascending values.
fn interval(ascending: &[f64]) -> (f64, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let at = |q| quantile_sorted(ascending, q).unwrap_or(f64::NAN);
    (at(tail), at(1.0 - tail))
}

/// Two evaluations of the same items.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// The figure compared: right or wrong, item by item.
    pub metric: Metric,
    /// Items that both have.
    pub n: usize,
    /// Share right of the first and of the second.
    pub values: (f64, f64),
    /// Second less first, with its 95 % interval: percentile bootstrap over items.
    pub difference: (f64, (f64, f64)),
    /// Items that the first alone has right, and the second alone.
    pub discordant: (u64, u64),
    /// McNemar's exact test: how probable it is that a split at least so uneven comes of a fair coin.
    pub p: f64,
}

/// Compares two evaluations by the items that both have. `None` without such items, or where `metric` is not right or wrong.
///
/// Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", Psychometrika
/// 12, 1947; its exact form by the binomial distribution.
pub fn paired(metric: Metric, first: &[&Row], second: &[&Row]) -> Option<Paired> {
    let of = |row: &Row| row.scores.get(&metric).copied();
    let seconds: BTreeMap<u32, f64> = second.iter().filter_map(|row| Some((row.index, of(row)?))).collect();
    let pairs: Vec<(f64, f64)> = first.iter().filter_map(|row| Some((of(row)?, *seconds.get(&row.index)?))).collect();
    let binary = |value: f64| value == 0.0 || value == 1.0;
    if pairs.is_empty() || !pairs.iter().all(|&(a, b)| binary(a) && binary(b)) {
        return None;
    }
    let n = pairs.len();
    let share = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n as f64;
    let values = (share(|pair| pair.0), share(|pair| pair.1));
    let count = |alone: (f64, f64)| pairs.iter().filter(|&&pair| pair == alone).count() as u64;
    let discordant = (count((1.0, 0.0)), count((0.0, 1.0)));
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
    let resampled = resample(&differences, |drawn| drawn.sum::<f64>() / n as f64);
    let difference = (values.1 - values.0, interval(&resampled));
    Some(Paired { metric, n, values, difference, discordant, p: mcnemar(discordant.0, discordant.1) })
}

/// Two-sided exact McNemar: twice the lower tail of Binomial(b + c, 1/2) at the lesser count, at most 1.
pub fn mcnemar(b: u64, c: u64) -> f64 {
    let n = b + c;
    // ln of C(n, k) / 2^n, from one k to the next.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=b.min(c) {
        tail += term.exp();
        term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests;
