//! Change points against NumPy's statistic, every split tried (`scripts/oracle/changepoint.py`).

use reports::changepoint::changes;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    values: Vec<f64>,
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    at: usize,
    statistic: f64,
}

#[test]
fn clear_changes_are_found_where_they_are() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/changepoint.json")).unwrap();
    assert!(cases.len() > 3);
    for case in cases {
        let found = changes(&case.values);
        assert_eq!(
            found.iter().map(|change| change.at).collect::<Vec<_>>(),
            case.changes.iter().map(|change| change.at).collect::<Vec<_>>(),
            "{found:?}, the oracle has {:?}",
            case.changes
        );
        for (found, want) in found.iter().zip(&case.changes) {
            let off = (found.statistic - want.statistic).abs() / want.statistic;
            assert!(off < 1e-9 && found.p <= 0.01, "{found:?}, the oracle has {want:?}");
        }
    }
}
