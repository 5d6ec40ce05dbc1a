//! What can stop a report.

use std::path::PathBuf;

/// A run that can't be read, or a report that can't be written. Messages are whole: `r#source` is no source of
/// [`std::error::Error`]'s, or chains would tell it twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the run could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        r#source: std::io::Error,
    },
    /// A file of the run is not what its schema says.
    #[error("{path}:{line}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// A file was written by another version of the schema.
    #[error("{path}:{line}: schema version {found}, this program reads versions {oldest} to {want}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The version found.
        found: u64,
        /// The version read.
        oldest: u32,
        /// The newest version this program reads.
        want: u32,
    },
    /// A part of the report could not be written.
    #[error("{path}: {message}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// Records that do not belong together, and would be averaged.
    #[error("{path}:{line}: {message}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What differs, and from what.
        message: String,
    },
    /// Runs that can't be compared, or that no chart can hold together.
    #[error("{0}")]
    Mixed(String),
}
