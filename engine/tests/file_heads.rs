//! Output heads (and embeddings) of Q8_0 and Q6_K in GGUF files: kept by the ternary engines as the file has them, widened
//! where that is asked for, the same logits on every path, and caches of the one never taken for the other.

mod common;

use common::{Stream, logits, small, small_llama};
use engine::convert::{Options, Target, synthetic_to_gguf};
use engine::formats::GgufFile;
use engine::formats::gguf::{I2sLayout, TensorType};
use engine::model::{
    Architecture, Config, HeadWeights, KvType, Loading, Model, RopeStyle, Session, SessionOptions, cache_path,
    load_gguf, load_gguf_cached, load_gguf_from, predict_gguf_bytes,
};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::{Format, Isa, Kernels, Linear, Pool};
use half::f16;

const KINDS: [(TensorType, HeadType, &str); 2] =
    [(TensorType::Q8_0, HeadType::Q8_0, "q8_0"), (TensorType::Q6K, HeadType::Q6K, "q6_k")];
const TERNARY: [Format; 4] = [Format::Ternary, Format::Base3, Format::TernarySparse, Format::Base3Sparse];
const WIDENED: Loading = Loading { format: Format::Ternary, head: HeadWeights::F16 };

/// Two super-blocks a row, and a last panel of 3 rows; RoPE as the architecture's files have it.
fn shape(config: Config) -> Config {
    let rope = if config.arch == Architecture::Llama { RopeStyle::Interleaved } else { RopeStyle::Neox };
    Config { rope, hidden: 512, heads: 8, kv_heads: 4, head_dim: 64, vocab: 99, layers: 1, ..config }
}

fn spec(config: Config, head: HeadType) -> SyntheticSpec {
    SyntheticSpec { config, seed: 5, head, gate_zeros: None }
}

/// The file of a synthetic model whose embedding and head are of `kind`.
fn bytes(config: Config, kind: TensorType) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let target = Target::I2s(I2sLayout::Blocks128);
    let options =
        Options { target, kernels: None, embedding: Some(kind), fallback: None, quantise: false, inverse: false };
    synthetic_to_gguf(&spec(config, HeadType::F16), &path, &options).unwrap();
    std::fs::read(path).unwrap()
}

fn file(bytes: Vec<u8>) -> GgufFile {
    GgufFile::from_bytes("model.gguf", bytes).unwrap()
}

/// The rows of a matrix, as bits.
fn rows(linear: &Linear) -> Vec<Vec<u32>> {
    let row = |row: usize| {
        let mut values = vec![0.0; linear.cols()];
        linear.row_to_f32(row, &mut values);
        values.into_iter().map(f32::to_bits).collect()
    };
    (0..linear.rows()).map(row).collect()
}

/// The same of a tensor of a file, dequantised.
fn stored(file: &GgufFile, name: &str) -> Vec<Vec<u32>> {
    let tensor = file.tensor(name).unwrap();
    let row = |row: usize| {
        let mut values = vec![0.0; tensor.cols()];
        file.row_to_f32(tensor, row, &mut values).unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    (0..tensor.rows()).map(row).collect()
}

/// Logits after every token, evaluated together and one by one: they must be equal.
fn all_logits(model: &Model, isa: Isa) -> Vec<u32> {
    let pool = Pool::new(2, false).unwrap();
    let options = SessionOptions { context: 16, kv: KvType::F32, max_batch: 16 };
    let mut session = Session::new(model, &pool, Kernels::new(Some(isa)).unwrap(), options).unwrap();
    let ids = [1, 7, 98, 0, 22, 5, 64];
    let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<u32>>();
    let together = bits(&session.prefill_all(&ids).unwrap());
    session.truncate(0);
    let single: Vec<u32> = ids.iter().flat_map(|&id| bits(session.decode(id).unwrap())).collect();
    assert!(together == single, "{isa}");
    single
}

#[test]
fn heads_are_kept_as_the_file_has_them() {
    for ((kind, head, name), config) in KINDS.into_iter().flat_map(|kind| [small(), small_llama()].map(|c| (kind, c))) {
        let config = shape(config);
        let file = file(bytes(config.clone(), kind));
        let output = if config.tied { "token_embd.weight" } else { "output.weight" };
        assert_eq!(file.tensor(output).unwrap().kind(), kind);
        let want = build(&spec(config.clone(), head), Format::Ternary).unwrap();
        let formats = if config.tied { &TERNARY[..] } else { &TERNARY[..2] };
        for &format in formats {
            let model = load_gguf(&file, format).unwrap();
            assert_eq!((model.embedding().kind(), model.head().kind()), (name, name), "{format:?}");
            assert!(rows(model.embedding()) == stored(&file, "token_embd.weight"), "{format:?}");
            assert!(rows(model.head()) == stored(&file, output), "{format:?}");
            assert!(rows(want.head()) == rows(model.head()), "{name} {format:?}");
            // The synthetic model of such a head, made without a file, and by the same rule.
            for isa in Isa::available() {
                assert!(all_logits(&model, isa) == all_logits(&want, Isa::Scalar), "{name} {format:?} {isa}");
            }
            let footprint = model.footprint();
            assert_eq!(predict_gguf_bytes(&file, format), (footprint.total() - footprint.norm_bytes) as u64);
            assert_eq!(footprint.read_per_token, {
                let layers: usize = model.layers().iter().flat_map(|l| l.linears().map(|(_, l)| l.bytes())).sum();
                layers + footprint.norm_bytes + model.head().bytes() + model.embedding().bytes() / 99
            });
        }
    }
}

#[test]
fn heads_are_widened_where_that_is_asked_for() {
    for ((kind, _, name), config) in KINDS.into_iter().flat_map(|kind| [small(), small_llama()].map(|c| (kind, c))) {
        let file = file(bytes(shape(config), kind));
        let (kept, wide) = (load_gguf(&file, Format::Ternary).unwrap(), load_gguf(&file, WIDENED).unwrap());
        assert_eq!((wide.embedding().kind(), wide.head().kind()), ("f16", "f16"));
        let narrow = |bits: &u32| f16::from_f32(f32::from_bits(*bits)).to_f32().to_bits();
        for (kept, wide) in [(kept.embedding(), wide.embedding()), (kept.head(), wide.head())] {
            let want: Vec<Vec<u32>> = rows(kept).iter().map(|row| row.iter().map(narrow).collect()).collect();
            assert!(rows(wide) == want, "{name}");
        }
        let footprint = wide.footprint();
        assert_eq!(predict_gguf_bytes(&file, WIDENED), (footprint.total() - footprint.norm_bytes) as u64);
        // What int8 activations before the head lose, and rows of a tied embedding that f16 rounds: 0.0112 at most here.
        let (near, far) = (logits(&kept), logits(&wide));
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let distance = square(&mut near.iter().zip(&far).map(|(a, b)| a - b)) / square(&mut far.iter().copied());
        println!("{name}: {distance}");
        assert!(distance > 0.0 && distance < 0.02, "{name}: {distance}");
        // The other formats know no such choice.
        for (format, kind) in [(Format::F16, "f16"), (Format::Bf16, "bf16"), (Format::Reference, "f32")] {
            for head in [HeadWeights::File, HeadWeights::F16] {
                assert_eq!(load_gguf(&file, Loading { format, head }).unwrap().head().kind(), kind);
            }
        }
    }
}

/// Any bits but of the f16 scales: also what no quantiser writes, such as scales and weights of -128.
#[test]
fn any_blocks_give_the_same_logits_on_every_path() {
    for (kind, _, name) in KINDS {
        let mut bytes = bytes(shape(small()), kind);
        let tensor = file(bytes.clone()).tensor("token_embd.weight").unwrap().clone();
        let (block, at) = if kind == TensorType::Q8_0 { (34, 0) } else { (210, 208) };
        let mut stream = Stream(9);
        for block in bytes[tensor.bytes()].chunks_exact_mut(block) {
            block.iter_mut().for_each(|byte| *byte = stream.next() as u8);
            block[at..at + 2].copy_from_slice(&f16::from_f32(stream.unit() / 1024.0).to_le_bytes());
            block[if at == 0 { 2 } else { 192 }] = 128;
        }
        let file = file(bytes);
        let model = load_gguf(&file, Format::Ternary).unwrap();
        assert!(rows(model.head()) == stored(&file, "token_embd.weight"), "{name}");
        let want = all_logits(&model, Isa::Scalar);
        assert!(want.iter().all(|bits| f32::from_bits(*bits).is_finite()));
        Isa::available().iter().for_each(|&isa| assert!(all_logits(&model, isa) == want, "{name} {isa}"));
    }
}

/// A head's f16 scale that is no finite number, in the first, a middle and the last block; as kept and as widened.
#[test]
fn scales_that_are_no_numbers_are_refused_by_name() {
    for ((kind, ..), name) in
        KINDS.into_iter().flat_map(|kind| ["token_embd.weight", "output.weight"].map(|n| (kind, n)))
    {
        let whole = bytes(shape(small_llama()), kind);
        let tensor = file(whole.clone()).tensor(name).unwrap().clone();
        let (block, at, values) = if kind == TensorType::Q8_0 { (34, 0, 32) } else { (210, 208, 256) };
        let blocks = tensor.bytes().len() / block;
        for (nth, bad) in [(0, 0x7c00u16), (blocks / 2, 0x7e00), (blocks - 1, 0xfc00)] {
            let mut bytes = whole.clone();
            let place = tensor.bytes().start + nth * block + at;
            bytes[place..place + 2].copy_from_slice(&bad.to_le_bytes());
            let file = file(bytes);
            for loading in [Format::Ternary.into(), WIDENED] {
                let message = load_gguf(&file, loading).unwrap_err().to_string();
                let place = format!("row {}, column {}", nth * values / 512, nth * values % 512);
                for part in ["model.gguf: ", name, &place] {
                    assert!(message.contains(part), "{kind} {loading:?}: {part:?} is not in: {message}");
                }
            }
        }
    }
}

/// A row must be whole blocks: told by file, tensor and what was expected.
#[test]
fn rows_of_no_whole_blocks_are_refused() {
    let mut writer = common::writer::Writer::default();
    writer.set("general.architecture", "bitnet-b1.58");
    writer.raw("output.weight", &[384, 16], 14, vec![0; 16 * 2 * 210]);
    let message = GgufFile::from_bytes("model.gguf", writer.bytes()).unwrap_err().to_string();
    for part in ["model.gguf: ", "output.weight", "multiple of 256", "384"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn caches_are_of_one_head_and_come_back_whole() {
    for ((kind, _, name), config) in KINDS.into_iter().flat_map(|kind| [small(), small_llama()].map(|c| (kind, c))) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes(shape(config), kind)).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let loadings: [Loading; 2] = [Format::Ternary.into(), WIDENED];
        let caches = loadings.map(|loading| cache_path(&path, loading).unwrap());
        assert_ne!(caches[0], caches[1]);
        for (loading, cache) in loadings.into_iter().zip(&caches) {
            let plain = load_gguf(&file, loading).unwrap();
            for from_cache in [false, true] {
                let found = load_gguf_cached(&file, loading, cache).unwrap();
                assert_eq!((found.from_cache, found.notes.len()), (from_cache, 0), "{name}: {:?}", found.notes);
                assert_eq!(found.model.head().kind(), plain.head().kind());
                assert!(rows(found.model.head()) == rows(plain.head()));
                assert!(rows(found.model.embedding()) == rows(plain.embedding()));
                assert_eq!((logits(&found.model), found.model.footprint()), (logits(&plain), plain.footprint()));
            }
        }
        // Each in the other's place, and said to be the other's.
        let [kept, wide] = caches.map(|cache| std::fs::read(cache).unwrap());
        for (loading, cache) in loadings.into_iter().zip([&wide, &kept]) {
            let message = load_gguf_from(&file, loading, "c".as_ref(), cache.clone()).unwrap_err().to_string();
            assert!(message.contains("format"), "{message}");
        }
        // The header's name of the format made the other's, with spaces for what is shorter: the kind shows.
        let (short, long) = (&b"\"ternary\"         "[..], &b"\"ternary-head-f16\""[..]);
        let at = wide.windows(long.len()).position(|part| part == long).unwrap();
        let mut disguised = wide.clone();
        disguised[at..at + long.len()].copy_from_slice(short);
        let message = load_gguf_from(&file, Format::Ternary, "c".as_ref(), disguised).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("f16") && message.contains("token_embd"), "{message}");
        // One bit of the panels or of the header's words on them.
        let end = 16 + u64::from_le_bytes(kept[8..16].try_into().unwrap()) as usize;
        let scattered = (16..end).step_by(11).chain((end.next_multiple_of(4096)..kept.len()).step_by(1013));
        let (mut refused, want) = (0, load_gguf(&file, Format::Ternary).unwrap());
        for at in scattered {
            let mut other = kept.clone();
            other[at] ^= 1 << (at % 8);
            match load_gguf_from(&file, Format::Ternary, "c".as_ref(), other) {
                Ok(model) => assert!(rows(model.head()) == rows(want.head()), "byte {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
