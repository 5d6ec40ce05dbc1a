use super::*;
use crate::kernels::isa::Kernels;
use crate::model::{Activation, Architecture, KvType, Session, SessionOptions};
use crate::threads::Pool;

fn config(hidden: usize, ffn: usize, layers: usize, heads: usize, kv_heads: usize) -> Config {
    Config { hidden, ffn, layers, heads, kv_heads, head_dim: hidden / heads, vocab: 1000, ..Config::small() }
}

fn llama(config: Config) -> Config {
    Config { arch: Architecture::Llama, activation: Activation::Silu, sub_norms: false, tied: false, ..config }
}

fn logits(spec: &SyntheticSpec, format: Format) -> Vec<f32> {
    let model = build(spec, format).unwrap();
    let pool = Pool::new(2, false).unwrap();
    let options = SessionOptions { kv: KvType::F16, ..SessionOptions::new(48) };
    let mut session = Session::new(&model, &pool, Kernels::new(None).unwrap(), options).unwrap();
    let ids: Vec<u32> = (0..48).map(|i| (i * i * 37 + 11) % 1000).collect();
    session.prefill_all(&ids).unwrap()
}

fn rms(x: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = x.clone().count() as f32;
    (x.map(|x| x * x).sum::<f32>() / count).sqrt()
}

#[test]
fn pairs_agree_and_logits_are_spread() {
    let deep = config(256, 512, 80, 4, 4);
    let shapes = [
        config(256, 768, 4, 4, 4),
        config(768, 2048, 6, 16, 4),
        config(384, 2304, 8, 8, 8),
        deep.clone(),
        llama(config(256, 768, 8, 4, 2)),
        llama(deep),
    ];
    for config in shapes {
        for seed in 1..=3 {
            let spec = SyntheticSpec { config: config.clone(), seed, head: HeadType::F16, gate_zeros: None };
            let (ternary, half) = (logits(&spec, Format::Ternary), logits(&spec, Format::F16));
            let mut worst = 0.0f32;
            for (ternary, half) in ternary.chunks(1000).zip(half.chunks(1000)) {
                let spread = rms(half.iter().copied());
                assert!((1.0..4.0).contains(&spread), "{spread} {config:?}");
                worst = worst.max(rms(ternary.iter().zip(half).map(|(t, h)| t - h)) / spread);
            }
            let whole = rms(ternary.iter().zip(&half).map(|(t, h)| t - h)) / rms(half.iter().copied());
            println!(
                "{:?} {}x{}x{} seed {seed}: whole {whole:.4} worst {worst:.4}",
                config.arch, config.hidden, config.ffn, config.layers
            );
            assert!(worst < PAIR_BOUND, "{worst} {config:?}");
            // Equal logits would mean that int8 activations were not used at all.
            assert!(worst > 1e-4, "{worst} {config:?}");
        }
    }
}

/// The packed bytes of everything.
fn bytes(model: &Model) -> Vec<Vec<u8>> {
    let linear = |linear: &Linear| match linear {
        Linear::Ternary(matrix) => [matrix.packed(), &matrix.scale().to_le_bytes()].concat(),
        Linear::Base3(matrix) => [matrix.packed(), &matrix.scale().to_le_bytes()].concat(),
        Linear::F16(matrix) => matrix.packed().iter().flat_map(|x| x.to_le_bytes()).collect(),
        Linear::Bf16(matrix) => matrix.packed().iter().flat_map(|x| x.to_le_bytes()).collect(),
        Linear::Q8(matrix) => matrix.weights().to_vec(),
        Linear::Q6(matrix) => matrix.panels(0, matrix.rows()).0.to_vec(),
        Linear::Plain(matrix) => matrix.weights().iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    let norm = |norm: &[f32]| norm.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut all = vec![linear(model.embedding()), linear(model.head()), norm(model.output_norm())];
    for layer in model.layers() {
        all.extend(layer.linears().iter().map(|(_, l)| linear(l)));
        all.push(norm(&layer.attn_norm));
        all.push(norm(&layer.ffn_norm));
        all.extend([&layer.attn_sub_norm, &layer.ffn_sub_norm].into_iter().flatten().map(|n| norm(n)));
    }
    all
}

#[test]
fn weights_depend_on_the_seed_and_not_on_the_threads() {
    let make = |seed, threads, head| {
        let spec = SyntheticSpec { config: config(90, 200, 2, 3, 1), seed, head, gate_zeros: None };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bytes(&build(&spec, Format::Ternary).unwrap()))
    };
    for head in [HeadType::F16, HeadType::Q8_0, HeadType::Q6K] {
        let one = make(1, 1, head);
        assert!(one == make(1, 3, head));
        let other = make(2, 1, head);
        assert!(one.iter().zip(&other).all(|(a, b)| a != b));
    }
    // No two tensors of a model are alike.
    let mut all = make(1, 1, HeadType::F16);
    all.remove(1); // the tied head
    let tensors = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), tensors);
}

#[test]
fn weights_have_the_shares_and_moments_meant() {
    let spec = SyntheticSpec { config: config(256, 512, 1, 4, 4), seed: 5, head: HeadType::F16, gate_zeros: None };
    let model = build(&spec, Format::Ternary).unwrap();
    for (name, linear) in model.layers()[0].linears() {
        let Linear::Ternary(matrix) = linear else { panic!("{name} is not ternary") };
        let (mut zeros, mut sum) = (0, 0i32);
        for row in 0..matrix.rows() {
            for col in 0..matrix.cols() {
                let weight = matrix.weight(row, col);
                zeros += i32::from(weight == 0);
                sum += i32::from(weight);
            }
        }
        let count = (matrix.rows() * matrix.cols()) as f32;
        // Five standard deviations of 65,536 draws or more.
        assert!((zeros as f32 / count - 0.5).abs() < 0.01 && (sum as f32 / count).abs() < 0.014, "{name}");
    }
    let mut row = vec![0.0; 256];
    model.embedding().row_to_f32(7, &mut row);
    assert!((f64::from(rms(row.iter().copied())) - EMBEDDING_RMS).abs() < 0.15);
    assert!(row.iter().all(|x| (0.5..2.0).contains(&x.abs())) && row.iter().any(|x| *x < 0.0));
}

#[test]
fn nonsense_shapes_are_errors() {
    let spec = SyntheticSpec { config: config(256, 0, 1, 4, 4), seed: 5, head: HeadType::F16, gate_zeros: None };
    assert!(build(&spec, Format::Ternary).unwrap_err().to_string().contains("ffn"));
}
