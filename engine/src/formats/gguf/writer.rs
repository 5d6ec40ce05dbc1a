//! Writes GGUF files, version 3: header first, then tensor after tensor, so that no more than a row need be in memory.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::types::TensorType;
use crate::formats::FormatError;
use crate::formats::error::shown;

/// Alignment of tensor data; TL1 and TL2 need no other, for bitnet.cpp finds their scales behind them by it.
const ALIGNMENT: u64 = 32;

/// A metadata value to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Meta {
    /// u8.
    U8(u8),
    /// u32.
    U32(u32),
    /// i32.
    I32(i32),
    /// u64.
    U64(u64),
    /// f32.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An array of f32.
    Floats(Vec<f32>),
    /// An array of i32.
    Integers(Vec<i32>),
    /// A type id and the value's bytes as they are.
    Raw(u32, Vec<u8>),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Meta::Text(text.to_owned())
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn array<T>(out: &mut Vec<u8>, kind: u32, items: &[T], mut one: impl FnMut(&mut Vec<u8>, &T)) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    for item in items {
        one(out, item);
    }
}

impl Meta {
    /// Appends the type id and the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut scalar = |kind: u32, bytes: &[u8]| {
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        };
        match self {
            Meta::U8(v) => scalar(0, &v.to_le_bytes()),
            Meta::U32(v) => scalar(4, &v.to_le_bytes()),
            Meta::I32(v) => scalar(5, &v.to_le_bytes()),
            Meta::F32(v) => scalar(6, &v.to_le_bytes()),
            Meta::Bool(v) => scalar(7, &[u8::from(*v)]),
            Meta::U64(v) => scalar(10, &v.to_le_bytes()),
            Meta::Raw(kind, bytes) => scalar(*kind, bytes),
            Meta::Text(v) => {
                scalar(8, &[]);
                text(out, v);
            }
            Meta::Texts(v) => array(out, 8, v, |out, v| text(out, v)),
            Meta::Floats(v) => array(out, 6, v, |out, v| out.extend(v.to_le_bytes())),
            Meta::Integers(v) => array(out, 5, v, |out, v| out.extend(v.to_le_bytes())),
        }
    }
}

/// The metadata of a file in the making, in the order it is written.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pairs: Vec<(String, Meta)>,
}

impl Metadata {
    /// Sets a key, in place of an earlier value.
    pub fn set(&mut self, key: &str, value: impl Into<Meta>) -> &mut Self {
        let value = value.into();
        match self.pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((key.to_owned(), value)),
        }
        self
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|(known, _)| known != key);
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Meta> {
        self.pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }
}

/// A tensor of a file in the making.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The name.
    pub name: String,
    /// The shape, fastest dimension first.
    pub dims: Vec<u64>,
    /// How the values are stored.
    pub kind: TensorType,
}

/// A file being written: beside its place, under a name of its own, until [`Writer::finish`] moves it there.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    partial: PathBuf,
    /// Name and bytes of each tensor.
    tensors: Vec<(String, u64)>,
    /// The tensor being written, and its bytes so far.
    at: usize,
    written: u64,
    finished: bool,
}

impl Writer {
    /// Starts a file: writes header, metadata and table.
    ///
    /// # Errors
    /// The operating system's answer; a shape that its type cannot have.
    pub fn create(path: &Path, metadata: &Metadata, tensors: &[Planned]) -> Result<Self, FormatError> {
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.pairs.len() as u64).to_le_bytes());
        for (key, value) in &metadata.pairs {
            text(&mut head, key);
            value.write(&mut head);
        }
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut at = 0u64;
        for tensor in tensors {
            let size = size(path, tensor)?;
            text(&mut head, &tensor.name);
            head.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| head.extend(dim.to_le_bytes()));
            head.extend(tensor.kind.id().to_le_bytes());
            head.extend(at.to_le_bytes());
            at = at.saturating_add(size).next_multiple_of(ALIGNMENT);
            sizes.push((tensor.name.clone(), size));
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
        let partial = partial(path);
        let file = File::create_new(&partial).map_err(|source| FormatError::Io { path: partial.clone(), source })?;
        let (file, path) = (BufWriter::with_capacity(1 << 20, file), path.to_owned());
        let mut writer = Self { file, path, partial, tensors: sizes, at: 0, written: 0, finished: false };
        writer.put(&head)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let path = &self.partial;
        self.file.write_all(bytes).map_err(|source| FormatError::Io { path: path.clone(), source })
    }

    /// Writes the next bytes of the next tensor that is not complete.
    ///
    /// # Errors
    /// The operating system's answer; more bytes than the tensor has.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let left = self.tensors.get(self.at).map_or(0, |(_, size)| size - self.written);
        if bytes.len() as u64 > left {
            return Err(self.wrong(format!("{left} more bytes"), format!("{}", bytes.len())));
        }
        self.put(bytes)?;
        self.written += bytes.len() as u64;
        if bytes.len() as u64 == left {
            self.put(&[0; ALIGNMENT as usize][..(self.written.next_multiple_of(ALIGNMENT) - self.written) as usize])?;
            (self.at, self.written) = (self.at + 1, 0);
        }
        Ok(())
    }

    fn wrong(&self, expected: String, found: String) -> FormatError {
        let tensor = self.tensors.get(self.at).map_or("behind the last", |(name, _)| name);
        FormatError::Tensor { path: self.path.clone(), tensor: shown(tensor), expected, found }
    }

    /// Puts the complete file in its place.
    ///
    /// # Errors
    /// The operating system's answer; a tensor that is not complete.
    pub fn finish(mut self) -> Result<(), FormatError> {
        if let Some((_, size)) = self.tensors.get(self.at) {
            return Err(self.wrong(format!("{size} bytes"), format!("{}", self.written)));
        }
        let io = |source| FormatError::Io { path: self.partial.clone(), source };
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        std::fs::rename(&self.partial, &self.path)
            .map_err(|source| FormatError::Io { path: self.path.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // What is half written is of no use; that it cannot be removed is no news either.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Where a file is written before it is complete.
fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

fn size(path: &Path, tensor: &Planned) -> Result<u64, FormatError> {
    let columns = tensor.dims.first().copied().unwrap_or(0);
    let whole = columns > 0 && columns.is_multiple_of(tensor.kind.block_len());
    whole.then(|| tensor.kind.data_bytes(&tensor.dims)).flatten().ok_or_else(|| FormatError::Tensor {
        path: path.to_owned(),
        tensor: shown(&tensor.name),
        expected: format!("a shape that {} can have (columns a multiple of {})", tensor.kind, tensor.kind.block_len()),
        found: format!("{:?}", tensor.dims),
    })
}
