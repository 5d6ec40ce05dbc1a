//! Statistics and fits against NumPy's and SciPy's (`scripts/oracle/stats.py`).

use reports::fit::{Fit, Point};
use reports::stats::{Bootstrap, geometric_mean, mad, median, quantile};
use serde::Deserialize;

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
    low: (f64, f64),
    high: (f64, f64),
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

#[test]
fn samples() {
    let mut bootstrap = Bootstrap::new(5);
    for sample in oracle().samples {
        let values = &sample.values;
        near(median(values).unwrap(), sample.median, 1e-12);
        near(mad(values).unwrap(), sample.mad, 1e-9);
        near(geometric_mean(values).unwrap(), sample.geometric_mean, 1e-12);
        for (q, want) in sample.quantiles {
            near(quantile(values, q).unwrap(), want, 1e-12);
        }
        let (low, high) = bootstrap.median(values).unwrap().interval.unwrap();
        let inside = |found: f64, (from, to): (f64, f64)| found >= from - 1e-12 && found <= to + 1e-12;
        assert!(inside(low, sample.low) && inside(high, sample.high), "{values:?}: {low} {high}");
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
        // Exact ends over all resamples against those of 10,000 drawn ones: within 3 % of the interval's width.
        let ends = |found: (f64, f64), want: (f64, f64)| {
            let slack = 0.03 * (want.1 - want.0) + 1e-12 * want.1.abs();
            assert!((found.0 - want.0).abs() <= slack, "{found:?}, the oracle has {want:?}");
            assert!((found.1 - want.1).abs() <= slack, "{found:?}, the oracle has {want:?}");
        };
        ends(fit.overhead().interval.unwrap(), fitted.overhead_interval);
        ends(fit.bandwidth().unwrap().interval.unwrap(), fitted.bandwidth_interval);
        ends(predicted.interval.unwrap(), fitted.predicted_interval);
    }
}
