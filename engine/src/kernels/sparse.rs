//! Ternary weights times one token's int8 activations, reading some rows or some columns alone, by ISA.
//!
//! The sums are whole numbers, so that neither their order nor columns left out behind zeros change them: results are
//! those of [`super::ternary`] to the last bit.

use std::cmp::Ordering;

use super::activations::TokenScale;
use super::isa::{Isa, Kernels};
use super::reference;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512, avxvnni};
use crate::quant::sparse::{CHUNK, CHUNK_BYTES};
use crate::quant::{TernaryColumns, TernaryRows, ternary};
use crate::threads::Team;

/// Columns that a kernel adds at once.
#[cfg(target_arch = "x86_64")]
pub(crate) const GROUP: usize = 8;

/// Up to what share of rows or columns reading them alone is faster than reading all, in percent.
///
/// Measured (`tests/crossover.rs`) for the matrices of 2B4T from DRAM, one and two threads of an Intel Xeon with AVX-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossover {
    /// Rows of `up`.
    pub rows: u32,
    /// Columns of `down`.
    pub columns: u32,
}

impl Crossover {
    /// That of a path.
    pub(crate) fn of(kernels: Kernels) -> Crossover {
        Crossover::of_isa(kernels.isa())
    }

    /// That of an instruction set's path, whether or not this machine has it.
    pub fn of_isa(isa: Isa) -> Crossover {
        let (rows, columns) = match isa {
            Isa::Avx512 | Isa::Amx => (55, 35),
            Isa::AvxVnni => (50, 30),
            Isa::Avx2 => (80, 50),
            // As many operations a weight either way.
            Isa::Scalar => (90, 90),
        };
        Crossover { rows, columns }
    }

    /// Whether `active` of `all` rows are few enough.
    pub(crate) fn rows(self, active: usize, all: usize) -> bool {
        active as u64 * 100 <= all as u64 * u64::from(self.rows)
    }

    /// Whether `active` of `all` columns are few enough.
    pub(crate) fn columns(self, active: usize, all: usize) -> bool {
        active as u64 * 100 <= all as u64 * u64::from(self.columns)
    }
}

/// Some rows of a matrix, in the order of `rows`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// All rows, each a whole number of chunks.
    codes: &'a [u8],
    /// Bytes of a row.
    stride: usize,
    /// Which rows.
    rows: &'a [u32],
}

impl<'a> Rows<'a> {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// The codes of row number `k`.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub(crate) fn row(&self, k: usize) -> &'a [u8] {
        &self.codes[self.rows[k] as usize * self.stride..][..self.stride]
    }
}

/// Columns of a matrix, and what each is multiplied by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns<'a> {
    /// All columns, each a whole number of chunks.
    pub(crate) codes: &'a [u8],
    /// Bytes of a column.
    pub(crate) stride: usize,
    /// Which columns.
    pub(crate) columns: &'a [u32],
    /// The activations of all columns.
    pub(crate) activations: &'a [i8],
}

#[cfg(target_arch = "x86_64")]
impl<'a> Columns<'a> {
    /// `chunks` chunks of each column of group `index`, and the activations; where there are fewer than [`GROUP`] columns,
    /// the last again with activation 0.
    ///
    /// # Panics
    /// If there is no such group, or a column is out of range.
    #[inline(always)]
    pub(crate) fn group(&self, index: usize, chunks: usize) -> ([&'a [u8]; GROUP], [i8; GROUP]) {
        let columns = &self.columns[index * GROUP..];
        let column = |i: usize| columns[i.min(columns.len() - 1)] as usize;
        let codes = std::array::from_fn(|i| &self.codes[column(i) * self.stride..][..chunks * CHUNK_BYTES]);
        let activation = |i: usize| if i < columns.len() { self.activations[column(i)] } else { 0 };
        (codes, std::array::from_fn(activation))
    }

    /// Groups of columns.
    pub(crate) fn groups(&self) -> usize {
        self.columns.len().div_ceil(GROUP)
    }
}

/// The activations of a token (of whole blocks) as rows of 2-bit codes in chunks meet them: of each 256, the 64 that meet
/// the lowest codes of 64 bytes, then those that meet the next; zeros beyond the last.
pub(crate) fn order(activations: &[i8], out: &mut Vec<i8>) {
    out.clear();
    out.resize(activations.len().next_multiple_of(CHUNK), 0);
    let chunks = out.as_chunks_mut::<CHUNK>().0;
    for (chunk, activations) in chunks.iter_mut().zip(activations.chunks(CHUNK)) {
        for (w, block) in activations.as_chunks::<{ ternary::BLOCK }>().0.iter().enumerate() {
            for (s, part) in block.as_chunks::<4>().0.iter().enumerate() {
                chunk[s * CHUNK_BYTES + 4 * w..][..4].copy_from_slice(part);
            }
        }
    }
}

/// Gates that are not 0 or less: above 0, or no number.
pub(crate) fn count_active(gate: &[f32]) -> usize {
    gate.iter().filter(|&&gate| is_active(gate)).count()
}

/// Activations other than 0.
pub(crate) fn count_nonzero(activations: &[i8]) -> usize {
    // In bytes, which vectors add by 16 and more; sums of 128 fit.
    activations.chunks(128).map(|part| usize::from(part.iter().map(|&a| u8::from(a != 0)).sum::<u8>())).sum()
}

/// The positions of gates that are not 0 or less, ascending.
pub(crate) fn list_active(kernels: Kernels, gate: &[f32], out: &mut Vec<u32>) {
    match kernels.vectors() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::sparse::list_active(gate, out) },
        _ => list(gate, is_active, out),
    }
}

/// The positions of activations other than 0, ascending.
pub(crate) fn list_nonzero(kernels: Kernels, activations: &[i8], out: &mut Vec<u32>) {
    match kernels.vectors() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::sparse::list_nonzero(activations, out) },
        _ => list(activations, |activation| activation != 0, out),
    }
}

fn is_active(gate: f32) -> bool {
    !matches!(gate.partial_cmp(&0.0), Some(Ordering::Less | Ordering::Equal))
}

/// The positions of the elements that `keep` keeps.
fn list<T: Copy>(elements: &[T], keep: impl Fn(T) -> bool, out: &mut Vec<u32>) {
    out.resize(elements.len(), 0);
    let mut count = 0;
    for (position, &element) in elements.iter().enumerate() {
        // Written in any case: nothing to predict.
        out[count] = position as u32;
        count += usize::from(keep(element));
    }
    out.truncate(count);
}

/// `y = W x` of one token for the `rows` alone, in their order; `ordered` are its activations by [`order`].
///
/// # Panics
/// If a row is out of range, or lengths do not fit.
pub(crate) fn forward_rows(
    team: &Team<'_>,
    kernels: Kernels,
    matrix: &TernaryRows,
    (ordered, token): (&[i8], TokenScale),
    rows: &[u32],
    out: &mut [f32],
) {
    assert_eq!(out.len(), rows.len(), "an output for each row");
    assert_eq!(ordered.len(), 4 * matrix.row_bytes(), "activations in the order of rows");
    // As many rows as kernels have side by side.
    team.split(out, 4, |first, out| {
        let rows = Rows { codes: matrix.packed(), stride: matrix.row_bytes(), rows: &rows[first..][..out.len()] };
        let finish = |k: usize, sum: i32| out[k] = reference::ternary_output(sum, matrix.scale(), token);
        match kernels.vectors() {
            // SAFETY: `kernels` proves the features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::sparse::rows(rows, ordered, finish) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { avxvnni::sparse::rows(rows, ordered, finish) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::sparse::rows(rows, ordered, finish) },
            _ => reference::sparse_rows(rows, ordered, finish),
        }
    });
}

/// `y = W x` of one token by the `columns` alone; the activations of all others are taken for 0.
///
/// # Panics
/// If a column is out of range, or lengths do not fit.
pub(crate) fn forward_columns(
    team: &Team<'_>,
    kernels: Kernels,
    matrix: &TernaryColumns,
    (activations, token): (&[i8], TokenScale),
    columns: &[u32],
    out: &mut [f32],
) {
    assert_eq!(out.len(), matrix.rows(), "an output for each row");
    // Each worker takes some columns, whole, and sums of its own: pieces of columns are read far slower from DRAM.
    let (stride, threads) = (out.len().next_multiple_of(CHUNK), team.threads());
    let mut sums = vec![0; threads * stride];
    team.split(&mut sums, stride, |first, sums| {
        let border = |worker: usize| columns.len() * worker / threads;
        let columns = &columns[border(first / stride)..border(first / stride + 1)];
        let columns = Columns { codes: matrix.packed(), stride: matrix.column_bytes(), columns, activations };
        match kernels.vectors() {
            // SAFETY: `kernels` proves the features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::sparse::columns(columns, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { avxvnni::sparse::columns(columns, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::sparse::columns(columns, sums) },
            _ => reference::sparse_columns(columns, sums),
        }
    });
    const ROWS: usize = 64;
    team.split(out, ROWS, |first, out| {
        for (at, out) in (first..).step_by(ROWS).zip(out.chunks_mut(ROWS)) {
            let mut total = [0; ROWS];
            for sums in sums.chunks_exact(stride) {
                total.iter_mut().zip(&sums[at..][..ROWS]).for_each(|(total, sum)| *total += sum);
            }
            out.iter_mut()
                .zip(total)
                .for_each(|(out, sum)| *out = reference::ternary_output(sum, matrix.scale(), token));
        }
    });
}

#[cfg(test)]
mod tests;
