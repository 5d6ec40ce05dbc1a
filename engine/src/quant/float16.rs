//! Weights of 16-bit floats in panels of 16 rows: f16 per column the 16 values side by side, bf16 per pair of columns 16
//! pairs of values, the even column's first; an odd number of columns is filled up with a column of zeros.
//!
//! A bf16 layer is, in this order: activations rounded to bf16 (nearest, ties to even; 0 below 2^-50), and per row one chain
//! of f32 fused multiply-adds over the pairs of columns, the odd column before the even one. This is what `vdpbf16ps`
//! computes, but that it takes denormals for zeros: it is used where no weight lies below 2^-50, so that all products are
//! multiples of 2^-114, and no sum can be denormal.

use std::sync::atomic::{AtomicBool, Ordering};

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use rayon::prelude::*;

use super::buffer::{Buffer, Plain};
use super::{PANEL, TernaryMatrix, checked_len, words};
use crate::error::{Error, Result};

/// A 16-bit float: f16 or bf16.
pub trait Float16: Plain {
    /// The name in records and errors.
    const NAME: &'static str;
    /// 0.
    const ZERO: Self;
    /// The exponent's bits: all set in what is no finite number.
    const EXPONENT: u16;
    /// Columns whose values of a row lie side by side.
    const COLUMNS: usize;

    /// The value of these bits.
    fn of_bits(bits: u16) -> Self;

    /// The nearest value, ties to even; infinity beyond the largest.
    fn narrow(x: f32) -> Self;

    /// [`Float16::narrow`] of each value.
    ///
    /// # Panics
    /// If the two are not of one length.
    fn narrow_all(values: &[f32], out: &mut [Self]);

    /// The same value as f32, exactly, in a form that vectorises.
    fn widen(self) -> f32;

    /// Whether this is a number.
    fn finite(self) -> bool {
        self.widen().is_finite()
    }

    /// Whether this is not 0, but so small that `vdpbf16ps` might not sum its products exactly.
    fn tiny(self) -> bool;
}

impl Float16 for f16 {
    const NAME: &'static str = "f16";
    const ZERO: f16 = f16::ZERO;
    const EXPONENT: u16 = 0x7c00;
    const COLUMNS: usize = 1;

    fn of_bits(bits: u16) -> f16 {
        f16::from_bits(bits)
    }

    fn narrow(x: f32) -> f16 {
        f16::from_f32(x)
    }

    fn narrow_all(values: &[f32], out: &mut [f16]) {
        out.convert_from_f32_slice(values);
    }

    fn tiny(self) -> bool {
        false
    }

    #[inline]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = bits & 0x7fff;
        // The exponent's bias differs by 112; an all-ones exponent (infinity, NaN) stays one.
        let scaled = (f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23)).to_bits();
        let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(scaled | special | (bits & 0x8000) << 16)
    }
}

impl Float16 for bf16 {
    const NAME: &'static str = "bf16";
    const ZERO: bf16 = bf16::ZERO;
    const EXPONENT: u16 = 0x7f80;
    const COLUMNS: usize = 2;

    fn of_bits(bits: u16) -> bf16 {
        bf16::from_bits(bits)
    }

    fn narrow(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    fn narrow_all(values: &[f32], out: &mut [bf16]) {
        out.convert_from_f32_slice(values);
    }

    #[inline]
    fn tiny(self) -> bool {
        let magnitude = self.to_bits() & 0x7fff;
        magnitude != 0 && magnitude < LEAST_BF16
    }

    #[inline]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// The magnitude of a bf16 below which a product with another could be a denormal f32, or lead to one: 2^-50, as bits.
const LEAST_BF16: u16 = (127 - 50) << 7;

/// Rounds to the nearest bf16, ties to even, and to 0 below 2^-50: how a bf16 layer takes its activations. What is no number
/// stays none.
#[inline(always)]
pub(crate) fn bf16_activation(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    // Of a NaN the upper half might be infinity, or rounding overflow.
    let bits = if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fc0 } else { rounded };
    if bits & 0x7fff < LEAST_BF16 { 0 } else { bits }
}

/// A matrix of 16-bit weights in panels.
#[derive(Debug)]
pub struct Float16Matrix<E: Float16> {
    rows: usize,
    cols: usize,
    /// See [`Float16Matrix::holds_tiny`].
    tiny: bool,
    packed: Buffer<E>,
}

/// Half-precision weights.
pub type F16Matrix = Float16Matrix<f16>;

/// Weights in the upper half of an f32.
pub type Bf16Matrix = Float16Matrix<bf16>;

impl<E: Float16> Float16Matrix<E> {
    /// Values of a panel.
    pub fn panel_len(cols: usize) -> usize {
        cols.next_multiple_of(E::COLUMNS) * PANEL
    }

    /// Makes a matrix panel by panel, in parallel: `fill(panel, values)` writes the [`Float16Matrix::panel_len`] values of
    /// one panel, for its row `r` that of f16 to `values[16 col + r]`, of bf16 to `values[32 (col / 2) + 2 r + col % 2]`.
    /// Rows and a column beyond the matrix are set to 0 afterwards.
    ///
    /// # Errors
    /// Bad dimensions.
    pub fn from_panels(rows: usize, cols: usize, fill: impl Fn(usize, &mut [E]) + Sync) -> Result<Self> {
        Float16Matrix::try_from_panels(rows, cols, |panel, values| {
            fill(panel, values);
            Ok(())
        })
    }

    /// As [`Float16Matrix::from_panels`] with a `fill` that can fail.
    ///
    /// # Errors
    /// Bad dimensions, or the first error of `fill`.
    pub fn try_from_panels(
        rows: usize,
        cols: usize,
        fill: impl Fn(usize, &mut [E]) -> Result<()> + Sync,
    ) -> Result<Self> {
        // Before the length of a panel is known to be a number.
        checked_len(rows, cols, 2 * PANEL)?;
        let panel_len = Self::panel_len(cols);
        let mut packed = Buffer::<E>::zeroed(checked_len(rows, cols, panel_len)?)?;
        let tiny = AtomicBool::new(false);
        packed.par_chunks_exact_mut(panel_len).enumerate().try_for_each(|(panel, values)| {
            fill(panel, values)?;
            let live = (rows - panel * PANEL).min(PANEL);
            if live < PANEL {
                values.chunks_exact_mut(PANEL * E::COLUMNS).for_each(|group| group[live * E::COLUMNS..].fill(E::ZERO));
            }
            if !cols.is_multiple_of(E::COLUMNS) {
                let last = &mut values[panel_len - PANEL * E::COLUMNS..];
                last.chunks_exact_mut(E::COLUMNS).for_each(|values| values[cols % E::COLUMNS..].fill(E::ZERO));
            }
            if values.iter().fold(false, |any, value| any | value.tiny()) {
                tiny.store(true, Ordering::Relaxed);
            }
            Ok::<(), Error>(())
        })?;
        Ok(Float16Matrix { rows, cols, tiny: tiny.into_inner(), packed })
    }

    /// Packs rows: `fill(row, values)` writes the `cols` values of a row, in parallel; peak memory stays near the
    /// packed size.
    ///
    /// # Errors
    /// Bad dimensions, or the first error of `fill`.
    pub fn from_rows(rows: usize, cols: usize, fill: impl Fn(usize, &mut [E]) -> Result<()> + Sync) -> Result<Self> {
        Float16Matrix::try_from_panels(rows, cols, |panel, values| {
            let live = (rows - panel * PANEL).min(PANEL);
            let mut scratch = vec![E::ZERO; live * cols];
            for (r, row) in scratch.chunks_exact_mut(cols).enumerate() {
                fill(panel * PANEL + r, row)?;
            }
            interleave(cols, live, values, |r, first, out| {
                out.copy_from_slice(&scratch[r * cols + first..][..out.len()]);
            });
            Ok(())
        })
    }

    /// Writes the rows of a panel of a file that has this format's own values, little-endian, row after row; false, and
    /// any values, if one is not finite.
    ///
    /// # Panics
    /// If `bytes` are not up to 16 rows of `cols` values, or `values` is not a panel.
    #[must_use]
    pub(crate) fn panel_of_bytes(bytes: &[u8], cols: usize, values: &mut [E]) -> bool {
        let (bits, _) = bytes.as_chunks::<2>();
        let wild = |bits: u16| bits & E::EXPONENT == E::EXPONENT;
        let mut finite = true;
        interleave(cols, bits.len() / cols, values, |r, first, out| {
            let bits = &bits[r * cols + first..][..out.len()];
            finite &= !bits.iter().fold(false, |any, &bits| any | wild(u16::from_le_bytes(bits)));
            out.iter_mut().zip(bits).for_each(|(out, &bits)| *out = E::of_bits(u16::from_le_bytes(bits)));
        });
        finite
    }

    /// Writes a panel of ternary weights, of which `words` has the rows (see [`super::words`]), each the value of its
    /// code.
    ///
    /// # Panics
    /// If `words` and `values` are not of 16 rows of so many columns.
    pub(crate) fn panel_of_words(words: &[u32], codes: [E; 4], cols: usize, values: &mut [E]) {
        let per_row = words.len() / PANEL;
        for (block, out) in values[..Self::panel_len(cols)].chunks_mut(words::COLS * PANEL).enumerate() {
            let rows: [u32; PANEL] = std::array::from_fn(|r| words[r * per_row + block]);
            for (group, out) in out.chunks_exact_mut(PANEL * E::COLUMNS).enumerate() {
                for (out, word) in out.chunks_exact_mut(E::COLUMNS).zip(rows) {
                    for (j, out) in out.iter_mut().enumerate() {
                        let col = group * E::COLUMNS + j;
                        *out = codes[(word >> (col % 4 * 8 + col / 4 * 2) & 3) as usize];
                    }
                }
            }
        }
    }

    /// The same function as `matrix`, its weights written out.
    ///
    /// # Errors
    /// [`Error::Scale`] if the format has no such scale: the two would then differ.
    pub fn from_ternary(matrix: &TernaryMatrix) -> Result<Self> {
        let scale = E::narrow(matrix.scale());
        if scale.widen() != matrix.scale() {
            let expected = "a scale that the format represents exactly";
            return Err(Error::Scale { format: E::NAME, expected, found: matrix.scale() });
        }
        let values = [E::narrow(-matrix.scale()), E::ZERO, scale, E::ZERO];
        let panel_bytes = TernaryMatrix::panel_bytes(matrix.cols());
        Float16Matrix::from_panels(matrix.rows(), matrix.cols(), |panel, out| {
            let codes = &matrix.packed()[panel * panel_bytes..][..panel_bytes];
            for (group, out) in out.chunks_exact_mut(PANEL * E::COLUMNS).enumerate() {
                for (at, value) in out.iter_mut().enumerate() {
                    let (r, col) = (at / E::COLUMNS, group * E::COLUMNS + at % E::COLUMNS);
                    let byte = codes[col / 16 * 64 + r * 4 + col % 4];
                    *value = values[usize::from(byte >> (col % 16 / 4 * 2) & 3)];
                }
            }
        })
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All panels, one after the other.
    pub fn packed(&self) -> &[E] {
        &self.packed
    }

    /// Whether a weight of a bf16 matrix is not 0 and below 2^-50.
    pub(crate) fn holds_tiny(&self) -> bool {
        self.tiny
    }

    /// Writes the weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "columns");
        let panel = &self.packed[row / PANEL * Self::panel_len(self.cols)..][..Self::panel_len(self.cols)];
        let groups = panel.chunks_exact(PANEL * E::COLUMNS);
        for (out, group) in out.chunks_mut(E::COLUMNS).zip(groups) {
            let values = &group[row % PANEL * E::COLUMNS..];
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value.widen());
        }
    }
}

/// Columns that are read of a row at a time: a line of the cache, so that it is left for good, however rows lie to it.
const STEP: usize = 32;

/// Writes the first `live` rows of a panel; `read(row, first column, out)` reads the values of a row from a column on.
fn interleave<E: Float16>(cols: usize, live: usize, values: &mut [E], mut read: impl FnMut(usize, usize, &mut [E])) {
    let mut rows = [[E::ZERO; STEP]; PANEL];
    let values = &mut values[..Float16Matrix::<E>::panel_len(cols)];
    for (step, out) in values.chunks_mut(STEP * PANEL).enumerate() {
        let width = STEP.min(cols - step * STEP);
        rows[..live].iter_mut().enumerate().for_each(|(r, row)| read(r, step * STEP, &mut row[..width]));
        for (group, out) in out.chunks_exact_mut(PANEL * E::COLUMNS).enumerate() {
            for (out, row) in out.chunks_exact_mut(E::COLUMNS).zip(&rows) {
                out.copy_from_slice(&row[group * E::COLUMNS..][..E::COLUMNS]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_widens_exactly() {
        for bits in 0..=u16::MAX {
            let same =
                |ours: f32, theirs: f32| ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(same(half.widen(), half.to_f32()) && same(brain.widen(), brain.to_f32()), "{bits:#06x}");
            assert!(half.finite() == half.is_finite() && brain.finite() == brain.is_finite(), "{bits:#06x}");
        }
    }

    /// bf16 is the upper half of an f32; the lower half rounds it, ties to even.
    #[test]
    fn bf16_rounds_to_nearest_even() {
        let cases = [
            (0x3f80_0000, 0x3f80),
            (0x3f80_7fff, 0x3f80),
            (0x3f80_8000, 0x3f80),
            (0x3f81_8000, 0x3f82),
            (0x3f80_8001, 0x3f81),
            (0xbf80_ffff, 0xbf81),
            (0x0000_8001, 0x0001),
            (0x7f7f_ffff, 0x7f80),
            (0x8000_0000, 0x8000),
        ];
        for (from, to) in cases {
            assert_eq!(<bf16 as Float16>::narrow(f32::from_bits(from)).to_bits(), to, "{from:#010x}");
        }
    }

    fn rows_come_back_and_padding_is_zero<E: Float16>() {
        let value = |row: usize, col: usize| E::narrow(row as f32 - col as f32 / 8.0);
        let one = |v: &&E| v.widen() == 1.0;
        for (rows, cols) in [(1, 1), (16, 4), (19, 7)] {
            let fill = |row: usize, out: &mut [E]| {
                (0..cols).for_each(|col| out[col] = value(row, col));
                Ok(())
            };
            let matrix = Float16Matrix::from_rows(rows, cols, fill).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row_to_f32(row, &mut out);
                assert!((0..cols).all(|col| out[col] == value(row, col).widen()));
            }
            let last = &matrix.packed()[rows / PANEL * Float16Matrix::<E>::panel_len(cols)..];
            let mut groups = last.chunks_exact(PANEL * E::COLUMNS);
            let zero = |values: &[E]| values.iter().all(|v| v.widen() == 0.0);
            assert!(groups.all(|group| zero(&group[rows % PANEL * E::COLUMNS..])) || rows == 16);
            assert_eq!(matrix.packed().len(), rows.div_ceil(PANEL) * PANEL * cols.next_multiple_of(E::COLUMNS));
            let dirty = Float16Matrix::<E>::from_panels(rows, cols, |_, out| out.fill(E::narrow(1.0))).unwrap();
            assert_eq!(dirty.packed().iter().filter(one).count(), rows * cols);
        }
    }

    #[test]
    fn both_formats_come_back() {
        rows_come_back_and_padding_is_zero::<f16>();
        rows_come_back_and_padding_is_zero::<bf16>();
    }

    #[test]
    fn an_error_of_a_row_is_passed_on() {
        let fill = |row: usize, _: &mut [f16]| {
            if row == 5 { Err(Error::Size { what: "row", expected: String::new(), found: row }) } else { Ok(()) }
        };
        assert!(matches!(F16Matrix::from_rows(20, 4, fill), Err(Error::Size { found: 5, .. })));
    }

    fn ternary_is_written_out<E: Float16>(inexact: f32) {
        let weight = |row: usize, col: usize| ((row * 7 + col * 5) % 3) as i8 - 1;
        let ternary = TernaryMatrix::from_codes(21, 35, 0.046875, weight).unwrap();
        let wide = Float16Matrix::<E>::from_ternary(&ternary).unwrap();
        let (mut a, mut b) = (vec![0.0; 35], vec![0.0; 35]);
        for row in 0..21 {
            ternary.row_to_f32(row, &mut a);
            wide.row_to_f32(row, &mut b);
            assert_eq!(a, b);
        }
        let inexact = TernaryMatrix::from_codes(1, 1, inexact, weight).unwrap();
        assert!(matches!(Float16Matrix::<E>::from_ternary(&inexact), Err(Error::Scale { .. })));
    }

    #[test]
    fn a_ternary_matrix_is_written_out_exactly_or_refused() {
        ternary_is_written_out::<f16>(0.1);
        // Nine bits, which f16 has and bf16 has not.
        ternary_is_written_out::<bf16>(1.0 + 1.0 / 256.0);
    }
}
