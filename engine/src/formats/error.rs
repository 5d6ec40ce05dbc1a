//! What can be wrong with a model file.

use std::path::PathBuf;

/// A model file that cannot be used, and why: always the file, the key, tensor or field, what was
/// expected and what was found. Messages are whole: `r#source` is no source of [`std::error::Error`]'s, or chains of causes
/// would tell it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file cannot be opened, mapped or read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        r#source: std::io::Error,
    },
    /// A field of the file's structure holds what it must not.
    #[error("{path}: {field}: expected {expected}, found {found}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, such as "magic" or "name of tensor 3".
        field: String,
        /// What a valid file holds here.
        expected: String,
        /// What this file holds.
        found: String,
    },
    /// The file ends before the field does.
    #[error(
        "{path}: {field}: expected {needed} bytes at offset {offset}, found {remaining} (file is cut short, or a length is wrong)",
        path = path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The field that does not fit.
        field: String,
        /// Where it starts, in bytes from the start of the file.
        offset: u64,
        /// The bytes it needs.
        needed: u64,
        /// The bytes left from there.
        remaining: u64,
    },
    /// A metadata key that this use needs is absent.
    #[error("{path}: metadata key {key} is missing (expected {expected})", path = path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type or value wanted.
        expected: String,
    },
    /// A metadata key holds the wrong type or an impossible value.
    #[error("{path}: metadata key {key}: expected {expected}, found {found}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type or range wanted.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A tensor that the model needs is absent.
    #[error("{path}: tensor {tensor} is missing (expected shape {expected})", path = path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape wanted, in the file's order: fastest dimension first.
        expected: String,
    },
    /// A tensor's shape, type, place or contents are wrong.
    #[error("{path}: tensor {tensor}: expected {expected}, found {found}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What a valid tensor has here.
        expected: String,
        /// What this one has.
        found: String,
    },
}

/// A name from the file, made fit for a message: escaped, and cut when absurdly long.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
    if name.len() <= LONGEST && plain {
        return name.to_owned();
    }
    let start: String = name.chars().take(LONGEST).collect();
    let more = if start.len() < name.len() { ".." } else { "" };
    format!("{start:?}{more}")
}
