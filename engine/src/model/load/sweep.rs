//! Mapped pages given back while a weight is read.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::quant::PANEL;

/// Bytes of rows that are given back together: few calls, and little beside the packed weights even where many slabs are
/// begun at once (rayon parts rows without regard to them).
const SLAB: usize = 1 << 20;

/// Mapped bytes of a weight.
pub(super) trait Pages: Sync {
    /// How many they are, as stored.
    fn bytes(&self) -> usize;

    /// Bytes of a row; `None` if rows are not stored one after the other.
    fn row_bytes(&self) -> Option<usize>;

    /// Gives back the memory that the pages of a part take.
    fn release(&self, part: Range<usize>);
}

/// Gives the mapped pages of a weight back as its rows are read, in whatever order and by whichever thread: each slab of
/// rows when the last of them is done, and the whole in the end.
pub(super) struct Sweep<'a, W: Pages> {
    weight: &'a W,
    /// Bytes of a row, and rows of a slab: a multiple of a panel's, so that a panel lies in one.
    row_bytes: usize,
    slab: usize,
    /// Rows of each slab that are not done.
    left: Vec<AtomicUsize>,
}

impl<'a, W: Pages> Sweep<'a, W> {
    /// A sweep of a weight of `rows` rows.
    pub(super) fn new(weight: &'a W, rows: usize) -> Self {
        let row_bytes = weight.row_bytes().unwrap_or(0);
        let slab = (SLAB / row_bytes.max(1)).next_multiple_of(PANEL);
        let slabs = if row_bytes == 0 { 0 } else { rows.div_ceil(slab) };
        let left = (0..slabs).map(|nth| AtomicUsize::new(slab.min(rows - nth * slab))).collect();
        Sweep { weight, row_bytes, slab, left }
    }

    /// These rows, all of one panel, have been read, and will not be again.
    pub(super) fn done(&self, rows: Range<usize>) {
        let nth = rows.start / self.slab;
        let Some(left) = self.left.get(nth) else { return };
        if left.fetch_sub(rows.len(), Ordering::Relaxed) == rows.len() {
            let start = nth * self.slab * self.row_bytes;
            let end = start + self.slab * self.row_bytes;
            self.weight.release(start..end.min(self.weight.bytes()));
        }
    }
}

impl<W: Pages> Drop for Sweep<'_, W> {
    fn drop(&mut self) {
        self.weight.release(0..self.weight.bytes());
    }
}
