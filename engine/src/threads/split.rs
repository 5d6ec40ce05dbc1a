//! Handing workers parts of an output, no part to two.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Team;

/// The contiguous share of `units` that falls to `worker` of `threads`; shares differ by at most one.
pub(super) fn part(units: usize, threads: usize, worker: usize) -> Range<usize> {
    let border = |w: usize| (units as u128 * w as u128 / threads as u128) as usize;
    border(worker)..border(worker + 1)
}

/// A part of the units that nobody has taken yet: its start in the low half, its end in the high half. The worker whose part it
/// is takes from the front, so that it reads on where it was, others from the back. On a cache line (and its prefetched
/// neighbour) of its own.
#[repr(align(128))]
pub(super) struct Left(AtomicU64);

impl Left {
    /// # Panics
    /// If there are 2^32 units or more.
    pub(super) fn new(units: Range<usize>) -> Left {
        assert!(u32::try_from(units.end).is_ok(), "{} units, at most {}", units.end, u32::MAX);
        Left(AtomicU64::new(pack(&units)))
    }

    /// Takes the first half of what is left, but a multiple of `side` units where as many are left.
    pub(super) fn front(&self, side: usize) -> Option<Range<usize>> {
        self.take(side, |left, len| (left.start..left.start + len, left.start + len..left.end))
    }

    /// Takes the last half of what is left, as [`Left::front`].
    pub(super) fn back(&self, side: usize) -> Option<Range<usize>> {
        self.take(side, |left, len| (left.end - len..left.end, left.start..left.end - len))
    }

    /// Takes some of what is left: `divide` gives what is taken, of the length it is told, and what remains.
    fn take(
        &self,
        side: usize,
        divide: impl Fn(Range<usize>, usize) -> (Range<usize>, Range<usize>),
    ) -> Option<Range<usize>> {
        // Nothing but who takes what hangs on the order: fork and join publish the data.
        let mut found = self.0.load(Ordering::Relaxed);
        loop {
            let left = found as u32 as usize..(found >> 32) as usize;
            if left.is_empty() {
                return None;
            }
            let len = left.len().div_ceil(2).next_multiple_of(side).min(left.len());
            let (taken, remaining) = divide(left, len);
            match self.0.compare_exchange_weak(found, pack(&remaining), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => found = now,
            }
        }
    }
}

/// Both ends, less than 2^32 as [`Left::new`] holds, in one word.
fn pack(units: &Range<usize>) -> u64 {
    units.start as u64 | (units.end as u64) << 32
}

/// Workers whose parts another looks at when its own is done: all, on a small machine; on a large one some, as each look
/// waits for another CPU's cache.
const NEIGHBOURS: usize = 4;

/// A pointer that jobs may share because each derives a disjoint part from it.
struct Base<T>(*mut T);

// SAFETY: only disjoint parts are derived (see the uses below), each of which is a `&mut` of its worker: `T: Send`.
unsafe impl<T: Send> Sync for Base<T> {}

impl<T> Base<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// A row-major matrix to be written by several workers.
struct Matrix<'a, T> {
    base: Base<T>,
    rows: usize,
    width: usize,
    borrowed: PhantomData<&'a ()>,
}

impl<'a, T> Matrix<'a, T> {
    /// # Panics
    /// If `data` is not a whole number of rows.
    fn new(data: &'a mut [T], width: usize) -> Matrix<'a, T> {
        let rows = data.len() / width.max(1);
        assert!(data.len() == rows * width, "{} elements in rows of {width}", data.len());
        Matrix { base: Base(data.as_mut_ptr()), rows, width, borrowed: PhantomData }
    }

    /// The columns, which nobody else has and which lie within `width`: what [`Strip::row`] relies on.
    fn strip(&self, columns: Range<usize>) -> Strip<'a, T> {
        Strip { base: self.base.get(), rows: self.rows, width: self.width, columns, data: PhantomData }
    }
}

/// A range of columns of every row of a row-major matrix: what one worker may write.
pub struct Strip<'a, T> {
    base: *mut T,
    rows: usize,
    width: usize,
    columns: Range<usize>,
    data: PhantomData<&'a mut [T]>,
}

impl<T> std::fmt::Debug for Strip<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strip").field("rows", &self.rows).field("columns", &self.columns).finish()
    }
}

impl<T> Strip<'_, T> {
    /// The number of rows, those of the whole matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns of the matrix that this strip covers.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// This strip's part of row `row`.
    ///
    /// # Panics
    /// If `row` is out of range.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: `row < rows` and `columns` lies within `width`, so the slice is inside the matrix; strips of one
        // matrix have disjoint columns, and `&mut self` excludes a second slice of this one.
        unsafe {
            std::slice::from_raw_parts_mut(self.base.add(row * self.width + self.columns.start), self.columns.len())
        }
    }
}

impl Team<'_> {
    /// Splits `data` into contiguous pieces, with borders at multiples of `unit` elements, and calls `f(first, piece)` with
    /// the index of each piece's first element. Who takes which piece: see [`Team::split_rows_each`].
    ///
    /// # Panics
    /// As [`Team::split_rows_each`].
    pub fn split<T: Send>(&self, data: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let width = data.len();
        self.split_rows(data, width, unit, |mut strip| {
            let first = strip.columns().start;
            f(first, strip.row(0));
        });
    }

    /// Splits the columns of the row-major matrix `data` (`width` columns) into strips, with borders at multiples of `unit`
    /// columns, and calls `f` with each. Who takes which strip: see [`Team::split_rows_each`].
    ///
    /// # Panics
    /// As [`Team::split_rows_each`].
    pub fn split_rows<T: Send>(&self, data: &mut [T], width: usize, unit: usize, f: impl Fn(Strip<'_, T>) + Sync) {
        self.split_rows_each(&mut [(data, width)], (unit, 1), |_, strip| f(strip));
    }

    /// As [`Team::split_rows`] for several matrices (each with its width) in one fork and join: calls `f` with the
    /// number of a matrix and a strip of it.
    ///
    /// Each worker has a contiguous part of every matrix, always the same, of which it takes half of what is left, again
    /// and again, in multiples of `side` units where as many are left; then it takes from the ends of the next few workers'
    /// parts, if these are behind. So threads end together although their CPUs are not equally fast at every moment: two
    /// that share memory, or a machine, never are.
    ///
    /// # Panics
    /// If `unit` or `side` is 0, a matrix is not a whole number of rows or has 2^32 units, and with the panic of `f`.
    pub fn split_rows_each<T: Send>(
        &self,
        matrices: &mut [(&mut [T], usize)],
        (unit, side): (usize, usize),
        f: impl Fn(usize, Strip<'_, T>) + Sync,
    ) {
        assert!(unit > 0 && side > 0, "unit and side must be positive");
        let matrices: Vec<Matrix<T>> = matrices.iter_mut().map(|(data, width)| Matrix::new(data, *width)).collect();
        if matrices.iter().all(|matrix| matrix.rows == 0) {
            return;
        }
        let threads = self.threads();
        if threads == 1 {
            let whole = |(index, matrix): (_, &Matrix<T>)| f(index, matrix.strip(0..matrix.width));
            return matrices.iter().enumerate().filter(|(_, matrix)| matrix.rows > 0).for_each(whole);
        }
        let parts = |matrix: &Matrix<T>| {
            let units = if matrix.rows > 0 { matrix.width.div_ceil(unit) } else { 0 };
            (0..threads).map(|worker| Left::new(part(units, threads, worker))).collect()
        };
        let left: Vec<Vec<Left>> = matrices.iter().map(parts).collect();
        self.run(&|worker| {
            let call = |index: usize, units: Range<usize>| {
                let border = |unit_index: usize| (unit_index * unit).min(matrices[index].width);
                f(index, matrices[index].strip(border(units.start)..border(units.end)));
            };
            for (index, left) in left.iter().enumerate() {
                std::iter::from_fn(|| left[worker].front(side)).for_each(|units| call(index, units));
            }
            for owner in (1..threads.min(NEIGHBOURS + 1)).map(|step| (worker + step) % threads) {
                for (index, left) in left.iter().enumerate() {
                    std::iter::from_fn(|| left[owner].back(side)).for_each(|units| call(index, units));
                }
            }
        });
    }

    /// Splits the rows of the row-major matrix `data` (`width` columns) among the workers and calls
    /// `f(row index, row)` for each row.
    ///
    /// # Panics
    /// If `data` is not a whole number of rows, and with the panic of `f`.
    pub fn each_row<T: Send>(&self, data: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let rows = data.len() / width.max(1);
        let mut units = vec![(); rows];
        self.each_row_pair((data, width), (&mut units, 1), |row, data, _| f(row, data));
    }

    /// As [`Team::each_row`] for two matrices (each with its width) of as many rows: calls `f(row index, row, row)`.
    /// A single row is done by the leader, without waking anyone.
    ///
    /// # Panics
    /// If the matrices are not whole numbers of rows, or differ in them, and with the panic of `f`.
    pub fn each_row_pair<A: Send, B: Send>(
        &self,
        (a, a_width): (&mut [A], usize),
        (b, b_width): (&mut [B], usize),
        f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        let rows = a.len().checked_div(a_width).unwrap_or(0);
        assert!(a.len() == rows * a_width && b.len() == rows * b_width, "matrices of {rows} rows");
        if rows == 1 {
            return f(0, a, b);
        }
        let (a, b, threads) = (Base(a.as_mut_ptr()), Base(b.as_mut_ptr()), self.threads());
        self.run(&|worker| {
            for row in part(rows, threads, worker) {
                // SAFETY: `row < rows`, so both slices lie inside their matrices; each row falls to one worker, which
                // takes it once.
                let (a, b) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(a.get().add(row * a_width), a_width),
                        std::slice::from_raw_parts_mut(b.get().add(row * b_width), b_width),
                    )
                };
                f(row, a, b);
            }
        });
    }
}
