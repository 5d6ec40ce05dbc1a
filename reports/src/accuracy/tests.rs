use super::*;

fn row(index: u32, answer: Answer, scores: &[(Metric, f64)]) -> Row {
    Row { index, prompt: "0".to_owned(), answer, scores: scores.iter().copied().collect() }
}

fn item(index: u32, acc: f64) -> Row {
    let answer = Answer::Choices {
        loglikelihoods: vec![-1.0, -2.0],
        tokens: vec![1, 1],
        gold: vec![0],
        choice: 0,
        choice_norm: 0,
        truncated: 0,
    };
    row(index, answer, &[(Metric::Acc, acc)])
}

fn items(scores: &[f64]) -> Vec<Row> {
    (0..).zip(scores).map(|(index, &acc)| item(index, acc)).collect()
}

#[test]
fn accuracy_by_hand() {
    // Three of four: mean 0.75, sample variance 4 * 3/16 / 3 = 1/4, standard error 0.5 / 2.
    let rows = items(&[1.0, 1.0, 0.0, 1.0]);
    let found = figures(&[Metric::Acc, Metric::AccNorm], &rows.iter().collect::<Vec<_>>());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].metric, found[0].value, found[0].stderr), (Metric::Acc, 0.75, Some(0.25)));
    // Of 256 resamples one has no hit, twelve have one (4.7 %), so 2.5 % lies at 0.25.
    assert_eq!(found[0].interval, Some((0.25, 1.0)));
    let single = items(&[1.0]);
    let found = figures(&[Metric::Acc], &[&single[0]]);
    assert_eq!((found[0].value, found[0].stderr, found[0].interval), (1.0, None, None));
    assert_eq!(figures(&[Metric::Acc], &[]), []);
}

#[test]
fn the_interval_of_many_items_is_the_normal_one() {
    let rows = items(&(0..1000).map(|i| f64::from(u8::from(i % 10 < 3))).collect::<Vec<_>>());
    let found = figures(&[Metric::Acc], &rows.iter().collect::<Vec<_>>());
    let (low, high) = found[0].interval.unwrap();
    // sqrt(0.3 * 0.7 / 999) = 0.014499; 1.96 of them: 0.0284.
    assert!((found[0].stderr.unwrap() - 0.014_499).abs() < 1e-6);
    assert!((low - 0.2716).abs() < 0.003 && (high - 0.3284).abs() < 0.003, "{low} {high}");
}

#[test]
fn perplexities_weigh_words_and_bytes() {
    let page = |index, loglikelihood, words, bytes| {
        let answer = Answer::Document { loglikelihood, tokens: 9, words, bytes };
        let all = [Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte];
        row(index, answer, &all.map(|metric| (metric, loglikelihood)))
    };
    let (one, two) = (page(0, -30.0, 10, 60), page(1, -50.0, 30, 140));
    let found = figures(&[Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte], &[&one, &two]);
    let values: Vec<f64> = found.iter().map(|figure| figure.value).collect();
    // 80 nats over 40 words, over 200 bytes.
    let expected = [2f64.exp(), 0.4f64.exp(), 0.4 / std::f64::consts::LN_2];
    values.iter().zip(expected).for_each(|(found, expected)| assert!((found - expected).abs() < 1e-12));
    let (low, high) = found[0].interval.unwrap();
    assert!(low <= values[0] && values[0] <= high && found[0].stderr.unwrap() > 0.0);
}

#[test]
fn skipped_items_are_in_no_figure() {
    let skipped = row(7, Answer::Skipped { reason: "too long".to_owned() }, &[]);
    let rows = items(&[1.0, 0.0]);
    let found = figures(&[Metric::Acc], &[&rows[0], &skipped, &rows[1]]);
    assert_eq!(found[0].value, 0.5);
    assert_eq!(skipped.skipped(), Some("too long"));
}

#[test]
fn mcnemar_is_the_binomial() {
    // scipy.stats.binomtest(min(b, c), b + c, 0.5).pvalue
    for (b, c, p) in [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (0, 6, 0.03125),
        (3, 12, 0.03515625),
        (10, 25, 0.016_673_847_800_120_71),
        (100, 150, 0.001_883_300_935_076_157),
    ] {
        let found = mcnemar(b, c);
        assert!((found - p).abs() < 1e-9 * p.max(1e-3), "{b} {c}: {found}, not {p}");
        assert_eq!(found, mcnemar(c, b));
    }
    assert!(mcnemar(40_000, 40_500) > 0.07 && mcnemar(4_000, 5_000) < 1e-20);
}

#[test]
fn pairs_are_of_the_same_items() {
    let first = items(&[1.0, 1.0, 0.0, 0.0, 1.0]);
    let mut second = items(&[1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    second.reverse();
    let (first, second): (Vec<&Row>, Vec<&Row>) = (first.iter().collect(), second.iter().collect());
    let found = paired(Metric::Acc, &first, &second).unwrap();
    assert_eq!((found.n, found.values, found.discordant), (5, (0.6, 0.4), (2, 1)));
    assert!((found.difference.0 + 0.2).abs() < 1e-12 && found.p == 1.0);
    let ((low, high), difference) = (found.difference.1, found.difference.0);
    assert!(low <= difference && difference <= high);
    assert_eq!(paired(Metric::AccNorm, &first, &second), None);
    let graded = items(&[0.5]);
    assert_eq!(paired(Metric::Acc, &[&graded[0]], &[&graded[0]]), None);
}

#[test]
fn equal_seeds_give_equal_figures() {
    let rows = items(&(0..57).map(|i| f64::from(u8::from(i % 3 == 0))).collect::<Vec<_>>());
    let rows: Vec<&Row> = rows.iter().collect();
    assert_eq!(figures(&[Metric::Acc], &rows), figures(&[Metric::Acc], &rows));
}

#[test]
fn all_right_is_not_certain() {
    let rows = items(&[1.0; 100]);
    let found = figures(&[Metric::Acc], &rows.iter().collect::<Vec<_>>());
    // scipy.stats.beta.ppf(0.025, 100, 1)
    let (low, high) = found[0].interval.unwrap();
    assert!((low - 0.963_783_3).abs() < 1e-6 && high == 1.0 && found[0].stderr == Some(0.0), "{low}");
    let rows = items(&[0.0; 100]);
    let found = figures(&[Metric::Acc], &rows.iter().collect::<Vec<_>>());
    assert!(found[0].interval.is_some_and(|(low, high)| low == 0.0 && (high - 0.036_216_7).abs() < 1e-6));
}
