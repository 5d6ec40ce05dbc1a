//! Jinja templates over a document, as lm-evaluation-harness has them.

use super::wire::{Listed, WirePrompt};
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, UndefinedBehavior, Value};
use regex::Regex;
use std::sync::OnceLock;

/// Steps that a template may take: no document's needs a hundredth of it.
const FUEL: u64 = 1_000_000;

/// The templates of a task.
#[derive(Clone, Debug)]
pub(super) struct Templates {
    pub(super) wire: WirePrompt,
}

/// The right choices of a document, before they are looked up among its choices.
pub(super) enum Target {
    Index(i64),
    Text(String),
}

impl Templates {
    pub(super) fn new(wire: WirePrompt) -> Templates {
        Templates { wire }
    }

    /// A template filled in.
    pub(super) fn text(&self, key: &str, template: &str, document: &serde_json::Value) -> Result<String, String> {
        environment().render_str(template, Serde(document)).map_err(|error| told(key, &error))
    }

    /// The choices of a document.
    pub(super) fn choices(&self, document: &serde_json::Value) -> Result<Vec<String>, String> {
        const KEY: &str = "doc_to_choice";
        match &self.wire.doc_to_choice {
            Some(Listed::Texts(texts)) => Ok(texts.clone()),
            Some(Listed::Expression(template)) => {
                let value = self.value(KEY, template, document)?;
                list(KEY, &value)?.iter().map(|item| text(KEY, item)).collect()
            }
            None => Err(format!("{KEY}: expected a template, found none")),
        }
    }

    /// Which choice is right, by its number or its text.
    pub(super) fn target(&self, template: &str, document: &serde_json::Value) -> Result<Target, String> {
        let value = self.value("doc_to_target", template, document)?;
        if let Some(text) = value.as_str() {
            return Ok(text.parse().map_or_else(|_| Target::Text(text.to_owned()), Target::Index));
        }
        match i64::try_from(value.clone()) {
            Ok(index) => Ok(Target::Index(index)),
            Err(_) => Err(format!("doc_to_target: expected a choice's number or text, found {value}")),
        }
    }

    /// Which choices are right: 1 or 0 for each.
    pub(super) fn labels(&self, template: &str, document: &serde_json::Value) -> Result<Vec<bool>, String> {
        const KEY: &str = "doc_to_labels";
        let value = self.value(KEY, template, document)?;
        let label = |item: &Value| match i64::try_from(item.clone()) {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            _ => Err(format!("{KEY}: expected 0 or 1, found {item}")),
        };
        list(KEY, &value)?.iter().map(label).collect()
    }

    /// The value of a template that is one expression; the text of any other.
    fn value(&self, key: &str, template: &str, document: &serde_json::Value) -> Result<Value, String> {
        let environment = environment();
        let inner = template.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        match inner.filter(|inner| !inner.contains("{{") && !inner.contains("}}")) {
            Some(expression) => {
                let compiled = environment.compile_expression(expression).map_err(|error| told(key, &error))?;
                compiled.eval(Serde(document)).map_err(|error| told(key, &error))
            }
            None => self.text(key, template, document).map(Value::from),
        }
    }
}

fn told(key: &str, error: &minijinja::Error) -> String {
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{key}: {}{detail}", error.kind())
}

fn list(key: &str, value: &Value) -> Result<Vec<Value>, String> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().map(Iterator::collect).map_err(|error| told(key, &error))
        }
        other => Err(format!("{key}: expected a list, found {other}")),
    }
}

fn text(key: &str, value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("{key}: expected a text, found {}", value.kind())),
    }
}

/// What templates may use: Jinja's built-ins, Python's methods, and the filters below.
fn environment() -> &'static Environment<'static> {
    static ONE: OnceLock<Environment<'static>> = OnceLock::new();
    ONE.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = minijinja::syntax::SyntaxConfig::builder();
        environment.set_syntax(syntax.keep_trailing_newline(true).build().expect("the usual syntax"));
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("hellaswag", |text: &str| hellaswag(text));
        environment.add_filter("wikitext", |text: &str| wikitext(text));
        environment
    })
}

fn regex<'a>(cell: &'a OnceLock<Regex>, pattern: &str) -> &'a Regex {
    cell.get_or_init(|| Regex::new(pattern).expect("a pattern of this file"))
}

/// HellaSwag's texts without the marks of WikiHow (`hellaswag/utils.py`).
fn hellaswag(text: &str) -> String {
    static BRACKETS: OnceLock<Regex> = OnceLock::new();
    let text = text.trim().replace(" [title]", ". ");
    regex(&BRACKETS, r"\[.*?\]").replace_all(&text, "").replace("  ", " ")
}

/// WikiText's pages with their words put together again (`wikitext/preprocess_wikitext.py`, `wikitext_detokenizer`).
fn wikitext(page: &str) -> String {
    static PAIRS: OnceLock<[(Regex, &str); 5]> = OnceLock::new();
    static SLASHES: OnceLock<Regex> = OnceLock::new();
    let mut text = page.replace("s '", "s'");
    text = regex(&SLASHES, r"/' [0-9]/").replace_all(&text, "/'[0-9]/").into_owned();
    let each = |text: String, all: &[(&str, &str)]| all.iter().fold(text, |text, (from, to)| text.replace(from, to));
    text = each(
        text,
        &[
            (" @-@ ", "-"),
            (" @,@ ", ","),
            (" @.@ ", "."),
            (" : ", ": "),
            (" ; ", "; "),
            (" . ", ". "),
            (" ! ", "! "),
            (" ? ", "? "),
            (" , ", ", "),
        ],
    );
    let pairs = PAIRS.get_or_init(|| {
        [
            (r"\(\s*([^\)]*?)\s*\)", "($1)"),
            (r"\[\s*([^\]]*?)\s*\]", "[$1]"),
            (r"\{\s*([^}]*?)\s*\}", "{$1}"),
            (r#""\s*([^"]*?)\s*""#, "\"$1\""),
            (r"'\s*([^']*?)\s*'", "'$1'"),
        ]
        .map(|(pattern, to)| (Regex::new(pattern).expect("a pattern of this file"), to))
    });
    for (pattern, to) in pairs {
        text = pattern.replace_all(&text, *to).into_owned();
    }
    each(
        text,
        &[
            ("= = = =", "===="),
            ("= = =", "==="),
            ("= =", "=="),
            (" ° ", "°"),
            (" \n", "\n"),
            ("\n ", "\n"),
            (" N ", " 1 "),
            (" 's", "'s"),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by running lm-evaluation-harness' own functions on these texts.
    #[test]
    fn filters_are_the_evaluation_harness_own() {
        assert_eq!(hellaswag(" How to [title] Do it. [step] First  do [substeps] it. "), "How to. Do it. First do it.");
        let page =
            " = Robert = \n \n He 's ( in 2008 ) at \" Royal \" , 3 @.@ 5 km ; 10 @,@ 000 . \n = = Career = = \n";
        let plain = " = Robert =\n\nHe's (in 2008) at \"Royal\", 3.5 km; 10,000.\n== Career ==\n";
        assert_eq!(wikitext(page), plain);
    }
}
