//! f16 or bf16 weights times f32 activations, by ISA.

pub(crate) mod prefill;

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::lanes::Lanes;
use super::reference;
use super::tile::{self, Accumulators, TILE, TILES_BYTES};
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::input::Input;
use crate::quant::{Float16, Float16Matrix, PANEL};
use crate::threads::Strip;

/// Columns of a pass of prefill: a pair of panels is then 128 KiB and shares L2 with several tiles. The sums go through
/// the output between passes; the order of their terms stays that of the columns.
const PASS: usize = 2048;

/// A 16-bit float that every path has kernels for.
pub(crate) trait Element: Float16 + Widen {
    /// A column of a panel, widened exactly.
    fn load<L: Lanes>(lanes: L, from: &[Self; PANEL]) -> L::V;
}

#[cfg(target_arch = "x86_64")]
pub(crate) trait Widen: avx2::float16::Widen + avx512::float16::Widen {}
#[cfg(target_arch = "x86_64")]
impl<E: avx2::float16::Widen + avx512::float16::Widen> Widen for E {}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) trait Widen {}
#[cfg(not(target_arch = "x86_64"))]
impl<E> Widen for E {}

impl Element for f16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[f16; PANEL]) -> L::V {
        lanes.load_f16(from)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, from: &[bf16; PANEL]) -> L::V {
        lanes.load(&from.map(|w| f32::from_bits(u32::from(w.to_bits()) << 16)))
    }
}

/// `y = W x` of one token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv<E: Element>(kernels: Kernels, matrix: &Float16Matrix<E>, x: &[f32], first: usize, out: &mut [f32]) {
    let panels = panels(matrix, first, out.len());
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::float16::gemv(panels, x, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::float16::gemv(panels, x, out) },
        _ => reference::float16(panels, x, out),
    }
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`].
pub(crate) fn gemm<E: Element>(kernels: Kernels, matrix: &Float16Matrix<E>, input: &Input, mut out: Strip<'_, f32>) {
    let (cols, first, rows) = (matrix.cols(), out.columns().start, out.columns().len());
    let Some(micro) = micro(kernels) else {
        for (t, x) in input.f32().chunks_exact(cols).enumerate() {
            gemv(kernels, matrix, x, first, out.row(t));
        }
        return;
    };
    let panels = panels(matrix, first, rows);
    if let (true, Some(kernel)) = (out.rows() > TILE, prefill_kernel(kernels)) {
        return prefill::Gemm { kernels, kernel, panels, cols, tiles: input.tiles() }.run(out);
    }
    for start in (0..cols).step_by(PASS) {
        let pass = PASS.min(cols - start);
        let together = TILES_BYTES / (pass * TILE * size_of::<f32>());
        tile::each_cell(out.rows(), rows, together, |cell| {
            let mut sums = [[0.0; 2 * PANEL]; TILE];
            if start > 0 {
                tile::load(&mut out, cell, &mut sums);
            }
            let pair: [&[E]; 2] = std::array::from_fn(|p| {
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

/// Adds the products of one or two panels and the first tokens of a tile to the sums.
type Micro<E> = unsafe fn(panels: &[&[E]], tile: &[f32], tokens: usize, sums: &mut Accumulators<f32>);

/// The prefill kernel of a path; the scalar one goes token by token and has none.
fn micro<E: Element>(kernels: Kernels) -> Option<Micro<E>> {
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
fn panels<E: Element>(matrix: &Float16Matrix<E>, first: usize, rows: usize) -> &[E] {
    &matrix.packed()[first * matrix.cols()..][..rows.div_ceil(PANEL) * PANEL * matrix.cols()]
}
