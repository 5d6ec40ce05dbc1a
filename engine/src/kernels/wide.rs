//! Prefill with ternary weights: panels are unpacked to a byte a weight, a stretch of columns at a time that stays in the
//! nearest cache while all tiles of tokens pass.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::lanes::{self, Lanes, Step};
use super::ternary::{Outputs, tiles_together};
use super::tile::{Accumulators, TILE};
#[cfg(target_arch = "x86_64")]
use super::x86::{self, avx2, avx512, avxvnni};
use crate::input::Int8;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};
use crate::quant::{PANEL, base3};
use crate::threads::Strip;

/// Columns unpacked at a time, whole blocks of either packing: with two panels 20 KiB of weights and 8 KiB of a tile,
/// within a first-level cache of 32.
pub(super) const COLUMNS: usize = 8 * base3::PERIOD;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of four columns of a panel.
const GROUP_BYTES: usize = 4 * PANEL;

/// Four columns of the rows of a panel, `[row][4]`, in a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Group(pub(crate) [u8; GROUP_BYTES]);

/// The sums of a tile, each token's of a panel in a cache line of their own.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Sums<T>(pub(super) Accumulators<T>);

/// Adds the products of unpacked weights (`[column / 4][panel]`) of one or two panels with the first tokens of a
/// tile (`[column / 4][token]`) to the sums.
pub(super) type Kernel =
    unsafe fn(weights: &[Group], panels: usize, tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>);

/// The kernel of a path.
pub(super) fn kernel(kernels: Kernels) -> Option<Kernel> {
    match kernels.isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::ternary::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => Some(avxvnni::ternary::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::ternary::wide),
        _ => None,
    }
}

/// Where a panel's weights go: its groups of four columns among those of the panels beside it.
pub(super) struct Place<'a> {
    kernels: Kernels,
    weights: &'a mut [Group],
    panels: usize,
    panel: usize,
}

impl Place<'_> {
    /// Unpacks blocks of 2-bit codes.
    pub(super) fn fill(self, blocks: &[[u8; BLOCK_BYTES]]) {
        lanes::run(self.kernels, Fill { place: self, blocks });
    }
}

struct Fill<'a> {
    place: Place<'a>,
    blocks: &'a [[u8; BLOCK_BYTES]],
}

impl Step for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Place { weights, panels, panel, .. } = self.place;
        let groups = weights.chunks_exact_mut(panels * BLOCK / 4);
        for (block, groups) in self.blocks.iter().zip(groups) {
            let codes = *block;
            for s in 0..BLOCK / 4 {
                let mut weights = [0; GROUP_BYTES];
                for (weight, codes) in weights.iter_mut().zip(&codes) {
                    *weight = codes >> (2 * s) & 3;
                }
                groups[s * panels + panel] = Group(weights);
            }
        }
    }
}

/// Packed weights of either packing.
pub(super) trait Packing {
    /// The bytes of some columns (whole blocks of either packing, or to the end) of a panel, whose number counts from the
    /// strip's first row.
    fn bytes(&self, panel: usize, columns: Range<usize>) -> &[u8];
    /// Unpacks such bytes.
    fn unpack(&self, bytes: &[u8], columns: Range<usize>, place: Place<'_>);
}

/// A prefill: what is multiplied, and by what.
pub(super) struct Gemm<'a, P> {
    pub(super) kernels: Kernels,
    pub(super) kernel: Kernel,
    pub(super) packing: P,
    pub(super) input: &'a Int8,
    /// Of the weights.
    pub(super) scale: f32,
}

impl<P: Packing> Gemm<'_, P> {
    /// `y = W x` of all tokens for the rows of `out`.
    pub(super) fn run(&self, mut out: Strip<'_, f32>) {
        let (rows, tokens) = (out.columns().len(), out.rows());
        let together = tiles_together(self.input).max(1);
        let mut weights = vec![Group([0; GROUP_BYTES]); 2 * COLUMNS / 4];
        let mut sums = vec![Sums([[0; 2 * PANEL]; TILE]); together.min(tokens.div_ceil(TILE))];
        for first in (0..tokens).step_by(together * TILE) {
            let tokens = first..tokens.min(first + together * TILE);
            for row in (0..rows).step_by(2 * PANEL) {
                let pair = row..rows.min(row + 2 * PANEL);
                self.pair(pair, tokens.clone(), &mut weights, &mut sums, &mut out);
            }
        }
    }

    /// The outputs of some tokens and a pair of panels. While tiles multiply, the weights that are unpacked next and, at
    /// the end, the outputs' cache lines are on their way.
    fn pair(
        &self,
        rows: Range<usize>,
        tokens: Range<usize>,
        weights: &mut [Group],
        sums: &mut [Sums<i32>],
        out: &mut Strip<'_, f32>,
    ) {
        let (kernels, input, scale, cols) = (self.kernels, self.input, self.scale, self.input.padded_to(BLOCK));
        let (first, panels) = (rows.start / PANEL, rows.len().div_ceil(PANEL));
        let tiles = tokens.len().div_ceil(TILE);
        for start in (0..cols).step_by(COLUMNS) {
            let columns = start..(start + COLUMNS).min(cols);
            let weights = &mut weights[..columns.len() / 4 * panels];
            for panel in 0..panels {
                let bytes = self.packing.bytes(first + panel, columns.clone());
                self.packing.unpack(bytes, columns.clone(), Place { kernels, weights, panels, panel });
            }
            let next = self.next(first, panels, &columns, out.columns().len());
            let (begins, ends) = (start == 0, columns.end == cols);
            for (index, (t, Sums(sums))) in tokens.clone().step_by(TILE).zip(&mut *sums).enumerate() {
                let tokens = t..tokens.end.min(t + TILE);
                next.iter().for_each(|bytes| prefetch_part(bytes, index, tiles));
                if begins {
                    *sums = [[0; 2 * PANEL]; TILE];
                }
                if ends {
                    tokens.clone().for_each(|t| prefetch_outputs(&mut out.row(t)[rows.clone()]));
                }
                let tile = &input.tile(t / TILE, BLOCK)[columns.start / 4 * TILE..columns.end / 4 * TILE];
                // SAFETY: `kernel` was chosen by `kernels`, which prove its features.
                unsafe { (self.kernel)(weights, panels, tile, tokens.len(), sums) };
                if ends {
                    lanes::run(kernels, Outputs { sums, tokens, rows: rows.clone(), input, scale, out });
                }
            }
        }
    }

    /// The packed bytes of what follows `columns` of a pair of panels: the next columns, or the first of the next pair.
    fn next(&self, first: usize, panels: usize, columns: &Range<usize>, rows: usize) -> [&[u8]; 2] {
        let cols = self.input.padded_to(BLOCK);
        let (first, start) = if columns.end < cols { (first, columns.end) } else { (first + panels, 0) };
        let bytes = |panel| {
            let there = panel < rows.div_ceil(PANEL) && panel < first + 2;
            if there { self.packing.bytes(panel, start..(start + COLUMNS).min(cols)) } else { &[] }
        };
        [bytes(first), bytes(first + 1)]
    }
}

/// Asks for part `index` of `parts` of some packed weights.
pub(super) fn prefetch_part<T>(packed: &[T], index: usize, parts: usize) {
    let line = LINE / size_of::<T>();
    let lines = packed.len().div_ceil(line);
    let part = lines * index / parts * line..(lines * (index + 1) / parts * line).min(packed.len());
    #[cfg(target_arch = "x86_64")]
    packed[part].chunks(line).for_each(|line| x86::prefetch_at(line.as_ptr().cast()));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = &packed[part];
}

/// Asks for outputs that will be written.
pub(super) fn prefetch_outputs(out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    out.chunks_mut(LINE / size_of::<f32>()).for_each(|line| x86::prefetch_to_write(line.as_mut_ptr()));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = out;
}
