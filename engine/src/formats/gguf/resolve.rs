//! Type ids that mean one thing in files of bitnet.cpp and another in files of ggml.
//!
//! Of 34 to 42, only 39 can be either in a file: TL2, or MXFP4. What a file gives, strongest first: the bytes between
//! this tensor and the next, which hardly ever fit both; the scale that bitnet.cpp's converter puts beside a TL2 tensor;
//! the architecture and file type. If both stay possible the file is refused.

use std::collections::HashMap;

use super::tensor::Entry;
use super::types::TensorType;

/// What the metadata says of the program that wrote the file.
pub(super) struct Hints<'a> {
    /// `general.architecture`.
    pub(super) architecture: Option<&'a str>,
    /// `general.file_type`.
    pub(super) file_type: Option<u64>,
}

/// ggml's file type of models that are mostly MXFP4.
const MOSTLY_MXFP4: u64 = 38;

/// The table of tensors, by which ids are resolved.
pub(super) struct Resolver<'a> {
    index: &'a HashMap<String, usize>,
    hints: &'a Hints<'a>,
    alignment: u64,
    /// Every offset, sorted, and the end of the data.
    offsets: Vec<u64>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        entries: &[Entry],
        index: &'a HashMap<String, usize>,
        hints: &'a Hints<'a>,
        alignment: u64,
        data_len: u64,
    ) -> Self {
        let mut offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
        offsets.push(data_len);
        offsets.sort_unstable();
        Self { index, hints, alignment, offsets }
    }

    /// The type of an entry.
    ///
    /// # Errors
    /// The text that names an id which is unknown, or both its meanings.
    pub(super) fn kind(&self, entry: &Entry) -> Result<TensorType, String> {
        if entry.id != TensorType::SHARED_ID {
            return TensorType::from_id(entry.id);
        }
        let (tl2, mxfp4) = (TensorType::Tl2, TensorType::mxfp4());
        match (self.fills(entry, tl2), self.fills(entry, mxfp4)) {
            (true, false) => return Ok(tl2),
            (false, true) => return Ok(mxfp4),
            _ => {}
        }
        let bitnet = self.hints.architecture.is_some_and(|name| name.starts_with("bitnet"));
        if self.index.contains_key(&format!("{}_scale", entry.name)) || bitnet {
            return Ok(tl2);
        }
        if self.hints.file_type == Some(MOSTLY_MXFP4) {
            return Ok(mxfp4);
        }
        let what = TensorType::from_id(entry.id).err().unwrap_or_default();
        Err(format!("{what}: neither its size, a scale beside it, nor the architecture tells which"))
    }

    /// Whether a tensor of this type would end where the next begins, padding aside.
    fn fills(&self, entry: &Entry, kind: TensorType) -> bool {
        if !entry.dims[0].is_multiple_of(kind.block_len()) {
            return false;
        }
        let next = self.offsets.partition_point(|&offset| offset <= entry.offset);
        let Some(room) = self.offsets.get(next).map(|&offset| offset - entry.offset) else {
            return false;
        };
        kind.data_bytes(&entry.dims).is_some_and(|size| size <= room && room - size < self.alignment)
    }
}
