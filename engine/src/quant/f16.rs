//! Half-precision weights in panels: per column, the 16 values of the panel's rows side by side.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, TernaryMatrix, checked_len};
use crate::error::{Error, Result};

/// A matrix of f16 weights in panels.
#[derive(Debug)]
pub struct F16Matrix {
    rows: usize,
    cols: usize,
    packed: Buffer<f16>,
}

impl F16Matrix {
    /// Makes a matrix panel by panel, in parallel: `fill(panel, values)` writes the `16 x cols` values of one panel,
    /// `values[16 col + r]` for row `r` of the panel. Rows beyond the matrix are set to 0 afterwards.
    ///
    /// # Errors
    /// Bad dimensions.
    pub fn from_panels(rows: usize, cols: usize, fill: impl Fn(usize, &mut [f16]) + Sync) -> Result<Self> {
        F16Matrix::try_from_panels(rows, cols, |panel, values| {
            fill(panel, values);
            Ok(())
        })
    }

    /// As [`F16Matrix::from_panels`] with a `fill` that can fail.
    ///
    /// # Errors
    /// Bad dimensions, or the first error of `fill`.
    pub fn try_from_panels(
        rows: usize,
        cols: usize,
        fill: impl Fn(usize, &mut [f16]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let len = checked_len(rows, cols, cols * PANEL)?;
        let mut packed = Buffer::<f16>::zeroed(len)?;
        packed.par_chunks_exact_mut(cols * PANEL).enumerate().try_for_each(|(panel, values)| {
            fill(panel, values)?;
            let live = (rows - panel * PANEL).min(PANEL);
            if live < PANEL {
                values.chunks_exact_mut(PANEL).for_each(|column| column[live..].fill(f16::ZERO));
            }
            Ok(())
        })?;
        Ok(F16Matrix { rows, cols, packed })
    }

    /// Packs rows: `fill(row, values)` writes the `cols` values of a row, in parallel; peak memory stays near the
    /// packed size.
    ///
    /// # Errors
    /// Bad dimensions, or the first error of `fill`.
    pub fn from_rows(rows: usize, cols: usize, fill: impl Fn(usize, &mut [f16]) -> Result<()> + Sync) -> Result<Self> {
        F16Matrix::try_from_panels(rows, cols, |panel, values| {
            let live = (rows - panel * PANEL).min(PANEL);
            let mut scratch = vec![f16::ZERO; live * cols];
            for (r, row) in scratch.chunks_exact_mut(cols).enumerate() {
                fill(panel * PANEL + r, row)?;
            }
            for (col, column) in values.chunks_exact_mut(PANEL).enumerate() {
                for r in 0..live {
                    column[r] = scratch[r * cols + col];
                }
            }
            Ok(())
        })
    }

    /// The same function as `matrix`, its weights written out.
    ///
    /// # Errors
    /// [`Error::Scale`] if the scale is not an f16: the two would then differ.
    pub fn from_ternary(matrix: &TernaryMatrix) -> Result<Self> {
        let scale = f16::from_f32(matrix.scale());
        if scale.to_f32() != matrix.scale() {
            let expected = "a scale that f16 represents exactly";
            return Err(Error::Scale { format: "f16", expected, found: matrix.scale() });
        }
        let values = [-scale, f16::ZERO, scale, f16::ZERO];
        let panel_bytes = TernaryMatrix::panel_bytes(matrix.cols());
        F16Matrix::from_panels(matrix.rows(), matrix.cols(), |panel, out| {
            let codes = &matrix.packed()[panel * panel_bytes..][..panel_bytes];
            for (col, column) in out.chunks_exact_mut(PANEL).enumerate() {
                let (block, shift, j) = (&codes[col / 16 * 64..][..64], col % 16 / 4 * 2, col % 4);
                for (r, value) in column.iter_mut().enumerate() {
                    *value = values[usize::from(block[r * 4 + j] >> shift & 3)];
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
    pub fn packed(&self) -> &[f16] {
        &self.packed
    }

    /// Writes the weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "columns");
        let panel = &self.packed[row / PANEL * PANEL * self.cols..][..PANEL * self.cols];
        let mut wide = [0.0; PANEL];
        for (out, column) in out.iter_mut().zip(panel.chunks_exact(PANEL)) {
            column.convert_to_f32_slice(&mut wide);
            *out = wide[row % PANEL];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_padding_is_zero() {
        let value = |row: usize, col: usize| f16::from_f32(row as f32 - col as f32 / 8.0);
        for (rows, cols) in [(1, 1), (16, 4), (19, 7)] {
            let fill = |row: usize, out: &mut [f16]| {
                (0..cols).for_each(|col| out[col] = value(row, col));
                Ok(())
            };
            let matrix = F16Matrix::from_rows(rows, cols, fill).unwrap();
            let mut out = vec![0.0; cols];
            for row in 0..rows {
                matrix.row_to_f32(row, &mut out);
                assert!((0..cols).all(|col| out[col] == value(row, col).to_f32()));
            }
            let last = &matrix.packed()[rows / PANEL * PANEL * cols..];
            assert!(last.chunks_exact(PANEL).all(|c| c[rows % PANEL..].iter().all(|v| v.to_bits() == 0)) || rows == 16);
            let dirty = F16Matrix::from_panels(rows, cols, |_, out| out.fill(f16::ONE)).unwrap();
            assert_eq!(dirty.packed().iter().filter(|&&v| v == f16::ONE).count(), rows * cols);
        }
    }

    #[test]
    fn an_error_of_a_row_is_passed_on() {
        let fill = |row: usize, _: &mut [f16]| {
            if row == 5 { Err(Error::Size { what: "row", expected: String::new(), found: row }) } else { Ok(()) }
        };
        assert!(matches!(F16Matrix::from_rows(20, 4, fill), Err(Error::Size { found: 5, .. })));
    }

    #[test]
    fn a_ternary_matrix_is_written_out_exactly_or_refused() {
        let weight = |row: usize, col: usize| ((row * 7 + col * 5) % 3) as i8 - 1;
        let ternary = TernaryMatrix::from_codes(21, 35, 0.046875, weight).unwrap();
        let wide = F16Matrix::from_ternary(&ternary).unwrap();
        let (mut a, mut b) = (vec![0.0; 35], vec![0.0; 35]);
        for row in 0..21 {
            ternary.row_to_f32(row, &mut a);
            wide.row_to_f32(row, &mut b);
            assert_eq!(a, b);
        }
        let inexact = TernaryMatrix::from_codes(1, 1, 0.1, weight).unwrap();
        assert!(matches!(F16Matrix::from_ternary(&inexact), Err(Error::Scale { .. })));
    }
}
