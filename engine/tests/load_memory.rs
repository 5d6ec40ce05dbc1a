//! Loading holds the packed weights and little else, mapped pages included: of GGUF files, folders and caches. The only
//! test of its file, for the peak is the process's.

mod common;

use common::small;
use engine::Format;
use engine::convert::{FolderOptions, Options, Target, gguf_to_gguf, gguf_to_hf, synthetic_to_gguf};
use engine::formats::gguf::{I2sLayout, TensorType};
use engine::formats::{GgufFile, HfFolder};
use engine::model::{Config, Model, cache_path, load_gguf, load_gguf_cached, load_hf};
use engine::synthetic::{HeadType, SyntheticSpec};
use std::path::Path;

/// 43 MB of trits and 41 MB of f16 embedding.
fn config() -> Config {
    Config { hidden: 1024, ffn: 4096, layers: 10, heads: 16, kv_heads: 8, head_dim: 64, vocab: 20_000, ..small() }
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What `work` takes at most beyond what was there before, and the bytes of the model's weights.
fn peak(work: impl FnOnce() -> Model) -> (u64, u64) {
    // Sets the peak back to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let model = work();
    (status("VmHWM").saturating_sub(before), model.footprint().total() as u64)
}

fn options(target: Target) -> Options {
    Options { target, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false }
}

/// Reads every page, as loading would if it gave none back.
fn read_whole(path: &Path) -> GgufFile {
    let file = GgufFile::open(path).unwrap();
    let pages = |bytes: &[u8]| bytes.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>();
    std::hint::black_box(file.tensors().iter().map(|tensor| pages(file.data(tensor))).sum::<u64>());
    file
}

#[test]
fn the_peak_is_the_packed_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let gguf = |name: &str| GgufFile::open(path(name)).unwrap();
    let spec = SyntheticSpec { config: config(), seed: 5, head: HeadType::F16, gate_zeros: None };
    synthetic_to_gguf(&spec, &path("i2s"), &options(Target::I2s(I2sLayout::Blocks128))).unwrap();
    gguf_to_gguf(&gguf("i2s"), &path("tq1"), &options(Target::Tq1_0)).unwrap();
    let f32 = Options { embedding: Some(TensorType::F32), ..options(Target::Tq2_0) };
    gguf_to_gguf(&gguf("i2s"), &path("tq2-f32"), &f32).unwrap();
    let packed = FolderOptions { options: options(Target::Hf), shard_bytes: 30_000_000 };
    gguf_to_hf(&gguf("i2s"), &path("hf"), &packed).unwrap();
    let floats = FolderOptions { options: options(Target::Float(TensorType::BF16)), shard_bytes: u64::MAX };
    gguf_to_hf(&gguf("i2s"), &path("hf-bf16"), &floats).unwrap();
    let q8 = Options { embedding: Some(TensorType::Q8_0), ..options(Target::Tq2_0) };
    gguf_to_gguf(&gguf("i2s"), &path("tq2-q8"), &q8).unwrap();
    let q6 = Options { embedding: Some(TensorType::Q6K), ..options(Target::I2s(I2sLayout::Blocks128)) };
    gguf_to_gguf(&gguf("i2s"), &path("i2s-q6"), &q6).unwrap();
    let cache = cache_path(&path("i2s"), Format::Ternary).unwrap();
    let q6_cache = cache_path(&path("i2s-q6"), Format::Ternary).unwrap();
    let q6_cached = || load_gguf_cached(&gguf("i2s-q6"), Format::Ternary, &q6_cache).unwrap();
    let cached = || load_gguf_cached(&gguf("i2s"), Format::Ternary, &cache).unwrap();
    let hf = |name: &str, format| load_hf(&HfFolder::open(path(name)).unwrap(), format).unwrap();
    let loads: [(&str, &dyn Fn() -> Model); 13] = [
        ("i2s", &|| load_gguf(&gguf("i2s"), Format::Ternary).unwrap()),
        ("i2s at 1.6 bits", &|| load_gguf(&gguf("i2s"), Format::Base3).unwrap()),
        ("tq1", &|| load_gguf(&gguf("tq1"), Format::Ternary).unwrap()),
        ("tq2, f32 embedding", &|| load_gguf(&gguf("tq2-f32"), Format::Ternary).unwrap()),
        ("hf", &|| hf("hf", Format::Ternary)),
        ("hf, bf16", &|| hf("hf-bf16", Format::Bf16)),
        ("i2s, cache written", &|| cached().model),
        ("i2s, cache read", &|| {
            let cached = cached();
            assert!(cached.from_cache && cached.notes.is_empty(), "{:?}", cached.notes);
            cached.model
        }),
        ("tq2, Q8_0 head", &|| load_gguf(&gguf("tq2-q8"), Format::Ternary).unwrap()),
        ("i2s, Q6_K head", &|| load_gguf(&gguf("i2s-q6"), Format::Ternary).unwrap()),
        ("i2s, Q6_K head, cache written", &|| q6_cached().model),
        ("i2s, Q6_K head, cache read", &|| {
            let cached = q6_cached();
            assert!(cached.from_cache && cached.notes.is_empty(), "{:?}", cached.notes);
            cached.model
        }),
        ("i2s as f16", &|| load_gguf(&gguf("i2s"), Format::F16).unwrap()),
    ];
    for (name, load) in loads {
        let (taken, weights) = peak(load);
        println!("{name}: {} KiB, weights {} KiB: {:.3}", taken >> 10, weights >> 10, taken as f64 / weights as f64);
        assert!(weights > 50_000_000 && taken < weights * 115 / 100, "{name}: {taken} for {weights} bytes of weights");
    }
    // What is mapped and read counts: the measure sees it.
    let (taken, weights) = peak(|| {
        let file = read_whole(&path("i2s"));
        let model = load_gguf(&gguf("i2s"), Format::Ternary).unwrap();
        drop(file);
        model
    });
    assert!(taken > weights * 180 / 100, "{taken} for {weights}");
}
