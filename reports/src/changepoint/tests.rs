use super::*;

/// Sums of twelve uniform numbers: nearly normal, of mean 0 and deviation 1.
fn noise(rng: &mut ChaCha8Rng, count: usize) -> Vec<f64> {
    (0..count).map(|_| (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0).collect()
}

fn places(values: &[f64]) -> Vec<usize> {
    changes(values).iter().map(|change| change.at).collect()
}

/// Of 0, 1, 2 and 10, 11, 12: the mean distance between is 10, within 4/3 on each side; 3 · 3 / 6 · (20 - 8/3) = 26.
/// Of three 0 and three 1: 1.5 · (2 - 0) = 3.
#[test]
fn by_hand() {
    let split = best_of(&[0.0, 1.0, 2.0, 10.0, 11.0, 12.0]).unwrap();
    assert!(split.at == 3 && (split.statistic - 26.0).abs() < 1e-12, "{split:?}");
    let split = best_of(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
    assert!(split.at == 3 && (split.statistic - 3.0).abs() < 1e-12, "{split:?}");
    assert!(best_of(&[0.0, 1.0, 2.0, 3.0, 4.0]).is_none(), "no room for two sides of three");
}

/// The definition, pair by pair.
fn plainly(before: &[f64], after: &[f64]) -> f64 {
    let mean = |one: &[f64], other: &[f64], same: bool| {
        let pairs = one.iter().enumerate().flat_map(|(i, a)| other.iter().enumerate().map(move |(j, b)| (i, j, a - b)));
        let far: Vec<f64> = pairs.filter(|(i, j, _)| !same || i < j).map(|(_, _, d)| d.abs()).collect();
        far.iter().sum::<f64>() / far.len() as f64
    };
    let (n, m) = (before.len() as f64, after.len() as f64);
    let energy = 2.0 * mean(before, after, false) - mean(before, before, true) - mean(after, after, true);
    n * m / (n + m) * energy
}

#[test]
fn sums_by_stretches_are_the_definition() {
    let values = noise(&mut ChaCha8Rng::seed_from_u64(3), 17);
    let within = Within::new(&values);
    for at in 2..values.len() - 2 {
        for end in at + 2..=values.len() {
            let (found, want) = (within.statistic(at, end), plainly(&values[..at], &values[at..end]));
            assert!((found - want).abs() < 1e-9, "{at} {end}: {found} {want}");
        }
    }
}

#[test]
fn nothing_changes_in_a_constant_or_in_what_is_no_number() {
    assert!(changes(&[7.5; 60]).is_empty());
    assert!(changes(&[]).is_empty() && changes(&[1.0, 2.0]).is_empty());
    let mut values = vec![0.0; 10];
    values.extend([9.0; 10]);
    assert_eq!(places(&values), [10]);
    values[4] = f64::NAN;
    assert!(changes(&values).is_empty());
}

#[test]
fn one_odd_run_or_two_are_no_change() {
    let mut values = noise(&mut ChaCha8Rng::seed_from_u64(8), 30);
    values[14] = 40.0;
    values[15] = 40.0;
    assert!(changes(&values).is_empty(), "{:?}", changes(&values));
}

#[test]
fn few_runs_never_suffice() {
    for count in 3..=4 {
        let values: Vec<f64> = (0..2 * count).map(|i| if i < count { 0.0 } else { 100.0 }).collect();
        assert!(changes(&values).is_empty(), "{count} and {count}");
    }
    assert_eq!(places(&[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 9.0, 9.1, 9.2, 9.3, 9.4, 9.5]), [6]);
}

#[test]
fn a_shift_is_found_where_it_is() {
    let mut values = noise(&mut ChaCha8Rng::seed_from_u64(4), 40);
    values[23..].iter_mut().for_each(|v| *v -= 5.0);
    let found = changes(&values);
    assert_eq!(found.iter().map(|c| c.at).collect::<Vec<_>>(), [23]);
    assert!(found[0].p <= LEVEL && found[0].p >= 1.0 / f64::from(PERMUTATIONS + 1));
    assert_eq!(changes(&values), found, "the same values, the same answer");
    let scaled: Vec<f64> = values.iter().map(|v| v * 3.0 + 1000.0).collect();
    assert_eq!(places(&scaled), [23], "whatever the unit");
}

#[test]
fn two_shifts_are_found_even_if_the_second_undoes_the_first() {
    for back in [0.0, 8.0] {
        let mut values = noise(&mut ChaCha8Rng::seed_from_u64(5), 45);
        values[15..30].iter_mut().for_each(|v| *v += 4.0);
        values[30..].iter_mut().for_each(|v| *v += back);
        assert_eq!(places(&values), [15, 30], "{back}");
    }
}

#[test]
fn the_latest_values_of_a_long_series_are_looked_at() {
    let mut values = vec![50.0; 30];
    values.extend([0.0; LONGEST - 20]);
    values.extend([1.0; 20]);
    assert_eq!(places(&values), [10 + LONGEST], "what is older is not");
}

/// At 5 % ten of 200 quiet series are expected to alarm; of the binomial distribution 4 to 18 is all but 1.3 %. At 1 % two are, and
/// more than six are seen once in 220 times. Seeded: what is seen once is always seen.
#[test]
fn false_alarms_are_as_rare_as_the_level_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let quiet: Vec<Vec<f64>> = (0..200).map(|_| noise(&mut rng, 20)).collect();
    let alarms = |level: f64| quiet.iter().filter(|values| !changes_at(values, level).is_empty()).count();
    let (usual, strict) = (alarms(0.05), alarms(LEVEL));
    assert!((4..=18).contains(&usual), "{usual} of 200 at 5 %");
    assert!(strict <= 6, "{strict} of 200 at 1 %");
}
