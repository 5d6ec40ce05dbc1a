//! Weights as plain f32, row after row: what the reference evaluates.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{PANEL, checked_len};
use crate::error::{Error, Result};

/// How a plain matrix is multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arithmetic {
    /// Weights of -1, 0 and 1 times one scale, activations rounded to int8 with one scale a token (W1.58A8).
    Ternary {
        /// What every weight is multiplied by.
        scale: f32,
    },
    /// f32 products, summed in f64.
    F64,
    /// One chain of f32 fused multiply-adds in column order: what f16 defines, so that a ternary model's
    /// head is the same in the ternary engine and in the reference.
    F32,
}

/// A matrix of f32 weights, `rows x cols` row-major.
#[derive(Debug)]
pub struct PlainMatrix {
    rows: usize,
    cols: usize,
    arithmetic: Arithmetic,
    weights: Buffer<f32>,
}

impl PlainMatrix {
    /// Takes rows: `fill(row, values)` writes the `cols` weights of a row, in parallel.
    ///
    /// # Errors
    /// Bad dimensions, the first error of `fill`, a weight or scale that is not finite, or for
    /// [`Arithmetic::Ternary`] a weight that is not -1, 0 or 1.
    pub fn from_rows(
        rows: usize,
        cols: usize,
        arithmetic: Arithmetic,
        fill: impl Fn(usize, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        checked_len(rows, cols, cols * PANEL)?;
        let (format, expected) = match arithmetic {
            Arithmetic::Ternary { scale } if !scale.is_finite() => {
                return Err(Error::Scale { format: "ternary", expected: "a finite number", found: scale });
            }
            Arithmetic::Ternary { .. } => ("ternary", "-1, 0 or 1"),
            Arithmetic::F64 | Arithmetic::F32 => ("f32", "a finite number"),
        };
        let holds = |weight: f32| match arithmetic {
            Arithmetic::Ternary { .. } => weight == 0.0 || weight.abs() == 1.0,
            Arithmetic::F64 | Arithmetic::F32 => weight.is_finite(),
        };
        let mut weights = Buffer::<f32>::zeroed(rows * cols)?;
        weights.par_chunks_exact_mut(cols).enumerate().try_for_each(|(row, values)| {
            fill(row, values)?;
            match values.iter().position(|&weight| !holds(weight)) {
                None => Ok(()),
                Some(col) => Err(Error::Weight { format, row, col, expected, found: values[col].to_string() }),
            }
        })?;
        Ok(PlainMatrix { rows, cols, arithmetic, weights })
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How it is multiplied.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// All rows, one after the other; those of a ternary matrix before scaling.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// One row of [`PlainMatrix::weights`].
    ///
    /// # Panics
    /// If `row` is out of range.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.weights[row * self.cols..][..self.cols]
    }

    /// Writes the scaled weights of `row` to `out`.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        out.copy_from_slice(self.row(row));
        if let Arithmetic::Ternary { scale } = self.arithmetic {
            out.iter_mut().for_each(|weight| *weight *= scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(arithmetic: Arithmetic, last: f32) -> Result<PlainMatrix> {
        PlainMatrix::from_rows(3, 5, arithmetic, |row, out| {
            out.iter_mut().enumerate().for_each(|(col, out)| *out = ((row + col) % 3) as f32 - 1.0);
            if row == 2 {
                out[4] = last;
            }
            Ok(())
        })
    }

    #[test]
    fn rows_come_back_scaled() {
        let mut row = [0.0; 5];
        make(Arithmetic::Ternary { scale: 0.5 }, 1.0).unwrap().row_to_f32(2, &mut row);
        assert_eq!(row, [0.5, -0.5, 0.0, 0.5, 0.5]);
        make(Arithmetic::F64, 7.25).unwrap().row_to_f32(2, &mut row);
        assert_eq!(row, [1.0, -1.0, 0.0, 1.0, 7.25]);
    }

    #[test]
    fn bad_input_is_an_error() {
        for bad in [2.0, 0.5, f32::NAN, f32::INFINITY] {
            let ternary = make(Arithmetic::Ternary { scale: 0.5 }, bad);
            assert!(matches!(ternary, Err(Error::Weight { row: 2, col: 4, .. })), "{bad}");
            for arithmetic in [Arithmetic::F64, Arithmetic::F32] {
                assert_eq!(make(arithmetic, bad).is_ok(), bad.is_finite());
            }
        }
        assert!(matches!(make(Arithmetic::Ternary { scale: f32::NAN }, 0.0), Err(Error::Scale { .. })));
        let none = |rows, cols| PlainMatrix::from_rows(rows, cols, Arithmetic::F64, |_, _| Ok(()));
        for (rows, cols) in [(0, 1), (1, 0), (usize::MAX, 1 << 20)] {
            assert!(matches!(none(rows, cols), Err(Error::Size { .. })), "{rows} x {cols}");
        }
    }
}
