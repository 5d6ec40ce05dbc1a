//! The bytes of a model file.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::time::UNIX_EPOCH;

use memmap2::{Mmap, UncheckedAdvice};

use super::FormatError;

/// Bytes that Linux maps around a page of a file that is asked for, at most: all of a huge page where its cache holds the
/// file in such, else 64 KiB unless told otherwise (`fault_around_bytes`).
const AROUND: usize = 2 << 20;

/// A file's bytes, mapped or (in tests and for bytes that came some other way) owned.
pub(crate) enum Bytes {
    Mapped {
        map: Mmap,
        /// When it was last changed, in nanoseconds since 1970, if the system says.
        modified: Option<u128>,
    },
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a file.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let io = |source| FormatError::Io { path: path.to_owned(), source };
        // Asked before it is opened: opening a pipe would wait for its other end.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(std::io::Error::other("not a regular file")));
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.len() == 0 {
            return Ok(Bytes::Owned(Vec::new()));
        }
        // SAFETY: the map is read-only and private. A file that someone else changes or cuts while
        // it is mapped can still change these bytes or end the process by SIGBUS: mapped weights
        // need a file that is left alone, as every engine that maps its weights does.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Bytes::Mapped { map, modified: modified.map(|time| time.as_nanos()) })
    }

    /// Gives back the memory that mapped pages take; they are read again when they are asked for. Pages near the range go
    /// too: when one is asked for, the system maps those [`AROUND`] it.
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Bytes::Mapped { map, .. } = self {
            let (start, end) = (range.start.saturating_sub(AROUND), (range.end + AROUND).min(map.len()));
            // SAFETY: the map is read-only and of a file, so dropped pages come back as they were. That it may fail costs
            // memory, nothing else.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end.saturating_sub(start)) };
        }
    }

    /// When the file was last changed: see [`Bytes::Mapped`]; `None` of bytes that are no file's.
    pub(crate) fn modified(&self) -> Option<u128> {
        match self {
            Bytes::Mapped { modified, .. } => *modified,
            Bytes::Owned(_) => None,
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped { map, .. } => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
