//! 8-bit weights for output heads: blocks of 32 columns with an f16 scale, as GGUF's Q8_0 has them, in panels.
//!
//! A panel holds, per block, 8 groups of 4 columns of 64 bytes each (byte `4 r + j` of group `g`: row `r`, column
//! `32 b + 4 g + j`) and, apart, the block's 16 scales. A byte is the weight + 128, so that it is unsigned.

use half::f16;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, checked_len};
use crate::error::{Error, Result};

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a block without its scales: 16 rows x 32 columns.
pub(crate) const BLOCK_BYTES: usize = PANEL * BLOCK;
/// Bytes of a block of one row in GGUF: the scale, then the weights.
const GGUF_BLOCK: usize = 2 + BLOCK;

/// A matrix of 8-bit weights in panels.
#[derive(Debug)]
pub struct Q8Matrix {
    rows: usize,
    cols: usize,
    weights: Buffer<u8>,
    scales: Buffer<f16>,
}

impl Q8Matrix {
    /// Quantises rows: `fill(row, values)` writes the `cols` values of a row, in parallel. The scale of a block is
    /// f16(max |w| / 127); weights are rounded to nearest, ties away from zero, as GGUF's reference quantiser does.
    ///
    /// # Errors
    /// Bad dimensions, or the first error of `fill`.
    pub fn from_rows(rows: usize, cols: usize, fill: impl Fn(usize, &mut [f32]) -> Result<()> + Sync) -> Result<Self> {
        Q8Matrix::pack(rows, cols, |row, out| {
            let mut values = vec![0.0; cols.next_multiple_of(BLOCK)];
            fill(row, &mut values[..cols])?;
            for (block, out) in values.chunks_exact(BLOCK).zip(out.chunks_exact_mut(GGUF_BLOCK)) {
                let largest = block.iter().fold(0.0f32, |max, v| max.max(v.abs()));
                let scale = largest / 127.0;
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
                for (out, value) in out[2..].iter_mut().zip(block) {
                    *out = (value * inverse).round() as i8 as u8;
                }
            }
            Ok(())
        })
    }

    /// Packs rows that are Q8_0 blocks already: `fill(row, bytes)` writes the `cols / 32` blocks of a row as GGUF lays
    /// them out (34 bytes each: f16 scale, 32 weights), in parallel.
    ///
    /// # Errors
    /// Bad dimensions, columns that are no multiple of 32, or the first error of `fill`.
    pub fn from_blocks(rows: usize, cols: usize, fill: impl Fn(usize, &mut [u8]) -> Result<()> + Sync) -> Result<Self> {
        if !cols.is_multiple_of(BLOCK) {
            let expected = format!("a multiple of {BLOCK}");
            return Err(Error::Size { what: "q8_0 matrix columns", expected, found: cols });
        }
        Q8Matrix::pack(rows, cols, fill)
    }

    fn pack(rows: usize, cols: usize, fill: impl Fn(usize, &mut [u8]) -> Result<()> + Sync) -> Result<Self> {
        let blocks = cols.div_ceil(BLOCK);
        let len = checked_len(rows, cols, blocks * BLOCK_BYTES)?;
        let mut weights = Buffer::<u8>::zeroed(len)?;
        let mut scales = Buffer::<f16>::zeroed(len / BLOCK)?;
        let panels = weights
            .par_chunks_exact_mut(blocks * BLOCK_BYTES)
            .zip(scales.par_chunks_exact_mut(blocks * PANEL))
            .enumerate();
        panels.try_for_each(|(panel, (weights, scales))| {
            let mut row = vec![0u8; blocks * GGUF_BLOCK];
            weights.fill(128);
            for r in 0..PANEL.min(rows - panel * PANEL) {
                fill(panel * PANEL + r, &mut row)?;
                for (b, block) in row.chunks_exact(GGUF_BLOCK).enumerate() {
                    scales[b * PANEL + r] = f16::from_le_bytes([block[0], block[1]]);
                    for (i, &weight) in block[2..].iter().enumerate() {
                        weights[b * BLOCK_BYTES + i / 4 * 64 + r * 4 + i % 4] = weight ^ 128;
                    }
                }
            }
            Ok(())
        })?;
        Ok(Q8Matrix { rows, cols, weights, scales })
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The weights of all panels, one after the other, each + 128.
    pub fn weights(&self) -> &[u8] {
        &self.weights
    }

    /// The scales of all panels: per block of 32 columns, one a row.
    pub fn scales(&self) -> &[f16] {
        &self.scales
    }

    /// Writes the scaled weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "columns");
        let (blocks, r) = (self.cols.div_ceil(BLOCK), row % PANEL);
        let first = row / PANEL * blocks;
        for (b, out) in out.chunks_mut(BLOCK).enumerate() {
            let scale = self.scales[(first + b) * PANEL + r].to_f32();
            for (i, out) in out.iter_mut().enumerate() {
                let weight = self.weights[(first + b) * BLOCK_BYTES + i / 4 * 64 + r * 4 + i % 4];
                *out = f32::from((weight ^ 128) as i8) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_within_half_a_step() {
        let value = |row: usize, col: usize| ((row * 37 + col * 11) % 101) as f32 / 50.0 - 1.0;
        for (rows, cols) in [(1, 1), (16, 32), (21, 70)] {
            let fill = |row: usize, out: &mut [f32]| {
                (0..cols).for_each(|col| out[col] = value(row, col));
                Ok(())
            };
            let matrix = Q8Matrix::from_rows(rows, cols, fill).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row_to_f32(row, &mut out);
                // Half a step of the largest scale, and the rounding of that scale to f16 (2^-11) times 127 steps.
                assert!((0..cols).all(|col| (out[col] - value(row, col)).abs() < 1.0 / 127.0 * (0.5 + 127.0 / 2048.0)));
            }
        }
    }

    #[test]
    fn blocks_come_back_exactly() {
        let byte = |row: usize, i: usize| (row * 59 + i * 23) as u8 as i8;
        let fill = |row: usize, out: &mut [u8]| {
            for (b, block) in out.chunks_exact_mut(34).enumerate() {
                block[..2].copy_from_slice(&f16::from_f32(0.25 * (b + 1) as f32).to_le_bytes());
                (0..32).for_each(|i| block[2 + i] = byte(row, b * 32 + i) as u8);
            }
            Ok(())
        };
        let matrix = Q8Matrix::from_blocks(18, 64, fill).unwrap();
        let mut out = [0.0; 64];
        for row in 0..18 {
            matrix.row_to_f32(row, &mut out);
            assert!((0..64).all(|i| out[i] == f32::from(byte(row, i)) * 0.25 * (i / 32 + 1) as f32));
        }
        assert!(matches!(Q8Matrix::from_blocks(18, 63, fill), Err(Error::Size { found: 63, .. })));
    }
}
