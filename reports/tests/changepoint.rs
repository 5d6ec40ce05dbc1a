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
        // Of what is left to chance, one in a hundred tests finds more.
        assert!(found.len() <= case.changes.len() + 1, "{found:?}, the oracle has {:?}", case.changes);
        for want in &case.changes {
            let same = |found: &&reports::changepoint::Change| {
                found.at == want.at && (found.statistic - want.statistic).abs() < 1e-9 * want.statistic
            };
            assert!(found.iter().any(|change| same(&change)), "{found:?}, the oracle has {want:?}");
        }
    }
}
