//! Models from GGUF files into Hugging Face folders and back: weights, scales, the order of RoPE's rows, tokenizers.

mod common;

use common::Stream;
use common::place::{Place, X86, folder_options, logits, options, tensors, writer_of};
use common::writer::{Meta, Writer};
use engine::convert::{FolderOptions, Target, gguf_to_gguf, gguf_to_hf};
use engine::formats::gguf::{GgufFile, TensorType};
use engine::formats::safetensors::Convention;
use engine::model::{Architecture, Format, load_gguf, load_hf};
use engine::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

#[test]
fn weights_and_scales_come_back_bit_for_bit() {
    for arch in [Architecture::BitNet, Architecture::Llama] {
        let place = Place::new(arch);
        let there = place.out("a.gguf", "hf", &folder_options(Target::Hf));
        let back = place.back("hf", "b.gguf", &options(X86));
        assert_eq!((there.inexact.len(), there.converted, back.inexact.len(), back.converted), (0, 14, 0, 14));
        assert!(tensors(&place.file("a.gguf")) == tensors(&place.file("b.gguf")), "{arch:?}");
        assert_eq!(place.folder("hf").convention(), Convention::Multiplies);
        let again = place.out("b.gguf", "hf2", &folder_options(Target::Hf));
        assert!(again.inexact.is_empty());
        let bytes = |folder: &str| std::fs::read(place.path(folder).join("model.safetensors")).unwrap();
        assert!(bytes("hf") == bytes("hf2"), "{arch:?}");
    }
}

#[test]
fn a_folder_computes_what_its_file_does() {
    let place = Place::new(Architecture::BitNet);
    place.out("a.gguf", "hf", &folder_options(Target::Hf));
    let want = logits(&load_gguf(&place.file("a.gguf"), Format::Ternary).unwrap());
    assert_eq!(logits(&load_hf(&place.folder("hf"), Format::Ternary).unwrap()), want);
    // LLaMA's rows are elsewhere in the two, so sums over a head run in another order.
    let place = Place::new(Architecture::Llama);
    place.out("a.gguf", "hf", &folder_options(Target::Hf));
    let want = logits(&load_gguf(&place.file("a.gguf"), Format::Ternary).unwrap());
    let found = logits(&load_hf(&place.folder("hf"), Format::Ternary).unwrap());
    let worst = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn float_folders_hold_the_same_weights() {
    let place = Place::new(Architecture::Llama);
    for (nth, kind) in [TensorType::F32, TensorType::F16, TensorType::BF16].into_iter().enumerate() {
        let (folder, file) = (format!("hf{nth}"), format!("b{nth}.gguf"));
        let report = place.out("a.gguf", &folder, &folder_options(Target::Float(kind)));
        assert_eq!(report.inexact.len(), 0, "{kind}");
        assert_eq!(place.folder(&folder).convention(), Convention::Plain);
        place.back(&folder, &file, &options(X86));
        assert!(tensors(&place.file("a.gguf")) == tensors(&place.file(&file)), "{kind}");
    }
    let how = FolderOptions { options: options(Target::Float(TensorType::Q8_0)), shard_bytes: 1 << 30 };
    let error = gguf_to_hf(&place.file("a.gguf"), &place.path("q8"), &how).unwrap_err().to_string();
    assert!(error.contains("Q8_0") && error.contains("blk.0."), "{error}");
    assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 7, "nothing is left of what failed");
}

#[test]
fn shards_have_an_index() {
    let place = Place::new(Architecture::BitNet);
    let how = FolderOptions { shard_bytes: 60_000, ..folder_options(Target::Hf) };
    place.out("a.gguf", "hf", &how);
    let folder = place.folder("hf");
    let files: Vec<PathBuf> = folder.files().map(Path::to_owned).collect();
    assert!(files.len() > 4, "{files:?}");
    // The embedding alone has more.
    let over = files.iter().filter(|file| std::fs::metadata(file).unwrap().len() > 62_000).count();
    assert_eq!(over, 1);
    place.back("hf", "b.gguf", &options(X86));
    assert!(tensors(&place.file("a.gguf")) == tensors(&place.file("b.gguf")));
}

#[test]
fn inverse_scales_are_written_and_what_they_lose_is_told() {
    let place = Place::new(Architecture::BitNet);
    let mut how = folder_options(Target::Hf);
    how.options.inverse = true;
    let report = place.out("a.gguf", "hf", &how);
    assert_eq!(place.folder("hf").convention(), Convention::Divides);
    place.back("hf", "b.gguf", &options(X86));
    let (a, b) = (place.file("a.gguf"), place.file("b.gguf"));
    for tensor in a.tensors().iter().filter(|t| t.kind() == TensorType::I2S) {
        let other = b.tensor(tensor.name()).unwrap();
        let (want, found) = (a.ternary_scale(tensor).unwrap(), b.ternary_scale(other).unwrap());
        let told = report.inexact.iter().any(|line| line.starts_with(tensor.name()));
        assert_eq!(told, want != found, "{}: {want} {found}", tensor.name());
        assert!((want - found).abs() <= want * 1e-6);
        let codes = |file: &GgufFile, t| file.data(t)[..tensor.bytes().len() - 32].to_vec();
        assert!(codes(&a, tensor) == codes(&b, other));
    }
}

#[test]
fn master_weights_are_quantised_on_the_way() {
    let place = Place::new(Architecture::BitNet);
    place.out("a.gguf", "hf", &folder_options(Target::Float(TensorType::F32)));
    let path = place.path("hf").join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["quantization_config"] = serde_json::json!({
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online",
    });
    std::fs::write(&path, config.to_string()).unwrap();
    place.back("hf", "b.gguf", &options(X86));
    let model = load_gguf(&place.file("b.gguf"), Format::Ternary).unwrap();
    assert_eq!(logits(&model), logits(&load_hf(&place.folder("hf"), Format::Ternary).unwrap()));
}

/// A byte-level vocabulary of 300 tokens: bytes, some merges, two control tokens, the rest unused.
fn byte_level(writer: &mut Writer, pre: &str) {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256u32;
    let mut stand_in = |b: u8| match printable(b) {
        true => char::from(b),
        false => {
            next += 1;
            char::from_u32(next - 1).unwrap()
        }
    };
    let mut tokens: Vec<String> = (0..=255).map(|b| stand_in(b).to_string()).collect();
    let merges = ["h e", "l l", "he ll", "hell o", "\u{120} w", "1 2"].map(str::to_owned);
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.extend(["<|begin|>", "<|eot_id|>"].map(str::to_owned));
    let mut kinds = vec![1; 262];
    kinds.extend([3, 3]);
    for id in tokens.len()..300 {
        tokens.push(format!("[PAD{id}]"));
        kinds.push(5);
    }
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", pre);
    writer.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    writer.set("tokenizer.ggml.token_type", Meta::Integers(kinds));
    writer.set("tokenizer.ggml.merges", Meta::Texts(merges.to_vec()));
    writer.set("tokenizer.ggml.bos_token_id", Meta::U32(262)).set("tokenizer.ggml.eos_token_id", Meta::U32(263));
    writer.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
    writer.set("tokenizer.chat_template", "{{ messages[0]['content'] }}");
}

/// `a.gguf` again, with a tokenizer.
fn with_tokenizer(place: &Place, pre: &str) {
    let mut writer = writer_of(&place.file("a.gguf"));
    byte_level(&mut writer, pre);
    std::fs::write(place.path("t.gguf"), writer.bytes()).unwrap();
}

#[test]
fn byte_level_tokenizers_go_both_ways() {
    let texts = ["hello world", " hello, we 12345 hell", "<|begin|>a<|eot_id|>\n\nÄ 🦀", "don't I'LL  x"];
    for pre in ["llama-bpe", "qwen2", "smollm", "gpt-2"] {
        let place = Place::new(Architecture::BitNet);
        with_tokenizer(&place, pre);
        let there = place.out("t.gguf", "hf", &folder_options(Target::Hf));
        let back = place.back("hf", "b.gguf", &options(X86));
        assert_eq!((there.notes, back.notes), (vec![], vec![]), "{pre}");
        let first = Tokenizer::from_gguf(&place.file("t.gguf")).unwrap();
        let json = Tokenizer::from_json(place.path("hf").join("tokenizer.json")).unwrap();
        let last = Tokenizer::from_gguf(&place.file("b.gguf")).unwrap();
        for text in texts {
            for special in [false, true] {
                let want = first.encode(text, special).unwrap();
                assert_eq!(json.encode(text, special).unwrap(), want, "{pre} {text:?}");
                assert_eq!(last.encode(text, special).unwrap(), want, "{pre} {text:?}");
            }
            let ids = first.encode(text, false).unwrap();
            assert_eq!(json.decode(&ids).unwrap(), first.decode(&ids).unwrap());
        }
        assert_eq!((json.bos(), json.eos(), json.adds_bos()), (Some(262), Some(263), true));
        assert_eq!(json.chat_templates(), first.chat_templates());
        let (a, b) = (place.file("t.gguf"), place.file("b.gguf"));
        for key in ["tokens", "merges"].map(|key| format!("tokenizer.ggml.{key}")) {
            assert_eq!(a.strings(&key).unwrap(), b.strings(&key).unwrap(), "{pre} {key}");
        }
        assert_eq!(a.str("tokenizer.ggml.pre").unwrap(), b.str("tokenizer.ggml.pre").unwrap());
        assert_eq!(
            a.opt_integers("tokenizer.ggml.token_type").unwrap(),
            b.opt_integers("tokenizer.ggml.token_type").unwrap()
        );
    }
}

#[test]
fn a_tokenizer_that_has_no_other_form_is_told() {
    let place = Place::new(Architecture::BitNet);
    with_tokenizer(&place, "default");
    place.out("t.gguf", "hf", &folder_options(Target::Hf));
    let back = place.back("hf", "b.gguf", &options(X86));
    assert!(back.notes.len() == 1 && back.notes[0].contains("pre_tokenizer"), "{:?}", back.notes);
    assert_eq!(place.file("b.gguf").str("tokenizer.ggml.model").unwrap(), "none");
}

#[test]
fn sentencepiece_vocabularies_keep_their_ids() {
    let (Some(json), Some(model)) = (common::data("tok512.tokenizer.json"), common::data("stories260K.f32.gguf"))
    else {
        return;
    };
    let place = Place(tempfile::tempdir().unwrap());
    std::fs::copy(&model, place.path("a.gguf")).unwrap();
    place.out("a.gguf", "hf", &folder_options(Target::Float(TensorType::F32)));
    std::fs::copy(&json, place.path("hf").join("tokenizer.json")).unwrap();
    let report = place.back("hf", "b.gguf", &options(Target::Float(TensorType::F32)));
    assert_eq!(report.notes, Vec::<String>::new());
    let (a, b) = (GgufFile::open(&model).unwrap(), place.file("b.gguf"));
    let (first, last) = (Tokenizer::from_gguf(&a).unwrap(), Tokenizer::from_gguf(&b).unwrap());
    let mut stream = Stream(4);
    let words = ["Once", " upon", " a", " time", ",", "  ", "Ünï", "Lily", " and\n", "ly", "12", "🦀", "the"];
    for _ in 0..200 {
        let text: String = (0..6).map(|_| words[stream.below(words.len())]).collect();
        // Without BOS, which this tokenizer.json says nothing of.
        assert_eq!(first.encode(&text, false).unwrap(), last.encode(&text, false).unwrap(), "{text:?}");
    }
    // The weights of a float model, there and back.
    let converted = place.path("c.gguf");
    gguf_to_gguf(&a, &converted, &options(Target::Float(TensorType::F32))).unwrap();
    assert!(tensors(&GgufFile::open(converted).unwrap()) == tensors(&b));
}
