//! The table of tensors, and the checks that make its ranges safe to read.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::cursor::{Cursor, Field};
use super::resolve::{Hints, Resolver};
use super::types::TensorType;
use crate::formats::FormatError;
use crate::formats::error::shown;

/// ggml's limit on dimensions.
const MOST_DIMS: u32 = 4;

/// The fewest bytes of one tensor's entry: name length, dimension count, type, offset.
pub(super) const SMALLEST_ENTRY: u64 = 8 + 4 + 4 + 8;

/// One tensor: what the file says of it, checked against the file's size.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: String,
    dims: Vec<u64>,
    kind: TensorType,
    bytes: Range<usize>,
}

impl TensorInfo {
    /// The tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape as the file has it: fastest dimension (the row's length) first. A scalar, which has none, is `[1]` here.
    #[must_use]
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// How the values are stored.
    #[must_use]
    pub fn kind(&self) -> TensorType {
        self.kind
    }

    /// Where the data lies, in bytes from the start of the file.
    #[must_use]
    pub fn bytes(&self) -> Range<usize> {
        self.bytes.clone()
    }

    /// Values in one row.
    #[must_use]
    pub fn cols(&self) -> usize {
        // Checked when the table was read: every product of dimensions fits usize.
        self.dims[0] as usize
    }

    /// Rows: the product of all dimensions but the first.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product::<u64>() as usize
    }

    /// The error that names this tensor.
    pub(crate) fn wrong(
        &self,
        path: &std::path::Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> FormatError {
        FormatError::Tensor {
            path: path.to_owned(),
            tensor: shown(&self.name),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// A shape in the file's order, as in `[576, 1536]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a>(pub(crate) &'a [u64]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A table entry before the start of the data is known.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dims: Vec<u64>,
    pub(super) id: u32,
    pub(super) offset: u64,
}

/// Reads `count` entries and places them in the file; `hints` say which program wrote it.
pub(super) fn read_table(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
    file_len: u64,
    hints: &Hints<'_>,
) -> Result<(Vec<TensorInfo>, HashMap<String, usize>), FormatError> {
    let mut entries = Vec::new();
    let mut index = HashMap::new();
    for nth in 0..count {
        let entry = read_entry(cursor, nth)?;
        if index.insert(entry.name.clone(), entries.len()).is_some() {
            return Err(cursor.wrong(
                Field::TensorName(nth),
                "a name of its own",
                format!("{} a second time", shown(&entry.name)),
            ));
        }
        entries.push(entry);
    }
    let table_end = cursor.position() as u64;
    let data_start = table_end.checked_next_multiple_of(alignment);
    let data_len = data_start.map_or(0, |start| file_len.saturating_sub(start));
    let resolver = Resolver::new(&entries, &index, hints, alignment, data_len);
    let kinds = entries.iter().map(|entry| resolver.kind(entry));
    let kinds = kinds.collect::<Vec<_>>();
    let mut tensors = Vec::with_capacity(entries.len());
    for (entry, kind) in entries.into_iter().zip(kinds) {
        let field = Field::Tensor("type", &entry.name);
        let kind = kind.map_err(|found| cursor.wrong(field, TensorType::READABLE, found))?;
        tensors.push(place(cursor, entry, kind, data_start, alignment, file_len)?);
    }
    refuse_overlap(cursor, &tensors)?;
    Ok((tensors, index))
}

fn read_entry(cursor: &mut Cursor<'_>, nth: u64) -> Result<Entry, FormatError> {
    let name = cursor.string(Field::TensorName(nth))?;
    if name.is_empty() {
        return Err(cursor.wrong(Field::TensorName(nth), "a name", "an empty one"));
    }
    let count_field = Field::Tensor("dimension count", name);
    let count = cursor.u32(count_field)?;
    if count > MOST_DIMS {
        return Err(cursor.wrong(count_field, "at most 4 dimensions", count));
    }
    let shape = Field::Tensor("shape", name);
    let mut dims = Vec::with_capacity(count as usize);
    for _ in 0..count {
        dims.push(cursor.u64(shape)?);
    }
    // bitnet.cpp's converter writes the scales of TL1 and TL2 as scalars.
    if dims.is_empty() {
        dims.push(1);
    }
    if dims.contains(&0) {
        return Err(cursor.wrong(shape, "dimensions of at least 1", Shape(&dims)));
    }
    let id = cursor.u32(Field::Tensor("type", name))?;
    let offset = cursor.u64(Field::Tensor("offset", name))?;
    Ok(Entry { name: name.to_owned(), dims, id, offset })
}

/// Bytes of a tensor's data, with every product checked.
fn data_size(cursor: &Cursor<'_>, name: &str, dims: &[u64], kind: TensorType) -> Result<u64, FormatError> {
    let field = Field::Tensor("shape", name);
    if !dims[0].is_multiple_of(kind.block_len()) {
        let expected = format!("a first dimension that is a multiple of {} ({kind})", kind.block_len());
        return Err(cursor.wrong(field, expected, Shape(dims)));
    }
    let values = dims.iter().try_fold(1u64, |all, &dim| all.checked_mul(dim));
    let size = values.filter(|&n| usize::try_from(n).is_ok()).and_then(|_| kind.data_bytes(dims));
    let expected = match kind {
        TensorType::Tl2 => "at least 256 columns (TL2), and a size that fits in 64 bits",
        _ => "a size that fits in 64 bits",
    };
    size.ok_or_else(|| cursor.wrong(field, expected, Shape(dims)))
}

fn place(
    cursor: &Cursor<'_>,
    entry: Entry,
    kind: TensorType,
    data_start: Option<u64>,
    alignment: u64,
    file_len: u64,
) -> Result<TensorInfo, FormatError> {
    let field = Field::Tensor("offset", &entry.name);
    let size = data_size(cursor, &entry.name, &entry.dims, kind)?;
    if !entry.offset.is_multiple_of(alignment) {
        let expected = format!("a multiple of the alignment {alignment}");
        return Err(cursor.wrong(field, expected, entry.offset));
    }
    let start = data_start.and_then(|data| data.checked_add(entry.offset));
    let end = start.and_then(|start| start.checked_add(size));
    let (Some(start), Some(end)) = (start, end) else {
        return Err(cursor.wrong(field, "a place inside the file", entry.offset));
    };
    if end > file_len {
        return Err(FormatError::Truncated {
            path: cursor.path().to_owned(),
            field: Field::Tensor("data", &entry.name).to_string(),
            offset: start,
            needed: size,
            remaining: file_len.saturating_sub(start),
        });
    }
    Ok(TensorInfo {
        name: entry.name,
        dims: entry.dims,
        kind,
        // Both are at most the file's length, which is a usize.
        bytes: start as usize..end as usize,
    })
}

fn refuse_overlap(cursor: &Cursor<'_>, tensors: &[TensorInfo]) -> Result<(), FormatError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.bytes.start);
    for pair in order.windows(2) {
        if pair[0].bytes.end > pair[1].bytes.start {
            return Err(cursor.wrong(
                Field::Tensor("data", &pair[1].name),
                format!("bytes of its own, from {} on", pair[0].bytes.end),
                format!("a start at {}, inside tensor {}", pair[1].bytes.start, shown(&pair[0].name)),
            ));
        }
    }
    Ok(())
}
