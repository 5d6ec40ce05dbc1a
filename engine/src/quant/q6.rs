//! 6-bit weights for output heads: GGUF's Q6_K in panels. A super-block of 256 columns has an f16 scale `d`, each 16 of its
//! columns an int8 scale `s`; a weight is `d s (q - 32)` with `q` of 6 bits: 6.56 bits a weight, as in the file.
//!
//! A panel holds, per block of 32 columns, 384 bytes and, apart, 16 rows x 2 int8 scales; per super-block 16 `d`. Of the 384
//! bytes the first 256 are low halves: byte `64 j + 4 r + i` has row `r`'s column `8 j + i` in its low four bits and column
//! `8 j + 4 + i` in its high four; the last 128 are high pairs of bits: byte `64 h + 4 r + i` has column `16 h + 4 k + i` at
//! bit `2 k`. So a shift and a mask make 4 columns of all 16 rows from a vector of 64 bytes.

use half::f16;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, checked_len, read_scales};
use crate::error::{Error, Result};

/// Columns of a block: those of the int8 activations that share a scale.
pub(crate) const BLOCK: usize = super::q8::BLOCK;
/// Bytes of a block's low halves.
pub(crate) const LOW_BYTES: usize = PANEL * BLOCK / 2;
/// Bytes of a block: 16 rows x 32 columns of 6 bits.
pub(crate) const BLOCK_BYTES: usize = LOW_BYTES + PANEL * BLOCK / 4;
/// Columns that share an int8 scale.
const GROUP: usize = 16;
/// int8 scales of a block: those of all rows' first 16 columns, then those of the second.
pub(crate) const BLOCK_SCALES: usize = PANEL * BLOCK / GROUP;
/// Blocks of a super-block, which has one f16 scale a row.
pub(crate) const SUPER_BLOCKS: usize = 8;
/// Columns of a super-block.
pub(crate) const SUPER: usize = SUPER_BLOCKS * BLOCK;
/// Bytes of a super-block of one row in GGUF.
pub(crate) const GGUF_BLOCK: usize = 210;

/// A matrix of 6-bit weights in panels.
#[derive(Debug)]
pub struct Q6Matrix {
    rows: usize,
    cols: usize,
    weights: Buffer<u8>,
    scales: Buffer<i8>,
    supers: Buffer<f16>,
}

impl Q6Matrix {
    /// Quantises rows: `fill(row, values)` writes the `cols` values of a row, in parallel. The scale of 16 columns is their
    /// largest |w| / 31, those of a super-block in units of the largest of them / 127, weights are rounded to nearest.
    /// (GGUF's own quantiser searches for scales that round better.)
    ///
    /// # Errors
    /// Bad dimensions, or the first error of `fill`.
    pub fn from_rows(rows: usize, cols: usize, fill: impl Fn(usize, &mut [f32]) -> Result<()> + Sync) -> Result<Self> {
        Q6Matrix::pack(rows, cols, |row, out| {
            let mut values = vec![0.0; cols.next_multiple_of(SUPER)];
            fill(row, &mut values[..cols])?;
            let (blocks, _) = out.as_chunks_mut::<GGUF_BLOCK>();
            blocks.iter_mut().zip(values.chunks_exact(SUPER)).for_each(|(out, values)| quantise(values, out));
            Ok(())
        })
    }

    /// Packs rows that are Q6_K super-blocks already: `fill(row, bytes)` writes the `cols / 256` super-blocks of a row as
    /// GGUF lays them out (210 bytes each), in parallel.
    ///
    /// # Errors
    /// Bad dimensions, columns that are no multiple of 256, or the first error of `fill`.
    pub fn from_blocks(rows: usize, cols: usize, fill: impl Fn(usize, &mut [u8]) -> Result<()> + Sync) -> Result<Self> {
        if !cols.is_multiple_of(SUPER) {
            let expected = format!("a multiple of {SUPER}");
            return Err(Error::Size { what: "q6_k matrix columns", expected, found: cols });
        }
        Q6Matrix::pack(rows, cols, fill)
    }

    fn pack(rows: usize, cols: usize, fill: impl Fn(usize, &mut [u8]) -> Result<()> + Sync) -> Result<Self> {
        let row_bytes = cols.div_ceil(SUPER) * GGUF_BLOCK;
        Q6Matrix::by_panel(rows, cols, |panel, (weights, scales, supers)| {
            let first = panel * PANEL;
            let mut bytes = vec![0u8; PANEL.min(rows - first) * row_bytes];
            bytes.chunks_exact_mut(row_bytes).enumerate().try_for_each(|(r, row)| fill(first + r, row))?;
            let weights = weights.chunks_mut(SUPER_BLOCKS * BLOCK_BYTES);
            let scales = scales.chunks_mut(SUPER_BLOCKS * BLOCK_SCALES);
            let parts = weights.zip(scales).zip(supers.chunks_exact_mut(PANEL)).enumerate();
            for (s, ((weights, scales), supers)) in parts {
                for (r, row) in bytes.chunks_exact(row_bytes).enumerate() {
                    let block = &row.as_chunks::<GGUF_BLOCK>().0[s];
                    supers[r] = f16::from_le_bytes([block[208], block[209]]);
                    repack(block, r, weights, scales);
                }
            }
            Ok(())
        })
    }

    /// Puts panels back together, each then told to `done`, that [`Q6Matrix::panel`] took apart, in parallel.
    ///
    /// # Errors
    /// Bad dimensions, or a scale that is no finite number.
    ///
    /// # Panics
    /// If a panel is not [`Q6Matrix::panel_bytes`] long.
    pub(crate) fn from_panels<'b>(
        rows: usize,
        cols: usize,
        panel_of: impl Fn(usize) -> &'b [u8] + Sync,
        done: impl Fn(usize) + Sync,
    ) -> Result<Self> {
        Q6Matrix::by_panel(rows, cols, |panel, (weights, scales, supers)| {
            let (low, rest) = panel_of(panel).split_at(weights.len());
            let (middle, high) = rest.split_at(scales.len());
            weights.copy_from_slice(low);
            scales.iter_mut().zip(middle).for_each(|(out, &scale)| *out = scale as i8);
            read_scales(high, supers)?;
            done(panel);
            Ok(())
        })
    }

    /// Makes a matrix of panels: `fill(panel, (weights, int8 scales, f16 scales))`, all of them zeros, in parallel.
    fn by_panel(
        rows: usize,
        cols: usize,
        fill: impl Fn(usize, (&mut [u8], &mut [i8], &mut [f16])) -> Result<()> + Sync,
    ) -> Result<Self> {
        let (blocks, supers) = (cols.div_ceil(BLOCK), cols.div_ceil(SUPER));
        let len = checked_len(rows, cols, blocks * BLOCK_BYTES)?;
        let panels = rows.div_ceil(PANEL);
        let mut weights = Buffer::<u8>::zeroed(len)?;
        let mut scales = Buffer::<i8>::zeroed(panels * blocks * BLOCK_SCALES)?;
        let mut wide = Buffer::<f16>::zeroed(panels * supers * PANEL)?;
        let parts = weights
            .par_chunks_exact_mut(blocks * BLOCK_BYTES)
            .zip(scales.par_chunks_exact_mut(blocks * BLOCK_SCALES))
            .zip(wide.par_chunks_exact_mut(supers * PANEL))
            .enumerate();
        parts.try_for_each(|(panel, ((weights, scales), wide))| fill(panel, (weights, scales, wide)))?;
        Ok(Q6Matrix { rows, cols, weights, scales, supers: wide })
    }

    /// Bytes of a panel and its scales.
    pub(crate) fn panel_bytes(cols: usize) -> usize {
        cols.div_ceil(BLOCK) * (BLOCK_BYTES + BLOCK_SCALES) + cols.div_ceil(SUPER) * PANEL * size_of::<f16>()
    }

    /// Panel `nth`: weights, int8 scales, f16 scales.
    pub(crate) fn panel(&self, nth: usize) -> Vec<u8> {
        let (weights, scales, supers) = self.panels(nth * PANEL, PANEL);
        let scales = scales.iter().map(|&scale| scale as u8);
        weights.iter().copied().chain(scales).chain(supers.iter().flat_map(|d| d.to_le_bytes())).collect()
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of weights and scales, padding included.
    pub fn bytes(&self) -> usize {
        self.weights.len() + self.scales.len() + size_of_val(&*self.supers)
    }

    /// Weights, int8 scales and f16 scales of `rows` rows from `first`, in whole panels.
    pub(crate) fn panels(&self, first: usize, rows: usize) -> (&[u8], &[i8], &[f16]) {
        let (blocks, supers) = (self.cols.div_ceil(BLOCK), self.cols.div_ceil(SUPER));
        let (first, panels) = (first / PANEL, rows.div_ceil(PANEL));
        (
            &self.weights[first * blocks * BLOCK_BYTES..][..panels * blocks * BLOCK_BYTES],
            &self.scales[first * blocks * BLOCK_SCALES..][..panels * blocks * BLOCK_SCALES],
            &self.supers[first * supers * PANEL..][..panels * supers * PANEL],
        )
    }

    /// Writes the scaled weights of `row` to `out`, to the bits of ggml's `dequantize_row_q6_K`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "columns");
        let (weights, scales, supers) = self.panels(row / PANEL * PANEL, PANEL);
        let r = row % PANEL;
        for (col, out) in out.iter_mut().enumerate() {
            let (b, i) = (col / BLOCK, col % BLOCK);
            let scale = scales[b * BLOCK_SCALES + i / GROUP * PANEL + r];
            let q = get(&weights[b * BLOCK_BYTES..][..BLOCK_BYTES], r, i);
            *out = supers[col / SUPER * PANEL + r].to_f32() * f32::from(scale) * (f32::from(q) - 32.0);
        }
    }
}

/// The 6 bits of row `r` and column `i` of a block.
pub(crate) fn get(block: &[u8], r: usize, i: usize) -> u8 {
    let low = block[i / 8 * 64 + r * 4 + i % 4] >> (i % 8 / 4 * 4) & 15;
    let high = block[LOW_BYTES + i / 16 * 64 + r * 4 + i % 4] >> (i % 16 / 4 * 2) & 3;
    low | high << 4
}

/// Puts a GGUF super-block, of row `r` of a panel, where [`get`] finds it; `weights` and `scales` are those of its blocks,
/// or of the first of them. Four columns at a time: GGUF too has them in bytes side by side.
fn repack(block: &[u8; GGUF_BLOCK], r: usize, weights: &mut [u8], scales: &mut [i8]) {
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let blocks = weights.chunks_exact_mut(BLOCK_BYTES).zip(scales.chunks_exact_mut(BLOCK_SCALES));
    for (b, (weights, scales)) in blocks.enumerate() {
        let (low, low_shift, high, high_shift) = place(b * BLOCK);
        let (words, _) = weights.as_chunks_mut::<4>();
        for j in 0..BLOCK / 8 {
            let four = |at: usize| word(low + 8 * j + at) >> low_shift & 0x0f0f_0f0f;
            words[16 * j + r] = (four(0) | four(4) << 4).to_le_bytes();
        }
        for half in 0..BLOCK / GROUP {
            let four = |k: usize| (word(high + 16 * half + 4 * k) >> high_shift & 0x0303_0303) << (2 * k);
            words[LOW_BYTES / 4 + 16 * half + r] = (four(0) | four(1) | four(2) | four(3)).to_le_bytes();
            scales[half * PANEL + r] = block[192 + 2 * b + half] as i8;
        }
    }
}

/// Where GGUF has the bits of value `i`: see `blocks::q6_k`.
fn place(i: usize) -> (usize, usize, usize, usize) {
    let (half, n, l) = (i / 128, i % 128 / 32, i % 32);
    (64 * half + l + 32 * (n % 2), 4 * (n / 2), 128 + 32 * half + l, 2 * n)
}

/// See [`Q6Matrix::from_rows`].
pub(crate) fn quantise(values: &[f32], out: &mut [u8; GGUF_BLOCK]) {
    out.fill(0);
    let steps = values.chunks_exact(GROUP).map(|group| group.iter().fold(0.0f32, |max, v| max.max(v.abs())) / 31.0);
    let steps: Vec<f32> = steps.collect();
    let d = f16::from_f32(steps.iter().copied().fold(0.0, f32::max) / 127.0);
    out[208..].copy_from_slice(&d.to_le_bytes());
    let d = d.to_f32();
    for (g, (group, step)) in values.chunks_exact(GROUP).zip(steps).enumerate() {
        let scale = if d > 0.0 { (step / d).round().min(127.0) } else { 0.0 };
        out[192 + g] = scale as i8 as u8;
        let inverse = if d * scale > 0.0 { 1.0 / (d * scale) } else { 0.0 };
        for (i, v) in (g * GROUP..).zip(group) {
            let q = ((v * inverse).round().clamp(-32.0, 31.0) + 32.0) as u8;
            let (low, low_shift, high, high_shift) = place(i);
            out[low] |= (q & 15) << low_shift;
            out[high] |= (q >> 4) << high_shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::gguf::TensorType;
    use crate::quant::blocks::dequantise;

    #[test]
    fn blocks_come_back_exactly() {
        let fill = |row: usize, out: &mut [u8]| {
            out.iter_mut().enumerate().for_each(|(i, byte)| *byte = (row * 59 + i * i * 23 + i) as u8);
            out.chunks_exact_mut(GGUF_BLOCK).for_each(|block| block[209] = 0x2c);
            Ok(())
        };
        let matrix = Q6Matrix::from_blocks(18, 512, fill).unwrap();
        let (mut found, mut expected, mut bytes) = ([0.0f32; 512], [0.0f32; 512], [0; 420]);
        for row in 0..18 {
            fill(row, &mut bytes).unwrap();
            assert!(dequantise(TensorType::Q6K, &bytes, &mut expected));
            matrix.row_to_f32(row, &mut found);
            assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits));
        }
        assert!(matches!(Q6Matrix::from_blocks(18, 255, fill), Err(Error::Size { found: 255, .. })));
    }

    #[test]
    fn panels_come_back_exactly() {
        let fill = |row: usize, out: &mut [f32]| {
            out.iter_mut().enumerate().for_each(|(col, out)| *out = ((row * 37 + col * 11) % 101) as f32 - 50.0);
            Ok(())
        };
        let matrix = Q6Matrix::from_rows(21, 300, fill).unwrap();
        let mut panels = [matrix.panel(0), matrix.panel(1)];
        assert!(panels.iter().all(|panel| panel.len() == Q6Matrix::panel_bytes(300)));
        let made = |panels: &[Vec<u8>; 2]| Q6Matrix::from_panels(21, 300, |nth| &*panels[nth], |_| ());
        let again = made(&panels).unwrap();
        assert!(*again.weights == *matrix.weights && *again.scales == *matrix.scales);
        assert!(*again.supers == *matrix.supers);
        let last = panels[1].len() - 1;
        panels[1][last] = 0x7c;
        assert!(matches!(made(&panels), Err(Error::Scale { .. })));
    }

    #[test]
    fn values_come_back_within_a_step() {
        for (rows, cols) in [(1, 1), (16, 32), (21, 70), (3, 300)] {
            let value = |row: usize, col: usize| ((row * 37 + col * 11) % 101) as f32 / 50.0 - 1.0;
            let fill = |row: usize, out: &mut [f32]| {
                (0..cols).for_each(|col| out[col] = value(row, col));
                Ok(())
            };
            let matrix = Q6Matrix::from_rows(rows, cols, fill).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row_to_f32(row, &mut out);
                // Half a step, and what the rounding of the scale shifts the largest by: 31 x 1/254 of a step and more.
                assert!((0..cols).all(|col| (out[col] - value(row, col)).abs() < 1.0 / 31.0 * 0.75), "{rows} x {cols}");
            }
        }
    }
}
