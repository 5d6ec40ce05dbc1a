//! Synthetic models whose share of zero gates is as asked for.

use super::{EMBEDDING_RMS, SyntheticSpec};
use crate::error::{Error, Result};
use crate::model::Activation;
use crate::quant::PANEL;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};

/// Mean square of the norm weights, uniform in [0.5, 1.5).
const NORM_SQUARE: f64 = 13.0 / 12.0;

/// How the share of zero gates is controlled, by weights alone: any engine runs the model, and its gates are what they
/// are for that.
///
/// The first channels of the residual stream, one in 32 or so, are 1 in every row of the embedding, and no block adds to
/// them (their rows of `attn_output` and `ffn_down` are 0). Attention and head do not see them (their norm weights are
/// 0). But every row of `ffn_gate` has the same weight there, -1 or 1, and the weights of `ffn_norm` make of it a bias `b`
/// of all gates. The other channels give a gate a normal distribution about 0 of deviation `d`, as they are many: it is 0
/// or less with probability Phi(-b / d), and `b` follows from the share.
#[derive(Clone, Copy, Debug)]
pub struct Gates {
    /// The channels; 0 without control.
    channels: usize,
    /// b / d.
    bias: f64,
    hidden: usize,
}

/// The channels given to the control at a width: a whole number of blocks of ternary weights.
pub(super) fn channels(hidden: usize) -> usize {
    hidden.div_ceil(32).next_multiple_of(BLOCK)
}

impl Gates {
    /// What `spec` asks for.
    ///
    /// # Errors
    /// [`Error::Config`] for a share outside 0 to 0.99, or for a model without ReLU² and sub-norms, or narrower than 64.
    pub(super) fn of(spec: &SyntheticSpec) -> Result<Gates> {
        let (config, hidden) = (&spec.config, spec.config.hidden);
        let Some(share) = spec.gate_zeros else { return Ok(Gates { channels: 0, bias: 0.0, hidden }) };
        let wrong = |expected: &str, found: String| {
            Err(Error::Config { field: "gate_zeros", expected: expected.to_owned(), found })
        };
        if !(0.0..=0.99).contains(&share) {
            return wrong("a share of 0 to 0.99", share.to_string());
        }
        if config.activation != Activation::Relu2 || !config.sub_norms {
            return wrong("none in a model without relu2 and sub-norms", share.to_string());
        }
        if hidden < 64 {
            return wrong("none in a model narrower than 64", format!("{share} at {hidden}"));
        }
        Ok(Gates { channels: channels(hidden), bias: -quantile(share), hidden })
    }

    /// Makes a norm blind to the channels.
    pub(super) fn hide(self, norm: &mut [f32]) {
        norm[..self.channels].fill(0.0);
    }

    /// Sets the weights of the norm before a feed-forward; `before` is the share of branches before it.
    pub(super) fn show(self, norm: &mut [f32], before: f64) {
        if self.channels == 0 {
            return;
        }
        // Each of the 2 x layers branches adds a sub-normed variance of NORM_SQUARE / (2 x layers).
        let hidden = self.hidden as f64;
        let square = EMBEDDING_RMS * EMBEDDING_RMS + NORM_SQUARE * before;
        let live = (hidden - self.channels as f64) / hidden;
        // b = scale x channels x weight / rms and d = sqrt(live x NORM_SQUARE x square) / rms, the scale sqrt(2 / hidden).
        let deviation = (live * NORM_SQUARE * square).sqrt();
        let weight = self.bias.abs() * deviation / ((2.0 / hidden).sqrt() * self.channels as f64);
        norm[..self.channels].fill(weight as f32);
    }

    /// What becomes of a tensor, by its GGUF name in its block.
    pub(super) fn steer(self, tensor: &str) -> Steer {
        let code = if self.bias < 0.0 { 0 } else { 2 };
        match tensor {
            _ if self.channels == 0 => Steer::Not,
            "ffn_gate" => Steer::Columns { blocks: self.channels / BLOCK, code },
            "attn_output" | "ffn_down" => Steer::ZeroRows { panels: self.channels / PANEL },
            _ => Steer::Not,
        }
    }
}

/// A change of some of a tensor's codes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Steer {
    Not,
    /// One code in all rows of the first columns.
    Columns {
        blocks: usize,
        code: u8,
    },
    /// Weight 0 in the first rows.
    ZeroRows {
        panels: usize,
    },
}

impl Steer {
    /// Changes a panel of a tensor.
    pub(super) fn apply(self, panel: usize, bytes: &mut [u8]) {
        match self {
            Steer::Columns { blocks, code } => bytes[..blocks * BLOCK_BYTES].fill(0b01_01_01_01 * code),
            Steer::ZeroRows { panels } if panel < panels => bytes.fill(0b01_01_01_01),
            Steer::ZeroRows { .. } | Steer::Not => {}
        }
    }
}

/// The quantile of the standard normal distribution, within 4.5e-4 (Abramowitz and Stegun, 26.2.23), shares below 1e-4
/// taken for it.
fn quantile(share: f64) -> f64 {
    let tail = share.min(1.0 - share).max(1e-4);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let x = t - above / below;
    if share < 0.5 { -x } else { x }
}
