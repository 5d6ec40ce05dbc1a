//! A tensor as a conversion sees it: rows, whatever holds them.

use crate::error::Result;
use crate::formats::GgufFile;
use crate::formats::gguf::{TensorInfo, TensorType};

/// The rows of one tensor. Rows and columns are those of `y = W x`; a vector is one row.
pub(crate) trait Rows: Sync {
    /// Rows and columns.
    fn shape(&self) -> (usize, usize);

    /// The scale of a tensor that is ternary by its type; `None` for any other.
    ///
    /// # Errors
    /// What is wrong with the tensor.
    fn scale(&self) -> Result<Option<f32>>;

    /// The trits of a row of a ternary tensor.
    ///
    /// # Errors
    /// What is wrong with the row.
    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()>;

    /// The values of a row, scaled.
    ///
    /// # Errors
    /// What is wrong with the row.
    fn values(&self, row: usize, out: &mut [f32]) -> Result<()>;

    /// The whole tensor as it would be stored in a GGUF file, if it is.
    fn stored(&self) -> Option<(TensorType, &[u8])> {
        None
    }

    /// Says that no more rows will be read, so that mapped pages can be given back.
    fn done(&self) {}
}

/// A tensor of a GGUF file.
pub(crate) struct GgufRows<'a> {
    pub(crate) file: &'a GgufFile,
    pub(crate) tensor: &'a TensorInfo,
}

impl Rows for GgufRows<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.tensor.rows(), self.tensor.cols())
    }

    fn scale(&self) -> Result<Option<f32>> {
        match self.tensor.kind().is_ternary() {
            true => Ok(Some(self.file.ternary_scale(self.tensor)?)),
            false => Ok(None),
        }
    }

    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()> {
        Ok(self.file.ternary_row(self.tensor, row, out)?)
    }

    fn values(&self, row: usize, out: &mut [f32]) -> Result<()> {
        Ok(self.file.row_to_f32(self.tensor, row, out)?)
    }

    fn stored(&self) -> Option<(TensorType, &[u8])> {
        Some((self.tensor.kind(), self.file.data(self.tensor)))
    }

    fn done(&self) {
        self.file.release(self.tensor);
    }
}

/// Rows of heads in another order of RoPE's pairs. Hugging Face turns values i and i + d/2 of a head of d together, GGUF's
/// `llama` 2 i and 2 i + 1, its rows of queries and keys moved to match.
pub(crate) struct Permuted<R> {
    pub(crate) rows: R,
    /// Values of a head.
    pub(crate) head_dim: usize,
    /// From GGUF's order to Hugging Face's, else the other way.
    pub(crate) to_halves: bool,
}

impl<R> Permuted<R> {
    /// The row that is read where `row` is asked for.
    fn source(&self, row: usize) -> usize {
        let (d, half) = (self.head_dim, self.head_dim / 2);
        let (head, at) = (row / d * d, row % d);
        head + if self.to_halves { at % half * 2 + at / half } else { at % 2 * half + at / 2 }
    }
}

impl Permuted<()> {
    /// A vector with one value a row, in the other order.
    pub(crate) fn permute<T: Copy>(&self, values: &[T]) -> Vec<T> {
        (0..values.len()).map(|row| values[self.source(row)]).collect()
    }
}

/// A vector with one value a row of a matrix, in the other order of RoPE's pairs.
pub(crate) struct PermutedVector<R> {
    pub(crate) rows: R,
    pub(crate) order: Permuted<()>,
}

impl<R: Rows> Rows for PermutedVector<R> {
    fn shape(&self) -> (usize, usize) {
        self.rows.shape()
    }

    fn scale(&self) -> Result<Option<f32>> {
        Ok(None)
    }

    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()> {
        self.rows.trits(row, out)?;
        out.copy_from_slice(&self.order.permute(out));
        Ok(())
    }

    fn values(&self, row: usize, out: &mut [f32]) -> Result<()> {
        self.rows.values(row, out)?;
        out.copy_from_slice(&self.order.permute(out));
        Ok(())
    }

    fn done(&self) {
        self.rows.done();
    }
}

impl<R: Rows> Rows for Permuted<R> {
    fn shape(&self) -> (usize, usize) {
        self.rows.shape()
    }

    fn scale(&self) -> Result<Option<f32>> {
        self.rows.scale()
    }

    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()> {
        self.rows.trits(self.source(row), out)
    }

    fn values(&self, row: usize, out: &mut [f32]) -> Result<()> {
        self.rows.values(self.source(row), out)
    }

    fn done(&self) {
        self.rows.done();
    }
}

impl<R: Rows + ?Sized> Rows for Box<R> {
    fn shape(&self) -> (usize, usize) {
        (**self).shape()
    }

    fn scale(&self) -> Result<Option<f32>> {
        (**self).scale()
    }

    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()> {
        (**self).trits(row, out)
    }

    fn values(&self, row: usize, out: &mut [f32]) -> Result<()> {
        (**self).values(row, out)
    }

    fn stored(&self) -> Option<(TensorType, &[u8])> {
        (**self).stored()
    }

    fn done(&self) {
        (**self).done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_orders_undo_each_other() {
        let there = Permuted { rows: (), head_dim: 8, to_halves: false };
        let back = Permuted { rows: (), head_dim: 8, to_halves: true };
        let order: Vec<usize> = (0..16).map(|row| there.source(row)).collect();
        assert_eq!(order, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
        assert!((0..16).all(|row| back.source(there.source(row)) == row));
    }
}
