//! A bounds-checked reader over the file's bytes.

use std::fmt;
use std::path::Path;

use crate::formats::FormatError;
use crate::formats::error::shown;

/// The place in the file that is being read, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// A fixed part of the header.
    Header(&'static str),
    /// The key of the n-th metadata pair.
    KeyName(u64),
    /// The value of the metadata pair with this key.
    Value(&'a str),
    /// The name of the n-th tensor.
    TensorName(u64),
    /// A part of the entry of the tensor with this name.
    Tensor(&'static str, &'a str),
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Header(name) => write!(f, "{name}"),
            Field::KeyName(index) => write!(f, "name of metadata key {index}"),
            Field::Value(key) => write!(f, "value of metadata key {}", shown(key)),
            Field::TensorName(index) => write!(f, "name of tensor {index}"),
            Field::Tensor(part, name) => write!(f, "{part} of tensor {}", shown(name)),
        }
    }
}

/// Reads little-endian fields from front to back; every read is checked against what is left.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, at: 0 }
    }

    /// A reader that starts at `at`, a place that an earlier walk has reached.
    pub(super) fn at(path: &'a Path, bytes: &'a [u8], at: usize) -> Self {
        let at = at.min(bytes.len());
        Self { path, bytes, at }
    }

    /// Bytes from the start of the file.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64, field: Field<'_>) -> Result<&'a [u8], FormatError> {
        let remaining = self.remaining();
        let fits = usize::try_from(length).ok().filter(|&n| n <= remaining);
        let Some(length) = fits else {
            return Err(FormatError::Truncated {
                path: self.path.to_owned(),
                field: field.to_string(),
                offset: self.at as u64,
                needed: length,
                remaining: remaining as u64,
            });
        };
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub(super) fn array<const N: usize>(&mut self, field: Field<'_>) -> Result<[u8; N], FormatError> {
        let taken = self.take(N as u64, field)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub(super) fn u32(&mut self, field: Field<'_>) -> Result<u32, FormatError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: Field<'_>) -> Result<u64, FormatError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A count of things of which each takes at least `smallest` bytes of what follows, so that no
    /// later loop or allocation is sized by a number that the file cannot hold.
    pub(super) fn count(&mut self, smallest: u64, field: Field<'_>) -> Result<u64, FormatError> {
        let count = self.u64(field)?;
        let most = self.remaining() as u64 / smallest.max(1);
        if count > most {
            return Err(self.wrong(
                field,
                format!("a count of at most {most}, which is all that the rest of the file holds"),
                count,
            ));
        }
        Ok(count)
    }

    /// A string: u64 length, then that many bytes, not yet checked for UTF-8.
    pub(super) fn raw_string(&mut self, field: Field<'_>) -> Result<&'a [u8], FormatError> {
        let length = self.u64(field)?;
        self.take(length, field)
    }

    /// A string that must be UTF-8.
    pub(super) fn string(&mut self, field: Field<'_>) -> Result<&'a str, FormatError> {
        let raw = self.raw_string(field)?;
        std::str::from_utf8(raw).map_err(|e| self.wrong(field, "UTF-8".to_owned(), e))
    }

    /// The error for a field that holds what it must not.
    pub(super) fn wrong(&self, field: Field<'_>, expected: impl Into<String>, found: impl fmt::Display) -> FormatError {
        FormatError::Field {
            path: self.path.to_owned(),
            field: field.to_string(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }
}
