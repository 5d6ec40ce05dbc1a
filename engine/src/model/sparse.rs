//! The feed-forward of a single token where ReLU² makes zeros: rows of `up` and columns of `down` behind them stay unread.
//!
//! Both matrices are held a second time, by rows and by columns. Which packing is read is chosen per token and layer: with
//! few zeros, and for batches, the panels of the dense engine.
//!
//! # Why not a bit changes
//! With a gate of 0 or less, max(gate, 0)² is +0, and its product with `up` is +0 or -0 as `up` is a finite number. Here
//! `up` is taken as 0, so the product is +0: all that can differ is the sign of a zero. The norm's sum of squares has the
//! same terms (the square of either zero is +0), a zero times the norm's factors is a zero or, if they are no number, NaN
//! as ever; absmax ignores signs; and either zero is the int8 code 0. So `down` reads the same int8 codes, whose i32 sums
//! do not change when those that are 0 (others round to 0 too) are left out.
//!
//! `up` is a finite number if the largest that its i32 sum can be, times both scales, is one. If not, all of it is computed.
//! A gate that is NaN gives NaN whatever `up` is; it counts as one above 0.

use super::config::Format;
use super::{Layer, Model};
use crate::error::{Error, Result};
use crate::input::Input;
use crate::kernels::isa::Kernels;
use crate::kernels::sparse::{
    Crossover, count_active, count_nonzero, forward_columns, forward_rows, list_active, list_nonzero, order,
};
use crate::linear::Linear;
use crate::quant::{TernaryColumns, TernaryRows, ternary};
use crate::threads::Team;

/// What the feed-forward left out, counted over single tokens in each layer (batches leave out nothing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SparseReads {
    /// Layers passed by single tokens.
    pub layers: u64,
    /// Of them, those whose `up` was read by rows.
    pub up_layers: u64,
    /// Of them, those whose `down` was read by columns.
    pub down_layers: u64,
    /// Gates.
    pub gates: u64,
    /// Gates of 0 or less.
    pub zero_gates: u64,
    /// Activations of `down` that are 0 as int8: those behind such gates, and those that round to 0.
    pub zero_activations: u64,
    /// Weight bytes of `up` and `down` that were read.
    pub bytes: u64,
    /// Weight bytes of `up` and `down` that would have been read without leaving out any.
    pub dense_bytes: u64,
}

/// The second packings of a layer.
#[derive(Debug)]
pub(super) struct SparseLayer {
    pub(super) up: TernaryRows,
    pub(super) down: TernaryColumns,
}

impl SparseLayer {
    fn new(layer: &Layer) -> Result<SparseLayer> {
        let up = panels(&layer.up, TernaryRows::from_panels)?;
        let down = panels(&layer.down, TernaryColumns::from_panels)?;
        Ok(SparseLayer { up, down })
    }

    /// Bytes beside those of the panels.
    pub(super) fn bytes(&self) -> usize {
        self.up.packed().len() + self.down.packed().len()
    }
}

/// What `make` makes of a matrix's shape, scale and panels at 2 bits.
fn panels<T>(linear: &Linear, make: impl FnOnce((usize, usize), f32, &[u8]) -> Result<T>) -> Result<T> {
    let shape = (linear.rows(), linear.cols());
    match linear {
        Linear::Ternary(matrix) => make(shape, matrix.scale(), matrix.packed()),
        Linear::Base3(matrix) => make(shape, matrix.scale(), &matrix.unpacked()),
        other => {
            let found = other.kind().to_owned();
            Err(Error::Config { field: "ffn_up and ffn_down", expected: "ternary weights".to_owned(), found })
        }
    }
}

/// Whether every output is surely a finite number: the largest that a sum can be, times both scales.
fn is_finite(matrix: &TernaryRows, step: f32) -> bool {
    // A sum of (code - 1) x int8 is at most 128 a column; f64 holds the product, and f32 rounds what it computes.
    let scale = f64::from(matrix.scale() * step);
    (scale * 128.0 * matrix.cols() as f64).abs() < f64::from(f32::MAX) / 2.0
}

impl Model {
    /// The same model with the second packings, if `format` has them.
    ///
    /// # Errors
    /// Memory that the system refuses, and [`Error::Config`] if the feed-forward is not ternary.
    pub(crate) fn packed_for(mut self, format: Format) -> Result<Model> {
        if format.is_sparse() {
            self.sparse = self.layers.iter().map(SparseLayer::new).collect::<Result<_>>()?;
        }
        Ok(self)
    }
}

/// Working memory, and the counts.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// The rows of `up` behind gates above 0, then the columns of `down` behind activations other than 0.
    active: Vec<u32>,
    /// The activations of `up` in the order of rows.
    ordered: Vec<i8>,
    /// The outputs of the rows.
    outputs: Vec<f32>,
    pub(super) reads: SparseReads,
}

impl Sparse {
    /// Writes `up` of a single token behind the gates above 0, and 0 elsewhere; all of it if zeros are too few.
    pub(super) fn up(
        &mut self,
        (team, kernels): (&Team<'_>, Kernels),
        (linear, rows): (&Linear, &TernaryRows),
        input: &mut Input,
        (gate, up): (&[f32], &mut [f32]),
    ) {
        input.prepare(team, kernels, linear);
        let (count, dense) = (count_active(gate), linear.bytes() as u64);
        self.reads.layers += 1;
        self.reads.gates += gate.len() as u64;
        self.reads.zero_gates += (gate.len() - count) as u64;
        self.reads.dense_bytes += dense;
        let (int8, token) = (input.int8(), input.int8().scales[0]);
        if !Crossover::of(kernels).rows(count, gate.len()) || !is_finite(rows, token.step) {
            self.reads.bytes += dense;
            return linear.forward(team, kernels, input, up);
        }
        self.reads.up_layers += 1;
        self.reads.bytes += (count * rows.row_bytes()) as u64;
        order(int8.token(0, ternary::BLOCK), &mut self.ordered);
        list_active(kernels, gate, &mut self.active);
        self.outputs.resize(count, 0.0);
        forward_rows(team, kernels, rows, (&self.ordered, token), &self.active, &mut self.outputs);
        up.fill(0.0);
        for (&row, &output) in self.active.iter().zip(&self.outputs) {
            up[row as usize] = output;
        }
    }

    /// Writes `down` of a single token by the columns of activations other than 0; by all of them if zeros are too few.
    pub(super) fn down(
        &mut self,
        (team, kernels): (&Team<'_>, Kernels),
        (linear, columns): (&Linear, &TernaryColumns),
        input: &mut Input,
        out: &mut [f32],
    ) {
        input.prepare(team, kernels, linear);
        let (int8, cols, dense) = (input.int8(), linear.cols(), linear.bytes() as u64);
        let activations = int8.token(0, ternary::BLOCK);
        let count = count_nonzero(&activations[..cols]);
        self.reads.zero_activations += (cols - count) as u64;
        self.reads.dense_bytes += dense;
        if !Crossover::of(kernels).columns(count, cols) {
            self.reads.bytes += dense;
            return linear.forward(team, kernels, input, out);
        }
        self.reads.down_layers += 1;
        self.reads.bytes += (count * columns.column_bytes()) as u64;
        list_nonzero(kernels, &activations[..cols], &mut self.active);
        forward_columns(team, kernels, columns, (activations, int8.scales[0]), &self.active, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::Isa;
    use crate::quant::TernaryMatrix;
    use crate::threads::Pool;

    /// `up` of 40 rows of ones, of the scale given, for gates of which all but 9 are not above 0.
    fn up(scale: f32, x: f32) -> (Vec<f32>, SparseReads) {
        let ones = TernaryMatrix::from_codes(40, 70, scale, |_, _| 1).unwrap();
        let (rows, linear) = (TernaryRows::new(&ones).unwrap(), Linear::Ternary(ones));
        let mut gate = vec![-1.0; 40];
        gate[..9].fill(1.0);
        (gate[20], gate[21], gate[3]) = (0.0, -0.0, f32::NAN);
        let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(Some(Isa::best())).unwrap());
        let (mut sparse, mut out) = (Sparse::default(), vec![f32::NAN; 40]);
        let mut input = Input::new(1, 70);
        input.f32_mut(1).fill(x);
        pool.enter(|team| sparse.up((team, kernels), (&linear, &rows), &mut input, (&gate, &mut out)));
        (out, sparse.reads)
    }

    #[test]
    fn rows_behind_gates_above_zero_are_computed() {
        let (out, reads) = up(0.5, 2.0);
        assert!(out[..9].iter().all(|up| (up - 70.0).abs() < 0.1) && out[9..].iter().all(|&up| up == 0.0), "{out:?}");
        assert_eq!((reads.layers, reads.up_layers, reads.gates, reads.zero_gates), (1, 1, 40, 31));
        assert_eq!((reads.bytes, reads.dense_bytes), (9 * 64, 3 * 5 * 64));
    }

    /// Zero times what is no finite number is NaN: such an `up` must be there, whatever the gate.
    #[test]
    fn what_may_overflow_is_computed_in_full() {
        for (scale, x) in [(1e38, 1e3), (1e37, 1e1), (1.0, f32::INFINITY), (1.0, f32::NAN)] {
            let (out, reads) = up(scale, x);
            assert!(out.iter().all(|up| !up.is_finite()), "{scale} {x}: {out:?}");
            assert_eq!((reads.up_layers, reads.bytes), (0, 3 * 5 * 64));
        }
    }
}
