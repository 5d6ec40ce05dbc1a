//! A conversion holds one tensor as it is read and one as it is written: its peak, mapped pages included, stays under
//! twice the largest tensor. The only test of its file, for the peak is the process's.

use engine::convert::{Options, Target, gguf_to_gguf};
use engine::formats::gguf::{GgufFile, I2sLayout, Metadata, Planned, TensorType, Writer};
use std::path::Path;

const ROWS: usize = 4096;
const COLS: usize = 2048;
/// Bytes of a tensor in F32.
const LARGEST: u64 = (ROWS * COLS * 4) as u64;
const TENSORS: usize = 5;

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

fn make(path: &Path) {
    let tensors: Vec<Planned> = (0..TENSORS)
        .map(|nth| Planned {
            name: format!("blk.{nth}.ffn_up.weight"),
            dims: vec![COLS as u64, ROWS as u64],
            kind: TensorType::F32,
        })
        .collect();
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", "llama");
    let mut writer = Writer::create(path, &metadata, &tensors).unwrap();
    for row in 0..TENSORS * ROWS {
        let values = (0..COLS).map(|col| ((row * 31 + col * 17) % 3) as f32 * 0.125 - 0.125);
        writer.write(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn the_peak_is_under_two_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    make(&path("f32.gguf"));
    let x86 = Target::I2s(I2sLayout::Blocks128);
    let steps = [
        ("f32.gguf", "x86.gguf", x86),
        ("x86.gguf", "back.gguf", Target::Float(TensorType::F32)),
        ("f32.gguf", "q8.gguf", Target::Float(TensorType::Q8_0)),
        ("x86.gguf", "tq1.gguf", Target::Tq1_0),
        ("f32.gguf", "f32-again.gguf", Target::Float(TensorType::F32)),
    ];
    for (from, to, target) in steps {
        let options =
            Options { target, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false };
        let taken = peak(|| {
            let file = GgufFile::open(path(from)).unwrap();
            gguf_to_gguf(&file, &path(to), &options).unwrap();
        });
        println!("{from} to {to}: {} KiB, a tensor {} KiB", taken >> 10, LARGEST >> 10);
        assert!(taken < 2 * LARGEST, "{from} to {to}: {taken} bytes where a tensor has {LARGEST}");
        // Reading the whole file leaves pages mapped: the measure sees them.
        let whole = peak(|| {
            let file = GgufFile::open(path(from)).unwrap();
            let sum: u64 =
                file.tensors().iter().flat_map(|t| file.data(t).iter().step_by(4096)).map(|&b| u64::from(b)).sum();
            std::hint::black_box(sum);
        });
        assert!(from != "f32.gguf" || whole > 3 * LARGEST, "{whole}");
    }
    let bytes = |name: &str| std::fs::read(path(name)).unwrap();
    assert!(bytes("back.gguf") == bytes("f32-again.gguf"));
}
