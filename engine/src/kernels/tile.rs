//! Prefill: blocks of tokens and panels that stay in the caches, and the loop over them.
//!
//! A tile is [`TILE`] tokens, transposed so that a kernel reads the activations of one column for all of them in one
//! stretch. A kernel takes two panels and one tile at a time and keeps their sums in registers.

use crate::quant::PANEL;
use crate::threads::Strip;

/// Tokens of a tile: with two panels of 16 rows, 24 of the 32 vector registers of AVX-512 are sums.
pub(crate) const TILE: usize = 12;

/// Bytes of tiles worked on together: half of a 1 MiB L2, the other half for weights and outputs.
pub(crate) const TILES_BYTES: usize = 512 << 10;

/// The sums of one tile: per token, those of two panels.
pub(crate) type Accumulators<T> = [[T; 2 * PANEL]; TILE];

/// Writes at most [`TILE`] rows of `cols` values, each through `f`, as a tile, `[column][token]`; absent tokens are 0.
pub(crate) fn transpose<S: Copy, T: Copy + Default>(rows: &[S], cols: usize, tile: &mut [T], f: impl Fn(S) -> T) {
    let tokens = rows.len() / cols;
    assert!(tokens <= TILE && tile.len() == cols * TILE);
    if tokens < TILE {
        tile.fill(T::default());
    }
    for (t, row) in rows.chunks_exact(cols).enumerate() {
        for (out, &value) in tile.chunks_exact_mut(TILE).zip(row) {
            out[t] = f(value);
        }
    }
}

/// A part of the outputs of a prefill: the tokens of one tile, the rows of one or two panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The tile's number.
    pub(crate) tile: usize,
    /// The tile's first token.
    pub(crate) token: usize,
    /// Tokens, at most [`TILE`].
    pub(crate) tokens: usize,
    /// The first panel, counted from the strip's first row.
    pub(crate) panel: usize,
    /// Panels, 1 or 2.
    pub(crate) panels: usize,
    /// The first row in the strip.
    pub(crate) row: usize,
    /// Rows, fewer than `16 panels` at the end of the matrix.
    pub(crate) rows: usize,
}

/// Calls `f` for each cell of a strip: `together` tiles at a time, so that they stay in L2 while all panels pass, and
/// within them pair by pair, so that a pair stays there while the tiles pass.
pub(crate) fn each_cell(tokens: usize, rows: usize, together: usize, mut f: impl FnMut(Cell)) {
    let tiles = tokens.div_ceil(TILE);
    let panels = rows.div_ceil(PANEL);
    for first in (0..tiles).step_by(together.max(1)) {
        for panel in (0..panels).step_by(2) {
            for tile in first..(first + together.max(1)).min(tiles) {
                let (token, row) = (tile * TILE, panel * PANEL);
                let pair = (panels - panel).min(2);
                let tokens = (tokens - token).min(TILE);
                f(Cell { tile, token, tokens, panel, panels: pair, row, rows: (rows - row).min(pair * PANEL) });
            }
        }
    }
}

/// Reads the sums of a cell back from the outputs that [`store`] wrote.
#[inline(always)]
pub(crate) fn load(out: &mut Strip<'_, f32>, cell: Cell, sums: &mut Accumulators<f32>) {
    for (t, sums) in sums[..cell.tokens].iter_mut().enumerate() {
        let out = &out.row(cell.token + t)[cell.row..][..cell.rows];
        match <&[f32; 2 * PANEL]>::try_from(out) {
            Ok(out) => *sums = *out,
            Err(_) => sums[..cell.rows].copy_from_slice(out),
        }
    }
}

/// Writes the sums of a cell to the outputs.
#[inline(always)]
pub(crate) fn store(out: &mut Strip<'_, f32>, cell: Cell, sums: &Accumulators<f32>) {
    for (t, sums) in sums[..cell.tokens].iter().enumerate() {
        let out = &mut out.row(cell.token + t)[cell.row..][..cell.rows];
        match <&mut [f32; 2 * PANEL]>::try_from(&mut *out) {
            Ok(out) => *out = *sums,
            Err(_) => out.copy_from_slice(&sums[..cell.rows]),
        }
    }
}
