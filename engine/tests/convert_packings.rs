//! Every ternary packing of GGUF files into Hugging Face's and back: the same bytes, whatever the scales.

mod common;

use common::Stream;
use common::place::{Place, TARGETS, folder_options, kernels, options, spec, tensors};
use engine::convert::{FolderOptions, Options, Target, synthetic_to_gguf};
use engine::formats::gguf::TensorType;
use engine::model::Architecture;
use half::f16;

fn to(target: Target) -> Options {
    Options { kernels: kernels(target), ..options(target) }
}

/// Writes another scale into every ternary tensor of a file: any f32, or f16 in blocks that hold one.
fn rescale(place: &Place, name: &str, stream: &mut Stream) {
    let file = place.file(name);
    let mut bytes = std::fs::read(place.path(name)).unwrap();
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    for tensor in file.tensors() {
        let scale = f32::from_bits(0x3a80_0000 + stream.below(0x0500_0000) as u32);
        let place = tensor.bytes();
        let block = match tensor.kind() {
            TensorType::I2S => {
                put(place.end - 32, &scale.to_le_bytes());
                continue;
            }
            TensorType::F32 if tensor.name().ends_with("scale") => {
                put(place.start, &scale.to_le_bytes());
                continue;
            }
            TensorType::Tq1_0 => 54,
            TensorType::Tq2_0 => 66,
            _ => continue,
        };
        let scale = f16::from_f32(scale);
        place.skip(block - 2).step_by(block).for_each(|at| put(at, &scale.to_le_bytes()));
    }
    drop(file);
    std::fs::write(place.path(name), bytes).unwrap();
}

#[test]
fn every_packing_comes_back_byte_for_byte() {
    let mut stream = Stream(3);
    for (nth, target) in TARGETS.into_iter().enumerate() {
        let arch = if nth % 2 == 0 { Architecture::BitNet } else { Architecture::Llama };
        for shard_bytes in [5_000_000_000, 60_000] {
            let place = Place(tempfile::tempdir().unwrap());
            synthetic_to_gguf(&spec(arch), &place.path("a.gguf"), &to(target)).unwrap();
            rescale(&place, "a.gguf", &mut stream);
            let a = place.file("a.gguf");
            let how = FolderOptions { shard_bytes, ..folder_options(Target::Hf) };
            let there = place.out("a.gguf", "hf", &how);
            let back = place.back("hf", "b.gguf", &to(target));
            assert_eq!((there.inexact, there.converted, back.inexact, back.converted), (vec![], 14, vec![], 14));
            assert_eq!(place.folder("hf").files().count() > 1, shard_bytes == 60_000);
            assert!(tensors(&a) == tensors(&place.file("b.gguf")), "{target:?}");
        }
    }
}

#[test]
fn inverse_scales_come_back_or_are_told() {
    let mut stream = Stream(4);
    let (mut same, mut told) = (0, 0);
    for target in TARGETS {
        for _ in 0..4 {
            let place = Place(tempfile::tempdir().unwrap());
            synthetic_to_gguf(&spec(Architecture::Llama), &place.path("a.gguf"), &to(target)).unwrap();
            rescale(&place, "a.gguf", &mut stream);
            let a = place.file("a.gguf");
            let mut how = FolderOptions { shard_bytes: 60_000, ..folder_options(Target::Hf) };
            how.options.inverse = true;
            let there = place.out("a.gguf", "hf", &how);
            place.back("hf", "b.gguf", &to(target));
            let b = place.file("b.gguf");
            for tensor in a.tensors().iter().filter(|tensor| tensor.kind().is_ternary()) {
                let other = b.tensor(tensor.name()).unwrap();
                let (want, found) = (a.ternary_scale(tensor).unwrap(), b.ternary_scale(other).unwrap());
                let is_told = there.inexact.iter().any(|line| line.starts_with(tensor.name()));
                // f16 blocks hold the scale again, as it misses by less than f16 tells apart.
                let half = matches!(target, Target::Tq1_0 | Target::Tq2_0);
                assert!(is_told || want == found, "{}: {want} {found}", tensor.name());
                assert!(!is_told || half || want != found, "{}: {want} {found}", tensor.name());
                assert!(want.to_bits().abs_diff(found.to_bits()) <= 1, "{want} {found}");
                assert_eq!(want == found, a.data(tensor) == b.data(other) && want == found);
                (same, told) = (same + usize::from(!is_told), told + usize::from(is_told));
            }
        }
    }
    // An f32 below the square root of two times a power of two is an inverse always, one above it every other time.
    assert!(same > told && told > 0, "{same} {told}");
}
