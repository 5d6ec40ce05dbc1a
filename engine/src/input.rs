//! The input of linear layers: activations in f32 and, made at most once, in the forms that the kernels read.

use crate::kernels::activations::{BlockScale, TokenScale, quantise_blocks, quantise_token};
use crate::kernels::bf16;
use crate::kernels::isa::{Isa, Kernels};
use crate::kernels::tile::{TILE, transpose};
use crate::kernels::wide::{self, ROOM};
use crate::linear::Linear;
use crate::quant::buffer::{Buffer, Plain};
use crate::quant::{base3, q8};
use crate::threads::Team;

/// Tiles each worker must get for [`Input::fill`] to go tile by tile: fewer would leave workers idle.
const TILES_PER_WORKER: usize = 4;

/// Activations of some tokens, `tokens x cols` row-major, for one or more [`Linear`]s.
///
/// Write them by [`Input::f32_mut`], call [`Input::prepare`] for each linear that will read them, then
/// [`Linear::forward`].
#[derive(Debug)]
pub struct Input {
    max_tokens: usize,
    cols: usize,
    tokens: usize,
    values: Buffer<f32>,
    /// Whether `values` are those of these tokens.
    kept: bool,
    tiles: Tiles,
    bf16: Bf16,
    int8: Int8,
    q8: Q8,
}

/// A form in tiles of tokens, of words.
#[derive(Debug, Default)]
struct Tiles {
    ready: bool,
    words: Buffer<u32>,
}

/// The activations as bf16 weights read them: rounded, two columns to a word, filled up with a zero.
#[derive(Debug, Default)]
pub(crate) struct Bf16 {
    ready: bool,
    /// Of a token.
    pairs: usize,
    words: Buffer<u32>,
    /// The words, `[pair][token]`.
    pair_tiles: Tiles,
    /// f32, `[column][token]`.
    column_tiles: Tiles,
}

/// The activations as ternary weights read them: int8 with one scale a token, columns padded with zeros to whole blocks
/// of either packing.
#[derive(Debug, Default)]
pub(crate) struct Int8 {
    ready: bool,
    /// Without padding.
    cols: usize,
    values: Buffer<i8>,
    /// One a token.
    pub(crate) scales: Vec<TokenScale>,
    tiled: bool,
    /// Per tile of tokens, the values `[column / 4][token]`, four columns a word.
    tiles: Buffer<i32>,
}

/// The activations as q8 weights read them: int8 with one scale per 32 columns, padded with zeros.
#[derive(Debug, Default)]
pub(crate) struct Q8 {
    ready: bool,
    cols: usize,
    values: Buffer<i8>,
    scales: Vec<BlockScale>,
}

impl Int8 {
    /// Activations of a token with all padding.
    pub(crate) fn padded(&self) -> usize {
        self.cols.next_multiple_of(base3::PERIOD)
    }

    /// Columns, padded to a multiple of `block`.
    pub(crate) fn padded_to(&self, block: usize) -> usize {
        self.cols.next_multiple_of(block)
    }

    /// The activations of token `t`, padded to a multiple of `block` columns (one that divides [`base3::PERIOD`]).
    pub(crate) fn token(&self, t: usize, block: usize) -> &[i8] {
        &self.values[t * self.padded()..][..self.cols.next_multiple_of(block)]
    }

    /// The activations from a token and column on, and how far apart tokens are. What lies beyond the last token, and
    /// beyond the last column of a token, are any numbers.
    pub(crate) fn rows_from(&self, token: usize, column: usize) -> (&[i8], usize) {
        (&self.values[token * self.padded() + column..], self.padded())
    }

    /// Makes room for the values of so many tokens, and behind them for what kernels that read rows may read.
    fn make_room(&mut self, kernels: Kernels, tokens: usize) {
        let padded = self.padded();
        let more = if wide::reads_rows(kernels, tokens) { tokens.next_multiple_of(ROOM) * padded + ROOM } else { 0 };
        grown(&mut self.values, more.max(tokens * padded));
    }

    /// Words of a tile.
    pub(crate) fn tile_len(&self) -> usize {
        self.padded() / 4 * TILE
    }

    /// Tile `index`, padded to a multiple of `block` columns.
    ///
    /// # Panics
    /// If it was not prepared, which the scalar path and single tokens do without.
    pub(crate) fn tile(&self, index: usize, block: usize) -> &[i32] {
        assert!(self.tiled, "the input was prepared for other kernels");
        &self.tiles[index * self.tile_len()..][..self.cols.next_multiple_of(block) / 4 * TILE]
    }
}

impl Tiles {
    /// The tiles.
    ///
    /// # Panics
    /// If they were not prepared, which the scalar path and single tokens do without.
    fn get(&self) -> &[u32] {
        assert!(self.ready, "the input was not prepared for 16-bit weights and these kernels");
        &self.words
    }

    /// Makes them of `tokens` tokens, unless they are there, each of `len` words; `fill(nth, tile)` writes one.
    fn make(&mut self, team: &Team<'_>, tokens: usize, len: usize, fill: impl Fn(usize, &mut [u32]) + Sync) {
        if !self.ready {
            team.each_row(grown(&mut self.words, tokens.div_ceil(TILE) * len), len, fill);
            self.ready = true;
        }
    }
}

impl Bf16 {
    /// The activations of token `t`.
    pub(crate) fn token(&self, t: usize) -> &[u32] {
        &self.words[t * self.pairs..][..self.pairs]
    }

    /// Tiles of pairs, `[pair][token]`.
    ///
    /// # Panics
    /// As the next.
    pub(crate) fn pair_tiles(&self) -> &[u32] {
        self.pair_tiles.get()
    }

    /// Tiles of f32, `[column][token]`, the columns in the order of their products.
    ///
    /// # Panics
    /// If they were not prepared, which the scalar path and single tokens do without.
    pub(crate) fn column_tiles(&self) -> &[u32] {
        self.column_tiles.get()
    }
}

/// What becomes of one tile of tokens.
struct Part<'a, T> {
    data: &'a mut [T],
    values: &'a mut [i8],
    scales: &'a mut [TokenScale],
    tile: &'a mut [i32],
}

impl Int8 {
    /// As [`Input::fill`].
    fn fill<T: Send>(
        &mut self,
        (team, kernels): (&Team<'_>, Kernels),
        (data, width): (&mut [T], usize),
        f: impl Fn(usize, &mut [T], &mut [f32]) + Sync,
    ) {
        let (cols, padded, len, tokens) = (self.cols, self.padded(), self.tile_len(), data.len() / width);
        let tiled = wide::reads_tiles(kernels, tokens);
        self.make_room(kernels, tokens);
        let data = data.chunks_mut(TILE * width);
        let values = self.values[..tokens * padded].chunks_mut(TILE * padded);
        let scales = grow(&mut self.scales, tokens).chunks_mut(TILE);
        let tiles = grown(&mut self.tiles, if tiled { tokens.div_ceil(TILE) * len } else { 0 });
        let tiles = tiles.chunks_mut(len).chain(std::iter::repeat_with(Default::default));
        let parts = data.zip(values).zip(scales).zip(tiles);
        let mut parts: Vec<_> =
            parts.map(|(((data, values), scales), tile)| Part { data, values, scales, tile }).collect();
        team.each_row(&mut parts, 1, |index, part| {
            let Part { data, values, scales, tile } = &mut part[0];
            let mut row = vec![0.0; cols];
            let tokens = data.chunks_exact_mut(width).zip(values.chunks_exact_mut(padded)).zip(scales.iter_mut());
            for (t, ((data, values), scale)) in tokens.enumerate() {
                f(index * TILE + t, data, &mut row);
                *scale = quantise_token(kernels, &row, values);
            }
            if tiled {
                tile_words(values, padded, tile);
            }
        });
        (self.ready, self.tiled) = (true, tiled);
    }
}

/// Writes at most [`TILE`] rows of `padded` activations as a tile.
fn tile_words(values: &[i8], padded: usize, tile: &mut [i32]) {
    let words = values.as_chunks::<4>().0;
    transpose(words, padded / 4, tile, |a| i32::from_ne_bytes(a.map(|a| a as u8)));
}

impl Q8 {
    /// The padded activations of token `t` and the scales of its blocks.
    pub(crate) fn token(&self, t: usize) -> (&[i8], &[BlockScale]) {
        let blocks = self.cols / q8::BLOCK;
        (&self.values[t * self.cols..][..self.cols], &self.scales[t * blocks..][..blocks])
    }
}

impl Input {
    /// Room for `max_tokens` tokens of `cols` activations each.
    pub fn new(max_tokens: usize, cols: usize) -> Input {
        let int8 = Int8 { cols, ..Int8::default() };
        let q8 = Q8 { cols: cols.next_multiple_of(q8::BLOCK), ..Q8::default() };
        Input {
            max_tokens,
            cols,
            tokens: 0,
            values: room(max_tokens * cols),
            kept: true,
            tiles: Tiles::default(),
            bf16: Bf16 { pairs: cols.div_ceil(2), ..Bf16::default() },
            int8,
            q8,
        }
    }

    /// Activations of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Tokens held: what the last [`Input::f32_mut`] asked for.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The activations, `tokens x cols`.
    ///
    /// # Panics
    /// If they were made into int8 and not kept: never after [`Input::f32_mut`].
    pub fn f32(&self) -> &[f32] {
        assert!(self.kept, "the input was made for ternary weights alone");
        &self.values[..self.tokens * self.cols]
    }

    /// The activations of `tokens` tokens to write, `tokens x cols` (holding what was last written there); other forms
    /// made before are forgotten.
    ///
    /// # Panics
    /// If `tokens` is more than there is room for.
    pub fn f32_mut(&mut self, tokens: usize) -> &mut [f32] {
        assert!(tokens <= self.max_tokens, "{tokens} tokens where there is room for {}", self.max_tokens);
        self.tokens = tokens;
        self.kept = true;
        self.tiles.ready = false;
        self.bf16.ready = false;
        self.bf16.pair_tiles.ready = false;
        self.bf16.column_tiles.ready = false;
        self.int8.ready = false;
        self.int8.tiled = false;
        self.q8.ready = false;
        &mut self.values[..tokens * self.cols]
    }

    /// Makes the form that `linear` reads, unless it is there already. `kernels` must be those of the forward call.
    ///
    /// # Panics
    /// If `linear` has another number of columns.
    pub fn prepare(&mut self, team: &Team<'_>, kernels: Kernels, linear: &Linear) {
        assert_eq!(linear.cols(), self.cols, "columns of a linear layer and of its input");
        match linear {
            Linear::Ternary(_) | Linear::Base3(_) => self.prepare_int8(team, kernels),
            Linear::F16(_) => self.prepare_tiles(team, kernels),
            Linear::Bf16(matrix) => self.prepare_bf16(team, kernels, bf16::batches_by_pairs(kernels, matrix)),
            Linear::Q8(_) | Linear::Q6(_) => self.prepare_q8(team, kernels),
            Linear::Plain(_) => {}
        }
    }

    /// Writes the activations of as many tokens as `data` (`tokens x width`) has rows, `f(token, row of data, activations)`,
    /// and makes the forms that `linears` read. Where they read int8 alone, all this is done tile by tile, so that what the
    /// next step reads is still in a near cache, and the f32 activations are not kept.
    ///
    /// # Panics
    /// If there is no room for so many tokens, or a linear has another number of columns.
    pub(crate) fn fill<T: Send>(
        &mut self,
        (team, kernels): (&Team<'_>, Kernels),
        linears: &[&Linear],
        (data, width): (&mut [T], usize),
        f: impl Fn(usize, &mut [T], &mut [f32]) + Sync,
    ) {
        let (tokens, cols) = (data.len() / width, self.cols);
        let ternary = linears.iter().all(|linear| matches!(linear, Linear::Ternary(_) | Linear::Base3(_)));
        let enough = tokens.div_ceil(TILE) >= TILES_PER_WORKER * team.threads();
        if ternary && enough && kernels.isa() != Isa::Scalar {
            assert!(linears.iter().all(|linear| linear.cols() == cols), "columns of a linear layer and of its input");
            self.f32_mut(tokens);
            self.kept = false;
            return self.int8.fill((team, kernels), (data, width), f);
        }
        let out = self.f32_mut(tokens);
        team.each_row_pair((data, width), (out, cols), f);
        linears.iter().for_each(|linear| self.prepare(team, kernels, linear));
    }

    /// The bits of the f32 activations in tiles of tokens, `[column][token]`.
    ///
    /// # Panics
    /// If they were not prepared, which the scalar path and single tokens do without.
    pub(crate) fn tiles(&self) -> &[u32] {
        self.tiles.get()
    }

    /// The bf16 form.
    ///
    /// # Panics
    /// If it was not prepared.
    pub(crate) fn bf16(&self) -> &Bf16 {
        assert!(self.bf16.ready, "the input was not prepared for bf16 weights");
        &self.bf16
    }

    /// The int8 form.
    ///
    /// # Panics
    /// If it was not prepared.
    pub(crate) fn int8(&self) -> &Int8 {
        assert!(self.int8.ready, "the input was not prepared for ternary weights");
        &self.int8
    }

    /// The q8 form.
    ///
    /// # Panics
    /// If it was not prepared.
    pub(crate) fn q8(&self) -> &Q8 {
        assert!(self.q8.ready, "the input was not prepared for q8 weights");
        &self.q8
    }

    fn prepare_tiles(&mut self, team: &Team<'_>, kernels: Kernels) {
        if self.tokens <= 1 || kernels.isa() == Isa::Scalar {
            return;
        }
        let (cols, len) = (self.cols, self.cols * TILE);
        let x = &self.values[..self.tokens * cols];
        self.tiles.make(team, self.tokens, len, |i, tile| {
            let rows = &x[i * len..];
            transpose(&rows[..rows.len().min(len)], cols, tile, f32::to_bits);
        });
    }

    /// The bf16 form, in tiles of pairs or, if not `by_pairs`, of columns.
    fn prepare_bf16(&mut self, team: &Team<'_>, kernels: Kernels, by_pairs: bool) {
        let (cols, tokens, form) = (self.cols, self.tokens, &mut self.bf16);
        let pairs = form.pairs;
        if !form.ready {
            let x = &self.values;
            team.each_row(grown(&mut form.words, tokens * pairs), pairs, |t, out| {
                bf16::round(kernels, &x[t * cols..][..cols], out);
            });
            form.ready = true;
        }
        if tokens <= 1 || kernels.isa() == Isa::Scalar {
            return;
        }
        let words = &form.words[..tokens * pairs];
        let of_tile = |i: usize| &words[i * TILE * pairs..words.len().min((i + 1) * TILE * pairs)];
        if by_pairs {
            let fill = |i: usize, tile: &mut [u32]| bf16::tile_of_pairs(of_tile(i), pairs, tile);
            form.pair_tiles.make(team, tokens, pairs * TILE, fill);
        } else {
            let fill = |i: usize, tile: &mut [u32]| bf16::tile_of_columns(of_tile(i), pairs, tile);
            form.column_tiles.make(team, tokens, 2 * pairs * TILE, fill);
        }
    }

    fn prepare_int8(&mut self, team: &Team<'_>, kernels: Kernels) {
        let (cols, padded, tokens) = (self.cols, self.int8.padded(), self.tokens);
        if !self.int8.ready {
            self.int8.make_room(kernels, tokens);
            let out = &mut self.int8.values[..tokens * padded];
            let (x, scales) = (&self.values, grow(&mut self.int8.scales, tokens));
            team.each_row_pair((out, padded), (scales, 1), |t, out, scale| {
                scale[0] = quantise_token(kernels, &x[t * cols..][..cols], out);
            });
            self.int8.ready = true;
        }
        if self.int8.tiled || !wide::reads_tiles(kernels, tokens) {
            return;
        }
        let len = self.int8.tile_len();
        let tiles = grown(&mut self.int8.tiles, tokens.div_ceil(TILE) * len);
        let values = &self.int8.values[..tokens * padded];
        team.each_row(tiles, len, |i, tile| {
            let rows = &values[i * TILE * padded..];
            tile_words(&rows[..rows.len().min(TILE * padded)], padded, tile);
        });
        self.int8.tiled = true;
    }

    /// Makes the q8 form, unless it is there already.
    pub(crate) fn prepare_q8(&mut self, team: &Team<'_>, kernels: Kernels) {
        if self.q8.ready {
            return;
        }
        let (cols, padded) = (self.cols, self.q8.cols);
        let blocks = padded / q8::BLOCK;
        let out = grown(&mut self.q8.values, self.tokens * padded);
        let (x, scales) = (&self.values, grow(&mut self.q8.scales, self.tokens * blocks));
        team.each_row_pair((out, padded), (scales, blocks), |t, out, scales| {
            quantise_blocks(kernels, &x[t * cols..][..cols], out, scales);
        });
        self.q8.ready = true;
    }
}

/// The first `len` of `vec`, which grows to hold them but never shrinks: the hot path allocates only for its largest
/// batch.
fn grow<T: Clone + Default>(vec: &mut Vec<T>, len: usize) -> &mut [T] {
    if vec.len() < len {
        vec.resize(len, T::default());
    }
    &mut vec[..len]
}

/// The first `len` of `buffer`, which is made anew if it is smaller: what it held is lost then.
fn grown<T: Plain>(buffer: &mut Buffer<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        *buffer = room(len);
    }
    &mut buffer[..len]
}

/// Zeroes, in huge pages if there are that many: prefill takes columns of many tokens at once, each in a page of its own.
///
/// # Panics
/// If the system has no memory for them, as a `Vec` would.
fn room<T: Plain>(len: usize) -> Buffer<T> {
    Buffer::huge(len).unwrap_or_else(|error| panic!("activations: {error}"))
}
