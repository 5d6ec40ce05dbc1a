//! The sparse engine against the dense one, whose bits it must give.

use super::*;
use crate::model::SparseReads;
use crate::quant::TernaryMatrix;

fn gated(config: Config, format: Format, gate_zeros: Option<f64>) -> Model {
    build(&SyntheticSpec { config, seed: 4, head: HeadType::F16, gate_zeros }, format).unwrap()
}

/// Bits, all NaN alike.
fn numbers(x: &[f32]) -> Vec<Option<u32>> {
    x.iter().map(|x| (!x.is_nan()).then(|| x.to_bits())).collect()
}

/// Logits after each of `ids`, one by one from the fifth, and what was left out.
fn run(model: &Model, isa: Isa, threads: usize, ids: &[u32]) -> (Vec<f32>, Option<SparseReads>) {
    let (pool, kernels) = (Pool::new(threads, false).unwrap(), Kernels::new(Some(isa)).unwrap());
    let mut session = Session::new(model, &pool, kernels, SessionOptions::new(64)).unwrap();
    let mut all = session.prefill_all(&ids[..4]).unwrap();
    for &id in &ids[4..] {
        all.extend(session.decode(id).unwrap());
    }
    (all, session.sparse_reads())
}

/// The shape of [`bitnet`], more than one chunk of rows, and one without sub-norms.
fn sparse_shapes() -> [Config; 3] {
    let wide = Config { hidden: 270, ffn: 700, ..bitnet() };
    [bitnet(), wide, Config { sub_norms: false, ..bitnet() }]
}

#[test]
fn every_share_of_zeros_gives_the_dense_bits() {
    for config in sparse_shapes() {
        let shares = [None, Some(0.0), Some(0.5), Some(0.8), Some(0.95)];
        for share in shares.into_iter().take(if config.sub_norms { 5 } else { 1 }) {
            let formats = [Format::Ternary, Format::TernarySparse, Format::Base3Sparse];
            let [dense, sparse, base3] = formats.map(|f| gated(config.clone(), f, share));
            assert_eq!((dense.linear_kind(), sparse.linear_kind()), ("ternary-2bit", "ternary-2bit-sparse"));
            assert_eq!(base3.linear_kind(), "ternary-1.6bit-sparse");
            let ids = tokens(24, config.vocab);
            let (truth, none) = run(&dense, Isa::Scalar, 1, &ids);
            assert!(truth.iter().all(|x| x.is_finite()) && none.is_none());
            let mut counted = None;
            for isa in Isa::available() {
                for threads in [1, 2, 3] {
                    let (found, reads) = run(&sparse, isa, threads, &ids);
                    assert_eq!(bits(&found), bits(&truth), "{isa} {threads} threads, {share:?} {config:?}");
                    // What is zero depends on nothing; what is read, on the path's crossover.
                    let zeros = reads.map(|r| (r.layers, r.gates, r.zero_gates, r.zero_activations));
                    assert_eq!(*counted.get_or_insert(zeros), zeros);
                    check_reads(&sparse, share, reads.unwrap());
                    let (found, reads) = run(&base3, isa, threads, &ids);
                    assert_eq!(bits(&found), bits(&truth), "{isa} {threads} threads, {share:?} {config:?} at 1.6 bits");
                    assert_eq!(reads.map(|r| (r.layers, r.gates, r.zero_gates, r.zero_activations)), zeros);
                    check_reads(&base3, share, reads.unwrap());
                }
            }
        }
    }
}

/// Twenty tokens' counts for a share that was asked for.
fn check_reads(model: &Model, share: Option<f64>, reads: SparseReads) {
    let config = model.config();
    assert_eq!((reads.layers, reads.gates), (20 * 3, 20 * 3 * config.ffn as u64));
    let dense_bytes = 20 * model.layers().iter().map(|l| l.up.bytes() + l.down.bytes()).sum::<usize>() as u64;
    assert_eq!(reads.dense_bytes, dense_bytes);
    assert!(reads.zero_activations >= reads.zero_gates, "{reads:?}");
    let Some(share) = share else { return };
    let found = reads.zero_gates as f64 / reads.gates as f64;
    assert!((found - share).abs() < 0.08, "{found} for {share}");
    let (layers, bytes) = ([reads.up_layers, reads.down_layers], reads.bytes as f64 / dense_bytes as f64);
    if share == 0.0 {
        assert_eq!((layers, bytes), ([0, 0], 1.0));
    } else if share >= 0.8 {
        // Rows and columns of whole chunks are wider than panels.
        let padding = config.hidden.next_multiple_of(256) as f64 / config.hidden as f64;
        assert_eq!(layers, [reads.layers; 2]);
        // And theirs are 2 bits, where panels may have 1.6.
        let wider = if model.linear_kind() == "ternary-1.6bit-sparse" { 1.25 } else { 1.0 };
        assert!(bytes <= (1.0 - found) * padding * wider, "{reads:?}");
    }
}

/// Norm weights that overflow activations, gates, their squares or all: what is no number in the one is none in the other.
#[test]
fn what_overflows_is_the_same() {
    let mut overflowed = 0;
    for factor in [1e4, 1e12, 1e18, 1e25, 1e33, 3e38, f32::MIN_POSITIVE, 0.0] {
        let make = |format| {
            let mut model = gated(bitnet(), format, None);
            for layer in &mut model.layers {
                layer.ffn_norm.iter_mut().for_each(|weight| *weight *= factor);
                layer.ffn_sub_norm = Some(vec![1.0; 200]);
            }
            model
        };
        let ids = tokens(12, 70);
        let (truth, _) = run(&make(Format::Ternary), Isa::Scalar, 1, &ids);
        overflowed += usize::from(truth.iter().any(|x| x.is_nan()));
        for isa in Isa::available() {
            let (found, _) = run(&make(Format::TernarySparse), isa, 2, &ids);
            assert_eq!(numbers(&found), numbers(&truth), "{isa}, weights of {factor}");
        }
    }
    assert!((1..8).contains(&overflowed), "{overflowed} of 8 overflowed");
}

/// An `up` that is no finite number, behind gates that are all 0: the dense engine's answer is NaN, and so must this be.
/// In the last layer, from which nothing reaches other tokens by the cache.
#[test]
fn zero_gates_do_not_hide_what_overflows() {
    let make = |format| {
        let mut model = gated(bitnet(), Format::Ternary, None);
        let (hidden, ffn) = (model.config.hidden, model.config.ffn);
        let layer = &mut model.layers[2];
        layer.gate = Linear::Ternary(TernaryMatrix::from_codes(ffn, hidden, 1.0, |_, _| 0).unwrap());
        layer.up =
            Linear::Ternary(TernaryMatrix::from_codes(ffn, hidden, 3e38, |r, c| ((r * c) % 3) as i8 - 1).unwrap());
        model.packed_for(format).unwrap()
    };
    let ids = tokens(12, 70);
    let (truth, _) = run(&make(Format::Ternary), Isa::Scalar, 1, &ids);
    assert!(truth.iter().all(|x| x.is_nan()));
    for isa in Isa::available() {
        let (found, reads) = run(&make(Format::TernarySparse), isa, 2, &ids);
        assert_eq!(numbers(&found), numbers(&truth), "{isa}");
        // Those of the last layer were all computed.
        let reads = reads.unwrap();
        assert!(reads.zero_gates >= 8 * 200 && reads.up_layers <= 2 * 8, "{reads:?}");
    }
}

/// The second packings are memory, but not read beside the first.
#[test]
fn footprints_tell_held_from_read() {
    let [dense, sparse] = [Format::Ternary, Format::TernarySparse].map(|f| gated(bitnet(), f, None).footprint());
    let Config { hidden, ffn, layers, .. } = bitnet();
    let second = ffn * hidden.div_ceil(256) * 64 + ffn * hidden.div_ceil(256) * 64;
    assert_eq!(sparse.linear_bytes, dense.linear_bytes + layers * second);
    assert_eq!(sparse.read_per_token, dense.read_per_token);
    let [dense, sparse] = [Format::Base3, Format::Base3Sparse].map(|f| gated(bitnet(), f, None).footprint());
    assert_eq!(sparse.linear_bytes, dense.linear_bytes + layers * second);
    assert_eq!(sparse.read_per_token, dense.read_per_token);
}

#[test]
fn a_share_that_cannot_be_and_a_model_without_zeros_are_refused() {
    let make =
        |config, format, gate_zeros| build(&SyntheticSpec { config, seed: 1, head: HeadType::F16, gate_zeros }, format);
    for share in [-0.1, 0.995, f64::NAN] {
        assert!(matches!(make(bitnet(), Format::F16, Some(share)), Err(Error::Config { field: "gate_zeros", .. })));
    }
    assert!(make(llama(), Format::F16, Some(0.5)).is_err());
    assert!(make(Config { sub_norms: false, ..bitnet() }, Format::F16, Some(0.5)).is_err());
    let error = make(llama(), Format::TernarySparse, None).unwrap_err().to_string();
    assert!(error.contains("activation") && error.contains("relu2"), "{error}");
}
