//! What the engine's tests share: where data lies, and a writer of small GGUF files.

// Every test file compiles its own copy and uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod bitnet;
pub mod evaluator;
pub mod folder;
pub mod parity;
pub mod place;
pub mod vocab;
pub mod writer;

use std::path::PathBuf;

use engine::convert::{Options, Target, synthetic_to_gguf};
use engine::model::{Activation, Architecture, Config, KvType, Model, Session, SessionOptions};
use engine::synthetic::{HeadType, SyntheticSpec};
use engine::{Isa, Kernels, Pool};

/// A file of development data: in `shared/data` beside the checkout, else in the checkout's `data`.
///
/// Without it the test ends: under `CI=true` by a failure, elsewhere with a notice and `None`.
pub fn data(name: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let places = [root.join("../shared/data"), root.join("data")];
    let found = places.iter().map(|place| place.join(name)).find(|path| path.exists());
    if found.is_none() {
        let notice = format!("{name} is in neither ../shared/data nor data (scripts/fetch-data --list)");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{notice}");
        eprintln!("SKIPPED: {notice}");
    }
    found
}

/// A stream of pseudo-random numbers (splitmix64), so that a failing case can be had again.
pub struct Stream(pub u64);

impl Stream {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// The next number in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A small BitNet model's configuration, which tests alter.
pub fn small() -> Config {
    Config { vocab: 96, rope_theta: 500_000.0, ..Config::small() }
}

/// The same as a LLaMA model's.
pub fn small_llama() -> Config {
    Config { arch: Architecture::Llama, activation: Activation::Silu, sub_norms: false, tied: false, ..small() }
}

/// The GGUF file of a synthetic model.
pub fn synthetic_file(config: Config, target: Target) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let options = Options { target, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false };
    synthetic_to_gguf(&SyntheticSpec { config, seed: 5, head: HeadType::F16, gate_zeros: None }, &path, &options)
        .unwrap();
    std::fs::read(path).unwrap()
}

/// Logits after a prompt and a decoded token, by the scalar path.
pub fn logits(model: &Model) -> Vec<f32> {
    logits_on(model, Isa::Scalar)
}

/// Logits after a prompt and a decoded token.
pub fn logits_on(model: &Model, isa: Isa) -> Vec<f32> {
    let pool = Pool::new(2, false).unwrap();
    let options = SessionOptions { context: 32, kv: KvType::F32, max_batch: 32 };
    let mut session = Session::new(model, &pool, Kernels::new(Some(isa)).unwrap(), options).unwrap();
    session.prefill(&[1, 7, 39, 0, 22, 5]).unwrap();
    session.decode(11).unwrap().to_vec()
}
