//! A conversion holds one tensor as it is read and one as it is written: its peak, mapped pages included, stays under
//! twice the largest tensor. The only test of its file, for the peak is the process's.

use engine::convert::{FolderOptions, Options, Target, gguf_to_gguf, gguf_to_hf, hf_to_gguf};
use engine::formats::HfFolder;
use engine::formats::gguf::{GgufFile, I2sLayout, Meta, Metadata, Planned, TensorType, Writer};
use std::path::{Path, PathBuf};

/// Width of the model and of its feed-forward's inside.
const HIDDEN: usize = 2048;
const FFN: usize = 4096;
const LAYERS: usize = 2;
/// Heads of 64 and tokens: so few that the feed-forward has the largest tensors.
const HEADS: usize = 4;
const VOCAB: usize = 64;
/// Bytes of a tensor of the feed-forward in F32, and in two bits a weight.
const LARGEST: u64 = (HIDDEN * FFN * 4) as u64;
const PACKED: u64 = LARGEST / 16;
/// What a conversion takes whatever the tensors: buffers, headers, pages of its own code.
const CONSTANT: u64 = 4 << 20;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What `work` takes at most, beyond what was there before.
fn peak(work: impl FnOnce()) -> u64 {
    // Sets the peak back to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    work();
    status("VmHWM") - before
}

/// A model of LLaMA's in F32, its linear layers of trits.
fn make(path: &Path) {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", "llama");
    let counts = [
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FFN),
        ("block_count", LAYERS),
        ("attention.head_count", HEADS),
        ("attention.key_length", 64),
        ("context_length", 64),
    ];
    for (key, count) in counts {
        metadata.set(&format!("llama.{key}"), Meta::U32(count as u32));
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5));
    let mut tensors =
        vec![("token_embd.weight".to_owned(), HIDDEN, VOCAB), ("output_norm.weight".to_owned(), HIDDEN, 0)];
    for layer in 0..LAYERS {
        let width = HEADS * 64;
        let parts = [
            ("attn_norm", HIDDEN, 0),
            ("ffn_norm", HIDDEN, 0),
            ("attn_q", HIDDEN, width),
            ("attn_k", HIDDEN, width),
            ("attn_v", HIDDEN, width),
            ("attn_output", width, HIDDEN),
            ("ffn_gate", HIDDEN, FFN),
            ("ffn_up", HIDDEN, FFN),
            ("ffn_down", FFN, HIDDEN),
        ];
        tensors.extend(parts.map(|(name, cols, rows)| (format!("blk.{layer}.{name}.weight"), cols, rows)));
    }
    let planned = |(name, cols, rows): &(String, usize, usize)| {
        let dims = if *rows == 0 { vec![*cols as u64] } else { vec![*cols as u64, *rows as u64] };
        Planned { name: name.clone(), dims, kind: TensorType::F32 }
    };
    let mut writer = Writer::create(path, &metadata, &tensors.iter().map(planned).collect::<Vec<_>>()).unwrap();
    for (_, cols, rows) in &tensors {
        for row in 0..*rows.max(&1) {
            let values = (0..*cols).map(|col| ((row * 31 + col * 17) % 3) as f32 * 0.125 - 0.125);
            writer.write(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        }
    }
    writer.finish().unwrap();
}

/// A file or folder into another; the bytes of the largest tensor on either side.
type Step = (&'static str, &'static str, Target, u64);

const X86: Target = Target::I2s(I2sLayout::Blocks128);
const F32: Target = Target::Float(TensorType::F32);

const STEPS: [Step; 14] = [
    ("f32.gguf", "x86.gguf", X86, LARGEST),
    ("x86.gguf", "back.gguf", F32, LARGEST),
    ("f32.gguf", "q8.gguf", Target::Float(TensorType::Q8_0), LARGEST),
    ("x86.gguf", "tq1.gguf", Target::Tq1_0, PACKED),
    ("f32.gguf", "f32-again.gguf", F32, LARGEST),
    ("f32.gguf", "f32", F32, LARGEST),
    ("f32.gguf", "packed", Target::Hf, LARGEST),
    ("x86.gguf", "packed-of-x86", Target::Hf, PACKED),
    ("x86.gguf", "f32-of-x86", F32, LARGEST),
    ("f32", "f32-of-f32.gguf", F32, LARGEST),
    ("f32", "x86-of-f32.gguf", X86, LARGEST),
    ("f32", "bf16-of-f32.gguf", Target::Float(TensorType::BF16), LARGEST),
    ("packed", "x86-of-packed.gguf", X86, PACKED),
    ("packed", "f32-of-packed.gguf", F32, LARGEST),
];

/// What is neither converted again nor compared.
const ONCE: [&str; 5] = ["q8.gguf", "tq1.gguf", "packed-of-x86", "f32-of-x86", "bf16-of-f32.gguf"];

fn convert(from: &Path, to: &Path, target: Target) {
    let options = Options { target, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false };
    let is_file = |path: &Path| path.extension().is_some_and(|end| end == "gguf");
    match (is_file(from), is_file(to)) {
        (true, true) => gguf_to_gguf(&GgufFile::open(from).unwrap(), to, &options),
        (true, false) => {
            // Two large tensors a file.
            let shard_bytes = if target == Target::Hf { 2 * PACKED } else { 2 * LARGEST };
            gguf_to_hf(&GgufFile::open(from).unwrap(), to, &FolderOptions { options, shard_bytes })
        }
        (false, _) => hf_to_gguf(&HfFolder::open(from).unwrap(), to, &options),
    }
    .unwrap();
}

/// Reads every page.
fn read_whole(from: &Path) {
    let pages = |bytes: &[u8]| bytes.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>();
    let sum: u64 = match from.is_dir() {
        false => {
            let file = GgufFile::open(from).unwrap();
            file.tensors().iter().map(|tensor| pages(file.data(tensor))).sum()
        }
        true => {
            let folder = HfFolder::open(from).unwrap();
            folder.tensors().iter().map(|tensor| pages(folder.data(tensor))).sum()
        }
    };
    std::hint::black_box(sum);
}

#[test]
fn the_peak_is_under_two_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    make(&path("f32.gguf"));
    for (from, to, target, largest) in STEPS {
        let taken = peak(|| convert(&path(from), &path(to), target));
        println!("{from} to {to}: {} KiB, a tensor {} KiB", taken >> 10, largest >> 10);
        let bound = 2 * largest + if largest == PACKED { CONSTANT } else { 0 };
        assert!(taken < bound, "{from} to {to}: {taken} bytes where a tensor has {largest}");
        if ONCE.contains(&to) {
            std::fs::remove_file(path(to)).or_else(|_| std::fs::remove_dir_all(path(to))).unwrap();
        }
        // Reading the whole leaves pages mapped: the measure sees them.
        if ["f32.gguf", "f32"].contains(&from) {
            let whole = peak(|| read_whole(&path(from)));
            assert!(whole > 3 * LARGEST, "{whole}");
        }
    }
    assert!(HfFolder::open(path("f32")).unwrap().files().count() > 2);
    assert!(HfFolder::open(path("packed")).unwrap().files().count() > 2);
    let same = |a: &str, b: &str| std::fs::read(path(a)).unwrap() == std::fs::read(path(b)).unwrap();
    assert!(same("back.gguf", "f32-again.gguf"));
    assert!(same("x86-of-f32.gguf", "x86-of-packed.gguf"));
    assert!(same("f32-of-f32.gguf", "f32-of-packed.gguf"));
}
