//! The whole model against itself (every path gives the same bits) and against an independent implementation.

mod oracle;
mod sparse;

use super::*;
use crate::bounded::BoundedHead;
use crate::kernels::isa::{Isa, Kernels};
use crate::synthetic::{HeadType, SyntheticSpec, build};
use crate::threads::Pool;
use oracle::{Fault, Oracle};

/// BitNet b1.58 with odd widths: no dimension but `heads` is a multiple of 16.
fn bitnet() -> Config {
    Config {
        hidden: 90,
        ffn: 200,
        layers: 3,
        head_dim: 24,
        vocab: 70,
        rope_theta: 500.0,
        context: 80,
        ..Config::small()
    }
}

/// LLaMA with a group of three, an interleaved RoPE and a head of its own.
fn llama() -> Config {
    Config {
        arch: Architecture::Llama,
        hidden: 96,
        heads: 6,
        head_dim: 16,
        rope: RopeStyle::Interleaved,
        activation: Activation::Silu,
        sub_norms: false,
        tied: false,
        ..bitnet()
    }
}

/// The four-queries-a-group and one-head-a-group extremes.
fn shapes() -> Vec<Config> {
    vec![
        bitnet(),
        llama(),
        Config { heads: 10, kv_heads: 2, head_dim: 10, ..bitnet() },
        Config { kv_heads: 4, head_dim: 136, layers: 1, sub_norms: false, ..bitnet() },
        Config { rope: RopeStyle::Neox, sub_norms: true, tied: true, ..llama() },
        qwen2(),
        qwen3(),
        llama3(),
        mistral(),
    ]
}

fn qwen2() -> Config {
    Config { rope: RopeStyle::Neox, attention_bias: true, tied: true, ..llama() }
}

/// Heads together wider than the residual stream.
fn qwen3() -> Config {
    Config { rope: RopeStyle::Neox, qk_norm: true, head_dim: 24, ..llama() }
}

/// All biases, and RoPE scaling that leaves some pairs, slows some by 8 and some by less.
fn llama3() -> Config {
    let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 80 };
    let rope_factors = scaling.factors(16, 500.0).unwrap();
    assert!(rope_factors[0] == 1.0 && rope_factors[7] == 8.0, "{rope_factors:?}");
    assert!(rope_factors.iter().any(|factor| (1.1..7.9).contains(factor)), "{rope_factors:?}");
    Config { rope_factors, attention_bias: true, output_bias: true, ..llama() }
}

/// A window shorter than a block of keys, and RoPE slowed by one factor.
fn mistral() -> Config {
    Config { sliding_window: Some(7), rope_factors: vec![4.0; 8], ..llama() }
}

fn model(config: Config, format: Format, seed: u64) -> Model {
    build(&SyntheticSpec { config, seed, head: HeadType::F16, gate_zeros: None }, format).unwrap()
}

fn tokens(count: usize, vocab: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 31 + i * 17 + 5) % vocab) as u32).collect()
}

/// Logits after every token, the sequence divided into calls of the lengths given (the last takes the rest).
fn logits(
    model: &Model,
    kernels: Kernels,
    threads: usize,
    options: SessionOptions,
    ids: &[u32],
    calls: &[usize],
) -> Vec<f32> {
    let pool = Pool::new(threads, false).unwrap();
    let mut session = Session::new(model, &pool, kernels, options).unwrap();
    let (mut all, mut rest) = (Vec::new(), ids);
    for call in calls.iter().copied().chain([usize::MAX]) {
        let (now, later) = rest.split_at(call.min(rest.len()));
        if !now.is_empty() {
            all.extend(session.prefill_all(now).unwrap());
        }
        rest = later;
    }
    all
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Root mean square of the difference over that of `truth`.
fn distance(found: &[f32], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(truth).map(|(f, t)| square(f64::from(*f) - t)).sum();
    (difference / truth.iter().map(|t| square(*t)).sum::<f64>()).sqrt()
}

#[test]
fn every_isa_thread_count_and_division_gives_the_same_bits() {
    for (config, kv) in shapes().into_iter().zip([KvType::F16, KvType::F32, KvType::Int8].into_iter().cycle()) {
        for format in [Format::Ternary, Format::Base3, Format::F16, Format::Bf16] {
            let model = model(config.clone(), format, 3);
            let ids = tokens(71, config.vocab);
            let options = SessionOptions { context: 75, kv, max_batch: 512 };
            let truth = logits(&model, Kernels::new(Some(Isa::Scalar)).unwrap(), 1, options, &ids, &[]);
            assert!(truth.iter().all(|x| x.is_finite()));
            for isa in Isa::available() {
                let kernels = Kernels::new(Some(isa)).unwrap();
                for threads in [1, 2, 3] {
                    let same = |options, calls: &[usize]| {
                        let found = logits(&model, kernels, threads, options, &ids, calls);
                        assert!(
                            bits(&found) == bits(&truth),
                            "{isa} {threads} threads {format:?} {calls:?} {config:?}"
                        );
                    };
                    same(options, &[]);
                    same(options, &[1; 71]);
                    same(options, &[5, 1, 1, 17, 33]);
                    same(SessionOptions { max_batch: 13, ..options }, &[]);
                }
            }
        }
    }
}

/// Odd widths, and prompts of one token, of more than a tile, and of several.
#[test]
fn the_reference_is_the_ternary_engine_bit_for_bit() {
    for config in shapes() {
        let make = |format| model(config.clone(), format, 4);
        let (reference, ternary, base3) = (make(Format::Reference), make(Format::Ternary), make(Format::Base3));
        assert_eq!(reference.linear_kind(), "ternary-f32");
        for count in [1, 17, 64] {
            let ids = tokens(count, config.vocab);
            let options = SessionOptions { kv: KvType::F32, ..SessionOptions::new(64) };
            let run = |model, isa, threads| {
                logits(model, Kernels::new(Some(isa)).unwrap(), threads, options, &ids, &[count / 2])
            };
            let truth = bits(&run(&reference, Isa::Scalar, 1));
            for isa in Isa::available() {
                assert!(bits(&run(&ternary, isa, 2)) == truth, "{isa}, {count} tokens, {config:?}");
                assert!(bits(&run(&base3, isa, 2)) == truth, "1.6 bits, {isa}, {count} tokens, {config:?}");
            }
            assert!(bits(&run(&reference, Isa::best(), 3)) == truth, "{count} tokens, {config:?}");
        }
    }
}

/// The twins hold the same weights; bf16 rounds its activations to 8 bits, with and without `vdpbf16ps` alike.
#[test]
fn bf16_twins_are_f16_but_for_rounded_activations() {
    for config in shapes() {
        let ids = tokens(40, config.vocab);
        let run = |format, kernels| {
            let model = model(config.clone(), format, 2);
            logits(&model, kernels, 2, SessionOptions::new(40), &ids, &[])
        };
        let kernels = Kernels::new(None).unwrap();
        let (half, brain) = (run(Format::F16, kernels), run(Format::Bf16, kernels));
        assert!(bits(&run(Format::Bf16, kernels.without_bf16())) == bits(&brain), "{config:?}");
        let half: Vec<f64> = half.into_iter().map(f64::from).collect();
        let distance = distance(&brain, &half);
        println!("{distance:.5} {config:?}");
        assert!((1e-4..0.02).contains(&distance), "{distance} {config:?}");
    }
}

#[test]
fn prefill_and_decode_return_the_last_logits() {
    let model = model(llama(), Format::Ternary, 1);
    let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
    let options = SessionOptions { max_batch: 7, ..SessionOptions::new(40) };
    let ids = tokens(30, 70);
    let all = Session::new(&model, &pool, kernels, options).unwrap().prefill_all(&ids).unwrap();
    let mut session = Session::new(&model, &pool, kernels, options).unwrap();
    assert_eq!(bits(session.prefill(&ids[..20]).unwrap()), bits(&all[19 * 70..20 * 70]));
    for (position, id) in ids.iter().enumerate().skip(20) {
        assert_eq!(session.position(), position);
        assert_eq!(bits(session.decode(*id).unwrap()), bits(&all[position * 70..][..70]));
    }
}

/// Prompts of many lengths together, in batches that part them anywhere, then decoding with some sequences left out.
#[test]
fn sequences_of_a_batch_are_what_they_are_alone() {
    for (config, kv) in shapes().into_iter().zip([KvType::F16, KvType::F32].into_iter().cycle()) {
        for format in [Format::Ternary, Format::F16] {
            let model = model(config.clone(), format, 4);
            let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
            let all = tokens(75, config.vocab);
            for max_batch in [512, 13] {
                let options = SessionOptions { context: 75, kv, max_batch };
                let mut batch = Batch::new(&model, &pool, kernels, options, 5).unwrap();
                let mut alone: Vec<Session<'_>> =
                    (0..5).map(|_| Session::new(&model, &pool, kernels, options).unwrap()).collect();
                let steps: [[usize; 5]; 5] =
                    [[17, 1, 0, 40, 5], [1, 1, 1, 1, 1], [0, 1, 3, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 33, 0]];
                for step in steps {
                    let given: Vec<&[u32]> = step.iter().enumerate().map(|(i, n)| &all[i..i + n]).collect();
                    let found = batch.append(&given).unwrap().to_vec();
                    let running = given.iter().zip(&mut alone).filter(|(ids, _)| !ids.is_empty());
                    let expected: Vec<f32> =
                        running.flat_map(|(ids, session)| session.prefill(ids).unwrap().to_vec()).collect();
                    assert!(bits(&found) == bits(&expected), "{format:?} {step:?} {max_batch} {config:?}");
                }
                assert_eq!((0..5).map(|i| batch.position(i)).collect::<Vec<_>>(), [19, 4, 5, 75, 8]);
                batch.truncate(3, 10);
                alone[3].truncate(10);
                let found = batch.append(&[&[], &[], &[], &[7], &[]]).unwrap().to_vec();
                assert_eq!(bits(&found), bits(alone[3].decode(7).unwrap()));
                // A refused request changes nothing.
                assert!(batch.append(&[&[1], &[], &[], &[7; 70], &[]]).is_err());
                assert_eq!((batch.position(0), batch.position(3)), (19, 11));
            }
        }
    }
}

/// Tied heads and heads of their own, wider vocabularies so that something can be left out.
#[test]
fn a_bounded_head_chooses_the_same_tokens() {
    let wide = |config| Config { vocab: 3000, ..config };
    for (config, format) in [(wide(bitnet()), Format::Ternary), (wide(llama()), Format::F16)] {
        let model = model(config.clone(), format, 6);
        let other = self::model(config, format, 6);
        let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
        let head = BoundedHead::of(&model, &pool, kernels).unwrap();
        for isa in Isa::available() {
            let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(Some(isa)).unwrap());
            let open = |model| Session::new(model, &pool, kernels, SessionOptions::new(64)).unwrap();
            let (mut whole, mut plain, mut bounded) = (open(&model), open(&model), open(&model));
            bounded.use_bounded_head(&head).unwrap();
            assert!(open(&other).use_bounded_head(&head).unwrap_err().to_string().contains("another"));
            for token in tokens(60, 3000) {
                let expected = crate::generate::greedy(whole.decode(token).unwrap());
                assert_eq!(plain.decode_greedy(token).unwrap(), expected);
                assert_eq!(bounded.decode_greedy(token).unwrap(), expected);
            }
            assert!(matches!(bounded.decode_greedy(3000), Err(Error::Token { .. })));
            assert_eq!((bounded.position(), plain.head_reads()), (60, None));
            bounded.decode(1).unwrap();
            whole.decode(1).unwrap();
            assert_eq!(bits(bounded.decode(2).unwrap()), bits(whole.decode(2).unwrap()));
            let reads = bounded.head_reads().unwrap();
            assert_eq!((reads.steps, reads.full_steps), (60, 0));
            assert!(reads.bytes < 60 * head.exact_bytes() as u64 * 7 / 10, "{reads:?}");
        }
    }
    let bf16 = self::model(bitnet(), Format::Bf16, 1);
    assert!(BoundedHead::new(bf16.head(), &[]).is_ok(), "embedding and head of a synthetic pair are f16");
}

#[test]
fn truncation_forgets_exactly_the_later_tokens() {
    let model = model(bitnet(), Format::Ternary, 1);
    let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
    let mut session = Session::new(&model, &pool, kernels, SessionOptions::new(64)).unwrap();
    let ids = tokens(50, 70);
    session.prefill(&ids[..20]).unwrap();
    let truth = bits(session.prefill(&ids[20..25]).unwrap());
    session.prefill(&ids[25..]).unwrap();
    session.truncate(60);
    assert_eq!(session.position(), 50);
    session.truncate(20);
    assert_eq!(session.position(), 20);
    assert_eq!(bits(session.prefill(&ids[20..25]).unwrap()), truth);
    session.truncate(0);
    session.prefill(&ids[..20]).unwrap();
    assert_eq!(bits(session.prefill(&ids[20..25]).unwrap()), truth);
}

#[test]
fn bad_requests_are_errors_and_change_nothing() {
    let model = model(bitnet(), Format::F16, 1);
    let (pool, kernels) = (Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
    let open = |options| Session::new(&model, &pool, kernels, options);
    assert!(open(SessionOptions::new(0)).is_err());
    assert!(open(SessionOptions::new(81)).unwrap_err().to_string().contains("80"));
    assert!(open(SessionOptions { max_batch: 0, ..SessionOptions::new(8) }).is_err());
    let mut session = open(SessionOptions::new(8)).unwrap();
    let truth = bits(session.prefill(&[1, 2, 3]).unwrap());
    assert!(matches!(session.prefill(&[]), Err(Error::EmptyPrompt)));
    assert!(matches!(session.prefill(&[1, 70]), Err(Error::Token { index: 1, token: 70, vocab: 70 })));
    assert!(matches!(session.prefill(&[1; 6]), Err(Error::ContextFull { context: 8, position: 3, tokens: 6 })));
    assert_eq!(session.position(), 3);
    session.prefill(&[1; 5]).unwrap();
    assert!(matches!(session.decode(1), Err(Error::ContextFull { .. })));
    session.truncate(0);
    assert_eq!(bits(session.prefill(&[1, 2, 3]).unwrap()), truth);
}

/// The f32 path agrees with f64 to the rounding of f32 sums; int8 rounding may flip on a tie's edge, which shows more.
const FLOAT_TOLERANCE: f64 = 2e-5;
const INT8_TOLERANCE: f64 = 2e-2;

#[test]
fn logits_agree_with_the_oracle() {
    let kernels = Kernels::new(None).unwrap();
    for (seed, config) in (1..).zip(shapes()) {
        for (format, quantise, tolerance) in
            [(Format::F16, false, FLOAT_TOLERANCE), (Format::Ternary, true, INT8_TOLERANCE)]
        {
            let model = model(config.clone(), format, seed);
            let ids = tokens(40, config.vocab);
            let options = SessionOptions { kv: KvType::F32, ..SessionOptions::new(40) };
            let found = logits(&model, kernels, 2, options, &ids, &[]);
            let oracle = |fault| Oracle { quantise, int8_cache: false, fault }.logits(&model, &ids);
            let truth = oracle(Fault::None);
            let error = distance(&found, &truth);
            println!("{format:?} {:?} hidden {}: {error:.2e}", config.arch, config.hidden);
            assert!(error < tolerance, "{format:?} {config:?}: {error}");

            let faults = [
                Fault::InverseScale,
                Fault::OtherActivation,
                Fault::OtherRope,
                Fault::MaskOffByOne,
                Fault::MissingSubNorms,
                Fault::WrongGroup,
                Fault::MissingBias,
                Fault::MissingHeadNorms,
                Fault::UnscaledRope,
                Fault::WindowOffByOne,
            ];
            for fault in faults {
                let silent = match fault {
                    Fault::MissingSubNorms => !config.sub_norms,
                    Fault::WrongGroup => config.kv_heads == config.heads,
                    Fault::MissingBias => !config.attention_bias,
                    Fault::MissingHeadNorms => !config.qk_norm,
                    Fault::UnscaledRope => config.rope_factors.is_empty(),
                    Fault::WindowOffByOne => config.sliding_window.is_none(),
                    _ => false,
                };
                let error = distance(&found, &oracle(fault));
                println!("    {fault:?}: {error:.2e}");
                assert!(silent || error > 3.0 * tolerance, "{fault:?} {format:?} {config:?}: {error}");
            }
        }
    }
}

#[test]
fn half_precision_cache_is_close_to_single() {
    let model = model(bitnet(), Format::F16, 1);
    let ids = tokens(64, 70);
    let kernels = Kernels::new(None).unwrap();
    let run = |kv| logits(&model, kernels, 1, SessionOptions { kv, ..SessionOptions::new(64) }, &ids, &[]);
    let single: Vec<f64> = run(KvType::F32).into_iter().map(f64::from).collect();
    let error = distance(&run(KvType::F16), &single);
    assert!((1e-6..2e-3).contains(&error), "{error}");
}

/// Rounding seldom flips where activations are f32; the oracle with a cache that rounds is then much nearer than the one
/// without. A code of a query that flips changes all of its scores, where one of a key changes one: 3.6e-4 was seen.
#[test]
fn an_int8_cache_is_what_the_oracle_says() {
    for config in [bitnet(), llama(), qwen3(), mistral()] {
        let model = model(config.clone(), Format::F16, 1);
        let ids = tokens(64, config.vocab);
        let options = SessionOptions { kv: KvType::Int8, ..SessionOptions::new(64) };
        let found = logits(&model, Kernels::new(None).unwrap(), 2, options, &ids, &[]);
        let to = |int8_cache| {
            distance(&found, &Oracle { quantise: false, int8_cache, fault: Fault::None }.logits(&model, &ids))
        };
        let (with, without) = (to(true), to(false));
        println!("{:?}: {with:.2e} with an int8 cache, {without:.2e} without", config.arch);
        assert!(with < 1e-3 && (1e-3..3e-2).contains(&without), "{config:?}: {with} {without}");
    }
}

/// Three chunks of the cache: in pieces that end inside and at their borders, token by token across them, in every type.
#[test]
fn a_cache_of_several_chunks_is_one_cache() {
    for config in [bitnet(), mistral()] {
        let config = Config { context: 600, ..config };
        let model = model(config.clone(), Format::F16, 1);
        let ids = tokens(530, config.vocab);
        for kv in [KvType::F32, KvType::F16, KvType::Int8] {
            let options = SessionOptions { kv, ..SessionOptions::new(600) };
            let found = logits(&model, Kernels::new(None).unwrap(), 2, options, &ids, &[]);
            let int8_cache = kv == KvType::Int8;
            let truth = Oracle { quantise: false, int8_cache, fault: Fault::None }.logits(&model, &ids);
            let bound = match kv {
                KvType::F32 => FLOAT_TOLERANCE,
                KvType::F16 => 2e-3,
                KvType::Int8 => 1e-3,
            };
            let error = distance(&found, &truth);
            assert!(error < bound, "{kv:?} {config:?}: {error}");
            let calls = [&[250][..], &[1; 8], &[254], &[1; 6]].concat();
            let pieces = logits(&model, Kernels::new(None).unwrap(), 2, options, &ids, &calls);
            assert!(bits(&pieces) == bits(&found), "{kv:?} {config:?}");
        }
    }
}

#[test]
fn the_bytes_of_a_cache_are_those_of_its_type() {
    let config = bitnet();
    // 3 layers of 2 heads of 24 values, padded to 32 for values; 32 positions need no padding.
    let bytes = |kv: KvType| kv.cache_bytes(&config, 32);
    let values = 3 * 2 * 32 * (24 + 32);
    assert_eq!(bytes(KvType::F16), 2 * values);
    assert_eq!(bytes(KvType::F32), 4 * values);
    assert_eq!(bytes(KvType::Int8), values + 3 * 2 * 32 * 8);
    assert_eq!(KvType::Int8.predict_bytes(&config, 32), 3 * 2 * 32 * (48 + 8));
    // Two chunks.
    assert_eq!(KvType::F16.cache_bytes(&config, 257), 2 * values / 32 * 512);
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let parts = |config: Config| {
        let Model { config, embedding, layers, output_norm, head, .. } = model(config, Format::F16, 1);
        (config, embedding, layers, output_norm, head)
    };
    let (config, embedding, mut layers, output_norm, head) = parts(bitnet());
    layers[1].attn_sub_norm = None;
    let error = Model::new(config, embedding, layers, output_norm, head).unwrap_err().to_string();
    assert!(error.contains("blk.1.attn_sub_norm") && error.contains("96"), "{error}");
    let (config, embedding, mut layers, output_norm, head) = parts(bitnet());
    let [first, second, _] = &mut layers[..] else { panic!("three layers") };
    std::mem::swap(&mut first.up, &mut second.down);
    let error = Model::new(config, embedding, layers, output_norm, head).unwrap_err().to_string();
    assert!(error.contains("blk.0.ffn_up") && error.contains("200 x 90"), "{error}");
    let (config, embedding, layers, output_norm, _) = parts(llama());
    assert!(Model::new(config, embedding, layers, output_norm, None).unwrap_err().to_string().contains("output"));

    type Spoil = fn(&mut Layer);
    let spoilt: [(Config, Spoil, &str); 8] = [
        (qwen2(), |l| l.q_bias = None, "blk.1.attn_q.bias: expected 96 values, found none"),
        (qwen2(), |l| l.k_bias = Some(vec![0.0; 96]), "blk.1.attn_k.bias: expected 32 values, found 96 values"),
        (qwen2(), |l| l.v_bias = None, "blk.1.attn_v.bias"),
        (qwen2(), |l| l.o_bias = Some(vec![0.0; 96]), "blk.1.attn_output.bias: expected none"),
        (llama(), |l| l.v_bias = Some(vec![0.0; 32]), "blk.1.attn_v.bias: expected none"),
        (llama3(), |l| l.o_bias = None, "blk.1.attn_output.bias: expected 96 values"),
        (qwen3(), |l| l.q_norm = Some(vec![1.0; 16]), "blk.1.attn_q_norm.weight: expected 24 values, found 16"),
        (qwen3(), |l| l.k_norm = None, "blk.1.attn_k_norm.weight"),
    ];
    for (config, spoil, expected) in spoilt {
        let (config, embedding, mut layers, output_norm, head) = parts(config);
        spoil(&mut layers[1]);
        let error = Model::new(config, embedding, layers, output_norm, head).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn footprint_counts_every_weight() {
    let config = Config { hidden: 96, ffn: 192, ..bitnet() };
    let values = |config: &Config| {
        let (h, q, kv, f) = (config.hidden, config.q_width(), config.kv_width(), config.ffn);
        config.layers * (2 * h * q + 2 * h * kv + 3 * h * f)
    };
    let ternary = model(config.clone(), Format::Ternary, 1).footprint();
    assert_eq!(ternary.linear_bytes, values(&config) / 4);
    // Five weights a byte; 96 and 192 columns are padded to 100 and 200.
    let base3 = model(config.clone(), Format::Base3, 1).footprint();
    assert_eq!(base3.linear_bytes, values(&config) / 96 * 100 / 5);
    let half = model(config.clone(), Format::F16, 1).footprint();
    assert_eq!(half.linear_bytes, values(&config) * 2);
    // 70 tokens fill five panels of 16.
    assert_eq!(half.embedding_bytes, 80 * 96 * 2);
    assert_eq!(half.norm_bytes, 4 * (3 * (96 + 96 + 96 + 192) + 96));
    assert_eq!(half.read_per_token, half.total() + 80 * 96 * 2 / 70);
    let untied = model(Config { tied: false, ..config }, Format::F16, 1).footprint();
    assert_eq!(untied.head_bytes, 80 * 96 * 2);
    assert_eq!(untied.read_per_token, half.read_per_token);
}
