//! The kernels by ISA and shape: decode in bytes of packed weights, prefill in multiply-adds, a second.
//!
//! Shapes are those of the 2B4T model's attention and feed-forward projections, and one far beyond the caches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::quant::{Base3Matrix, Bf16Matrix, F16Matrix, Q8Matrix, TernaryMatrix};
use engine::{Input, Isa, Kernels, Linear, Pool};
use half::{bf16, f16};

const SHAPES: [(usize, usize); 3] = [(2560, 2560), (6912, 2560), (32768, 8192)];
const KINDS: [&str; 5] = ["ternary-2bit", "ternary-1.6bit", "f16", "bf16", "q8_0"];
const PREFILL_TOKENS: usize = 128;

fn noise(i: usize) -> u64 {
    (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8
}

fn linear(kind: &str, rows: usize, cols: usize) -> Linear {
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
        "ternary-1.6bit" => Base3Matrix::from_panels(rows, cols, 0.05, |_, out| codes(out)).map(Linear::Base3),
        _ => TernaryMatrix::from_panels(rows, cols, 0.05, |_, out| codes(out)).map(Linear::Ternary),
    };
    made.expect("a matrix of these dimensions")
}

/// Codes of ternary weights, half of them 0, at 2 bits.
fn codes(out: &mut [u8]) {
    out.iter_mut().enumerate().for_each(|(i, b)| *b = (noise(i) as u8 & 0x55) + (noise(i) as u8 >> 1 & 0x55));
}

/// Thread counts: one, and all CPUs.
fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all > 1 { vec![1, all] } else { vec![1] }
}

fn linears(criterion: &mut Criterion) {
    for kind in KINDS {
        for (rows, cols) in SHAPES {
            let linear = linear(kind, rows, cols);
            for (workload, tokens) in [("decode", 1), ("prefill", PREFILL_TOKENS)] {
                bench_linear(criterion, workload, tokens, &linear);
            }
        }
    }
}

fn bench_linear(criterion: &mut Criterion, workload: &str, tokens: usize, linear: &Linear) {
    let (rows, cols) = (linear.rows(), linear.cols());
    let mut group = criterion.benchmark_group(format!("{workload}/{}/{rows}x{cols}", linear.kind()));
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    group.throughput(match tokens {
        1 => Throughput::Bytes(linear.bytes() as u64),
        _ => Throughput::Elements((rows * cols * tokens) as u64),
    });
    // The scalar path is there to be right; its prefill would take minutes.
    for isa in Isa::available().into_iter().filter(|&isa| tokens == 1 || isa != Isa::Scalar) {
        let kernels = Kernels::new(Some(isa)).expect("an available ISA");
        for threads in thread_counts() {
            let pool = Pool::new(threads, true).expect("a thread pool");
            let mut input = Input::new(tokens, cols);
            input.f32_mut(tokens).iter_mut().enumerate().for_each(|(i, x)| *x = (i % 17) as f32 - 8.0);
            let mut out = vec![0.0; tokens * rows];
            pool.enter(|team| {
                input.prepare(team, kernels, linear);
                group.bench_function(BenchmarkId::new(isa.name(), threads), |bencher| {
                    bencher.iter(|| linear.forward(team, kernels, black_box(&input), &mut out));
                });
            });
        }
    }
    group.finish();
}

fn fork_join(criterion: &mut Criterion) {
    for threads in thread_counts() {
        let pool = Pool::new(threads, true).expect("a thread pool");
        pool.enter(|team| {
            let job = |worker: usize| {
                black_box(worker);
            };
            criterion.bench_function(&format!("fork-join/{threads}"), |bencher| bencher.iter(|| team.run(&job)));
        });
    }
}

fn activations(criterion: &mut Criterion) {
    let pool = Pool::new(1, true).expect("a thread pool");
    let linear = linear("ternary-2bit", 16, 6912);
    let mut group = criterion.benchmark_group("quantise-token/6912");
    group.throughput(Throughput::Elements(6912));
    for isa in Isa::available() {
        let kernels = Kernels::new(Some(isa)).expect("an available ISA");
        let mut input = Input::new(1, 6912);
        input.f32_mut(1).iter_mut().enumerate().for_each(|(i, x)| *x = (i % 17) as f32 - 8.0);
        pool.enter(|team| {
            group.bench_function(isa.name(), |bencher| {
                bencher.iter(|| {
                    black_box(input.f32_mut(1));
                    input.prepare(team, kernels, &linear);
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fork_join, activations, linears);
criterion_main!(benches);
