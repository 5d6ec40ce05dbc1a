//! How far each series of a gate is, and whether rounds go on: the same for real gates and for virtual ones.

use super::{Judged, Next, Series, confirm, look};
use suites::gate::{Metric, Rule};

/// How far a series is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Not judged.
    Open,
    /// A change was seen after so many rounds; fresh ones are to confirm it.
    Seen(Judged, usize),
    /// Judged.
    Done(Judged),
}

/// A series and how far it is.
#[derive(Clone, Debug)]
pub struct Track {
    /// What is judged.
    pub metric: Metric,
    /// The rounds there are.
    pub series: Series,
    /// Cells whose rounds it is made of.
    pub cells: Vec<usize>,
    state: State,
}

impl Track {
    /// A series without a round.
    pub fn new(metric: Metric, of: String, cells: Vec<usize>) -> Track {
        let series = Series { metric: metric.name.clone(), of, rounds: Vec::new() };
        Track { metric, series, cells, state: State::Open }
    }

    /// Whether it is to go on.
    pub fn wants(&self) -> bool {
        match self.state {
            // A metric that has no figure here has none in the next round either.
            State::Open => self.metric.drives && !self.series.rounds.is_empty(),
            State::Seen(..) => true,
            State::Done(_) => false,
        }
    }

    /// What is said of it; `None` where there is nothing to judge.
    pub fn judged(&self, rule: &Rule) -> Option<Judged> {
        match self.state {
            State::Open => None,
            State::Seen(seen, before) => {
                let effects = self.series.effects();
                Some(confirm(seen, &effects[..before], &effects[before..], rule, self.metric.threshold))
            }
            State::Done(judged) => Some(judged),
        }
    }

    /// Whether a change was seen, and not all rounds were run that were to confirm it.
    pub fn unconfirmed(&self) -> bool {
        matches!(self.state, State::Seen(..))
    }

    /// Looks at it: if it drives, whenever the rule has a look; in any case with `last`.
    fn look(&mut self, rule: &Rule, last: bool) {
        let effects = self.series.effects();
        let threshold = self.metric.threshold;
        self.state = match self.state {
            State::Open if effects.is_empty() => State::Open,
            State::Open if last || self.metric.drives => match look(&effects, rule, threshold, last) {
                Next::More => State::Open,
                Next::Done(judged) => State::Done(judged),
                Next::Confirm(judged) => State::Seen(judged, effects.len()),
            },
            State::Seen(seen, before) if effects.len() >= before + rule.confirm as usize => {
                State::Done(confirm(seen, &effects[..before], &effects[before..], rule, threshold))
            }
            state => state,
        };
    }
}

/// Looks at every series after a round; whether there is to be another one. `last` says that there can be none, `able` whether a
/// series can have more rounds.
pub fn go_on(tracks: &mut [Track], rule: &Rule, last: bool, able: impl Fn(&Track) -> bool) -> bool {
    tracks.iter_mut().for_each(|track| track.look(rule, last));
    let busy = |tracks: &[Track]| !last && tracks.iter().any(|track| track.wants() && able(track));
    if busy(tracks) {
        return true;
    }
    // What drives nothing is looked at once, when all else is judged; what is then suspected is measured on.
    tracks.iter_mut().for_each(|track| track.look(rule, true));
    busy(tracks)
}
