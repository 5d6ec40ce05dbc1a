//! Prefill with 16-bit floats: weights are unpacked, a stretch of columns at a time that stays in the nearest cache while all
//! tiles of tokens pass, so that the loop over them has nothing but multiply-adds.
//!
//! Each sum is one chain. Between stretches it waits in a buffer, between passes in the output.

use std::ops::Range;

use crate::kernels::isa::Kernels;
use crate::kernels::lanes::{self, Lanes, Step};
use crate::kernels::tile::{self, Accumulators, Cell, TILE, TILES_BYTES};
use crate::kernels::wide::{Sums, prefetch_outputs, prefetch_part};
use crate::quant::PANEL;
use crate::threads::Strip;

/// Lines unpacked at a time, whole pairs of columns: with two panels 20 KiB of weights and 7.5 KiB of a tile, within a
/// first-level cache of 32.
const STRETCH: usize = 160;
/// Tiles that pass over a stretch before the next is unpacked, which then is a hundredth of the time.
const TOGETHER: usize = 16;

/// What a multiply-add takes of a panel, in a cache line of its own: for each row one column as f32, or a pair as bf16.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [u32; PANEL]);

/// Adds the products of lines (`[line][panel]`) of one or two panels and the first tokens of a tile (`[line][token]`, f32 or
/// pairs of bf16 as the lines are) to the sums.
pub(crate) type Kernel =
    unsafe fn(weights: &[Line], panels: usize, tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>);

/// Packed weights.
pub(crate) trait Packing {
    /// What they are packed in.
    type Value;
    /// Some lines of a panel, whose number counts from the strip's first row.
    fn packed(&self, panel: usize, lines: Range<usize>) -> &[Self::Value];
    /// Writes such lines.
    fn unpack<'a, L: Lanes>(lanes: L, packed: &[Self::Value], lines: impl Iterator<Item = &'a mut Line>);
}

/// A prefill: what is multiplied, and by what.
pub(crate) struct Gemm<'a, P> {
    pub(crate) kernels: Kernels,
    /// One of `kernels`.
    pub(crate) kernel: Kernel,
    /// The weights of the strip.
    pub(crate) packing: P,
    /// Of a panel, and of a tile.
    pub(crate) lines: usize,
    /// All tokens.
    pub(crate) tiles: &'a [u32],
}

/// Tiles and lines that are worked on together.
struct Pass {
    tiles: Range<usize>,
    lines: Range<usize>,
}

impl<P: Packing> Gemm<'_, P> {
    /// `y = W x` of all tokens for the rows of `out`.
    pub(crate) fn run(&self, mut out: Strip<'_, f32>) {
        let tiles = out.rows().div_ceil(TILE);
        let together = tiles.div_ceil(tiles.div_ceil(TOGETHER));
        let lines = pass_lines(self.lines, together);
        let mut weights = vec![Line([0; PANEL]); 2 * STRETCH];
        let mut sums = vec![Sums([[0.0; 2 * PANEL]; TILE]); together];
        for first in (0..tiles).step_by(together) {
            for start in (0..self.lines).step_by(lines) {
                let tiles = first..tiles.min(first + together);
                let pass = Pass { tiles, lines: start..self.lines.min(start + lines) };
                for row in (0..out.columns().len()).step_by(2 * PANEL) {
                    self.pair(&pass, row, &mut weights, &mut sums, &mut out);
                }
            }
        }
    }

    /// A pass of the pair of panels from `row`. While tiles multiply, the weights that are unpacked next and the outputs'
    /// cache lines are on their way.
    fn pair(
        &self,
        pass: &Pass,
        row: usize,
        weights: &mut [Line],
        sums: &mut [Sums<f32, TILE>],
        out: &mut Strip<'_, f32>,
    ) {
        let (kernels, all) = (self.kernels, pass.tiles.len());
        let (begins, resumes) = (pass.lines.start, pass.lines.start > 0);
        if resumes {
            self.prefetch(self.cell(pass.tiles.start, row, out), out);
        }
        for start in pass.lines.clone().step_by(STRETCH) {
            let lines = start..pass.lines.end.min(start + STRETCH);
            let panels = self.cell(pass.tiles.start, row, out).panels;
            let weights = &mut weights[..lines.len() * panels];
            for panel in 0..panels {
                let packed = self.packing.packed(row / PANEL + panel, lines.clone());
                lanes::run(kernels, Unpack::<P> { packed, weights, panels, panel });
            }
            let next = self.next(pass, row, lines.end, out.columns().len());
            for (index, (t, Sums(sums))) in pass.tiles.clone().zip(&mut *sums).enumerate() {
                let cell = self.cell(t, row, out);
                next.iter().for_each(|packed| prefetch_part(packed, index, all));
                if start == begins && !resumes {
                    *sums = [[0.0; 2 * PANEL]; TILE];
                } else if start == begins {
                    lanes::run(kernels, Resume { out, cell, sums });
                    if t + 1 < pass.tiles.end {
                        self.prefetch(self.cell(t + 1, row, out), out);
                    }
                }
                let ends = lines.end == pass.lines.end;
                if ends {
                    self.prefetch(cell, out);
                }
                let tile = &self.tiles[(t * self.lines + lines.start) * TILE..][..lines.len() * TILE];
                // SAFETY: `kernel` is one of `kernels`, which prove its features.
                unsafe { (self.kernel)(weights, panels, tile, cell.tokens, sums) };
                if ends {
                    lanes::run(kernels, Leave { out, cell, sums });
                }
            }
        }
    }

    /// The outputs of a tile and the pair of panels from `row`.
    fn cell(&self, tile: usize, row: usize, out: &Strip<'_, f32>) -> Cell {
        let (token, rows) = (tile * TILE, (out.columns().len() - row).min(2 * PANEL));
        let (panel, panels) = (row / PANEL, rows.div_ceil(PANEL));
        Cell { tile, token, tokens: (out.rows() - token).min(TILE), panel, panels, row, rows }
    }

    /// What is unpacked after the lines before `end` of the pair of panels from `row`: the next, or the first of the next
    /// pair.
    fn next(&self, pass: &Pass, row: usize, end: usize, rows: usize) -> [&[P::Value]; 2] {
        let (row, start) = if end < pass.lines.end { (row, end) } else { (row + 2 * PANEL, pass.lines.start) };
        std::array::from_fn(|p| {
            let there = row + p * PANEL < rows;
            if there { self.packing.packed(row / PANEL + p, start..pass.lines.end.min(start + STRETCH)) } else { &[] }
        })
    }

    fn prefetch(&self, cell: Cell, out: &mut Strip<'_, f32>) {
        (0..cell.tokens).for_each(|t| prefetch_outputs(&mut out.row(cell.token + t)[cell.row..][..cell.rows]));
    }
}

/// Lines of a pass of `tiles` tiles, whole stretches: as many as leave the tiles in the second-level cache, and then as even
/// as passes can be.
fn pass_lines(lines: usize, tiles: usize) -> usize {
    let most = TILES_BYTES / (tiles * TILE * size_of::<u32>()) / STRETCH * STRETCH;
    lines.div_ceil(lines.div_ceil(most)).next_multiple_of(STRETCH)
}

/// Unpacks some lines of a panel, among those of the panels beside it.
struct Unpack<'a, P: Packing> {
    packed: &'a [P::Value],
    weights: &'a mut [Line],
    panels: usize,
    panel: usize,
}

impl<P: Packing> Step for Unpack<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let lines = self.weights.chunks_exact_mut(self.panels);
        P::unpack(lanes, self.packed, lines.map(|lines| &mut lines[self.panel]));
    }
}

/// Reads the sums of a cell back from the outputs.
struct Resume<'a, 'out> {
    out: &'a mut Strip<'out, f32>,
    cell: Cell,
    sums: &'a mut Accumulators<f32>,
}

impl Step for Resume<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        tile::load(self.out, self.cell, self.sums);
    }
}

/// Writes the sums of a cell to the outputs.
struct Leave<'a, 'out> {
    out: &'a mut Strip<'out, f32>,
    cell: Cell,
    sums: &'a Accumulators<f32>,
}

impl Step for Leave<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        tile::store(self.out, self.cell, self.sums);
    }
}
