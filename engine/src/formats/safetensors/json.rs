//! Typed reading of `config.json`; every error names the file and the key. `null` is as good as nothing, as in Python.

use std::path::Path;

use serde_json::{Map, Value};

use crate::formats::FormatError;
use crate::formats::error::shown;

/// An object of a JSON file.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    path: &'a Path,
    /// The key of the object itself; empty at the top.
    name: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Section { path, name: "", map }
    }

    /// The whole object as JSON.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self.map).unwrap_or_default()
    }

    fn full(&self, key: &str) -> String {
        let dot = if self.name.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.name, shown(key))
    }

    /// The error for a key that holds the wrong thing.
    #[must_use]
    pub fn wrong(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        FormatError::Key {
            path: self.path.to_owned(),
            key: self.full(key),
            expected: expected.into(),
            found: shown(&found.into()),
        }
    }

    /// The error for a key that is not there.
    #[must_use]
    pub fn missing(&self, key: &str, expected: impl Into<String>) -> FormatError {
        FormatError::MissingKey { path: self.path.to_owned(), key: self.full(key), expected: expected.into() }
    }

    /// The value of a key, `null` left out.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it with `null`.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        of: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        of(value).map(Some).ok_or_else(|| self.wrong(key, expected, value.to_string()))
    }

    /// An integer that fits u32.
    ///
    /// # Errors
    /// Another type, or a value that does not fit.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, FormatError> {
        self.read(key, "an integer that fits u32", |value| value.as_u64().and_then(|v| u32::try_from(v).ok()))
    }

    /// A number.
    ///
    /// # Errors
    /// Another type.
    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>, FormatError> {
        self.read(key, "a number", Value::as_f64)
    }

    /// A bool.
    ///
    /// # Errors
    /// Another type.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        self.read(key, "a bool", Value::as_bool)
    }

    /// A string.
    ///
    /// # Errors
    /// Another type.
    pub fn opt_str(&self, key: &str) -> Result<Option<&'a str>, FormatError> {
        self.read(key, "a string", Value::as_str)
    }

    /// An array of strings.
    ///
    /// # Errors
    /// Another type, of it or of an element.
    pub fn opt_strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, FormatError> {
        self.read(key, "an array of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// An object.
    ///
    /// # Errors
    /// Another type.
    pub fn section(&self, key: &'static str) -> Result<Option<Section<'a>>, FormatError> {
        let map = self.read(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Section { path: self.path, name: key, map }))
    }
}
