//! Attention by ISA, cache type, shape and thread count: decode in bytes of cache a second, to be held against the
//! machine's read bandwidth (`harness roofline`), prefill in multiply-adds a second, against its f32 peak.
//!
//! A decode pass goes through the caches of all layers, as a model's does: none stays in a nearer cache by itself.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::model::{Activation, Architecture, Attention, KvType, RopeStyle};
use engine::{Config, Isa, Kernels, Pool, Team};

/// (name, layers, query heads, key/value heads, head dimension): the 700M of arXiv 2410.16144 and 2B4T.
const SHAPES: [(&str, usize, usize, usize, usize); 2] = [("700m", 24, 16, 16, 96), ("2b4t", 30, 20, 5, 128)];
const TYPES: [KvType; 3] = [KvType::F16, KvType::Int8, KvType::F32];
const DEPTHS: [usize; 2] = [512, 4096];
const PREFILL_TOKENS: usize = 512;

fn config(layers: usize, heads: usize, kv_heads: usize, head_dim: usize) -> Config {
    Config {
        arch: Architecture::BitNet,
        hidden: heads * head_dim,
        ffn: 256,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab: 256,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope: RopeStyle::Neox,
        rope_factors: Vec::new(),
        attention_bias: false,
        output_bias: false,
        qk_norm: false,
        sliding_window: None,
        activation: Activation::Relu2,
        sub_norms: true,
        context: 8192,
        tied: true,
    }
}

/// Numbers in [-1, 1) with no pattern.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let bits = |i: u64| (i.wrapping_add(seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    (0..count as u64).map(|i| (bits(i) >> 40) as f32 / 2f32.powi(23) - 1.0).collect()
}

/// Thread counts: one, and all CPUs.
fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all > 1 { vec![1, all] } else { vec![1] }
}

/// Fills the positions up to `end` of all layers.
fn fill(team: &Team<'_>, config: &Config, attention: &mut Attention, end: usize) {
    let width = config.kv_width();
    let (rows, kernels) = (noise(257 * width, 1), Kernels::new(None).expect("kernels"));
    for first in (0..end).step_by(256) {
        let tokens = 256.min(end - first);
        let (keys, values) = (&rows[..tokens * width], &rows[width..(tokens + 1) * width]);
        (0..config.layers).for_each(|layer| attention.append(team, kernels, layer, first, keys, values));
    }
}

fn decode(criterion: &mut Criterion) {
    for (shape, layers, heads, kv_heads, head_dim) in SHAPES {
        let config = config(layers, heads, kv_heads, head_dim);
        for kv in TYPES {
            for depth in DEPTHS {
                let mut group = criterion.benchmark_group(format!("decode/{shape}/{}/{depth}", kv.name()));
                group.sample_size(10).warm_up_time(Duration::from_millis(200));
                group.measurement_time(Duration::from_millis(700));
                group.throughput(Throughput::Bytes(kv.cache_bytes(&config, depth) as u64));
                decode_threads(&mut group, &config, kv, depth);
                group.finish();
            }
        }
    }
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn decode_threads(group: &mut Group<'_>, config: &Config, kv: KvType, depth: usize) {
    let queries = noise(config.q_width(), 2);
    let mut out = vec![0.0; config.q_width()];
    for threads in thread_counts() {
        let pool = Pool::new(threads, true).expect("a thread pool");
        let mut attention = Attention::new(config, threads, depth, kv).expect("a cache");
        pool.enter(|team| {
            fill(team, config, &mut attention, depth);
            // The scalar path is there to be right.
            for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar && isa != Isa::AvxVnni) {
                let kernels = Kernels::new(Some(isa)).expect("an available ISA");
                group.bench_function(BenchmarkId::new(isa.name(), threads), |bencher| {
                    bencher.iter(|| {
                        for layer in 0..config.layers {
                            attention.attend(team, kernels, layer, depth - 1, black_box(&queries), &mut out);
                        }
                    });
                });
            }
        });
    }
}

fn prefill(criterion: &mut Criterion) {
    for (shape, _, heads, kv_heads, head_dim) in SHAPES {
        let config = config(1, heads, kv_heads, head_dim);
        for kv in TYPES {
            let mut group = criterion.benchmark_group(format!("prefill/{shape}/{}/{PREFILL_TOKENS}", kv.name()));
            group.sample_size(10).warm_up_time(Duration::from_millis(200));
            group.measurement_time(Duration::from_millis(700));
            // Score and value of every query and position up to its own.
            let pairs = PREFILL_TOKENS * (PREFILL_TOKENS + 1) / 2 * config.q_width();
            group.throughput(Throughput::Elements(2 * pairs as u64));
            prefill_threads(&mut group, &config, kv);
            group.finish();
        }
    }
}

fn prefill_threads(group: &mut Group<'_>, config: &Config, kv: KvType) {
    let queries = noise(PREFILL_TOKENS * config.q_width(), 2);
    let mut out = vec![0.0; queries.len()];
    for threads in thread_counts() {
        let pool = Pool::new(threads, true).expect("a thread pool");
        let mut attention = Attention::new(config, threads, PREFILL_TOKENS, kv).expect("a cache");
        pool.enter(|team| {
            fill(team, config, &mut attention, PREFILL_TOKENS);
            for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar && isa != Isa::AvxVnni) {
                let kernels = Kernels::new(Some(isa)).expect("an available ISA");
                group.bench_function(BenchmarkId::new(isa.name(), threads), |bencher| {
                    bencher.iter(|| attention.attend(team, kernels, 0, 0, black_box(&queries), &mut out));
                });
            }
        });
    }
}

criterion_group!(benches, decode, prefill);
criterion_main!(benches);
