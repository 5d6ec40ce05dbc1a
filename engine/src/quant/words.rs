//! Packed trits of files as words, of which panels are made without looking at single weights.
//!
//! A word holds 16 neighbouring columns of a row as a panel's block of [`super::ternary`] does: byte `j` has the code
//! (weight + 1) of column `4 s + j` at bits `2 s`. All layouts of two bits keep four codes of a byte in columns (or rows)
//! that lie a power of two apart, so 16 bytes become four words by a transposition of 4 x 4 fields of two bits.

use super::PANEL;
use super::trits::BLOCK;

/// Columns of a word.
pub(crate) const COLS: usize = 16;
/// Sixteen codes of weight 0.
const ZEROS: u32 = 0x5555_5555;
/// The lowest field of each byte.
const FIELD: u32 = 0x0303_0303;

/// How trits lie in a file, where words can be made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// I2_S of x86 builds, rows of whole blocks of 128.
    Blocks128,
    /// I2_S of ARM builds, rows of whole blocks of 64.
    Blocks64,
    /// I2_S with four rows a byte.
    Rows4,
    /// Blocks of 256 with a scale each, rows of whole blocks.
    Tq1_0,
    Tq2_0,
    /// Hugging Face's: row `r + i R` (R a quarter of the rows) at bits `2 i`.
    Hf,
}

/// The trits of a matrix as a file has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedTrits<'a> {
    layout: Layout,
    bytes: &'a [u8],
    rows: usize,
    cols: usize,
}

impl<'a> PackedTrits<'a> {
    /// `None` if words cannot be made of this shape, or the bytes are too few.
    pub(crate) fn new(layout: Layout, bytes: &'a [u8], rows: usize, cols: usize) -> Option<Self> {
        let (unit, unit_bytes) = match layout {
            Layout::Blocks128 => (128, 32),
            Layout::Blocks64 => (64, 16),
            Layout::Tq1_0 => (BLOCK, TQ1_BYTES),
            Layout::Tq2_0 => (BLOCK, TQ2_BYTES),
            // Four rows to a byte of a column.
            Layout::Rows4 | Layout::Hf => (4, 1),
        };
        let across = if matches!(layout, Layout::Rows4 | Layout::Hf) { rows } else { cols };
        let fits = across.is_multiple_of(unit) && rows.checked_mul(cols)? / unit * unit_bytes <= bytes.len();
        (fits && rows > 0 && cols > 0).then_some(PackedTrits { layout, bytes, rows, cols })
    }

    /// Whether the scale is not part of the bytes, block by block.
    pub(crate) fn has_one_scale(&self) -> bool {
        !matches!(self.layout, Layout::Tq1_0 | Layout::Tq2_0)
    }

    /// Writes the words of the rows of a panel, row after row, `cols / 16` (rounded up) each; columns beyond the matrix
    /// have any code. Of a panel that is not full the rest of `words` is left as it was.
    ///
    /// # Panics
    /// If the panel is none of the matrix, or `words` is not of 16 rows.
    pub(crate) fn panel(&self, panel: usize, words: &mut [u32]) {
        let per_row = self.cols.div_ceil(COLS);
        assert!(words.len() == PANEL * per_row && panel * PANEL < self.rows, "panel {panel}");
        let first = panel * PANEL;
        let live = PANEL.min(self.rows - first);
        if self.layout == Layout::Rows4 {
            for (four, words) in words.chunks_exact_mut(4 * per_row).take(live / 4).enumerate() {
                four_rows(&self.bytes[(first / 4 + four) * self.cols..][..self.cols], per_row, words);
            }
            return;
        }
        for (r, words) in words.chunks_exact_mut(per_row).take(live).enumerate() {
            self.row(first + r, words);
        }
    }

    fn row(&self, row: usize, words: &mut [u32]) {
        let of_row = |bytes: usize| &self.bytes[row * bytes..][..bytes];
        match self.layout {
            Layout::Blocks128 => {
                let bytes = of_row(self.cols / 4).as_chunks::<32>().0;
                bytes.iter().zip(words.as_chunks_mut::<8>().0).for_each(|(bytes, words)| blocks128(bytes, words));
            }
            Layout::Blocks64 => {
                let bytes = of_row(self.cols / 4).as_chunks::<16>().0;
                for (bytes, words) in bytes.iter().zip(words.as_chunks_mut::<4>().0) {
                    *words = reversed(transpose(load(bytes)));
                }
            }
            Layout::Tq1_0 => {
                let bytes = of_row(self.cols / BLOCK * TQ1_BYTES).as_chunks::<TQ1_BYTES>().0;
                bytes.iter().zip(words.as_chunks_mut::<16>().0).for_each(|(bytes, words)| tq1_0(bytes, words));
            }
            Layout::Tq2_0 => {
                let bytes = of_row(self.cols / BLOCK * TQ2_BYTES).as_chunks::<TQ2_BYTES>().0;
                bytes.iter().zip(words.as_chunks_mut::<16>().0).for_each(|(bytes, words)| tq2_0(bytes, words));
            }
            Layout::Hf => {
                let quarter = self.rows / 4;
                let bytes = &self.bytes[row % quarter * self.cols..][..self.cols];
                let shift = row / quarter * 2;
                for (bytes, word) in bytes.chunks(COLS).zip(words) {
                    *word = gather(padded(bytes).map(|fours| fours >> shift & FIELD));
                }
            }
            // See `PackedTrits::panel`.
            Layout::Rows4 => unreachable!("four rows at a time"),
        }
    }
}

/// Bytes of a block of TQ1_0 and of TQ2_0: codes, then an f16 scale.
const TQ1_BYTES: usize = 54;
const TQ2_BYTES: usize = 66;

/// 16 bytes as four words.
fn load(bytes: &[u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    let (fours, _) = bytes.as_chunks::<4>();
    words.iter_mut().zip(fours).for_each(|(word, &four)| *word = u32::from_le_bytes(four));
    words
}

/// Up to 16 bytes as four words, the rest of weight 0.
fn padded(bytes: &[u8]) -> [u32; 4] {
    match bytes.first_chunk::<16>() {
        Some(bytes) => load(bytes),
        None => {
            let mut whole = [ZEROS as u8; 16];
            whole[..bytes.len()].copy_from_slice(bytes);
            load(&whole)
        }
    }
}

/// One field of a byte each, of four times four columns, as a word.
fn gather(fours: [u32; 4]) -> u32 {
    fours[0] | fours[1] << 2 | fours[2] << 4 | fours[3] << 6
}

/// Word `n` takes as its field `i`, in each byte, field `n` of word `i`.
fn transpose([mut a, mut b, mut c, mut d]: [u32; 4]) -> [u32; 4] {
    fn swap(low: &mut u32, high: &mut u32, shift: u32, mask: u32) {
        let differing = (*low >> shift ^ *high) & mask;
        *high ^= differing;
        *low ^= differing << shift;
    }
    swap(&mut a, &mut c, 4, 0x0f0f_0f0f);
    swap(&mut b, &mut d, 4, 0x0f0f_0f0f);
    swap(&mut a, &mut b, 2, 0x3333_3333);
    swap(&mut c, &mut d, 2, 0x3333_3333);
    [a, b, c, d]
}

/// I2_S has its first values at the top of a byte.
fn reversed([a, b, c, d]: [u32; 4]) -> [u32; 4] {
    [d, c, b, a]
}

/// 32 bytes: value j of 128 in byte j % 32, the first 32 at the top.
fn blocks128(bytes: &[u8; 32], words: &mut [u32; 8]) {
    let (halves, _) = bytes.as_chunks::<16>();
    for (half, bytes) in halves.iter().enumerate() {
        for (n, word) in reversed(transpose(load(bytes))).into_iter().enumerate() {
            words[2 * n + half] = word;
        }
    }
}

/// A row of bytes, four rows of columns each, the first at the top.
fn four_rows(bytes: &[u8], per_row: usize, words: &mut [u32]) {
    for (at, bytes) in bytes.chunks(COLS).enumerate() {
        for (r, word) in reversed(transpose(padded(bytes))).into_iter().enumerate() {
            words[r * per_row + at] = word;
        }
    }
}

/// Whether the f16 scale at the end of a block is 0: the block holds zeros, whatever its codes say.
fn is_zero(scale: [u8; 2]) -> bool {
    scale[0] == 0 && scale[1] & 0x7f == 0
}

/// See [`super::trits::tq2_0`].
fn tq2_0(bytes: &[u8; TQ2_BYTES], words: &mut [u32; 16]) {
    if is_zero([bytes[64], bytes[65]]) {
        words.fill(ZEROS);
        return;
    }
    let (quarters, _) = bytes.as_chunks::<16>();
    for (quarter, bytes) in quarters.iter().enumerate() {
        for (n, word) in transpose(load(bytes)).into_iter().enumerate() {
            words[quarter / 2 * 8 + 2 * n + quarter % 2] = word;
        }
    }
}

/// See [`super::trits::tq1_0`].
fn tq1_0(bytes: &[u8; TQ1_BYTES], words: &mut [u32; 16]) {
    if is_zero([bytes[52], bytes[53]]) {
        words.fill(ZEROS);
        return;
    }
    let (sixteens, _) = bytes.as_chunks::<16>();
    let [low, high, rest] = [five(&sixteens[0]), five(&sixteens[1]), five(&sixteens[2])];
    for n in 0..5 {
        (words[2 * n], words[2 * n + 1], words[10 + n]) = (low[n], high[n], rest[n]);
    }
    let mut last = Digits::new(u32::from_le_bytes([bytes[48], bytes[49], bytes[50], bytes[51]]));
    words[15] = gather(std::array::from_fn(|_| last.next()));
}

/// The five digits of 16 bytes: a word each.
fn five(bytes: &[u8; 16]) -> [u32; 5] {
    let mut digits = load(bytes).map(Digits::new);
    std::array::from_fn(|_| gather(digits.each_mut().map(Digits::next)))
}

/// Digits in base three of four bytes, each a fraction of 256: what a multiplication by three carries out of the byte.
#[derive(Clone, Copy)]
struct Digits {
    even: u32,
    odd: u32,
}

impl Digits {
    fn new(bytes: u32) -> Digits {
        Digits { even: bytes & 0x00ff_00ff, odd: bytes >> 8 & 0x00ff_00ff }
    }

    fn next(&mut self) -> u32 {
        let (even, odd) = (self.even * 3, self.odd * 3);
        (self.even, self.odd) = (even & 0x00ff_00ff, odd & 0x00ff_00ff);
        even >> 8 & 0x0003_0003 | odd & 0x0300_0300
    }
}

/// The words of a row of trits; what is none becomes code 3.
pub(crate) fn of_trits(trits: &[i8], words: &mut [u32]) {
    let code = |trit: i8| (trit.wrapping_add(1) as u8).min(3);
    for (trits, word) in trits.chunks(COLS).zip(words) {
        let mut codes = [1; COLS];
        codes.iter_mut().zip(trits).for_each(|(out, &trit)| *out = code(trit));
        *word = gather(load(&codes));
    }
}

/// Rows of words, `words.len() / 16` each, side by side: a panel's bytes.
pub(crate) fn interleave(words: &[u32], panel: &mut [u8]) {
    let per_row = words.len() / PANEL;
    let (blocks, _) = panel.as_chunks_mut::<{ 4 * PANEL }>();
    for (at, block) in blocks.iter_mut().enumerate().take(per_row) {
        for (r, out) in block.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *out = words[r * per_row + at].to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
