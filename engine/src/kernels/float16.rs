//! f16 weights times f32 activations, by ISA.

pub(crate) mod prefill;

use std::ops::Range;

use half::f16;

use self::prefill::{Gemm, Line, Packing};
#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::lanes::Lanes;
use super::reference;
use super::tile::{self, Accumulators, TILE, TILES_BYTES};
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::input::Input;
use crate::quant::{F16Matrix, PANEL};
use crate::threads::Strip;

/// Columns of a pass of prefill: a pair of panels is then 128 KiB and shares L2 with several tiles. The sums go through
/// the output between passes; the order of their terms stays that of the columns.
const PASS: usize = 2048;

/// `y = W x` of one token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &F16Matrix, x: &[f32], first: usize, out: &mut [f32]) {
    let panels = panels(matrix, first, out.len());
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::float16::gemv(panels, x, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::float16::gemv(panels, x, kernels.asks_ahead(), out) },
        _ => reference::float16(panels, x, out),
    }
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`].
pub(crate) fn gemm(kernels: Kernels, matrix: &F16Matrix, input: &Input, mut out: Strip<'_, f32>) {
    let (cols, first, rows) = (matrix.cols(), out.columns().start, out.columns().len());
    let Some(micro) = micro(kernels) else {
        for (t, x) in input.f32().chunks_exact(cols).enumerate() {
            gemv(kernels, matrix, x, first, out.row(t));
        }
        return;
    };
    let panels = panels(matrix, first, rows);
    if let (true, Some(kernel)) = (out.rows() > TILE, prefill_kernel(kernels)) {
        return Gemm { kernels, kernel, packing: Halves { panels, cols }, lines: cols, tiles: input.tiles() }.run(out);
    }
    for start in (0..cols).step_by(PASS) {
        let pass = PASS.min(cols - start);
        let together = TILES_BYTES / (pass * TILE * size_of::<f32>());
        tile::each_cell(out.rows(), rows, together, |cell| {
            let mut sums = [[0.0; 2 * PANEL]; TILE];
            if start > 0 {
                tile::load(&mut out, cell, &mut sums);
            }
            let pair: [&[f16]; 2] = std::array::from_fn(|p| {
                if p < cell.panels { &panels[((cell.panel + p) * cols + start) * PANEL..][..pass * PANEL] } else { &[] }
            });
            let pair = &pair[..cell.panels];
            let tile = &input.tiles()[(cell.tile * cols + start) * TILE..][..pass * TILE];
            // SAFETY: `micro` was chosen by `kernels`, which proves its features.
            unsafe { micro(pair, tile, cell.tokens, &mut sums) };
            tile::store(&mut out, cell, &sums);
        });
    }
}

/// Lines that are columns of f16, widened.
struct Halves<'a> {
    panels: &'a [f16],
    cols: usize,
}

impl Packing for Halves<'_> {
    type Value = f16;

    fn packed(&self, panel: usize, lines: Range<usize>) -> &[f16] {
        &self.panels[(panel * self.cols + lines.start) * PANEL..][..lines.len() * PANEL]
    }

    #[inline(always)]
    fn unpack<'b, L: Lanes>(lanes: L, packed: &[f16], lines: impl Iterator<Item = &'b mut Line>) {
        for (column, line) in packed.as_chunks().0.iter().zip(lines) {
            let mut wide = [0.0; PANEL];
            lanes.store(lanes.load_f16(column), &mut wide);
            line.0 = wide.map(f32::to_bits);
        }
    }
}

/// Adds the products of one or two panels and the first tokens of a tile to the sums.
type Micro = unsafe fn(panels: &[&[f16]], tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>);

/// The prefill kernel of a path; the scalar one goes token by token and has none.
fn micro(kernels: Kernels) -> Option<Micro> {
    match kernels.base() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::float16::micro),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::float16::micro),
        _ => None,
    }
}

/// The kernel of a path for more tokens than a tile's.
fn prefill_kernel(kernels: Kernels) -> Option<prefill::Kernel> {
    match kernels.base() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::float16::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::float16::wide),
        _ => None,
    }
}

/// The panels of `rows` rows from `first`.
fn panels(matrix: &F16Matrix, first: usize, rows: usize) -> &[f16] {
    &matrix.packed()[first * matrix.cols()..][..rows.div_ceil(PANEL) * PANEL * matrix.cols()]
}
