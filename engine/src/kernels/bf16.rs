//! bf16 weights times bf16 activations, by ISA: what is computed is told in [`crate::quant::float16`].

use std::ops::Range;

use half::bf16;

use super::float16::prefill::{Gemm, Kernel, Line, Packing};
#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::lanes::{self, Lanes, Step};
use super::reference;
use super::tile::{TILE, transpose};
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::input::Bf16;
use crate::quant::float16::bf16_activation;
use crate::quant::{Bf16Matrix, PANEL};
use crate::threads::Strip;

/// The values of a pair of columns of a panel.
const PAIR: usize = 2 * PANEL;

/// Whether a matrix is multiplied with one token by `vdpbf16ps`; else its weights are widened to f32.
pub(crate) fn by_pairs(kernels: Kernels, matrix: &Bf16Matrix) -> bool {
    kernels.multiplies_bf16() && !matrix.holds_tiny()
}

/// Whether several tokens are; else the weights are widened to f32 once for all of them.
pub(crate) fn batches_by_pairs(kernels: Kernels, matrix: &Bf16Matrix) -> bool {
    kernels.batches_by_bf16() && by_pairs(kernels, matrix)
}

/// Rounds the activations of a token, two to a word, the even column in the lower half.
pub(crate) fn round(kernels: Kernels, x: &[f32], pairs: &mut [u32]) {
    lanes::run(kernels, Round { x, pairs });
}

struct Round<'a> {
    x: &'a [f32],
    pairs: &'a mut [u32],
}

impl Step for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let (x, rest) = self.x.as_chunks::<2>();
        let pair = |even, odd| u32::from(bf16_activation(even)) | u32::from(bf16_activation(odd)) << 16;
        self.pairs.iter_mut().zip(x).for_each(|(out, &[even, odd])| *out = pair(even, odd));
        if let (&[even], Some(out)) = (rest, self.pairs.last_mut()) {
            *out = pair(even, 0.0);
        }
    }
}

/// The two activations of a pair as f32, in the order of their products.
#[inline(always)]
pub(crate) fn widened(pair: u32) -> [u32; 2] {
    [pair & 0xffff_0000, pair << 16]
}

/// Writes at most [`TILE`] tokens of `pairs` pairs as a tile of pairs, `[pair][token]`.
pub(crate) fn tile_of_pairs(tokens: &[u32], pairs: usize, tile: &mut [u32]) {
    transpose(tokens, pairs, tile, |pair| pair);
}

/// As [`tile_of_pairs`] a tile of f32, `[column][token]`, the columns in the order of their products.
pub(crate) fn tile_of_columns(tokens: &[u32], pairs: usize, tile: &mut [u32]) {
    if tokens.len() < TILE * pairs {
        tile.fill(0);
    }
    for (t, token) in tokens.chunks_exact(pairs).enumerate() {
        for (out, &pair) in tile.chunks_exact_mut(2 * TILE).zip(token) {
            [out[t], out[TILE + t]] = widened(pair);
        }
    }
}

/// `y = W x` of one token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &Bf16Matrix, pairs: &[u32], first: usize, out: &mut [f32]) {
    let panels = panels(matrix, first, out.len());
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if by_pairs(kernels, matrix) => unsafe { avx512::bf16::gemv(panels, pairs, out) },
        // SAFETY: as above; AVX-512 is AVX2 too.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => unsafe { avx2::bf16::gemv(panels, pairs, kernels.asks_ahead(), out) },
        _ => reference::bf16(panels, pairs, out),
    }
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`].
pub(crate) fn gemm(kernels: Kernels, matrix: &Bf16Matrix, input: &Bf16, mut out: Strip<'_, f32>) {
    let (first, rows) = (out.columns().start, out.columns().len());
    let Some(kernel) = kernel(kernels, matrix) else {
        for t in 0..out.rows() {
            gemv(kernels, matrix, input.token(t), first, out.row(t));
        }
        return;
    };
    let (panels, pairs) = (panels(matrix, first, rows), matrix.cols().div_ceil(2));
    if batches_by_pairs(kernels, matrix) {
        let packing = Pairs { panels, pairs };
        Gemm { kernels, kernel, packing, lines: pairs, tiles: input.pair_tiles() }.run(out);
    } else {
        let packing = Columns(Pairs { panels, pairs });
        Gemm { kernels, kernel, packing, lines: 2 * pairs, tiles: input.column_tiles() }.run(out);
    }
}

/// The prefill kernel of a path; the scalar one goes token by token and has none.
fn kernel(kernels: Kernels, matrix: &Bf16Matrix) -> Option<Kernel> {
    match kernels.base() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if batches_by_pairs(kernels, matrix) => Some(avx512::bf16::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::float16::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::float16::wide),
        _ => None,
    }
}

/// The panels of `rows` rows from `first`.
fn panels(matrix: &Bf16Matrix, first: usize, rows: usize) -> &[bf16] {
    let len = Bf16Matrix::panel_len(matrix.cols());
    &matrix.packed()[first / PANEL * len..][..rows.div_ceil(PANEL) * len]
}

/// Lines that are pairs of columns, as they are packed.
struct Pairs<'a> {
    panels: &'a [bf16],
    pairs: usize,
}

impl Packing for Pairs<'_> {
    type Value = bf16;

    fn packed(&self, panel: usize, lines: Range<usize>) -> &[bf16] {
        &self.panels[(panel * self.pairs + lines.start) * PAIR..][..lines.len() * PAIR]
    }

    #[inline(always)]
    fn unpack<'b, L: Lanes>(_: L, packed: &[bf16], lines: impl Iterator<Item = &'b mut Line>) {
        packed.as_chunks().0.iter().zip(lines).for_each(|(pair, line)| line.0 = words(pair));
    }
}

/// Lines that are columns of f32, in the order of their products.
struct Columns<'a>(Pairs<'a>);

impl Packing for Columns<'_> {
    type Value = bf16;

    fn packed(&self, panel: usize, lines: Range<usize>) -> &[bf16] {
        self.0.packed(panel, lines.start / 2..lines.end / 2)
    }

    #[inline(always)]
    fn unpack<'b, L: Lanes>(_: L, packed: &[bf16], mut lines: impl Iterator<Item = &'b mut Line>) {
        for pair in packed.as_chunks().0 {
            // In the order of `widened`, each by a loop of its own: vectors hold one of the two.
            let words = words(pair);
            if let Some(line) = lines.next() {
                line.0 = words.map(|word| widened(word)[0]);
            }
            if let Some(line) = lines.next() {
                line.0 = words.map(|word| widened(word)[1]);
            }
        }
    }
}

/// A pair of columns as words, the even column's values in the lower halves.
#[inline(always)]
fn words(pair: &[bf16; PAIR]) -> [u32; PANEL] {
    std::array::from_fn(|r| u32::from(pair[2 * r].to_bits()) | u32::from(pair[2 * r + 1].to_bits()) << 16)
}
