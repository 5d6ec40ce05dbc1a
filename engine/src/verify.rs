//! Whether a model file is sound: every tensor decodes, ternary tensors hold trits and a sane scale, floats are numbers,
//! the shapes are those of its architecture, the tokenizer loads.

use rayon::prelude::*;

use crate::convert::{Item, Rows, each_of_folder, gguf_items};
use crate::error::Result;
use crate::formats::{GgufFile, HfFolder};
use crate::model::{check_gguf, check_hf};
use crate::tokenizer::Tokenizer;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// The file cannot be used as it is.
    Bad,
    /// It can be, but something is not as trained models have it.
    Suspect,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The tensor, where it is one.
    pub tensor: Option<String>,
    /// What was expected and found.
    pub what: String,
}

/// What was found in a ternary tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TernaryTensor {
    /// Its name.
    pub name: String,
    /// Its scale.
    pub scale: f32,
    /// The weights that are 0, and all.
    pub zeros: usize,
    /// All weights.
    pub values: usize,
}

/// What was found in a file.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Tensors read.
    pub tensors: usize,
    /// The ternary ones, in the file's order.
    pub ternary: Vec<TernaryTensor>,
    /// Everything that is not as it should be.
    pub findings: Vec<Finding>,
    /// Whether the file has a tokenizer.
    pub tokenizer: bool,
}

impl Verdict {
    /// No finding is bad.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Bad)
    }

    /// The share of zero weights in the ternary tensors of each block, by its number.
    #[must_use]
    pub fn zero_shares(&self) -> Vec<(usize, f64)> {
        let block = |name: &str| name.strip_prefix("blk.")?.split_once('.')?.0.parse::<usize>().ok();
        let mut shares = std::collections::BTreeMap::new();
        for tensor in &self.ternary {
            if let Some(block) = block(&tensor.name) {
                let sum: &mut (usize, usize) = shares.entry(block).or_default();
                *sum = (sum.0 + tensor.zeros, sum.1 + tensor.values);
            }
        }
        shares.into_iter().map(|(block, (zeros, values))| (block, zeros as f64 / values as f64)).collect()
    }

    fn find(&mut self, level: Level, tensor: Option<&str>, what: impl ToString) {
        self.findings.push(Finding { level, tensor: tensor.map(str::to_owned), what: what.to_string() });
    }
}

/// Zero shares outside of these are told: BitNet b1.58 models have about a third to a half of their weights 0, and a
/// quantiser that is given master weights for ternary ones leaves almost none.
const ZERO_SHARES: std::ops::RangeInclusive<f64> = 0.01..=0.95;

/// A ternary layer whose outputs would be this many times its normalised inputs has, likely, the inverse of its scale.
/// (Trained ones stay well below 100; the inverse of a scale of 0.02 gives thousands.)
const LARGEST_GAIN: f64 = 300.0;

/// Tokenizer models that say that there is none.
const NO_TOKENIZER: [&str; 2] = ["none", "no_vocab"];

const NO_TEXT: &str = "no tokenizer: token ids alone can be given";

/// Reads all of a GGUF file.
#[must_use]
pub fn verify_gguf(file: &GgufFile) -> Verdict {
    let mut verdict = Verdict::default();
    if let Err(error) = check_gguf(file) {
        verdict.find(Level::Bad, None, error);
    }
    tokenizer(file, &mut verdict);
    let items = gguf_items(file);
    verdict.tensors = items.len();
    // In parallel, gathered in the file's order.
    for (item, seen) in items.iter().zip(items.par_iter().map(look).collect::<Vec<_>>()) {
        match seen {
            Err(error) => verdict.find(Level::Bad, Some(&item.name), error),
            Ok(seen) => judge(item, seen, &mut verdict),
        }
    }
    verdict
}

fn tokenizer(file: &GgufFile, verdict: &mut Verdict) {
    const MODEL: &str = "tokenizer.ggml.model";
    match file.opt_str(MODEL) {
        Ok(None) => verdict.find(Level::Suspect, None, NO_TEXT),
        Ok(Some(name)) if NO_TOKENIZER.contains(&name) => {}
        _ => match Tokenizer::from_gguf(file) {
            Ok(_) => verdict.tokenizer = true,
            Err(error) => verdict.find(Level::Bad, None, error),
        },
    }
}

/// Reads all of a Hugging Face folder; tensors have their GGUF names.
#[must_use]
pub fn verify_hf(folder: &HfFolder) -> Verdict {
    let mut verdict = Verdict::default();
    if let Err(error) = check_hf(folder) {
        verdict.find(Level::Bad, None, error);
    }
    match folder.path().join("tokenizer.json") {
        path if !path.exists() => verdict.find(Level::Suspect, None, NO_TEXT),
        path => match Tokenizer::from_json(path) {
            Ok(_) => verdict.tokenizer = true,
            Err(error) => verdict.find(Level::Bad, None, error),
        },
    }
    each_of_folder(folder, |name, item| {
        verdict.tensors += 1;
        match item.and_then(|item| Ok((look(&item)?, item))) {
            Err(error) => verdict.find(Level::Bad, Some(name), error),
            Ok((seen, item)) => judge(&item, seen, &mut verdict),
        }
    });
    verdict
}

/// What the values of a tensor are.
enum Seen {
    Ternary { scale: f32, zeros: usize },
    Floats { nonzero: bool },
}

fn look(item: &Item<'_>) -> Result<Seen> {
    let rows: &dyn Rows = &*item.rows;
    let (count, cols) = rows.shape();
    let seen = match rows.scale()? {
        Some(scale) => {
            let (mut zeros, mut trits) = (0, vec![0; cols]);
            for row in 0..count {
                rows.trits(row, &mut trits)?;
                zeros += trits.iter().filter(|&&trit| trit == 0).count();
            }
            Seen::Ternary { scale, zeros }
        }
        None => {
            let (mut nonzero, mut values) = (false, vec![0.0; cols]);
            for row in 0..count {
                rows.values(row, &mut values)?;
                nonzero |= values.iter().any(|&value| value != 0.0);
            }
            Seen::Floats { nonzero }
        }
    };
    rows.done();
    Ok(seen)
}

fn judge(item: &Item<'_>, seen: Seen, verdict: &mut Verdict) {
    let name = Some(item.name.as_str());
    let (rows, cols) = item.rows.shape();
    let (scale, zeros) = match seen {
        Seen::Floats { nonzero: true } => return,
        Seen::Floats { nonzero: false } => {
            return verdict.find(Level::Suspect, name, "expected some value that is not 0, found none");
        }
        Seen::Ternary { scale, zeros } => (scale, zeros),
    };
    let values = rows * cols;
    let share = zeros as f64 / values as f64;
    if scale == 0.0 && zeros < values {
        verdict.find(Level::Bad, name, "expected a scale above 0, found 0");
    }
    if !ZERO_SHARES.contains(&share) {
        verdict.find(
            Level::Suspect,
            name,
            format!("expected 1 to 95 % of the weights 0, found {:.2} %", share * 100.0),
        );
    }
    let gain = |scale: f64| scale * (cols as f64 * (1.0 - share)).sqrt();
    if gain(f64::from(scale)) > LARGEST_GAIN {
        let what = format!(
            "expected a scale near {:.3}, found {scale}: likely the inverse of what it should be (1 / {scale} = {})",
            1.0 / gain(1.0),
            1.0 / scale
        );
        verdict.find(Level::Suspect, name, what);
    }
    verdict.ternary.push(TernaryTensor { name: item.name.clone(), scale, zeros, values });
}
