//! Typed reading of metadata; every error names the file and the key.

use super::file::GgufFile;
use super::metadata::{Array, Value};
use crate::formats::FormatError;
use crate::formats::error::shown;

impl GgufFile {
    /// The error for a key that holds the wrong thing.
    pub(crate) fn wrong_key(&self, key: &str, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        FormatError::Key {
            path: self.path().to_owned(),
            key: shown(key),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T, FormatError> {
        value.ok_or_else(|| FormatError::MissingKey {
            path: self.path().to_owned(),
            key: shown(key),
            expected: expected.to_owned(),
        })
    }

    /// An integer of any width that fits u32.
    ///
    /// # Errors
    ///
    /// Another type, or a value that does not fit.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, FormatError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let fits = match value {
            Value::Unsigned(v) => u32::try_from(v).ok(),
            Value::Signed(v) => u32::try_from(v).ok(),
            _ => None,
        };
        match fits {
            Some(v) => Ok(Some(v)),
            None => Err(self.wrong_key(key, "an integer that fits u32", value.to_string())),
        }
    }

    /// As [`GgufFile::opt_u32`], for a key that must be there.
    ///
    /// # Errors
    ///
    /// As there, or the key is missing.
    pub fn u32(&self, key: &str) -> Result<u32, FormatError> {
        let value = self.opt_u32(key)?;
        self.required(key, "an integer that fits u32", value)
    }

    /// A float (f32, or f64 rounded to it).
    ///
    /// # Errors
    ///
    /// Another type.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, FormatError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Float(v)) => Ok(Some(v as f32)),
            Some(other) => Err(self.wrong_key(key, "a float", other.to_string())),
        }
    }

    /// As [`GgufFile::opt_f32`], for a key that must be there.
    ///
    /// # Errors
    ///
    /// As there, or the key is missing.
    pub fn f32(&self, key: &str) -> Result<f32, FormatError> {
        let value = self.opt_f32(key)?;
        self.required(key, "a float", value)
    }

    /// A bool.
    ///
    /// # Errors
    ///
    /// Another type.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(v)),
            Some(other) => Err(self.wrong_key(key, "a bool", other.to_string())),
        }
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// Another type, or bytes that are not UTF-8.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, FormatError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(bytes)) => self.text(key, bytes).map(Some),
            Some(other) => Err(self.wrong_key(key, "a string", other.to_string())),
        }
    }

    /// As [`GgufFile::opt_str`], for a key that must be there.
    ///
    /// # Errors
    ///
    /// As there, or the key is missing.
    pub fn str(&self, key: &str) -> Result<&str, FormatError> {
        let value = self.opt_str(key)?;
        self.required(key, "a string", value)
    }

    fn text<'a>(&self, key: &str, bytes: &'a [u8]) -> Result<&'a str, FormatError> {
        std::str::from_utf8(bytes).map_err(|e| self.wrong_key(key, "UTF-8", format!("a string with an {e}")))
    }

    fn opt_array(&self, key: &str, of: &str) -> Result<Option<Array<'_>>, FormatError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(other) => Err(self.wrong_key(key, format!("an array of {of}"), other.to_string())),
        }
    }

    /// The length of an array of any type.
    ///
    /// # Errors
    ///
    /// Another type.
    pub(crate) fn array_len(&self, key: &str) -> Result<Option<usize>, FormatError> {
        Ok(self.opt_array(key, "any type")?.map(|array| array.len()))
    }

    /// Every element of an array, through `one`, which says `None` to a wrong type.
    fn elements<'a, T>(
        &'a self,
        key: &str,
        of: &str,
        one: impl Fn(&Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, FormatError> {
        let Some(array) = self.opt_array(key, of)? else {
            return Ok(None);
        };
        // Grows as elements of the right type come: a count of bytes must not reserve room for as many strings.
        let mut elements = Vec::new();
        let mut wrong = None;
        array.read(key, |value| match one(&value) {
            Some(element) => elements.push(element),
            None => {
                wrong.get_or_insert_with(|| value.to_string());
            }
        })?;
        match wrong {
            None => Ok(Some(elements)),
            Some(found) => Err(self.wrong_key(key, format!("an array of {of}"), found)),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    ///
    /// Another type, or an element that is not UTF-8.
    pub fn opt_strings(&self, key: &str) -> Result<Option<Vec<&str>>, FormatError> {
        self.elements(key, "UTF-8 strings", |value| match value {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        })
    }

    /// As [`GgufFile::opt_strings`], for a key that must be there.
    ///
    /// # Errors
    ///
    /// As there, or the key is missing.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>, FormatError> {
        let value = self.opt_strings(key)?;
        self.required(key, "an array of UTF-8 strings", value)
    }

    /// An array of floats.
    ///
    /// # Errors
    ///
    /// Another type.
    pub fn opt_floats(&self, key: &str) -> Result<Option<Vec<f32>>, FormatError> {
        self.elements(key, "floats", |value| match value {
            Value::Float(v) => Some(*v as f32),
            _ => None,
        })
    }

    /// An array of integers that fit i32.
    ///
    /// # Errors
    ///
    /// Another type, or an element that does not fit.
    pub fn opt_integers(&self, key: &str) -> Result<Option<Vec<i32>>, FormatError> {
        self.elements(key, "integers that fit i32", |value| match value {
            Value::Unsigned(v) => i32::try_from(*v).ok(),
            Value::Signed(v) => i32::try_from(*v).ok(),
            _ => None,
        })
    }
}
