//! How often the intervals of reports hold the true value, by simulation.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reports::accuracy::{figures, paired};
use reports::fit::{Fit, Point};
use reports::ranks::ratio;
use reports::stats::{estimate, proportion};
use suites::eval::{Answer, Row};
use suites::task::Metric;

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

/// How sizes, blocks and processes scatter, as parts of a time, and how many of the first two there are.
struct Scatter {
    sizes: u32,
    blocks: u32,
    size: f64,
    block: f64,
    process: f64,
    /// Whether later blocks lack the largest size, as under a budget.
    holes: bool,
    /// Seconds that do not depend on the bytes.
    overhead: f64,
}

/// Bytes of the largest size measured, of 1 for the least, a second each; and of the size that is predicted.
const LARGEST: f64 = 30.0;
const BEYOND: f64 = 100.0;

/// Shares of runs whose intervals of the overhead, of the bandwidth and of a new process's time hold them.
fn fit_holds(of: &Scatter) -> [f64; 3] {
    const RUNS: u32 = 2000;
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let mut normal = |deviation: f64| {
        let (radius, angle) = ((-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(), rng.random::<f64>());
        deviation * radius * (angle * std::f64::consts::TAU).cos()
    };
    let mut held = [0; 3];
    for _ in 0..RUNS {
        let blocks: Vec<f64> = (0..of.blocks).map(|_| normal(of.block)).collect();
        let mut points = Vec::new();
        for i in 0..of.sizes {
            let bytes = LARGEST.powf(f64::from(i) / f64::from(of.sizes - 1));
            let size = normal(of.size);
            for (block, stretch) in (0..).zip(&blocks) {
                let seconds = (of.overhead + bytes) * (size + stretch + normal(of.process)).exp();
                if !(of.holes && i + 1 == of.sizes && block > 0) {
                    points.push(Point { block, bytes, seconds });
                }
            }
        }
        let fit = Fit::new(&points).unwrap();
        let new = (of.overhead + BEYOND) * (normal(of.size) + normal(of.block) + normal(of.process)).exp();
        let intervals = [fit.overhead(), fit.bandwidth().unwrap(), fit.predict(BEYOND)].map(|e| e.interval.unwrap());
        for (held, ((low, high), truth)) in held.iter_mut().zip(intervals.into_iter().zip([of.overhead, 1.0, new])) {
            *held += u32::from((low..=high).contains(&truth));
        }
    }
    held.map(|held| f64::from(held) / f64::from(RUNS))
}

#[test]
fn intervals_of_fits_hold_95_per_cent_or_more() {
    for (sizes, blocks) in [(3, 3), (5, 3), (5, 5), (8, 3), (10, 10)] {
        for (size, block, process) in
            [(0.0, 0.0, 0.02), (0.0, 0.05, 0.005), (0.03, 0.0, 0.005), (0.03, 0.05, 0.02), (0.02, 0.02, 0.02)]
        {
            for (holes, overhead) in [(false, 1.0), (true, 1.0), (false, 0.0)] {
                let shares = fit_holds(&Scatter { sizes, blocks, size, block, process, holes, overhead });
                // Layouts with holes are only nearly what the sums are for.
                let least = if holes { 0.92 } else { 0.93 };
                println!(
                    "{sizes} sizes, {blocks} blocks, {size} {block} {process} holes {holes}, overhead {overhead}: {shares:?}"
                );
                assert!(
                    shares.iter().all(|share| *share >= least),
                    "{sizes} {blocks} {size} {block} {process} {holes} {overhead}: {shares:?}"
                );
            }
        }
    }
}

fn row(index: u32, answer: Answer, metric: Metric, score: f64) -> Row {
    Row { index, prompt: String::new(), answer, scores: [(metric, score)].into() }
}

fn item(index: u32, right: f64) -> Row {
    let answer = Answer::Likelihood { loglikelihood: -1.0, tokens: 1, greedy: true, truncated: 0 };
    row(index, answer, Metric::Acc, right)
}

/// Intervals of `n` items by how many of them are right.
fn accuracy_intervals(n: u32) -> Vec<(f64, f64)> {
    let of = |right| {
        let rows: Vec<Row> = (0..n).map(|i| item(i, f64::from(u8::from(i < right)))).collect();
        figures(&[Metric::Acc], &rows.iter().collect::<Vec<_>>())[0].interval.unwrap()
    };
    (0..=n).map(of).collect()
}

/// Nothing but the bootstrap itself is drawn: the rest is summed over all numbers of right items. What is held goes up and down with the
/// probability, as numbers are whole, so it is looked at from 10 to 90 %.
#[test]
fn bootstrap_intervals_of_accuracies_hold_95_per_cent() {
    for n in [60, 200] {
        let intervals = accuracy_intervals(n);
        let holds = |p: f64| {
            let mut probability = (f64::from(n) * (1.0 - p).ln()).exp();
            let mut share = 0.0;
            for (right, (low, high)) in (0..=n).zip(&intervals) {
                share += if (*low..=*high).contains(&p) { probability } else { 0.0 };
                probability *= f64::from(n - right) / f64::from(right + 1) * p / (1.0 - p);
            }
            share
        };
        let shares: Vec<f64> = (0..=800).map(|i| holds(0.1 + f64::from(i) / 1000.0)).collect();
        let (least, most) = shares.iter().fold((1.0, 0.0), |(a, b): (f64, f64), &share| (a.min(share), b.max(share)));
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        println!("{n} items: {mean:.4}, {least:.4} to {most:.4}");
        assert!((0.94..=0.96).contains(&mean) && least > 0.9 && most < 0.98, "{n} items: {mean}, {least} to {most}");
    }
}

#[test]
fn those_of_differences_on_the_same_items_too() {
    const RUNS: u32 = 400;
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let held = (0..RUNS).filter(|_| {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for i in 0..150 {
            // Both right in half, the first alone in 5 %, the second alone in 12 %.
            let draw = rng.random::<f64>();
            first.push(item(i, f64::from(u8::from(draw < 0.55))));
            second.push(item(i, f64::from(u8::from(draw < 0.5 || (0.55..0.67).contains(&draw)))));
        }
        let (first, second): (Vec<&Row>, Vec<&Row>) = (first.iter().collect(), second.iter().collect());
        let (low, high) = paired(Metric::Acc, &first, &second).unwrap().difference.1;
        low <= 0.07 && 0.07 <= high
    });
    let share = held.count() as f64 / f64::from(RUNS);
    println!("differences: {share:.4}");
    // Two standard errors of 400 runs.
    assert!((share - 0.95).abs() < 0.022, "{share}");
}

/// Documents of 100 to 20,000 bytes, each with its own difficulty, as WikiText-2's test pages; last words with a long tail of hard ones.
#[test]
fn those_of_perplexities_hold_little_less() {
    const RUNS: u32 = 600;
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut share = |truth: f64, rows: &mut dyn FnMut(&mut ChaCha8Rng) -> (Metric, Vec<Row>)| {
        let held = (0..RUNS).filter(|_| {
            let (metric, rows) = rows(&mut rng);
            let (low, high) = figures(&[metric], &rows.iter().collect::<Vec<_>>())[0].interval.unwrap();
            (low..=high).contains(&truth)
        });
        held.count() as f64 / f64::from(RUNS)
    };
    let documents = share(1.0, &mut |rng| {
        let document = |i| {
            let bytes = (100.0 * 200f64.powf(rng.random::<f64>())) as u64;
            let bits = 1.0 + 0.2 * draw(0, rng);
            let answer = Answer::Document { loglikelihood: 0.0, tokens: 1, words: 1, bytes };
            row(i, answer, Metric::BitsPerByte, -bits * std::f64::consts::LN_2 * bytes as f64)
        };
        (Metric::BitsPerByte, (0..60).map(document).collect())
    });
    // A mean of -ln p of 1, exponentially distributed.
    let words = share(1f64.exp(), &mut |rng| {
        let word = |i| {
            let loglikelihood = (1.0 - rng.random::<f64>()).ln();
            let answer = Answer::Likelihood { loglikelihood, tokens: 1, greedy: true, truncated: 0 };
            row(i, answer, Metric::Perplexity, loglikelihood)
        };
        (Metric::Perplexity, (0..60).map(word).collect())
    });
    println!("60 documents: {documents:.4}, 60 words: {words:.4}");
    for share in [documents, words] {
        // Two standard errors of the runs below 94, and above 96.
        assert!((0.92..=0.976).contains(&share), "{share}");
    }
}
