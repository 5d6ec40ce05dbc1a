//! What can be wrong with a tokenizer.

use std::path::PathBuf;

use crate::formats::FormatError;

/// A tokenizer that cannot be built, or text that it cannot encode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The metadata of the GGUF file is wrong: names file and key.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A `tokenizer.json` (or the `tokenizer_config.json` beside it) cannot be read.
    #[error("{path}: {reason}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The text cannot be encoded.
    #[error("cannot encode the text: {reason}")]
    Encode {
        /// What went wrong.
        reason: String,
    },
    /// An id beyond the vocabulary.
    #[error("token id {id}: expected one below {vocabulary}, the vocabulary's size")]
    UnknownId {
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: usize,
    },
}
