//! Handing each worker its own part of an output.

use std::marker::PhantomData;
use std::ops::Range;

use super::Team;

/// The contiguous share of `units` that falls to `worker` of `threads`; shares differ by at most one.
pub(super) fn part(units: usize, threads: usize, worker: usize) -> Range<usize> {
    let border = |w: usize| (units as u128 * w as u128 / threads as u128) as usize;
    border(worker)..border(worker + 1)
}

/// A pointer that jobs may share because each derives a disjoint part from it.
struct Base<T>(*mut T);

// SAFETY: only disjoint parts are derived (see the uses below), each of which is a `&mut` of its worker: `T: Send`.
unsafe impl<T: Send> Sync for Base<T> {}

impl<T> Base<T> {
    fn get(&self) -> *mut T {
        self.0
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
    /// Splits `data` into contiguous pieces, one a worker, with borders at multiples of `unit` elements, and calls
    /// `f(first, piece)` with the index of each piece's first element. Workers without a piece are not called.
    ///
    /// # Panics
    /// If `unit` is 0, and with the panic of `f`.
    pub fn split<T: Send>(&self, data: &mut [T], unit: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let width = data.len();
        self.split_rows(data, width, unit, |mut strip| {
            let first = strip.columns().start;
            f(first, strip.row(0));
        });
    }

    /// Splits the columns of the row-major matrix `data` (`width` columns) among the workers, with borders at
    /// multiples of `unit` columns, and calls `f` with each worker's strip. Workers without one are not called.
    ///
    /// # Panics
    /// If `unit` is 0 or `data` is not a whole number of rows, and with the panic of `f`.
    pub fn split_rows<T: Send>(&self, data: &mut [T], width: usize, unit: usize, f: impl Fn(Strip<'_, T>) + Sync) {
        self.split_rows_each(&mut [(data, width)], unit, |_, strip| f(strip));
    }

    /// As [`Team::split_rows`] for several matrices (each with its width) in one fork and join: calls `f` with the
    /// number of a matrix and the worker's strip of it, in the order of the matrices.
    ///
    /// # Panics
    /// If `unit` is 0 or a matrix is not a whole number of rows, and with the panic of `f`.
    pub fn split_rows_each<T: Send>(
        &self,
        matrices: &mut [(&mut [T], usize)],
        unit: usize,
        f: impl Fn(usize, Strip<'_, T>) + Sync,
    ) {
        assert!(unit > 0, "unit must be positive");
        let parts = |(data, width): &mut (&mut [T], usize)| {
            let rows = if data.is_empty() { 0 } else { data.len() / (*width).max(1) };
            assert!(data.len() == rows * *width, "{} elements in rows of {width}", data.len());
            (Base(data.as_mut_ptr()), rows, *width)
        };
        let matrices: Vec<_> = matrices.iter_mut().map(parts).collect();
        if matrices.iter().all(|(_, rows, _)| *rows == 0) {
            return;
        }
        let threads = self.threads();
        self.run(&|worker| {
            for (index, (base, rows, width)) in matrices.iter().enumerate() {
                let units = part(width.div_ceil(unit), threads, worker);
                // The parts of different workers are disjoint and below `width`: what `Strip::row` relies on.
                let columns = (units.start * unit).min(*width)..(units.end * unit).min(*width);
                if *rows > 0 && !columns.is_empty() {
                    f(index, Strip { base: base.get(), rows: *rows, width: *width, columns, data: PhantomData });
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
