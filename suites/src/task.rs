//! Accuracy tasks: what is asked of a model, and what counts as right, by the rules of EleutherAI's lm-evaluation-harness.
//!
//! A task is a TOML file (`tasks/*.toml`, or a user's own) and a JSONL file of documents. Together they make [`Item`]s:
//! plain requests, which any engine can answer without knowing the task.

mod build;
mod documents;
mod random;
mod template;
mod wire;

use crate::error::Error;
pub use build::{Items, Options};
pub use documents::Documents;
use include::EMBEDDED;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use template::Templates;

/// How a task's documents are put to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One context, several continuations.
    Choices,
    /// Several contexts, one continuation.
    Contexts,
    /// One continuation.
    Likelihood,
    /// A whole document.
    Document,
    /// A prompt.
    Generate,
}

/// How examples are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Drawn for each document anew, by one generator of a seed for all of them in their order, as lm-evaluation-harness does.
    #[default]
    Seeded,
    /// The first of their file, or of the document's group in it.
    First,
}

/// How generated answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judging {
    /// [`Judge::Gsm8k`].
    Gsm8k,
    /// [`Judge::Math`].
    Math,
    /// [`Judge::Python`].
    Python,
}

/// A checked task.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name on the command line and in logs.
    pub name: String,
    /// One line for `list`.
    pub about: String,
    /// Where its rules are from.
    pub source: String,
    /// BLAKE3 of its text.
    pub digest: String,
    /// How documents are put.
    pub kind: Kind,
    /// Its figures, the headline first.
    pub metrics: Vec<Metric>,
    /// File of the documents.
    pub test: String,
    /// File that examples are taken from.
    pub fewshot_file: Option<String>,
    /// How to get them, shown where one is missing.
    pub fetch: String,
    /// Examples before each question, unless asked otherwise.
    pub fewshot: u32,
    /// How they are chosen.
    pub rule: Rule,
    /// Folder of a user's own file: its documents lie beside it.
    pub folder: Option<PathBuf>,
    delimiter: String,
    /// The field by which examples and documents belong together.
    group: Option<String>,
    /// Whether one more example is drawn than is asked for, and left out again: of a generator of random numbers, the next
    /// document's examples depend on how many this one's took.
    spare: bool,
    stops: Vec<String>,
    max_tokens: u32,
    judge: Option<Judging>,
    templates: Templates,
}

/// A document that is none, or does not fit its task: it is in no figure, and listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Its line, from 0.
    pub line: u32,
    /// What is wrong with it.
    pub reason: String,
}

impl Task {
    /// The task called `name` of those that come with the program.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest name.
    pub fn embedded(name: &str) -> Result<Task, Error> {
        match EMBEDDED.iter().find(|(known, _)| *known == name) {
            Some((known, text)) => Task::parse(text, &format!("tasks/{known}.toml")),
            None => Err(Error::unknown("task", name, Task::names())),
        }
    }

    /// Names of the tasks that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// Reads a user's own task.
    ///
    /// # Errors
    /// A file that cannot be read, and those of [`Task::parse`].
    pub fn open(path: &Path) -> Result<Task, Error> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let task = Task::parse(&text, &path.display().to_string())?;
        Ok(Task { folder: Some(path.parent().unwrap_or(Path::new("")).to_owned()), ..task })
    }

    /// The first `limit` documents of a file; of a task whose documents are of groups (MMLU's subjects), those of each group.
    ///
    /// # Errors
    /// Those of [`Documents::open`].
    pub fn documents(&self, path: &Path, limit: Option<u32>) -> Result<Documents, Error> {
        let Some((field, limit)) = self.group.as_deref().zip(limit) else { return Documents::open(path, limit) };
        let mut all = Documents::open(path, None)?;
        let mut taken = std::collections::BTreeMap::new();
        all.good.retain(|(_, document)| {
            let group = document.get(field).map_or_else(String::new, ToString::to_string);
            let count = taken.entry(group).or_insert(0);
            *count += 1;
            *count <= limit
        });
        Ok(all)
    }

    /// Reads a task from its TOML; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::Value`]: file, key, what was expected, what stands there.
    pub fn parse(text: &str, origin: &str) -> Result<Task, Error> {
        wire::parse(text, origin)
    }
}

/// BLAKE3, in hexadecimal.
fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

mod include {
    macro_rules! tasks {
        ($($name:literal),* $(,)?) => {
            /// The tasks that come with the program: name and text.
            pub(super) const EMBEDDED: &[(&str, &str)] =
                &[$(($name, include_str!(concat!("../tasks/", $name, ".toml")))),*];
        };
    }
    tasks!(
        "arc_challenge",
        "arc_easy",
        "boolq",
        "winogrande",
        "hellaswag",
        "piqa",
        "openbookqa",
        "commonsense_qa",
        "truthfulqa_mc2",
        "mmlu",
        "gsm8k",
        "math500",
        "humaneval",
        "humaneval_plus",
        "wikitext",
        "lambada_openai",
        "twins_science",
        "twins_problems",
        "twins_stories",
    );
}

/// One document of a task, as it is put to an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The document's line in its file, from 0: what a log and a comparison know it by.
    pub index: u32,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of an engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Which of some continuations is the likeliest.
    Choices(Choices),
    /// How likely a continuation is, and whether greedy choice would have made it (LAMBADA).
    Likelihood(Pair),
    /// How likely a whole document is (WikiText).
    Document(Text),
    /// What follows a prompt, greedily.
    Generate(Prompt),
}

/// A context and what may follow it; white space between them begins the continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Text before.
    pub context: String,
    /// Text scored.
    pub continuation: String,
}

/// Alternatives, of which one, or for [`Metric::Mc2`] several, are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The requests, in order. Most tasks share the context between them; WinoGrande shares the continuation.
    pub pairs: Vec<Pair>,
    /// Length of each choice in characters, without its leading space: what acc_norm divides by.
    pub chars: Vec<u32>,
    /// The right ones; never empty, each below the number of choices.
    pub gold: Vec<u32>,
}

/// A document for perplexity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// As it is scored (detokenised).
    pub text: String,
    /// Words of the original page (split at white space).
    pub words: u64,
    /// Bytes of the original page, UTF-8.
    pub bytes: u64,
}

/// A prompt for generation, and how its answer is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Text before.
    pub prompt: String,
    /// The answer ends before the first of these.
    pub stops: Vec<String>,
    /// Longest answer.
    pub max_tokens: u32,
    /// How the answer is judged.
    pub judge: Judge,
}

/// How a generated answer is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The number after `#### ` (strict) or the last number (flexible), as in GSM8K.
    Gsm8k {
        /// The reference answer, whole.
        target: String,
    },
    /// The last `\boxed{}`, up to notation, as in MATH.
    Math {
        /// The reference answer alone.
        target: String,
    },
    /// Run with the item's tests, as in HumanEval.
    Python {
        /// The prompt that begins the program.
        prompt: String,
        /// The test's code, which defines `check`.
        test: String,
        /// The function to check.
        entry_point: String,
    },
}

/// A figure of a task.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The right choice has the highest log-likelihood; or greedy choice makes the continuation.
    Acc,
    /// The same, by log-likelihood per character.
    AccNorm,
    /// Probability of the right choices among all (TruthfulQA MC2).
    Mc2,
    /// The extracted answer is the reference's, `#### n` alone being taken.
    ExactMatchStrict,
    /// The same, the last number being taken.
    ExactMatchFlexible,
    /// The extracted answer is the reference's.
    ExactMatch,
    /// The program passes its tests at the first attempt.
    PassAt1,
    /// exp(-mean log-likelihood of an item's continuation).
    Perplexity,
    /// exp(-log-likelihood per word).
    WordPerplexity,
    /// exp(-log-likelihood per byte).
    BytePerplexity,
    /// -log-likelihood per byte over ln 2.
    BitsPerByte,
}

impl Metric {
    /// As tables and logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Acc => "acc",
            Metric::AccNorm => "acc_norm",
            Metric::Mc2 => "mc2",
            Metric::ExactMatchStrict => "exact_match_strict",
            Metric::ExactMatchFlexible => "exact_match_flexible",
            Metric::ExactMatch => "exact_match",
            Metric::PassAt1 => "pass_at1",
            Metric::Perplexity => "perplexity",
            Metric::WordPerplexity => "word_perplexity",
            Metric::BytePerplexity => "byte_perplexity",
            Metric::BitsPerByte => "bits_per_byte",
        }
    }

    /// Whether less is better.
    pub fn falls(self) -> bool {
        matches!(self, Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte)
    }
}
