//! Ternary weights from which single rows or single columns can be read: what lies behind a zero stays unread.
//!
//! Both hold the 2-bit codes (weight + 1) of [`TernaryMatrix`], a row or a column contiguous, in chunks of 64 bytes:
//!
//! - [`TernaryRows`]: the 32-bit word `w` of chunk `g` of a row holds columns `16 (16 g + w) ..`, as the row's lane of a
//!   panel's block does: byte `j` has column `4 s + j` of those 16 at bits `2 s`. So sixteen rows, transposed by words,
//!   are a panel.
//! - [`TernaryColumns`]: byte `16 l + 4 q + d` of chunk `g` of a column holds, at bits `2 s`, row
//!   `256 g + 64 q + 16 s + 4 l + d`. Bytes of four columns interleaved (`vpunpck` within 128-bit lanes) then have rows in
//!   order: each 32-bit lane is one row and its bytes the four columns, what `vpdpbusd` sums.

use rayon::prelude::*;

use super::PANEL;
use super::buffer::Buffer;
use super::ternary::{BLOCK, BLOCK_BYTES, TernaryMatrix};
use crate::error::Result;

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = 64;
/// Weights of a chunk.
pub(crate) const CHUNK: usize = 4 * CHUNK_BYTES;
/// Four codes of weight 0.
const ZEROS: u8 = 0b01_01_01_01;

/// A matrix of ternary weights, row after row.
#[derive(Debug)]
pub struct TernaryRows {
    rows: usize,
    cols: usize,
    scale: f32,
    packed: Buffer<u8>,
}

/// A matrix of ternary weights, column after column.
#[derive(Debug)]
pub struct TernaryColumns {
    rows: usize,
    cols: usize,
    scale: f32,
    packed: Buffer<u8>,
}

impl TernaryRows {
    /// The same weights in rows.
    ///
    /// # Errors
    /// Memory that the system refuses.
    pub fn new(matrix: &TernaryMatrix) -> Result<TernaryRows> {
        TernaryRows::from_panels((matrix.rows(), matrix.cols()), matrix.scale(), matrix.packed())
    }

    /// The weights of the panels of a [`TernaryMatrix`].
    pub(crate) fn from_panels((rows, cols): (usize, usize), scale: f32, panels: &[u8]) -> Result<TernaryRows> {
        let stride = cols.div_ceil(CHUNK) * CHUNK_BYTES;
        let mut packed = Buffer::<u8>::zeroed(rows * stride)?;
        let panel_bytes = TernaryMatrix::panel_bytes(cols);
        packed.par_chunks_exact_mut(stride).enumerate().for_each(|(row, out)| {
            out.fill(ZEROS);
            let panel = &panels[row / PANEL * panel_bytes..][..panel_bytes];
            for (out, block) in out.chunks_exact_mut(4).zip(panel.chunks_exact(BLOCK_BYTES)) {
                out.copy_from_slice(&block[row % PANEL * 4..][..4]);
            }
        });
        Ok(TernaryRows { rows, cols, scale, packed })
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The scale that every weight is multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// All rows, [`TernaryRows::row_bytes`] each.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.cols.div_ceil(CHUNK) * CHUNK_BYTES
    }

    /// Writes the scaled weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(out.len() == self.cols && row < self.rows, "row {row} of {} columns", out.len());
        let codes = &self.packed[row * self.row_bytes()..][..self.row_bytes()];
        for (col, out) in out.iter_mut().enumerate() {
            let code = codes[col / BLOCK * 4 + col % 4] >> (2 * (col % BLOCK / 4)) & 3;
            *out = f32::from(code as i8 - 1) * self.scale;
        }
    }
}

/// The byte of a column and the bits in it that hold `row`.
pub(crate) fn place(row: usize) -> (usize, usize) {
    let (q, s, l, d) = (row % CHUNK / 64, row % 64 / 16, row % 16 / 4, row % 4);
    (row / CHUNK * CHUNK_BYTES + 16 * l + 4 * q + d, 2 * s)
}

impl TernaryColumns {
    /// The same weights in columns.
    ///
    /// # Errors
    /// Memory that the system refuses.
    pub fn new(matrix: &TernaryMatrix) -> Result<TernaryColumns> {
        TernaryColumns::from_panels((matrix.rows(), matrix.cols()), matrix.scale(), matrix.packed())
    }

    /// The weights of the panels of a [`TernaryMatrix`].
    pub(crate) fn from_panels((rows, cols): (usize, usize), scale: f32, panels: &[u8]) -> Result<TernaryColumns> {
        let stride = rows.div_ceil(CHUNK) * CHUNK_BYTES;
        let mut packed = Buffer::<u8>::zeroed(cols * stride)?;
        let panel_bytes = TernaryMatrix::panel_bytes(cols);
        // Block by block of the panels: sixteen columns at a time.
        packed.par_chunks_mut(stride * BLOCK).enumerate().for_each(|(b, out)| {
            out.fill(ZEROS);
            for row in 0..rows {
                let codes = &panels[row / PANEL * panel_bytes + b * BLOCK_BYTES + row % PANEL * 4..][..4];
                let (at, shift) = place(row);
                for (c, column) in out.chunks_exact_mut(stride).enumerate() {
                    let code = codes[c % 4] >> (2 * (c / 4)) & 3;
                    column[at] = column[at] & !(3 << shift) | code << shift;
                }
            }
        });
        Ok(TernaryColumns { rows, cols, scale, packed })
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The scale that every weight is multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// All columns, [`TernaryColumns::column_bytes`] each.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Bytes of a column.
    pub fn column_bytes(&self) -> usize {
        self.rows.div_ceil(CHUNK) * CHUNK_BYTES
    }

    /// Writes the scaled weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(out.len() == self.cols && row < self.rows, "row {row} of {} columns", out.len());
        let (at, shift) = place(row);
        for (column, out) in self.packed.chunks_exact(self.column_bytes()).zip(out) {
            *out = f32::from((column[at] >> shift & 3) as i8 - 1) * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both packings hold the matrix's weights.
    #[test]
    fn weights_come_back() {
        for (rows, cols) in [(1, 1), (16, 16), (17, 15), (40, 33), (256, 300), (300, 257), (530, 40)] {
            let weight = |row: usize, col: usize| ((row * 31 + col * 17 + row * col) % 3) as i8 - 1;
            let matrix = TernaryMatrix::from_codes(rows, cols, 0.5, weight).unwrap();
            let (by_row, by_column) = (TernaryRows::new(&matrix).unwrap(), TernaryColumns::new(&matrix).unwrap());
            let (mut want, mut found) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..rows {
                matrix.row_to_f32(row, &mut want);
                by_row.row_to_f32(row, &mut found);
                assert_eq!(found, want);
                by_column.row_to_f32(row, &mut found);
                assert_eq!(found, want);
            }
        }
    }
}
