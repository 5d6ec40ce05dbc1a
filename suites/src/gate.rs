//! What a gate judges (`gates.toml`): its suite, its rule and its metrics with their thresholds.

use crate::definition::parse_duration;
use crate::error::Error;
use crate::model::with_hint;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const GATES: &str = include_str!("../gates.toml");
const ORIGIN: &str = "gates.toml";

/// Where a metric's figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nanoseconds of a decoded token.
    Decode,
    /// Nanoseconds of a prompt's token.
    Prefill,
    /// Of a ternary cell's decode over that of the f16 cell beside it.
    Ratio,
    /// Nanoseconds to a prompt's first token.
    Ttft,
    /// Nanoseconds from the request to a model ready to run.
    Load,
    /// Bytes of the peak resident set.
    Memory,
    /// Measured microjoules of a token.
    Joules,
    /// Instructions of a token over a process's last windows, by the CPU's own counter.
    Pmu,
    /// A task's figure, the same every time.
    Accuracy,
    /// Digest of the answer, the same every time.
    Answer,
    /// Bytes of the program's file.
    Binary,
    /// Instructions of a token, counted and not timed.
    Instructions,
}

impl Kind {
    /// Whether it is measured round by round, as it differs from one process to the next.
    pub fn by_rounds(self) -> bool {
        !matches!(self, Kind::Accuracy | Kind::Answer | Kind::Binary | Kind::Instructions)
    }

    /// Unit of its cost.
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Decode | Kind::Prefill => "ns/token",
            Kind::Ratio => "x",
            Kind::Ttft | Kind::Load => "ns",
            Kind::Memory | Kind::Binary => "bytes",
            Kind::Joules => "uJ/token",
            Kind::Accuracy | Kind::Answer => "",
            Kind::Instructions | Kind::Pmu => "instructions/token",
        }
    }
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Where its figures come from.
    pub kind: Kind,
    /// Least change that counts, as a part of the baseline.
    pub threshold: f64,
    /// Whether rounds go on until it is judged.
    #[serde(default)]
    pub drives: bool,
    /// Where the threshold comes from.
    pub why: String,
}

/// When rounds are enough.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Numbers of rounds after which is looked, ascending.
    pub looks: Vec<u32>,
    /// Probability of a false suspicion over all looks, both directions.
    pub alpha: f64,
    /// Fresh rounds that must confirm a suspicion.
    pub confirm: u32,
    /// Probability that they confirm a false one, both directions.
    pub confirm_alpha: f64,
    /// Time for the turns of a round, if a window is not longer than that.
    pub turns: Duration,
    /// Time for all rounds.
    pub budget: Duration,
    /// How far times of a machine drift from one run to another, as a part: added to the thresholds of recorded runs.
    pub drift: f64,
    /// Seed of the order within rounds.
    pub seed: u64,
}

/// What a gate judges.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// The suite whose cells are measured.
    pub suite: String,
    /// When rounds are enough.
    pub rule: Rule,
    /// The metrics.
    pub metrics: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    suite: String,
    rule: WireRule,
    metric: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRule {
    looks: Vec<u32>,
    alpha: f64,
    confirm: u32,
    confirm_alpha: f64,
    turns: String,
    budget: String,
    drift: f64,
    seed: u64,
}

/// Most rounds of any look: beyond it, the figures of a night would not come to an end.
const MOST_ROUNDS: u32 = 1000;

impl Gates {
    /// The gates that come with the program.
    ///
    /// # Errors
    /// None in a tested build: the embedded file is checked by this crate's tests.
    pub fn embedded() -> Result<Gates, Error> {
        Gates::parse(GATES, ORIGIN)
    }

    /// Reads gates from a TOML text.
    ///
    /// # Errors
    /// Syntax, unknown keys, numbers that can't be: the key is named, what was expected and what stands there.
    pub fn parse(text: &str, origin: &str) -> Result<Gates, Error> {
        let parse = |e: toml::de::Error| Error::Parse { origin: origin.to_owned(), message: with_hint(&e.to_string()) };
        let Wire { suite, rule, metric: metrics } = toml::from_str(text).map_err(parse)?;
        let bad = |key: &str, expected: &str, found: String| Error::Value {
            origin: origin.to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let rounds = |n: &u32| (1..=MOST_ROUNDS).contains(n);
        if rule.looks.is_empty() || !rule.looks.iter().all(rounds) || !rule.looks.is_sorted_by(|a, b| a < b) {
            let expected = format!("ascending numbers of rounds from 1 to {MOST_ROUNDS}");
            return Err(bad("rule.looks", &expected, format!("{:?}", rule.looks)));
        }
        if !rounds(&rule.confirm) {
            return Err(bad("rule.confirm", &format!("1 to {MOST_ROUNDS}"), rule.confirm.to_string()));
        }
        for (key, value) in [("rule.alpha", rule.alpha), ("rule.confirm_alpha", rule.confirm_alpha)] {
            if !(value > 0.0 && value <= 0.5) {
                return Err(bad(key, "a probability above 0, at most 0.5", value.to_string()));
            }
        }
        if !(0.0..10.0).contains(&rule.drift) {
            return Err(bad("rule.drift", "a part from 0 to 10", rule.drift.to_string()));
        }
        let duration = |key: &str, text: &str| {
            parse_duration(text).ok_or_else(|| bad(key, "a duration such as 600ms, 90s or 3m", format!("`{text}`")))
        };
        let (turns, budget) = (duration("rule.turns", &rule.turns)?, duration("rule.budget", &rule.budget)?);
        for (index, metric) in metrics.iter().enumerate() {
            let key = |name: &str| format!("metric `{}`: {name}", metric.name);
            if metrics[..index].iter().any(|other| other.name == metric.name) {
                return Err(bad(&key("name"), "a name that no other metric has", format!("`{}`", metric.name)));
            }
            if !(metric.threshold >= 0.0 && metric.threshold < 10.0) {
                return Err(bad(&key("threshold"), "a part from 0 to 10", metric.threshold.to_string()));
            }
            if metric.kind.by_rounds() && metric.threshold == 0.0 {
                return Err(bad(&key("threshold"), "more than 0, as it is measured", "0".to_owned()));
            }
        }
        if metrics.is_empty() {
            return Err(bad("metric", "at least one", "none".to_owned()));
        }
        let WireRule { looks, alpha, confirm, confirm_alpha, drift, seed, .. } = rule;
        Ok(Gates { suite, rule: Rule { looks, alpha, confirm, confirm_alpha, turns, budget, drift, seed }, metrics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_gates_can_be_judged() {
        let gates = Gates::embedded().unwrap();
        assert!(crate::Catalogue::embedded().unwrap().suite(&gates.suite).is_ok());
        assert!(gates.metrics.iter().any(|metric| metric.drives));
        // The first look has an exact interval: all signs alike have a probability below its share of alpha.
        let share = gates.rule.alpha / gates.rule.looks.len() as f64;
        assert!(0.5f64.powi(gates.rule.looks[0] as i32 - 1) <= share);
        assert!(0.5f64.powi(gates.rule.confirm as i32 - 1) <= gates.rule.confirm_alpha);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        let whole = GATES;
        for (from, to, message) in [
            ("looks = [10, 20, 40]", "looks = [10, 5]", "rule.looks: expected ascending"),
            ("looks = [10, 20, 40]", "looks = []", "rule.looks: expected ascending"),
            ("alpha = 0.01", "alpha = 0.0", "rule.alpha: expected a probability"),
            ("alpha = 0.01", "alpha = nan", "rule.alpha: expected a probability"),
            ("confirm = 10", "confirm = 0", "rule.confirm: expected 1 to 1000, found 0"),
            ("drift = 0.15", "drift = -0.1", "rule.drift: expected a part from 0 to 10, found -0.1"),
            ("turns = \"600ms\"", "turns = \"x\"", "rule.turns: expected a duration"),
            ("budget = \"150s\"", "budget = \"soon\"", "rule.budget: expected a duration"),
            ("threshold = 0.02", "threshold = -1.0", "metric `decode`: threshold"),
            ("threshold = 0.02", "threshold = 0.0", "metric `decode`: threshold: expected more than 0"),
            ("name = \"prefill\"", "name = \"decode\"", "metric `decode`: name"),
            ("kind = \"load\"", "kind = \"laod\"", "laod"),
            ("seed = 1", "seed = 1\nsede = 2", "sede"),
        ] {
            let text = whole.replacen(from, to, 1);
            assert_ne!(text, whole, "{from}");
            let error = Gates::parse(&text, "g.toml").unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("g.toml"), "{error}");
        }
    }
}
