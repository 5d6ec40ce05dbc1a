//! What makes times differ from a fitted line, and how far a line or a new time may thus be off.
//!
//! A process's time is the line's, stretched by what is its size's own (a cache that holds part of it, a shape's padding), by what is
//! its block's own (a neighbour, a clock) and by what is left. Each has a variance, estimated from mean squares of a crossed
//! layout (sizes by blocks; Searle, Casella & McCulloch, Variance Components, 1992, section 4.3), and what is asked for is a sum of
//! them. Each brings its own half interval, of Student's t with its own degrees of freedom, whose squares add (Howe, Journal of the
//! American Statistical Association 69, 1974): exact where one part decides, too wide rather than too narrow where several do.
//! (Satterthwaite's common degrees of freedom are too narrow with three sizes, where by luck they lie on a line.) Layouts with holes are
//! taken as if the same number of processes were spread evenly over sizes and blocks. How often such intervals hold the truth is simulated
//! in `reports/tests/coverage.rs`.

use super::{Line, Point};
use crate::stats::{CONFIDENCE, student};
use std::collections::BTreeMap;

/// A mean square of relative residuals and its degrees of freedom.
#[derive(Clone, Copy, Debug, Default)]
struct Square {
    mean: f64,
    freedom: u32,
}

impl Square {
    /// Nothing where no degree of freedom is left.
    fn new(sum: f64, freedom: usize) -> Square {
        if freedom == 0 { Square::default() } else { Square { mean: sum / freedom as f64, freedom: freedom as u32 } }
    }

    fn times(self, factor: f64) -> Square {
        Square { mean: self.mean * factor.max(0.0), ..self }
    }
}

/// Mean squares between sizes (about the line), between blocks, and of what is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    /// Sum of squares between sizes.
    size: f64,
    sizes: usize,
    block: Square,
    rest: Square,
    blocks: f64,
    /// Processes of a size, and of a block, on average.
    per_size: f64,
    per_block: f64,
}

impl Spread {
    /// Of points about their line.
    pub(super) fn of(points: &[Point], line: Line) -> Spread {
        let residual = |p: &Point| (line.at(p.bytes) / p.seconds).ln();
        let of_size = means(points.iter().map(|p| (p.bytes.to_bits(), residual(p))));
        // Without its size's share.
        let within = |p: &Point| residual(p) - of_size[&p.bytes.to_bits()];
        let of_block = means(points.iter().map(|p| (p.block, within(p))));
        let squares = |of: &dyn Fn(&Point) -> f64| points.iter().map(|p| of(p).powi(2)).sum::<f64>();
        let (n, sizes, blocks) = (points.len(), of_size.len(), of_block.len());
        Spread {
            size: squares(&|p| of_size[&p.bytes.to_bits()]),
            sizes,
            block: Square::new(squares(&|p| of_block[&p.block]), blocks - 1),
            rest: Square::new(squares(&|p| within(p) - of_block[&p.block]), (n + 1).saturating_sub(sizes + blocks)),
            blocks: blocks as f64,
            per_size: n as f64 / sizes as f64,
            per_block: n as f64 / blocks as f64,
        }
    }

    /// Between sizes, about a line of so many coefficients.
    fn size(&self, coefficients: usize) -> Square {
        Square::new(self.size, self.sizes - coefficients)
    }

    /// Half the interval of a function of the line of so many coefficients: `variance` is its own where that of a residual is 1, `whole` the square of the
    /// factor by which it is stretched as a block is. `None` of one block.
    pub(super) fn of_line(&self, coefficients: usize, variance: f64, whole: f64) -> Option<f64> {
        let between = (self.block.mean - self.rest.mean) / (self.per_block * self.blocks);
        let block = Square { mean: (whole * between).max(0.0), ..self.block };
        (self.blocks > 1.0).then(|| half(&[self.size(coefficients).times(variance), block]))
    }

    /// Half the interval, relative, of a new process of a new size in a new block: `variance` is that of the line there.
    pub(super) fn of_new(&self, coefficients: usize, variance: f64) -> f64 {
        let block = (1.0 + 1.0 / self.blocks) / self.per_block;
        let rest = 1.0 - 1.0 / self.per_size - block;
        let size = self.size(coefficients).times(variance + 1.0 / self.per_size);
        half(&[size, self.block.times(block), self.rest.times(rest)])
    }
}

/// Mean of each group's values.
fn means<K: Ord>(values: impl Iterator<Item = (K, f64)>) -> BTreeMap<K, f64> {
    let mut groups: BTreeMap<K, (f64, f64)> = BTreeMap::new();
    for (key, value) in values {
        let (sum, n) = groups.entry(key).or_default();
        *sum += value;
        *n += 1.0;
    }
    groups.into_iter().map(|(key, (sum, n))| (key, sum / n)).collect()
}

/// Half the interval of a sum of independent parts, each with its variance.
fn half(parts: &[Square]) -> f64 {
    let square = |part: &Square| part.mean * student(part.freedom, CONFIDENCE).powi(2);
    parts.iter().filter(|part| part.mean > 0.0).map(square).sum::<f64>().sqrt()
}
