//! Prefill with 16-bit floats: weights are widened to f32, a stretch of columns at a time that stays in the nearest cache
//! while all tiles of tokens pass, so that the loop over them has nothing but multiply-adds.
//!
//! Each sum is one chain in column order. Between stretches it waits in a buffer, between passes in the output.

use std::ops::Range;

use super::Element;
use crate::kernels::isa::Kernels;
use crate::kernels::lanes::{self, Lanes, Step};
use crate::kernels::tile::{self, Accumulators, Cell, TILE, TILES_BYTES};
use crate::kernels::wide::{Sums, prefetch_outputs, prefetch_part};
use crate::quant::PANEL;
use crate::threads::Strip;

/// Columns widened at a time: with two panels 20 KiB of weights and 7.5 KiB of a tile, within a first-level cache of 32.
const COLUMNS: usize = 160;
/// Tiles that pass over a stretch before the next is widened, which then is a hundredth of the time.
const TOGETHER: usize = 16;

/// A column of a panel, in a cache line of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Column(pub(crate) [f32; PANEL]);

/// Adds the products of widened weights (`[column][panel]`) of one or two panels and the first tokens of a tile
/// (`[column][token]`) to the sums.
pub(super) type Kernel =
    unsafe fn(weights: &[Column], panels: usize, tile: &[f32], tokens: usize, sums: &mut Accumulators<f32>);

/// A prefill: what is multiplied, and by what.
pub(super) struct Gemm<'a, E> {
    pub(super) kernels: Kernels,
    /// One of `kernels`.
    pub(super) kernel: Kernel,
    /// Those of the strip.
    pub(super) panels: &'a [E],
    pub(super) cols: usize,
    /// All tokens.
    pub(super) tiles: &'a [f32],
}

/// Tiles and columns that are worked on together.
struct Pass {
    tiles: Range<usize>,
    columns: Range<usize>,
}

impl<E: Element> Gemm<'_, E> {
    /// `y = W x` of all tokens for the rows of `out`.
    pub(super) fn run(&self, mut out: Strip<'_, f32>) {
        let tiles = out.rows().div_ceil(TILE);
        let together = tiles.div_ceil(tiles.div_ceil(TOGETHER));
        let columns = pass_columns(self.cols, together);
        let mut weights = vec![Column([0.0; PANEL]); 2 * COLUMNS];
        let mut sums = vec![Sums([[0.0; 2 * PANEL]; TILE]); together];
        for first in (0..tiles).step_by(together) {
            for start in (0..self.cols).step_by(columns) {
                let tiles = first..tiles.min(first + together);
                let pass = Pass { tiles, columns: start..self.cols.min(start + columns) };
                for row in (0..out.columns().len()).step_by(2 * PANEL) {
                    self.pair(&pass, row, &mut weights, &mut sums, &mut out);
                }
            }
        }
    }

    /// A pass of the pair of panels from `row`. While tiles multiply, the weights that are widened next and the outputs'
    /// cache lines are on their way.
    fn pair(
        &self,
        pass: &Pass,
        row: usize,
        weights: &mut [Column],
        sums: &mut [Sums<f32, TILE>],
        out: &mut Strip<'_, f32>,
    ) {
        let (kernels, all) = (self.kernels, pass.tiles.len());
        let (begins, resumes) = (pass.columns.start, pass.columns.start > 0);
        if resumes {
            self.prefetch(self.cell(pass.tiles.start, row, out), out);
        }
        for start in pass.columns.clone().step_by(COLUMNS) {
            let columns = start..pass.columns.end.min(start + COLUMNS);
            let panels = self.cell(pass.tiles.start, row, out).panels;
            let weights = &mut weights[..columns.len() * panels];
            for panel in 0..panels {
                let packed = self.packed(row / PANEL + panel, columns.clone());
                lanes::run(kernels, Widen { packed, weights, panels, panel });
            }
            let next = self.next(pass, row, columns.end, out.columns().len());
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
                let ends = columns.end == pass.columns.end;
                if ends {
                    self.prefetch(cell, out);
                }
                let tile = &self.tiles[(t * self.cols + columns.start) * TILE..][..columns.len() * TILE];
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

    /// Some columns of a panel, whose number counts from the strip's first row.
    fn packed(&self, panel: usize, columns: Range<usize>) -> &[E] {
        &self.panels[(panel * self.cols + columns.start) * PANEL..][..columns.len() * PANEL]
    }

    /// What is widened after the columns before `end` of the pair of panels from `row`: the next, or the first of the next
    /// pair.
    fn next(&self, pass: &Pass, row: usize, end: usize, rows: usize) -> [&[E]; 2] {
        let (row, start) = if end < pass.columns.end { (row, end) } else { (row + 2 * PANEL, pass.columns.start) };
        std::array::from_fn(|p| {
            let there = row + p * PANEL < rows;
            if there { self.packed(row / PANEL + p, start..pass.columns.end.min(start + COLUMNS)) } else { &[] }
        })
    }

    fn prefetch(&self, cell: Cell, out: &mut Strip<'_, f32>) {
        (0..cell.tokens).for_each(|t| prefetch_outputs(&mut out.row(cell.token + t)[cell.row..][..cell.rows]));
    }
}

/// Columns of a pass of `tiles` tiles, whole stretches: as many as leave the tiles in the second-level cache, and then as
/// even as passes can be.
fn pass_columns(cols: usize, tiles: usize) -> usize {
    let most = TILES_BYTES / (tiles * TILE * size_of::<f32>()) / COLUMNS * COLUMNS;
    cols.div_ceil(cols.div_ceil(most)).next_multiple_of(COLUMNS)
}

/// Widens some columns of a panel, among those of the panels beside it.
struct Widen<'a, E> {
    packed: &'a [E],
    weights: &'a mut [Column],
    panels: usize,
    panel: usize,
}

impl<E: Element> Step for Widen<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let columns = self.weights.chunks_exact_mut(self.panels);
        for (packed, columns) in self.packed.as_chunks::<PANEL>().0.iter().zip(columns) {
            lanes.store(E::load(lanes, packed), &mut columns[self.panel].0);
        }
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
