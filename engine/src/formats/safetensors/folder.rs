//! Opening a folder: its configuration, its files, and which tensor is where.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::header::{Pairs, TensorInfo, read};
use super::json::Section;
use super::names::{gguf_name, hf_names, is_block_linear};
use super::quantisation::{Convention, Quantisation};
use super::weight::Weight;
use crate::formats::FormatError;
use crate::formats::bytes::Bytes;
use crate::formats::error::shown;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Longest `config.json`: far above every one there is, and a JSON value takes up to 16 times its text.
const MAX_CONFIG: usize = 4 << 20;
/// Longest index.
const MAX_INDEX: usize = 64 << 20;

/// A safetensors file.
struct Shard {
    path: PathBuf,
    bytes: Bytes,
}

/// An open folder: configuration by key and tensors by name, all of it checked against the files' sizes.
pub struct HfFolder {
    path: PathBuf,
    config_path: PathBuf,
    config: Map<String, Value>,
    quantisation: Quantisation,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl std::fmt::Debug for HfFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HfFolder")
            .field("path", &self.path)
            .field("convention", &self.quantisation.convention)
            .field("shards", &self.shards.len())
            .field("tensors", &self.tensors.len())
            .finish()
    }
}

/// What an index says; all else in it is left out.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: Pairs<String>,
}

impl HfFolder {
    /// Maps and checks the files of a folder.
    ///
    /// # Errors
    /// [`FormatError`] when a file is missing, cannot be mapped, or any part of it or of the index is wrong.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        Self::build(path, |name| {
            let file = path.join(name);
            file.exists().then(|| Bytes::open(&file)).transpose()
        })
    }

    /// Checks files that are already in memory, by name; `name` stands for the folder in messages.
    ///
    /// # Errors
    /// As [`HfFolder::open`], without the operating system's part.
    pub fn from_files(name: impl AsRef<Path>, files: &HashMap<String, Vec<u8>>) -> Result<Self, FormatError> {
        Self::build(name.as_ref(), |name| Ok(files.get(name).cloned().map(Bytes::Owned)))
    }

    fn build(path: &Path, file: impl Fn(&str) -> Result<Option<Bytes>, FormatError>) -> Result<Self, FormatError> {
        let config_path = path.join(CONFIG);
        let none = |field: &str, expected: &str, found: &str| FormatError::Field {
            path: path.to_owned(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let config = file(CONFIG)?.ok_or_else(|| none("configuration", CONFIG, "no such file"))?;
        let config = parse::<Map<String, Value>>(&config_path, config.as_slice(), MAX_CONFIG)?;
        let quantisation = Quantisation::read(Section::new(&config_path, &config))?;
        let (shards, tensors) = match (file(SINGLE)?, file(INDEX)?) {
            (Some(bytes), _) => {
                let shard = Shard { path: path.join(SINGLE), bytes };
                let tensors = read(&shard.path, shard.bytes.as_slice(), 0)?;
                (vec![shard], tensors)
            }
            (None, Some(index)) => sharded(path, index.as_slice(), file)?,
            (None, None) => return Err(none("weights", &format!("{SINGLE} or {INDEX}"), "neither")),
        };
        let by_name: HashMap<String, usize> =
            tensors.iter().enumerate().map(|(at, tensor)| (tensor.name().to_owned(), at)).collect();
        let path = path.to_owned();
        let folder = Self { path, config_path, config, quantisation, shards, tensors, by_name };
        folder.refuse_two_spellings()?;
        Ok(folder)
    }

    fn refuse_two_spellings(&self) -> Result<(), FormatError> {
        for tensor in &self.tensors {
            let names = gguf_name(tensor.name()).map(|name| hf_names(&name)).unwrap_or_default();
            let mut others = names.iter().filter(|name| *name != tensor.name() && self.by_name.contains_key(*name));
            if let Some(other) = others.next() {
                let path = self.shard_path(tensor);
                return Err(tensor.wrong(path, "one spelling of its name", format!("{} as well", shown(other))));
            }
        }
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`.
    #[must_use]
    pub fn config(&self) -> Section<'_> {
        Section::new(&self.config_path, &self.config)
    }

    /// How the weights of the linear layers are read.
    #[must_use]
    pub fn convention(&self) -> Convention {
        self.quantisation.convention
    }

    pub(super) fn quantisation(&self) -> &Quantisation {
        &self.quantisation
    }

    /// Of each safetensors file its path, when it was last changed (see [`Bytes::modified`]), its length, and its bytes
    /// before the first tensor's.
    pub(crate) fn stamps(&self) -> impl Iterator<Item = (&Path, Option<u128>, usize, &[u8])> {
        self.shards.iter().enumerate().map(|(nth, shard)| {
            let bytes = shard.bytes.as_slice();
            let of_shard = self.tensors.iter().filter(|tensor| tensor.shard() == nth);
            let end = of_shard.map(|tensor| tensor.bytes().start).min().unwrap_or(bytes.len());
            (&*shard.path, shard.bytes.modified(), bytes.len(), &bytes[..end])
        })
    }

    /// The safetensors files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| shard.path.as_path())
    }

    /// Every tensor, file by file, in the order of their bytes.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this (Hugging Face) name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// A tensor's bytes as stored. `tensor` must be of this folder.
    #[must_use]
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        &self.shards[tensor.shard()].bytes.as_slice()[tensor.bytes()]
    }

    /// Gives back the memory that the mapped pages of a part of a tensor's bytes take; they are read again when they are
    /// asked for.
    pub(super) fn release(&self, tensor: &TensorInfo, part: Range<usize>) {
        let start = tensor.bytes().start;
        self.shards[tensor.shard()].bytes.release(start + part.start..start + part.end);
    }

    /// The file that a tensor is in.
    pub(super) fn shard_path(&self, tensor: &TensorInfo) -> &Path {
        &self.shards[tensor.shard()].path
    }

    /// A weight by its GGUF name, or by its own name if GGUF has none for it.
    #[must_use]
    pub fn weight(&self, name: &str) -> Option<Weight<'_>> {
        let own = || self.tensor(name).filter(|tensor| gguf_name(tensor.name()).is_none());
        let tensor = hf_names(name).iter().find_map(|name| self.tensor(name)).or_else(own)?;
        Some(self.weight_of(tensor))
    }

    /// A tensor of this folder, as its convention reads it.
    #[must_use]
    pub fn weight_of<'a>(&'a self, tensor: &'a TensorInfo) -> Weight<'a> {
        Weight::new(self, tensor)
    }

    /// The names by which [`HfFolder::weight`] knows the tensors that a model must use. Left out are the scales that go
    /// with their weights, and `inv_freq`, which old LLaMA checkpoints have and everyone computes.
    #[must_use]
    pub fn weight_names(&self) -> Vec<String> {
        let used = |tensor: &&TensorInfo| {
            let name = tensor.name();
            let module = name.strip_suffix(".weight_scale").filter(|module| is_block_linear(module));
            let scales = !matches!(self.convention(), Convention::Plain | Convention::Online);
            let is_scale = module.is_some_and(|module| scales && self.quantisation.converts(module));
            !is_scale && !name.ends_with(".rotary_emb.inv_freq")
        };
        let name = |tensor: &TensorInfo| gguf_name(tensor.name()).unwrap_or_else(|| tensor.name().to_owned());
        self.tensors.iter().filter(used).map(name).collect()
    }

    /// The error that a tensor, by its GGUF or own name, is not there; `expected` is its shape.
    pub(crate) fn missing(&self, name: &str, expected: String) -> FormatError {
        let tensor = hf_names(name).first().cloned().unwrap_or_else(|| name.to_owned());
        FormatError::MissingTensor { path: self.path.clone(), tensor: shown(&tensor), expected }
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8], most: usize) -> Result<T, FormatError> {
    let wrong = |expected: String, found: String| FormatError::Field {
        path: path.to_owned(),
        field: "contents".to_owned(),
        expected,
        found,
    };
    if bytes.len() > most {
        return Err(wrong(format!("at most {most} bytes"), bytes.len().to_string()));
    }
    serde_json::from_slice(bytes).map_err(|error| wrong("a JSON object".to_owned(), error.to_string()))
}

/// The files that an index names, and their tensors, each where the index says.
fn sharded(
    folder: &Path,
    index: &[u8],
    file: impl Fn(&str) -> Result<Option<Bytes>, FormatError>,
) -> Result<(Vec<Shard>, Vec<TensorInfo>), FormatError> {
    let path = folder.join(INDEX);
    let wrong = |tensor: &str, expected: &str, found: String| FormatError::Tensor {
        path: path.clone(),
        tensor: shown(tensor),
        expected: expected.to_owned(),
        found,
    };
    let Index { weight_map: Pairs(pairs) } = parse::<Index>(&path, index, MAX_INDEX)?;
    let (mut shards, mut tensors, mut order) = (Vec::new(), Vec::new(), HashMap::new());
    for (tensor, name) in &pairs {
        if !is_plain(name) {
            return Err(wrong(tensor, "the name of a .safetensors file in this folder", shown(name)));
        }
        if order.contains_key(name) {
            continue;
        }
        let Some(bytes) = file(name)? else {
            return Err(wrong(tensor, "a file that is there", format!("{}, no such file", shown(name))));
        };
        let shard = Shard { path: folder.join(name), bytes };
        tensors.extend(read(&shard.path, shard.bytes.as_slice(), shards.len())?);
        order.insert(name, shards.len());
        shards.push(shard);
    }
    let map: HashMap<&str, usize> = pairs.iter().map(|(tensor, name)| (tensor.as_str(), order[name])).collect();
    let mut seen = HashSet::new();
    for tensor in &tensors {
        let at = &shards[tensor.shard()].path;
        match map.get(tensor.name()) {
            Some(&shard) if shard == tensor.shard() => {}
            Some(&shard) => {
                let expected = format!("it in {}, where {INDEX} has it", shown(&file_name(&shards[shard].path)));
                return Err(tensor.wrong(at, expected, "it here"));
            }
            None => return Err(tensor.wrong(at, format!("tensors of {INDEX} alone"), "one that it does not have")),
        }
        seen.insert(tensor.name());
    }
    match pairs.iter().find(|(tensor, _)| !seen.contains(tensor.as_str())) {
        None => Ok((shards, tensors)),
        Some((tensor, name)) => {
            Err(wrong(tensor, &format!("it in {}", shown(name)), "no such tensor there".to_owned()))
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a name can only be that of a safetensors file in the folder itself.
fn is_plain(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.')
}
