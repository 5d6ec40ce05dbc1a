//! TL1 and TL2, bitnet.cpp's packings for its table-lookup kernels: where each weight of a tensor lies.
//!
//! From `utils/convert-hf-to-gguf-bitnet.py` and `utils/codegen_tl*.py` there. A tensor of M rows and K columns is cut into
//! tiles of BM rows and BK columns, numbers that are not in the file: they come from the kernel config file that the
//! kernels were generated with ([`Tile`]). Tiles lie row of tiles by row of tiles; in a tile, groups of `bmm` rows follow
//! each other, and in a group, chunks of columns.
//!
//! - TL1 holds pairs: the nibble 3 a + b + 4 of columns 2 p and 2 p + 1. A chunk has 256 / bmm columns; in it, 16 rows a
//!   step, 16 bytes (one a row) for each 4 columns, the first pair in the high nibble.
//! - TL2 holds triples in the columns below K - K mod BK: the nibble |9 a + 3 b + c|, chunks of 6 columns, 32 bytes each,
//!   one a row, the first triple in the high nibble. Behind all nibbles come the signs, chunks of 24 columns of 16 u16:
//!   the sign of triple t and row r is bit 15 - (2 t + r / 16) of word r mod 16. Behind those come the last K mod BK
//!   columns as pairs, in tiles of 32 columns and chunks of 4. Where a byte stands for a row, rows 8 to 15 and 16 to 23
//!   of 32 have changed places.

/// How one shape is cut: the lines `bm`, `bk` and `bmm` of a kernel config's section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows of a tile (`BM`).
    pub bm: usize,
    /// Columns of a tile (`BK`).
    pub bk: usize,
    /// Rows of a group (`bm` of the generator, `bmm` in the file).
    pub bmm: usize,
}

/// Rows of a group in TL2.
const ROWS: usize = 32;
/// Columns of a tile of pairs in TL2, and of a chunk there.
const PAIR_TILE: usize = 32;
const PAIR_CHUNK: usize = 4;

/// What a weight decodes to where the bytes hold no weight.
const INVALID: i8 = 2;

/// What a shape must be for TL1 with these tiles, if it is not.
pub(crate) fn tl1_misfit(tile: Tile, rows: usize, cols: usize) -> Option<String> {
    let Tile { bm, bk, bmm } = tile;
    if !matches!(bmm, 32 | 64) {
        return Some("bmm of 32 or 64 for TL1".to_owned());
    }
    let fits = [(rows, bm), (cols, bk), (bm, bmm), (bk, 256 / bmm)];
    let labels = ["rows", "columns", "bm", "bk"];
    let at = fits.iter().position(|&(size, unit)| unit == 0 || size == 0 || !size.is_multiple_of(unit))?;
    Some(format!("{} that are a multiple of {} (TL1, bm {bm}, bk {bk}, bmm {bmm})", labels[at], fits[at].1))
}

/// What a shape must be for TL2 with these tiles, if it is not.
pub(crate) fn tl2_misfit(tile: Tile, rows: usize, cols: usize) -> Option<String> {
    let Tile { bm, bk, bmm } = tile;
    if bmm != ROWS {
        return Some("bmm of 32 for TL2".to_owned());
    }
    let with = format!("(TL2, bm {bm}, bk {bk}, bmm {bmm})");
    let fits = [(rows, bm), (bm, ROWS), (bk, 24)];
    let labels = ["rows", "bm", "bk"];
    if let Some(at) = fits.iter().position(|&(size, unit)| unit == 0 || size == 0 || !size.is_multiple_of(unit)) {
        return Some(format!("{} that are a multiple of {} {with}", labels[at], fits[at].1));
    }
    if cols < bk || !(cols % bk).is_multiple_of(PAIR_TILE) || cols % bk > 256 {
        return Some(format!("columns that are a multiple of bk and a rest of 0 or a multiple of 32 up to 256 {with}"));
    }
    match tl2_bytes(rows as u64, cols as u64) {
        Some(bytes) if Tl2::new(tile, rows, cols).end() as u64 <= bytes => None,
        _ => Some(format!("at least 256 columns {with}")),
    }
}

/// Bytes of a TL2 tensor without its scale: as if the last 256 columns were pairs, whatever BK says. `None` when there
/// are fewer columns, or it does not fit.
pub(crate) fn tl2_bytes(rows: u64, cols: u64) -> Option<u64> {
    let triples = cols.checked_sub(256)?.checked_mul(rows)? / 3;
    let pairs = rows.checked_mul(256)? / 4;
    (triples.checked_mul(5)? / 8).checked_add(pairs)
}

/// The byte and the shift of the nibble of columns `2 pair` and `2 pair + 1` of a row.
fn tl1_place(tile: Tile, cols: usize, row: usize, pair: usize) -> (usize, u32) {
    let Tile { bm, bk, bmm } = tile;
    let chunk = 256 / bmm;
    let (col, in_group) = (2 * pair, row % bmm);
    let tiles = row / bm * (cols / bk) + col / bk;
    let groups = tiles * (bm / bmm) + row % bm / bmm;
    let chunks = groups * (bk / chunk) + col % bk / chunk;
    let steps = (chunks * (bmm / 16) + in_group / 16) * (chunk / 4) + col % chunk / 4;
    (steps * 16 + in_group % 16, if pair.is_multiple_of(2) { 4 } else { 0 })
}

/// Decodes a row of a TL1 tensor whose shape fits `tile`; a weight that is none becomes 2.
pub(crate) fn tl1_row(bytes: &[u8], tile: Tile, row: usize, out: &mut [i8]) {
    let cols = out.len();
    for (pair, out) in out.chunks_exact_mut(2).enumerate() {
        let (byte, shift) = tl1_place(tile, cols, row, pair);
        out.copy_from_slice(&pair_of(bytes[byte] >> shift & 15));
    }
}

/// Encodes a row of trits into a TL1 tensor that was all 0.
pub(crate) fn tl1_put(bytes: &mut [u8], tile: Tile, row: usize, trits: &[i8]) {
    for (pair, trits2) in trits.chunks_exact(2).enumerate() {
        let (byte, shift) = tl1_place(tile, trits.len(), row, pair);
        bytes[byte] |= pair_code(trits2) << shift;
    }
}

fn pair_of(code: u8) -> [i8; 2] {
    if code > 8 { [INVALID; 2] } else { [code as i8 / 3 - 1, code as i8 % 3 - 1] }
}

fn pair_code(trits: &[i8]) -> u8 {
    (3 * trits[0] + trits[1] + 4) as u8
}

/// The triple of a nibble and a sign. A zero has no sign.
fn triple_of(code: u8, negative: bool) -> [i8; 3] {
    if code > 13 || code == 0 && negative {
        return [INVALID; 3];
    }
    let code = code as i8;
    let c = (code + 1) % 3 - 1;
    let rest = (code - c) / 3;
    let b = (rest + 1) % 3 - 1;
    let triple = [(rest - b) / 3, b, c];
    if negative { triple.map(|trit| -trit) } else { triple }
}

/// The three parts of a TL2 tensor.
struct Tl2 {
    tile: Tile,
    rows: usize,
    cols: usize,
    /// Columns held as triples.
    triples: usize,
}

impl Tl2 {
    fn new(tile: Tile, rows: usize, cols: usize) -> Self {
        Self { tile, rows, cols, triples: cols - cols % tile.bk }
    }

    fn signs(&self) -> usize {
        self.rows * self.triples / 6
    }

    fn pairs(&self) -> usize {
        self.signs() + self.rows * self.triples / 24
    }

    fn end(&self) -> usize {
        self.pairs() + self.rows * (self.cols - self.triples) / 4
    }

    /// The chunk of `width` columns at `col`, in a part of `cols` columns cut into tiles of `bk`.
    fn chunk(&self, row: usize, col: usize, cols: usize, bk: usize, width: usize) -> usize {
        let tiles = row / self.tile.bm * (cols / bk) + col / bk;
        let groups = tiles * (self.tile.bm / ROWS) + row % self.tile.bm / ROWS;
        groups * (bk / width) + col % bk / width
    }

    /// Byte and shift of the nibble of a triple.
    fn triple(&self, row: usize, triple: usize) -> (usize, u32) {
        let chunk = self.chunk(row, 3 * triple, self.triples, self.tile.bk, 6);
        (chunk * ROWS + swapped(row), if triple.is_multiple_of(2) { 4 } else { 0 })
    }

    /// Byte and shift of the sign of a triple.
    fn sign(&self, row: usize, triple: usize) -> (usize, u32) {
        let chunk = self.chunk(row, 3 * triple, self.triples, self.tile.bk, 24);
        let bit = 15 - (2 * (triple % 8) + row % ROWS / 16);
        (self.signs() + chunk * ROWS + 2 * (row % 16) + bit / 8, (bit % 8) as u32)
    }

    /// Byte and shift of the nibble of a pair, counted from the first column that is no triple's.
    fn pair(&self, row: usize, pair: usize) -> (usize, u32) {
        let chunk = self.chunk(row, 2 * pair, self.cols - self.triples, PAIR_TILE, PAIR_CHUNK);
        (self.pairs() + chunk * ROWS + swapped(row), if pair.is_multiple_of(2) { 4 } else { 0 })
    }
}

/// The byte of a row in its group of 32.
fn swapped(row: usize) -> usize {
    let eight = [0, 2, 1, 3][row % ROWS / 8];
    eight * 8 + row % 8
}

/// Decodes a row of a TL2 tensor of `rows` rows whose shape fits `tile`; a weight that is none becomes 2.
pub(crate) fn tl2_row(bytes: &[u8], tile: Tile, rows: usize, row: usize, out: &mut [i8]) {
    let parts = Tl2::new(tile, rows, out.len());
    let (triples, pairs) = out.split_at_mut(parts.triples);
    for (triple, out) in triples.chunks_exact_mut(3).enumerate() {
        let ((byte, shift), (sign, bit)) = (parts.triple(row, triple), parts.sign(row, triple));
        out.copy_from_slice(&triple_of(bytes[byte] >> shift & 15, bytes[sign] >> bit & 1 == 1));
    }
    for (pair, out) in pairs.chunks_exact_mut(2).enumerate() {
        let (byte, shift) = parts.pair(row, pair);
        out.copy_from_slice(&pair_of(bytes[byte] >> shift & 15));
    }
}

/// Encodes a row of trits into a TL2 tensor of `rows` rows that was all 0.
pub(crate) fn tl2_put(bytes: &mut [u8], tile: Tile, rows: usize, row: usize, trits: &[i8]) {
    let parts = Tl2::new(tile, rows, trits.len());
    let (triples, pairs) = trits.split_at(parts.triples);
    for (triple, trits) in triples.chunks_exact(3).enumerate() {
        let value = 9 * trits[0] + 3 * trits[1] + trits[2];
        let ((byte, shift), (sign, bit)) = (parts.triple(row, triple), parts.sign(row, triple));
        bytes[byte] |= value.unsigned_abs() << shift;
        bytes[sign] |= u8::from(value < 0) << bit;
    }
    for (pair, trits) in pairs.chunks_exact(2).enumerate() {
        let (byte, shift) = parts.pair(row, pair);
        bytes[byte] |= pair_code(trits) << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_are_balanced_ternary() {
        for value in -13i8..=13 {
            let [a, b, c] = triple_of(value.unsigned_abs(), value < 0);
            assert_eq!(9 * a + 3 * b + c, value);
            assert!([a, b, c].iter().all(|t| (-1..=1).contains(t)));
        }
        assert_eq!([triple_of(14, false), triple_of(0, true), triple_of(15, true)], [[INVALID; 3]; 3]);
        assert_eq!((pair_of(0), pair_of(8), pair_of(9)), ([-1, -1], [1, 1], [INVALID; 2]));
    }

    #[test]
    fn every_place_is_used_once() {
        let tile = Tile { bm: 64, bk: 96, bmm: 32 };
        let (rows, cols) = (128, 320);
        assert_eq!(tl2_misfit(tile, rows, cols), None);
        let mut bytes = vec![0u8; tl2_bytes(128, 320).unwrap() as usize];
        // Code 8 of pairs sets one bit, triple -9 one bit and a sign: no place may be hit twice.
        let trits: Vec<i8> = (0..cols).map(|col| if col < 288 { -i8::from(col % 3 == 0) } else { 1 }).collect();
        (0..rows).for_each(|row| tl2_put(&mut bytes, tile, rows, row, &trits));
        let ones: u32 = bytes.iter().map(|b| b.count_ones()).sum();
        assert_eq!(ones as usize, rows * (96 * (2 + 1) + 16));
        let tile = Tile { bm: 128, bk: 64, bmm: 64 };
        assert_eq!(tl1_misfit(tile, rows, cols), None);
        let mut bytes = vec![0u8; rows * cols / 4];
        (0..rows).for_each(|row| tl1_put(&mut bytes, tile, row, &vec![1; cols]));
        assert!(bytes.iter().all(|&b| b == 0x88));
    }

    #[test]
    fn shapes_that_do_not_fit_are_told() {
        let tile = Tile { bm: 160, bk: 96, bmm: 32 };
        assert_eq!(tl2_misfit(tile, 3200, 8640), None);
        assert!(tl2_misfit(tile, 3201, 8640).unwrap().contains("rows"));
        assert!(tl2_misfit(tile, 3200, 8650).unwrap().contains("columns"));
        assert!(tl2_misfit(tile, 160, 96).unwrap().contains("at least 256"));
        assert!(tl2_misfit(Tile { bk: 0, ..tile }, 3200, 8640).unwrap().contains("bk"));
        assert!(tl2_misfit(Tile { bmm: 64, ..tile }, 3200, 8640).unwrap().contains("bmm"));
        assert!(tl1_misfit(Tile { bm: 0, bk: 64, bmm: 32 }, 3200, 8640).unwrap().contains("rows"));
        assert!(tl1_misfit(Tile { bm: 160, bk: 4, bmm: 32 }, 3200, 8640).unwrap().contains("bk"));
        // FORMATS.md's size, for a shape whose halves leave rests.
        assert_eq!(tl2_bytes(3200, 3200), Some(2944 * 3200 / 3 * 5 / 8 + 256 * 3200 / 4));
        assert_eq!((tl2_bytes(32, 255), tl2_bytes(u64::MAX, u64::MAX)), (None, None));
    }
}
