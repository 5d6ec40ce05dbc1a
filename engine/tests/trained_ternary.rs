//! The committed ternary twin, a trained model, in every ternary packing: the same model, bit for bit, by every ternary format.

mod common;

use common::place::{Place, TARGETS, folder_options, options};
use engine::convert::{Options, Target, gguf_to_gguf};
use engine::formats::gguf::GgufFile;
use engine::formats::kernel_config::KernelConfig;
use engine::model::{Format, KvType, Model, Session, SessionOptions, load_gguf, load_hf};
use engine::{Isa, Kernels, Pool};
use std::path::Path;

/// The shapes of the twin's linear layers: outputs and inputs.
const SHAPES: [(u32, u32); 3] = [(256, 256), (768, 256), (256, 768)];

fn to(target: Target) -> Options {
    let bk = if target == Target::Tl1 { 64 } else { 96 };
    let section = |(m, k)| format!("[K{m}_{k}]\nm = {m}\nk = {k}\nbm = 64\nbk = {bk}\nbmm = 32\n");
    let text: String = SHAPES.map(section).concat();
    let looked_up = matches!(target, Target::Tl1 | Target::Tl2);
    let kernels = looked_up.then(|| KernelConfig::parse("k.ini", &text).unwrap());
    Options { kernels, ..options(target) }
}

/// The bits of all logits after 24 tokens.
fn bits(model: &Model, isa: Isa) -> Vec<u32> {
    let pool = Pool::new(1, false).unwrap();
    let options = SessionOptions { context: 32, kv: KvType::F32, max_batch: 32 };
    let mut session = Session::new(model, &pool, Kernels::new(Some(isa)).unwrap(), options).unwrap();
    let tokens: Vec<u32> = (0..24).map(|n| n * 37 % 1024).collect();
    session.prefill_all(&tokens).unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_trained_model_is_the_same_in_every_packing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites/twins/twin-ternary.gguf");
    let file = GgufFile::open(path).unwrap();
    let of = |file: &GgufFile, format| bits(&load_gguf(file, format).unwrap(), Isa::best());
    let want = bits(&load_gguf(&file, Format::Ternary).unwrap(), Isa::Scalar);
    // TQ1_0 and TQ2_0 have f16 scales; of a file whose scales are such numbers, they hold the same model as the others.
    let place = Place(tempfile::tempdir().unwrap());
    let rounded = gguf_to_gguf(&file, &place.path("rounded.gguf"), &to(Target::Tq2_0)).unwrap();
    assert_eq!((rounded.inexact.len(), rounded.converted), (28, 28));
    let rounded = of(&place.file("rounded.gguf"), Format::Ternary);
    assert_ne!(rounded, want);
    for target in TARGETS {
        let report = gguf_to_gguf(&file, &place.path("out.gguf"), &to(target)).unwrap();
        let halves = matches!(target, Target::Tq1_0 | Target::Tq2_0);
        assert_eq!((report.inexact.len(), report.converted), (if halves { 28 } else { 0 }, 28), "{target:?}");
        let out = place.file("out.gguf");
        for format in [Format::Ternary, Format::Base3, Format::TernarySparse, Format::Base3Sparse] {
            assert!(of(&out, format) == if halves { &rounded } else { &want }[..], "{target:?} {format:?}");
        }
        drop(out);
        std::fs::remove_file(place.path("out.gguf")).unwrap();
    }
    let report = engine::convert::gguf_to_hf(&file, &place.path("hf"), &folder_options(Target::Hf)).unwrap();
    assert_eq!((report.inexact.len(), report.converted), (0, 28));
    assert!(bits(&load_hf(&place.folder("hf"), Format::Ternary).unwrap(), Isa::best()) == want);
}
