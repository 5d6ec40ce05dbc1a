//! Weights into the packings of files: what `trits` and `blocks` read, written.

use half::{bf16, f16};

use super::q6;
use super::tl::{self, Tile};
use super::trits::BLOCK;
use crate::formats::gguf::{I2sLayout, TensorType};

/// A ternary packing of a whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// bitnet.cpp's, in one of three layouts; the f32 scale behind the codes.
    I2s(I2sLayout),
    /// Five trits a byte; an f16 scale for each 256 values.
    Tq1_0,
    /// Four trits a byte; an f16 scale for each 256 values.
    Tq2_0,
    /// Pairs in tiles; the scale is kept elsewhere.
    Tl1(Tile),
    /// Triples in tiles; the scale is kept elsewhere.
    Tl2(Tile),
    /// Hugging Face's uint8: row r + i R (R a quarter of the rows) at bits 2 i of row r; the scale is kept elsewhere.
    Hf,
}

impl Packing {
    /// The type in GGUF files; Hugging Face's packing has none.
    #[must_use]
    pub fn tensor_type(self) -> Option<TensorType> {
        match self {
            Self::I2s(_) => Some(TensorType::I2S),
            Self::Tq1_0 => Some(TensorType::Tq1_0),
            Self::Tq2_0 => Some(TensorType::Tq2_0),
            Self::Tl1(_) => Some(TensorType::Tl1),
            Self::Tl2(_) => Some(TensorType::Tl2),
            Self::Hf => None,
        }
    }

    /// What a shape must be for this packing, if it is not.
    #[must_use]
    pub fn misfit(self, rows: usize, cols: usize) -> Option<String> {
        match self {
            Self::I2s(layout) => layout.misfit(rows, cols).map(str::to_owned),
            Self::Tq1_0 | Self::Tq2_0 => (!cols.is_multiple_of(BLOCK))
                .then(|| format!("columns that are a multiple of {BLOCK} (a block of TQ1_0 or TQ2_0)")),
            Self::Tl1(tile) => tl::tl1_misfit(tile, rows, cols),
            Self::Tl2(tile) => tl::tl2_misfit(tile, rows, cols),
            Self::Hf => (!rows.is_multiple_of(4)).then(|| "rows that are a multiple of 4 (four in a byte)".to_owned()),
        }
    }

    /// Whether the packing gives back every bit of this scale: TQ1_0 and TQ2_0 have f16 scales.
    #[must_use]
    pub fn holds_scale(self, scale: f32) -> bool {
        match self {
            Self::Tq1_0 | Self::Tq2_0 => f16::from_f32(scale).to_f32() == scale,
            _ => true,
        }
    }
}

/// A ternary tensor in the making: rows in, bytes out.
#[derive(Debug)]
pub struct Packer {
    packing: Packing,
    rows: usize,
    scale: f32,
    bytes: Vec<u8>,
}

impl Packer {
    /// An empty tensor.
    ///
    /// # Errors
    /// What the shape or the scale would have to be.
    pub fn new(packing: Packing, rows: usize, cols: usize, scale: f32) -> Result<Self, String> {
        if let Some(expected) = packing.misfit(rows, cols) {
            return Err(expected);
        }
        let half = f16::from_f32(scale);
        let blocks = matches!(packing, Packing::Tq1_0 | Packing::Tq2_0);
        if !scale.is_finite() || scale < 0.0 || blocks && (!half.is_finite() || half.to_f32() == 0.0 && scale != 0.0) {
            return Err("a scale that is finite, not negative and in the range of the packing's scales".to_owned());
        }
        let size = match packing.tensor_type() {
            Some(kind) => kind.data_bytes(&[cols as u64, rows as u64]).and_then(|size| usize::try_from(size).ok()),
            None => (rows / 4).checked_mul(cols),
        };
        let size = size.ok_or("a size that fits memory")?;
        // TQ1_0 and TQ2_0 are appended to, row after row; the others are filled in place.
        let bytes = if blocks { Vec::with_capacity(size) } else { vec![0; size] };
        Ok(Self { packing, rows, scale, bytes })
    }

    /// Packs the next row, number `row` counted from 0, of trits (-1, 0 or 1).
    ///
    /// # Panics
    /// If a trit is none of these.
    pub fn row(&mut self, row: usize, trits: &[i8]) {
        assert!(trits.iter().all(|trit| (-1..=1).contains(trit)), "a trit of row {row}");
        let (cols, bytes) = (trits.len(), &mut self.bytes);
        match self.packing {
            Packing::I2s(layout) => {
                for (col, &trit) in trits.iter().enumerate() {
                    let (byte, shift) = layout.place(cols, row, col);
                    bytes[byte] |= code(trit) << shift;
                }
            }
            Packing::Hf => {
                let quarter = self.rows / 4;
                let (first, shift) = (row % quarter * cols, row / quarter * 2);
                let out = &mut bytes[first..first + cols];
                out.iter_mut().zip(trits).for_each(|(byte, &trit)| *byte |= code(trit) << shift);
            }
            Packing::Tq1_0 => trits.as_chunks::<BLOCK>().0.iter().for_each(|block| tq1_0(block, self.scale, bytes)),
            Packing::Tq2_0 => trits.as_chunks::<BLOCK>().0.iter().for_each(|block| tq2_0(block, self.scale, bytes)),
            Packing::Tl1(tile) => tl::tl1_put(bytes, tile, row, trits),
            Packing::Tl2(tile) => tl::tl2_put(bytes, tile, self.rows, row, trits),
        }
    }

    /// The tensor's bytes.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if let Packing::I2s(_) = self.packing {
            let at = self.bytes.len() - crate::formats::gguf::I2S_TAIL as usize;
            self.bytes[at..at + 4].copy_from_slice(&self.scale.to_le_bytes());
        }
        self.bytes
    }
}

fn code(trit: i8) -> u8 {
    (trit + 1) as u8
}

/// The scale of a block: 0 for one of zeros only, as ggml's quantisers have it.
fn block_scale(block: &[i8; BLOCK], scale: f32) -> [u8; 2] {
    let zero = block.iter().all(|&trit| trit == 0);
    f16::from_f32(if zero { 0.0 } else { scale }).to_le_bytes()
}

/// A TQ1_0 block (`quantize_row_tq1_0_ref`): see [`super::trits::tq1_0`].
fn tq1_0(block: &[i8; BLOCK], scale: f32, out: &mut Vec<u8>) {
    for (first, width, digits) in [(0, 32, 5), (160, 16, 5), (240, 4, 4)] {
        for m in 0..width {
            let number = (0..digits).fold(0, |n, digit| 3 * n + u32::from(code(block[first + digit * width + m])));
            // Four digits stand before a fifth of 0.
            let number = if digits == 4 { 3 * number } else { number };
            out.push((number * 256).div_ceil(243) as u8);
        }
    }
    out.extend(block_scale(block, scale));
}

/// A TQ2_0 block (`quantize_row_tq2_0_ref`): see [`super::trits::tq2_0`].
fn tq2_0(block: &[i8; BLOCK], scale: f32, out: &mut Vec<u8>) {
    for half in block.chunks_exact(128) {
        out.extend((0..32).map(|m| (0..4).fold(0, |byte, n| byte | code(half[32 * n + m]) << (2 * n))));
    }
    out.extend(block_scale(block, scale));
}

/// Values of a Q8_0 block.
const Q8_BLOCK: usize = 32;

/// Appends a row in a float format or Q8_0, rounded as ggml's reference quantisers round, or in Q6_K by the rule of
/// [`super::Q6Matrix::from_rows`].
///
/// # Errors
/// What the values would have to be: of another type, or in its range.
///
/// # Panics
/// If a row of Q8_0 or Q6_K is no whole number of blocks, which [`TensorType::block_len`] tells.
pub fn floats(kind: TensorType, values: &[f32], out: &mut Vec<u8>) -> Result<(), String> {
    let bad = |col: usize| format!("weights that fit {kind} (found {} in column {col})", values[col]);
    match kind {
        TensorType::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        TensorType::F16 => {
            if let Some(col) = values.iter().position(|v| !f16::from_f32(*v).is_finite()) {
                return Err(bad(col));
            }
            out.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
        }
        TensorType::BF16 => {
            if let Some(col) = values.iter().position(|v| !bf16::from_f32(*v).is_finite()) {
                return Err(bad(col));
            }
            out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
        }
        TensorType::Q8_0 => {
            let (blocks, rest) = values.as_chunks::<Q8_BLOCK>();
            assert!(rest.is_empty(), "a row of whole blocks");
            for (nth, block) in blocks.iter().enumerate() {
                if !q8_0(block, out) {
                    return Err(bad(nth * Q8_BLOCK));
                }
            }
        }
        TensorType::Q6K => {
            let (blocks, rest) = values.as_chunks::<{ q6::SUPER }>();
            assert!(rest.is_empty(), "a row of whole blocks");
            for (nth, block) in blocks.iter().enumerate() {
                let mut bytes = [0; q6::GGUF_BLOCK];
                q6::quantise(block, &mut bytes);
                if !f16::from_le_bytes([bytes[208], bytes[209]]).is_finite() {
                    return Err(bad(nth * q6::SUPER));
                }
                out.extend(bytes);
            }
        }
        other => return Err(format!("a type that is written (F32, F16, BF16, Q8_0 or Q6_K), not {other}")),
    }
    Ok(())
}

/// A Q8_0 block (`quantize_row_q8_0_ref`): the scale in f32 until all is rounded, ties away from zero; false if it does
/// not fit f16.
fn q8_0(block: &[f32; Q8_BLOCK], out: &mut Vec<u8>) -> bool {
    let largest = block.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let half = f16::from_f32(scale);
    out.extend(half.to_le_bytes());
    out.extend(block.iter().map(|v| (v * inverse).round() as i8 as u8));
    half.is_finite()
}
