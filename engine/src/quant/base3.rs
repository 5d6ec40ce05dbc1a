//! Ternary weights at 1.6 bits: five to a byte, 3^5 = 243 of its 256 values.
//!
//! A panel holds blocks of 20 columns, 64 bytes each: byte `4 r + j` of block `b` holds the codes (weight + 1) of row `r`
//! in the panel and columns `20 b + 4 s + j` as the digits of a number in base three, the code of `s = 0` the lowest,
//! for `s` in 0..5 and `j` in 0..4. So a 32-bit lane of a vector is one row as in [`super::ternary`], and each digit of
//! its four bytes is four neighbouring columns. Columns are padded to whole blocks with weight 0.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, TernaryMatrix, checked_len, ternary, words};
use crate::error::{Error, Result};

/// Columns of a block.
pub(crate) const BLOCK: usize = 20;
/// Bytes of a block: 16 rows x 20 columns, five a byte.
pub(crate) const BLOCK_BYTES: usize = PANEL * BLOCK / 5;
/// The powers of three by which the digits of a byte count.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
/// Values of a byte that mean something.
const VALUES: u8 = 243;
/// Five codes of weight 0.
pub(crate) const ZEROS: u8 = 1 + 3 + 9 + 27 + 81;
/// Columns after which blocks of this format and of [`ternary`] end together.
pub(crate) const PERIOD: usize = 80;

/// A matrix of ternary weights in panels, 1.6 bits a weight.
#[derive(Debug)]
pub struct Base3Matrix {
    rows: usize,
    cols: usize,
    scale: f32,
    packed: Buffer<u8>,
}

impl Base3Matrix {
    /// The bytes of one panel of a matrix of `cols` columns.
    pub fn panel_bytes(cols: usize) -> usize {
        cols.div_ceil(BLOCK) * BLOCK_BYTES
    }

    /// Makes a matrix panel by panel, in parallel: `fill(panel, bytes)` writes the codes of one panel at 2 bits, in the
    /// layout of [`TernaryMatrix`] and of its [`TernaryMatrix::panel_bytes`]. Only as many such panels as there are
    /// threads exist at a time.
    ///
    /// # Errors
    /// Bad dimensions, a scale that is not finite, or a code 3.
    pub fn from_panels(rows: usize, cols: usize, scale: f32, fill: impl Fn(usize, &mut [u8]) + Sync) -> Result<Self> {
        let mut matrix = Base3Matrix::zeroed(rows, cols, scale)?;
        let panels = matrix.packed.par_chunks_exact_mut(Base3Matrix::panel_bytes(cols)).enumerate();
        let scratch = || vec![0; TernaryMatrix::panel_bytes(cols)];
        panels.try_for_each_init(scratch, |codes, (panel, bytes)| {
            fill(panel, codes);
            ternary::finish_panel((rows, cols), panel, codes)?;
            pack(codes, bytes);
            Result::Ok(())
        })?;
        Ok(matrix)
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
        Base3Matrix::from_rows(rows, cols, scale, |row, out| {
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
        Base3Matrix::from_words(rows, cols, scale, |panel, words| ternary::pack_rows((rows, cols), panel, words, &fill))
    }

    /// Packs words: `fill(panel, words)` writes those of the rows of a panel, in parallel (see
    /// [`words::PackedTrits::panel`]).
    ///
    /// # Errors
    /// As [`Base3Matrix::from_rows`].
    pub(crate) fn from_words(
        rows: usize,
        cols: usize,
        scale: f32,
        fill: impl Fn(usize, &mut [u32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let mut matrix = Base3Matrix::zeroed(rows, cols, scale)?;
        let panels = matrix.packed.par_chunks_exact_mut(Base3Matrix::panel_bytes(cols)).enumerate();
        let scratch = || (vec![0; PANEL * cols.div_ceil(ternary::BLOCK)], vec![0; TernaryMatrix::panel_bytes(cols)]);
        panels.try_for_each_init(scratch, |(words, codes), (panel, bytes)| {
            fill(panel, words)?;
            words::interleave(words, codes);
            ternary::finish_panel((rows, cols), panel, codes)?;
            pack(codes, bytes);
            Result::Ok(())
        })?;
        Ok(matrix)
    }

    /// Takes panels packed before (see [`Base3Matrix::packed`]); what lies beyond the matrix is set to weight 0.
    ///
    /// # Errors
    /// As [`Base3Matrix::from_panels`], a byte of 243 or more, and if `packed` has another length.
    pub fn from_packed(rows: usize, cols: usize, scale: f32, packed: &[u8]) -> Result<Self> {
        let panel_bytes = Base3Matrix::panel_bytes(cols);
        let len = checked_len(rows, cols, panel_bytes)?;
        if packed.len() != len {
            let expected = format!("{len} bytes for {rows} x {cols}");
            return Err(Error::Size { what: "packed base-3 matrix (bytes)", expected, found: packed.len() });
        }
        Base3Matrix::from_packed_panels(rows, cols, scale, |panel, bytes| {
            bytes.copy_from_slice(&packed[panel * panel_bytes..][..panel_bytes]);
        })
    }

    /// The same panel by panel, in parallel: `fill(panel, bytes)` writes one.
    ///
    /// # Errors
    /// As [`Base3Matrix::from_panels`], and a byte of 243 or more.
    pub(crate) fn from_packed_panels(
        rows: usize,
        cols: usize,
        scale: f32,
        fill: impl Fn(usize, &mut [u8]) + Sync,
    ) -> Result<Self> {
        let mut matrix = Base3Matrix::zeroed(rows, cols, scale)?;
        let panels = matrix.packed.par_chunks_exact_mut(Base3Matrix::panel_bytes(cols)).enumerate();
        panels.try_for_each(|(panel, bytes)| {
            fill(panel, bytes);
            if bytes.iter().fold(false, |any, &byte| any | (byte >= VALUES)) {
                let at = bytes.iter().position(|&byte| byte >= VALUES).unwrap_or(0);
                let (row, col) = (panel * PANEL + at % BLOCK_BYTES / 4, at / BLOCK_BYTES * BLOCK + at % 4);
                let (expected, found) = ("a byte below 243", bytes[at].to_string());
                return Err(Error::Weight { format: "base-3", row, col, expected, found });
            }
            blank_padding(bytes, (rows - panel * PANEL).min(PANEL), cols);
            Ok(())
        })?;
        Ok(matrix)
    }

    fn zeroed(rows: usize, cols: usize, scale: f32) -> Result<Self> {
        let len = checked_len(rows, cols, Base3Matrix::panel_bytes(cols))?;
        if !scale.is_finite() {
            return Err(Error::Scale { format: "base-3", expected: "a finite number", found: scale });
        }
        Ok(Base3Matrix { rows, cols, scale, packed: Buffer::zeroed(len)? })
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
        let (at, s) = position(row % PANEL, col);
        let panel = row / PANEL * Base3Matrix::panel_bytes(self.cols);
        digit(self.packed[panel + at], s) as i8 - 1
    }

    /// The panels at 2 bits, as [`TernaryMatrix`] has them.
    pub(crate) fn unpacked(&self) -> Vec<u8> {
        let (panel_bytes, wide) = (Base3Matrix::panel_bytes(self.cols), TernaryMatrix::panel_bytes(self.cols));
        let mut codes = vec![0; self.rows.div_ceil(PANEL) * wide];
        let panels = codes.par_chunks_exact_mut(wide).zip(self.packed.par_chunks_exact(panel_bytes));
        panels.for_each(|(codes, bytes)| unpack(bytes, codes));
        codes
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

/// Digit `s` of a byte.
pub(crate) fn digit(byte: u8, s: usize) -> u8 {
    byte / POWERS[s] % 3
}

/// The byte in a panel, and the digit in that byte, of row `r` of the panel and column `col`.
fn position(r: usize, col: usize) -> (usize, usize) {
    let (block, s, j) = (col / BLOCK, col % BLOCK / 4, col % 4);
    (block * BLOCK_BYTES + r * 4 + j, s)
}

/// Packs a panel of 2-bit codes, all below 3: both layouts have a row and column's residue modulo 4 in the same byte of
/// a block, so that a byte takes its five codes from the same byte of one or two blocks.
fn pack(codes: &[u8], out: &mut [u8]) {
    let codes = codes.as_chunks::<{ ternary::BLOCK_BYTES }>().0;
    for (b, out) in out.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().enumerate() {
        *out = [0; BLOCK_BYTES];
        for s in (0..5).rev() {
            let (block, shift) = ((5 * b + s) / 4, 2 * ((5 * b + s) % 4));
            match codes.get(block) {
                Some(codes) => {
                    out.iter_mut().zip(codes).for_each(|(out, &codes)| *out = *out * 3 + (codes >> shift & 3));
                }
                None => out.iter_mut().for_each(|out| *out = *out * 3 + 1),
            }
        }
    }
}

/// What [`pack`] packed.
fn unpack(bytes: &[u8], codes: &mut [u8]) {
    let blocks = bytes.as_chunks::<BLOCK_BYTES>().0;
    for (block, codes) in codes.as_chunks_mut::<{ ternary::BLOCK_BYTES }>().0.iter_mut().enumerate() {
        *codes = [0; ternary::BLOCK_BYTES];
        for q in 0..4 {
            // Blocks of 16 may reach farther than those of 20: weight 0.
            let (b, s) = ((4 * block + q) / 5, (4 * block + q) % 5);
            let bytes = blocks.get(b).unwrap_or(&[ZEROS; BLOCK_BYTES]);
            codes.iter_mut().zip(bytes).for_each(|(codes, &byte)| *codes |= digit(byte, s) << (2 * q));
        }
    }
}

/// Sets the digits beyond `live` rows and `cols` columns to weight 0.
fn blank_padding(bytes: &mut [u8], live: usize, cols: usize) {
    for block in bytes.chunks_exact_mut(BLOCK_BYTES) {
        block[live * 4..].fill(ZEROS);
    }
    for col in cols..cols.next_multiple_of(BLOCK) {
        for r in 0..live {
            let (at, s) = position(r, col);
            bytes[at] = bytes[at] - digit(bytes[at], s) * POWERS[s] + POWERS[s];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_come_back_at_two_bits() {
        for (rows, cols) in [(1, 1), (16, 20), (17, 16), (33, 79), (40, 81), (20, 160)] {
            let two_bits = TernaryMatrix::from_codes(rows, cols, 0.5, weight).unwrap();
            let five_a_byte = Base3Matrix::from_codes(rows, cols, 0.5, weight).unwrap();
            assert_eq!(five_a_byte.unpacked(), two_bits.packed(), "{rows} x {cols}");
        }
    }

    fn weight(row: usize, col: usize) -> i8 {
        ((row * 31 + col * 17 + row * col) % 3) as i8 - 1
    }

    #[test]
    fn weights_come_back_and_padding_is_zero() {
        for (rows, cols) in [(1, 1), (16, 20), (17, 15), (40, 33), (16, 80), (3, 96), (20, 81)] {
            let matrix = Base3Matrix::from_codes(rows, cols, 0.5, weight).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row_to_f32(row, &mut out);
                for col in 0..cols {
                    assert_eq!(matrix.weight(row, col), weight(row, col), "{rows} x {cols}: {row}, {col}");
                    assert_eq!(out[col], f32::from(weight(row, col)) * 0.5);
                }
            }
            let zeros: usize = matrix.packed().iter().map(|&b| (0..5).filter(|&s| digit(b, s) == 1).count()).sum();
            let live = (0..rows * cols).filter(|i| weight(i / cols, i % cols) == 0).count();
            assert_eq!(zeros - live, matrix.packed().len() * 5 - rows * cols);
        }
    }

    /// The layout as the module's documentation has it.
    #[test]
    fn bytes_are_where_the_layout_says() {
        let one = |row, col| Base3Matrix::from_codes(32, 45, 1.0, move |r, c| i8::from((r, c) == (row, col))).unwrap();
        for (row, col) in [(0, 0), (5, 19), (15, 20), (16, 3), (31, 44)] {
            let matrix = one(row, col);
            let at = row / 16 * 3 * 64 + col / 20 * 64 + row % 16 * 4 + col % 4;
            let odd: Vec<_> = matrix.packed().iter().enumerate().filter(|(_, b)| **b != ZEROS).collect();
            assert_eq!(odd, [(at, &(ZEROS + 3u8.pow(col as u32 % 20 / 4)))]);
        }
    }

    #[test]
    fn real_shapes_take_at_most_1_62_bits() {
        for cols in [2560, 6912, 4096, 12032, 5120, 13824, 6656, 16384, 8192, 24576, 45568] {
            let bits = Base3Matrix::panel_bytes(cols) as f64 * 8.0 / (PANEL * cols) as f64;
            assert!((1.6..=1.62).contains(&bits), "{cols}: {bits}");
        }
    }

    #[test]
    fn packing_is_idempotent_and_blanks_foreign_padding() {
        let matrix = Base3Matrix::from_codes(20, 37, 1.0, weight).unwrap();
        let again = Base3Matrix::from_packed(20, 37, 1.0, matrix.packed()).unwrap();
        assert_eq!(matrix.packed(), again.packed());
        let clean = Base3Matrix::from_codes(20, 37, 1.0, |_, _| -1).unwrap();
        let dirty = Base3Matrix::from_panels(20, 37, 1.0, |_, bytes| bytes.fill(0)).unwrap();
        assert_eq!(dirty.packed(), clean.packed());
        let dirty = Base3Matrix::from_packed(20, 37, 1.0, &vec![0; clean.packed().len()]).unwrap();
        assert_eq!(dirty.packed(), clean.packed());
    }

    #[test]
    fn bad_input_is_an_error() {
        let one = |w: i8| Base3Matrix::from_codes(20, 20, 1.0, move |r, c| if (r, c) == (18, 19) { w } else { 0 });
        assert!(one(1).is_ok());
        for bad in [2, -2, i8::MIN, i8::MAX] {
            assert!(matches!(one(bad), Err(Error::Weight { row: 18, col: 19, .. })));
        }
        assert!(matches!(Base3Matrix::from_codes(1, 1, f32::NAN, weight), Err(Error::Scale { .. })));
        assert!(matches!(Base3Matrix::from_codes(0, 1, 1.0, weight), Err(Error::Size { .. })));
        assert!(matches!(Base3Matrix::from_codes(1, 0, 1.0, weight), Err(Error::Size { .. })));
        assert!(matches!(Base3Matrix::from_codes(usize::MAX, 1 << 20, 1.0, weight), Err(Error::Size { .. })));
        assert!(matches!(Base3Matrix::from_packed(16, 20, 1.0, &[ZEROS; 63]), Err(Error::Size { found: 63, .. })));
        for bad in 243..=255 {
            let mut bytes = [ZEROS; 128];
            bytes[64 + 6] = bad;
            let made = Base3Matrix::from_packed(16, 40, 1.0, &bytes);
            assert!(matches!(made, Err(Error::Weight { row: 1, col: 22, .. })), "{bad}");
        }
    }
}
