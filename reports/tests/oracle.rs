//! Statistics and fits against NumPy's and SciPy's (`scripts/oracle/stats.py`).

use reports::fit::{Fit, Point};
use reports::stats::{CONFIDENCE, estimate, geometric_mean, mad, median, quantile, student};
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    samples: Vec<Sample>,
    fits: Vec<Fitted>,
    student: Vec<(u32, f64)>,
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
    overhead_interval: (f64, f64),
    bandwidth_interval: (f64, f64),
    predicted_bytes: f64,
    predicted: f64,
    predicted_interval: (f64, f64),
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("golden/oracle.json")).unwrap()
}

fn near(found: f64, want: f64, relative: f64) {
    assert!((found - want).abs() <= relative * want.abs().max(1e-12), "{found}, the oracle has {want}");
}

fn ends(found: Option<(f64, f64)>, want: (f64, f64)) {
    let found = found.unwrap();
    near(found.0, want.0, 1e-8);
    near(found.1, want.1, 1e-8);
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
        let fit = Fit::new(&points).unwrap();
        near(fit.line.overhead, fitted.overhead, 1e-8);
        near(fit.line.per_byte, fitted.per_byte, 1e-8);
        let predicted = fit.predict(fitted.predicted_bytes);
        near(predicted.value, fitted.predicted, 1e-8);
        ends(fit.overhead().interval, fitted.overhead_interval);
        ends(fit.bandwidth().unwrap().interval, fitted.bandwidth_interval);
        ends(predicted.interval, fitted.predicted_interval);
    }
}

#[test]
fn students_t() {
    for (freedom, want) in oracle().student {
        near(student(freedom, CONFIDENCE), want, 1e-9);
    }
    assert_eq!(student(0, CONFIDENCE), f64::INFINITY);
}
