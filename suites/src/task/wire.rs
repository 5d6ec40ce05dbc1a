//! A task's TOML: as it is written, then checked.

use super::template::Templates;
use super::{Judging, Kind, Metric, Rule, Task};
use crate::error::Error;
use crate::model::with_hint;
use serde::Deserialize;

/// Most examples before a question.
const MOST_SHOTS: u32 = 100;
/// Longest answer, in tokens.
const MOST_TOKENS: u32 = 1 << 16;

/// A task file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    about: String,
    source: String,
    kind: Kind,
    metrics: Vec<Metric>,
    documents: WireDocuments,
    prompt: WirePrompt,
    #[serde(default)]
    fewshot: WireFewshot,
    generate: Option<WireGenerate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireDocuments {
    test: String,
    fewshot: Option<String>,
    fetch: String,
}

/// A template, or a list that is the same for all documents.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a template, or a list of texts")]
pub(super) enum Listed {
    /// An expression in `{{ }}` that gives a list.
    Expression(String),
    /// The list.
    Texts(Vec<String>),
}

/// The templates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WirePrompt {
    #[serde(default)]
    pub(super) description: String,
    pub(super) doc_to_text: String,
    pub(super) doc_to_choice: Option<Listed>,
    pub(super) doc_to_target: Option<String>,
    pub(super) doc_to_labels: Option<String>,
    #[serde(default = "space")]
    pub(super) target_delimiter: String,
    pub(super) page: Option<String>,
    pub(super) test: Option<String>,
    pub(super) entry_point: Option<String>,
}

fn space() -> String {
    " ".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFewshot {
    #[serde(default)]
    count: u32,
    #[serde(default)]
    rule: Rule,
    #[serde(default = "blank_line")]
    delimiter: String,
    group: Option<String>,
    #[serde(default)]
    spare: bool,
}

impl Default for WireFewshot {
    fn default() -> WireFewshot {
        WireFewshot { count: 0, rule: Rule::default(), delimiter: blank_line(), group: None, spare: false }
    }
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireGenerate {
    stops: Vec<String>,
    max_tokens: u32,
    judge: Judging,
}

/// Reads a task.
///
/// # Errors
/// [`Error::Parse`] with line and nearest key, [`Error::Value`] with key, what was expected and what stands there.
pub(super) fn parse(text: &str, origin: &str) -> Result<Task, Error> {
    let parse = |message: String| Error::Parse { origin: origin.to_owned(), message };
    let wire: Wire = toml::from_str(text).map_err(|error| parse(with_hint(&error.to_string())))?;
    let check = Check { origin };
    check.name(&wire.name)?;
    check.metrics(wire.kind, &wire.metrics)?;
    check.templates(wire.kind, &wire.prompt)?;
    check.range("fewshot.count", wire.fewshot.count, 0, MOST_SHOTS)?;
    let (stops, max_tokens, judge) = match (wire.kind, wire.generate) {
        (Kind::Generate, Some(generate)) => {
            check.range("generate.max_tokens", generate.max_tokens, 1, MOST_TOKENS)?;
            check.judge(&wire.prompt, generate.judge)?;
            (generate.stops, generate.max_tokens, Some(generate.judge))
        }
        (Kind::Generate, None) => {
            return Err(check.value("generate", "a table with stops, max_tokens and judge", "none"));
        }
        (_, Some(_)) => return Err(check.value("generate", "none, as nothing is generated", "a table")),
        (_, None) => (Vec::new(), 0, None),
    };
    if wire.fewshot.count > 0 && wire.kind == Kind::Document {
        return Err(check.value("fewshot.count", "0 for this kind of task", wire.fewshot.count));
    }
    Ok(Task {
        digest: crate::task::digest(text),
        name: wire.name,
        about: wire.about,
        source: wire.source,
        kind: wire.kind,
        metrics: wire.metrics,
        test: wire.documents.test,
        fewshot_file: wire.documents.fewshot,
        fetch: wire.documents.fetch,
        templates: Templates::new(wire.prompt),
        fewshot: wire.fewshot.count,
        rule: wire.fewshot.rule,
        delimiter: wire.fewshot.delimiter,
        group: wire.fewshot.group,
        spare: wire.fewshot.spare,
        stops,
        max_tokens,
        judge,
        folder: None,
    })
}

struct Check<'a> {
    origin: &'a str,
}

impl Check<'_> {
    fn value(&self, key: &str, expected: &str, found: impl ToString) -> Error {
        Error::Value {
            origin: self.origin.to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.to_string(),
        }
    }

    fn range(&self, key: &str, value: u32, low: u32, high: u32) -> Result<(), Error> {
        if (low..=high).contains(&value) { Ok(()) } else { Err(self.value(key, &format!("{low} to {high}"), value)) }
    }

    fn name(&self, name: &str) -> Result<(), Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(plain) {
            return Err(self.value("name", "letters, digits, `-`, `_` and `.`, as logs are named by it", name));
        }
        Ok(())
    }

    /// Which figures a kind of task has.
    fn metrics(&self, kind: Kind, metrics: &[Metric]) -> Result<(), Error> {
        let known: &[Metric] = match kind {
            Kind::Choices | Kind::Contexts => &[Metric::Acc, Metric::AccNorm, Metric::Mc2],
            Kind::Likelihood => &[Metric::Acc, Metric::Perplexity],
            Kind::Document => &[Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte],
            Kind::Generate => {
                &[Metric::ExactMatch, Metric::ExactMatchStrict, Metric::ExactMatchFlexible, Metric::PassAt1]
            }
        };
        let names: Vec<&str> = known.iter().map(|metric| metric.name()).collect();
        let expected = format!("at least one of {}", names.join(", "));
        match metrics.iter().find(|metric| !known.contains(metric)) {
            Some(metric) => Err(self.value("metrics", &expected, metric.name())),
            None if metrics.is_empty() => Err(self.value("metrics", &expected, "none")),
            None => Ok(()),
        }
    }

    /// Which templates a kind of task needs.
    fn templates(&self, kind: Kind, prompt: &WirePrompt) -> Result<(), Error> {
        let target = prompt.doc_to_target.is_some();
        let needs = |key: &str, there: bool| if there { Ok(()) } else { Err(self.value(key, "a template", "none")) };
        match kind {
            Kind::Choices | Kind::Contexts => {
                needs("prompt.doc_to_choice", prompt.doc_to_choice.is_some())?;
                if target == prompt.doc_to_labels.is_some() {
                    let found = if target { "both" } else { "neither" };
                    return Err(self.value("prompt", "either doc_to_target or doc_to_labels", found));
                }
                Ok(())
            }
            Kind::Likelihood => needs("prompt.doc_to_target", target),
            Kind::Document => needs("prompt.page", prompt.page.is_some()),
            Kind::Generate => Ok(()),
        }
    }

    fn judge(&self, prompt: &WirePrompt, judge: Judging) -> Result<(), Error> {
        let needs = |key: &str, there: bool| if there { Ok(()) } else { Err(self.value(key, "a template", "none")) };
        match judge {
            Judging::Gsm8k | Judging::Math => needs("prompt.doc_to_target", prompt.doc_to_target.is_some()),
            Judging::Python => {
                needs("prompt.test", prompt.test.is_some())?;
                needs("prompt.entry_point", prompt.entry_point.is_some())
            }
        }
    }
}
