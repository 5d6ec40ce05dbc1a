//! Exact rank statistics against SciPy's on random samples (`scripts/oracle/ranks.py`).

use reports::ranks::{Centre, centre, flips, shift};
use reports::stats::proportion;
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    paired: Vec<Paired>,
    two: Vec<Two>,
    shares: Vec<Share>,
}

#[derive(Deserialize)]
struct Share {
    k: u32,
    n: u32,
    alpha: f64,
    interval: (f64, f64),
}

#[derive(Deserialize)]
struct Paired {
    values: Vec<f64>,
    alpha: f64,
    estimate: f64,
    interval: Option<(f64, f64)>,
    flips: Option<f64>,
}

#[derive(Deserialize)]
struct Two {
    a: Vec<f64>,
    b: Vec<f64>,
    alpha: f64,
    estimate: f64,
    interval: Option<(f64, f64)>,
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("golden/ranks.json")).unwrap()
}

fn same(found: Centre, estimate: f64, interval: Option<(f64, f64)>, what: &str) {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
    assert!(near(found.estimate, estimate), "{what}: {found:?}, the oracle has {estimate}");
    match (found.interval, interval) {
        (Some(found), Some(want)) => {
            assert!(near(found.0, want.0) && near(found.1, want.1), "{what}: {found:?}, the oracle has {want:?}");
        }
        (found, want) => assert_eq!(found, want, "{what}"),
    }
}

#[test]
fn shares() {
    for Share { k, n, alpha, interval: want } in oracle().shares {
        let found = proportion(k, n, alpha);
        assert!((found.0 - want.0).abs() < 1e-9 && (found.1 - want.1).abs() < 1e-9, "{k}/{n}: {found:?}, {want:?}");
    }
}

#[test]
fn paired_differences() {
    let (mut with, mut without) = (0, 0);
    for case in oracle().paired {
        let found = centre(&case.values, case.alpha).unwrap();
        same(found, case.estimate, case.interval, &format!("{} at {}", case.values.len(), case.alpha));
        if let Some(want) = case.flips {
            let found = flips(&case.values).unwrap();
            assert!((found - want).abs() < 1e-9, "{found}, the oracle has {want}");
        }
        (with, without) = (with + u32::from(found.interval.is_some()), without + u32::from(found.interval.is_none()));
    }
    assert!(with > 10 && without > 2, "{with} {without}");
}

#[test]
fn two_samples() {
    for case in oracle().two {
        let found = shift(&case.a, &case.b, case.alpha).unwrap();
        let what = format!("{} and {} at {}", case.a.len(), case.b.len(), case.alpha);
        same(found, case.estimate, case.interval, &what);
    }
}
