//! Rows of `up` and columns of `down` alone, by the share of zeros: from DRAM, as a model's layers in turn.
//!
//! Which rows are read differs from layer to layer and from pass to pass, else few of them would soon lie in a cache. The
//! bytes are those read; the limit is plain reading of all memory that they are strewn over.

mod common;

use std::cell::OnceCell;

use common::{Arithmetic, Bench, Case, STREAM_BYTES, Timer, Work, noise, numbers, paths, same_bits, thread_counts};
use engine::kernels::alone::SparseToken;
use engine::quant::{TernaryColumns, TernaryMatrix, TernaryRows};
use engine::{Isa, Kernels, Pool, Team};

const UP: (usize, usize) = (6912, 2560);
const ZEROS: [usize; 4] = [0, 50, 80, 95];
/// Lists of active rows or columns: an odd number, so that a layer meets another in each pass.
const LISTS: usize = 17;

/// All layers of one kind.
enum Layers {
    Up(Vec<TernaryRows>),
    Down(Vec<TernaryColumns>),
}

impl Layers {
    fn new(kind: &str, (ffn, hidden): (usize, usize), bytes: usize) -> Layers {
        let copies = bytes.div_ceil(ffn * hidden / 4);
        let matrix = |rows, cols| {
            let code = |row: usize, col: usize| (noise(row * cols + col) % 3) as i8 - 1;
            TernaryMatrix::from_codes(rows, cols, 0.05, code).expect("a matrix of these dimensions")
        };
        if kind == "rows" {
            let one = matrix(ffn, hidden);
            Layers::Up((0..copies).map(|_| TernaryRows::new(&one).expect("memory")).collect())
        } else {
            let one = matrix(hidden, ffn);
            Layers::Down((0..copies).map(|_| TernaryColumns::new(&one).expect("memory")).collect())
        }
    }

    /// Layers, the bytes of all, those of a row or column, inputs, outputs if all are read.
    fn sizes(&self) -> (usize, usize, usize, usize, usize) {
        match self {
            Layers::Up(m) => (m.len(), m.len() * m[0].packed().len(), m[0].row_bytes(), m[0].cols(), m[0].rows()),
            Layers::Down(m) => (m.len(), m.len() * m[0].packed().len(), m[0].column_bytes(), m[0].cols(), m[0].rows()),
        }
    }

    fn run(&self, layer: usize, at: &Place<'_>, list: &[u32], out: &mut Vec<f32>) {
        match self {
            Layers::Up(matrices) => {
                out.resize(list.len(), 0.0);
                at.token.rows(at.team, at.kernels, &matrices[layer], list, out);
            }
            Layers::Down(matrices) => {
                out.resize(matrices[layer].rows(), 0.0);
                at.token.columns(at.team, at.kernels, &matrices[layer], list, out);
            }
        }
    }
}

/// Layers of a shape before they are made, as [`Layers::sizes`] has them of those made: bytes go by 16 of `ffn`.
fn sizes(kind: &str, (ffn, hidden): (usize, usize), bytes: usize) -> (usize, usize, usize, usize, usize) {
    let (_, part, each, cols, rows) = Layers::new(kind, (16, hidden), 1).sizes();
    let count = bytes.div_ceil(ffn * hidden / 4);
    let (cols, rows) = if kind == "rows" { (cols, ffn) } else { (ffn, rows) };
    (count, part * ffn.div_ceil(16) * count, each, cols, rows)
}

/// What a pass does over `lists`, given by [`sizes`].
fn work((count, within, each, cols, rows): (usize, usize, usize, usize, usize), up: bool, lists: &[Vec<u32>]) -> Work {
    let per = if up { cols } else { rows };
    let active = lists.iter().map(Vec::len).sum::<usize>() * count / LISTS;
    Work { bytes: active * each, within, operations: 2 * active * per, arithmetic: Arithmetic::Int8 }
}

/// Where and with what a layer runs.
struct Place<'a> {
    team: &'a Team<'a>,
    kernels: Kernels,
    token: SparseToken,
}

/// What stays active, ascending, in each list.
fn lists(of: usize, zeros: usize) -> Vec<Vec<u32>> {
    let active = |list: usize, i: usize| (noise(list * of + i) >> 16) % 100 >= zeros as u64;
    (0..LISTS).map(|list| (0..of).filter(|&i| active(list, i)).map(|i| i as u32).collect()).collect()
}

fn time(case: &Case, layers: &Layers, zeros: usize, timer: Timer<'_, '_>) {
    let sizes @ (count, _, _, cols, rows) = layers.sizes();
    let up = matches!(layers, Layers::Up(_));
    let lists = lists(if up { rows } else { cols }, zeros);
    let work = work(sizes, up, &lists);
    let pool = Pool::new(case.threads, true).expect("a thread pool");
    pool.enter(|team| {
        let x = numbers(cols, 3);
        let at = |kernels| Place { team, kernels, token: SparseToken::new(kernels, &x) };
        let (fast, scalar) = (at(case.kernels()), at(Kernels::new(Some(Isa::Scalar)).expect("plain code")));
        let mut passes = 0;
        let pass = |out: &mut Vec<f32>| {
            (0..count).for_each(|layer| layers.run(layer, &fast, &lists[(passes + layer) % LISTS], out));
            passes += 1;
        };
        let right = |out: &mut Vec<f32>| {
            let mut expected = Vec::new();
            layers.run(count - 1, &scalar, &lists[(count - 1) % LISTS], &mut expected);
            same_bits(out, &expected)
        };
        timer.time(work, &mut Vec::new(), pass, right);
    });
}

fn main() {
    let mut bench = Bench::new();
    let quick = bench.quick;
    let (shape, bytes) = if quick { ((80, 512), 1 << 16) } else { (UP, STREAM_BYTES) };
    for kind in ["rows", "columns"] {
        let layers = OnceCell::new();
        let sizes = sizes(kind, shape, bytes);
        for zeros in ZEROS {
            let told = work(sizes, kind == "rows", &lists(shape.0, zeros)).throughput();
            for isa in paths(true).into_iter().filter(|&isa| isa != Isa::Scalar || quick) {
                for threads in thread_counts() {
                    let name = format!("stream/{kind}/{}x{}/{zeros}%-zeros", shape.0, shape.1);
                    let case = Case { name, isa, threads };
                    let made = || layers.get_or_init(|| Layers::new(kind, shape, bytes));
                    bench.case(&case, told.clone(), |timer| time(&case, made(), zeros, timer));
                }
            }
        }
    }
    bench.finish("sparse");
}
