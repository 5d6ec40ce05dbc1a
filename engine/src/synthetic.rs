//! Models of any shape, made in memory from a seed, in every format of one function.
//!
//! The linear layers of the f16 and bf16 models are the ternary ones written out, exactly; embedding, head and norms are
//! identical. So the logits of those two are equal, and differ from the ternary model's only by what int8 activations
//! lose: at most [`PAIR_BOUND`].
//!
//! The weights are random, but the function is as tame as a trained model's: queries and keys are scaled so that
//! attention picks some positions out, and what each block adds to the residual stream is scaled by `1 / sqrt(2 layers)`
//! (as GPT-2 initialises), so that nothing explodes or dies over 80 layers and int8 noise is not amplified. The random
//! signs of the output norm keep the head, where it is the embedding, from just repeating the last token.

use half::{bf16, f16};

use crate::error::Result;
use crate::linear::Linear;
use crate::model::{Config, Format, Layer, Model};
use crate::quant::plain::{Arithmetic, PlainMatrix};
use crate::quant::{Base3Matrix, Bf16Matrix, F16Matrix, PANEL, Q6Matrix, Q8Matrix, TernaryMatrix};

/// Relative distance (root mean square of the difference over that of the fp16 logits) that the logits of a pair stay
/// within, at any position. Measured: at most 0.027 over the shapes and seeds of the test; planted faults (RoPE style, a
/// missing sub-norm, the other activation, an inverse scale, a mask off by one) give 0.12 or more.
pub const PAIR_BOUND: f32 = 0.06;

/// The weight format of embedding and head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeadType {
    /// Half precision.
    #[default]
    F16,
    /// 8 bits in blocks of 32, quantised from the f16 values.
    Q8_0,
    /// 6 bits with two levels of scales, quantised from the f16 values.
    Q6K,
}

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticSpec {
    /// The shape.
    pub config: Config,
    /// Another seed, another model.
    pub seed: u64,
    /// Embedding and head.
    pub head: HeadType,
    /// The share of feed-forward gates that shall be 0 or less, about, in each layer: see [`Gates`]. `None` leaves the
    /// weights as they come, and about half.
    pub gate_zeros: Option<f64>,
}

/// Standard deviation of queries and keys given inputs of unit variance; attention scores then deviate by about 2.
const QUERY_KEY_GAIN: f64 = 1.4;
/// Root mean square of the values of [`embedding_row`]: +-[0.5, 2), half of them below 1.
const EMBEDDING_RMS: f64 = 1.21;
/// Standard deviation of the logits.
const LOGIT_DEVIATION: f64 = 2.0;

/// Makes a model, in parallel (rayon). The same specification gives the same weights on any machine and thread count.
///
/// # Errors
/// A configuration that does not make sense, or memory that the system refuses.
pub fn build(spec: &SyntheticSpec, format: Format) -> Result<Model> {
    let config = &spec.config;
    config.validate()?;
    config.check_format(format)?;
    let gates = Gates::of(spec)?;
    let embedding = |name| embedding(spec, format, name);
    let head = if config.tied { None } else { Some(embedding("output")?) };
    let layers = (0..config.layers).map(|index| layer(spec, format, index, gates)).collect::<Result<_>>()?;
    let scale = LOGIT_DEVIATION / EMBEDDING_RMS / (config.hidden as f64).sqrt();
    let mut signs = Stream::new(spec.seed, "output_norm.sign", 0);
    let mut sign = |x: f32| if signs.next() >> 63 == 0 { x } else { -x };
    let mut output_norm: Vec<f32> =
        norm(spec, "output_norm", config.hidden).into_iter().map(|x| sign(x * scale as f32)).collect();
    gates.hide(&mut output_norm);
    Model::new(config.clone(), embedding("token_embd")?, layers, output_norm, head)?.packed_for(format)
}

fn layer(spec: &SyntheticSpec, format: Format, index: usize, gates: Gates) -> Result<Layer> {
    let config = &spec.config;
    let (hidden, q, kv, ffn) = (config.hidden, config.q_width(), config.kv_width(), config.ffn);
    let name = |tensor: &str| format!("blk.{index}.{tensor}");
    let make =
        |tensor: &str, rows, cols, gain| linear(spec, format, (&name(tensor), gates.steer(tensor)), rows, cols, gain);
    let sub_norm = |tensor: &str, width| config.sub_norms.then(|| norm(spec, &name(tensor), width));
    let head_norm = |tensor: &str| config.qk_norm.then(|| norm(spec, &name(tensor), config.head_dim));
    let bias = |tensor: &str, width| config.attention_bias.then(|| bias(spec, &name(tensor), width, 1.0));
    let branch = 1.0 / (2.0 * config.layers as f64).sqrt();
    let mut attn_norm = norm(spec, &name("attn_norm"), hidden);
    gates.hide(&mut attn_norm);
    let mut ffn_norm = norm(spec, &name("ffn_norm"), hidden);
    gates.show(&mut ffn_norm, (2 * index + 1) as f64 / (2 * config.layers) as f64);
    Ok(Layer {
        attn_norm,
        q: make("attn_q", q, hidden, QUERY_KEY_GAIN)?,
        k: make("attn_k", kv, hidden, QUERY_KEY_GAIN)?,
        v: make("attn_v", kv, hidden, 1.0)?,
        q_bias: bias("attn_q.bias", q),
        k_bias: bias("attn_k.bias", kv),
        v_bias: bias("attn_v.bias", kv),
        q_norm: head_norm("attn_q_norm"),
        k_norm: head_norm("attn_k_norm"),
        attn_sub_norm: sub_norm("attn_sub_norm", q),
        o: make("attn_output", hidden, q, branch)?,
        o_bias: config.output_bias.then(|| self::bias(spec, &name("attn_output.bias"), hidden, branch)),
        ffn_norm,
        gate: make("ffn_gate", ffn, hidden, 1.0)?,
        up: make("ffn_up", ffn, hidden, 1.0)?,
        ffn_sub_norm: sub_norm("ffn_sub_norm", ffn),
        down: make("ffn_down", hidden, ffn, branch)?,
    })
}

/// Random ternary weights, half of them zero, scaled so that inputs of unit variance give outputs of deviation `gain`.
fn linear(
    spec: &SyntheticSpec,
    format: Format,
    (name, steer): (&str, Steer),
    rows: usize,
    cols: usize,
    gain: f64,
) -> Result<Linear> {
    // To the nearest bf16, which f16 holds too at these sizes: the twins then hold the very same weights.
    let scale = bf16::from_f64(gain * (2.0 / cols as f64).sqrt()).to_f32();
    let fill = |panel: usize, bytes: &mut [u8]| {
        let mut stream = Stream::new(spec.seed, name, panel as u64);
        let (words, _) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = codes(stream.next()).to_le_bytes();
        }
        steer.apply(panel, bytes);
    };
    if format.is_base3() {
        // Straight from its panels: the largest models have no room for both packings of a matrix.
        return Base3Matrix::from_panels(rows, cols, scale, fill).map(Linear::Base3);
    }
    let matrix = TernaryMatrix::from_panels(rows, cols, scale, fill)?;
    Ok(match format {
        Format::Ternary | Format::TernarySparse | Format::Base3 | Format::Base3Sparse => Linear::Ternary(matrix),
        Format::F16 => Linear::F16(F16Matrix::from_ternary(&matrix)?),
        Format::Bf16 => Linear::Bf16(Bf16Matrix::from_ternary(&matrix)?),
        Format::Reference => {
            Linear::Plain(PlainMatrix::from_rows(rows, cols, Arithmetic::Ternary { scale }, |row, out| {
                out.iter_mut().enumerate().for_each(|(col, out)| *out = f32::from(matrix.weight(row, col)));
                Ok(())
            })?)
        }
    })
}

/// Thirty-two 2-bit codes from 64 random bits: each the sum of two bits, so 0, 1, 1 or 2.
fn codes(random: u64) -> u64 {
    const LOW: u64 = 0x5555_5555_5555_5555;
    (random & LOW) + (random >> 1 & LOW)
}

/// A `vocab x hidden` matrix of the head's format; in the reference the same weights as f32.
fn embedding(spec: &SyntheticSpec, format: Format, name: &str) -> Result<Linear> {
    let packed = head(spec, name)?;
    if format != Format::Reference {
        return Ok(packed);
    }
    let fill = |row: usize, out: &mut [f32]| {
        packed.row_to_f32(row, out);
        Ok(())
    };
    PlainMatrix::from_rows(packed.rows(), packed.cols(), Arithmetic::F32, fill).map(Linear::Plain)
}

fn head(spec: &SyntheticSpec, name: &str) -> Result<Linear> {
    let (rows, cols) = (spec.config.vocab, spec.config.hidden);
    match spec.head {
        HeadType::F16 => F16Matrix::from_panels(rows, cols, |panel, values| {
            for r in 0..PANEL.min(rows - panel * PANEL) {
                let column = values.chunks_exact_mut(PANEL).map(|column| &mut column[r]);
                embedding_row(spec, name, panel * PANEL + r, column);
            }
        })
        .map(Linear::F16),
        HeadType::Q8_0 => {
            Q8Matrix::from_rows(rows, cols, |row, values| wide_row(spec, name, row, values)).map(Linear::Q8)
        }
        HeadType::Q6K => {
            Q6Matrix::from_rows(rows, cols, |row, values| wide_row(spec, name, row, values)).map(Linear::Q6)
        }
    }
}

/// A row of [`embedding_row`] as f32.
fn wide_row(spec: &SyntheticSpec, name: &str, row: usize, values: &mut [f32]) -> Result<()> {
    let mut half = vec![f16::ZERO; values.len()];
    embedding_row(spec, name, row, half.iter_mut());
    values.iter_mut().zip(half).for_each(|(value, half)| *value = half.to_f32());
    Ok(())
}

/// One row of random f16: sign, mantissa and the last bit of the exponent random, so +-[0.5, 1) or +-[1, 2).
fn embedding_row<'a>(spec: &SyntheticSpec, name: &str, row: usize, values: impl Iterator<Item = &'a mut f16>) {
    let mut stream = Stream::new(spec.seed, name, row as u64);
    let (mut random, mut left) = (0, 0);
    let constant = spec.gate_zeros.map_or(0, |_| gates::channels(spec.config.hidden));
    for (channel, value) in values.enumerate() {
        if channel < constant {
            *value = f16::ONE;
            continue;
        }
        if left == 0 {
            (random, left) = (stream.next(), 4);
        }
        *value = f16::from_bits(random as u16 & 0x87ff | 0x3800);
        random >>= 16;
        left -= 1;
    }
}

/// Norm weights: uniform in [0.5, 1.5).
fn norm(spec: &SyntheticSpec, name: &str, width: usize) -> Vec<f32> {
    let mut stream = Stream::new(spec.seed, name, 0);
    (0..width).map(|_| 0.5 + (stream.next() >> 40) as f32 / (1u64 << 24) as f32).collect()
}

/// A bias: uniform in [-gain / 2, gain / 2).
fn bias(spec: &SyntheticSpec, name: &str, width: usize, gain: f64) -> Vec<f32> {
    norm(spec, name, width).into_iter().map(|x| (x - 1.0) * gain as f32).collect()
}

/// Random numbers of one part of one tensor: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), started from a hash.
struct Stream(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Stream {
    fn new(seed: u64, name: &str, part: u64) -> Stream {
        let state = name.bytes().fold(mix(seed ^ GOLDEN), |state, byte| mix(state ^ u64::from(byte)));
        Stream(mix(state ^ mix(part.wrapping_add(GOLDEN))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

mod gates;

pub use gates::Gates;
use gates::Steer;

#[cfg(test)]
mod tests;
