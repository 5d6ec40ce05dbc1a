//! From documents to items.

use super::template::Target;
use super::{Ask, Choices, Documents, Item, Judge, Judging, Kind, Pair, Prompt, Rule, Skip, Task, Text};
use crate::error::Error;
use crate::task::random::Random;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How items are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Examples before each question; the task's own number, if `None`.
    pub fewshot: Option<u32>,
    /// Seed of their choice, as Python's `random.Random` takes it; lm-evaluation-harness's is 1234.
    pub seed: u64,
}

/// What documents make.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items {
    /// Items, in the order of the documents.
    pub items: Vec<Item>,
    /// Documents that make none.
    pub skipped: Vec<Skip>,
    /// Examples before each.
    pub fewshot: u32,
}

impl Task {
    /// Makes items of `documents`, with examples from `examples`.
    ///
    /// # Errors
    /// [`Error::Value`] if there are fewer examples than asked for, or none for this kind of task.
    pub fn items(&self, documents: &Documents, examples: &Documents, options: Options) -> Result<Items, Error> {
        let fewshot = options.fewshot.unwrap_or(self.fewshot);
        self.check_shots(fewshot, examples)?;
        let mut found = Items { skipped: documents.bad.clone(), fewshot, ..Items::default() };
        let shots = Shots {
            task: self,
            examples,
            count: fewshot as usize,
            own: documents.digest == examples.digest,
            seed: options.seed,
            random: RefCell::default(),
        };
        for (line, document) in &documents.good {
            match self.item(document, &shots) {
                Ok(ask) => found.items.push(Item { index: *line, ask }),
                Err(reason) => found.skipped.push(Skip { line: *line, reason }),
            }
        }
        found.skipped.sort_by_key(|skip| skip.line);
        Ok(found)
    }

    fn check_shots(&self, wanted: u32, examples: &Documents) -> Result<(), Error> {
        let value = |expected: String, found: String| Error::Value {
            origin: self.name.clone(),
            key: "fewshot".to_owned(),
            expected,
            found,
        };
        if wanted > 0 && self.kind == Kind::Document {
            return Err(value("0 examples for this kind of task".to_owned(), wanted.to_string()));
        }
        let there = examples.good.len();
        if (there as u64) < u64::from(wanted) {
            return Err(value(format!("at most the {there} examples of its file"), wanted.to_string()));
        }
        Ok(())
    }

    fn item(&self, document: &Value, shots: &Shots<'_>) -> Result<Ask, String> {
        let wire = &self.templates.wire;
        let text = self.templates.text("doc_to_text", &wire.doc_to_text, document)?;
        let before = || shots.before(document);
        Ok(match self.kind {
            Kind::Choices => Ask::Choices(self.choices(document, &(before()? + &text))?),
            Kind::Contexts => Ask::Choices(self.contexts(document, &before()?, &text)?),
            Kind::Likelihood => Ask::Likelihood(Pair {
                context: before()? + &text,
                continuation: format!("{}{}", wire.target_delimiter, self.target_text(document)?),
            }),
            Kind::Document => {
                let page = self.templates.text("page", wire.page.as_deref().unwrap_or_default(), document)?;
                Ask::Document(Text { text, words: words(&page), bytes: page.len() as u64 })
            }
            Kind::Generate => Ask::Generate(Prompt {
                prompt: before()? + &text,
                stops: self.stops.clone(),
                max_tokens: self.max_tokens,
                judge: self.judge(document, &text)?,
            }),
        })
    }

    /// One context, as many continuations as choices.
    fn choices(&self, document: &Value, context: &str) -> Result<Choices, String> {
        let (texts, gold) = self.texts(document)?;
        let pair = |text: &String| Pair {
            context: context.to_owned(),
            continuation: format!("{}{text}", self.templates.wire.target_delimiter),
        };
        Ok(Choices { pairs: texts.iter().map(pair).collect(), chars: chars(&texts), gold })
    }

    /// As many contexts as choices, one continuation.
    fn contexts(&self, document: &Value, before: &str, continuation: &str) -> Result<Choices, String> {
        let (texts, gold) = self.texts(document)?;
        let continuation = format!("{}{continuation}", self.templates.wire.target_delimiter);
        let pair = |text: &String| Pair { context: format!("{before}{text}"), continuation: continuation.clone() };
        let length = continuation.trim_start().chars().count() as u32;
        Ok(Choices { chars: vec![length; texts.len()], pairs: texts.iter().map(pair).collect(), gold })
    }

    /// The choices, and which are right.
    fn texts(&self, document: &Value) -> Result<(Vec<String>, Vec<u32>), String> {
        let (templates, wire) = (&self.templates, &self.templates.wire);
        let texts = templates.choices(document)?;
        if texts.len() < 2 {
            return Err(format!("doc_to_choice: expected at least 2 choices, found {}", texts.len()));
        }
        let gold: Vec<u32> = match (&wire.doc_to_target, &wire.doc_to_labels) {
            (Some(template), _) => vec![index(&texts, templates.target(template, document)?)?],
            (None, Some(template)) => {
                let labels = templates.labels(template, document)?;
                if labels.len() != texts.len() {
                    return Err(format!("doc_to_labels: expected {} labels, found {}", texts.len(), labels.len()));
                }
                (0..).zip(labels).filter(|(_, right)| *right).map(|(index, _)| index).collect()
            }
            (None, None) => Vec::new(),
        };
        if gold.is_empty() {
            return Err("doc_to_labels: expected at least one right choice, found none".to_owned());
        }
        Ok((texts, gold))
    }

    /// What should follow a document's text: the right choice, or the reference answer.
    fn target_text(&self, document: &Value) -> Result<String, String> {
        if self.kind == Kind::Choices {
            let (texts, gold) = self.texts(document)?;
            return Ok(texts[gold[0] as usize].clone());
        }
        let template = self.templates.wire.doc_to_target.as_deref().unwrap_or_default();
        self.templates.text("doc_to_target", template, document)
    }

    /// An example's question and answer: the right context and what follows it, where contexts are the choices.
    fn turn(&self, example: &Value) -> Result<(String, String), String> {
        let text = self.templates.text("doc_to_text", &self.templates.wire.doc_to_text, example)?;
        if self.kind == Kind::Contexts {
            let (texts, gold) = self.texts(example)?;
            return Ok((texts[gold[0] as usize].clone(), text));
        }
        Ok((text, self.target_text(example)?))
    }

    fn judge(&self, document: &Value, text: &str) -> Result<Judge, String> {
        let (templates, wire) = (&self.templates, &self.templates.wire);
        let fill = |key: &str, template: &Option<String>| {
            templates.text(key, template.as_deref().unwrap_or_default(), document)
        };
        Ok(match self.judge {
            Some(Judging::Math) => Judge::Math { target: fill("doc_to_target", &wire.doc_to_target)? },
            Some(Judging::Python) => Judge::Python {
                prompt: text.to_owned(),
                test: fill("test", &wire.test)?,
                entry_point: fill("entry_point", &wire.entry_point)?,
            },
            Some(Judging::Gsm8k) | None => Judge::Gsm8k { target: fill("doc_to_target", &wire.doc_to_target)? },
        })
    }
}

/// The examples before a question.
struct Shots<'a> {
    task: &'a Task,
    examples: &'a Documents,
    count: usize,
    /// Whether examples and documents are the same file.
    own: bool,
    seed: u64,
    /// The generator of each group: one document after the other draws from it.
    random: RefCell<BTreeMap<String, Random>>,
}

impl Shots<'_> {
    /// The description and the examples of a document, each with the delimiter that ends it.
    fn before(&self, document: &Value) -> Result<String, String> {
        let (task, templates) = (self.task, &self.task.templates);
        let mut before = templates.text("description", &templates.wire.description, document)?;
        if self.count == 0 {
            return Ok(before);
        }
        for example in self.drawn(document)? {
            let (text, target) = task.turn(example)?;
            before.push_str(&format!("{text}{}{target}{}", templates.wire.target_delimiter, task.delimiter));
        }
        Ok(before)
    }

    /// The examples of a document: of its group, never the document itself. As lm-evaluation-harness's samplers choose
    /// (`lm_eval/api/samplers.py`): where documents are each other's examples, and where a
    /// task has no test split, one more is drawn in case the document is among them.
    fn drawn(&self, document: &Value) -> Result<Vec<&Value>, String> {
        let field = self.task.group.as_deref();
        let group = field.and_then(|field| document.get(field));
        let mine = |example: &&Value| field.is_none_or(|field| example.get(field) == group);
        let all: Vec<&Value> = self.examples.good.iter().map(|(_, example)| example).filter(mine).collect();
        let mut others: Vec<&Value> = all.iter().copied().filter(|example| *example != document).collect();
        if others.len() < self.count {
            let of = field.map_or(String::new(), |field| format!(" of the document's {field}"));
            return Err(format!("fewshot: expected at least {} examples{of}, found {}", self.count, others.len()));
        }
        if self.task.rule == Rule::First {
            others.truncate(self.count);
            return Ok(others);
        }
        let mut randoms = self.random.borrow_mut();
        let random =
            randoms.entry(group.map(Value::to_string).unwrap_or_default()).or_insert_with(|| Random::new(self.seed));
        let wanted = (self.count + usize::from(self.own || self.task.spare)).min(all.len());
        let mut drawn: Vec<&Value> = random.sample(all.len(), wanted).into_iter().map(|at| all[at]).collect();
        drawn.retain(|example| *example != document);
        if drawn.len() < self.count {
            // The document's copies were among them: once more, from what is no copy.
            drawn = random.sample(others.len(), self.count).into_iter().map(|at| others[at]).collect();
        }
        drawn.truncate(self.count);
        Ok(drawn)
    }
}

/// A target's place among the choices.
fn index(texts: &[String], target: Target) -> Result<u32, String> {
    let count = texts.len();
    match target {
        Target::Index(index) => match u32::try_from(index).ok().filter(|&index| (index as usize) < count) {
            Some(index) => Ok(index),
            None => Err(format!("doc_to_target: expected a choice from 0 to {}, found {index}", count - 1)),
        },
        Target::Text(text) => match texts.iter().position(|choice| *choice == text) {
            Some(index) => Ok(index as u32),
            None => Err(format!("doc_to_target: expected one of the {count} choices, found `{text}`")),
        },
    }
}

fn chars(texts: &[String]) -> Vec<u32> {
    texts.iter().map(|text| text.chars().count() as u32).collect()
}

/// Words as Python's `re.split(r"\s+", page)` counts them: one more than there are runs of white space.
fn words(page: &str) -> u64 {
    let (mut runs, mut inside) = (0, false);
    for c in page.chars() {
        runs += u64::from(c.is_whitespace() && !inside);
        inside = c.is_whitespace();
    }
    runs + 1
}

#[cfg(test)]
mod tests;
