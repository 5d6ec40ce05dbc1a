//! A 4-bit copy of an f16 head, and how far each row of it is from the original: what [`crate::bounded`] prunes with.
//!
//! A weight is `scale x c`: the scale is an f16 of the row's group of `GROUP` columns, `c` one of 16 whole numbers in
//! -63..=63, the same for all of the matrix (Lloyd's algorithm on a sample of it), because the bound is as tight as the
//! residuals are small. Kept per row and group: the norm of the residual, `w - scale x c`, as f16 rounded up; per row the
//! largest of the norms of its weights, their copies, the copies of the second level and the sums of both, as f32 rounded
//! up. 4.1 bits a weight in all; the second level (`fine`), read for few rows only, has as many.
//!
//! A few columns may be kept as f16 instead: those where activations are largest. Real models have channels that hold half of
//! the activations' energy, and a bound by norms is as loose as what is left of it. The copy is of the other columns, and
//! has zeros for those.
//!
//! A panel holds, per block of 32 columns, 4 x 64 bytes: byte `4 r + i` of part `j` has row `r`'s code of column
//! `32 b + 8 j + i` in its low half and that of `32 b + 8 j + 4 + i` in its high half. A code is an index into the book.

use half::f16;
use rayon::prelude::*;

use super::buffer::Buffer;
use super::{F16Matrix, Float16, PANEL, checked_len};
use crate::error::{Error, Result};

pub(crate) mod fine;

/// Columns of a block: those of the int8 activations that share a scale.
pub(crate) const BLOCK: usize = super::q8::BLOCK;
/// Bytes of a block: 16 rows x 32 columns at half a byte.
pub(crate) const BLOCK_BYTES: usize = PANEL * BLOCK / 2;
/// Blocks of a group, whose weights share a scale.
pub(crate) const GROUP_BLOCKS: usize = 8;
/// Columns of a group; the last may be shorter.
pub(crate) const GROUP: usize = GROUP_BLOCKS * BLOCK;
/// The largest |c|. The book holds c + 63, so that two products with int8 fit 16 bits: 2 x 126 x 127 < 32768.
pub(crate) const LEVELS: i32 = 63;
/// Steps of the tables that find the nearest of the book, per whole number.
const FINE: usize = 8;
/// Entries of such a table.
const TABLE: usize = 2 * LEVELS as usize * FINE + 1;
/// Rows that the book is made from, at most.
const SAMPLE: usize = 512;

/// The copy.
#[derive(Debug)]
pub struct BoundedMatrix {
    rows: usize,
    cols: usize,
    book: [u8; 16],
    codes: Buffer<u8>,
    /// Per panel, group and row.
    scales: Buffer<f16>,
    /// As `scales`: upper bounds of the norms of the residuals.
    residuals: Buffer<f16>,
    /// Per row: an upper bound of the norms of its weights and of their copies, of either level and both.
    norms: Buffer<f32>,
    largest_norm: f32,
    /// The second level, row after row.
    fine: Buffer<u8>,
    /// The columns kept as f16.
    kept: Vec<usize>,
    /// Their weights, per panel, column and row.
    kept_weights: Vec<f16>,
}

impl BoundedMatrix {
    /// Makes the copy, in parallel, with the columns `kept` as they are.
    ///
    /// # Errors
    /// [`Error::Weight`] if a weight is no finite number.
    ///
    /// # Panics
    /// If a column is out of range.
    pub fn new(matrix: &F16Matrix, kept: &[usize]) -> Result<BoundedMatrix> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let (blocks, groups) = (cols.div_ceil(BLOCK), cols.div_ceil(GROUP));
        let book = book(matrix);
        let table = nearest(&book);
        let mut codes = Buffer::<u8>::zeroed(checked_len(rows, cols, blocks * BLOCK_BYTES)?)?;
        let per_group = rows.div_ceil(PANEL) * PANEL * groups;
        let (mut scales, mut residuals) = (Buffer::<f16>::zeroed(per_group)?, Buffer::<f16>::zeroed(per_group)?);
        let mut norms = Buffer::<f32>::zeroed(rows.div_ceil(PANEL) * PANEL)?;
        let stride = fine::row_bytes(cols);
        let mut second = Buffer::<u8>::zeroed(rows * stride)?;
        let mut kept_weights = vec![f16::ZERO; rows.div_ceil(PANEL) * PANEL * kept.len()];
        let mut kept_panels = in_panels(&mut kept_weights, rows.div_ceil(PANEL));
        let panels = codes
            .par_chunks_exact_mut(blocks * BLOCK_BYTES)
            .zip(scales.par_chunks_exact_mut(groups * PANEL))
            .zip(residuals.par_chunks_exact_mut(groups * PANEL))
            .zip(norms.par_chunks_exact_mut(PANEL))
            .zip(second.par_chunks_mut(stride * PANEL))
            .zip(&mut kept_panels)
            .enumerate();
        panels.try_for_each(|(panel, (((((codes, scales), residuals), norms), second), kept_weights))| {
            let mut row = vec![0.0; cols];
            for (r, second) in second.chunks_exact_mut(stride).enumerate() {
                read_row(matrix, panel * PANEL + r, &mut row)?;
                let weights = row.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>();
                for (&col, out) in kept.iter().zip(kept_weights.chunks_exact_mut(PANEL)) {
                    // Exact: it was an f16.
                    out[r] = f16::from_f32(std::mem::take(&mut row[col]));
                }
                let (mut copies, mut squares) = (0.0, fine::Squares::default());
                for (g, values) in row.chunks(GROUP).enumerate() {
                    let group = encode(values, &book, &table);
                    scales[g * PANEL + r] = group.scale;
                    residuals[g * PANEL + r] = f16_up(up(group.residual.sqrt()));
                    copies += group.copy;
                    let of = fine::encode(second, (g, groups), values, &group.copies(&book)[..values.len()]);
                    squares.fine += of.fine;
                    squares.both += of.both;
                    set_codes(codes, (r, g), &group.codes[..values.len()]);
                }
                norms[r] = f32_up(up(weights.max(copies).max(squares.fine).max(squares.both).sqrt()));
            }
            Ok::<(), Error>(())
        })?;
        let largest_norm = norms.iter().copied().fold(0.0, f32::max);
        Ok(BoundedMatrix {
            rows,
            cols,
            book,
            codes,
            scales,
            residuals,
            norms,
            largest_norm,
            fine: second,
            kept: kept.to_vec(),
            kept_weights,
        })
    }

    /// Rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of the first level and of the norms, padding included: what every step reads.
    pub fn bytes(&self) -> usize {
        let groups = size_of_val(&*self.scales) + size_of_val(&*self.residuals);
        self.codes.len() + groups + size_of_val(&*self.norms) + size_of_val(&*self.kept_weights)
    }

    /// The columns kept as f16.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Their weights in `rows` rows from `first`, in whole panels: per column those of 16 rows.
    pub(crate) fn kept_panels(&self, first: usize, rows: usize) -> &[f16] {
        let panel = self.kept.len() * PANEL;
        &self.kept_weights[first / PANEL * panel..][..rows.div_ceil(PANEL) * panel]
    }

    /// Bytes of the second level.
    pub fn fine_bytes(&self) -> usize {
        self.fine.len()
    }

    /// Bytes of a row of the second level.
    pub fn fine_row_bytes(&self) -> usize {
        fine::row_bytes(self.cols)
    }

    /// The second level, rows of [`BoundedMatrix::fine_row_bytes`].
    pub(crate) fn fine(&self) -> &[u8] {
        &self.fine
    }

    /// The 16 whole numbers + 63.
    pub(crate) fn book(&self) -> &[u8; 16] {
        &self.book
    }

    /// Codes, scales and residuals' norms of `rows` rows from `first`, in whole panels.
    pub(crate) fn panels(&self, first: usize, rows: usize) -> (&[u8], &[f16], &[f16]) {
        let (blocks, groups) = (self.cols.div_ceil(BLOCK), self.cols.div_ceil(GROUP));
        let (first, panels) = (first / PANEL, rows.div_ceil(PANEL));
        let of_groups = |values| -> &[f16] {
            let values: &Buffer<f16> = values;
            &values[first * groups * PANEL..][..panels * groups * PANEL]
        };
        let codes = &self.codes[first * blocks * BLOCK_BYTES..][..panels * blocks * BLOCK_BYTES];
        (codes, of_groups(&self.scales), of_groups(&self.residuals))
    }

    /// Upper bounds of the rows' norms; zeros beyond the matrix.
    pub(crate) fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// The largest of [`BoundedMatrix::norms`].
    pub(crate) fn largest_norm(&self) -> f32 {
        self.largest_norm
    }

    /// Writes the first level's copy of `row` to `out`, exactly.
    ///
    /// # Panics
    /// If `row` is out of range or `out` is not `cols` long.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of {}, {} columns", self.rows, self.cols);
        let (codes, scales, _) = self.panels(row / PANEL * PANEL, PANEL);
        let r = row % PANEL;
        for (col, out) in out.iter_mut().enumerate() {
            let byte = codes[col / BLOCK * BLOCK_BYTES + col % BLOCK / 8 * 64 + r * 4 + col % 4];
            let code = byte >> (col % 8 / 4 * 4) & 15;
            let c = i32::from(self.book[usize::from(code)]) - LEVELS;
            *out = c as f32 * scales[col / GROUP * PANEL + r].widen();
        }
    }
}

#[cfg(test)]
impl BoundedMatrix {
    /// Writes the sum of both levels' copies of `row` to `out`, rounded to f32.
    pub(crate) fn both_to_f32(&self, row: usize, out: &mut [f32]) {
        self.row_to_f32(row, out);
        let (row, groups) = (&self.fine[row * self.fine_row_bytes()..], self.cols.div_ceil(GROUP));
        for (col, out) in out.iter_mut().enumerate() {
            let (g, (at, shift)) = (col / GROUP, fine::place(col % GROUP));
            let scale = fine::places(groups).0 + 2 * g;
            let scale = f16::from_le_bytes([row[scale], row[scale + 1]]);
            let code = row[g * fine::GROUP_BYTES + at] >> shift & 15;
            *out = (f64::from(*out) + fine::value(scale, code)) as f32;
        }
    }
}

/// Equal parts, empty ones if there is nothing.
fn in_panels(values: &mut [f16], panels: usize) -> Vec<&mut [f16]> {
    match values.len() / panels {
        0 => (0..panels).map(|_| &mut [][..]).collect(),
        len => values.chunks_exact_mut(len).collect(),
    }
}

/// Writes the codes of group `g` of row `r` to its panel, where there are zeros.
fn set_codes(panel: &mut [u8], (r, g): (usize, usize), codes: &[u8]) {
    for (col, code) in codes.iter().enumerate() {
        let (block, col) = (g * GROUP_BLOCKS + col / BLOCK, col % BLOCK);
        panel[block * BLOCK_BYTES + col / 8 * 64 + r * 4 + col % 4] |= code << (col % 8 / 4 * 4);
    }
}

/// The weights of a row, if they are numbers.
fn read_row(matrix: &F16Matrix, row: usize, out: &mut [f32]) -> Result<()> {
    matrix.row_to_f32(row, out);
    match out.iter().position(|w| !w.is_finite()) {
        None => Ok(()),
        Some(col) => {
            let (expected, found) = ("a finite number", out[col].to_string());
            Err(Error::Weight { format: "bounded 4-bit", row, col, expected, found })
        }
    }
}

/// One group of a row.
struct Group {
    codes: [u8; GROUP],
    scale: f16,
    /// Sum of the squares of the residuals.
    residual: f64,
    /// Sum of the squares of the copies.
    copy: f64,
}

impl Group {
    /// The copies, exactly.
    fn copies(&self, book: &[u8; 16]) -> [f64; GROUP] {
        let scale = self.scale.to_f64();
        self.codes.map(|code| f64::from(i32::from(book[usize::from(code)]) - LEVELS) * scale)
    }
}

/// Codes the largest weight as the largest number, then improves the scale by least squares as long as that helps.
fn encode(values: &[f32], book: &[u8; 16], table: &[u8; TABLE]) -> Group {
    let largest = values.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    let mut scale = f16::from_f32(largest / LEVELS as f32);
    let mut best: Option<Group> = None;
    for _ in 0..3 {
        let mut group = Group { codes: [0; GROUP], scale, residual: 0.0, copy: 0.0 };
        let wide = scale.widen();
        let inverse = if wide > 0.0 { FINE as f32 / wide } else { 0.0 };
        let (mut dot, mut square) = (0.0, 0.0);
        for (code, &w) in group.codes.iter_mut().zip(values) {
            *code = table[bin(w * inverse)];
            let c = f64::from(i32::from(book[usize::from(*code)]) - LEVELS);
            let (w, copy) = (f64::from(w), c * f64::from(wide));
            // Exact: 11 bits each, 6 of `c`.
            group.residual += (w - copy) * (w - copy);
            group.copy += copy * copy;
            dot += w * c;
            square += c * c;
        }
        if best.as_ref().is_some_and(|best| best.residual <= group.residual) {
            break;
        }
        best = Some(group);
        let better = f16::from_f64(if square > 0.0 { dot / square } else { 0.0 });
        if !(better.is_finite() && better > f16::ZERO) {
            break;
        }
        scale = better;
    }
    best.unwrap_or(Group { codes: [0; GROUP], scale: f16::ZERO, residual: f64::INFINITY, copy: 0.0 })
}

/// The entry of a table for a weight in units of scale / [`FINE`].
fn bin(fine: f32) -> usize {
    (fine + (LEVELS as usize * FINE) as f32).round().clamp(0.0, (TABLE - 1) as f32) as usize
}

/// For each entry of a table the index of the nearest number.
fn nearest(book: &[u8; 16]) -> [u8; TABLE] {
    std::array::from_fn(|bin| {
        let distance = |code: &u8| (i32::from(book[usize::from(*code)]) * FINE as i32 - bin as i32).abs();
        (0..16).min_by_key(distance).unwrap_or(0)
    })
}

/// Lloyd's algorithm: 16 numbers from the weights of some rows, each over the largest of its group.
fn book(matrix: &F16Matrix) -> [u8; 16] {
    let mut counts = [0u64; TABLE];
    let mut row = vec![0.0; matrix.cols()];
    for index in (0..matrix.rows()).step_by(matrix.rows().div_ceil(SAMPLE)) {
        matrix.row_to_f32(index, &mut row);
        for group in row.chunks(GROUP) {
            let largest = group.iter().fold(0.0f32, |max, w| max.max(w.abs()));
            if largest > 0.0 && largest.is_finite() {
                let inverse = (LEVELS as usize * FINE) as f32 / largest;
                group.iter().for_each(|w| counts[bin(w * inverse)] += 1);
            }
        }
    }
    let mut centres: [f64; 16] = std::array::from_fn(|i| (TABLE - 1) as f64 * (i as f64 + 0.5) / 16.0);
    for _ in 0..100 {
        let (mut sums, mut masses, mut at) = ([0.0; 16], [0.0; 16], 0);
        for (bin, &count) in counts.iter().enumerate() {
            while at < 15 && (centres[at + 1] - bin as f64).abs() < (centres[at] - bin as f64).abs() {
                at += 1;
            }
            sums[at] += bin as f64 * count as f64;
            masses[at] += count as f64;
        }
        for (i, centre) in centres.iter_mut().enumerate() {
            if masses[i] > 0.0 {
                *centre = sums[i] / masses[i];
            }
        }
    }
    centres.map(|centre| (centre / FINE as f64).round() as u8)
}

/// A little more, for what rounded on the way: sums of at most 2^22 squares in f64, each rounded, and a root.
pub(crate) fn up(x: f64) -> f64 {
    x * (1.0 + 1.0 / f64::from(1 << 20))
}

/// The least f32 not below `x`, which is not negative.
pub(crate) fn f32_up(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

/// The least f16 not below `x`, which is not negative.
fn f16_up(x: f64) -> f16 {
    let near = f16::from_f64(x);
    if near.to_f64() < x { f16::from_bits(near.to_bits() + 1) } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_and_norms_are_bounds_and_tight() {
        for (rows, cols) in [(1, 1), (16, 32), (37, 300), (21, 513)] {
            let fill = |row: usize, out: &mut [f16]| {
                let mut state = row as u32 * 7919 + 1;
                for out in out {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *out =
                        f16::from_f32(((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 10f32.powi(-(row as i32 % 7)));
                }
                Ok(())
            };
            let matrix = F16Matrix::from_rows(rows, cols, fill).unwrap();
            let copy = BoundedMatrix::new(&matrix, &[]).unwrap();
            let (mut w, mut c) = (vec![0.0; cols], vec![0.0; cols]);
            for row in 0..rows {
                matrix.row_to_f32(row, &mut w);
                copy.row_to_f32(row, &mut c);
                let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                let whole = norm(&mut w.iter().map(|&w| f64::from(w)));
                let copied = norm(&mut c.iter().map(|&w| f64::from(w)));
                let kept = f64::from(copy.norms()[row]);
                // The second level's sums may be a little longer than either.
                assert!(kept >= whole.max(copied) && kept < whole.max(copied) * 1.01);
                let (_, _, residuals) = copy.panels(row / PANEL * PANEL, PANEL);
                for (g, (w, c)) in w.chunks(GROUP).zip(c.chunks(GROUP)).enumerate() {
                    let residual = norm(&mut w.iter().zip(c).map(|(&w, &c)| f64::from(w) - f64::from(c)));
                    let kept = residuals[g * PANEL + row % PANEL].to_f64();
                    assert!(kept >= residual && kept <= residual * 1.002 + 1e-7, "{kept} {residual}");
                    // Sixteen levels for uniform weights: a 16th. Rows of 1e-4 and less have few bits in f16 themselves.
                    assert!(
                        w.len() < 100 || row % 7 > 3 || residual < 0.07 * norm(&mut w.iter().map(|&w| f64::from(w)))
                    );
                }
            }
        }
    }

    #[test]
    fn rounding_up_is_up() {
        for x in [0.0, 1e-9, 1e-7, 0.1, 1.0, 1.0 + 1e-9, 3.3, 65504.0, 65504.1, 1e9] {
            assert!(f16_up(x).to_f64() >= x && f64::from(f32_up(x)) >= x);
        }
        assert_eq!((f16_up(1.0).to_f64(), f16_up(1.000_01).to_f64()), (1.0, 1.0 + 1.0 / 1024.0));
    }

    #[test]
    fn what_is_no_number_is_refused_with_its_place() {
        let fill = |row: usize, out: &mut [f16]| {
            out.fill(if row == 18 { f16::INFINITY } else { f16::ONE });
            Ok(())
        };
        let matrix = F16Matrix::from_rows(20, 5, fill).unwrap();
        let message = BoundedMatrix::new(&matrix, &[]).unwrap_err().to_string();
        assert!(message.contains("row 18, column 0") && message.contains("inf"), "{message}");
    }
}
