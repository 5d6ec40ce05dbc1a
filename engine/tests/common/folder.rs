//! Writes Hugging Face folders for tests, by the reference implementation of safetensors, right or wrong as asked.

use std::collections::{BTreeMap, HashMap};

use engine::Format;
use engine::formats::HfFolder;
use engine::model::load_hf;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// A tensor: dtype, shape, bytes.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Tensor {
    /// Floats, stored as `dtype` (F32, F16 or BF16).
    pub fn floats(dtype: Dtype, shape: &[usize], values: &[f32]) -> Tensor {
        let bytes = |value: f32| match dtype {
            Dtype::F32 => value.to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            _ => bf16::from_f32(value).to_le_bytes().to_vec(),
        };
        Tensor { dtype, shape: shape.to_vec(), data: values.iter().flat_map(|&v| bytes(v)).collect() }
    }

    /// Trits of `rows` (a multiple of 4) by `cols`, packed as transformers' `pack_weights` does.
    pub fn packed(rows: usize, cols: usize, trits: &[i8]) -> Tensor {
        let mut data = vec![0; rows / 4 * cols];
        for row in 0..rows {
            for col in 0..cols {
                data[row % (rows / 4) * cols + col] |= ((trits[row * cols + col] + 1) as u8) << (row / (rows / 4) * 2);
            }
        }
        Tensor { dtype: Dtype::U8, shape: vec![rows / 4, cols], data }
    }
}

/// A folder in the making.
#[derive(Clone, Debug)]
pub struct Folder {
    pub config: Value,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Folder {
    /// Sets a key of `config.json`; `a.b` is key b of object a.
    pub fn set(&mut self, key: &str, value: Value) -> &mut Self {
        match key.split_once('.') {
            Some((outer, inner)) => self.config[outer][inner] = value,
            None => self.config[key] = value,
        }
        self
    }

    /// Takes a key out of `config.json`.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.config.as_object_mut().unwrap().remove(key);
        self
    }

    /// The tensor of this name, to spoil it.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.get_mut(name).expect("a tensor of the test's own")
    }

    fn file<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<u8> {
        let views = names.map(|name| {
            let tensor = &self.tensors[name];
            (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap())
        });
        safetensors::serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())]))).unwrap()
    }

    fn with_config(&self) -> HashMap<String, Vec<u8>> {
        HashMap::from([("config.json".to_owned(), self.config.to_string().into_bytes())])
    }

    /// The files, all weights in one.
    pub fn files(&self) -> HashMap<String, Vec<u8>> {
        let mut files = self.with_config();
        files.insert("model.safetensors".to_owned(), self.file(self.tensors.keys()));
        files
    }

    /// The files, weights dealt out to `count` of them.
    pub fn sharded(&self, count: usize) -> HashMap<String, Vec<u8>> {
        let mut files = self.with_config();
        let name = |shard: usize| format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        let mut map = serde_json::Map::new();
        for shard in 0..count {
            let names: Vec<&String> = self.tensors.keys().skip(shard).step_by(count).collect();
            names.iter().for_each(|tensor| {
                map.insert((*tensor).clone(), name(shard).into());
            });
            files.insert(name(shard), self.file(names.into_iter()));
        }
        let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        files.insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
        files
    }
}

/// A safetensors file of any header, followed by `data`.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Opens files of a test's own.
pub fn open(files: &HashMap<String, Vec<u8>>) -> HfFolder {
    HfFolder::from_files("folder", files).unwrap()
}

/// `rope_scaling` of LLaMA 3.1 and later, for an original context of 16.
pub fn llama3(low: f64, high: f64) -> Value {
    json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": 16,
    })
}

/// A message that names the folder and holds all parts.
#[track_caller]
pub fn told(message: &str, parts: &[&str]) {
    for part in ["folder"].iter().chain(parts) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// Refused when opened.
#[track_caller]
pub fn refused_files(files: &HashMap<String, Vec<u8>>, parts: &[&str]) {
    told(&HfFolder::from_files("folder", files).unwrap_err().to_string(), parts);
}

/// Refused when opened or when loaded.
#[track_caller]
pub fn refused(folder: &Folder, format: Format, parts: &[&str]) {
    let opened = HfFolder::from_files("folder", &folder.files()).map_err(engine::Error::from);
    told(&opened.and_then(|folder| load_hf(&folder, format)).unwrap_err().to_string(), parts);
}
