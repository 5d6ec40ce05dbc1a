//! The 4-bit copy of a head times int8 activations in blocks of 32, with what it may be off by, by ISA: all rows of the first
//! level, and some of the second.

use super::activations::BlockScale;
#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
use super::reference;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512};
use crate::quant::bounded::{BLOCK, BoundedMatrix, GROUP, GROUP_BLOCKS, fine};

/// An approximate output, and the part of its bound that stems from residuals: the sum over groups of columns of (norm of
/// the residual) x (norm of the activations).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Near {
    pub(crate) value: f32,
    pub(crate) residual: f32,
}

/// The activations of one token as the copy reads them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'a> {
    /// Padded to whole blocks.
    pub(crate) int8: &'a [i8],
    /// Per block.
    pub(crate) steps: &'a [BlockScale],
    /// Per group: an upper bound of the norm of the f32 activations.
    pub(crate) norms: &'a [f32],
    /// The f32 activations of the columns kept as f16, which are 0 in all the others.
    pub(crate) kept: &'a [f32],
}

/// Panels of the copy: codes, scales, norms of the residuals, the weights of the columns kept as f16, and the book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [half::f16],
    pub(crate) residuals: &'a [half::f16],
    pub(crate) kept: &'a [half::f16],
    pub(crate) book: &'a [u8; 16],
}

/// Approximate outputs for the rows from `first` (a multiple of 16).
pub(crate) fn gemv(kernels: Kernels, matrix: &BoundedMatrix, probe: Probe<'_>, first: usize, out: &mut [Near]) {
    let (codes, scales, residuals) = matrix.panels(first, out.len());
    let panels = Panels { codes, scales, residuals, kept: matrix.kept_panels(first, out.len()), book: matrix.book() };
    match kernels.base() {
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::bounded::gemv(panels, probe, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::bounded::gemv(panels, probe, out) },
        _ => reference::bounded(panels, probe, out),
    }
}

/// The activations in the order of the second level's rows: of each group, parts of 8 x 4 (first those of low halves of
/// bytes, then those of high ones), 4 columns of each block.
#[derive(Debug, Default)]
pub(crate) struct Ordered {
    pub(crate) int8: Vec<i8>,
    /// Per group 8, those beyond the last block 0.
    pub(crate) steps: Vec<f32>,
    /// As `steps`: what the codes' offset adds to a dot product, to be added to it: -15 x (sum of the activations).
    pub(crate) offsets: Vec<i32>,
    /// [`Probe::norms`], padded with zeros to a multiple of [`fine::LANES`].
    pub(crate) norms: Vec<f32>,
    pub(crate) groups: usize,
}

impl Ordered {
    /// Puts a token in order.
    pub(crate) fn set(&mut self, probe: Probe<'_>) {
        self.groups = probe.norms.len();
        self.int8.clear();
        self.int8.resize(self.groups * GROUP, 0);
        for (col, &a) in probe.int8.iter().enumerate() {
            let (at, shift) = fine::place(col % GROUP);
            let (part, within) = (at / BLOCK, at % BLOCK);
            self.int8[col / GROUP * GROUP + (2 * part + shift / 4) * BLOCK + within] = a;
        }
        self.steps.clear();
        self.steps.extend(probe.steps.iter().map(|scale| scale.step));
        self.steps.resize(self.groups * GROUP_BLOCKS, 0.0);
        self.offsets.clear();
        self.offsets.extend(probe.steps.iter().map(|scale| -fine::ODD * scale.sum));
        self.offsets.resize(self.groups * GROUP_BLOCKS, 0);
        self.norms.clear();
        self.norms.extend(probe.norms);
        self.norms.resize(self.groups.next_multiple_of(fine::LANES), 0.0);
    }
}

/// Rows of the second level, all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FineRows<'a> {
    pub(crate) bytes: &'a [u8],
    /// Of a row.
    pub(crate) stride: usize,
}

impl<'a> FineRows<'a> {
    pub(crate) fn row(self, row: u32) -> &'a [u8] {
        &self.bytes[row as usize * self.stride..][..self.stride]
    }
}

/// Outputs by both levels for the rows picked, with what these may be off by: `near` are those of the first level, of all
/// rows.
pub(crate) fn refine(
    kernels: Kernels,
    matrix: &BoundedMatrix,
    activations: &Ordered,
    picked: (&[u32], &[Near]),
    out: &mut [Near],
) {
    let rows = FineRows { bytes: matrix.fine(), stride: matrix.fine_row_bytes() };
    match kernels.base() {
        // SAFETY: `kernels` proves the features, those of AVX2 with AVX-512 too.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => unsafe { avx2::bounded::refine(rows, activations, picked, out) },
        _ => reference::refine(rows, activations, picked, out),
    }
}
