//! Attention by ISA, cache type, shape and thread count: decode in bytes of cache, prefill in operations.
//!
//! A decode pass goes through the caches of all layers, as a model's does: none stays in a nearer cache by itself.

mod common;

use std::cell::{OnceCell, RefCell};

use common::{Arithmetic, Bench, Case, Timer, Work, numbers, paths, same_bits, thread_counts};
use engine::model::{Attention, KvType};
use engine::{Config, Isa, Kernels, Pool, Team};

/// (name, layers, query heads, key/value heads, head dimension): the 700M of arXiv 2410.16144 and 2B4T.
const SHAPES: [(&str, usize, usize, usize, usize); 2] = [("700m", 24, 16, 16, 96), ("2b4t", 30, 20, 5, 128)];
const TYPES: [KvType; 3] = [KvType::F16, KvType::Int8, KvType::F32];

fn config(layers: usize, heads: usize, kv_heads: usize, head_dim: usize) -> Config {
    Config {
        hidden: heads * head_dim,
        ffn: 256,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab: 256,
        context: 8192,
        ..Config::small()
    }
}

/// Fills the positions up to `end` of all layers.
fn fill(team: &Team<'_>, config: &Config, attention: &mut Attention, end: usize) {
    let width = config.kv_width();
    let (rows, kernels) = (numbers(257 * width, 1), Kernels::new(None).expect("kernels"));
    for first in (0..end).step_by(256) {
        let tokens = 256.min(end - first);
        let (keys, values) = (&rows[..tokens * width], &rows[width..(tokens + 1) * width]);
        (0..config.layers).for_each(|layer| attention.append(team, kernels, layer, first, keys, values));
    }
}

/// Attention of `tokens` queries at the end of `depth` positions, in all layers.
struct Shape {
    name: String,
    config: Config,
    kv: KvType,
    depth: usize,
    tokens: usize,
    /// Answers of the scalar path, of the last layer.
    expected: OnceCell<Vec<f32>>,
}

impl Shape {
    fn bench(&self, bench: &mut Bench) {
        // The scalar path is there to be right.
        for isa in paths(self.kv == KvType::Int8).into_iter().filter(|&isa| isa != Isa::Scalar) {
            for threads in thread_counts() {
                let case = Case { name: self.name.clone(), isa, threads };
                // Filled when the first call asks for it.
                let cache = OnceCell::new();
                bench.case(&case, self.work().throughput(), |timer| self.time(&case, &cache, timer));
            }
        }
    }

    fn work(&self) -> Work {
        let Shape { config, kv, depth, tokens, .. } = self;
        let bytes = kv.cache_bytes(config, *depth);
        // Each query sees the positions up to its own: a product and a sum for its score, and for its answer.
        let seen = (depth - tokens + 1..=*depth).sum::<usize>();
        let operations = 4 * seen * config.q_width() * config.layers;
        let arithmetic = if *kv == KvType::Int8 { Arithmetic::Int8 } else { Arithmetic::F32 };
        Work { bytes, within: bytes, operations, arithmetic }
    }

    fn filled(&self, threads: usize) -> Attention {
        let pool = Pool::new(threads, true).expect("a thread pool");
        let mut attention = Attention::new(&self.config, threads, self.depth, self.kv).expect("a cache");
        pool.enter(|team| fill(team, &self.config, &mut attention, self.depth));
        attention
    }

    fn time(&self, case: &Case, cache: &OnceCell<RefCell<Attention>>, timer: Timer<'_, '_>) {
        let Shape { config, depth, tokens, .. } = self;
        let mut attention = cache.get_or_init(|| self.filled(case.threads).into()).borrow_mut();
        let (kernels, pool) = (case.kernels(), Pool::new(case.threads, true).expect("a thread pool"));
        let queries = numbers(tokens * config.q_width(), 2);
        let mut state = (&mut *attention, vec![0.0; queries.len()]);
        pool.enter(|team| {
            let pass = |(attention, out): &mut (&mut Attention, Vec<f32>)| {
                for layer in 0..config.layers {
                    attention.attend(team, kernels, layer, depth - tokens, &queries, out);
                }
            };
            let right = |(attention, out): &mut (&mut Attention, Vec<f32>)| {
                let expected = self.expected.get_or_init(|| {
                    let mut expected = vec![0.0; out.len()];
                    let scalar = Kernels::new(Some(Isa::Scalar)).expect("plain code");
                    attention.attend(team, scalar, config.layers - 1, depth - tokens, &queries, &mut expected);
                    expected
                });
                same_bits(out, expected)
            };
            timer.time(self.work(), &mut state, pass, right);
        });
    }
}

fn main() {
    let mut bench = Bench::new();
    let (depths, prefill) = if bench.quick { (vec![40], 40) } else { (vec![512, 4096], 512) };
    for (shape, layers, heads, kv_heads, head_dim) in SHAPES {
        for kv in TYPES {
            let case = |workload: &str, layers, depth, tokens| Shape {
                name: format!("{workload}/{shape}/{}/{depth}", kv.name()),
                config: config(layers, heads, kv_heads, head_dim),
                kv,
                depth,
                tokens,
                expected: OnceCell::new(),
            };
            for &depth in &depths {
                let layers = if bench.quick { 2 } else { layers };
                case("decode", layers, depth, 1).bench(&mut bench);
            }
            case("prefill", 1, prefill, prefill).bench(&mut bench);
        }
    }
    bench.finish("attention");
}
