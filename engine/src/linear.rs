//! The seam: the one type in which the engines differ.

use crate::input::Input;
use crate::kernels::isa::Kernels;
use crate::kernels::{base3, bf16, float16, plain, q6, q8, ternary};
use crate::quant::plain::Arithmetic;
use crate::quant::{Base3Matrix, Bf16Matrix, F16Matrix, PANEL, PlainMatrix, Q6Matrix, Q8Matrix, TernaryMatrix};
use crate::threads::{Strip, Team};

/// A linear layer without bias, `y = W x`, `W [rows x cols]`.
///
/// Results do not depend, by a bit, on the ISA, the thread count, or how many tokens are evaluated together.
#[derive(Debug)]
pub enum Linear {
    /// Ternary weights, int8 activations with one scale a token, i32 accumulation (W1.58A8).
    Ternary(TernaryMatrix),
    /// The same function and bits as `Ternary`, at five weights a byte.
    Base3(Base3Matrix),
    /// f16 weights, f32 activations, f32 accumulation.
    F16(F16Matrix),
    /// bf16 weights and activations, f32 accumulation: see [`crate::quant::float16`].
    Bf16(Bf16Matrix),
    /// 8-bit weights and activations in blocks of 32, i32 within a block and f32 between blocks.
    Q8(Q8Matrix),
    /// 6-bit weights with two levels of scales (Q6_K), activations as for `Q8`.
    Q6(Q6Matrix),
    /// f32 weights in plain loops, on one path: the reference, of W1.58A8 or of f32 weights and activations.
    Plain(PlainMatrix),
}

impl Linear {
    /// Outputs.
    pub fn rows(&self) -> usize {
        match self {
            Linear::Ternary(matrix) => matrix.rows(),
            Linear::Base3(matrix) => matrix.rows(),
            Linear::F16(matrix) => matrix.rows(),
            Linear::Bf16(matrix) => matrix.rows(),
            Linear::Q8(matrix) => matrix.rows(),
            Linear::Q6(matrix) => matrix.rows(),
            Linear::Plain(matrix) => matrix.rows(),
        }
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        match self {
            Linear::Ternary(matrix) => matrix.cols(),
            Linear::Base3(matrix) => matrix.cols(),
            Linear::F16(matrix) => matrix.cols(),
            Linear::Bf16(matrix) => matrix.cols(),
            Linear::Q8(matrix) => matrix.cols(),
            Linear::Q6(matrix) => matrix.cols(),
            Linear::Plain(matrix) => matrix.cols(),
        }
    }

    /// Bytes of the packed weights, padding included: what one token reads.
    pub fn bytes(&self) -> usize {
        match self {
            Linear::Ternary(matrix) => matrix.packed().len(),
            Linear::Base3(matrix) => matrix.packed().len(),
            Linear::F16(matrix) => size_of_val(matrix.packed()),
            Linear::Bf16(matrix) => size_of_val(matrix.packed()),
            Linear::Q8(matrix) => matrix.weights().len() + size_of_val(matrix.scales()),
            Linear::Q6(matrix) => matrix.bytes(),
            Linear::Plain(matrix) => size_of_val(matrix.weights()),
        }
    }

    /// The name of the weight format used in records.
    pub fn kind(&self) -> &'static str {
        match self {
            Linear::Ternary(_) => "ternary-2bit",
            Linear::Base3(_) => "ternary-1.6bit",
            Linear::F16(_) => "f16",
            Linear::Bf16(_) => "bf16",
            Linear::Q8(_) => "q8_0",
            Linear::Q6(_) => "q6_k",
            Linear::Plain(matrix) => match matrix.arithmetic() {
                Arithmetic::Ternary { .. } => "ternary-f32",
                Arithmetic::F64 | Arithmetic::F32 => "f32",
            },
        }
    }

    /// Writes the dequantised weights of `row` to `out`: an embedding, if the head is tied to it.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not [`Linear::cols`] long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match self {
            Linear::Ternary(matrix) => matrix.row_to_f32(row, out),
            Linear::Base3(matrix) => matrix.row_to_f32(row, out),
            Linear::F16(matrix) => matrix.row_to_f32(row, out),
            Linear::Bf16(matrix) => matrix.row_to_f32(row, out),
            Linear::Q8(matrix) => matrix.row_to_f32(row, out),
            Linear::Q6(matrix) => matrix.row_to_f32(row, out),
            Linear::Plain(matrix) => matrix.row_to_f32(row, out),
        }
    }

    /// `y = W x` for all tokens of `input` into `out`, `tokens x rows` row-major.
    ///
    /// # Panics
    /// If `input` has other columns or was not prepared for this linear, or `out` has another length.
    pub fn forward(&self, team: &Team<'_>, kernels: Kernels, input: &Input, out: &mut [f32]) {
        Linear::forward_each(team, kernels, input, &mut [(self, out)]);
    }

    /// As [`Linear::forward`] for several linears that read the same input, in one fork and join.
    ///
    /// # Panics
    /// As [`Linear::forward`].
    pub fn forward_each(team: &Team<'_>, kernels: Kernels, input: &Input, outputs: &mut [(&Linear, &mut [f32])]) {
        let tokens = input.tokens();
        let mut matrices = Vec::with_capacity(outputs.len());
        let mut linears = Vec::with_capacity(outputs.len());
        let side = outputs.iter().map(|(linear, _)| linear.side(tokens)).max().unwrap_or(1);
        for (linear, out) in outputs {
            let rows = linear.rows();
            assert_eq!(input.cols(), linear.cols(), "columns of a linear layer and of its input");
            assert_eq!(out.len(), tokens * rows, "outputs: {tokens} tokens x {rows} rows");
            matrices.push((&mut **out, rows));
            linears.push(*linear);
        }
        team.split_rows_each(&mut matrices, (PANEL, side), |index, out| {
            linears[index].forward_strip(kernels, input, out)
        });
    }

    /// Panels that a worker takes at least, if as many are left: some kernels have up to four side by side.
    fn side(&self, tokens: usize) -> usize {
        match self {
            Linear::Ternary(_) | Linear::Base3(_) | Linear::Q6(_) | Linear::Plain(_) if tokens == 1 => 1,
            _ => 4,
        }
    }

    /// The outputs of one strip of rows.
    fn forward_strip(&self, kernels: Kernels, input: &Input, mut out: Strip<'_, f32>) {
        let (first, tokens) = (out.columns().start, out.rows());
        match self {
            Linear::Ternary(matrix) if tokens == 1 => {
                ternary::gemv(kernels, matrix, input.int8(), first, out.row(0));
            }
            Linear::Ternary(matrix) => ternary::gemm(kernels, matrix, input.int8(), out),
            Linear::Base3(matrix) if tokens == 1 => base3::gemv(kernels, matrix, input.int8(), first, out.row(0)),
            Linear::Base3(matrix) => base3::gemm(kernels, matrix, input.int8(), out),
            Linear::F16(matrix) if tokens == 1 => float16::gemv(kernels, matrix, input.f32(), first, out.row(0)),
            Linear::F16(matrix) => float16::gemm(kernels, matrix, input, out),
            Linear::Bf16(matrix) if tokens == 1 => {
                bf16::gemv(kernels, matrix, input.bf16().token(0), first, out.row(0));
            }
            Linear::Bf16(matrix) => bf16::gemm(kernels, matrix, input.bf16(), out),
            Linear::Q8(matrix) if tokens == 1 => q8::gemv(kernels, matrix, input.q8(), 0, first, out.row(0)),
            Linear::Q8(matrix) => q8::gemm(kernels, matrix, input.q8(), out),
            Linear::Q6(matrix) if tokens == 1 => q6::gemv(kernels, matrix, input.q8(), 0, first, out.row(0)),
            Linear::Q6(matrix) => q6::gemm(kernels, matrix, input.q8(), out),
            Linear::Plain(matrix) => {
                let x = input.f32().chunks_exact(matrix.cols());
                x.enumerate().for_each(|(t, x)| plain::gemv(matrix, x, first, out.row(t)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
