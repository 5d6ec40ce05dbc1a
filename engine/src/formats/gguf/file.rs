//! Opening a file and walking its structure.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::cursor::{Cursor, Field};
use super::metadata::{Array, Stored, Value, read_value};
use super::tensor::{SMALLEST_ENTRY, TensorInfo, read_table};
use super::ternary::I2sLayout;
use super::types::TensorType;
use crate::formats::FormatError;
use crate::formats::bytes::Bytes;
use crate::formats::error::shown;
use crate::quant::blocks;

/// The fewest bytes of one metadata pair: key length, type, a one-byte value.
const SMALLEST_PAIR: u64 = 8 + 4 + 1;

const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// An open GGUF file: metadata by key and tensors by name, all of it checked against its size.
pub struct GgufFile {
    path: PathBuf,
    bytes: Bytes,
    version: u32,
    metadata: BTreeMap<String, Stored>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    i2s: I2sLayout,
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufFile")
            .field("path", &self.path)
            .field("version", &self.version)
            .field("keys", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish()
    }
}

impl GgufFile {
    /// Maps and checks a file.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the file cannot be mapped or any part of its structure is wrong.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        Self::parse(path, Bytes::open(path)?)
    }

    /// Checks bytes that are already in memory; `name` stands for the path in messages.
    ///
    /// # Errors
    ///
    /// As [`GgufFile::open`], without the operating system's part.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self, FormatError> {
        Self::parse(name.as_ref(), Bytes::Owned(bytes))
    }

    fn parse(path: &Path, bytes: Bytes) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(path, bytes.as_slice());
        let version = read_version(&mut cursor)?;
        let tensor_count = cursor.count(SMALLEST_ENTRY, Field::Header("tensor count"))?;
        let pairs = cursor.count(SMALLEST_PAIR, Field::Header("metadata count"))?;
        let metadata = read_metadata(&mut cursor, pairs)?;
        let alignment = read_alignment(path, &metadata)?;
        let file_len = bytes.as_slice().len() as u64;
        let (tensors, by_name) = read_table(&mut cursor, tensor_count, alignment, file_len)?;
        let i2s = I2sLayout::default();
        Ok(Self { path: path.to_owned(), version, metadata, tensors, by_name, bytes, i2s })
    }

    /// The same file, its I2_S tensors read in another layout than that of x86 builds.
    #[must_use]
    pub fn with_i2s_layout(self, i2s: I2sLayout) -> Self {
        Self { i2s, ..self }
    }

    /// The layout that I2_S tensors are read in.
    #[must_use]
    pub fn i2s_layout(&self) -> I2sLayout {
        self.i2s
    }

    /// The path that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format's version: 2 or 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The size of the file.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// Every metadata key, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    /// The value of a key, or `None` when the file has no such key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let bytes = self.bytes.as_slice();
        Some(match self.metadata.get(key)? {
            Stored::Unsigned(v) => Value::Unsigned(*v),
            Stored::Signed(v) => Value::Signed(*v),
            Stored::Float(v) => Value::Float(*v),
            Stored::Bool(v) => Value::Bool(*v),
            Stored::Text(range) => Value::Text(&bytes[range.clone()]),
            Stored::Array { element, count, at } => {
                let cursor = Cursor::at(&self.path, bytes, *at);
                Value::Array(Array::new(*element, *count, cursor))
            }
        })
    }

    /// Every tensor, in the order of the file's table.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// A tensor's bytes as stored. `tensor` must be of this file.
    #[must_use]
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        &self.bytes.as_slice()[tensor.bytes()]
    }

    /// Decodes one row of a tensor of this file into `out`, which holds `tensor.cols()` values.
    ///
    /// # Errors
    ///
    /// A type that is not read, or a value that is NaN or infinite: both name the tensor.
    ///
    /// # Panics
    ///
    /// When `row` or the length of `out` does not fit the tensor: the caller's mistake, as both are
    /// known from `tensor`.
    pub fn row_to_f32(&self, tensor: &TensorInfo, row: usize, out: &mut [f32]) -> Result<(), FormatError> {
        assert!(row < tensor.rows() && out.len() == tensor.cols());
        if tensor.kind() == TensorType::I2S {
            let scale = self.ternary_scale(tensor)?;
            let mut trits = vec![0; out.len()];
            self.ternary_row(tensor, row, &mut trits)?;
            out.iter_mut().zip(trits).for_each(|(out, trit)| *out = f32::from(trit) * scale);
            return Ok(());
        }
        let data = self.data(tensor);
        let row_bytes = data.len() / tensor.rows();
        let bytes = &data[row * row_bytes..(row + 1) * row_bytes];
        if !blocks::dequantise(tensor.kind(), bytes, out) {
            let found = tensor.kind().to_string();
            return Err(tensor.wrong(&self.path, TensorType::READABLE, found));
        }
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(col) => {
                Err(tensor.wrong(&self.path, "finite weights", format!("{} in row {row}, column {col}", out[col])))
            }
        }
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, FormatError> {
    let magic: [u8; 4] = cursor.array(Field::Header("magic"))?;
    if &magic != b"GGUF" {
        let found = magic.escape_ascii().to_string();
        return Err(cursor.wrong(Field::Header("magic"), "GGUF", found));
    }
    let field = Field::Header("version");
    let version = cursor.u32(field)?;
    match version {
        2 | 3 => Ok(version),
        big if matches!(big.swap_bytes(), 1..=3) => Err(cursor.wrong(
            field,
            "a little-endian file of version 2 or 3",
            format!("a big-endian file of version {}", big.swap_bytes()),
        )),
        other => Err(cursor.wrong(field, "2 or 3", other)),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, pairs: u64) -> Result<BTreeMap<String, Stored>, FormatError> {
    let mut metadata = BTreeMap::new();
    for nth in 0..pairs {
        let field = Field::KeyName(nth);
        let key = cursor.string(field)?;
        if key.is_empty() {
            return Err(cursor.wrong(field, "a name", "an empty one"));
        }
        let value = read_value(cursor, key)?;
        if metadata.insert(key.to_owned(), value).is_some() {
            let found = format!("{} a second time", shown(key));
            return Err(cursor.wrong(field, "a key of its own", found));
        }
    }
    Ok(metadata)
}

fn read_alignment(path: &Path, metadata: &BTreeMap<String, Stored>) -> Result<u64, FormatError> {
    let found = match metadata.get(ALIGNMENT_KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Stored::Unsigned(v)) if v.is_power_of_two() => return Ok(*v),
        Some(Stored::Unsigned(v)) => v.to_string(),
        Some(other) => format!("{other:?}"),
    };
    Err(FormatError::Key {
        path: path.to_owned(),
        key: ALIGNMENT_KEY.to_owned(),
        expected: "an unsigned power of two".to_owned(),
        found,
    })
}
