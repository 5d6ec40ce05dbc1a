//! What a weight is: the packed matrices that the kernels read, and the block formats of files.
//!
//! A matrix is `W [rows x cols]` with `y = W x`. Rows are grouped in panels of [`PANEL`]; a panel is contiguous, its
//! rows side by side as vector lanes. Rows beyond the matrix in the last panel are zero weights.

pub mod base3;
pub mod blocks;
pub mod bounded;
pub(crate) mod buffer;
pub mod float16;
pub mod pack;
pub mod plain;
pub mod q6;
pub mod q8;
pub mod sparse;
pub mod ternary;
pub mod tl;
pub mod trits;
pub(crate) mod words;

pub use base3::Base3Matrix;
pub use float16::{Bf16Matrix, F16Matrix, Float16, Float16Matrix};
pub use plain::PlainMatrix;
pub use q6::Q6Matrix;
pub use q8::Q8Matrix;
pub use sparse::{TernaryColumns, TernaryRows};
pub use ternary::TernaryMatrix;

use crate::error::{Error, Result};

/// Rows of a panel: one f32 or i32 lane each of a 512-bit vector.
pub const PANEL: usize = 16;

/// Most columns of a matrix: keeps every i32 sum of ternary or q8 products exact (2 * 128 * 2^22 = 2^30).
pub const MAX_COLS: usize = 1 << 22;

/// Checks the dimensions of a matrix and returns the length of its packed form, given the units of a panel.
fn checked_len(rows: usize, cols: usize, panel_units: usize) -> Result<usize> {
    if rows == 0 {
        return Err(Error::Size { what: "matrix rows", expected: "at least 1".into(), found: 0 });
    }
    if cols == 0 || cols > MAX_COLS {
        return Err(Error::Size { what: "matrix columns", expected: format!("1 to {MAX_COLS}"), found: cols });
    }
    rows.div_ceil(PANEL).checked_mul(panel_units).filter(|&len| len < isize::MAX as usize / 4).ok_or(Error::Size {
        what: "matrix rows",
        expected: "a matrix that fits the address space".into(),
        found: rows,
    })
}

/// Writes little-endian scales to `out`.
///
/// # Errors
/// [`Error::Scale`] if one is no finite number.
fn read_scales(bytes: &[u8], out: &mut [half::f16]) -> Result<()> {
    let (values, _) = bytes.as_chunks::<2>();
    out.iter_mut().zip(values).for_each(|(out, &value)| *out = half::f16::from_le_bytes(value));
    match out.iter().find(|scale| !scale.is_finite()) {
        Some(scale) => Err(Error::Scale { format: "block", expected: "a finite number", found: scale.to_f32() }),
        None => Ok(()),
    }
}
