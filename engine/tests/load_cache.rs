//! The cache of packed weights beside a model: the same model, or none.

mod common;

use common::{logits, small, small_llama, synthetic_file};
use engine::convert::{FolderOptions, Options, Target, gguf_to_hf};
use engine::formats::gguf::I2sLayout;
use engine::formats::{GgufFile, HfFolder};
use engine::model::{
    CachedModel, Config, Model, cache_path, load_gguf, load_gguf_cached, load_gguf_from, load_hf, load_hf_cached,
};
use engine::{Format, Linear};
use std::path::{Path, PathBuf};

const X86: Target = Target::I2s(I2sLayout::Blocks128);
const FORMATS: [Format; 5] = [Format::Ternary, Format::Base3, Format::TernarySparse, Format::F16, Format::Bf16];

/// All that a model's matrices hold.
fn bytes(model: &Model) -> Vec<Vec<u8>> {
    let linears = model.layers().iter().flat_map(|layer| layer.linears().map(|(_, linear)| linear));
    let halves = |bits: &mut dyn Iterator<Item = u16>| bits.flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let of = |linear: &Linear| match linear {
        Linear::Ternary(matrix) => [&matrix.scale().to_le_bytes()[..], matrix.packed()].concat(),
        Linear::Base3(matrix) => [&matrix.scale().to_le_bytes()[..], matrix.packed()].concat(),
        Linear::F16(matrix) => halves(&mut matrix.packed().iter().map(|v| v.to_bits())),
        Linear::Bf16(matrix) => halves(&mut matrix.packed().iter().map(|v| v.to_bits())),
        other => panic!("{}", other.kind()),
    };
    linears.chain([model.embedding(), model.head()]).map(of).collect()
}

/// A file of a synthetic model in a folder of its own.
fn file(config: Config) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, synthetic_file(config, X86)).unwrap();
    (folder, path)
}

fn load(path: &Path, format: Format) -> CachedModel {
    load_gguf_cached(&GgufFile::open(path).unwrap(), format, &cache_path(path, format).unwrap()).unwrap()
}

/// Told and made anew, and right the next time.
#[track_caller]
fn made_anew(path: &Path, part: &str) {
    let want = bytes(&load_gguf(&GgufFile::open(path).unwrap(), Format::Ternary).unwrap());
    let found = load(path, Format::Ternary);
    assert!(!found.from_cache && found.notes.len() == 1 && found.notes[0].contains(part), "{:?}", found.notes);
    assert!(found.notes[0].contains("model.gguf.tritmark-ternary"), "{:?}", found.notes);
    assert!(bytes(&found.model) == want);
    let again = load(path, Format::Ternary);
    assert!(again.from_cache && again.notes.is_empty() && bytes(&again.model) == want, "{:?}", again.notes);
}

#[test]
fn every_format_comes_back_whole() {
    for config in [small(), small_llama(), Config { hidden: 80, heads: 5, kv_heads: 5, vocab: 99, ..small() }] {
        let (_folder, path) = file(config.clone());
        for format in FORMATS {
            if format == Format::TernarySparse && config == small_llama() {
                continue;
            }
            let plain = load_gguf(&GgufFile::open(&path).unwrap(), format).unwrap();
            let (first, second) = (load(&path, format), load(&path, format));
            // The sparse format has the ternary one's cache, which is there by then.
            assert_eq!(first.from_cache, format == Format::TernarySparse);
            assert!(second.from_cache && first.notes.is_empty() && second.notes.is_empty(), "{format:?}");
            for model in [&first.model, &second.model] {
                assert!(bytes(model) == bytes(&plain), "{format:?}");
                assert!(logits(model) == logits(&plain) && model.footprint() == plain.footprint());
            }
        }
        let beside = path.parent().unwrap().read_dir().unwrap().count();
        assert_eq!(beside, 5, "the model, and one cache a format: none left half written");
    }
    assert_eq!(cache_path(Path::new("model.gguf"), Format::Reference), None);
}

#[test]
fn folders_have_theirs_beside_them() {
    let (place, path) = file(small());
    let folder = place.path().join("folder");
    let options =
        Options { target: Target::Hf, kernels: None, embedding: None, fallback: None, quantise: false, inverse: false };
    gguf_to_hf(&GgufFile::open(&path).unwrap(), &folder, &FolderOptions { options, shard_bytes: 20_000 }).unwrap();
    let cache = cache_path(&folder.join(""), Format::Ternary).unwrap();
    assert_eq!(cache, place.path().join("folder.tritmark-ternary"));
    let open = || HfFolder::open(&folder).unwrap();
    let plain = bytes(&load_hf(&open(), Format::Ternary).unwrap());
    for from_cache in [false, true] {
        let found = load_hf_cached(&open(), Format::Ternary, &cache).unwrap();
        assert_eq!((found.from_cache, found.notes.len()), (from_cache, 0), "{:?}", found.notes);
        assert!(bytes(&found.model) == plain);
    }
    // A key of the configuration that no weight depends on is another source all the same.
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    std::fs::write(folder.join("config.json"), config.replacen('{', "{\"note\": 1, ", 1)).unwrap();
    let found = load_hf_cached(&open(), Format::Ternary, &cache).unwrap();
    assert!(!found.from_cache && found.notes[0].contains("source"), "{:?}", found.notes);
}

#[test]
fn another_source_is_told() {
    let (_folder, path) = file(small());
    load(&path, Format::Ternary);
    // Touched.
    let touch = |seconds| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    touch(1_000_000);
    made_anew(&path, "source");
    // Of the same length, header and time, its scale another.
    let whole = std::fs::read(&path).unwrap();
    let tensor = GgufFile::open(&path).unwrap().tensor("blk.1.ffn_up.weight").unwrap().clone();
    let mut other = whole.clone();
    other[tensor.bytes().end - 30] ^= 1;
    std::fs::write(&path, &other).unwrap();
    touch(1_000_000);
    made_anew(&path, "source");
    // Read in another layout.
    let cache = cache_path(&path, Format::Ternary).unwrap();
    let arm = GgufFile::open(&path).unwrap().with_i2s_layout(I2sLayout::Blocks64);
    let found = load_gguf_cached(&arm, Format::Ternary, &cache).unwrap();
    assert!(!found.from_cache && found.notes[0].contains("source"));
    assert!(bytes(&found.model) == bytes(&load_gguf(&arm, Format::Ternary).unwrap()));
    // Of another format.
    load(&path, Format::F16);
    std::fs::copy(cache_path(&path, Format::F16).unwrap(), &cache).unwrap();
    made_anew(&path, "format");
}

#[test]
fn what_is_no_cache_is_never_taken() {
    let (_folder, path) = file(small());
    load(&path, Format::Ternary);
    let cache = cache_path(&path, Format::Ternary).unwrap();
    let whole = std::fs::read(&cache).unwrap();
    let spoil = |bytes: &[u8], part: &str| {
        std::fs::write(&cache, bytes).unwrap();
        made_anew(&path, part);
    };
    spoil(b"", "magic");
    spoil(b"GGUF", "magic");
    spoil(&whole[..12], "header length");
    spoil(&whole[..600], "header length");
    spoil(&whole[..whole.len() - 1], "a place inside the file");
    spoil(&[&whole[..8], &u64::MAX.to_le_bytes(), &whole[16..]].concat(), "header length");
    spoil(&[&whole[..16], b"[", &whole[17..]].concat(), "header");
    let version = String::from_utf8_lossy(&whole[..60]).find("version\":").unwrap() + 9;
    let mut older = whole.clone();
    older[version] = b'0';
    spoil(&older, "version");
    // A file that cannot be written: the model is there, and it is told.
    std::fs::remove_file(&cache).unwrap();
    std::fs::create_dir(&cache).unwrap();
    let found = load(&path, Format::Ternary);
    assert!(found.notes.iter().any(|note| note.contains("no cache is written")), "{:?}", found.notes);
    assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 2);
}

/// Any one byte altered, in the header or in the panels: refused, or the same model (in what fills up to a page).
#[test]
fn a_flipped_byte_shows() {
    let (_folder, path) = file(Config { layers: 1, ..small() });
    load(&path, Format::Ternary);
    let name = cache_path(&path, Format::Ternary).unwrap();
    let whole = std::fs::read(&name).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let want = bytes(&load_gguf(&file, Format::Ternary).unwrap());
    let from = |bytes: Vec<u8>| load_gguf_from(&file, Format::Ternary, &name, bytes);
    assert!(bytes(&from(whole.clone()).unwrap()) == want);
    let (mut refused, mut taken) = (0, 0);
    for at in (0..whole.len()).filter(|at| *at < 2200 || at % 7 == 0) {
        let mut other = whole.clone();
        other[at] ^= 1 << (at % 8);
        match from(other) {
            Ok(model) => {
                assert!(bytes(&model) == want, "byte {at}");
                taken += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("model.gguf.tritmark-ternary"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 3000 && taken > 0, "{refused} refused, {taken} taken");
}
