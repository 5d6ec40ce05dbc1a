//! Tokenizers against llama.cpp's vectors and against the `tokenizers` crate.

mod common;

use std::path::Path;

use common::vocab::{from_gguf, gguf_of, json, llama_2, texts, vectors};
use common::writer::{Meta, Writer};
use common::{Stream, data};
use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;

#[track_caller]
fn passes(tokenizer: &Tokenizer, vectors: &[(String, Vec<u32>)]) {
    for (text, ids) in vectors {
        assert_eq!(&tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
        assert_eq!(&tokenizer.decode(ids).unwrap(), text, "{ids:?}");
    }
}

#[test]
fn llama_3_passes_the_vectors() {
    let (Some(path), Some(vectors)) = (data("llama3-tokenizer/tokenizer.json"), vectors("llama-bpe")) else { return };
    let tokenizer = Tokenizer::from_json(&path).unwrap();
    passes(&tokenizer, &vectors);
    assert_eq!((tokenizer.vocabulary(), tokenizer.adds_bos()), (128_256, false));
    assert_eq!(tokenizer.encode("<|begin_of_text|>a<|eot_id|>", false).unwrap(), [128_000, 64, 128_009]);
    assert_eq!(tokenizer.eot(), Some(128_009));

    let mut writer = gguf_of(&path, "llama-bpe");
    writer.set("tokenizer.ggml.bos_token_id", Meta::U32(128_000));
    let tokenizer = from_gguf(&writer).unwrap();
    passes(&tokenizer, &vectors);
    // llama.cpp's convention for this pre-tokenizer where the file is silent.
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.encode("a", true).unwrap(), [128_000, 64]);
    assert_eq!(tokenizer.decode(&[128_000, 64, 128_009]).unwrap(), "a");

    assert!(tokenizer.notes().is_empty());

    // A file that names no pre-tokenizer, as BitNet b1.58 2B4T's.
    writer.meta.retain(|(key, _)| key != "tokenizer.ggml.pre");
    let silent = from_gguf(&writer).unwrap();
    passes(&silent, &vectors);
    let note = &silent.notes()[0];
    assert!(note.contains("tokenizer.ggml.pre is missing") && note.contains("llama-bpe"), "{note}");
    assert_eq!((silent.bos_text(), silent.adds_bos()), ("<|begin_of_text|>", true));
}

#[test]
fn gpt_2_passes_the_vectors() {
    let (Some(path), Some(vectors)) = (data("gpt2-tokenizer/tokenizer.json"), vectors("gpt-2")) else { return };
    passes(&Tokenizer::from_json(&path).unwrap(), &vectors);
    let tokenizer = from_gguf(&gguf_of(&path, "gpt-2")).unwrap();
    passes(&tokenizer, &vectors);
    assert!(!tokenizer.adds_bos());
}

#[test]
fn llama_2_passes_the_vectors() {
    let (Some(writer), Some(vectors)) = (llama_2(), vectors("llama-spm")) else { return };
    let tokenizer = from_gguf(&writer).unwrap();
    passes(&tokenizer, &vectors);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(1), Some(2), true));
    assert_eq!(tokenizer.encode("Hello</s>Hello", true).unwrap(), [1, 15043, 2, 15043]);
}

#[test]
fn qwen_2_agrees_with_its_own_json() {
    let Some(path) = data("qwen2-tokenizer/tokenizer.json") else { return };
    let ours = from_gguf(&gguf_of(&path, "qwen2")).unwrap();
    let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
    for text in &texts() {
        let expected = theirs.encode(text.as_str(), false).unwrap();
        assert_eq!(ours.encode(text, false).unwrap(), expected.get_ids(), "{text:?}");
        // Accents are composed, as the model's own tokenizer does (llama.cpp does not).
        assert_eq!(ours.decode(expected.get_ids()).unwrap(), text.replace("e\u{301}", "é"));
    }
}

#[test]
fn smollm_splits_digits_and_keeps_its_control_tokens() {
    let Some(path) = data("smollm2-135m-instruct-q4_1.gguf") else { return };
    let tokenizer = Tokenizer::from_gguf(&GgufFile::open(&path).unwrap()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (Some(1), Some(2), Some(2)));
    assert_eq!((tokenizer.adds_bos(), tokenizer.stops(), tokenizer.vocabulary()), (false, &[0, 2][..], 49_152));
    // As the model's own tokenizer.json has it (ids also in scripts/oracle's fixture).
    assert_eq!(tokenizer.encode("The capital of France is", true).unwrap(), [504, 3575, 282, 4649, 314]);
    assert_eq!(tokenizer.encode("2024", false).unwrap().len(), 4);
    let chat = "<|im_start|>user\nHi<|im_end|>\n";
    let ids = tokenizer.encode(chat, false).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 2]), (1, 2));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "user\nHi\n");
    for text in texts() {
        let ids = tokenizer.encode(&text, false).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    encodes(&tokenizer, "smollm2-135m");
}

/// Holds a tokenizer against the ids that the oracle's own pre-tokenizers give.
#[track_caller]
fn encodes(tokenizer: &Tokenizer, golden: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{golden}.json"));
    let golden = json(&path);
    for (text, ids) in golden["encoded"].as_object().unwrap() {
        let ids: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
        // tok512 has every byte; both decode to what was encoded.
        assert_eq!(&tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn stories_agrees_with_its_own_json() {
    let (Some(gguf), Some(path)) = (data("stories260K.f32.gguf"), data("tok512.tokenizer.json")) else { return };
    let ours = Tokenizer::from_gguf(&GgufFile::open(&gguf).unwrap()).unwrap();
    let json = Tokenizer::from_json(&path).unwrap();
    let theirs = tokenizers::Tokenizer::from_file(&path).unwrap();
    for text in texts() {
        let expected = theirs.encode(text.as_str(), false).unwrap();
        assert_eq!(ours.encode(&text, false).unwrap(), expected.get_ids(), "{text:?}");
        let decoded = theirs.decode(expected.get_ids(), true).unwrap();
        assert_eq!(ours.decode(expected.get_ids()).unwrap(), decoded);
        assert_eq!(json.decode(expected.get_ids()).unwrap(), decoded);
        assert_eq!(decoded, text);
    }
    encodes(&ours, "stories260k");
    assert_eq!(ours.encode("Once upon a time", true).unwrap()[0], 1);
    assert!(ours.adds_bos());
}

#[test]
fn long_runs_of_one_character_come_back_whole() {
    let files = ["smollm2-135m-instruct-q4_1.gguf", "stories260K.f32.gguf"];
    for path in files.iter().filter_map(|file| data(file)) {
        let tokenizer = Tokenizer::from_gguf(&GgufFile::open(&path).unwrap()).unwrap();
        for unit in [" ", "a", "\n", "7", "é", "!"] {
            let text = unit.repeat(200_000) + "end";
            let ids = tokenizer.encode(&text, false).unwrap();
            assert!(tokenizer.decode(&ids).unwrap() == text, "{unit:?} in {}", path.display());
        }
    }
}

/// A vocabulary of bytes and a few merges.
fn tiny(model: &str) -> Writer {
    let mut writer = Writer::default();
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc", "abc"];
    writer
        .set("tokenizer.ggml.model", model)
        .set("tokenizer.ggml.tokens", Meta::Texts(tokens.map(str::to_owned).to_vec()))
        .set("tokenizer.ggml.token_type", Meta::Integers(vec![2, 3, 3, 1, 1, 1, 1, 1, 1]))
        .set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
    if model == "llama" {
        writer.set("tokenizer.ggml.scores", Meta::Floats(vec![0., 0., 0., -9., -9., -9., -2., -1., -3.]));
    } else {
        writer.set("tokenizer.ggml.pre", "gpt-2");
        writer.set("tokenizer.ggml.merges", Meta::Texts(vec!["b c".into(), "a b".into(), "a bc".into()]));
    }
    writer
}

#[test]
fn the_best_score_merges_first_and_the_leftmost_of_equals() {
    let mut writer = tiny("llama");
    let encode = |writer: &Writer, text| from_gguf(writer).unwrap().encode(text, false).unwrap();
    assert_eq!(encode(&writer, "abc"), [8]);
    assert_eq!(encode(&writer, "abbc"), [6, 7]);
    // Without "abc" the better of "ab" and "bc" wins; of equals the left.
    writer.set("tokenizer.ggml.token_type", Meta::Integers(vec![2, 3, 3, 1, 1, 1, 1, 1, 5]));
    assert_eq!(encode(&writer, "abc"), [3, 7]);
    writer.set("tokenizer.ggml.scores", Meta::Floats(vec![0.0; 9]));
    assert_eq!(encode(&writer, "abc"), [6, 5]);
    // What is neither token nor byte is unknown.
    assert_eq!(encode(&writer, "a?b"), [3, 0, 4]);
}

#[test]
fn a_missing_pre_tokenizer_is_noted() {
    let mut writer = tiny("gpt2");
    assert!(from_gguf(&writer).unwrap().notes().is_empty());
    writer.meta.retain(|(key, _)| key != "tokenizer.ggml.pre");
    let note = from_gguf(&writer).unwrap().notes()[0].clone();
    assert!(note.contains("test.gguf") && note.contains("default is taken") && note.contains("guess"), "{note}");
}

#[test]
fn huge_control_tokens_are_refused() {
    let mut writer = tiny("gpt2");
    let long = "x".repeat(2 << 20);
    let tokens = ["<unk>", &long, "</s>", "a", "b", "c", "ab", "bc", "abc"].map(str::to_owned).to_vec();
    writer.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    let message = from_gguf(&writer).unwrap_err().to_string();
    assert!(message.contains("tokenizer.ggml.tokens") && message.contains("control tokens"), "{message}");
    assert!(message.len() < 1000);
}

#[test]
fn a_text_to_be_continued_has_no_end_and_pieces_keep_their_space() {
    let mut writer = tiny("llama");
    writer
        .set("tokenizer.ggml.add_eos_token", Meta::Bool(true))
        .set("tokenizer.ggml.add_space_prefix", Meta::Bool(true));
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "\u{2581}b", "\u{2581}"].map(str::to_owned).to_vec();
    writer.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    let tokenizer = from_gguf(&writer).unwrap();
    assert_eq!(tokenizer.encode("a", true).unwrap(), [1, 8, 3, 2]);
    assert_eq!(tokenizer.encode_prompt("a").unwrap(), [1, 8, 3]);
    assert_eq!(tokenizer.decode(&[7, 3]).unwrap(), "ba");
    assert_eq!(tokenizer.piece(7).unwrap(), b" b");
}

#[test]
fn a_wrong_vocabulary_is_named_by_its_key() {
    let cases: [(&str, &str, Option<Meta>, &[&str]); 14] = [
        ("gpt2", "model", None, &["missing"]),
        ("gpt2", "model", Some("bert".into()), &["gpt2 or llama", "bert"]),
        ("gpt2", "pre", Some("odd".into()), &["smollm", "llama-bpe", "gpt-2", "qwen2", "odd"]),
        ("gpt2", "tokens", None, &["missing"]),
        ("gpt2", "tokens", Some(Meta::Texts(vec![])), &["1 to"]),
        ("gpt2", "merges", None, &["missing"]),
        ("gpt2", "merges", Some(Meta::Texts(vec!["ab".into()])), &["space", "merge 0"]),
        ("gpt2", "merges", Some(Meta::Texts(vec!["a x".into()])), &["tokens", "x in"]),
        ("gpt2", "merges", Some(Meta::Texts(vec!["abc abc".into()])), &["tokens", "abcabc in"]),
        ("gpt2", "token_type", Some(Meta::Integers(vec![1])), &["9 types", "found 1"]),
        ("llama", "token_type", Some(Meta::Integers(vec![7; 9])), &["1 to 6", "7"]),
        ("llama", "scores", Some(Meta::Floats(vec![0.0])), &["9 scores", "found 1"]),
        ("llama", "scores", Some(Meta::Floats(vec![f32::NAN; 9])), &["numbers", "NaN"]),
        ("llama", "bos_token_id", Some(Meta::U32(9)), &["below 9", "found 9"]),
    ];
    for (model, key, value, parts) in cases {
        let key = format!("tokenizer.ggml.{key}");
        let mut writer = tiny(model);
        writer.meta.retain(|(k, _)| *k != key);
        if let Some(value) = value {
            writer.set(&key, value);
        }
        let message = from_gguf(&writer).unwrap_err();
        for part in parts.iter().chain([&"test.gguf", &key.as_str()]) {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    for model in ["gpt2", "llama"] {
        let tokenizer = from_gguf(&tiny(model)).unwrap();
        let message = tokenizer.decode(&[3, 9]).unwrap_err().to_string();
        assert!(message.contains("token id 9") && message.contains("below 9"), "{message}");
    }
}

#[test]
fn flipped_bytes_in_a_vocabulary_never_panic() {
    let mut stream = Stream(3);
    for model in ["gpt2", "llama"] {
        let whole = tiny(model).bytes();
        let mut built = 0;
        for _ in 0..5_000 {
            let mut bytes = whole.clone();
            let at = stream.below(bytes.len());
            bytes[at] = stream.next() as u8;
            let Ok(file) = GgufFile::from_bytes("test.gguf", bytes) else { continue };
            let Ok(tokenizer) = Tokenizer::from_gguf(&file) else { continue };
            built += 1;
            let ids = tokenizer.encode("abc cab <s> é", true).unwrap();
            tokenizer.decode(&ids).unwrap();
        }
        assert!(built > 100, "{built}");
    }
}

#[test]
fn a_wrong_json_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let message = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Tokenizer::from_json(&path).unwrap_err().to_string()
    };
    let model = |merges: &str| {
        format!(
            r#"{{"version":"1.0","added_tokens":[],"decoder":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}},
            "model":{{"type":"BPE","vocab":{{"a":0,"b":1,"ab":2}},"merges":{merges}}}}}"#
        )
    };
    for (text, part) in [
        (String::new(), "EOF"),
        ("{}".to_owned(), "tokenizer.json"),
        (model(r#"["ab ab"]"#), "ab ab"),
        (model(r#"[["ab","ab"]]"#), "union is a token"),
        (model(r#"[["a"]]"#), "merge"),
        (model("[]").replace("ByteLevel", "WordPiece"), "tokenizer.json"),
        (model("[]").replace(r#""b":1"#, r#""b":4294967295"#), "4294967295"),
    ] {
        let message = message(&text);
        assert!(message.contains("tokenizer.json") && message.contains(part), "{part:?} is not in: {message}");
    }
    std::fs::write(&path, model(r#"["a b"]"#)).unwrap();
    let tokenizer = Tokenizer::from_json(&path).unwrap();
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [2]);
    assert!(Tokenizer::from_json(folder.path().join("none.json")).unwrap_err().to_string().contains("none.json"));
}

/// Found by fuzzing: the crate panics when such a template is applied.
#[test]
fn a_template_of_tokens_that_are_not_defined_is_refused() {
    let json = |processor: &str| {
        let model = r#"{"type":"BPE","unk_token":"<s>","byte_fallback":true,"vocab":{"<s>":0,"a":1},"merges":[]}"#;
        let json = format!(
            r#"{{"version":"1.0","added_tokens":[],"post_processor":{processor},"decoder":{{"type":"ByteFallback"}},"model":{model}}}"#
        );
        Tokenizer::from_json_bytes("t.json", json.as_bytes(), None).map(|_| ()).map_err(|e| e.to_string())
    };
    let template = |key: &str, token: &str| {
        let piece =
            format!(r#"[{{"SpecialToken":{{"id":"{token}","type_id":0}}}},{{"Sequence":{{"id":"A","type_id":0}}}}]"#);
        let (single, pair) = if key == "single" { (piece.as_str(), "[]") } else { ("[]", piece.as_str()) };
        let tokens = r#"{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}"#;
        format!(r#"{{"type":"TemplateProcessing","single":{single},"pair":{pair},"special_tokens":{tokens}}}"#)
    };
    for key in ["single", "pair"] {
        json(&template(key, "<s>")).unwrap();
        let outside = template(key, "<s>").replace("[0]", "[5]");
        let refused = json(&outside).is_err_and(|e| e.contains("ids of the vocabulary, found 5"));
        // Pairs are never made here.
        assert_eq!(refused, key == "single");
        let bad = template(key, "<t>");
        for bad in
            [bad.clone(), bad.replace("type\"", "tyte\""), format!(r#"{{"type":"Sequence","processors":[{bad}]}}"#)]
        {
            let error = json(&bad).unwrap_err();
            for wanted in ["t.json", "post_processor", "<t>", "special_tokens"] {
                assert!(error.contains(wanted), "{wanted} in {error}");
            }
        }
    }
}

/// Found by fuzzing: a repeated class takes long to build.
#[test]
fn costly_regular_expressions_are_refused() {
    let json = |patterns: &[&str]| {
        let split = |regex: &&str| serde_json::json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let json = serde_json::json!({
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": patterns.iter().map(split).collect::<Vec<_>>()},
            "decoder": {"type": "ByteFallback"},
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        });
        Tokenizer::from_json_bytes("t.json", json.to_string().as_bytes(), None).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(json(&[r"\p{N}"; 9]), Err("t.json: expected at most 8 regular expressions, found 9".to_owned()));
    for costly in [r"\p{N}{946}", r"((\w{10}){10}){10}", r"[\p{L}\p{N}]{300}"] {
        let error = json(&[costly]).unwrap_err();
        assert!(error.contains("t.json") && error.contains("cost 4096 at most"), "{error}");
    }
    assert!(json(&[r"\p{N}{400}", r"\p{N}{400}"]).is_err(), "the file's sum counts");
    // As models have them: LLaMA 3's and GPT-4o's.
    let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let gpt4o = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let begun = std::time::Instant::now();
    assert_eq!(json(&[llama3, gpt4o, llama3, gpt4o, llama3]), Ok(()));
    assert_eq!(json(&[r"\p{L}{64}"; 7]), Ok(()));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}
