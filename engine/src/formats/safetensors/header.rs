//! The header of a safetensors file, and the checks that make its ranges safe to read.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::formats::FormatError;
use crate::formats::error::shown;
use crate::formats::gguf::Shape;

/// Longest header: the reference implementation's limit.
const MAX_HEADER: u64 = 100_000_000;

/// The key of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// How the values of a tensor are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Bytes: packed ternary codes.
    U8,
    /// Any other, by its name: a tensor may have it as long as no one needs its values.
    Other(String),
}

impl Dtype {
    fn of(name: String) -> Self {
        match name.as_str() {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            "U8" => Dtype::U8,
            _ => Dtype::Other(name),
        }
    }

    /// Bytes of a value, where known.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Dtype::F32 => Some(4),
            Dtype::F16 | Dtype::BF16 => Some(2),
            Dtype::U8 => Some(1),
            Dtype::Other(_) => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::U8 => "U8",
            Dtype::Other(name) => return f.write_str(&shown(name)),
        })
    }
}

/// One tensor: what the header says of it, checked against the file's size.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    bytes: Range<usize>,
    shard: usize,
}

impl TensorInfo {
    /// The tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the values are stored.
    #[must_use]
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// The shape as the file has it: slowest dimension first, so that a matrix is `[outputs, inputs]`.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Where the data lies, in bytes from the start of the file.
    #[must_use]
    pub fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }

    /// Which of the folder's files it is in.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Values in one row: the last dimension (1 of a scalar).
    #[must_use]
    pub fn cols(&self) -> usize {
        // Checked when the header was read: the product of the dimensions fits usize.
        self.shape.last().map_or(1, |&cols| cols as usize)
    }

    /// Rows: the product of all dimensions but the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product::<u64>() as usize
    }

    pub(super) fn wrong(&self, path: &Path, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        wrong(path, &self.name, expected, found)
    }
}

fn wrong(path: &Path, tensor: &str, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
    let (expected, found) = (expected.into(), found.into());
    FormatError::Tensor { path: path.to_owned(), tensor: shown(tensor), expected, found }
}

/// The pairs of a JSON object in its order, none twice, [`METADATA`] left out.
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reader<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut pairs, mut seen) = (Vec::new(), HashSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("{} a second time", shown(&key))));
                    }
                    if key == METADATA {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value();
                    let value = value.map_err(|e| A::Error::custom(format!("tensor {}: {e}", shown(&key))))?;
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors of a file, in the order of its bytes; they are said to be of file `shard`.
pub(super) fn read(path: &Path, bytes: &[u8], shard: usize) -> Result<Vec<TensorInfo>, FormatError> {
    let field = |expected: &str, found: String| FormatError::Field {
        path: path.to_owned(),
        field: "header".to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let truncated = |field: &str, offset: u64, needed: u64, remaining: u64| FormatError::Truncated {
        path: path.to_owned(),
        field: field.to_owned(),
        offset,
        needed,
        remaining,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(truncated("length of the header", 0, 8, bytes.len() as u64));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(field(&format!("at most {MAX_HEADER} bytes"), length.to_string()));
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(truncated("header", 8, length, rest.len() as u64));
    };
    let Pairs(entries) = serde_json::from_slice::<Pairs<Entry>>(header).map_err(|error| {
        field("JSON that gives each tensor once, by dtype, shape and data_offsets", error.to_string())
    })?;
    let start = bytes.len() - data.len();
    let place = |(name, entry)| place(path, name, entry, start, data.len() as u64, shard);
    let mut tensors = entries.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by_key(|tensor| (tensor.bytes.start, tensor.bytes.end));
    let mut end = start;
    for tensor in &tensors {
        if tensor.bytes.start != end {
            let expected = format!("data_offsets from {} on, where the tensor before ends", end - start);
            return Err(tensor.wrong(path, expected, (tensor.bytes.start - start).to_string()));
        }
        end = tensor.bytes.end;
    }
    if end != bytes.len() {
        let expected = format!("tensors that cover all {} bytes of data", data.len());
        return Err(field(&expected, format!("{} bytes covered", end - start)));
    }
    Ok(tensors)
}

/// Checks one entry against the `available` bytes of data, which begin at `start` of the file.
fn place(
    path: &Path,
    name: String,
    entry: Entry,
    start: usize,
    available: u64,
    shard: usize,
) -> Result<TensorInfo, FormatError> {
    let (from, to) = entry.data_offsets;
    if from > to || to > available {
        let expected = format!("data_offsets that rise, to at most {available}");
        return Err(wrong(path, &name, expected, format!("[{from}, {to}]")));
    }
    let values = entry.shape.iter().try_fold(1u64, |all, &dim| all.checked_mul(dim));
    let dtype = Dtype::of(entry.dtype);
    let size = values.and_then(|values| values.checked_mul(dtype.bytes().unwrap_or(1)));
    let Some(size) = size.filter(|&size| usize::try_from(size).is_ok()) else {
        return Err(wrong(path, &name, "a size that fits in 64 bits", Shape(&entry.shape).to_string()));
    };
    if dtype.bytes().is_some() && size != to - from {
        let expected = format!("{size} bytes of data (shape {}, {dtype})", Shape(&entry.shape));
        return Err(wrong(path, &name, expected, (to - from).to_string()));
    }
    // Both are at most the file's length, which is a usize.
    let bytes = start + from as usize..start + to as usize;
    Ok(TensorInfo { name, dtype, shape: entry.shape, bytes, shard })
}
