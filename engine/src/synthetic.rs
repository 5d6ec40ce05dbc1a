//! Models of any shape, made in memory from a seed: the ternary and the f16 model of a spec are the same function.
//!
//! Every tensor has a stream of its own per panel of rows, keyed by seed, tensor name and panel, so the weights depend
//! neither on the number of threads nor on the order of making. A weight is -1, 0, 1 with probabilities 1/4, 1/2, 1/4;
//! a tensor's scale is an f16 number, so that writing the weights out as f16 changes nothing.

use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::model::{Config, Format, Layer, Model};
use crate::quant::{F16Matrix, Q8Matrix, TernaryMatrix};
use half::f16;

/// Relative root-mean-square distance that the logits of a pair keep: the f16 engine reads activations as they are, the
/// ternary engine rounds them to int8 (absmax over a token, so that ReLU²'s outliers make the steps coarse). See the
/// test `pairs_agree` for what was found; a wrong kernel is around 1.4 (two independent vectors).
pub const PAIR_BOUND: f64 = 0.25;

/// Element type of embedding and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadType {
    /// Two bytes a weight.
    F16,
    /// 34 bytes a block of 32 weights.
    Q8_0,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct SyntheticSpec {
    /// Shape.
    pub config: Config,
    /// Seed of all weights.
    pub seed: u64,
    /// Element type of embedding and head, in both formats.
    pub head: HeadType,
}

/// Standard deviation of the sum of four uniform bytes: `sqrt(4 (256² - 1) / 12)`.
const BYTES_SD: f32 = 147.8;
/// Standard deviation of the logits that the embedding's scale aims at.
const LOGIT_SD: f32 = 2.0;

/// Makes the model of `spec` with linear layers of `format`, in parallel.
///
/// # Errors
/// A shape that can't be, or memory that the system does not give.
pub fn build(spec: &SyntheticSpec, format: Format) -> Result<Model> {
    spec.config.validate()?;
    let c = &spec.config;
    let maker = Maker { seed: spec.seed, format };
    // The residual stream begins as small as the embedding, and all blocks together add as much again, so that it
    // neither explodes nor forgets the token over many layers.
    let embedding_sd = LOGIT_SD / (c.hidden as f32).sqrt();
    let added = embedding_sd / (2.0 * c.layers as f32).sqrt();
    let mut layers = Vec::with_capacity(c.layers);
    for index in 0..c.layers {
        let linear = |name: &str, rows, cols, sd| maker.linear(&format!("blk.{index}.{name}"), rows, cols, sd);
        let norm = |name: &str, len| maker.norm(&format!("blk.{index}.{name}"), len);
        layers.push(Layer {
            attn_norm: norm("attn_norm", c.hidden),
            q: linear("attn_q", c.q_width(), c.hidden, 1.0)?,
            k: linear("attn_k", c.kv_width(), c.hidden, 1.0)?,
            v: linear("attn_v", c.kv_width(), c.hidden, 1.0)?,
            attn_sub_norm: c.sub_norms.then(|| norm("attn_sub_norm", c.q_width())),
            o: linear("attn_output", c.hidden, c.q_width(), added)?,
            ffn_norm: norm("ffn_norm", c.hidden),
            gate: linear("ffn_gate", c.ffn, c.hidden, 1.0)?,
            up: linear("ffn_up", c.ffn, c.hidden, 1.0)?,
            ffn_sub_norm: c.sub_norms.then(|| norm("ffn_sub_norm", c.ffn)),
            down: linear("ffn_down", c.hidden, c.ffn, added)?,
        });
    }
    let embedding = maker.embedding("token_embd", spec, embedding_sd)?;
    let head = if c.tied { None } else { Some(maker.embedding("output", spec, embedding_sd)?) };
    Model::new(c.clone(), embedding, layers, maker.norm("output_norm", c.hidden), head)
}

struct Maker {
    seed: u64,
    format: Format,
}

impl Maker {
    /// A ternary layer whose outputs have standard deviation `sd` for inputs of mean square 1: half the weights are
    /// zero, so a row of `cols` weights of size `s` gives `s sqrt(cols / 2)`.
    fn linear(&self, name: &str, rows: usize, cols: usize, sd: f32) -> Result<Linear> {
        let scale = f16::from_f32(sd * (2.0 / cols as f32).sqrt());
        if scale == f16::ZERO {
            return Err(Error::Scale { format: "ternary", expected: "a scale above f16's smallest", found: sd });
        }
        let ternary = TernaryMatrix::from_panels(rows, cols, scale.to_f32(), |panel, bytes| {
            let mut stream = Stream::new(self.seed, name, panel);
            for word in bytes.as_chunks_mut::<8>().0 {
                // Two random bits a weight: their sum is the code 0, 1 or 2.
                let r = stream.next();
                let pairs = 0x5555_5555_5555_5555;
                *word = ((r & pairs) + (r >> 1 & pairs)).to_le_bytes();
            }
        })?;
        Ok(match self.format {
            Format::Ternary => Linear::Ternary(ternary),
            Format::F16 => Linear::F16(F16Matrix::from_ternary(&ternary)?),
        })
    }

    /// Norm weights within 1/8 of 1.
    fn norm(&self, name: &str, len: usize) -> Vec<f32> {
        let mut stream = Stream::new(self.seed, name, 0);
        (0..len).map(|_| 1.0 + ((stream.next() >> 56) as f32 - 127.5) / 1024.0).collect()
    }

    /// Bell-shaped values of standard deviation `sd`: sums of four uniform bytes.
    fn embedding(&self, name: &str, spec: &SyntheticSpec, sd: f32) -> Result<Linear> {
        let (rows, cols) = (spec.config.vocab, spec.config.hidden);
        let value = |bits: u32| {
            let sum: u32 = bits.to_le_bytes().into_iter().map(u32::from).sum();
            f16::from_f32((sum as f32 - 510.0) * (sd / BYTES_SD))
        };
        match spec.head {
            HeadType::F16 => F16Matrix::from_panels(rows, cols, |panel, values| {
                let mut stream = Stream::new(self.seed, name, panel);
                for pair in values.as_chunks_mut::<2>().0 {
                    let r = stream.next();
                    *pair = [value(r as u32), value((r >> 32) as u32)];
                }
            })
            .map(Linear::F16),
            HeadType::Q8_0 => Q8Matrix::from_rows(rows, cols, |row, values| {
                let mut stream = Stream::new(self.seed, name, row);
                values.iter_mut().for_each(|v| *v = value(stream.next() as u32).to_f32());
                Ok(())
            })
            .map(Linear::Q8),
        }
    }
}

/// SplitMix64 (Steele et al., OOPSLA 2014), begun at a point that depends on seed, name and index.
struct Stream(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Stream {
    fn new(seed: u64, name: &str, index: usize) -> Stream {
        let named = name.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte)).wrapping_add(GOLDEN));
        Stream(mix(named ^ mix(index as u64 + GOLDEN)))
    }

    #[inline(always)]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests;
