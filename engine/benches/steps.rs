//! What lies between the linear layers: norm, quantisation, rotary embedding, gated activations, softmax, residual addition,
//! by ISA; and what a fork and join of the threads costs.
//!
//! A token's steps run on one thread and in the nearest cache, so the limit of their bytes is plain reading there, though a
//! part is written. Operations that are no multiply-adds count one each, where the peak counts two an instruction: such a
//! step cannot get beyond half of it.

mod common;

use common::{Arithmetic, Bench, Case, Work, numbers, paths, same_bits, thread_counts};
use engine::kernels::alone;
use engine::quant::{F16Matrix, Q8Matrix, TernaryMatrix};
use engine::{Input, Isa, Kernels, Linear, Pool};
use half::f16;

const EPS: f32 = 1e-5;
/// Operations of an exp of negative numbers: reduction (8), polynomial (12), scaling (2).
const EXP: usize = 22;

/// A token's values, a second operand or weights, and the answer.
struct State {
    x: Vec<f32>,
    y: Vec<f32>,
    out: Vec<f32>,
    sum: f32,
}

impl State {
    fn new(width: usize) -> State {
        State { x: numbers(width, 1), y: numbers(width, 2), out: vec![0.0; width], sum: 0.0 }
    }

    fn equals(&self, other: &State) -> bool {
        same_bits(&self.x, &other.x) && same_bits(&self.out, &other.out) && self.sum.to_bits() == other.sum.to_bits()
    }
}

/// A step, and what it does for each value.
struct Step {
    name: &'static str,
    width: usize,
    bytes: usize,
    operations: usize,
    pass: fn(Kernels, &mut State),
}

/// Of 2B4T: 2560 values, 6912 in the feed-forward, 20 heads of 128; 4096 scores.
const STEPS: [Step; 10] = [
    Step { name: "rms-norm", width: 2560, bytes: 12, operations: 4, pass: norm },
    Step { name: "rms-norm", width: 6912, bytes: 12, operations: 4, pass: norm },
    Step { name: "silu-gate", width: 6912, bytes: 12, operations: EXP + 12, pass: silu },
    Step { name: "relu2-gate", width: 6912, bytes: 12, operations: 3, pass: relu2 },
    Step { name: "rope-neox", width: 2560, bytes: 8, operations: 3, pass: neox },
    Step { name: "rope-neox", width: 640, bytes: 8, operations: 3, pass: neox },
    Step { name: "rope-interleaved", width: 2560, bytes: 8, operations: 3, pass: interleaved },
    Step { name: "softmax", width: 4096, bytes: 12, operations: EXP + 3, pass: softmax },
    Step { name: "softmax", width: 128, bytes: 12, operations: EXP + 3, pass: softmax },
    Step { name: "add", width: 2560, bytes: 12, operations: 1, pass: add },
];

fn norm(kernels: Kernels, s: &mut State) {
    alone::rms_norm(kernels, &s.x, &s.y, EPS, &mut s.out);
}

fn silu(kernels: Kernels, s: &mut State) {
    alone::silu_gate(kernels, &s.x, &s.y, &mut s.out);
}

fn relu2(kernels: Kernels, s: &mut State) {
    alone::relu2_gate(kernels, &s.x, &s.y, &mut s.out);
}

/// The angles' cosines and sines need not be such: numbers shrink no further than the rotation below lets them.
fn neox(kernels: Kernels, s: &mut State) {
    let (cos, sin) = ([0.6; 64], [0.8; 64]);
    alone::rope_neox(kernels, &mut s.x, &cos, &sin);
}

fn interleaved(kernels: Kernels, s: &mut State) {
    let (cos, sin) = ([0.6; 64], [0.8; 64]);
    alone::rope_interleaved(kernels, &mut s.x, &cos, &sin);
}

fn softmax(kernels: Kernels, s: &mut State) {
    s.sum = alone::softmax(kernels, &mut s.x);
}

fn add(kernels: Kernels, s: &mut State) {
    alone::add_assign(kernels, &mut s.x, &s.y);
}

fn scalar() -> Kernels {
    Kernels::new(Some(Isa::Scalar)).expect("plain code")
}

fn steps(bench: &mut Bench) {
    for Step { name, width, bytes, operations, pass } in STEPS {
        for isa in paths(false) {
            let case = Case { name: format!("{name}/{width}"), isa, threads: 1 };
            let bytes = bytes * width;
            let work = Work { bytes, within: bytes, operations: operations * width, arithmetic: Arithmetic::F32 };
            bench.case(&case, work.throughput(), |timer| {
                let (kernels, mut state) = (case.kernels(), State::new(width));
                let right = |state: &mut State| {
                    let mut expected = State::new(width);
                    pass(scalar(), &mut expected);
                    state.equals(&expected)
                };
                timer.time(work, &mut state, |state| pass(kernels, state), right);
            });
        }
    }
}

/// A matrix that reads the activations in the form to be made.
fn reader(kind: &str, cols: usize) -> Linear {
    let made = match kind {
        "int8" => TernaryMatrix::from_codes(16, cols, 0.5, |row, col| ((row + col) % 3) as i8 - 1).map(Linear::Ternary),
        "q8" => Q8Matrix::from_rows(16, cols, |row, out| {
            out.copy_from_slice(&numbers(cols, row));
            Ok(())
        })
        .map(Linear::Q8),
        _ => F16Matrix::from_panels(16, cols, |_, out| out.fill(f16::ONE)).map(Linear::F16),
    };
    made.expect("a matrix of these dimensions")
}

/// Activations in the form that linear layers read: int8 a token, int8 a block of 32, and tiles of tokens; `norm`: after
/// RMSNorm, as two steps, which the engine takes one after the other.
fn prepare(bench: &mut Bench, kind: &str, norm: bool, tokens: usize, cols: usize) {
    let linear = reader(kind, cols);
    let form = match (kind, tokens) {
        ("f16", _) => 4,
        ("int8", 2..) => 3,
        _ => 1,
    };
    let quantise = if kind == "f16" { 0 } else { 3 };
    let (bytes, operations) = if norm { (16 + form, 4 + quantise) } else { (4 + form, quantise) };
    let (bytes, operations) = (bytes * tokens * cols, operations * tokens * cols);
    let work = Work { bytes, within: bytes, operations, arithmetic: Arithmetic::F32 };
    let (x, weight) = (numbers(tokens * cols, 1), numbers(cols, 2));
    let name = format!("{}{kind}/{tokens}x{cols}", if norm { "rms-norm-then-" } else { "to-" });
    for isa in paths(false).into_iter().filter(|&isa| tokens == 1 || isa != Isa::Scalar) {
        for threads in thread_counts().into_iter().filter(|&threads| tokens > 1 || threads == 1) {
            let case = Case { name: name.clone(), isa, threads };
            bench.case(&case, work.throughput(), |timer| {
                let pool = Pool::new(threads, true).expect("a thread pool");
                pool.enter(|team| {
                    let fill = |input: &mut Input, kernels| {
                        // Asking for the values to write is what makes the input forget its other forms.
                        for (x, out) in x.chunks_exact(cols).zip(input.f32_mut(tokens).chunks_exact_mut(cols)) {
                            if norm {
                                alone::rms_norm(kernels, x, &weight, EPS, out);
                            }
                        }
                        input.prepare(team, kernels, &linear);
                    };
                    let answer = |input: &Input, kernels| {
                        let mut out = vec![0.0; tokens * linear.rows()];
                        linear.forward(team, kernels, input, &mut out);
                        out
                    };
                    let filled = || {
                        let mut input = Input::new(tokens, cols);
                        input.f32_mut(tokens).copy_from_slice(&x);
                        input
                    };
                    let (kernels, mut input) = (case.kernels(), filled());
                    timer.time(
                        work,
                        &mut input,
                        |input| fill(input, kernels),
                        |found| {
                            let mut expected = filled();
                            fill(&mut expected, scalar());
                            same_bits(&answer(found, kernels), &answer(&expected, scalar()))
                        },
                    );
                });
            });
        }
    }
}

fn fork_join(bench: &mut Bench) {
    for threads in thread_counts() {
        let pool = Pool::new(threads, true).expect("a thread pool");
        let case = Case { name: "fork-join".to_owned(), isa: Isa::Scalar, threads };
        let work = Work { bytes: 0, within: 0, operations: 0, arithmetic: Arithmetic::F32 };
        bench.case(&case, work.throughput(), |timer| {
            pool.enter(|team| {
                let job = |worker: usize| {
                    std::hint::black_box(worker);
                };
                timer.time(work, &mut (), |()| team.run(&job), |()| true);
            });
        });
    }
}

fn main() {
    let mut bench = Bench::new();
    fork_join(&mut bench);
    steps(&mut bench);
    for cols in [2560, 6912] {
        prepare(&mut bench, "int8", false, 1, cols);
        prepare(&mut bench, "int8", true, 1, cols);
        prepare(&mut bench, "q8", false, 1, cols);
        for kind in ["int8", "q8", "f16"] {
            prepare(&mut bench, kind, false, 128, cols);
        }
    }
    bench.finish("steps");
}
