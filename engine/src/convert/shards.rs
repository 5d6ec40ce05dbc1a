//! Writes a folder of safetensors files: headers first, then tensor after tensor; more than one file, with an index, where
//! a size is set.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::formats::FormatError;

/// A tensor of a folder in the making.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    /// As safetensors names it.
    pub(super) dtype: &'static str,
    /// Slowest dimension first.
    pub(super) shape: Vec<u64>,
    pub(super) bytes: u64,
}

/// A folder being written: beside its place, under a name of its own, until [`Folder::finish`] moves it there.
pub(super) struct Folder {
    path: PathBuf,
    partial: PathBuf,
    finished: bool,
}

impl Folder {
    pub(super) fn create(path: &Path) -> Result<Self, FormatError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        std::fs::create_dir(&partial).map_err(|source| FormatError::Io { path: partial.clone(), source })?;
        Ok(Self { path: path.to_owned(), partial, finished: false })
    }

    /// Writes a whole file.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let path = self.partial.join(name);
        std::fs::write(&path, bytes).map_err(|source| FormatError::Io { path, source })
    }

    /// Puts the complete folder in its place, where there must be none or an empty one.
    pub(super) fn finish(mut self) -> Result<(), FormatError> {
        std::fs::rename(&self.partial, &self.path)
            .map_err(|source| FormatError::Io { path: self.path.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.finished {
            // What is half written is of no use; that it cannot be removed is no news either.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

/// The tensors of each file: as many as fit `most` bytes, at least one.
fn parted(tensors: &[Planned], most: u64) -> Vec<&[Planned]> {
    let (mut shards, mut start, mut bytes) = (Vec::new(), 0, 0u64);
    for (at, tensor) in tensors.iter().enumerate() {
        if at > start && bytes.saturating_add(tensor.bytes) > most {
            shards.push(&tensors[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(tensor.bytes);
    }
    shards.push(&tensors[start..]);
    shards
}

/// The tensors of a folder, written in their order.
pub(super) struct Shards<'a> {
    folder: &'a Folder,
    /// Name and tensors of each file that is not begun.
    left: std::vec::IntoIter<(String, &'a [Planned])>,
    file: Option<BufWriter<File>>,
    /// Bytes that each tensor of the file lacks, the next one last.
    lacking: Vec<u64>,
}

impl<'a> Shards<'a> {
    /// Begins; with more than one file, writes their index.
    pub(super) fn create(folder: &'a Folder, tensors: &'a [Planned], most: u64) -> Result<Self, FormatError> {
        let shards = parted(tensors, most);
        let count = shards.len();
        let name = |nth: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", nth + 1),
        };
        let named: Vec<(String, &[Planned])> = shards.into_iter().enumerate().map(|(n, s)| (name(n), s)).collect();
        if count > 1 {
            let pair = |(file, shard): &(String, &'a [Planned])| {
                let pairs = shard.iter().map(|tensor| (tensor.name.clone(), json!(file)));
                pairs.collect::<Vec<_>>()
            };
            let map: Map<String, Value> = named.iter().flat_map(pair).collect();
            let total: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
            let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
            folder.put("model.safetensors.index.json", format!("{index:#}\n").as_bytes())?;
        }
        Ok(Self { folder, left: named.into_iter(), file: None, lacking: Vec::new() })
    }

    /// Writes the next bytes, which must not go beyond a tensor's end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        if self.lacking.is_empty() {
            self.next_file()?;
        }
        let path = self.folder.partial.clone();
        let io = |source| FormatError::Io { path: path.clone(), source };
        let lacks = self.lacking.last_mut().filter(|lacks| **lacks >= bytes.len() as u64);
        let (Some(lacks), Some(file)) = (lacks, self.file.as_mut()) else {
            return Err(io(std::io::Error::other("more bytes than its tensors have")));
        };
        file.write_all(bytes).map_err(io)?;
        *lacks -= bytes.len() as u64;
        if *lacks == 0 {
            self.lacking.pop();
        }
        if self.lacking.is_empty() {
            file.flush().map_err(io)?;
        }
        Ok(())
    }

    fn next_file(&mut self) -> Result<(), FormatError> {
        let Some((name, tensors)) = self.left.next() else { return Ok(()) };
        let path = self.folder.partial.join(&name);
        let io = |source| FormatError::Io { path: path.clone(), source };
        let (mut header, mut at) = (Map::new(), 0u64);
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        for tensor in tensors {
            let end = at + tensor.bytes;
            let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end] });
            header.insert(tensor.name.clone(), entry);
            at = end;
        }
        let mut text = serde_json::to_vec(&header).map_err(|e| io(e.into()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&path).map_err(io)?);
        file.write_all(&(text.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&text)).map_err(io)?;
        self.lacking = tensors.iter().rev().map(|tensor| tensor.bytes).collect();
        self.file = Some(file);
        Ok(())
    }

    /// Checks that everything was written.
    pub(super) fn finish(self) -> Result<(), FormatError> {
        if self.lacking.is_empty() && self.left.len() == 0 {
            return Ok(());
        }
        let path = self.folder.partial.clone();
        Err(FormatError::Io { path, source: std::io::Error::other("a tensor is not complete") })
    }
}
