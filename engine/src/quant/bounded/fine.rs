//! The second level of the copy: what the first leaves of a weight, at 4 bits more, row by row so that few rows are few bytes.
//!
//! The rest `w - v` of a weight is `scale x c`: the scale is an f16 of the row's group of `GROUP` columns, `c` one of the odd
//! numbers -15, -13 .. 15. Kept per row and group: the norm of what is left after that, as f16 rounded up.
//!
//! A row is contiguous, in whole cache lines: of each group 128 bytes of codes, then all groups' scales, then their norms,
//! each padded to [`LANES`] groups. Byte `4 b + i` of part `j` (32 bytes) of a group has the code of column `32 b + 8 j + i`
//! in its low half and that of `32 b + 8 j + 4 + i` in its high half: a lane of a vector is a block, whose activations
//! share a step. A code is (c + 15) / 2.

use half::f16;

use super::{BLOCK, GROUP, GROUP_BLOCKS, f16_up, up};

/// Bytes of a group's codes.
pub(crate) const GROUP_BYTES: usize = GROUP / 2;
/// Groups whose scales are read together; as many as a group has blocks.
pub(crate) const LANES: usize = GROUP_BLOCKS;
/// The largest |c|.
pub(crate) const ODD: i32 = 15;
/// Bytes of a cache line, of which rows are whole numbers.
const LINE: usize = 64;
/// What the scale is of the one that reaches the largest rest: smaller ones cut the largest and suit the others better.
const SHRINK: [f64; 4] = [1.0, 0.85, 0.7, 0.55];

/// Bytes of a row of `cols` columns.
pub(crate) fn row_bytes(cols: usize) -> usize {
    let groups = cols.div_ceil(GROUP);
    (groups * GROUP_BYTES + 2 * size_of::<f16>() * groups.next_multiple_of(LANES)).next_multiple_of(LINE)
}

/// Where in a row of `groups` groups the scales and the norms begin, in bytes.
pub(crate) fn places(groups: usize) -> (usize, usize) {
    let scales = groups * GROUP_BYTES;
    (scales, scales + size_of::<f16>() * groups.next_multiple_of(LANES))
}

/// The byte of a group's column and the bits in it.
pub(crate) fn place(col: usize) -> (usize, usize) {
    (col % BLOCK / 8 * BLOCK + col / BLOCK * 4 + col % 4, col % 8 / 4 * 4)
}

/// Sums of squares over a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Squares {
    /// Of the second level's copies of the rests.
    pub(super) fine: f64,
    /// Of the sums of both copies.
    pub(super) both: f64,
}

/// Codes the rests of a row's group `g`, `w - v` with the copies `v` given, into `row` (zeros before).
pub(super) fn encode(row: &mut [u8], (g, groups): (usize, usize), weights: &[f32], copies: &[f64]) -> Squares {
    let rests: Vec<f64> = weights.iter().zip(copies).map(|(&w, v)| f64::from(w) - v).collect();
    let largest = rests.iter().fold(0.0f64, |max, e| max.max(e.abs()));
    let scales = SHRINK.map(|shrink| f16::from_f64(shrink * largest / f64::from(ODD + 1)));
    let error = |scale: f16| {
        let inverse = inverse(scale);
        // Exact differences: all are multiples of 2^-24 below 2^22.
        rests.iter().map(|&e| e - value(scale, code(inverse, e))).map(|off| off * off).sum::<f64>()
    };
    let tried = scales.map(|scale| (scale, error(scale)));
    let (scale, left) = tried.into_iter().fold(tried[0], |best, this| if this.1 < best.1 { this } else { best });
    let (scales, norms) = places(groups);
    row[scales + 2 * g..][..2].copy_from_slice(&scale.to_le_bytes());
    row[norms + 2 * g..][..2].copy_from_slice(&f16_up(up(left.sqrt())).to_le_bytes());
    let (mut squares, inverse) = (Squares::default(), inverse(scale));
    for (col, (&e, v)) in rests.iter().zip(copies).enumerate() {
        let (code, (at, shift)) = (code(inverse, e), place(col));
        row[g * GROUP_BYTES + at] |= code << shift;
        let fine = value(scale, code);
        squares.fine += fine * fine;
        squares.both += (v + fine) * (v + fine);
    }
    squares
}

fn inverse(scale: f16) -> f64 {
    if scale > f16::ZERO { 1.0 / scale.to_f64() } else { 0.0 }
}

/// The nearest code, or one beside it.
fn code(inverse: f64, rest: f64) -> u8 {
    // Rounds by truncation, which saturates at 0.
    ((rest * inverse + f64::from(ODD + 1)) / 2.0).min(f64::from(ODD)) as u8
}

/// What a code stands for.
pub(crate) fn value(scale: f16, code: u8) -> f64 {
    scale.to_f64() * f64::from(2 * i32::from(code) - ODD)
}
