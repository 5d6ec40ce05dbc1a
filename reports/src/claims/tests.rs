use super::judge::{of_figure, overall};
use super::*;
use suites::claim::{self, Metric};
use suites::published::Published;

fn estimate(value: f64, lo: f64, hi: f64) -> Estimate {
    Estimate { value, interval: Some((lo, hi)), n: 5 }
}

#[test]
fn an_interval_is_held_against_the_band() {
    let band = (3.6, 4.4);
    let of = |lo, hi| of_figure(estimate((lo + hi) / 2.0, lo, hi), band, false);
    assert_eq!(of(4.5, 4.9), Verdict::Exceeded);
    assert_eq!(of(3.7, 4.1), Verdict::Reproduced);
    assert_eq!(of(3.6, 5.0), Verdict::Reproduced, "no worse than the band, whatever it may be");
    assert_eq!(of(3.0, 3.7), Verdict::Undecided);
    assert_eq!(of(3.0, 9.0), Verdict::Undecided);
    assert_eq!(of(2.0, 3.5), Verdict::NotReproduced);
    // Of what falls the other way round.
    let of = |lo, hi| of_figure(estimate((lo + hi) / 2.0, lo, hi), band, true);
    assert_eq!(of(3.0, 3.5), Verdict::Exceeded);
    assert_eq!(of(3.0, 4.4), Verdict::Reproduced);
    assert_eq!(of(4.3, 4.5), Verdict::Undecided);
    assert_eq!(of(4.5, 9.0), Verdict::NotReproduced);
    // Without interval it is computed: the figure or not.
    let computed = |value| of_figure(Estimate { value, interval: None, n: 0 }, band, true);
    assert_eq!((computed(3.6), computed(3.0)), (Verdict::Reproduced, Verdict::NotReproduced));
}

#[test]
fn a_claim_is_what_its_figures_are() {
    use Verdict::{Exceeded as E, NotReproduced as N, NotTestable as T, Partly as P, Reproduced as R, Undecided as U};
    let cases: [(&[Verdict], Verdict); 12] = [
        (&[T, T], T),
        (&[E, T], E),
        (&[E, R], R),
        (&[R, R, T], R),
        (&[R, N], P),
        (&[E, U], P),
        (&[N, N, T], N),
        (&[N, U], N),
        (&[U, T], U),
        (&[E, N, U, T], P),
        (&[E, E], E),
        (&[], T),
    ];
    for (verdicts, want) in cases {
        let part = |&verdict: &Verdict| Part {
            of: "x".to_owned(),
            published: 1.0,
            band: (0.9, 1.1),
            verdict,
            ours: Err("not run".to_owned()),
        };
        assert_eq!(overall(&verdicts.iter().map(part).collect::<Vec<_>>()), want, "{verdicts:?}");
    }
}

#[test]
fn figures_of_shapes_are_computed_anew() {
    let claims = claim::embedded().unwrap();
    let of = |id: &str| judge::answer(claims.iter().find(|claim| claim.id == id).unwrap(), &[], &BTreeMap::new());
    let energy = of("2b4t-arithmetic-energy");
    assert_eq!(energy.verdict, Verdict::Reproduced, "{:?}", energy.parts);
    assert!(energy.parts.iter().all(|part| part.ours.as_ref().unwrap().kind.starts_with("modelled")));
    let memory = of("2b4t-memory");
    // 2,441.9M weights of 16 bits are 4.88 GB, printed as 4.8: the paper rounds the count first, or down.
    let fails: Vec<&str> =
        memory.parts.iter().filter(|p| p.verdict == Verdict::NotReproduced).map(|p| p.of.as_str()).collect();
    assert_eq!((memory.verdict, fails), (Verdict::Partly, vec!["MiniCPM 2B"]), "{:?}", memory.parts);
    let own = memory.parts[0].ours.as_ref().unwrap().estimate.value;
    assert!((own - 0.4117).abs() < 5e-4, "{own} GB");
    assert!(memory.differs.is_empty());
}

#[test]
fn without_a_run_the_rest_is_not_testable() {
    let published = Published::embedded().unwrap();
    let text = "[[claim]]\nid = \"a\"\ntext = \"b\"\nwhy = \"c\"\nwithin = 0.1\nmetric = \"tpot_ms\"\nsource = \"s\"\nfigures = [{ of = \"7b\", value = 1.0 }]\n";
    let claims = claim::parse(text, "own.toml", &published).unwrap();
    assert_eq!(claims[0].metric, Metric::TpotMs);
    let answer = judge::answer(&claims[0], &[], &BTreeMap::new());
    assert_eq!((answer.verdict, answer.parts[0].ours.clone()), (Verdict::NotTestable, Err("no run".to_owned())));
}
