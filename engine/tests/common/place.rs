//! Models as files and folders, converted in a folder of a test's own.

use engine::convert::{FolderOptions, Options, Report, Target, gguf_to_hf, hf_to_gguf, synthetic_to_gguf};
use engine::formats::HfFolder;
use engine::formats::gguf::{GgufFile, I2sLayout, TensorType, Value};
use engine::formats::kernel_config::KernelConfig;
use engine::model::{Activation, Architecture, Config, KvType, Model, Session, SessionOptions};
use engine::synthetic::{HeadType, SyntheticSpec};
use engine::{Isa, Kernels, Pool};
use std::path::PathBuf;

use super::writer::{Meta, Writer};

pub const X86: Target = Target::I2s(I2sLayout::Blocks128);

/// Every ternary packing of GGUF files.
pub const TARGETS: [Target; 7] = [
    X86,
    Target::I2s(I2sLayout::Blocks64),
    Target::I2s(I2sLayout::Rows4),
    Target::Tq1_0,
    Target::Tq2_0,
    Target::Tl1,
    Target::Tl2,
];

/// A kernel config for the shapes of [`spec`]'s models.
pub fn kernels(target: Target) -> Option<KernelConfig> {
    let bk = match target {
        Target::Tl1 => 64,
        Target::Tl2 => 96,
        _ => return None,
    };
    let section = |(m, k)| format!("[K{m}_{k}]\nm = {m}\nk = {k}\nbm = 64\nbk = {bk}\nbmm = 32\n");
    let text: String = [(256, 256), (128, 256), (512, 256), (256, 512)].map(section).concat();
    Some(KernelConfig::parse("k.ini", &text).unwrap())
}

pub fn options(target: Target) -> Options {
    Options { target, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false }
}

pub fn folder_options(target: Target) -> FolderOptions {
    FolderOptions { options: options(target), shard_bytes: 5_000_000_000 }
}

pub fn spec(arch: Architecture) -> SyntheticSpec {
    let bitnet = arch == Architecture::BitNet;
    let config = Config {
        arch,
        hidden: 256,
        ffn: 512,
        head_dim: 64,
        vocab: 300,
        rope_theta: 500_000.0,
        activation: if bitnet { Activation::Relu2 } else { Activation::Silu },
        sub_norms: bitnet,
        tied: bitnet,
        ..Config::small()
    };
    SyntheticSpec { config, seed: 5, head: HeadType::F16, gate_zeros: None }
}

pub struct Place(pub tempfile::TempDir);

impl Place {
    /// A model `a.gguf`.
    pub fn new(arch: Architecture) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        synthetic_to_gguf(&spec(arch), &place.path("a.gguf"), &options(X86)).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str) -> GgufFile {
        GgufFile::open(self.path(name)).unwrap()
    }

    pub fn folder(&self, name: &str) -> HfFolder {
        HfFolder::open(self.path(name)).unwrap()
    }

    pub fn out(&self, from: &str, to: &str, how: &FolderOptions) -> Report {
        gguf_to_hf(&self.file(from), &self.path(to), how).unwrap()
    }

    pub fn back(&self, from: &str, to: &str, options: &Options) -> Report {
        hf_to_gguf(&self.folder(from), &self.path(to), options).unwrap()
    }
}

pub fn logits(model: &Model) -> Vec<f32> {
    let pool = Pool::new(1, false).unwrap();
    let options = SessionOptions { context: 32, kv: KvType::F32, max_batch: 32 };
    let mut session = Session::new(model, &pool, Kernels::new(Some(Isa::Scalar)).unwrap(), options).unwrap();
    session.prefill(&[1, 7, 39, 0, 22, 95]).unwrap().to_vec()
}

/// Every tensor of a file: name, type, shape, bytes, by name.
pub fn tensors(file: &GgufFile) -> Vec<(String, TensorType, Vec<u64>, Vec<u8>)> {
    let one = |t: &engine::formats::gguf::TensorInfo| {
        (t.name().to_owned(), t.kind(), t.dims().to_vec(), file.data(t).to_vec())
    };
    let mut all: Vec<_> = file.tensors().iter().map(one).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// A file, its tokenizer apart, to be written otherwise.
pub fn writer_of(file: &GgufFile) -> Writer {
    let mut writer = Writer::default();
    for key in file.keys().filter(|key| !key.starts_with("tokenizer")) {
        let value = match file.value(key).unwrap() {
            Value::Unsigned(v) => Meta::U32(v as u32),
            Value::Float(v) => Meta::F32(v as f32),
            Value::Text(v) => Meta::Text(String::from_utf8(v.to_vec()).unwrap()),
            other => panic!("{other}"),
        };
        writer.set(key, value);
    }
    for tensor in file.tensors() {
        writer.raw(tensor.name(), tensor.dims(), tensor.kind().id(), file.data(tensor).to_vec());
    }
    writer
}
