//! Models from one file format to another, tensor by tensor: no more is in memory than one tensor as it is read and one
//! as it is written.
//!
//! A ternary tensor keeps its trits and its scale, bit for bit, in every packing that can hold the scale; what cannot be
//! kept is counted and told ([`Report`]).

mod describe;
mod encode;
mod gguf;
mod hf;
mod rows;
mod shards;
mod synth;

pub(crate) use encode::Item;
pub(crate) use gguf::gguf_items;
pub use gguf::gguf_to_gguf;
pub(crate) use hf::each_of_folder;
pub use hf::{FolderOptions, gguf_to_hf, hf_to_gguf};
pub(crate) use rows::Rows;
pub use synth::synthetic_to_gguf;

use crate::formats::KernelConfig;
use crate::formats::gguf::{I2sLayout, TensorType};

/// What the linear layers of the blocks become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// bitnet.cpp's I2_S in this layout.
    I2s(I2sLayout),
    /// ggml's TQ1_0.
    Tq1_0,
    /// ggml's TQ2_0.
    Tq2_0,
    /// bitnet.cpp's TL1, by [`Options::kernels`].
    Tl1,
    /// bitnet.cpp's TL2, by [`Options::kernels`].
    Tl2,
    /// Hugging Face's packing, for folders.
    Hf,
    /// F32, F16, BF16 or Q8_0.
    Float(TensorType),
}

impl Target {
    /// The type in GGUF files; `None` for the packing of Hugging Face's folders.
    #[must_use]
    pub fn tensor_type(self) -> Option<TensorType> {
        match self {
            Self::I2s(_) => Some(TensorType::I2S),
            Self::Tq1_0 => Some(TensorType::Tq1_0),
            Self::Tq2_0 => Some(TensorType::Tq2_0),
            Self::Tl1 => Some(TensorType::Tl1),
            Self::Tl2 => Some(TensorType::Tl2),
            Self::Hf => None,
            Self::Float(kind) => Some(kind),
        }
    }
}

/// How to convert.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the linear layers of the blocks become.
    pub target: Target,
    /// How TL1 and TL2 are cut.
    pub kernels: Option<KernelConfig>,
    /// What embedding and output head become; `None` keeps them as they are.
    pub embedding: Option<TensorType>,
    /// What linear layers become whose shape the target cannot have; `None` refuses them.
    pub fallback: Option<TensorType>,
    /// Quantise weights that are not ternary by the mean of their magnitudes, as BitNet b1.58 does in training; else
    /// they are refused.
    pub quantise: bool,
    /// Write the inverses of scales into a Hugging Face folder (`bitlinear`), not the scales (`autobitlinear`).
    pub inverse: bool,
}

/// What became of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tensors written.
    pub tensors: usize,
    /// Linear layers written as the target.
    pub converted: usize,
    /// What was not kept bit for bit, tensor by tensor; empty if everything was.
    pub inexact: Vec<String>,
    /// What else is to be told, such as a tokenizer that was not carried over.
    pub notes: Vec<String>,
}
