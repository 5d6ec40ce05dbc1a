//! SentencePiece vocabularies from GGUF files to `tokenizer.json` and back: the same ids for every text, or a note.

mod common;

use std::collections::HashSet;

use common::place::{Place, folder_options, options, spec, writer_of};
use common::vocab::{from_gguf, json, llama_2, texts, vectors};
use common::writer::{Meta, Writer};
use common::{Stream, data};
use engine::convert::{Target, gguf_to_hf, synthetic_to_gguf};
use engine::formats::gguf::{GgufFile, TensorType};
use engine::model::{Architecture, Config};
use engine::synthetic::{HeadType, SyntheticSpec};
use engine::tokenizer::Tokenizer;
use serde_json::{Value, json};

const FLOATS: Target = Target::Float(TensorType::F16);

/// A small model with the vocabulary of `tokens`, as `a.gguf`.
fn place(vocab: usize, tokens: &Writer) -> Place {
    let place = Place(tempfile::tempdir().unwrap());
    let small = Config {
        hidden: 32,
        ffn: 32,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 32,
        vocab,
        ..spec(Architecture::Llama).config
    };
    let spec = SyntheticSpec { config: small, seed: 1, head: HeadType::F16, gate_zeros: None };
    synthetic_to_gguf(&spec, &place.path("plain.gguf"), &options(FLOATS)).unwrap();
    let mut writer = writer_of(&place.file("plain.gguf"));
    writer.meta.extend(tokens.meta.iter().cloned());
    std::fs::write(place.path("a.gguf"), writer.bytes()).unwrap();
    place
}

/// The tokenizer of a GGUF file, of the folder it becomes, and of the GGUF file that becomes of this.
struct Three([Tokenizer; 3]);

impl Three {
    fn of(place: &Place) -> Three {
        let there = place.out("a.gguf", "hf", &folder_options(FLOATS));
        let back = place.back("hf", "b.gguf", &options(FLOATS));
        assert_eq!((there.notes, back.notes), (vec![], vec![]));
        Three([
            Tokenizer::from_gguf(&place.file("a.gguf")).unwrap(),
            Tokenizer::from_json(place.path("hf").join("tokenizer.json")).unwrap(),
            Tokenizer::from_gguf(&place.file("b.gguf")).unwrap(),
        ])
    }

    #[track_caller]
    fn agree(&self, text: &str) {
        let [first, others @ ..] = &self.0;
        for special in [false, true] {
            let want = first.encode(text, special).unwrap();
            for (other, what) in others.iter().zip(["tokenizer.json", "GGUF again"]) {
                assert_eq!(other.encode(text, special).unwrap(), want, "{what}: {text:?}");
                assert_eq!(other.decode(&want).unwrap(), first.decode(&want).unwrap(), "{what}: {text:?}");
            }
        }
    }

    #[track_caller]
    fn agree_on_ids(&self) {
        let [first, others @ ..] = &self.0;
        for other in others {
            let known = |t: &Tokenizer| (t.bos(), t.eos(), t.adds_bos(), t.stops().to_vec());
            assert_eq!(known(other), known(first));
            for id in 0..first.vocabulary() as u32 {
                assert_eq!(other.piece(id).unwrap_or_default(), first.piece(id).unwrap(), "id {id}");
            }
        }
    }
}

#[test]
fn llama_2_goes_both_ways() {
    let (Some(writer), Some(vectors)) = (llama_2(), vectors("llama-spm")) else { return };
    let place = place(32_000, &writer);
    let three = Three::of(&place);
    three.agree_on_ids();
    for (text, ids) in &vectors {
        assert_eq!(&three.0[1].encode(text, false).unwrap(), ids, "{text:?}");
        three.agree(text);
    }
    texts().iter().for_each(|text| three.agree(text));
    for text in ["</s>", "a</s> b", "<s><s>x", "<unk>", " <s> ", "<0x0A>", "\u{0}\u{1}\u{7f}", "▁▁ ▁", "a▁b"] {
        three.agree(text);
    }
    if let Some(path) = data("wiki.test.raw") {
        let wiki = std::fs::read_to_string(path).unwrap();
        wiki.lines().take(1000).for_each(|line| three.agree(line));
    }
}

#[test]
fn stories_goes_both_ways_and_has_the_merges_that_transformers_derives() {
    let (Some(model), Some(path)) = (data("stories260K.f32.gguf"), data("tok512.tokenizer.json")) else { return };
    let place = Place(tempfile::tempdir().unwrap());
    std::fs::copy(model, place.path("a.gguf")).unwrap();
    let three = Three::of(&place);
    three.agree_on_ids();
    texts().iter().for_each(|text| three.agree(text));
    let [mut ours, mut theirs] = [place.path("hf").join("tokenizer.json"), path].map(|path| json(&path));
    let [made, derived] = [&mut ours, &mut theirs].map(|json| json["model"]["merges"].take());
    for key in ["model", "normalizer", "pre_tokenizer", "decoder", "added_tokens"] {
        assert!(ours[key] == theirs[key], "{key}");
    }
    // Ways to make one token are next to each other, in an order that is not the same in all of transformers' releases.
    let pairs = |merges: &Value| -> Vec<(String, String)> { serde_json::from_value(merges.clone()).unwrap() };
    let tokens = |merges: &Value| -> Vec<String> { pairs(merges).iter().map(|(a, b)| format!("{a}{b}")).collect() };
    let set = |merges: &Value| -> HashSet<(String, String)> { pairs(merges).into_iter().collect() };
    assert_eq!((tokens(&made), set(&made)), (tokens(&derived), set(&derived)));
    // As transformers 5.24 has it.
    assert_eq!(
        pairs(&made)[6..8],
        [("\u{2581}th", "e"), ("\u{2581}t", "he")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
}

/// A vocabulary of a few characters, every byte, some special tokens, and tokens joined of others at random, with scores
/// in the order they were made in, or in any order.
fn random(stream: &mut Stream, in_order: bool) -> (usize, Writer) {
    let mut tokens: Vec<(String, i32, f32)> =
        vec![("<unk>".into(), 2, 0.0), ("<s>".into(), 3, 0.0), ("</s>".into(), 3, 0.0)];
    tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
    let mut made: Vec<String> = ["a", "b", "c", "é", "日", "\u{2581}"].map(str::to_owned).to_vec();
    let mut seen: HashSet<String> = made.iter().cloned().collect();
    while made.len() < 60 {
        let token = format!("{}{}", made[stream.below(made.len())], made[stream.below(made.len())]);
        if token.chars().count() < 12 && seen.insert(token.clone()) {
            made.push(token);
        }
    }
    let mut scores: Vec<f32> = (0..made.len()).map(|rank| -(rank as f32)).collect();
    if !in_order {
        (1..scores.len()).rev().for_each(|at| scores.swap(at, stream.below(at + 1)));
    }
    tokens.extend(made.into_iter().zip(scores).map(|(token, score)| (token, 1, score)));
    tokens.push(("<think>".into(), 4, -1000.0));
    tokens.push(("a\u{2581}<x>".into(), 4, -1000.0));
    tokens.push(("<|im_end|>".into(), 3, -1000.0));
    tokens.push(("[PAD]".into(), 5, -1000.0));
    let mut writer = Writer::default();
    writer
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", Meta::Texts(tokens.iter().map(|(text, ..)| text.clone()).collect()))
        .set("tokenizer.ggml.token_type", Meta::Integers(tokens.iter().map(|&(_, kind, _)| kind).collect()))
        .set("tokenizer.ggml.scores", Meta::Floats(tokens.iter().map(|&(.., score)| score).collect()))
        .set("tokenizer.ggml.add_space_prefix", Meta::Bool(stream.below(2) == 0))
        .set("tokenizer.ggml.add_eos_token", Meta::Bool(stream.below(2) == 0));
    (tokens.len(), writer)
}

#[test]
fn random_vocabularies_go_both_ways() {
    const PARTS: [&str; 16] =
        ["a", "b", "c", "é", "日", " ", "a", "b", "c", "aa", "▁", "本", "\n", "<s>", "<think>", "a▁<x><|im_end|>"];
    let mut stream = Stream(12);
    let mut merged = 0;
    for nth in 0..40 {
        let (vocab, writer) = random(&mut stream, nth % 2 == 0);
        let place = place(vocab, &writer);
        let three = Three::of(&place);
        three.agree_on_ids();
        for _ in 0..400 {
            let text: String = (0..stream.below(24)).map(|_| PARTS[stream.below(PARTS.len())]).collect();
            three.agree(&text);
            merged += usize::from(three.0[0].encode(&text, false).unwrap().len() < text.chars().count());
        }
        let crate_own = tokenizers::Tokenizer::from_file(place.path("hf").join("tokenizer.json")).unwrap();
        let (ours, theirs) = (three.0[0].encode("abc é", true).unwrap(), crate_own.encode("abc é", true).unwrap());
        assert_eq!(ours, theirs.get_ids());
    }
    assert!(merged > 8000, "{merged}");
}

/// A token in place of another: id, text, kind, score.
type Change<'a> = (usize, &'a str, i32, f32);

/// The vocabulary of the refusals below, with these tokens changed.
fn changed(changes: &[Change<'_>]) -> (usize, Writer) {
    let mut tokens: Vec<(String, i32, f32)> =
        vec![("<unk>".into(), 2, 0.0), ("<s>".into(), 3, 0.0), ("</s>".into(), 3, 0.0)];
    tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
    let texts = [("\u{2581}", -9.0), ("a", -9.0), ("b", -9.0), ("c", -9.0), ("ab", -1.0), ("bc", -2.0), ("abc", -3.0)];
    tokens.extend(texts.map(|(text, score)| (text.to_owned(), 1, score)));
    for &(id, text, kind, score) in changes {
        tokens[id] = (text.to_owned(), kind, score);
    }
    let mut writer = Writer::default();
    writer
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", Meta::Texts(tokens.iter().map(|(text, ..)| text.clone()).collect()))
        .set("tokenizer.ggml.token_type", Meta::Integers(tokens.iter().map(|&(_, kind, _)| kind).collect()))
        .set("tokenizer.ggml.scores", Meta::Floats(tokens.iter().map(|&(.., score)| score).collect()));
    (tokens.len(), writer)
}

#[test]
fn scores_that_no_list_of_merges_says_are_told() {
    let cases: [(&[Change<'_>], &[&str]); 9] = [
        (&[(263, "ab", 1, -2.0)], &["\"ab\"", "\"bc\"", "score -2"]),
        (&[(260, "x", 1, -9.0)], &["\"ab\"", "\"a\"", "none"]),
        (&[(265, "ab", 1, -3.0)], &["two tokens \"ab\""]),
        (&[(13, "<0x0a>", 6, 0.0)], &["every byte", "<0x0A>"]),
        (&[(13, "d", 1, -9.0)], &["every byte", "<0x0A>"]),
        (&[(262, "c", 3, -9.0), (264, "e", 1, -9.0), (265, "f", 1, -9.0)], &["\"c\"", "character"]),
        (&[(264, "<0x0a>", 1, -9.0)], &["<0x0a>", "byte"]),
        (&[(264, &"a".repeat(300), 1, -9.0)], &["300 bytes"]),
        (&[(2, "[PAD]", 5, 0.0)], &["BOS and EOS"]),
    ];
    let (vocab, sound) = changed(&[]);
    let three = Three::of(&place(vocab, &sound));
    ["abc", "aabbcc abc", "a bcab\n", "</s>ab"].iter().for_each(|text| three.agree(text));
    for (changes, parts) in cases {
        let (vocab, writer) = changed(changes);
        from_gguf(&writer).unwrap();
        let place = place(vocab, &writer);
        let notes = place.out("a.gguf", "hf", &folder_options(FLOATS)).notes;
        assert_eq!(notes.len(), 1, "{changes:?}");
        for part in [&["no tokenizer is written"], parts].concat() {
            assert!(notes[0].contains(part), "{part:?} is not in: {}", notes[0]);
        }
        assert!(!place.path("hf").join("tokenizer.json").exists());
    }
}

#[test]
fn a_json_that_no_scores_say_is_told() {
    let (vocab, writer) = changed(&[]);
    let place = place(vocab, &writer);
    place.out("a.gguf", "hf", &folder_options(FLOATS));
    let path = place.path("hf").join("tokenizer.json");
    let sound = json(&path);
    assert_eq!(sound["model"]["merges"], json!([["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]));
    type Spoil = fn(&mut Value);
    let cases: [(Spoil, &str); 14] = [
        (|json| json["model"]["ignore_merges"] = json!(true), "ignore_merges"),
        (|json| json["model"]["dropout"] = json!(0.5), "dropout"),
        (|json| json["added_tokens"][0]["lstrip"] = json!(true), "lstrip"),
        (|json| json["added_tokens"][1]["normalized"] = json!(true), "normalized"),
        (|json| json["normalizer"] = json!({ "type": "NFC" }), "normalizer"),
        (|json| json["normalizer"]["normalizers"][0]["prepend"] = json!("x"), "normalizer"),
        (metaspace_first, "Metaspace"),
        (|json| json["decoder"]["decoders"] = json!([{ "type": "ByteFallback" }]), "decoder"),
        // "bc" before "ab", but "abc" of "ab": no scores make it of that.
        (|json| json["model"]["merges"] = json!([["b", "c"], ["a", "b"], ["ab", "c"]]), "\"abc\""),
        (|json| json["model"]["merges"] = json!([["a", "b"], ["b", "c"]]), "\"abc\""),
        (|json| json["model"]["merges"] = json!([["a", "bc"], ["a", "b"], ["b", "c"], ["ab", "c"]]), "\"ab\""),
        (without_a_byte, "<0x0A>"),
        (|json| json["model"]["vocab"]["d"] = json!(2), "id of its own"),
        (|json| json["model"]["vocab"]["<0x0b>"] = json!(265), "id of its own"),
    ];
    for (change, part) in cases {
        let mut json = sound.clone();
        change(&mut json);
        std::fs::write(&path, json.to_string()).unwrap();
        let notes = place.back("hf", "b.gguf", &options(FLOATS)).notes;
        assert!(notes.len() == 1 && notes[0].contains(part), "{part:?} is not in: {notes:?}");
        assert_eq!(place.file("b.gguf").str("tokenizer.ggml.model").unwrap(), "none");
        std::fs::remove_file(place.path("b.gguf")).unwrap();
    }
    // What says the same in other words.
    let mut json = sound;
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] =
        json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "never", "split": false });
    json["decoder"]["decoders"].as_array_mut().unwrap().pop();
    std::fs::write(&path, json.to_string()).unwrap();
    assert_eq!(place.back("hf", "b.gguf", &options(FLOATS)).notes, Vec::<String>::new());
    let tokenizers = [Tokenizer::from_json(&path).unwrap(), Tokenizer::from_gguf(&place.file("b.gguf")).unwrap()];
    for text in ["abc", " abc  a", "</s> b"] {
        assert_eq!(tokenizers[0].encode(text, true).unwrap(), tokenizers[1].encode(text, true).unwrap());
    }
}

fn metaspace_first(json: &mut Value) {
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] =
        json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false });
}

fn without_a_byte(json: &mut Value) {
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("<0x0A>").unwrap();
    vocab.insert("new line".to_owned(), id);
}

/// A token that is looked for in the text keeps a space's stand-in as the space it decodes to.
#[test]
fn literal_tokens_decode_alike() {
    let (vocab, writer) = changed(&[(264, "<\u{2581}>", 4, -9.0), (265, "e", 1, -9.0)]);
    let place = place(vocab, &writer);
    let three = Three::of(&place);
    assert_eq!(three.0[0].decode(&[264]).unwrap(), "< >");
    three.agree_on_ids();
    three.agree("a<\u{2581}>b< >");
    let whole = gguf_to_hf(&place.file("a.gguf"), &place.path("again"), &folder_options(FLOATS)).unwrap();
    assert_eq!(whole.notes, Vec::<String>::new());
    assert!(GgufFile::open(place.path("b.gguf")).is_ok());
}
