//! Linear layers by weight format, shape, tokens, ISA and threads: from cache, from DRAM as a model's layers in turn, and in
//! batches.
//!
//! Shapes are those of the 2B4T model's attention and feed-forward.

mod common;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use common::{Arithmetic, Bench, Case, STREAM_BYTES, Timer, Work, noise, numbers, paths, same_bits, thread_counts};
use engine::quant::{Base3Matrix, Bf16Matrix, F16Matrix, Q6Matrix, Q8Matrix, TernaryMatrix};
use engine::{Input, Isa, Kernels, Linear, Pool};
use half::{bf16, f16};

const KINDS: [&str; 6] = ["ternary-2bit", "ternary-1.6bit", "f16", "bf16", "q8_0", "q6_k"];
const SQUARE: (usize, usize) = (2560, 2560);
const UP: (usize, usize) = (6912, 2560);
const DOWN: (usize, usize) = (2560, 6912);
/// Tokens of several sequences decoded together, then of prompts.
const BATCHES: [usize; 7] = [2, 4, 8, 16, 32, 128, 512];
/// For the check alone.
const SMALL: (usize, usize) = (80, 512);

fn linear(kind: &str, (rows, cols): (usize, usize)) -> Linear {
    let made = match kind {
        // Normal numbers of either sign around 2^-5.
        "f16" => F16Matrix::from_panels(rows, cols, |_, out| {
            out.iter_mut().enumerate().for_each(|(i, w)| *w = f16::from_bits(0x2800 | noise(i) as u16 & 0x83ff));
        })
        .map(Linear::F16),
        "bf16" => Bf16Matrix::from_panels(rows, cols, |_, out| {
            out.iter_mut().enumerate().for_each(|(i, w)| *w = bf16::from_bits(0x3d00 | noise(i) as u16 & 0x80ff));
        })
        .map(Linear::Bf16),
        "q8_0" => Q8Matrix::from_rows(rows, cols, |_, out| {
            out.iter_mut().enumerate().for_each(|(i, w)| *w = f32::from(noise(i) as i8));
            Ok(())
        })
        .map(Linear::Q8),
        "q6_k" => Q6Matrix::from_rows(rows, cols, |_, out| {
            out.iter_mut().enumerate().for_each(|(i, w)| *w = f32::from(noise(i) as i8));
            Ok(())
        })
        .map(Linear::Q6),
        "ternary-1.6bit" => Base3Matrix::from_panels(rows, cols, 0.05, |_, out| codes(out)).map(Linear::Base3),
        _ => TernaryMatrix::from_panels(rows, cols, 0.05, |_, out| codes(out)).map(Linear::Ternary),
    };
    made.expect("a matrix of these dimensions")
}

/// Codes of ternary weights, half of them 0, at 2 bits.
fn codes(out: &mut [u8]) {
    out.iter_mut().enumerate().for_each(|(i, b)| *b = (noise(i) as u8 & 0x55) + (noise(i) as u8 >> 1 & 0x55));
}

/// Some equal matrices, made when first asked for, and what they give.
struct Weights {
    kind: &'static str,
    shape: (usize, usize),
    /// How many matrices take that many bytes; one if none.
    bytes: usize,
    made: OnceCell<Vec<Linear>>,
    /// By token.
    expected: RefCell<HashMap<usize, Vec<f32>>>,
}

impl Weights {
    fn new(kind: &'static str, shape: (usize, usize), bytes: usize) -> Weights {
        Weights { kind, shape, bytes, made: OnceCell::new(), expected: RefCell::default() }
    }

    fn get(&self) -> &[Linear] {
        self.made.get_or_init(|| (0..self.count()).map(|_| linear(self.kind, self.shape)).collect())
    }

    /// Bytes of one matrix, without making it: as many as its first 16 rows have, for every 16.
    fn each(&self) -> usize {
        linear(self.kind, (16, self.shape.1)).bytes() * self.shape.0.div_ceil(16)
    }

    fn count(&self) -> usize {
        self.bytes.div_ceil(self.each()).max(1)
    }

    /// Activations of a token.
    fn token(&self, t: usize) -> Vec<f32> {
        numbers(self.shape.1, t)
    }

    /// Whether the outputs of the first, the middle and the last token are those of the scalar path, token by token.
    fn are(&self, out: &[f32]) -> bool {
        let rows = self.shape.0;
        let tokens = out.len() / rows;
        let mut known = self.expected.borrow_mut();
        [0, tokens / 2, tokens - 1].into_iter().all(|t| {
            let expected = known.entry(t).or_insert_with(|| self.scalar(t));
            same_bits(&out[t * rows..][..rows], expected)
        })
    }

    fn scalar(&self, t: usize) -> Vec<f32> {
        let kernels = Kernels::new(Some(Isa::Scalar)).expect("plain code");
        let (mut input, mut out) = (Input::new(1, self.shape.1), vec![0.0; self.shape.0]);
        input.f32_mut(1).copy_from_slice(&self.token(t));
        let pool = Pool::new(*thread_counts().last().expect("one at least"), true).expect("a thread pool");
        pool.enter(|team| {
            input.prepare(team, kernels, &self.get()[0]);
            self.get()[0].forward(team, kernels, &input, &mut out);
        });
        out
    }

    fn work(&self, tokens: usize) -> Work {
        let (each, count) = (self.each(), self.count());
        let bytes = each * count;
        let arithmetic = match self.kind {
            "f16" => Arithmetic::F32,
            "bf16" => Arithmetic::Bf16,
            _ => Arithmetic::Int8,
        };
        let operations = 2 * self.shape.0 * self.shape.1 * tokens * count;
        Work { bytes, within: bytes, operations, arithmetic }
    }

    fn time(&self, case: &Case, tokens: usize, timer: Timer<'_, '_>) {
        let (rows, cols) = self.shape;
        let (kernels, pool) = (case.kernels(), Pool::new(case.threads, true).expect("a thread pool"));
        let mut input = Input::new(tokens, cols);
        for (t, x) in input.f32_mut(tokens).chunks_exact_mut(cols).enumerate() {
            x.copy_from_slice(&self.token(t));
        }
        let matrices = self.get();
        assert_eq!(matrices.iter().map(Linear::bytes).sum::<usize>(), self.work(tokens).bytes, "{}", case.name);
        let mut out = vec![0.0; tokens * rows];
        pool.enter(|team| {
            input.prepare(team, kernels, &matrices[0]);
            let pass = |out: &mut Vec<f32>| matrices.iter().for_each(|m| m.forward(team, kernels, &input, out));
            timer.time(self.work(tokens), &mut out, pass, |out| self.are(out));
        });
    }

    /// `scalar`: whether the plain path, which is there to be right, is to be timed too.
    fn bench(&self, bench: &mut Bench, workload: &str, tokens: usize, scalar: bool) {
        let (rows, cols) = self.shape;
        for isa in paths(self.kind.starts_with("ternary")).into_iter().filter(|&isa| scalar || isa != Isa::Scalar) {
            for threads in thread_counts() {
                let case = Case { name: format!("{workload}/{}/{rows}x{cols}", self.kind), isa, threads };
                bench.case(&case, self.work(tokens).throughput(), |timer| self.time(&case, tokens, timer));
            }
        }
    }
}

fn main() {
    let mut bench = Bench::new();
    let quick = bench.quick;
    let shape = |shape| if quick { SMALL } else { shape };
    for kind in KINDS {
        if !quick {
            Weights::new(kind, SQUARE, 0).bench(&mut bench, "decode", 1, true);
        }
        let up = Weights::new(kind, shape(UP), 0);
        up.bench(&mut bench, "decode", 1, true);
        for tokens in BATCHES.into_iter().filter(|&tokens| !quick || tokens == 2 || tokens == 32) {
            up.bench(&mut bench, &format!("batch-{tokens}"), tokens, false);
        }
        drop(up);
        if !quick {
            Weights::new(kind, DOWN, 0).bench(&mut bench, "batch-512", 512, false);
        }
        let bytes = if quick { 1 << 18 } else { STREAM_BYTES };
        Weights::new(kind, shape(UP), bytes).bench(&mut bench, "stream", 1, false);
    }
    bench.finish("linears");
}
