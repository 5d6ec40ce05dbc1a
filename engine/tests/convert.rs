//! Conversions between the packings of GGUF files: the same model, bit for bit, or a refusal, or a loss that is told.

mod common;

use common::Stream;
use common::place::{TARGETS, X86, kernels};
use common::writer::Writer;
use engine::convert::{Options, Report, Target, gguf_to_gguf, synthetic_to_gguf};
use engine::formats::gguf::{GgufFile, TensorType};
use engine::model::{
    Activation, Architecture, Config, Format, KvType, Llama3Scaling, Model, RopeStyle, Session, SessionOptions,
    load_gguf,
};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::{Isa, Kernels, Pool};
use std::path::{Path, PathBuf};

fn options(target: Target) -> Options {
    Options { target, kernels: kernels(target), embedding: None, fallback: None, quantise: false, inverse: false }
}

fn spec(arch: Architecture) -> SyntheticSpec {
    let bitnet = arch == Architecture::BitNet;
    let config = Config {
        arch,
        hidden: 256,
        ffn: 512,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        vocab: 96,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope: RopeStyle::Neox,
        rope_factors: Vec::new(),
        attention_bias: false,
        output_bias: false,
        qk_norm: false,
        sliding_window: None,
        activation: if bitnet { Activation::Relu2 } else { Activation::Silu },
        sub_norms: bitnet,
        context: 64,
        tied: bitnet,
    };
    SyntheticSpec { config, seed: 5, head: HeadType::F16, gate_zeros: None }
}

fn logits(model: &Model) -> Vec<f32> {
    let pool = Pool::new(1, false).unwrap();
    let options = SessionOptions { context: 32, kv: KvType::F32, max_batch: 32 };
    let mut session = Session::new(model, &pool, Kernels::new(Some(Isa::Scalar)).unwrap(), options).unwrap();
    session.prefill(&[1, 7, 39, 0, 22, 95]).unwrap().to_vec()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Converts a file of this folder; what it is then.
    fn convert(&self, from: &str, to: &str, options: &Options) -> Report {
        let file = GgufFile::open(self.path(from)).unwrap();
        gguf_to_gguf(&file, &self.path(to), options).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

fn load(path: &Path) -> Model {
    load_gguf(&GgufFile::open(path).unwrap(), Format::Ternary).unwrap()
}

#[test]
fn every_pair_of_packings_there_and_back() {
    let folder = Folder::new();
    let want = logits(&build(&spec(Architecture::BitNet), Format::Ternary).unwrap());
    for (nth, target) in TARGETS.into_iter().enumerate() {
        let name = format!("{nth}.gguf");
        let report = synthetic_to_gguf(&spec(Architecture::BitNet), &folder.path(&name), &options(target)).unwrap();
        assert_eq!((report.inexact.len(), report.converted), (0, 14), "{target:?}");
        assert_eq!(logits(&load(&folder.path(&name))), want, "{target:?}");
    }
    for (from, first) in TARGETS.into_iter().enumerate() {
        for (to, second) in TARGETS.into_iter().enumerate() {
            let there = folder.convert(&format!("{from}.gguf"), "there.gguf", &options(second));
            let back = folder.convert("there.gguf", "back.gguf", &options(first));
            assert_eq!([there.inexact.len(), back.inexact.len()], [0, 0], "{first:?} {second:?}");
            assert!(folder.bytes("there.gguf") == folder.bytes(&format!("{to}.gguf")), "{first:?} to {second:?}");
            assert!(folder.bytes("back.gguf") == folder.bytes(&format!("{from}.gguf")), "{first:?} by {second:?}");
        }
    }
}

#[test]
fn floats_hold_ternary_weights_and_give_them_back() {
    let folder = Folder::new();
    synthetic_to_gguf(&spec(Architecture::BitNet), &folder.path("x86.gguf"), &options(X86)).unwrap();
    for kind in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let there = folder.convert("x86.gguf", "there.gguf", &options(Target::Float(kind)));
        let back = folder.convert("there.gguf", "back.gguf", &options(X86));
        assert_eq!([there.inexact.len(), back.inexact.len()], [0, 0], "{kind}");
        assert!(folder.bytes("back.gguf") == folder.bytes("x86.gguf"), "{kind}");
    }
    // Q8_0's scale of a block is a 127th of these, rounded.
    let there = folder.convert("x86.gguf", "there.gguf", &options(Target::Float(TensorType::Q8_0)));
    assert!(there.inexact.iter().any(|line| line.contains("blk.0.attn_q.weight") && line.contains("rounded")));
}

#[test]
fn a_llama_file_has_its_rows_where_llama_files_have_them() {
    let folder = Folder::new();
    let spec = spec(Architecture::Llama);
    synthetic_to_gguf(&spec, &folder.path("llama.gguf"), &options(Target::Tq2_0)).unwrap();
    let model = load(&folder.path("llama.gguf"));
    assert_eq!(model.config().rope, RopeStyle::Interleaved);
    let (found, want) = (logits(&model), logits(&build(&spec, Format::Ternary).unwrap()));
    // The same function; its sums over a head run in another order.
    let worst = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.02, "{worst}");
    let mut other = spec;
    other.config.rope = RopeStyle::Interleaved;
    let unlike = logits(&build(&other, Format::Ternary).unwrap());
    let apart = found.iter().zip(&unlike).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 0.2, "{apart}");
}

/// Each architecture written and loaded again. Qwen's files have the order of Hugging Face's: the same bits.
#[test]
fn files_of_every_architecture_hold_the_same_function() {
    let folder = Folder::new();
    let llama = spec(Architecture::Llama).config;
    let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 };
    let rope_factors = scaling.factors(64, 10_000.0).unwrap();
    let cases = [
        ("qwen2", Config { attention_bias: true, tied: true, ..llama.clone() }),
        ("qwen2", Config { attention_bias: true, sliding_window: Some(3), ..llama.clone() }),
        ("qwen3", Config { qk_norm: true, head_dim: 128, ..llama.clone() }),
        ("llama", Config { rope_factors, attention_bias: true, output_bias: true, ..llama.clone() }),
        ("llama", Config { rope_factors: vec![4.0; 128], sliding_window: Some(3), head_dim: 256, ..llama.clone() }),
    ];
    for (arch, config) in cases {
        let spec = SyntheticSpec { config: config.clone(), seed: 9, head: HeadType::F16, gate_zeros: None };
        for (nth, target) in [X86, Target::Tq2_0].into_iter().enumerate() {
            let path = folder.path(&format!("{nth}.gguf"));
            synthetic_to_gguf(&spec, &path, &options(target)).unwrap();
            assert_eq!(GgufFile::open(&path).unwrap().str("general.architecture").unwrap(), arch);
            let model = load(&path);
            let rope = model.config().rope;
            assert_eq!(*model.config(), Config { rope, ..config.clone() });
            let (found, want) = (logits(&model), logits(&build(&spec, Format::Ternary).unwrap()));
            let worst = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let (interleaved, bound) = if arch == "llama" { (true, 0.02) } else { (false, 0.0) };
            assert_eq!(rope == RopeStyle::Interleaved, interleaved, "{arch}");
            assert!(worst <= bound, "{arch} {target:?}: {worst}");
        }
    }
}

#[test]
fn embeddings_become_what_is_asked() {
    let folder = Folder::new();
    synthetic_to_gguf(&spec(Architecture::Llama), &folder.path("a.gguf"), &options(X86)).unwrap();
    for kind in [TensorType::F32, TensorType::BF16, TensorType::Q8_0] {
        folder.convert("a.gguf", "b.gguf", &Options { embedding: Some(kind), ..options(X86) });
        let file = GgufFile::open(folder.path("b.gguf")).unwrap();
        for name in ["token_embd.weight", "output.weight"] {
            assert_eq!(file.tensor(name).unwrap().kind(), kind);
        }
        assert_eq!(file.tensor("output_norm.weight").unwrap().kind(), TensorType::F32);
    }
}

/// A file of one linear layer of these values, `cols` a row.
fn one(values: &[f32], cols: u64) -> Writer {
    let mut writer = Writer::default();
    writer.set("general.architecture", "llama");
    writer.f32("blk.0.attn_q.weight", &[cols, values.len() as u64 / cols], values);
    writer
}

fn try_convert(writer: &Writer, options: &Options) -> Result<(Report, GgufFile), String> {
    let folder = Folder::new();
    let file = GgufFile::from_bytes("test.gguf", writer.bytes()).unwrap();
    let report = gguf_to_gguf(&file, &folder.path("out.gguf"), options);
    let left = std::fs::read_dir(folder.0.path()).unwrap().count();
    match report {
        Ok(report) => {
            let bytes = folder.bytes("out.gguf");
            Ok((report, GgufFile::from_bytes("out.gguf", bytes).unwrap()))
        }
        Err(error) => {
            assert_eq!(left, 0, "nothing is left of a conversion that failed");
            Err(error.to_string())
        }
    }
}

#[track_caller]
fn refused(writer: &Writer, options: &Options, parts: &[&str]) {
    let message = try_convert(writer, options).map(|_| ()).unwrap_err();
    for part in ["blk.0.attn_q.weight"].iter().chain(parts) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn what_cannot_be_held_is_refused_or_falls_back() {
    let mut stream = Stream(8);
    let trits: Vec<f32> = (0..8 * 192).map(|_| (stream.below(3) as f32 - 1.0) * 0.125).collect();
    let narrow = one(&trits, 192);
    refused(&narrow, &options(Target::Tq2_0), &["multiple of 256", "[192, 8]", "--fallback"]);
    let fallback = Options { fallback: Some(TensorType::F16), ..options(Target::Tq2_0) };
    let (report, file) = try_convert(&narrow, &fallback).unwrap();
    assert_eq!((file.tensors()[0].kind(), report.inexact.len()), (TensorType::F16, 0));
    refused(&narrow, &Options { kernels: None, ..options(Target::Tl1) }, &["--to-kernel-config", "m = 8, k = 192"]);
    let thirty = one(&trits[..60], 30);
    refused(&thirty, &options(Target::Float(TensorType::Q8_0)), &["multiple of 32"]);
    // Values that no packing holds.
    let mut values = vec![0.5f32; 512];
    values[300] = -0.25;
    let uneven = one(&values, 256);
    refused(&uneven, &options(X86), &["-s, 0 or s", "0.5", "-0.25", "row 1, column 44", "--quantise"]);
    values[300] = f32::NAN;
    refused(&one(&values, 256), &options(X86), &["NaN"]);
    values[300] = 1e30;
    refused(&one(&values, 256), &options(Target::Float(TensorType::F16)), &["fit F16"]);
    let tiny: Vec<f32> = trits[..512].iter().map(|v| v * 1e-9).collect();
    refused(&one(&tiny, 256), &options(Target::Tq1_0), &["scale"]);
}

#[test]
fn losses_are_told() {
    let mut stream = Stream(9);
    let trits: Vec<f32> = (0..512).map(|_| (stream.below(3) as f32 - 1.0) * 0.1).collect();
    let told = |values: &[f32], options: &Options| try_convert(&one(values, 256), options).unwrap().0.inexact;
    assert_eq!(told(&trits, &options(X86)), Vec::<String>::new());
    let told_scale = told(&trits, &options(Target::Tq2_0));
    assert!(told_scale.len() == 1 && told_scale[0].contains("scale 0.1 rounded to f16"), "{told_scale:?}");
    let uneven: Vec<f32> = (0..512).map(|_| stream.unit()).collect();
    let quantise = Options { quantise: true, ..options(X86) };
    let (report, file) = try_convert(&one(&uneven, 256), &quantise).unwrap();
    assert!(report.inexact[0].contains("quantised"), "{report:?}");
    // BitNet b1.58's weight quantisation: round(w / mean |w|), clamped.
    let mean = uneven.iter().map(|v| f64::from(v.abs())).sum::<f64>() / 512.0;
    let tensor = &file.tensors()[0];
    assert!((f64::from(file.ternary_scale(tensor).unwrap()) - mean).abs() < 1e-6);
    let mut row = [0; 256];
    file.ternary_row(tensor, 1, &mut row).unwrap();
    for (trit, value) in row.iter().zip(&uneven[256..]) {
        assert_eq!(i32::from(*trit), (f64::from(*value) / mean).round().clamp(-1.0, 1.0) as i32);
    }
}
