//! Writing the packings of files: the bytes that bitnet.cpp's converter and the `gguf` package write (fixtures made by
//! `scripts/oracle/tl.py` and `packs.py`), and files that come back as they were.

mod common;

use common::Stream;
use common::writer::{Meta, Writer};
use engine::formats::gguf::{GgufFile, I2sLayout, TensorType};
use engine::formats::kernel_config::{KernelConfig, Tile};
use engine::quant::pack::{Packer, Packing, floats};
use serde_json::Value;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Trits of the stream that `scripts/oracle/tl.py` draws from.
fn trits(seed: u64, count: usize) -> Vec<i8> {
    let mut stream = Stream(seed);
    (0..count).map(|_| stream.below(3) as i8 - 1).collect()
}

fn packed(packing: Packing, rows: usize, cols: usize, scale: f32, trits: &[i8]) -> Vec<u8> {
    let mut packer = Packer::new(packing, rows, cols, scale).unwrap();
    trits.chunks(cols).enumerate().for_each(|(row, trits)| packer.row(row, trits));
    packer.finish()
}

/// A file of one ternary tensor `w`, the scale of TL1 and TL2 beside it.
fn file(packing: Packing, rows: usize, cols: usize, scale: f32, data: Vec<u8>) -> Writer {
    let mut writer = Writer::default();
    let kind = packing.tensor_type().unwrap();
    writer.set("general.architecture", "llama");
    writer.raw("w", &[cols as u64, rows as u64], kind.id(), data);
    if matches!(packing, Packing::Tl1(_) | Packing::Tl2(_)) {
        writer.raw("w_scale", &[], 0, scale.to_le_bytes().to_vec());
    }
    writer
}

fn read(file: &GgufFile) -> (Vec<i8>, f32) {
    let tensor = file.tensor("w").unwrap();
    let scale = file.ternary_scale(tensor).unwrap();
    let mut out = vec![0; tensor.rows() * tensor.cols()];
    for (row, out) in out.chunks_mut(tensor.cols()).enumerate() {
        file.ternary_row(tensor, row, out).unwrap();
    }
    (out, scale)
}

/// A case of the TL fixture: packing, shape, trits, scale, kernel config, bytes.
type Case = (Packing, (usize, usize), Vec<i8>, f32, KernelConfig, Vec<u8>);

fn lookup_cases() -> Vec<Case> {
    let cases: Value = serde_json::from_str(include_str!("golden/tl.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 5);
    let case = |case: &Value| {
        let (rows, cols) = (number(&case["m"]) as usize, number(&case["k"]) as usize);
        let config = KernelConfig::parse("k.ini", case["config"].as_str().unwrap()).unwrap();
        let tile = config.tile(rows, cols).unwrap();
        let packing = if case["kind"] == "tl1" { Packing::Tl1(tile) } else { Packing::Tl2(tile) };
        let scale = f32::from_bits(number(&case["scale_bits"]) as u32);
        let bytes = hex(case["bytes"].as_str().unwrap());
        (packing, (rows, cols), trits(number(&case["seed"]), rows * cols), scale, config, bytes)
    };
    cases.iter().map(case).collect()
}

#[test]
fn lookup_packings_are_those_of_the_converter() {
    for (packing, (rows, cols), trits, scale, config, bytes) in lookup_cases() {
        assert_eq!(packed(packing, rows, cols, scale, &trits), bytes, "{packing:?}");
        let writer = file(packing, rows, cols, scale, bytes);
        let file = GgufFile::from_bytes("test.gguf", writer.bytes()).unwrap();
        assert_eq!(file.tensor("w").unwrap().kind(), packing.tensor_type().unwrap());
        let file = file.with_kernels(config);
        assert!(read(&file) == (trits, scale), "{packing:?}");
    }
}

#[test]
fn rows_are_quantised_to_the_same_bytes() {
    let cases: Value = serde_json::from_str(include_str!("golden/packs.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let kind = TensorType::from_id(number(&case["type"]) as u32).unwrap();
        let values: Vec<f32> =
            case["bits"].as_array().unwrap().iter().map(|bits| f32::from_bits(number(bits) as u32)).collect();
        let want: Vec<u8> = case["bytes"].as_array().unwrap().iter().map(|byte| number(byte) as u8).collect();
        let found = match kind {
            TensorType::Tq1_0 | TensorType::Tq2_0 => {
                let scale = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
                let trits: Vec<i8> = values.iter().map(|v| (v / scale) as i8).collect();
                let packing = if kind == TensorType::Tq1_0 { Packing::Tq1_0 } else { Packing::Tq2_0 };
                packed(packing, 1, values.len(), scale, &trits)
            }
            _ => {
                let mut out = Vec::new();
                floats(kind, &values, &mut out).unwrap();
                out
            }
        };
        assert_eq!(found, want, "{kind}");
    }
}

#[test]
fn every_packing_gives_back_trits_and_scale() {
    let tile = |bmm| Tile { bm: 64, bk: 192, bmm };
    let packings = [
        Packing::I2s(I2sLayout::Blocks128),
        Packing::I2s(I2sLayout::Blocks64),
        Packing::I2s(I2sLayout::Rows4),
        Packing::Tq1_0,
        Packing::Tq2_0,
        Packing::Tl1(tile(32)),
        Packing::Tl2(tile(32)),
    ];
    let (rows, cols, scale) = (64, 768, 0.046875);
    let trits = trits(9, rows * cols);
    for packing in packings {
        let mut writer = file(packing, rows, cols, scale, packed(packing, rows, cols, scale, &trits));
        if let Packing::I2s(layout) = packing {
            writer.set(I2sLayout::KEY, layout.to_string().as_str());
        }
        writer.set("tritmark.kernel_config", "[a]\nm = 64\nk = 768\nbm = 64\nbk = 192\nbmm = 32\n");
        let file = GgufFile::from_bytes("test.gguf", writer.bytes()).unwrap();
        assert!(read(&file) == (trits.clone(), scale), "{packing:?}");
    }
}

#[test]
fn values_that_do_not_fit_are_refused() {
    for kind in [TensorType::F16, TensorType::Q8_0, TensorType::BF16, TensorType::Q6K] {
        let mut values = [0.0; 256];
        values[3] = if kind == TensorType::F16 { 65520.0 } else { f32::MAX };
        let message = floats(kind, &values, &mut Vec::new()).unwrap_err();
        assert!(message.contains(kind.name()), "{message}");
    }
    assert!(floats(TensorType::Q4K, &[0.0; 256], &mut Vec::new()).unwrap_err().contains("Q4_K"));
    let x86 = Packing::I2s(I2sLayout::Blocks128);
    assert!(Packer::new(x86, 3, 100, 1.0).unwrap_err().contains("128"));
    assert!(Packer::new(Packing::Tq2_0, 4, 128, 1.0).unwrap_err().contains("256"));
    assert!(Packer::new(Packing::Hf, 6, 128, 1.0).unwrap_err().contains("4"));
    for scale in [f32::NAN, f32::INFINITY, -1.0] {
        assert!(Packer::new(x86, 4, 128, scale).unwrap_err().contains("scale"));
    }
    for scale in [1e-9, 1e6] {
        assert!(Packer::new(Packing::Tq1_0, 1, 256, scale).unwrap_err().contains("scale"));
    }
    assert!(!Packing::Tq2_0.holds_scale(0.1) && Packing::Tq2_0.holds_scale(0.125) && x86.holds_scale(0.1));
}

fn open(writer: &Writer) -> Result<GgufFile, String> {
    GgufFile::from_bytes("test.gguf", writer.bytes()).map_err(|error| error.to_string())
}

#[test]
fn id_39_is_told_by_what_the_file_gives() {
    let kind = |writer: &Writer| open(writer).map(|file| file.tensor("w").unwrap().kind().to_string());
    let with = |arch: &str, bytes: usize| {
        let mut writer = Writer::default();
        writer.set("general.architecture", arch);
        writer.raw("w", &[288, 64], 39, vec![0; bytes]);
        writer.f32("z", &[1], &[0.0]);
        writer
    };
    let (tl2, mxfp4) = (4522, 288 * 64 / 32 * 17);
    // By size, whatever the architecture says.
    assert_eq!(kind(&with("llama", tl2)).unwrap(), "TL2");
    assert_eq!(kind(&with("bitnet", mxfp4)).unwrap(), "MXFP4");
    // A size that fits neither: by a scale, architecture or file type.
    let odd = mxfp4 + 320;
    assert_eq!(kind(&with("bitnet-b1.58", odd)).unwrap(), "TL2");
    let mut scaled = with("llama", odd);
    scaled.f32("w_scale", &[1], &[0.5]);
    assert_eq!(kind(&scaled).unwrap(), "TL2");
    let mut typed = with("llama", odd);
    typed.set("general.file_type", Meta::U32(38));
    assert_eq!(kind(&typed).unwrap(), "MXFP4");
    let message = kind(&with("llama", odd)).unwrap_err();
    for part in ["test.gguf", "type of tensor w", "TL2 of bitnet.cpp", "MXFP4 of ggml"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn types_that_are_not_read_have_a_size_and_a_refusal() {
    for (id, name, cols, bytes) in [
        (39, "MXFP4", 128, 68),
        (40, "NVFP4", 128, 72),
        (41, "Q1_0", 128, 18),
        (42, "Q2_0", 128, 36),
        (37, "I8_S", 128, 128),
    ] {
        let mut writer = Writer::default();
        writer.set("general.architecture", "llama");
        writer.raw("w", &[cols, 1], id, vec![0; bytes]);
        let file = open(&writer).unwrap();
        let tensor = file.tensor("w").unwrap();
        assert_eq!((tensor.kind().name(), tensor.bytes().len()), (name, bytes));
        let message = file.row_to_f32(tensor, 0, &mut vec![0.0; 128]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("tensor w"), "{message}");
    }
}

#[test]
fn the_layout_is_the_one_that_the_shapes_admit() {
    let layout = |shapes: &[(u64, u64)], named: Option<&str>| {
        let mut writer = Writer::default();
        for (nth, &(cols, rows)) in shapes.iter().enumerate() {
            writer.raw(&format!("w{nth}"), &[cols, rows], 36, vec![0x55; (cols * rows / 4 + 32) as usize]);
        }
        if let Some(named) = named {
            writer.set(I2sLayout::KEY, named);
        }
        open(&writer).map(|file| file.i2s_layout())
    };
    assert_eq!(layout(&[(256, 4), (128, 1)], None), Ok(I2sLayout::Blocks128));
    assert_eq!(layout(&[(256, 4), (64, 3)], None), Ok(I2sLayout::Blocks64));
    assert_eq!(layout(&[(256, 4), (36, 4)], None), Ok(I2sLayout::Rows4));
    assert_eq!(layout(&[(256, 4)], Some("rows4")), Ok(I2sLayout::Rows4));
    assert!(layout(&[(256, 4)], Some("mips")).unwrap_err().contains("tritmark.i2_s.layout"));
}

#[track_caller]
fn refused(file: &GgufFile, parts: &[&str]) {
    let tensor = file.tensor("w").unwrap();
    let mut out = vec![0; tensor.cols()];
    let mut rows = || (0..tensor.rows()).try_for_each(|row| file.ternary_row(tensor, row, &mut out));
    let message = file.ternary_scale(tensor).map(|_| ()).and_then(|()| rows()).unwrap_err().to_string();
    for part in ["test.gguf"].iter().chain(parts) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn lookup_tensors_that_are_wrong_are_refused() {
    let cases = lookup_cases();
    let (packing, (rows, cols), _, scale, config, bytes) = &cases[2];
    let make = |bytes: &[u8]| file(*packing, *rows, *cols, *scale, bytes.to_vec());
    let read = |writer: &Writer| GgufFile::from_bytes("test.gguf", writer.bytes()).unwrap();
    let with = |writer: &Writer| read(writer).with_kernels(config.clone());
    refused(&read(&make(bytes)), &["tensor w", "--kernel-config", "m = 64, k = 320"]);
    let other = |text: &str| KernelConfig::parse("k.ini", text).unwrap();
    let elsewhere = other("[a]\nm = 64\nk = 321\nbm = 32\nbk = 96\nbmm = 32\n");
    refused(&read(&make(bytes)).with_kernels(elsewhere), &["a config without that shape"]);
    let odd = other("[a]\nm = 64\nk = 320\nbm = 48\nbk = 96\nbmm = 32\n");
    refused(&read(&make(bytes)).with_kernels(odd), &["multiple of 48"]);
    // Other parts of triples, signs and pairs: signs on zeros, pairs where triples are.
    let tiles = other("[a]\nm = 64\nk = 320\nbm = 32\nbk = 192\nbmm = 32\n");
    refused(&read(&make(bytes)).with_kernels(tiles), &["another kernel config"]);
    let mut spoilt = bytes.clone();
    spoilt[7] = 0xee;
    refused(&with(&make(&spoilt)), &["triples of 0 to 13", "tensor w"]);
    let mut alone = make(bytes);
    alone.tensors.retain(|t| t.name == "w");
    refused(&with(&alone), &["w_scale", "missing"]);
    for bad in [f32::NAN, -1.0] {
        let mut writer = make(bytes);
        writer.tensor("w_scale").data = bad.to_le_bytes().to_vec();
        refused(&with(&writer), &["scale", &bad.to_string()]);
    }
    let mut wide = make(bytes);
    wide.tensors.retain(|t| t.name == "w");
    wide.f32("w_scale", &[2], &[1.0, 1.0]);
    refused(&with(&wide), &["tensor w_scale", "one F32 value"]);
    let (packing, (rows, cols), _, scale, config, bytes) = &cases[0];
    let mut spoilt = bytes.clone();
    spoilt[100] |= 0xf0;
    let writer = file(*packing, *rows, *cols, *scale, spoilt);
    refused(&read(&writer).with_kernels(config.clone()), &["nibbles of 0 to 8"]);
}
