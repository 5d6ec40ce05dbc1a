//! Ternary weights times int8 activations, by ISA.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::lanes::{self, LANES, Lanes, Step};
use super::reference;
use super::tile::{self, Accumulators, Cell, TILE, TILES_BYTES};
use super::wide;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512, avxvnni};
use crate::input::Int8;
use crate::quant::{PANEL, TernaryMatrix, ternary};
use crate::threads::Strip;

/// `y = W x` of the first token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &TernaryMatrix, input: &Int8, first: usize, out: &mut [f32]) {
    let (scale, token, activations) = (matrix.scale(), input.scales[0], input.token(0, ternary::BLOCK));
    let panels = panels(matrix, first, out.len());
    // Only the x86-64 paths take the sums panel by panel.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
    let finish = |panel: usize, sums: &[i32; PANEL]| {
        let rows = panel * PANEL..((panel + 1) * PANEL).min(out.len());
        for (out, &sum) in out[rows].iter_mut().zip(sums) {
            *out = reference::ternary_output(sum, scale, token);
        }
    };
    match kernels.vectors() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::ternary::gemv(panels, activations, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => unsafe { avxvnni::ternary::gemv(panels, activations, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::ternary::gemv(panels, activations, finish) },
        _ => reference::ternary(panels, scale, activations, token, out),
    }
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`].
pub(crate) fn gemm(kernels: Kernels, matrix: &TernaryMatrix, input: &Int8, mut out: Strip<'_, f32>) {
    let panels = panels(matrix, out.columns().start, out.columns().len());
    let panel_bytes = TernaryMatrix::panel_bytes(matrix.cols());
    if wide::takes(kernels, out.rows()) {
        return wide::run(kernels, Packed { panels, panel_bytes }, input, matrix.scale(), out);
    }
    let Some(micro) = micro(kernels) else {
        for t in 0..out.rows() {
            reference::ternary(panels, matrix.scale(), input.token(t, ternary::BLOCK), input.scales[t], out.row(t));
        }
        return;
    };
    tile::each_cell(out.rows(), out.columns().len(), tiles_together(input), |cell| {
        let pair: [&[u8]; 2] = std::array::from_fn(|p| {
            if p < cell.panels { &panels[(cell.panel + p) * panel_bytes..][..panel_bytes] } else { &[] }
        });
        // SAFETY: `micro` was chosen by `kernels`, which proves its features.
        unsafe { run_cell((kernels, micro), &pair[..cell.panels], (input, matrix.scale()), cell, &mut out) };
    });
}

/// Panels at 2 bits.
struct Packed<'a> {
    panels: &'a [u8],
    panel_bytes: usize,
}

impl wide::Packing for Packed<'_> {
    fn bytes(&self, panel: usize, columns: Range<usize>) -> &[u8] {
        let blocks = columns.start / ternary::BLOCK..columns.end / ternary::BLOCK;
        let panel = &self.panels[panel * self.panel_bytes..][..self.panel_bytes];
        panel.as_chunks::<{ ternary::BLOCK_BYTES }>().0[blocks].as_flattened()
    }

    fn unpack(&self, bytes: &[u8], _: Range<usize>, place: wide::Place<'_>) {
        place.fill(bytes.as_chunks().0);
    }
}

/// Tiles that stay in the cache while panels pass.
pub(super) fn tiles_together(input: &Int8) -> usize {
    TILES_BYTES / (input.tile_len() * size_of::<i32>())
}

/// The outputs of one cell: `pair` are its panels at 2 bits, `scale` that of the weights.
///
/// # Safety
/// The CPU has the features of `micro`.
pub(super) unsafe fn run_cell(
    (kernels, micro): (Kernels, Micro),
    pair: &[&[u8]],
    (input, scale): (&Int8, f32),
    cell: Cell,
    out: &mut Strip<'_, f32>,
) {
    let mut sums = [[0; 2 * PANEL]; TILE];
    // SAFETY: as the caller promises.
    unsafe { micro(pair, input.tile(cell.tile, ternary::BLOCK), cell.tokens, &mut sums) };
    let (tokens, rows) = (cell.token..cell.token + cell.tokens, cell.row..cell.row + cell.rows);
    lanes::run(kernels, Outputs { sums: &sums, tokens, rows, input, scale, out });
}

/// Writes the outputs of some tokens and rows, at most two panels, whose sums are given: [`reference::ternary_output`].
pub(super) struct Outputs<'a, 'out> {
    /// One for each token at least.
    pub(super) sums: &'a [[i32; 2 * PANEL]],
    pub(super) tokens: Range<usize>,
    /// Within the strip.
    pub(super) rows: Range<usize>,
    pub(super) input: &'a Int8,
    /// Of the weights.
    pub(super) scale: f32,
    pub(super) out: &'a mut Strip<'out, f32>,
}

impl Step for Outputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (t, sums) in self.tokens.zip(self.sums) {
            let token = self.input.scales[t];
            let out = &mut self.out.row(t)[self.rows.clone()];
            let scale = l.splat(self.scale * token.step);
            let (sums, _) = sums.as_chunks::<LANES>();
            for (out, sums) in out.chunks_mut(LANES).zip(sums) {
                let outputs = l.mul(l.load_less(sums, token.sum), scale);
                match <&mut [f32; LANES]>::try_from(&mut *out) {
                    Ok(out) => l.store(outputs, out),
                    Err(_) => l.store_part(outputs, out),
                }
            }
        }
    }
}

/// Writes the sums of one or two panels and the first tokens of a tile.
pub(super) type Micro = unsafe fn(panels: &[&[u8]], tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>);

/// The prefill kernel of a path; the scalar one goes token by token and has none.
pub(super) fn micro(kernels: Kernels) -> Option<Micro> {
    match kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::ternary::micro),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => Some(avxvnni::ternary::micro),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::ternary::micro),
        _ => None,
    }
}

/// The panels of `rows` rows from `first`.
fn panels(matrix: &TernaryMatrix, first: usize, rows: usize) -> &[u8] {
    let panel_bytes = TernaryMatrix::panel_bytes(matrix.cols());
    &matrix.packed()[first / PANEL * panel_bytes..][..rows.div_ceil(PANEL) * panel_bytes]
}
