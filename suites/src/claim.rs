//! Claims that papers make (`claims.toml`), each as something that records can answer.

use crate::cell::Workload;
use crate::error::Error;
use crate::model::with_hint;
use crate::published::{Against, Metric as Printed, Published, Table, Threads};
use serde::Deserialize;

const CLAIMS: &str = include_str!("../claims.toml");
const ORIGIN: &str = "claims.toml";

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Decoded tokens a second of the candidate over the baseline's.
    Speedup,
    /// What of the baseline's joules a decoded token the candidate saves, from 0 to 1.
    EnergyReduction,
    /// Decoded tokens a second.
    TokensPerSecond,
    /// Joules of a decoded token.
    JoulesPerToken,
    /// Milliseconds of a decoded token.
    TpotMs,
    /// Gigabytes (1e9) of the weights but embedding and head, by count and bits.
    WeightsGb,
    /// Joules by the papers' arithmetic model ([`crate::arithmetic`]).
    ArithmeticJoules,
    /// Share of continuations whose tokens all equal another kernel's.
    TokenMatch,
    /// A task's figure, from 0 to 1.
    Accuracy,
}

impl Metric {
    /// Its name as tables print it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Speedup => "speed-up",
            Metric::EnergyReduction => "reduction of J/token",
            Metric::TokensPerSecond => "tokens/s",
            Metric::JoulesPerToken => "J/token",
            Metric::TpotMs => "TPOT, ms",
            Metric::WeightsGb => "weights, GB",
            Metric::ArithmeticJoules => "modelled J",
            Metric::TokenMatch => "equal tokens",
            Metric::Accuracy => "accuracy",
        }
    }

    /// Whether less is better.
    pub fn falls(self) -> bool {
        matches!(self, Metric::JoulesPerToken | Metric::TpotMs | Metric::WeightsGb | Metric::ArithmeticJoules)
    }

    /// Whether it is computed from a model's shape, without a machine.
    pub fn analytic(self) -> bool {
        matches!(self, Metric::WeightsGb | Metric::ArithmeticJoules)
    }

    /// Whether it sets a candidate against a baseline.
    pub fn compares(self) -> bool {
        matches!(self, Metric::Speedup | Metric::EnergyReduction)
    }
}

/// A published figure.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// A model of `models.toml`, a model by the paper's name where it is computed, or a task's figure such as
    /// `acc_norm:arc_challenge`.
    pub of: String,
    /// In the unit of the metric.
    pub value: f64,
    /// Half of the last place that this one is printed to, where it is another than the claim's.
    pub rounding: Option<f64>,
    /// Of a task: with how many examples the paper asked it.
    pub shots: Option<u32>,
}

/// How far from a published figure still counts as that figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// As a part of the figure.
    Relative(f64),
    /// In the metric's unit: half of the last printed place.
    Rounding(f64),
}

impl Tolerance {
    fn band(self, value: f64) -> (f64, f64) {
        let reach = match self {
            Tolerance::Relative(part) => part * value,
            Tolerance::Rounding(half) => half,
        };
        (value - reach, value + reach)
    }
}

/// A claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// A short name.
    pub id: String,
    /// In words.
    pub text: String,
    /// Paper and table.
    pub source: String,
    /// What it is about.
    pub metric: Metric,
    /// The architecture it speaks of, as in target triples; `None` of any.
    pub isa: Option<String>,
    /// The device it was seen on.
    pub device: Option<String>,
    /// What was run there: the candidate, and the baseline of a ratio.
    pub theirs: Option<String>,
    /// The workload it was seen with.
    pub workload: Option<Workload>,
    /// Threads it was seen with.
    pub threads: Option<Threads>,
    /// The engine of ours that stands for the paper's.
    pub candidate: String,
    /// The engine that stands for the paper's baseline.
    pub baseline: String,
    /// The trained model that tasks are asked of.
    pub model: Option<String>,
    /// Each size or task.
    pub figures: Vec<Figure>,
    /// What still counts as a figure.
    pub tolerance: Tolerance,
    /// Where the tolerance comes from.
    pub why: String,
    /// Whether the claim is that bigger models gain more.
    pub grows: bool,
}

impl Claim {
    /// The figures that count as the published `figure`, the least and the most.
    pub fn band(&self, figure: &Figure) -> (f64, f64) {
        figure.rounding.map_or(self.tolerance, Tolerance::Rounding).band(figure.value)
    }
}

/// The claims that come with the program.
///
/// # Errors
/// None in a tested build: the embedded file is checked by this crate's tests.
pub fn embedded() -> Result<Vec<Claim>, Error> {
    parse(CLAIMS, ORIGIN, &Published::embedded()?)
}

/// Reads claims from a TOML text.
///
/// # Errors
/// Syntax, unknown keys, repeated ids, tables and rows that are not there, figures and tolerances that can't be.
pub fn parse(text: &str, origin: &str, published: &Published) -> Result<Vec<Claim>, Error> {
    let parse = |e: toml::de::Error| Error::Parse { origin: origin.to_owned(), message: with_hint(&e.to_string()) };
    let wire: Wire = toml::from_str(text).map_err(parse)?;
    let mut claims: Vec<Claim> = Vec::new();
    for claim in wire.claim {
        let claim = claim.check(origin, published)?;
        if claims.iter().any(|known| known.id == claim.id) {
            return Err(bad(origin, &claim.id, "id", "an id that no other claim has", &claim.id));
        }
        claims.push(claim);
    }
    Ok(claims)
}

fn bad(origin: &str, claim: &str, key: &str, expected: &str, found: impl std::fmt::Display) -> Error {
    let key = format!("claim `{claim}`: {key}");
    Error::Value { origin: origin.to_owned(), key, expected: expected.to_owned(), found: format!("`{found}`") }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    claim: Vec<WireClaim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClaim {
    id: String,
    text: String,
    source: Option<String>,
    metric: Metric,
    isa: Option<String>,
    table: Option<String>,
    device: Option<String>,
    engine: Option<String>,
    over: Option<String>,
    workload: Option<Workload>,
    threads: Option<u32>,
    candidate: Option<String>,
    baseline: Option<String>,
    model: Option<String>,
    figures: Option<Vec<Figure>>,
    within: Option<f64>,
    rounding: Option<f64>,
    why: String,
    #[serde(default)]
    grows: bool,
}

/// What a claim has from a table, or says itself.
struct Given {
    source: String,
    threads: Option<Threads>,
    figures: Vec<Figure>,
}

impl WireClaim {
    fn check(self, origin: &str, published: &Published) -> Result<Claim, Error> {
        let given = self.given(origin, published)?;
        let bad = |key: &str, expected: &str, found: &str| Err(bad(origin, &self.id, key, expected, found));
        let tolerance = match (self.within, self.rounding) {
            (Some(part), None) if (0.0..1.0).contains(&part) => Tolerance::Relative(part),
            (None, Some(half)) if half.is_finite() && half > 0.0 => Tolerance::Rounding(half),
            (Some(part), None) => return bad("within", "a part from 0 to 1", &part.to_string()),
            (None, Some(half)) => return bad("rounding", "a figure over 0", &half.to_string()),
            _ => return bad("within", "either it or `rounding`", "neither or both"),
        };
        if given.figures.is_empty() {
            return bad("figures", "one or more", "none");
        }
        for (index, figure) in given.figures.iter().enumerate() {
            if !(figure.value.is_finite() && figure.value > 0.0) {
                return bad(&format!("figure of {}", figure.of), "a number over 0", &figure.value.to_string());
            }
            if let Some(half) = figure.rounding.filter(|half| !(half.is_finite() && *half > 0.0)) {
                return bad(&format!("rounding of {}", figure.of), "a number over 0", &half.to_string());
            }
            if given.figures[..index].iter().any(|earlier| earlier.of == figure.of) {
                return bad("figures", "each size or task once", &figure.of);
            }
        }
        let tasks = self.metric == Metric::Accuracy;
        if tasks != self.model.is_some() {
            return bad("model", "the trained model where the metric is accuracy, and only there", "the other");
        }
        let theirs = self.engine.map(|engine| match self.over {
            Some(over) => format!("{engine} over {over}"),
            None => engine,
        });
        Ok(Claim {
            id: self.id,
            text: self.text,
            source: given.source,
            metric: self.metric,
            isa: self.isa,
            device: self.device,
            theirs,
            workload: self.workload,
            threads: given.threads,
            candidate: self.candidate.unwrap_or_else(|| "ternary".to_owned()),
            baseline: self.baseline.unwrap_or_else(|| "f16".to_owned()),
            model: self.model,
            figures: given.figures,
            tolerance,
            why: self.why,
            grows: self.grows,
        })
    }

    fn given(&self, origin: &str, published: &Published) -> Result<Given, Error> {
        let bad = |key: &str, expected: &str, found: &str| bad(origin, &self.id, key, expected, found);
        let Some(name) = &self.table else {
            let source = self.source.clone().ok_or_else(|| bad("source", "paper and table, or `table`", "none"))?;
            let figures = self.figures.clone().unwrap_or_default();
            return Ok(Given { source, threads: self.threads.map(Threads::Count), figures });
        };
        if self.figures.is_some() || self.source.is_some() || self.threads.is_some() {
            return Err(bad("table", "no `figures`, `source` or `threads` beside it", name));
        }
        let table = published.table(name)?;
        let (Some(device), Some(engine)) = (&self.device, &self.engine) else {
            return Err(bad("table", "`device` and `engine` beside it", "none"));
        };
        let known = |engine: &str| {
            let rows = || table.rows.iter().map(|row| format!("{} on {}", row.engine, row.device)).collect::<Vec<_>>();
            table.row(device, engine).map(drop).ok_or_else(|| bad("engine", &rows().join(", or "), engine))
        };
        known(engine)?;
        self.over.as_deref().map_or(Ok(()), known)?;
        let printed = match (self.metric, self.over.is_some()) {
            (Metric::Speedup, true) | (Metric::TokensPerSecond, false) => Printed::TokensPerSecond,
            (Metric::EnergyReduction, true) | (Metric::JoulesPerToken, false) => Printed::JoulesPerToken,
            _ => return Err(bad("over", "a row that a ratio is over, and of ratios alone", self.metric.name())),
        };
        if table.metric != printed {
            return Err(bad("table", &format!("a table of {}", printed.unit()), table.metric.unit()));
        }
        let figure = |size: &String| {
            let value = figure(table, device, engine, self.over.as_deref(), size)?;
            Some(Figure { of: size.clone(), value, rounding: None, shots: None })
        };
        let figures = table.sizes.iter().filter_map(figure).collect();
        Ok(Given { source: table.source.clone(), threads: Some(table.threads), figures })
    }
}

/// A row's figure, or what the paper prints of it over another row, or, where it prints nothing, what the two rows give.
fn figure(table: &Table, device: &str, engine: &str, over: Option<&str>, size: &str) -> Option<f64> {
    let own = table.figure(device, engine, size);
    let Some(over) = over else { return own };
    let pair = table.comparisons.iter().find(|c| c.device == device && c.engine == engine && c.over == over);
    if let Some(pair) = pair {
        let printed = pair.figure(size)?;
        return Some(match pair.against {
            Against::Times => printed,
            Against::Percent => -printed / 100.0,
        });
    }
    let (own, base) = (own?, table.figure(device, over, size)?);
    Some(if table.metric == Printed::JoulesPerToken { 1.0 - own / base } else { own / base })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Result<Vec<Claim>, Error> {
        parse(text, "own.toml", &Published::embedded().unwrap())
    }

    const OWN: &str = "[[claim]]\nid = \"a\"\ntext = \"b\"\nwhy = \"c\"\n";

    #[test]
    fn the_headlines_are_there() {
        let claims = embedded().unwrap();
        let of = |id: &str| claims.iter().find(|claim| claim.id == id).unwrap();
        let ends = |id: &str| {
            // Per cent are printed: as parts they are binary fractions.
            let values: Vec<f64> = of(id).figures.iter().map(|f| (f.value * 1e6).round() / 1e6).collect();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            (least, values.iter().copied().fold(0.0, f64::max), values.len())
        };
        assert_eq!(ends("x86-speedup"), (2.37, 6.17, 9));
        assert_eq!(ends("x86-speedup-2-threads"), (2.64, 6.46, 9));
        assert_eq!(ends("arm-speedup"), (1.37, 5.07, 11));
        assert_eq!(ends("arm-speedup-2-threads"), (1.59, 2.48, 11));
        assert_eq!(ends("x86-energy"), (0.719, 0.822, 2));
        assert_eq!(ends("arm-energy"), (0.554, 0.7, 3));
        // 125.37 / 30.73, as the paper prints no column of ratios.
        assert!((of("kernels-over-fp16").figures[0].value - 4.0797).abs() < 1e-4);
        assert_eq!(of("x86-speedup").threads, Some(Threads::Best));
        assert_eq!(of("2b4t-latency").threads, Some(Threads::Count(8)));
    }

    #[test]
    fn names_are_those_of_models_engines_and_tasks() {
        let catalogue = crate::Catalogue::embedded().unwrap();
        let mut tasks = 0;
        for claim in embedded().unwrap() {
            assert!(catalogue.engine(&claim.candidate).is_ok(), "{}", claim.id);
            for figure in &claim.figures {
                match claim.metric {
                    Metric::Accuracy => {
                        let (metric, task) = figure.of.split_once(':').unwrap();
                        let task = crate::task::Task::embedded(task).unwrap();
                        assert!(task.metrics.iter().any(|m| m.name() == metric), "{}: {:?}", figure.of, task.metrics);
                        tasks += 1;
                    }
                    Metric::TokenMatch => {}
                    metric if metric.analytic() => {
                        assert!(crate::arithmetic::published().iter().any(|model| model.name == figure.of));
                    }
                    _ => assert!(catalogue.model(&figure.of).is_ok(), "{}", figure.of),
                }
            }
        }
        assert_eq!(tasks, 13);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let table = "table = \"2410.16144/table4\"\ndevice = \"i7-13700H\"\n";
        let cases = [
            ("metric = \"speedup\"\nwithin = 0.1\n".to_owned(), "claim `a`: source: expected paper and table"),
            ("metric = \"speed\"\nwithin = 0.1\n".to_owned(), "unknown variant `speed`"),
            ("metric = \"speedup\"\nwithn = 0.1\n".to_owned(), "withn"),
            (format!("metric = \"speedup\"\nwithin = 0.1\n{table}engine = \"bitnet.cp\"\n"), "bitnet.cpp on M2 Ultra"),
            (format!("metric = \"speedup\"\nwithin = 0.1\n{table}engine = \"bitnet.cpp\"\n"), "claim `a`: over:"),
            (
                format!("metric = \"joules_per_token\"\nwithin = 0.1\n{table}engine = \"bitnet.cpp\"\n"),
                "expected a table of J/token, found `tokens/s`",
            ),
            (
                format!("metric = \"tokens_per_second\"\n{table}engine = \"bitnet.cpp\"\n"),
                "claim `a`: within: expected either",
            ),
            (
                format!("metric = \"tokens_per_second\"\nwithin = 1.5\n{table}engine = \"bitnet.cpp\"\n"),
                "expected a part from 0 to 1, found `1.5`",
            ),
            (
                "metric = \"tpot_ms\"\nwithin = 0.1\nsource = \"s\"\nfigures = [{ of = \"7b\", value = -1.0 }]\n"
                    .to_owned(),
                "figure of 7b: expected a number over 0, found `-1`",
            ),
            (
                "metric = \"tpot_ms\"\nwithin = 0.1\nsource = \"s\"\nfigures = [{ of = \"7b\", value = nan }]\n"
                    .to_owned(),
                "a number over 0",
            ),
            ("metric = \"tpot_ms\"\nwithin = 0.1\nsource = \"s\"\n".to_owned(), "figures: expected one or more"),
        ];
        for (text, want) in cases {
            let error = claim(&format!("{OWN}{text}")).unwrap_err().to_string();
            assert!(error.starts_with("own.toml: ") && error.contains(want), "{error}");
        }
        let one = format!("{OWN}metric = \"tokens_per_second\"\nwithin = 0.1\n{table}engine = \"bitnet.cpp\"\n");
        let error = claim(&format!("{one}{one}")).unwrap_err().to_string();
        assert!(error.contains("an id that no other claim has"), "{error}");
    }
}
