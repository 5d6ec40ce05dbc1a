//! 8-bit weights for output heads: blocks of 32 columns with an f16 scale, as GGUF's Q8_0 has them, in panels.
//!
//! A panel holds, per block, 8 groups of 4 columns of 64 bytes each (byte `4 r + j` of group `g`: row `r`, column
//! `32 b + 4 g + j`) and, apart, the block's 16 scales. A byte is the weight + 128, so that it is unsigned.

use half::f16;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, checked_len, read_scales};
use crate::error::{Error, Result};

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a block without its scales: 16 rows x 32 columns.
pub(crate) const BLOCK_BYTES: usize = PANEL * BLOCK;
/// Bytes of a block of one row in GGUF: the scale, then the weights.
pub(crate) const GGUF_BLOCK: usize = 2 + BLOCK;

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
        let row_bytes = cols.div_ceil(BLOCK) * GGUF_BLOCK;
        Q8Matrix::by_panel(rows, cols, |panel, weights, scales| {
            let first = panel * PANEL;
            let mut bytes = vec![0u8; PANEL.min(rows - first) * row_bytes];
            bytes.chunks_exact_mut(row_bytes).enumerate().try_for_each(|(r, row)| fill(first + r, row))?;
            weights.fill(128);
            let blocks = weights.chunks_exact_mut(BLOCK_BYTES).zip(scales.chunks_exact_mut(PANEL));
            for (b, (weights, scales)) in blocks.enumerate() {
                let (words, _) = weights.as_chunks_mut::<4>();
                for (r, row) in bytes.chunks_exact(row_bytes).enumerate() {
                    let block = &row.as_chunks::<GGUF_BLOCK>().0[b];
                    scales[r] = f16::from_le_bytes([block[0], block[1]]);
                    let (fours, _) = block[2..].as_chunks::<4>();
                    fours.iter().enumerate().for_each(|(g, four)| words[PANEL * g + r] = four.map(|w| w ^ 128));
                }
            }
            Ok(())
        })
    }

    /// Puts panels back together, each then told to `done`, that [`Q8Matrix::panel`] took apart, in parallel.
    ///
    /// # Errors
    /// Bad dimensions, or a scale that is no finite number.
    ///
    /// # Panics
    /// If a panel is not [`Q8Matrix::panel_bytes`] long.
    pub(crate) fn from_panels<'b>(
        rows: usize,
        cols: usize,
        panel_of: impl Fn(usize) -> &'b [u8] + Sync,
        done: impl Fn(usize) + Sync,
    ) -> Result<Self> {
        Q8Matrix::by_panel(rows, cols, |panel, weights, scales| {
            let (bytes, rest) = panel_of(panel).split_at(weights.len());
            weights.copy_from_slice(bytes);
            read_scales(rest, scales)?;
            done(panel);
            Ok(())
        })
    }

    /// Makes a matrix of panels: `fill(panel, weights, scales)`, all of them zeros, in parallel.
    fn by_panel(
        rows: usize,
        cols: usize,
        fill: impl Fn(usize, &mut [u8], &mut [f16]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let blocks = cols.div_ceil(BLOCK);
        let len = checked_len(rows, cols, blocks * BLOCK_BYTES)?;
        let mut weights = Buffer::<u8>::zeroed(len)?;
        let mut scales = Buffer::<f16>::zeroed(len / BLOCK)?;
        let panels = weights
            .par_chunks_exact_mut(blocks * BLOCK_BYTES)
            .zip(scales.par_chunks_exact_mut(blocks * PANEL))
            .enumerate();
        panels.try_for_each(|(panel, (weights, scales))| fill(panel, weights, scales))?;
        Ok(Q8Matrix { rows, cols, weights, scales })
    }

    /// Bytes of a panel and its scales.
    pub(crate) fn panel_bytes(cols: usize) -> usize {
        cols.div_ceil(BLOCK) * (BLOCK_BYTES + PANEL * size_of::<f16>())
    }

    /// Panel `nth`: weights, scales.
    pub(crate) fn panel(&self, nth: usize) -> Vec<u8> {
        let blocks = self.cols.div_ceil(BLOCK);
        let weights = &self.weights[nth * blocks * BLOCK_BYTES..][..blocks * BLOCK_BYTES];
        let scales = &self.scales[nth * blocks * PANEL..][..blocks * PANEL];
        weights.iter().copied().chain(scales.iter().flat_map(|scale| scale.to_le_bytes())).collect()
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
    fn panels_come_back_exactly() {
        let value = |row: usize, col: usize| (row * 7 + col) as f32 - 20.0;
        let fill = |row: usize, out: &mut [f32]| {
            out.iter_mut().enumerate().for_each(|(col, out)| *out = value(row, col));
            Ok(())
        };
        let matrix = Q8Matrix::from_rows(21, 70, fill).unwrap();
        let mut panels = [matrix.panel(0), matrix.panel(1)];
        assert!(panels.iter().all(|panel| panel.len() == Q8Matrix::panel_bytes(70)));
        let made = |panels: &[Vec<u8>; 2]| Q8Matrix::from_panels(21, 70, |nth| &*panels[nth], |_| ());
        let again = made(&panels).unwrap();
        assert!(*again.weights == *matrix.weights && *again.scales == *matrix.scales);
        let last = panels[1].len() - 1;
        panels[1][last] = 0x7c;
        assert!(matches!(made(&panels), Err(Error::Scale { .. })));
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
