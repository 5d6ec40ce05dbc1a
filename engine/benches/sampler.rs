//! Choosing a token from logits: the likeliest, and draws from all, from the `k` likeliest and from the nucleus.
//!
//! Plain code on one thread. Bytes are those of the logits, operations are one for each logit, which any choice looks at once
//! at least: sorting candidates and their exponentials come on top.

mod common;

use common::{Arithmetic, Bench, Case, Work, noise};
use engine::Isa;
use engine::generate::{Sampler, Sampling};

/// LLaMA's vocabulary, and that of LLaMA 3 and 2B4T.
const VOCABULARIES: [usize; 2] = [32_000, 128_256];
const SEED: u64 = 11;

/// A way to choose, with the parameters that programs have by default.
struct Way {
    name: &'static str,
    sampling: Sampling,
}

fn ways() -> [Way; 5] {
    let drawn = Sampling { temperature: 0.8, seed: SEED, ..Sampling::GREEDY };
    [
        Way { name: "greedy", sampling: Sampling::GREEDY },
        Way { name: "all", sampling: drawn },
        Way { name: "top-k-40", sampling: Sampling { top_k: 40, ..drawn } },
        Way { name: "top-p-0.95", sampling: Sampling { top_p: 0.95, ..drawn } },
        Way { name: "top-k-40-top-p-0.95", sampling: Sampling { top_k: 40, top_p: 0.95, ..drawn } },
    ]
}

/// Logits as a model's are spread: about normal (a sum of four uniform numbers), standard deviation 2.3.
fn logits(count: usize) -> Vec<f32> {
    let uniform = |i: usize| (noise(i) >> 32) as f32 / 2f32.powi(23) - 1.0;
    (0..count).map(|i| 2.0 * (0..4).map(|part| uniform(4 * i + part)).sum::<f32>()).collect()
}

/// The tokens that may be drawn, the likeliest first: by a full sort and in f64. The last of a nucleus rests on rounding, so
/// that one more is let in.
fn allowed(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if sampling.temperature == 0.0 {
        order.truncate(1);
        return order;
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let weight = |token: &u32| (f64::from(logits[*token as usize]) / f64::from(sampling.temperature)).exp();
    let nucleus = order.iter().map(weight).sum::<f64>() * f64::from(sampling.top_p);
    let mut sum = 0.0;
    let within = |token: &&u32| {
        let before = sum;
        sum += weight(token);
        before < nucleus
    };
    let count = order.iter().take_while(within).count();
    order.truncate(if sampling.top_p < 1.0 { count + 1 } else { order.len() });
    order
}

fn main() {
    let mut bench = Bench::new();
    let vocabularies = if bench.quick { &[1000][..] } else { &VOCABULARIES[..] };
    for &vocabulary in vocabularies {
        let logits = logits(vocabulary);
        let bytes = size_of_val(logits.as_slice());
        let work = Work { bytes, within: bytes, operations: vocabulary, arithmetic: Arithmetic::F32 };
        for Way { name, sampling } in ways() {
            let case = Case { name: format!("sampler/{name}/{vocabulary}"), isa: Isa::Scalar, threads: 1 };
            bench.case(&case, work.throughput(), |timer| {
                let new = || Sampler::new(sampling).expect("parameters in range");
                let pass = |(sampler, token): &mut (Sampler, u32)| *token = sampler.sample(&logits);
                let right = |(sampler, token): &mut (Sampler, u32)| {
                    let allowed = allowed(&logits, &sampling);
                    // The same seed, the same tokens; and none that may not be drawn, the first or any later.
                    let again = new().sample(&logits);
                    let later: Vec<u32> = (0..100).map(|_| sampler.sample(&logits)).collect();
                    *token == again && allowed.contains(token) && later.iter().all(|token| allowed.contains(token))
                };
                timer.time(work, &mut (new(), 0), pass, right);
            });
        }
    }
    bench.finish("sampler");
}
