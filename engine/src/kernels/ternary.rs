//! Ternary weights times int8 activations, by ISA.

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::reference;
use super::tile::{self, Accumulators, Cell, TILE, TILES_BYTES};
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
    match kernels.isa() {
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
    let Some(micro) = micro(kernels) else {
        for t in 0..out.rows() {
            reference::ternary(panels, matrix.scale(), input.token(t, ternary::BLOCK), input.scales[t], out.row(t));
        }
        return;
    };
    let panel_bytes = TernaryMatrix::panel_bytes(matrix.cols());
    tile::each_cell(out.rows(), out.columns().len(), tiles_together(input), |cell| {
        let pair: [&[u8]; 2] = std::array::from_fn(|p| {
            if p < cell.panels { &panels[(cell.panel + p) * panel_bytes..][..panel_bytes] } else { &[] }
        });
        // SAFETY: `micro` was chosen by `kernels`, which proves its features.
        unsafe { run_cell(micro, &pair[..cell.panels], (input, matrix.scale()), cell, &mut out) };
    });
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
    micro: Micro,
    pair: &[&[u8]],
    (input, scale): (&Int8, f32),
    cell: Cell,
    out: &mut Strip<'_, f32>,
) {
    let mut sums = [[0; 2 * PANEL]; TILE];
    // SAFETY: as the caller promises.
    unsafe { micro(pair, input.tile(cell.tile, ternary::BLOCK), cell.tokens, &mut sums) };
    for (t, sums) in sums[..cell.tokens].iter().enumerate() {
        let token = input.scales[cell.token + t];
        let out = &mut out.row(cell.token + t)[cell.row..][..cell.rows];
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = reference::ternary_output(sum, scale, token);
        }
    }
}

/// Writes the sums of one or two panels and the first tokens of a tile.
pub(super) type Micro = unsafe fn(panels: &[&[u8]], tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>);

/// The prefill kernel of a path; the scalar one goes token by token and has none.
pub(super) fn micro(kernels: Kernels) -> Option<Micro> {
    match kernels.isa() {
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
