//! What a file's weights become, and the bytes that takes.

use super::{Source, Weight};
use crate::model::Format;
use crate::quant::sparse::{CHUNK, CHUNK_BYTES};
use crate::quant::{MAX_COLS, PANEL, Q6Matrix, Q8Matrix, base3, q6, q8};

/// What a file's weights become: a [`Format`] alone means the head as the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// What the linear layers of the blocks become; of the 16-bit formats and the reference, all matrices.
    pub format: Format,
    /// What embedding and head become in the ternary formats.
    pub head: HeadWeights,
}

impl From<Format> for Loading {
    fn from(format: Format) -> Loading {
        Loading { format, head: HeadWeights::default() }
    }
}

/// What embedding and output head of a file become in the ternary formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeadWeights {
    /// Q8_0 and Q6_K stay what they are, bit for bit; of every other type they become f16. The activations before such a
    /// head are rounded to int8 in blocks of 32, so that its logits are not those of the f16 head.
    #[default]
    File,
    /// f16, whatever the file has.
    F16,
}

/// The blocks of a matrix as GGUF stores them, row after row, of types that have a run-time layout of their own.
#[derive(Clone, Copy)]
pub(super) enum Blocks<'a> {
    Q8_0(&'a [u8]),
    Q6K(&'a [u8]),
}

impl<'a> Blocks<'a> {
    /// [`crate::Linear::kind`] of what they become.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Blocks::Q8_0(_) => "q8_0",
            Blocks::Q6K(_) => "q6_k",
        }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Blocks::Q8_0(bytes) | Blocks::Q6K(bytes) => bytes,
        }
    }

    /// Whether the f16 scales among these bytes of whole blocks are finite numbers: then so are all weights, and else those
    /// of a block are not.
    pub(super) fn finite(self, bytes: &[u8]) -> bool {
        let (block, at) = match self {
            Blocks::Q8_0(_) => (q8::GGUF_BLOCK, 0),
            Blocks::Q6K(_) => (q6::GGUF_BLOCK, q6::GGUF_BLOCK - 2),
        };
        let scale = |block: &[u8]| half::f16::from_le_bytes([block[at], block[at + 1]]);
        bytes.chunks_exact(block).all(|block| scale(block).is_finite())
    }

    /// Bytes of a panel of what they become.
    fn panel_bytes(self, cols: usize) -> usize {
        match self {
            Blocks::Q8_0(_) => Q8Matrix::panel_bytes(cols),
            Blocks::Q6K(_) => Q6Matrix::panel_bytes(cols),
        }
    }
}

impl Loading {
    /// The blocks of an embedding or head that stays what it is.
    pub(super) fn kept<W: Weight>(self, weight: &W) -> Option<Blocks<'_>> {
        let keeps = self.format.is_ternary() && self.head == HeadWeights::File;
        if keeps { weight.blocks() } else { None }
    }
}

/// Bytes that the matrices of a source take.
pub(super) fn predict_bytes<S: Source>(source: &S, loading: Loading) -> u64 {
    let format = loading.format;
    let bytes = |name: String| {
        let weight = source.weight(&name)?;
        let &[cols, rows] = weight.dims() else { return None };
        let panels = rows.div_ceil(PANEL as u64);
        let values = |rows: u64, bytes: u64| rows.saturating_mul(cols).saturating_mul(bytes);
        let padded = |bytes: u64| values(panels.saturating_mul(PANEL as u64), bytes);
        let second = if format.is_sparse() { second_packing(&name, rows, cols) } else { 0 };
        Some(match format {
            Format::F16 | Format::Bf16 => padded(2),
            Format::Reference => values(rows, 4),
            _ if !name.starts_with("blk.") || !weight.is_ternary() => match loading.kept(&weight) {
                Some(blocks) => {
                    let cols = usize::try_from(cols).ok().filter(|&cols| cols <= MAX_COLS)?;
                    panels.saturating_mul(blocks.panel_bytes(cols) as u64)
                }
                None => padded(2),
            },
            Format::Ternary | Format::TernarySparse => (padded(1) / 4).saturating_add(second),
            Format::Base3 | Format::Base3Sparse => {
                let blocks = cols.div_ceil(base3::BLOCK as u64).saturating_mul(base3::BLOCK_BYTES as u64);
                panels.saturating_mul(blocks).saturating_add(second)
            }
        })
    };
    source.names().into_iter().filter_map(bytes).fold(0, u64::saturating_add)
}

/// Bytes that the sparse format holds of a matrix beside its panels.
fn second_packing(name: &str, rows: u64, cols: u64) -> u64 {
    let chunks = |n: u64| n.div_ceil(CHUNK as u64).saturating_mul(CHUNK_BYTES as u64);
    match name.trim_end_matches(".weight").rsplit('.').next() {
        Some("ffn_up") => rows.saturating_mul(chunks(cols)),
        Some("ffn_down") => cols.saturating_mul(chunks(rows)),
        _ => 0,
    }
}
