//! Exact distribution-free inference: on paired differences by Wilcoxon's signed ranks and by sign flips, on two samples by their
//! rank sum.
//!
//! Differences may have any distribution that is symmetric about its centre, samples any two that differ by a shift; any number of
//! values will do: no normal approximation, no seed.

use crate::stats::{CONFIDENCE, Estimate, MIN_REPLICATES, median};

/// Where paired differences are centred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Centre {
    /// Hodges and Lehmann's estimate: the median of the means of all pairs of values (each with itself too).
    pub estimate: f64,
    /// The exact interval; `None` with too few values for its confidence.
    pub interval: Option<(f64, f64)>,
    /// Values.
    pub n: usize,
}

/// The centre of `differences`, with the interval that misses it with a probability of `alpha` at most (both sides together):
/// those centres that Wilcoxon's signed-rank test does not refuse (Hollander, Wolfe & Chicken, Nonparametric Statistical
/// Methods, 3rd ed., sections 3.2 and 3.3). `None` if empty, or if a value is not finite.
pub fn centre(differences: &[f64], alpha: f64) -> Option<Centre> {
    let n = differences.len();
    if n == 0 || !differences.iter().all(|d| d.is_finite()) {
        return None;
    }
    let mut means: Vec<f64> = Vec::with_capacity(n * (n + 1) / 2);
    for (i, a) in differences.iter().enumerate() {
        means.extend(differences[i..].iter().map(|b| a / 2.0 + b / 2.0));
    }
    means.sort_unstable_by(f64::total_cmp);
    let out = left_out(n, alpha);
    let interval = (out > 0).then(|| (means[out - 1], means[means.len() - out]));
    Some(Centre { estimate: median(&means)?, interval, n })
}

/// By how much `b` lies above `a`: the median of all differences of one of `b` and one of `a`, with the interval that misses the
/// shift with a probability of `alpha` at most: those shifts that the rank-sum test of Wilcoxon, Mann and Whitney does not refuse
/// (Hollander, Wolfe & Chicken, sections 4.2 and 4.3). `n` is the number of values of the smaller sample. `None` if one is empty,
/// or if a value is not finite.
pub fn shift(a: &[f64], b: &[f64], alpha: f64) -> Option<Centre> {
    if a.is_empty() || b.is_empty() || !a.iter().chain(b).all(|value| value.is_finite()) {
        return None;
    }
    let mut differences: Vec<f64> = b.iter().flat_map(|b| a.iter().map(move |a| b - a)).collect();
    differences.sort_unstable_by(f64::total_cmp);
    let out = first_over(&pair_counts(a.len(), b.len()), alpha / 2.0);
    let interval = (out > 0).then(|| (differences[out - 1], differences[differences.len() - out]));
    Some(Centre { estimate: median(&differences)?, interval, n: a.len().min(b.len()) })
}

/// The factor by which `candidate` lies above `baseline`, two samples that nothing pairs: [`shift`] of their logarithms, at
/// [`CONFIDENCE`] or more. With too few for that, such as three of either, the interval is from the least to the greatest of the
/// ratios of one to another, which holds the factor in 90 % (three of either) or 67 % (two). `n` is the number of values of the smaller
/// sample. `None` if one is empty, or a value is not finite and over 0.
pub fn ratio(candidate: &[f64], baseline: &[f64]) -> Option<Estimate> {
    let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<f64>>();
    let (over, under) = (logs(candidate), logs(baseline));
    let Centre { estimate, interval, n } = shift(&under, &over, 1.0 - CONFIDENCE)?;
    let ends = |values: &[f64]| {
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &value| (lo.min(value), hi.max(value)))
    };
    let range = || {
        let ((lo, hi), (least, most)) = (ends(&over), ends(&under));
        (n >= MIN_REPLICATES).then_some((lo - most, hi - least))
    };
    let interval = interval.or_else(range).map(|(lo, hi)| (lo.exp(), hi.exp()));
    let ratio = Estimate { value: estimate.exp(), interval, n };
    ratio.is_finite().then_some(ratio)
}

/// Probabilities of the number of pairs of which the second is the greater, from 0 to `m n`, of samples of `m` and `n` values.
fn pair_counts(m: usize, n: usize) -> Vec<f64> {
    // The greatest of all is of the second sample with probability n / (m + n), and is then greater than all m of the first.
    let mut rows: Vec<Vec<f64>> = vec![vec![1.0]; n + 1];
    for i in 1..=m {
        for j in 1..=n {
            let (share, last) = (j as f64 / (i + j) as f64, i * j);
            let less = |pairs: usize| rows[j].get(pairs).copied().unwrap_or(0.0) * (1.0 - share);
            let more = |pairs: usize| pairs.checked_sub(i).and_then(|p| rows[j - 1].get(p)).map_or(0.0, |p| p * share);
            let row = (0..=last).map(|pairs| less(pairs) + more(pairs)).collect();
            rows[j] = row;
        }
    }
    rows.swap_remove(n)
}

/// How many of the ordered means end where an interval begins: the greatest `k` for which a sum of signed ranks below `k` has a
/// probability of `alpha / 2` at most.
fn left_out(n: usize, alpha: f64) -> usize {
    first_over(&rank_sums(n), alpha / 2.0)
}

/// The first number at which the sum of the probabilities up to it exceeds `tail`, by more than sums of floats are off.
fn first_over(probabilities: &[f64], tail: f64) -> usize {
    let tail = tail * (1.0 + 1e-9);
    let mut sum = 0.0;
    probabilities
        .iter()
        .position(|probability| {
            sum += probability;
            sum > tail
        })
        .unwrap_or(0)
}

/// Probabilities of the sums of the positive ranks of `n` values, from 0 to `n (n + 1) / 2`.
fn rank_sums(n: usize) -> Vec<f64> {
    let mut all = vec![0.0; n * (n + 1) / 2 + 1];
    all[0] = 1.0;
    for rank in 1..=n {
        // From the end, so that each rank is added once.
        for sum in (0..all.len()).rev() {
            all[sum] = (all[sum] + if sum >= rank { all[sum - rank] } else { 0.0 }) / 2.0;
        }
    }
    all
}

/// Most values whose signs are all flipped in every way: a million ways.
pub const EXACT_FLIPS: usize = 20;

/// The probability, were the differences centred at 0, of a sum as far from 0 as theirs or farther: of all ways to give the values
/// signs, the share. `None` if empty, not finite or more than [`EXACT_FLIPS`].
pub fn flips(differences: &[f64]) -> Option<f64> {
    let n = differences.len();
    if n == 0 || n > EXACT_FLIPS || !differences.iter().all(|d| d.is_finite()) {
        return None;
    }
    let seen: f64 = differences.iter().sum::<f64>().abs();
    // Sums of the same values in another order differ in their last bits.
    let slack = 1e-9 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let signed = |bits: u32| -> f64 {
        differences.iter().enumerate().map(|(i, d)| if bits >> i & 1 == 1 { -d } else { *d }).sum()
    };
    let as_far = (0..1u32 << n).filter(|&bits| signed(bits).abs() >= seen - slack).count();
    Some(as_far as f64 / f64::from(1u32 << n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn by_hand() {
        // Means of pairs: 1, 1.5, 2, 2.5, 3, 4 and so on; of 1, 2, 4 they are 1, 1.5, 2, 2.5, 3, 4.
        let found = centre(&[1.0, 2.0, 4.0], 0.5).unwrap();
        assert_eq!(found.estimate, 2.25);
        // P(sum = 0) = 1/8, P(sum <= 1) = 2/8: at 0.5, the interval leaves out two means' ends.
        assert_eq!(found.interval, Some((1.5, 3.0)));
        assert_eq!(centre(&[1.0, 2.0, 4.0], 0.25).unwrap().interval, Some((1.0, 4.0)));
        assert_eq!(centre(&[1.0, 2.0, 4.0], 0.2).unwrap().interval, None);
        assert_eq!(centre(&[], 0.05), None);
        assert_eq!(centre(&[f64::NAN], 0.05), None);
    }

    #[test]
    fn critical_values_are_the_tables() {
        // Two-sided 5 %: the greatest sum T with P(sum <= T) <= 0.025 (Wilcoxon & Wilcox 1964), one below our count.
        for (n, table) in [(6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (15, 25), (20, 52), (25, 89), (50, 434)] {
            assert_eq!(left_out(n, 0.05), table + 1, "{n}");
        }
        assert_eq!(left_out(5, 0.05), 0);
        for n in [1, 7, 40] {
            assert!((rank_sums(n).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn intervals_cover_as_often_as_they_say() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        // A heavy-tailed, symmetric distribution: the ratio of a normal-like sum and a uniform number.
        let mut draw = || (0..4).map(|_| rng.random::<f64>() - 0.5).sum::<f64>() / (0.05 + rng.random::<f64>());
        for n in [8, 20] {
            let missed = (0..4000)
                .filter(|_| {
                    let values: Vec<f64> = (0..n).map(|_| draw()).collect();
                    let (lo, hi) = centre(&values, 0.05).unwrap().interval.unwrap();
                    lo > 0.0 || hi < 0.0
                })
                .count();
            // Exact: at most 5 % (and, as sums are discrete, a little less); 4,000 draws have a deviation of 0.34 %.
            assert!((120..=240).contains(&missed), "{n}: {missed}");
        }
    }

    #[test]
    fn factors_of_samples_by_hand() {
        // Ratios of one to another: 4/2, 8/2, 4/1, 8/1.
        let found = ratio(&[4.0, 8.0], &[1.0, 2.0]).unwrap();
        let (lo, hi) = found.interval.unwrap();
        for (found, want) in [(found.value, 4.0), (lo, 2.0), (hi, 8.0)] {
            assert!((found - want).abs() < 1e-12, "{found}, expected {want}");
        }
        assert_eq!(ratio(&[5.0], &[2.0, 2.0]).map(|one| (one.interval, one.n)), Some((None, 1)));
        // Of four and four the least and the greatest ratio hold the factor in 68 of 70 samples.
        let whole = ratio(&[1.0, 2.0, 4.0, 8.0], &[1.0, 1.0, 1.0, 1.0]).unwrap().interval.unwrap();
        assert!((whole.0 - 1.0).abs() < 1e-12 && (whole.1 - 8.0).abs() < 1e-12, "{whole:?}");
        for bad in [&[][..], &[0.0, 1.0], &[-1.0], &[f64::NAN], &[f64::INFINITY]] {
            assert_eq!((ratio(bad, &[1.0, 2.0]), ratio(&[1.0, 2.0], bad)), (None, None), "{bad:?}");
        }
    }

    #[test]
    fn shifts_of_samples_by_hand() {
        // Of the six orders of two and two values, one has no pair with the second greater, one a single such pair, two have two.
        let counts = pair_counts(2, 2);
        for (found, sixths) in counts.iter().zip([1.0, 1.0, 2.0, 1.0, 1.0]) {
            assert!((found - sixths / 6.0).abs() < 1e-12, "{counts:?}");
        }
        // Differences: 2, 3, 5, 6 (of 1 and 2 to 4 and 7).
        let found = shift(&[1.0, 2.0], &[4.0, 7.0], 1.0 / 3.0).unwrap();
        assert_eq!((found.estimate, found.interval, found.n), (4.0, Some((2.0, 6.0)), 2));
        assert_eq!(shift(&[1.0, 2.0], &[4.0, 7.0], 0.3).unwrap().interval, None);
        assert_eq!(shift(&[], &[1.0], 0.05), None);
        // Mann & Whitney's tables, two-sided 5 %: the greatest U with P(<= U) <= 0.025.
        for ((m, n), table) in [((4, 4), 0), ((5, 5), 2), ((6, 9), 10), ((8, 8), 13), ((10, 10), 23), ((20, 20), 127)] {
            assert_eq!(first_over(&pair_counts(m, n), 0.025), table + 1, "{m} {n}");
        }
    }

    #[test]
    fn flips_are_counted() {
        // Of eight ways, +++ and --- are as far as +++.
        assert_eq!(flips(&[1.0, 2.0, 3.0]), Some(0.25));
        // 1 + 2 - 3 = 0: every way is as far.
        assert_eq!(flips(&[1.0, 2.0, -3.0]), Some(1.0));
        // 5 + 1 - 2 = 4; as far: all but 5 - 1 - 2 = 2 and its mirror, and 5 - 2 + 1 = 4 counts.
        assert_eq!(flips(&[5.0, 1.0, -2.0]), Some(0.75));
        assert_eq!(flips(&[]), None);
        assert_eq!(flips(&[1.0; 21]), None);
    }
}
