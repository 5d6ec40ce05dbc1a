//! What can go wrong in the engine: each variant says what was expected and what was found.

/// An error of the engine. Messages are whole (see [`crate::formats::FormatError`]).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model file that cannot be used.
    #[error(transparent)]
    Format(#[from] crate::formats::FormatError),
    /// A tokenizer that cannot be built, or text that it cannot encode.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// An ISA name that the engine does not know.
    #[error("unknown ISA {name:?}: expected scalar, avx2, avxvnni, avx512 or amx")]
    UnknownIsa {
        /// The name as given.
        name: String,
    },
    /// An ISA path was forced that this CPU cannot run.
    #[error("ISA {wanted} is not available on this CPU (available: {available})")]
    IsaUnavailable {
        /// The name of the ISA asked for.
        wanted: &'static str,
        /// The names of those the CPU has, comma-separated.
        available: String,
    },
    /// A size that does not fit the thing it was given for.
    #[error("{what}: expected {expected}, found {found}")]
    Size {
        /// What was measured, with its unit.
        what: &'static str,
        /// The bound or size expected.
        expected: String,
        /// The size found.
        found: usize,
    },
    /// A weight that its format cannot hold.
    #[error("{format} weight at row {row}, column {col}: expected {expected}, found {found}")]
    Weight {
        /// The format packed into.
        format: &'static str,
        /// The row (output).
        row: usize,
        /// The column (input).
        col: usize,
        /// What the format holds.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// A scale that its format cannot hold.
    #[error("{format} scale: expected {expected}, found {found}")]
    Scale {
        /// The format packed into.
        format: &'static str,
        /// What the format holds.
        expected: &'static str,
        /// The value found.
        found: f32,
    },
    /// Memory that the system did not give.
    #[error("cannot reserve {bytes} bytes: {source}")]
    Memory {
        /// The bytes asked for.
        bytes: usize,
        /// The system's reason.
        r#source: std::io::Error,
    },
    /// A thread pool that could not be made.
    #[error("thread pool of {threads}: {what}: {source}")]
    Threads {
        /// The threads asked for.
        threads: usize,
        /// The step that failed.
        what: &'static str,
        /// The system's reason.
        r#source: std::io::Error,
    },
    /// A field of a model's configuration that makes no sense.
    #[error("model configuration: {field}: expected {expected}, found {found}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A weight that does not fit the model's configuration.
    #[error("model weight {name}: expected {expected}, found {found}")]
    Tensor {
        /// The weight, by its GGUF name.
        name: String,
        /// The shape expected.
        expected: String,
        /// The shape found.
        found: String,
    },
    /// A chat template that is none, refuses the messages, or costs too much.
    #[error("chat template {template}: {reason}")]
    Chat {
        /// Its name.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// Logits that no token can be chosen from.
    #[error("the model's logits are not finite: its weights overflow f32, or its norms divide by 0")]
    NotFinite,
    /// A prompt without tokens.
    #[error("the prompt is empty: expected at least one token")]
    EmptyPrompt,
    /// A token that the model does not know.
    #[error("token {token} (number {index} of the input): expected an id below the vocabulary's {vocab}")]
    Token {
        /// Where in the input.
        index: usize,
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// More tokens than the session's context has room for.
    #[error("context of {context} tokens is full: {tokens} more after {position} do not fit")]
    ContextFull {
        /// Positions of the session.
        context: usize,
        /// Tokens already there.
        position: usize,
        /// Tokens to add.
        tokens: usize,
    },
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;
