//! How often the intervals of reports hold the true value, by simulation.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reports::ranks::ratio;
use reports::stats::{estimate, proportion};

/// So many that the share's own standard error is 0.15 percentage points.
const SAMPLES: u32 = 20_000;

/// A value of a distribution of median 0: a bell (the sum of twelve), one with a long tail upwards, one with outliers.
fn draw(kind: usize, rng: &mut ChaCha8Rng) -> f64 {
    let bell = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    match kind {
        0 => bell,
        1 => bell.exp() - 1.0,
        _ if rng.random::<f64>() < 0.1 => bell * 20.0,
        _ => bell,
    }
}

/// Share of samples of `n` values whose interval of the median holds 0.
fn holds(n: usize, kind: usize) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    rng.set_stream((n * 10 + kind) as u64);
    let held = (0..SAMPLES).filter(|_| {
        let values: Vec<f64> = (0..n).map(|_| draw(kind, &mut rng)).collect();
        let (low, high) = estimate(&values).unwrap().interval.unwrap();
        (low..=high).contains(&0.0)
    });
    held.count() as f64 / f64::from(SAMPLES)
}

#[test]
fn intervals_of_medians_hold_95_per_cent_from_six_replicates_on() {
    for n in [6, 7, 8, 9, 10, 12, 15, 20, 21, 30, 50, 100] {
        for kind in 0..3 {
            let share = holds(n, kind);
            assert!((0.94..=0.96).contains(&share), "{n} values of distribution {kind}: {share}");
        }
    }
}

#[test]
fn those_of_fewer_are_as_short_as_the_page_says() {
    for (n, want) in [(2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375)] {
        for kind in 0..3 {
            let share = holds(n, kind);
            assert!((share - want).abs() < 0.012, "{n} values of distribution {kind}: {share}");
        }
    }
}

/// Share of pairs of samples of `m` and `n` values, the second drawn from one twice as large, whose interval of the factor holds 2.
fn factor_holds(m: usize, n: usize, kind: usize) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    rng.set_stream((m * 1000 + n * 10 + kind) as u64);
    let held = (0..SAMPLES).filter(|_| {
        let mut sample =
            |n: usize, factor: f64| (0..n).map(|_| factor * (draw(kind, &mut rng) / 20.0).exp()).collect::<Vec<f64>>();
        let (baseline, candidate) = (sample(m, 1.0), sample(n, 2.0));
        let (low, high) = ratio(&candidate, &baseline).unwrap().interval.unwrap();
        (low..=high).contains(&2.0)
    });
    held.count() as f64 / f64::from(SAMPLES)
}

#[test]
fn intervals_of_factors_between_runs_hold_at_least_95_per_cent_from_four_replicates_on() {
    for (m, n) in [(4, 4), (5, 5), (3, 8), (6, 10), (10, 10), (20, 30)] {
        for kind in 0..3 {
            let share = factor_holds(m, n, kind);
            // Exact intervals hold a little more, as ranks are discrete: 97.1 % of four and four.
            assert!((0.946..=0.975).contains(&share), "{m} and {n} values of distribution {kind}: {share}");
        }
    }
    for (m, n, want) in [(2, 2, 2.0 / 3.0), (3, 3, 0.9)] {
        let share = factor_holds(m, n, 1);
        assert!((share - want).abs() < 0.012, "{m} and {n}: {share}");
    }
}

#[test]
fn intervals_of_shares_hold_at_least_95_per_cent() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (n, p) in [(20, 0.5), (60, 0.01), (100, 0.9)] {
        let held = (0..5000).filter(|_| {
            let k = (0..n).filter(|_| rng.random::<f64>() < p).count();
            let (low, high) = proportion(k as u32, n, 0.05);
            (low..=high).contains(&p)
        });
        let share = held.count() as f64 / 5000.0;
        assert!(share >= 0.945, "{n} at {p}: {share}");
    }
}
