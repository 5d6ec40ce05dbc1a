//! When a series of paired rounds is enough, and what it then says.

use super::{Judged, Verdict};
use crate::ranks::{Centre, centre};
use suites::gate::Rule;

/// What is to be done about a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Measure on: there is no look at this number of rounds, or it was not clear.
    More,
    /// The look was clear, or it was the last.
    Done(Judged),
    /// A change was seen: fresh rounds are to confirm it.
    Confirm(Judged),
}

/// Judges the first look of `rule` that `effects` has just reached; `last` makes this the last look whatever the number.
///
/// An effect is the logarithm of the candidate's cost over the baseline's in one round: above 0 it is worse. Looks share the
/// probability of a false alarm equally (Bonferroni), so that stopping early does not add to it.
pub fn look(effects: &[f64], rule: &Rule, threshold: f64, last: bool) -> Next {
    let n = effects.len();
    let planned = rule.looks.iter().any(|&look| look as usize == n);
    let is_last = last || rule.looks.iter().all(|&look| look as usize <= n);
    if !planned && !is_last {
        return Next::More;
    }
    let found = centre(effects, rule.alpha / rule.looks.len() as f64);
    let Some(Centre { estimate, interval: Some((lo, hi)), .. }) = found else {
        let verdict = Judged { verdict: Verdict::Inconclusive, estimate: found.map(|c| c.estimate), interval: None, n };
        return if is_last { Next::Done(verdict) } else { Next::More };
    };
    let judged = |verdict| Judged { verdict, estimate: Some(estimate), interval: Some((lo, hi)), n };
    let limit = threshold.ln_1p();
    if lo > 0.0 && estimate > limit {
        Next::Confirm(judged(Verdict::Regressed))
    } else if hi < 0.0 && estimate < -limit {
        Next::Confirm(judged(Verdict::Improved))
    } else if hi < limit && lo > -limit {
        Next::Done(judged(Verdict::Unchanged))
    } else if is_last {
        Next::Done(judged(Verdict::Inconclusive))
    } else {
        Next::More
    }
}

/// Judges fresh rounds that were to confirm `seen`. They alone must exclude no change in the same direction; the estimate over
/// all rounds must still exceed the threshold. What they do not confirm is inconclusive, or unchanged where they are clear of it.
pub fn confirm(seen: Judged, before: &[f64], fresh: &[f64], rule: &Rule, threshold: f64) -> Judged {
    let all: Vec<f64> = before.iter().chain(fresh).copied().collect();
    let n = all.len();
    let together = centre(&all, rule.alpha / rule.looks.len() as f64);
    let again = centre(fresh, rule.confirm_alpha).and_then(|centre| centre.interval);
    let (estimate, interval) = (together.map(|c| c.estimate), together.and_then(|c| c.interval));
    let limit = threshold.ln_1p();
    let verdict = match (again, estimate, seen.verdict) {
        (Some((lo, _)), Some(estimate), Verdict::Regressed) if lo > 0.0 && estimate > limit => Verdict::Regressed,
        (Some((_, hi)), Some(estimate), Verdict::Improved) if hi < 0.0 && estimate < -limit => Verdict::Improved,
        (Some((lo, hi)), _, _) if lo > -limit && hi < limit => Verdict::Unchanged,
        _ => Verdict::Inconclusive,
    };
    Judged { verdict, estimate, interval, n }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule { looks: vec![10, 20], alpha: 0.01, confirm: 10, confirm_alpha: 0.01, ..Rule::default() }
    }

    /// `n` effects around `centre`, symmetric, of a given spread.
    fn around(centre: f64, spread: f64, n: usize) -> Vec<f64> {
        (0..n).map(|i| centre + spread * ((i as f64 + 0.5) / n as f64 - 0.5)).collect()
    }

    fn done(next: Next) -> Verdict {
        match next {
            Next::Done(judged) => judged.verdict,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn looks_are_where_the_rule_has_them() {
        assert_eq!(look(&around(0.2, 0.01, 9), &rule(), 0.02, false), Next::More);
        assert!(
            matches!(look(&around(0.2, 0.01, 10), &rule(), 0.02, false), Next::Confirm(j) if j.verdict == Verdict::Regressed)
        );
        assert!(
            matches!(look(&around(-0.2, 0.01, 10), &rule(), 0.02, false), Next::Confirm(j) if j.verdict == Verdict::Improved)
        );
        assert_eq!(done(look(&around(0.001, 0.01, 10), &rule(), 0.02, false)), Verdict::Unchanged);
        // As wide as this, ten rounds are not clear, and twenty are the last.
        assert_eq!(look(&around(0.0, 0.2, 10), &rule(), 0.02, false), Next::More);
        assert_eq!(done(look(&around(0.0, 0.2, 20), &rule(), 0.02, false)), Verdict::Inconclusive);
        // Out of time before the first look: too few rounds for an interval.
        assert_eq!(done(look(&around(0.2, 0.01, 4), &rule(), 0.02, true)), Verdict::Inconclusive);
    }

    #[test]
    fn a_change_below_the_threshold_is_none() {
        // Surely not 0, and surely below 2 %.
        assert_eq!(done(look(&around(0.01, 0.002, 10), &rule(), 0.02, false)), Verdict::Unchanged);
    }

    #[test]
    fn only_fresh_rounds_confirm() {
        let before = around(0.05, 0.02, 10);
        let Next::Confirm(seen) = look(&before, &rule(), 0.02, false) else { panic!() };
        let verdict = |fresh: &[f64]| confirm(seen, &before, fresh, &rule(), 0.02).verdict;
        assert_eq!(verdict(&around(0.05, 0.02, 10)), Verdict::Regressed);
        assert_eq!(verdict(&around(0.0, 0.02, 10)), Verdict::Unchanged);
        assert_eq!(verdict(&around(0.0, 0.2, 10)), Verdict::Inconclusive);
        assert_eq!(verdict(&around(-0.05, 0.02, 10)), Verdict::Inconclusive);
        assert_eq!(verdict(&[0.05; 3]), Verdict::Inconclusive);
    }
}
