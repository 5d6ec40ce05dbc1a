//! The log of an evaluation: one JSON object a line, so that each item can be looked at, a run that was interrupted can go
//! on, and two engines can be compared item by item.
//!
//! The first line is a [`Header`]. A [`Part`] follows whenever a program began to write; then come [`Row`]s, one an item, in
//! the order in which they were answered.

use crate::task::Metric;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the log.
pub const EVAL_SCHEMA: u32 = 1;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Header(Header),
    /// A program goes to work.
    Part(Part),
    /// An item, answered.
    Item(Row),
}

/// What decides the figures. Logs whose headers agree but for engine, model and what is theirs can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`EVAL_SCHEMA`].
    pub schema: u32,
    /// Name of the task.
    pub task: String,
    /// BLAKE3 of its definition.
    pub task_digest: String,
    /// BLAKE3 of the documents' file and of the few-shot examples', in this order.
    pub data_digests: Vec<String>,
    /// Examples before each question.
    pub fewshot: u32,
    /// Seed of their choice.
    pub seed: u64,
    /// What its figures are called, the headline first.
    pub metrics: Vec<Metric>,
    /// Name of the engine, the address of an endpoint, or a command.
    pub engine: String,
    /// Name or file name of the model.
    pub model: String,
    /// SHA-256 of the model's file, or of the digests of a folder's; `None` of a model behind an endpoint.
    pub model_digest: Option<String>,
    /// Number type of the KV cache; `None` where it is not ours.
    pub kv: Option<String>,
    /// How the head is read; `None` where it is not ours.
    pub head: Option<String>,
    /// Name of the chat template that prompts of generation tasks are put in, if they are.
    pub chat: Option<String>,
    /// Whether texts begin with the model's BOS; `None` where it is not known.
    pub bos: Option<bool>,
    /// Most tokens that the model is given; `None` where it is not known.
    pub context: Option<u32>,
}

/// A program that went to work on a log. What is told here changes no figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// RFC 3339, UTC.
    pub started: String,
    /// Version and revision of the program.
    pub program: String,
    /// Its build profile.
    pub profile: String,
    /// Instruction-set path; `None` where it is not ours.
    pub isa: Option<String>,
    /// Worker threads; `None` where they are not ours.
    pub threads: Option<u32>,
}

/// An item's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Line of the document in its file, from 0.
    pub index: u32,
    /// BLAKE3 of what was asked, every text of it, the first 16 digits: equal prompts are equal here.
    pub prompt: String,
    /// What was answered.
    #[serde(flatten)]
    pub answer: Answer,
    /// What the item adds to each figure: 1 or 0 of most; of perplexities the log-likelihood.
    pub scores: BTreeMap<Metric, f64>,
}

/// What was answered, by what was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Answer {
    /// Which of some continuations is the likeliest.
    Choices {
        /// Of each choice: the sum of ln p of its tokens.
        loglikelihoods: Vec<f64>,
        /// Tokens of each.
        tokens: Vec<u32>,
        /// The right ones.
        gold: Vec<u32>,
        /// The likeliest; the first of equals.
        choice: u32,
        /// The likeliest per character; the first of equals.
        choice_norm: u32,
        /// Tokens cut off from the left of the contexts, of all choices together.
        #[serde(default, skip_serializing_if = "is_zero")]
        truncated: u32,
    },
    /// How likely a continuation is.
    Likelihood {
        /// Sum of ln p of its tokens.
        loglikelihood: f64,
        /// Its tokens.
        tokens: u32,
        /// Whether greedy choice would have made it.
        greedy: bool,
        /// Tokens cut off from the left of the context.
        #[serde(default, skip_serializing_if = "is_zero")]
        truncated: u32,
    },
    /// How likely a document is.
    Document {
        /// Sum of ln p of its tokens.
        loglikelihood: f64,
        /// Its tokens.
        tokens: u32,
        /// Words of the original page.
        words: u64,
        /// Bytes of the original page.
        bytes: u64,
    },
    /// What follows a prompt.
    Text {
        /// The text made, up to its stop.
        text: String,
        /// Tokens made.
        tokens: u32,
        /// Why it ended: `eos`, `stop_string`, `max_tokens` or `context_full`.
        stop: String,
        /// What was read out of it, by metric; of a program, what came of running it.
        found: BTreeMap<Metric, String>,
        /// Tokens cut off from the left of the prompt.
        #[serde(default, skip_serializing_if = "is_zero")]
        truncated: u32,
    },
    /// Nothing: the item is in no figure, and listed.
    Skipped {
        /// Why.
        reason: String,
    },
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Row {
    /// Why the item is in no figure, if it is in none.
    pub fn skipped(&self) -> Option<&str> {
        match &self.answer {
            Answer::Skipped { reason } => Some(reason),
            _ => None,
        }
    }

    /// Tokens cut off from the left of what was asked.
    pub fn truncated(&self) -> u32 {
        match &self.answer {
            Answer::Choices { truncated, .. }
            | Answer::Likelihood { truncated, .. }
            | Answer::Text { truncated, .. } => *truncated,
            Answer::Document { .. } | Answer::Skipped { .. } => 0,
        }
    }
}

/// A task that a suite puts to a cell's model, once its windows are measured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskAsk {
    /// Its name, or a TOML file.
    pub task: String,
    /// The first so many of its items, of MMLU those of each subject; all, if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Examples before each question; the task's own number, if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot: Option<u32>,
}

/// What came of a task that was put to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum TaskOutcome {
    /// Its figures.
    Ok(Accuracy),
    /// None.
    Unavailable {
        /// Name of the task.
        task: String,
        /// Why.
        reason: String,
    },
}

impl TaskOutcome {
    /// Name of the task.
    pub fn task(&self) -> &str {
        match self {
            TaskOutcome::Ok(accuracy) => &accuracy.task,
            TaskOutcome::Unavailable { task, .. } => task,
        }
    }
}

/// A task's figures on a model, in a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// Name of the task.
    pub task: String,
    /// Items answered.
    pub items: u32,
    /// Items in no figure.
    pub skipped: u32,
    /// Items whose context was cut off from the left.
    pub truncated: u32,
    /// Examples before each question.
    pub fewshot: u32,
    /// Its figures, the headline first.
    pub figures: Vec<AccuracyFigure>,
    /// Tokens evaluated and made.
    pub tokens: u64,
    /// Time it took.
    pub duration_ns: u64,
    /// The log of its items, in the run's folder.
    pub log: String,
}

/// One figure of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccuracyFigure {
    /// Which.
    pub metric: Metric,
    /// The figure.
    pub value: f64,
    /// Its standard error: the items' sample deviation over the square root of their number; of a perplexity, the deviation of
    /// its bootstrap. `None` of a single item.
    pub stderr: Option<f64>,
    /// 95 % interval, percentile bootstrap over items; `None` of a single item.
    pub interval: Option<(f64, f64)>,
}
