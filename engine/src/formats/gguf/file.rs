//! Opening a file and walking its structure.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::cursor::{Cursor, Field};
use super::metadata::{Array, Stored, Value, read_value};
use super::resolve::Hints;
use super::tensor::{SMALLEST_ENTRY, TensorInfo, read_table};
use super::ternary::I2sLayout;
use super::types::TensorType;
use super::writer::{Meta, Metadata};
use crate::formats::bytes::Bytes;
use crate::formats::error::shown;
use crate::formats::{FormatError, KernelConfig};
use crate::quant::blocks;

/// The fewest bytes of one metadata pair: key length, type, a one-byte value.
const SMALLEST_PAIR: u64 = 8 + 4 + 1;

const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// The key by which files written here carry the kernel config of their TL1 or TL2 tensors.
pub(crate) const KERNELS_KEY: &str = "tritmark.kernel_config";

/// An open GGUF file: metadata by key and tensors by name, all of it checked against its size.
pub struct GgufFile {
    path: PathBuf,
    bytes: Bytes,
    version: u32,
    metadata: BTreeMap<String, Stored>,
    /// Every key in the file's order, and where its value lies, type id and all.
    order: Vec<(String, Range<usize>)>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    i2s: I2sLayout,
    kernels: Option<KernelConfig>,
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
        let (metadata, order) = read_metadata(&mut cursor, pairs)?;
        let alignment = read_alignment(path, &metadata)?;
        let file_len = bytes.as_slice().len() as u64;
        let hints = Hints {
            architecture: text(&bytes, &metadata, "general.architecture"),
            file_type: match metadata.get("general.file_type") {
                Some(Stored::Unsigned(v)) => Some(*v),
                _ => None,
            },
        };
        let (tensors, by_name) = read_table(&mut cursor, tensor_count, alignment, file_len, &hints)?;
        let named = text(&bytes, &metadata, I2sLayout::KEY).map(|name| layout(path, name)).transpose()?;
        let i2s = I2sLayout::told(named, &tensors);
        let kernels = text(&bytes, &metadata, KERNELS_KEY).map(|text| KernelConfig::parse(path, text)).transpose()?;
        Ok(Self { path: path.to_owned(), version, metadata, order, tensors, by_name, bytes, i2s, kernels })
    }

    /// The same file, its I2_S tensors read in this layout, whatever the file gives.
    #[must_use]
    pub fn with_i2s_layout(self, i2s: I2sLayout) -> Self {
        Self { i2s, ..self }
    }

    /// The layout that I2_S tensors are read in: the one that the file names ([`I2sLayout::KEY`]), else that of x86 builds
    /// if the shapes admit it, else the only one that they admit.
    #[must_use]
    pub fn i2s_layout(&self) -> I2sLayout {
        self.i2s
    }

    /// The same file, its TL1 and TL2 tensors cut as `kernels` say.
    #[must_use]
    pub fn with_kernels(self, kernels: KernelConfig) -> Self {
        Self { kernels: Some(kernels), ..self }
    }

    /// How TL1 and TL2 tensors are cut, if it is known: files written here say so themselves.
    #[must_use]
    pub fn kernels(&self) -> Option<&KernelConfig> {
        self.kernels.as_ref()
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

    /// When the file was last changed (see [`Bytes::modified`]), and its bytes before the first tensor's.
    pub(crate) fn stamp(&self) -> (Option<u128>, &[u8]) {
        let end = self.tensors.iter().map(|tensor| tensor.bytes().start).min().unwrap_or(self.file_bytes());
        (self.bytes.modified(), &self.bytes.as_slice()[..end])
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

    /// The metadata as it is, to write it again.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::default();
        for (key, range) in &self.order {
            let bytes = &self.bytes.as_slice()[range.clone()];
            let (kind, value) = bytes.split_at(4);
            metadata.set(key, Meta::Raw(u32::from_le_bytes([kind[0], kind[1], kind[2], kind[3]]), value.to_vec()));
        }
        metadata
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

    /// Gives back the memory that the mapped pages of a tensor take; they are read again when they are asked for.
    pub(crate) fn release(&self, tensor: &TensorInfo) {
        self.bytes.release(tensor.bytes());
    }

    /// The same for a part of a tensor's bytes.
    pub(crate) fn release_part(&self, tensor: &TensorInfo, part: Range<usize>) {
        let start = tensor.bytes().start;
        self.bytes.release(start + part.start..start + part.end);
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
        if matches!(tensor.kind(), TensorType::I2S | TensorType::Tl1 | TensorType::Tl2) {
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

/// The layout that a file names.
fn layout(path: &Path, name: &str) -> Result<I2sLayout, FormatError> {
    name.parse().map_err(|expected: String| FormatError::Key {
        path: path.to_owned(),
        key: I2sLayout::KEY.to_owned(),
        expected,
        found: shown(name),
    })
}

/// The string of a key, if it is one.
fn text<'a>(bytes: &'a Bytes, metadata: &BTreeMap<String, Stored>, key: &str) -> Option<&'a str> {
    match metadata.get(key)? {
        Stored::Text(range) => std::str::from_utf8(&bytes.as_slice()[range.clone()]).ok(),
        _ => None,
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

type Pairs = (BTreeMap<String, Stored>, Vec<(String, Range<usize>)>);

fn read_metadata(cursor: &mut Cursor<'_>, pairs: u64) -> Result<Pairs, FormatError> {
    let (mut metadata, mut order) = (BTreeMap::new(), Vec::new());
    for nth in 0..pairs {
        let field = Field::KeyName(nth);
        let key = cursor.string(field)?;
        if key.is_empty() {
            return Err(cursor.wrong(field, "a name", "an empty one"));
        }
        let start = cursor.position();
        let value = read_value(cursor, key)?;
        order.push((key.to_owned(), start..cursor.position()));
        if metadata.insert(key.to_owned(), value).is_some() {
            let found = format!("{} a second time", shown(key));
            return Err(cursor.wrong(field, "a key of its own", found));
        }
    }
    Ok((metadata, order))
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
