//! Ternary weights at 2 bits, as BitNet b1.58 defines them: a weight is -1, 0 or 1 times one scale of the tensor.
//!
//! A panel holds blocks of 16 columns, 64 bytes each: byte `4 r + j` of block `b` holds the codes (weight + 1) of
//! row `r` in the panel and columns `16 b + 4 s + j` at bits `2 s`, for `s` and `j` in 0..4. A 32-bit lane of a vector
//! is then one row, and its four bytes after a shift by `2 s` are four neighbouring columns: what `vpdpbusd` sums.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, checked_len, words};
use crate::error::{Error, Result};

/// Columns of a block.
pub(crate) const BLOCK: usize = 16;
/// Bytes of a block: 16 rows x 16 columns x 2 bits.
pub(crate) const BLOCK_BYTES: usize = PANEL * BLOCK / 4;
/// Four codes of weight 0.
const ZEROS: u8 = 0b01_01_01_01;

/// A matrix of ternary weights in panels.
#[derive(Debug)]
pub struct TernaryMatrix {
    rows: usize,
    cols: usize,
    scale: f32,
    packed: Buffer<u8>,
}

impl TernaryMatrix {
    /// The bytes of one panel of a matrix of `cols` columns.
    pub fn panel_bytes(cols: usize) -> usize {
        cols.div_ceil(BLOCK) * BLOCK_BYTES
    }

    /// Makes a matrix panel by panel, in parallel: `fill(panel, bytes)` writes the codes of one panel in the layout
    /// above. Codes of rows and columns beyond the matrix are set to weight 0 afterwards, whatever `fill` wrote.
    ///
    /// # Errors
    /// Bad dimensions, a scale that is not finite, or a code 3.
    pub fn from_panels(rows: usize, cols: usize, scale: f32, fill: impl Fn(usize, &mut [u8]) + Sync) -> Result<Self> {
        let mut matrix = TernaryMatrix::zeroed(rows, cols, scale)?;
        let panels = matrix.packed.par_chunks_exact_mut(TernaryMatrix::panel_bytes(cols)).enumerate();
        panels.try_for_each(|(panel, bytes)| {
            fill(panel, bytes);
            finish_panel((rows, cols), panel, bytes)
        })?;
        Ok(matrix)
    }

    fn zeroed(rows: usize, cols: usize, scale: f32) -> Result<Self> {
        let len = checked_len(rows, cols, TernaryMatrix::panel_bytes(cols))?;
        if !scale.is_finite() {
            return Err(Error::Scale { format: "ternary", expected: "a finite number", found: scale });
        }
        Ok(TernaryMatrix { rows, cols, scale, packed: Buffer::zeroed(len)? })
    }

    /// Packs `weight(row, column)`, each -1, 0 or 1, calling it in parallel.
    ///
    /// # Errors
    /// Bad dimensions, a scale that is not finite, or another weight.
    pub fn from_codes(
        rows: usize,
        cols: usize,
        scale: f32,
        weight: impl Fn(usize, usize) -> i8 + Sync,
    ) -> Result<Self> {
        TernaryMatrix::from_rows(rows, cols, scale, |row, out| {
            out.iter_mut().enumerate().for_each(|(col, out)| *out = weight(row, col));
            Ok(())
        })
    }

    /// Packs rows: `fill(row, weights)` writes the `cols` weights of a row, each -1, 0 or 1, in parallel; peak memory
    /// stays near the packed size.
    ///
    /// # Errors
    /// Bad dimensions, a scale that is not finite, the first error of `fill`, or another weight.
    pub fn from_rows(
        rows: usize,
        cols: usize,
        scale: f32,
        fill: impl Fn(usize, &mut [i8]) -> Result<()> + Sync,
    ) -> Result<Self> {
        TernaryMatrix::from_words(rows, cols, scale, |panel, words| pack_rows((rows, cols), panel, words, &fill))
    }

    /// Packs words: `fill(panel, words)` writes those of the rows of a panel, in parallel (see
    /// [`words::PackedTrits::panel`]).
    ///
    /// # Errors
    /// As [`TernaryMatrix::from_rows`].
    pub(crate) fn from_words(
        rows: usize,
        cols: usize,
        scale: f32,
        fill: impl Fn(usize, &mut [u32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let mut matrix = TernaryMatrix::zeroed(rows, cols, scale)?;
        let panels = matrix.packed.par_chunks_exact_mut(TernaryMatrix::panel_bytes(cols)).enumerate();
        let scratch = || vec![0; PANEL * cols.div_ceil(BLOCK)];
        panels.try_for_each_init(scratch, |words, (panel, bytes)| {
            fill(panel, words)?;
            words::interleave(words, bytes);
            finish_panel((rows, cols), panel, bytes)
        })?;
        Ok(matrix)
    }

    /// Takes panels packed before (see [`TernaryMatrix::packed`]).
    ///
    /// # Errors
    /// As [`TernaryMatrix::from_panels`], and if `packed` has another length.
    pub fn from_packed(rows: usize, cols: usize, scale: f32, packed: &[u8]) -> Result<Self> {
        let panel_bytes = TernaryMatrix::panel_bytes(cols);
        let len = checked_len(rows, cols, panel_bytes)?;
        if packed.len() != len {
            let expected = format!("{len} bytes for {rows} x {cols}");
            return Err(Error::Size { what: "packed ternary matrix (bytes)", expected, found: packed.len() });
        }
        let fill =
            |panel: usize, bytes: &mut [u8]| bytes.copy_from_slice(&packed[panel * panel_bytes..][..panel_bytes]);
        TernaryMatrix::from_panels(rows, cols, scale, fill)
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

    /// All panels, one after the other.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The weight at (`row`, `col`) before scaling: -1, 0 or 1.
    ///
    /// # Panics
    /// If either is out of range.
    pub fn weight(&self, row: usize, col: usize) -> i8 {
        assert!(row < self.rows && col < self.cols, "({row}, {col}) of {} x {}", self.rows, self.cols);
        let (at, shift) = position(row % PANEL, col);
        let panel = row / PANEL * TernaryMatrix::panel_bytes(self.cols);
        (self.packed[panel + at] >> shift & 3) as i8 - 1
    }

    /// Writes the scaled weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "columns");
        for (col, out) in out.iter_mut().enumerate() {
            *out = f32::from(self.weight(row, col)) * self.scale;
        }
    }
}

/// The words of the rows of one panel of a `rows x cols` matrix; a weight out of range becomes code 3, which
/// [`finish_panel`] refuses.
pub(super) fn pack_rows(
    (rows, cols): (usize, usize),
    panel: usize,
    words: &mut [u32],
    fill: impl Fn(usize, &mut [i8]) -> Result<()>,
) -> Result<()> {
    let mut weights = vec![0; cols];
    let live = PANEL.min(rows - panel * PANEL);
    for (r, words) in words.chunks_exact_mut(cols.div_ceil(BLOCK)).take(live).enumerate() {
        fill(panel * PANEL + r, &mut weights)?;
        words::of_trits(&weights, words);
    }
    Ok(())
}

/// Sets the codes of a panel that lie beyond a `rows x cols` matrix to weight 0, and refuses a code 3.
pub(super) fn finish_panel((rows, cols): (usize, usize), panel: usize, bytes: &mut [u8]) -> Result<()> {
    blank_padding(bytes, (rows - panel * PANEL).min(PANEL), cols);
    refuse_code_3(panel, bytes)
}

/// The byte in a panel, and the bit in that byte, of row `r` of the panel and column `col`.
fn position(r: usize, col: usize) -> (usize, usize) {
    let (block, s, j) = (col / BLOCK, col % BLOCK / 4, col % 4);
    (block * BLOCK_BYTES + r * 4 + j, 2 * s)
}

/// Sets the codes beyond `live` rows and `cols` columns to weight 0.
fn blank_padding(bytes: &mut [u8], live: usize, cols: usize) {
    if live < PANEL {
        for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
            block[live * 4..].fill(ZEROS);
        }
    }
    for col in cols..cols.next_multiple_of(BLOCK) {
        for r in 0..live {
            let (at, shift) = position(r, col);
            bytes[at] = bytes[at] & !(3 << shift) | 1 << shift;
        }
    }
}

/// An error if any code is 3 (both bits set).
fn refuse_code_3(panel: usize, bytes: &[u8]) -> Result<()> {
    let bad = |byte: u8| byte & byte >> 1 & ZEROS;
    if bytes.iter().fold(0, |seen, &byte| seen | bad(byte)) == 0 {
        return Ok(());
    }
    let at = bytes.iter().position(|&byte| bad(byte) != 0).unwrap_or(0);
    let s = bad(bytes[at]).trailing_zeros() as usize / 2;
    let (row, col) = (panel * PANEL + at % BLOCK_BYTES / 4, at / BLOCK_BYTES * BLOCK + 4 * s + at % 4);
    Err(Error::Weight { format: "ternary", row, col, expected: "-1, 0 or 1", found: "another".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(row: usize, col: usize) -> i8 {
        ((row * 31 + col * 17 + row * col) % 3) as i8 - 1
    }

    #[test]
    fn weights_come_back_and_padding_is_zero() {
        for (rows, cols) in [(1, 1), (16, 16), (17, 15), (40, 33)] {
            let matrix = TernaryMatrix::from_codes(rows, cols, 0.5, weight).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row_to_f32(row, &mut out);
                for col in 0..cols {
                    assert_eq!(matrix.weight(row, col), weight(row, col));
                    assert_eq!(out[col], f32::from(weight(row, col)) * 0.5);
                }
            }
            let zeros: usize = matrix.packed().iter().map(|&b| (0..4).filter(|s| b >> (2 * s) & 3 == 1).count()).sum();
            let live = (0..rows * cols).filter(|i| weight(i / cols, i % cols) == 0).count();
            assert_eq!(zeros - live, matrix.packed().len() * 4 - rows * cols);
        }
    }

    #[test]
    fn packing_is_idempotent_and_blanks_foreign_padding() {
        let matrix = TernaryMatrix::from_codes(20, 37, 1.0, weight).unwrap();
        let again = TernaryMatrix::from_packed(20, 37, 1.0, matrix.packed()).unwrap();
        assert_eq!(matrix.packed(), again.packed());
        let dirty = TernaryMatrix::from_panels(20, 37, 1.0, |_, bytes| bytes.fill(0)).unwrap();
        let clean = TernaryMatrix::from_codes(20, 37, 1.0, |_, _| -1).unwrap();
        assert_eq!(dirty.packed(), clean.packed());
    }

    #[test]
    fn bad_input_is_an_error() {
        let one = |w: i8| TernaryMatrix::from_codes(20, 20, 1.0, move |r, c| if (r, c) == (18, 19) { w } else { 0 });
        assert!(one(1).is_ok());
        for bad in [2, -2, i8::MIN, i8::MAX] {
            assert!(matches!(one(bad), Err(Error::Weight { row: 18, col: 19, .. })));
        }
        assert!(matches!(TernaryMatrix::from_codes(1, 1, f32::NAN, weight), Err(Error::Scale { .. })));
        assert!(matches!(TernaryMatrix::from_codes(0, 1, 1.0, weight), Err(Error::Size { .. })));
        assert!(matches!(TernaryMatrix::from_codes(1, 0, 1.0, weight), Err(Error::Size { .. })));
        assert!(matches!(TernaryMatrix::from_codes(usize::MAX, 1 << 20, 1.0, weight), Err(Error::Size { .. })));
        assert!(matches!(TernaryMatrix::from_packed(16, 16, 1.0, &[ZEROS; 63]), Err(Error::Size { found: 63, .. })));
    }
}
