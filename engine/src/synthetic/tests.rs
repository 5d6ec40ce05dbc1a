//! Pairs agree, bits do not depend on how they are made or run, and planted faults are seen.

use super::*;
use crate::kernels::{Isa, Kernels};
use crate::model::{Activation, Architecture, KvType, RopeStyle, Session, SessionOptions};
use crate::threads::Pool;

fn config(hidden: usize, ffn: usize, heads: usize, kv_heads: usize) -> Config {
    Config {
        arch: Architecture::BitNet,
        hidden,
        ffn,
        layers: 3,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        vocab: 203,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
        context: 64,
        tied: true,
    }
}

fn spec(config: Config) -> SyntheticSpec {
    SyntheticSpec { config, seed: 5, head: HeadType::F16 }
}

fn llama(mut config: Config) -> Config {
    config.arch = Architecture::Llama;
    config.rope = RopeStyle::Interleaved;
    config.activation = Activation::Silu;
    config.sub_norms = false;
    config.tied = false;
    config
}

/// Logits after `tokens`: in one batch, or one by one.
fn logits(model: &Model, isa: Isa, threads: usize, kv: KvType, tokens: &[u32], batch: usize) -> Vec<f32> {
    let (pool, kernels) = (Pool::new(threads, false).unwrap(), Kernels::new(Some(isa)).unwrap());
    let mut session =
        Session::new(model, &pool, kernels, SessionOptions { context: 48, kv, max_batch: batch }).unwrap();
    session.prefill(tokens).unwrap().to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(a - b))).sum();
    (difference / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

const TOKENS: [u32; 19] = [3, 200, 7, 7, 91, 0, 150, 33, 2, 18, 76, 5, 9, 111, 64, 20, 1, 199, 42];

#[test]
fn no_isa_thread_count_batch_or_path_changes_a_bit() {
    for config in [config(96, 200, 4, 2), llama(config(64, 172, 8, 4)), config(120, 256, 1, 1)] {
        for format in [Format::Ternary, Format::F16] {
            let model = build(&spec(config.clone()), format).unwrap();
            let want = bits(&logits(&model, Isa::Scalar, 1, KvType::F16, &TOKENS, 64));
            for isa in Isa::available() {
                for threads in 1..=3 {
                    for batch in [64, 5, 1] {
                        let found = logits(&model, isa, threads, KvType::F16, &TOKENS, batch);
                        assert_eq!(bits(&found), want, "{format:?} {isa}, {threads} threads, batches of {batch}");
                    }
                }
            }
            let f32_cache = logits(&model, Isa::best(), 2, KvType::F32, &TOKENS, 64);
            let off = distance(&f32_cache, &logits(&model, Isa::best(), 2, KvType::F16, &TOKENS, 64));
            assert!(off > 0.0 && off < 0.05, "cache types differ by {off}");
        }
    }
}

#[test]
fn a_decoded_token_equals_a_batched_one() {
    let model = build(&spec(config(96, 200, 4, 2)), Format::Ternary).unwrap();
    let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
    let options = SessionOptions { context: 48, kv: KvType::F16, max_batch: 16 };
    let mut session = Session::new(&model, &pool, kernels, options).unwrap();
    let all = session.prefill_all(&TOKENS).unwrap();
    session.truncate(0);
    for (token, want) in TOKENS.iter().zip(all.chunks_exact(203)) {
        assert_eq!(bits(session.decode(*token).unwrap()), bits(want));
    }
    session.truncate(7);
    assert_eq!(session.position(), 7);
    assert_eq!(bits(session.decode(TOKENS[7]).unwrap()), bits(&all[7 * 203..8 * 203]));
}

#[test]
fn pairs_agree() {
    for (hidden, ffn, heads) in [(256, 688, 4), (512, 1024, 8), (768, 3072, 12)] {
        for seed in [1, 2] {
            let mut spec = spec(config(hidden, ffn, heads, heads));
            (spec.seed, spec.config.layers) = (seed, 12);
            let run = |format| logits(&build(&spec, format).unwrap(), Isa::best(), 2, KvType::F16, &TOKENS, 64);
            let found = distance(&run(Format::Ternary), &run(Format::F16));
            println!("{hidden}/{ffn}/12 layers, seed {seed}: {found:.4}");
            assert!(found > 1e-4 && found < PAIR_BOUND, "{hidden}: {found}");
        }
    }
}

#[test]
fn other_seeds_and_formats_are_other_weights_but_threads_are_not() {
    let first = build(&spec(config(96, 200, 4, 2)), Format::Ternary).unwrap();
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let again = alone.install(|| build(&spec(config(96, 200, 4, 2)), Format::Ternary).unwrap());
    let other = build(&SyntheticSpec { seed: 6, ..spec(config(96, 200, 4, 2)) }, Format::Ternary).unwrap();
    let run = |m: &Model| bits(&logits(m, Isa::best(), 1, KvType::F16, &TOKENS, 64));
    assert_eq!(run(&first), run(&again));
    assert_ne!(run(&first), run(&other));
}

/// Half the weights are zero and a quarter each is +1 and -1.
#[test]
fn weights_have_the_stated_shares() {
    let model = build(&spec(config(512, 1024, 8, 8)), Format::Ternary).unwrap();
    let Linear::Ternary(matrix) = &model.layers()[0].gate else { panic!("ternary") };
    let mut counts = [0usize; 3];
    (0..1024).for_each(|r| (0..512).for_each(|c| counts[(matrix.weight(r, c) + 1) as usize] += 1));
    for (count, share) in counts.iter().zip([0.25, 0.5, 0.25]) {
        assert!((*count as f64 / (1024.0 * 512.0) - share).abs() < 0.005, "{counts:?}");
    }
}

#[test]
fn bad_requests_are_errors_not_panics() {
    let model = build(&spec(config(96, 200, 4, 2)), Format::Ternary).unwrap();
    let (pool, kernels) = (Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
    let session =
        |context| Session::new(&model, &pool, kernels, SessionOptions { context, kv: KvType::F16, max_batch: 4 });
    assert!(session(0).is_err() && session(65).is_err());
    let mut session = session(4).unwrap();
    assert!(session.prefill(&[]).is_err() && session.prefill(&[203]).is_err() && session.prefill(&[1; 5]).is_err());
    assert_eq!(session.position(), 0);
    assert!(session.prefill(&[1; 4]).is_ok() && session.decode(1).is_err());
}
