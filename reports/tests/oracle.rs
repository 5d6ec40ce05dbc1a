//! Statistics and fits against NumPy's and SciPy's (`scripts/oracle/stats.py`).

use reports::fit::{Fit, Point};
use reports::stats::{estimate, geometric_mean, mad, median, quantile};
use serde::Deserialize;

/// Between which values the lower and the upper end of an interval lie.
type Ends = [(f64, f64); 2];

#[derive(Deserialize)]
struct Oracle {
    samples: Vec<Sample>,
    fits: Vec<Fitted>,
}

#[derive(Deserialize)]
struct Sample {
    values: Vec<f64>,
    median: f64,
    mad: f64,
    quantiles: Vec<(f64, f64)>,
    geometric_mean: f64,
    interval: (f64, f64),
}

#[derive(Deserialize)]
struct Fitted {
    points: Vec<(f64, f64, f64)>,
    overhead: f64,
    per_byte: f64,
    overhead_interval: Ends,
    bandwidth_interval: Ends,
    predicted_bytes: f64,
    predicted: f64,
    predicted_interval: Ends,
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("golden/oracle.json")).unwrap()
}

fn near(found: f64, want: f64, relative: f64) {
    assert!((found - want).abs() <= relative * want.abs().max(1e-12), "{found}, the oracle has {want}");
}

/// The oracle's ends are over every resample, these over 10,000 drawn ones.
fn inside(found: Option<(f64, f64)>, [low, high]: Ends) {
    let found = found.unwrap();
    let within = |end: f64, (from, to): (f64, f64)| end >= from - 1e-8 * from.abs() && end <= to + 1e-8 * to.abs();
    assert!(within(found.0, low) && within(found.1, high), "{found:?}, the oracle has {low:?} and {high:?}");
}

#[test]
fn samples() {
    for sample in oracle().samples {
        let values = &sample.values;
        near(median(values).unwrap(), sample.median, 1e-12);
        near(mad(values).unwrap(), sample.mad, 1e-9);
        near(geometric_mean(values).unwrap(), sample.geometric_mean, 1e-12);
        for (q, want) in sample.quantiles {
            near(quantile(values, q).unwrap(), want, 1e-12);
        }
        let found = estimate(values).unwrap().interval.unwrap();
        near(found.0, sample.interval.0, 1e-9);
        near(found.1, sample.interval.1, 1e-9);
    }
}

#[test]
fn fits() {
    for fitted in oracle().fits {
        let point = |&(block, bytes, seconds): &(f64, f64, f64)| Point { block: block as u32, bytes, seconds };
        let points: Vec<Point> = fitted.points.iter().map(point).collect();
        let fit = Fit::new(&points, 11).unwrap();
        near(fit.line.overhead, fitted.overhead, 1e-8);
        near(fit.line.per_byte, fitted.per_byte, 1e-8);
        let predicted = fit.predict(fitted.predicted_bytes);
        near(predicted.value, fitted.predicted, 1e-8);
        inside(fit.overhead().interval, fitted.overhead_interval);
        inside(fit.bandwidth().unwrap().interval, fitted.bandwidth_interval);
        inside(predicted.interval, fitted.predicted_interval);
    }
}
