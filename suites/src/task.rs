//! Accuracy tasks: what is asked of a model, and what counts as right, by the rules of EleutherAI's lm-evaluation-harness.
//!
//! A task is a TOML file (`tasks/*.toml`, or a user's own) and a JSONL file of documents. Together they make [`Item`]s:
//! plain requests, which any engine can answer without knowing the task.

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
