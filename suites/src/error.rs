//! What can be wrong with a definition.

use std::path::PathBuf;

/// A definition that can't be used. Every message names the file, the key or name, and what was expected,
/// causes included: `r#source` is no source of [`std::error::Error`]'s, or chains would tell it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        r#source: std::io::Error,
    },
    /// The text is not what the wire type allows; the message carries line, column and the nearest right key.
    #[error("{origin}: {message}")]
    Parse {
        /// File name, or where else the text came from.
        origin: String,
        /// The parser's message, with the line quoted.
        message: String,
    },
    /// A value parses but makes no sense.
    #[error("{origin}: {key}: expected {expected}, found {found}")]
    Value {
        /// File name.
        origin: String,
        /// The key, with the name of the entry that holds it.
        key: String,
        /// What would have been right.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A name that nothing is called.
    #[error("unknown {what} `{name}`{}; known: {}", nearest_hint(.nearest), .known.join(", "))]
    Unknown {
        /// "suite", "model" or "engine".
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The nearest known name, if one is near.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
}

fn nearest_hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

impl Error {
    /// An [`Error::Unknown`] with the nearest known name filled in.
    pub fn unknown<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
        let known: Vec<String> = known.map(str::to_owned).collect();
        Error::Unknown { what, name: name.to_owned(), nearest: nearest(name, known.iter().map(String::as_str)), known }
    }
}

/// The candidate most like `name` by Jaro-Winkler similarity, if any is near enough to be a likely slip.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|c| (strsim::jaro_winkler(&name.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c.to_owned())
}
