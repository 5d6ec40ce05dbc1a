//! Prefill with ternary weights: panels are unpacked to a byte a weight, a stretch of columns at a time that stays in the
//! nearest cache while all tiles of tokens pass.

use std::ops::Range;

use super::isa::{Isa, Kernels};
use super::lanes::{self, Lanes, Step};
use super::ternary::Outputs;
use super::tile::{Accumulators, TILE, TILES_BYTES};
#[cfg(target_arch = "x86_64")]
use super::x86::{self, amx, avx2, avx512, avxvnni};
use crate::input::Int8;
use crate::quant::ternary::{BLOCK, BLOCK_BYTES};
use crate::quant::{PANEL, base3};
use crate::threads::Strip;

/// Columns unpacked at a time, whole blocks of either packing: with two panels 20 KiB of weights and 8 KiB of a tile,
/// within a first-level cache of 32.
pub(super) const COLUMNS: usize = 8 * base3::PERIOD;
/// What kernels that read rows may read beyond the last token, in tokens, and beyond the last column, in columns.
pub(crate) const ROOM: usize = 64;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of four columns of a panel.
const GROUP_BYTES: usize = 4 * PANEL;

/// Four columns of the rows of a panel, `[row][4]`, in a cache line of their own.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Group(pub(crate) [u8; GROUP_BYTES]);

/// The sums of `T` tokens, each token's of a panel in a cache line of their own.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Sums<S, const T: usize>(pub(super) [[S; 2 * PANEL]; T]);

/// Adds the products of unpacked weights (`[column / 4][panel]`) of one or two panels with the first tokens of a
/// tile (`[column / 4][token]`) to the sums.
type Kernel = unsafe fn(weights: &[Group], panels: usize, tile: &[i32], tokens: usize, sums: &mut Accumulators<i32>);

/// The vector kernel of a path.
fn kernel(kernels: Kernels) -> Option<Kernel> {
    match kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(avx512::ternary::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => Some(avxvnni::ternary::wide),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(avx2::ternary::wide),
        _ => None,
    }
}

/// What multiplies unpacked weights, `T` tokens at a time.
trait Multiply<const T: usize> {
    /// Columns are taken in multiples of this, a divisor of [`COLUMNS`]; weights beyond the last are 0.
    const STEP: usize;
    /// Bytes of activations worked on together, those of whole tokens: about half of a second-level cache.
    const TOGETHER: usize;

    /// Panels that the weights of `panels` panels take, one or two.
    fn places(panels: usize) -> usize;

    /// Adds the products of weights of some columns with tokens, at most `T`, to the sums.
    fn multiply(
        &self,
        weights: &[Group],
        input: &Int8,
        tokens: Range<usize>,
        columns: Range<usize>,
        sums: &mut Sums<i32, T>,
    );
}

/// Vector registers, which take tiles of tokens.
struct Vectors(Kernel);

impl Multiply<TILE> for Vectors {
    const STEP: usize = 4;
    const TOGETHER: usize = TILES_BYTES;

    fn places(panels: usize) -> usize {
        panels
    }

    fn multiply(
        &self,
        weights: &[Group],
        input: &Int8,
        tokens: Range<usize>,
        columns: Range<usize>,
        Sums(sums): &mut Sums<i32, TILE>,
    ) {
        let panels = weights.len() / (columns.len() / 4);
        let tile = &input.tile(tokens.start / TILE, BLOCK)[columns.start / 4 * TILE..columns.end / 4 * TILE];
        // SAFETY: the kernel was chosen by `Kernels`, which prove its features.
        unsafe { (self.0)(weights, panels, tile, tokens.len(), sums) };
    }
}

#[cfg(target_arch = "x86_64")]
impl Multiply<{ amx::TOKENS }> for amx::Tiles {
    const STEP: usize = amx::STEP;
    // All CPUs with AMX have second-level caches of 2 MiB.
    const TOGETHER: usize = 5 << 18;

    fn places(_: usize) -> usize {
        2
    }

    fn multiply(
        &self,
        weights: &[Group],
        input: &Int8,
        tokens: Range<usize>,
        columns: Range<usize>,
        Sums(sums): &mut Sums<i32, { amx::TOKENS }>,
    ) {
        let (activations, stride) = input.rows_from(tokens.start, columns.start);
        self.wide(weights, activations, stride, sums);
    }
}

/// Whether so many tokens are multiplied here, with weights unpacked before.
pub(super) fn takes(kernels: Kernels, tokens: usize) -> bool {
    tokens > TILE && kernel(kernels).is_some()
}

/// Whether the kernels read the activations of so many tokens as rows, up to [`ROOM`] tokens and columns at once.
pub(crate) fn reads_rows(kernels: Kernels, tokens: usize) -> bool {
    kernels.isa() == Isa::Amx && takes(kernels, tokens)
}

/// Whether the kernels read the activations of so many tokens in tiles.
pub(crate) fn reads_tiles(kernels: Kernels, tokens: usize) -> bool {
    tokens > 1 && kernels.isa() != Isa::Scalar && !reads_rows(kernels, tokens)
}

/// `y = W x` of all tokens for the rows of `out`; `scale` is that of the weights.
///
/// # Panics
/// If it does not take so many tokens.
pub(super) fn run(kernels: Kernels, packing: impl Packing, input: &Int8, scale: f32, out: Strip<'_, f32>) {
    #[cfg(target_arch = "x86_64")]
    if kernels.isa() == Isa::Amx {
        // SAFETY: `kernels` prove that there are tiles.
        let by = unsafe { amx::Tiles::configure() };
        return Gemm { kernels, by, packing, input, scale }.run(out);
    }
    let by = Vectors(kernel(kernels).expect("a path with a vector kernel"));
    Gemm { kernels, by, packing, input, scale }.run(out);
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
struct Gemm<'a, P, K> {
    kernels: Kernels,
    by: K,
    packing: P,
    input: &'a Int8,
    /// Of the weights.
    scale: f32,
}

impl<P: Packing, K> Gemm<'_, P, K> {
    /// `y = W x` of all tokens for the rows of `out`.
    fn run<const T: usize>(&self, mut out: Strip<'_, f32>)
    where
        K: Multiply<T>,
    {
        let (rows, tokens) = (out.columns().len(), out.rows());
        let together = (K::TOGETHER / self.input.padded() / T).max(1);
        let mut weights = vec![Group([0; GROUP_BYTES]); 2 * COLUMNS / 4];
        let mut sums = vec![Sums([[0; 2 * PANEL]; T]); together.min(tokens.div_ceil(T))];
        for first in (0..tokens).step_by(together * T) {
            let tokens = first..tokens.min(first + together * T);
            for row in (0..rows).step_by(2 * PANEL) {
                let pair = row..rows.min(row + 2 * PANEL);
                self.pair(pair, tokens.clone(), &mut weights, &mut sums, &mut out);
            }
        }
    }

    /// The outputs of some tokens and a pair of panels. While tiles multiply, the weights that are unpacked next and the
    /// outputs' cache lines are on their way, each stretch of columns asking for some tokens'.
    fn pair<const T: usize>(
        &self,
        rows: Range<usize>,
        tokens: Range<usize>,
        weights: &mut [Group],
        sums: &mut [Sums<i32, T>],
        out: &mut Strip<'_, f32>,
    ) where
        K: Multiply<T>,
    {
        let (kernels, input, scale, cols) = (self.kernels, self.input, self.scale, self.input.padded_to(BLOCK));
        let (first, panels) = (rows.start / PANEL, rows.len().div_ceil(PANEL));
        let tiles = tokens.len().div_ceil(T);
        for start in (0..cols).step_by(COLUMNS) {
            let columns = start..(start + COLUMNS).min(cols);
            let weights = self.unpack(first, panels, columns.clone(), weights);
            let next = self.next(first, panels, &columns, out.columns().len());
            let (begins, ends) = (start == 0, columns.end == cols);
            for (index, (t, tile)) in tokens.clone().step_by(T).zip(&mut *sums).enumerate() {
                let tokens = t..tokens.end.min(t + T);
                next.iter().for_each(|bytes| prefetch_part(bytes, index, tiles));
                if begins {
                    tile.0 = [[0; 2 * PANEL]; T];
                }
                part(tokens.clone(), start / COLUMNS, cols.div_ceil(COLUMNS))
                    .for_each(|t| prefetch_outputs(&mut out.row(t)[rows.clone()]));
                self.by.multiply(weights, input, tokens.clone(), columns.clone(), tile);
                if ends {
                    lanes::run(kernels, Outputs { sums: &tile.0, tokens, rows: rows.clone(), input, scale, out });
                }
            }
        }
    }

    /// Unpacks some columns of one or two panels.
    fn unpack<'w, const T: usize>(
        &self,
        first: usize,
        panels: usize,
        columns: Range<usize>,
        weights: &'w mut [Group],
    ) -> &'w [Group]
    where
        K: Multiply<T>,
    {
        let places = K::places(panels);
        let weights = &mut weights[..columns.len().next_multiple_of(K::STEP) / 4 * places];
        let (used, beyond) = weights.split_at_mut(columns.len() / 4 * places);
        beyond.fill(Group([0; GROUP_BYTES]));
        for panel in 0..panels {
            let bytes = self.packing.bytes(first + panel, columns.clone());
            let place = Place { kernels: self.kernels, weights: used, panels: places, panel };
            self.packing.unpack(bytes, columns.clone(), place);
        }
        weights
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

/// Part `index` of `parts` of a range.
pub(super) fn part(all: Range<usize>, index: usize, parts: usize) -> Range<usize> {
    all.start + all.len() * index / parts..all.start + all.len() * (index + 1) / parts
}

/// Asks for part `index` of `parts` of some packed weights.
pub(super) fn prefetch_part<T>(packed: &[T], index: usize, parts: usize) {
    let line = LINE / size_of::<T>();
    let lines = part(0..packed.len().div_ceil(line), index, parts);
    let part = lines.start * line..(lines.end * line).min(packed.len());
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
