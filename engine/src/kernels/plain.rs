//! The reference engine: plain loops over row-major f32 weights, the same on every machine. It shares no code with the
//! packed kernels, which are held against it.

use crate::quant::plain::{Arithmetic, PlainMatrix};

/// `y = W x` of one token for the rows from `first`.
pub(crate) fn gemv(matrix: &PlainMatrix, x: &[f32], first: usize, out: &mut [f32]) {
    let rows = (first..).map(|row| matrix.row(row));
    match matrix.arithmetic() {
        Arithmetic::Ternary { scale } => {
            let (x, step) = quantise(x);
            // Sums of integers below 2^53 are exact in f64, and are rounded once, here.
            out.iter_mut().zip(rows).for_each(|(out, row)| *out = dot(row, &x) as f32 * (scale * step));
        }
        Arithmetic::F64 => out.iter_mut().zip(rows).for_each(|(out, row)| *out = dot(row, x) as f32),
        Arithmetic::F32 => out.iter_mut().zip(rows).for_each(|(out, row)| {
            *out = row.iter().zip(x).fold(0.0, |sum, (w, x)| w.mul_add(*x, sum));
        }),
    }
}

/// BitNet b1.58's activation quantisation: integers in -128..=127 (as f32, ties to even) and what one of them stands for.
fn quantise(x: &[f32]) -> (Vec<f32>, f32) {
    let largest = x.iter().fold(1e-5f32, |largest, x| largest.max(x.abs()));
    let s = 127.0 / largest;
    (x.iter().map(|x| (x * s).round_ties_even().clamp(-128.0, 127.0)).collect(), 1.0 / s)
}

/// The sum of products in f64, where each product of two f32 is exact: eight partial sums, of the columns that leave 0
/// to 7 when divided by 8, each in column order; then those in order.
fn dot(w: &[f32], x: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (w, x) in w.chunks(8).zip(x.chunks(8)) {
        for (sum, (w, x)) in sums.iter_mut().zip(w.iter().zip(x)) {
            *sum += f64::from(*w) * f64::from(*x);
        }
    }
    sums.iter().sum()
}
