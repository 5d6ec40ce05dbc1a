//! `verify` on a sound file, and on the same file with one thing wrong.

mod common;

use common::{small, synthetic_file};
use engine::convert::{FolderOptions, Options, Target, gguf_to_hf};
use engine::formats::HfFolder;
use engine::formats::gguf::{GgufFile, I2sLayout};
use engine::model::Config;
use engine::verify::{Level, Verdict, verify_gguf, verify_hf};

const LINEAR: &str = "blk.1.ffn_up.weight";

fn sound() -> Vec<u8> {
    let config = Config { hidden: 256, ffn: 512, head_dim: 64, ..small() };
    synthetic_file(config, Target::I2s(I2sLayout::Blocks128))
}

fn verify(bytes: &[u8]) -> Verdict {
    verify_gguf(&GgufFile::from_bytes("test.gguf", bytes.to_vec()).unwrap())
}

/// The file with the bytes of a tensor changed.
fn spoilt(tensor: &str, spoil: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = sound();
    let file = GgufFile::from_bytes("test.gguf", bytes.clone()).unwrap();
    spoil(&mut bytes[file.tensor(tensor).unwrap().bytes()]);
    bytes
}

/// The file with a text in its header changed to another as long.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    let mut bytes = sound();
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[track_caller]
fn finds(bytes: &[u8], level: Level, tensor: Option<&str>, parts: &[&str]) {
    let verdict = verify(bytes);
    let found = verdict.findings.iter().find(|finding| finding.tensor.as_deref() == tensor && finding.level == level);
    let found = found.unwrap_or_else(|| panic!("{:?}", verdict.findings));
    assert!(parts.iter().all(|part| found.what.contains(part)), "{}", found.what);
    assert_eq!(verdict.sound(), level == Level::Suspect);
}

#[test]
fn a_sound_file_is_found_sound() {
    let verdict = verify(&sound());
    assert!(verdict.sound() && verdict.findings.is_empty(), "{:?}", verdict.findings);
    assert_eq!((verdict.tensors, verdict.ternary.len()), (24, 14));
    let shares = verdict.zero_shares();
    assert_eq!(shares.iter().map(|(block, _)| *block).collect::<Vec<_>>(), [0, 1]);
    assert!(shares.iter().all(|(_, share)| (0.49..0.51).contains(share)), "{shares:?}");
}

#[test]
fn what_is_wrong_is_named() {
    let scale = |value: f32| {
        spoilt(LINEAR, |data| {
            let at = data.len() - 32;
            data[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    finds(&scale(f32::NAN), Level::Bad, Some(LINEAR), &["scale", "NaN", "test.gguf"]);
    finds(&scale(-0.5), Level::Bad, Some(LINEAR), &["scale", "-0.5"]);
    finds(&scale(0.0), Level::Bad, Some(LINEAR), &["above 0"]);
    finds(&scale(50.0), Level::Suspect, Some(LINEAR), &["inverse", "50", "0.02"]);
    finds(&spoilt(LINEAR, |data| data[77] = 0xff), Level::Bad, Some(LINEAR), &["code 3"]);
    let dense = |data: &mut [u8]| {
        let codes = data.len() - 32;
        data[..codes].fill(0b10_00_10_00);
    };
    finds(&spoilt(LINEAR, dense), Level::Suspect, Some(LINEAR), &["0.00 %"]);
    let norm = "blk.0.attn_sub_norm.weight";
    let infinite = spoilt(norm, |data| data[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes()));
    finds(&infinite, Level::Bad, Some(norm), &["inf", "column 2"]);
    let embedding = "token_embd.weight";
    finds(&spoilt(embedding, |data| data[1] = 0x7e), Level::Bad, Some(embedding), &["NaN", "row 0, column 0"]);
    finds(&spoilt(norm, |data| data.fill(0)), Level::Suspect, Some(norm), &["not 0"]);
}

#[test]
fn structure_is_checked_too() {
    finds(&renamed("blk.1.ffn_up", "blk.1.ffn_op"), Level::Bad, None, &[LINEAR, "missing"]);
    finds(&renamed("bitnet-b1.58", "bitnet-b1.59"), Level::Bad, None, &["known architecture"]);
    finds(&renamed("none", "gpt2"), Level::Bad, None, &["tokenizer"]);
    finds(&renamed("tokenizer.ggml.model", "tokenizer.ggml.modem"), Level::Suspect, None, &["no tokenizer"]);
}

#[test]
fn folders_are_verified_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hf");
    let options =
        Options { target: Target::Hf, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false };
    let file = GgufFile::from_bytes("test.gguf", sound()).unwrap();
    gguf_to_hf(&file, &path, &FolderOptions { options, shard_bytes: 1 << 30 }).unwrap();
    let verdict = verify_hf(&HfFolder::open(&path).unwrap());
    assert!(verdict.sound() && verdict.findings.len() == 1, "{:?}", verdict.findings);
    assert!(verdict.findings[0].what.contains("no tokenizer"));
    assert_eq!((verdict.tensors, verdict.ternary.len(), verdict.zero_shares().len()), (24, 14, 2));
    // A code that is no trit, in the first packed tensor; a norm that is no number, in the last.
    let weights = path.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let folder = HfFolder::open(&path).unwrap();
    let place = |name: &str| folder.tensor(name).unwrap().bytes().start;
    assert!(place("model.norm.weight") > header);
    bytes[place("model.layers.1.mlp.up_proj.weight")] = 0xff;
    let norm = place("model.norm.weight");
    bytes[norm..norm + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    drop(folder);
    std::fs::write(&weights, bytes).unwrap();
    let verdict = verify_hf(&HfFolder::open(&path).unwrap());
    let bad: Vec<_> = verdict.findings.iter().filter(|finding| finding.level == Level::Bad).collect();
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert!(bad.iter().any(|f| f.tensor.as_deref() == Some(LINEAR) && f.what.contains("code 3")), "{bad:?}");
    assert!(bad.iter().any(|f| f.tensor.as_deref() == Some("output_norm.weight") && f.what.contains("NaN")), "{bad:?}");
}
