//! One BitNet model in every ternary packing of GGUF files: the same model, bit for bit, in the ternary engine; and what
//! is not ternary is refused.

mod common;

use common::Stream;
use common::writer::{Meta, Writer};
use engine::formats::GgufFile;
use engine::formats::gguf::I2sLayout;
use engine::generate::{Sampling, generate};
use engine::model::{
    Activation, Architecture, Format, KvType, Model, RopeStyle, Session, SessionOptions, is_ternary_gguf, load_gguf,
    predict_gguf_bytes,
};
use engine::synthetic::PAIR_BOUND;
use engine::{Error, Isa, Kernels, Pool};
use half::f16;

/// An f16 number, so that TQ1_0 and TQ2_0, which have f16 scales, hold the same model as I2_S.
const SCALE: f32 = 0.046875;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Packing {
    I2s(I2sLayout),
    Tq1,
    Tq2,
}

const PACKINGS: [Packing; 5] = [
    Packing::I2s(I2sLayout::Blocks128),
    Packing::I2s(I2sLayout::Blocks64),
    Packing::I2s(I2sLayout::Rows4),
    Packing::Tq1,
    Packing::Tq2,
];

/// Codes (trit + 1) of a matrix of `cols` columns, packed as the writers of the format pack them.
fn pack(packing: Packing, codes: &[u8], cols: usize) -> (u32, Vec<u8>) {
    let half = f16::from_f32(SCALE).to_le_bytes();
    let blocked = |len: usize| -> Vec<u8> {
        let part = len / 4;
        let byte = |block: &[u8], m: usize| (0..4).fold(0, |byte, n| byte | block[n * part + m] << (6 - 2 * n));
        codes.chunks(len).flat_map(|block| (0..part).map(move |m| byte(block, m))).collect()
    };
    match packing {
        Packing::I2s(layout) => {
            let mut data = match layout {
                I2sLayout::Blocks128 => blocked(128),
                I2sLayout::Blocks64 => blocked(64),
                I2sLayout::Rows4 => codes
                    .chunks(4 * cols)
                    .flat_map(|rows| {
                        (0..cols).map(move |col| (0..4).fold(0, |byte, r| byte | rows[r * cols + col] << (6 - 2 * r)))
                    })
                    .collect(),
            };
            data.extend(SCALE.to_le_bytes());
            data.extend([0xa5; 28]);
            (36, data)
        }
        Packing::Tq1 => (34, codes.chunks(256).flat_map(|block| [tq1(block), half.to_vec()].concat()).collect()),
        Packing::Tq2 => {
            let byte = |block: &[u8], i: usize| {
                (0..4).fold(0, |byte, n| byte | block[i / 32 * 128 + n * 32 + i % 32] << (2 * n))
            };
            let block = |block: &[u8]| [(0..64).map(|i| byte(block, i)).collect(), half.to_vec()].concat();
            (35, codes.chunks(256).flat_map(block).collect())
        }
    }
}

/// The 52 bytes of codes of a TQ1_0 block.
fn tq1(block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (first, width, digits) in [(0, 32, 5), (160, 16, 5), (240, 4, 4)] {
        for m in 0..width {
            let mut n = 0;
            for digit in 0..digits {
                n = 3 * n + u32::from(block[first + digit * width + m]);
            }
            // Four digits stand before a fifth of 0.
            n *= if digits == 4 { 3 } else { 1 };
            bytes.push((n * 256).div_ceil(243) as u8);
        }
    }
    bytes
}

/// Two blocks: width 256, four heads of 64, two of them for keys, vocabulary 40.
fn model(arch: &str, packing: Packing) -> Writer {
    let mut writer = Writer::default();
    writer.set("general.architecture", arch);
    let counts = [
        ("context_length", 64),
        ("embedding_length", 256),
        ("block_count", 2),
        ("feed_forward_length", 512),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("rope.dimension_count", 64),
    ];
    for (key, value) in counts {
        writer.set(&format!("{arch}.{key}"), Meta::U32(value));
    }
    writer.set(&format!("{arch}.attention.layer_norm_rms_epsilon"), Meta::F32(1e-5));
    writer.set(&format!("{arch}.rope.freq_base"), Meta::F32(500_000.0));
    let mut stream = Stream(3);
    // f16 numbers, so that every engine holds the same embedding.
    let mut floats = |writer: &mut Writer, name: &str, dims: &[u64], offset: f32| {
        let value = |_| f16::from_f32(offset + 0.5 * stream.unit()).to_f32();
        let values: Vec<f32> = (0..dims.iter().product()).map(value).collect();
        writer.f32(&format!("{name}.weight"), dims, &values);
    };
    floats(&mut writer, "token_embd", &[256, 40], 0.0);
    floats(&mut writer, "output_norm", &[256], 1.0);
    let mut trits = Stream(4);
    for block in 0..2 {
        let norms: &[(&str, u64)] =
            &[("attn_norm", 256), ("ffn_norm", 256), ("attn_sub_norm", 256), ("ffn_sub_norm", 512)];
        for (name, width) in norms.iter().filter(|(name, _)| arch != "llama" || !name.contains("sub")) {
            floats(&mut writer, &format!("blk.{block}.{name}"), &[*width], 1.0);
        }
        let linears: [(&str, u64, u64); 7] = [
            ("attn_q", 256, 256),
            ("attn_k", 256, 128),
            ("attn_v", 256, 128),
            ("attn_output", 256, 256),
            ("ffn_gate", 256, 512),
            ("ffn_up", 256, 512),
            ("ffn_down", 512, 256),
        ];
        for (name, cols, rows) in linears {
            let codes: Vec<u8> = (0..rows * cols).map(|_| trits.below(3) as u8).collect();
            let (kind, data) = pack(packing, &codes, cols as usize);
            writer.raw(&format!("blk.{block}.{name}.weight"), &[cols, rows], kind, data);
        }
    }
    writer
}

fn open(writer: &Writer, packing: Packing) -> GgufFile {
    let file = GgufFile::from_bytes("test.gguf", writer.bytes()).unwrap();
    match packing {
        Packing::I2s(layout) => file.with_i2s_layout(layout),
        _ => file,
    }
}

fn logits(model: &Model, isa: Isa) -> Vec<f32> {
    let pool = Pool::new(2, false).unwrap();
    let options = SessionOptions { context: 32, kv: KvType::F32, max_batch: 32 };
    let mut session = Session::new(model, &pool, Kernels::new(Some(isa)).unwrap(), options).unwrap();
    session.prefill(&[1, 7, 39, 0, 22, 5]).unwrap();
    session.decode(11).unwrap().to_vec()
}

#[test]
fn every_packing_holds_the_same_model() {
    let first = load_gguf(&open(&model("bitnet-b1.58", PACKINGS[0]), PACKINGS[0]), Format::Ternary).unwrap();
    let config = first.config();
    assert_eq!((config.arch, config.rope), (Architecture::BitNet, RopeStyle::Neox));
    assert_eq!((config.activation, config.sub_norms, config.tied), (Activation::Relu2, true, true));
    assert_eq!(first.linear_kind(), "ternary-2bit");
    let want = logits(&first, Isa::Scalar);
    assert!(want.iter().all(|l| l.is_finite()) && want.iter().any(|&l| l != want[0]));
    for packing in PACKINGS {
        let file = open(&model("bitnet-b1.58", packing), packing);
        let ternary = load_gguf(&file, Format::Ternary).unwrap();
        let base3 = load_gguf(&file, Format::Base3).unwrap();
        assert_eq!(base3.linear_kind(), "ternary-1.6bit");
        for isa in Isa::available() {
            assert_eq!(logits(&ternary, isa), want, "{packing:?} {isa}");
            assert_eq!(logits(&base3, isa), want, "{packing:?} {isa}, 1.6 bits");
        }
        // The 16-bit engines have the same weights; what differs is what int8 activations lose.
        for format in [Format::F16, Format::Bf16] {
            let wide = logits(&load_gguf(&file, format).unwrap(), Isa::Scalar);
            let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
            let distance = square(&mut wide.iter().zip(&want).map(|(a, b)| a - b)) / square(&mut wide.iter().copied());
            assert!(distance.sqrt() < PAIR_BOUND && distance > 0.0, "{packing:?} {format:?}: {}", distance.sqrt());
        }
    }
}

/// Prompts of one token, of more than a tile, and of several.
#[test]
fn the_reference_is_the_ternary_engine_bit_for_bit() {
    let run = |model: &Model, isa: Isa, count: u32| {
        let pool = Pool::new(2, false).unwrap();
        let options = SessionOptions { context: 64, kv: KvType::F32, max_batch: 64 };
        let mut session = Session::new(model, &pool, Kernels::new(Some(isa)).unwrap(), options).unwrap();
        let ids: Vec<u32> = (0..count).map(|i| (i * i * 7 + 3) % 40).collect();
        session.prefill_all(&ids).unwrap().iter().map(|logit| logit.to_bits()).collect::<Vec<u32>>()
    };
    for (arch, packing) in ["bitnet-b1.58", "bitnet", "llama"].into_iter().flat_map(|a| PACKINGS.map(|p| (a, p))) {
        let file = open(&model(arch, packing), packing);
        let (reference, ternary) = (load_gguf(&file, Format::Reference), load_gguf(&file, Format::Ternary));
        let (reference, ternary) = (reference.unwrap(), ternary.unwrap());
        assert_eq!((reference.linear_kind(), reference.head().kind()), ("ternary-f32", "f32"));
        for count in [1, 17, 64] {
            let truth = run(&reference, Isa::Scalar, count);
            for isa in Isa::available() {
                assert!(run(&ternary, isa, count) == truth, "{arch} {packing:?} {isa}, {count} tokens");
            }
        }
    }
}

#[test]
fn bytes_are_told_before_loading() {
    let mut writer = model("bitnet-b1.58", PACKINGS[0]);
    let file = open(&writer, PACKINGS[0]);
    assert!(is_ternary_gguf(&file));
    for format in [Format::Ternary, Format::Base3, Format::F16, Format::Bf16, Format::Reference] {
        let footprint = load_gguf(&file, format).unwrap().footprint();
        let matrices = footprint.total() - footprint.norm_bytes;
        assert_eq!(predict_gguf_bytes(&file, format), matrices as u64, "{format:?}");
    }
    writer.tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
    writer.f32("blk.1.ffn_up.weight", &[256, 512], &vec![0.0; 256 * 512]);
    assert!(!is_ternary_gguf(&open(&writer, PACKINGS[0])));
}

#[test]
fn architectures_differ_where_they_should() {
    let packing = Packing::Tq2;
    let load = |arch: &str| load_gguf(&open(&model(arch, packing), packing), Format::Ternary).unwrap();
    let (b158, b25, bitnet, llama) = (load("bitnet-b1.58"), load("bitnet-25"), load("bitnet"), load("llama"));
    assert_eq!(bitnet.config().activation, Activation::Silu);
    assert!(bitnet.config().sub_norms && bitnet.config().rope == RopeStyle::Neox);
    assert!(!llama.config().sub_norms && llama.config().rope == RopeStyle::Interleaved);
    let of = |model: &Model| logits(model, Isa::Scalar);
    assert_eq!(of(&b158), of(&b25));
    assert_ne!(of(&b158), of(&bitnet));
}

#[test]
fn a_wrong_layout_is_another_model() {
    let writer = model("bitnet-b1.58", PACKINGS[0]);
    let right = load_gguf(&open(&writer, PACKINGS[0]), Format::Ternary).unwrap();
    let wrong = load_gguf(&open(&writer, PACKINGS[1]), Format::Ternary).unwrap();
    assert_ne!(logits(&right, Isa::Scalar), logits(&wrong, Isa::Scalar));
}

#[track_caller]
fn refused(writer: &Writer, packing: Packing, parts: &[&str]) {
    let message = load_gguf(&open(writer, packing), Format::Ternary).unwrap_err().to_string();
    for part in ["test.gguf: "].iter().chain(parts) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn what_is_not_ternary_is_refused() {
    let name = "blk.1.ffn_up.weight";
    for packing in PACKINGS.into_iter().filter(|&p| p != Packing::Tq1) {
        let mut writer = model("bitnet-b1.58", packing);
        writer.tensor(name).data[5] |= 0b1100;
        refused(&writer, packing, &[name, "code 3"]);
    }
    for packing in [Packing::Tq1, Packing::Tq2] {
        let size = if packing == Packing::Tq1 { 54 } else { 66 };
        let mut writer = model("bitnet-b1.58", packing);
        writer.tensor(name).data[3 * size - 2..3 * size].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
        refused(&writer, packing, &[name, "one scale", "0.5"]);
        writer.tensor(name).data[3 * size - 2..3 * size].copy_from_slice(&f16::NAN.to_le_bytes());
        refused(&writer, packing, &[name, "scale", "NaN"]);
        // A block of zeros may say so by its scale.
        writer.tensor(name).data[3 * size - 2..3 * size].copy_from_slice(&[0, 0x80]);
        assert!(load_gguf(&open(&writer, packing), Format::Ternary).is_ok());
    }
    let i2s = PACKINGS[0];
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        let mut writer = model("bitnet-b1.58", i2s);
        let data = &mut writer.tensor(name).data;
        let at = data.len() - 32;
        data[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        refused(&writer, i2s, &[name, "scale", &bad.to_string()]);
    }
    let mut writer = model("bitnet-b1.58", i2s);
    let values = vec![0.0; 256 * 512];
    writer.tensors.retain(|t| t.name != name);
    writer.f32(name, &[256, 512], &values);
    refused(&writer, i2s, &[name, "ternary tensor", "F32"]);
    let mut writer = model("bitnet-b1.58", i2s);
    writer.tensors.retain(|t| !t.name.ends_with("attn_sub_norm.weight"));
    refused(&writer, i2s, &["blk.0.attn_sub_norm.weight", "missing", "[256]"]);
}

/// A weight, scale or setting that is no finite number is refused, wherever it lies, with the tensor and the place.
#[test]
fn numbers_that_are_none_are_refused_everywhere() {
    let packing = PACKINGS[0];
    let whole = model("bitnet-b1.58", packing);
    for tensor in &whole.tensors {
        let count = if tensor.kind == 0 { tensor.data.len() / 4 } else { 1 };
        for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, count / 2), (f32::NEG_INFINITY, count - 1)] {
            let mut writer = whole.clone();
            let (name, cols) = (tensor.name.as_str(), tensor.dims[0] as usize);
            let data = &mut writer.tensor(name).data;
            // The scale of an I2_S tensor lies before its last 28 bytes.
            let byte = if tensor.kind == 0 { 4 * at } else { data.len() - 32 };
            data[byte..byte + 4].copy_from_slice(&bad.to_le_bytes());
            let place = format!("row {}, column {}", at / cols, at % cols);
            let place = if tensor.kind == 0 { place.as_str() } else { "scale" };
            refused(&writer, packing, &[name, place, &bad.to_string()]);
        }
    }
    for key in ["attention.layer_norm_rms_epsilon", "rope.freq_base"] {
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let (mut writer, key) = (whole.clone(), format!("bitnet-b1.58.{key}"));
            writer.set(&key, Meta::F32(bad));
            refused(&writer, packing, &[&key, &bad.to_string()]);
        }
    }
}

/// A scale that f16 or bf16 would round to 0 or infinity is refused where weights are written out; one that is a denormal
/// there, or a number of the wider type alone, is not.
#[test]
fn scales_that_16_bits_cannot_hold_are_refused() {
    let (name, packing) = ("blk.1.ffn_up.weight", PACKINGS[0]);
    let with = |scale: f32| {
        let mut writer = model("bitnet-b1.58", packing);
        let data = &mut writer.tensor(name).data;
        let at = data.len() - 32;
        data[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        open(&writer, packing)
    };
    // Half of the smallest denormal (2^-24 and 2^-133) goes to 0; from 65520 on f16 has infinity.
    let cases = [
        (Format::F16, &[2.9e-8, f32::MIN_POSITIVE, 65_520.0][..], &[0.0, 3e-8, 6.1e-6, 65_519.0][..], "f16"),
        (Format::Bf16, &[4.5e-41, f32::MAX], &[0.0, 4.7e-41, 2.9e-8, 65_520.0, 3.38e38], "bf16"),
        (Format::Ternary, &[], &[0.0, 1e-45, 2.9e-8, 65_520.0, f32::MAX], ""),
        (Format::Reference, &[], &[0.0, 1e-45, 2.9e-8, 65_520.0, f32::MAX], ""),
    ];
    for (format, bad, good, kind) in cases {
        for &scale in bad {
            let message = load_gguf(&with(scale), format).unwrap_err().to_string();
            for part in ["test.gguf: ", name, &format!("a scale that fits {kind}, found {scale}")] {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
        }
        for &scale in good {
            let model = load_gguf(&with(scale), format).unwrap();
            let mut row = [0.0; 256];
            let (_, up) = model.layers()[1].linears()[5];
            up.row_to_f32(0, &mut row);
            assert!(row.iter().any(|&w| w != 0.0) == (scale > 0.0), "{format:?} {scale}: {row:?}");
            assert!(row.iter().all(|w| w.is_finite()));
        }
    }
}

/// A row too long for exact sums in i32 is refused by its key, before the other tensors are asked for.
#[test]
fn rows_too_long_are_refused_by_their_key() {
    let cols = engine::quant::MAX_COLS as u64 + 128;
    for key in ["embedding_length", "feed_forward_length"] {
        let mut writer = model("bitnet-b1.58", PACKINGS[0]);
        writer.set(&format!("bitnet-b1.58.{key}"), Meta::U32(cols as u32));
        writer.set("bitnet-b1.58.attention.key_length", Meta::U32(64));
        refused(&writer, PACKINGS[0], &[key, &cols.to_string(), "4194304"]);
    }
}

/// Finite weights whose products overflow f32 end generation with an error, in both engines and on every path: never a
/// token chosen from logits that mean nothing. (An f16 cache saturates what is finite, so 1e22 is none the worse for it.)
#[test]
fn overflow_is_an_error_and_not_a_token() {
    let packing = Packing::Tq2;
    let blocks = ["blk.0.attn_norm", "blk.0.ffn_norm", "blk.1.attn_norm", "blk.1.ffn_norm"];
    let all = [&blocks[..], &["output_norm"]].concat();
    // The squares of 1e22 overflow already, and an RMSNorm by an infinite root would be of plausible zeros.
    let cases = [
        ("llama", 1e22f32, KvType::F32, &blocks[..]),
        ("llama", 3e38, KvType::F16, &all),
        ("bitnet-b1.58", 3e38, KvType::F16, &all),
    ];
    let pool = Pool::new(1, false).unwrap();
    for (arch, size, kv, norms) in cases {
        for name in norms {
            let mut writer = model(arch, packing);
            let values = writer.tensor(&format!("{name}.weight")).data.chunks_exact_mut(4);
            values.for_each(|value| value.copy_from_slice(&size.to_le_bytes()));
            for format in [Format::Ternary, Format::F16] {
                let model = load_gguf(&open(&writer, packing), format).unwrap();
                for isa in Isa::available() {
                    let options = SessionOptions { context: 32, kv, max_batch: 32 };
                    let mut session = Session::new(&model, &pool, Kernels::new(Some(isa)).unwrap(), options).unwrap();
                    let go_on = |_| std::ops::ControlFlow::Continue(());
                    let made = generate(&mut session, &[1, 7, 39], 3, &[], Sampling::GREEDY, go_on);
                    assert!(matches!(made, Err(Error::NotFinite)), "{arch} {size} {name} {format:?} {isa}: {made:?}");
                }
            }
        }
    }
}
