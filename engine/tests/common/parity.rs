//! The small checkpoints in `golden/hf` and what transformers answered to them (`scripts/oracle/transformers_*.py`).

use std::collections::HashMap;
use std::path::PathBuf;

use engine::formats::HfFolder;
use engine::model::{Format, KvType, Model, Session, SessionOptions, load_hf};
use engine::{Kernels, Pool};
use serde_json::Value;

/// A checkpoint and its expected logits.
pub struct Fixture {
    pub name: &'static str,
    pub expected: Value,
}

/// Logits of some positions of a prompt.
pub struct Prompt {
    pub tokens: Vec<u32>,
    pub rows: Vec<usize>,
    pub logits: Vec<Vec<f64>>,
}

impl Fixture {
    pub fn open(name: &'static str) -> Fixture {
        let expected = std::fs::read(path(name).join("expected.json")).unwrap();
        Fixture { name, expected: serde_json::from_slice(&expected).unwrap() }
    }

    pub fn folder(&self) -> PathBuf {
        path(self.name)
    }

    pub fn model(&self, format: Format) -> Model {
        load_hf(&HfFolder::open(self.folder()).unwrap(), format).unwrap()
    }

    /// The model of the same weights under a `config.json` that `change` has spoilt.
    pub fn spoilt(&self, format: Format, change: impl FnOnce(&mut Value)) -> Model {
        let read = |name: &str| std::fs::read(self.folder().join(name)).unwrap();
        let mut config: Value = serde_json::from_slice(&read("config.json")).unwrap();
        change(&mut config);
        let files = HashMap::from([
            ("config.json".to_owned(), config.to_string().into_bytes()),
            ("model.safetensors".to_owned(), read("model.safetensors")),
        ]);
        load_hf(&HfFolder::from_files(self.name, &files).unwrap(), format).unwrap()
    }

    /// The prompts of 1, 17 and 64 tokens.
    pub fn prompts(&self) -> [Prompt; 3] {
        self.prompts_of("prompts")
    }

    /// As [`Fixture::prompts`], with the logits of `key`: `prompts_bf16` if the inputs of linear layers were rounded.
    pub fn prompts_of(&self, key: &str) -> [Prompt; 3] {
        let prompt = |index: usize| {
            let prompt = &self.expected[key][index];
            let read = |key: &str| prompt[key].clone();
            Prompt {
                tokens: serde_json::from_value(read("tokens")).unwrap(),
                rows: serde_json::from_value(read("rows")).unwrap(),
                logits: serde_json::from_value(read("logits")).unwrap(),
            }
        };
        [prompt(0), prompt(1), prompt(2)]
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hf").join(name)
}

/// Our logits after every token, keys and values kept in f32.
pub fn logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f64>> {
    let pool = Pool::new(1, false).unwrap();
    let options = SessionOptions { kv: KvType::F32, ..SessionOptions::new(tokens.len()) };
    let mut session = Session::new(model, &pool, Kernels::new(None).unwrap(), options).unwrap();
    let rows = session.prefill_all(tokens).unwrap();
    rows.chunks(model.config().vocab).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

impl Prompt {
    /// The largest difference of any logit at the positions that transformers' logits are kept of, over the root mean
    /// square of those: what "agree to 1e-4" is measured by.
    pub fn distance(&self, found: &[Vec<f64>]) -> f64 {
        let found: Vec<&Vec<f64>> = self.rows.iter().map(|&row| &found[row]).collect();
        distance(found.into_iter(), self.logits.iter())
    }

    /// The same between two evaluations of ours, at the same positions.
    pub fn distance_between(&self, found: &[Vec<f64>], truth: &[Vec<f64>]) -> f64 {
        distance(self.rows.iter().map(|&row| &found[row]), self.rows.iter().map(|&row| &truth[row]))
    }
}

fn distance<'a>(found: impl Iterator<Item = &'a Vec<f64>>, truth: impl Iterator<Item = &'a Vec<f64>>) -> f64 {
    let (mut worst, mut square, mut count) = (0.0f64, 0.0, 0);
    for (found, truth) in found.zip(truth) {
        assert_eq!(found.len(), truth.len());
        for (found, truth) in found.iter().zip(truth) {
            worst = worst.max((found - truth).abs());
            (square, count) = (square + truth * truth, count + 1);
        }
    }
    worst / (square / f64::from(count)).sqrt()
}
