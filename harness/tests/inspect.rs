//! What `model inspect` says of tokenizers, and how a file that is not there is told.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn harness(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harness")).args(arguments).output().unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> Value {
    let output = harness(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The tokenizer's entry, which is the same for people and for programs.
#[track_caller]
fn tokenizer(model: &Path) -> Value {
    let model = model.to_str().unwrap();
    let entry = printed(&["model", "inspect", model, "--json"])["tokenizer"].clone();
    assert_eq!(printed(&["model", "inspect", model])["tokenizer"], entry);
    entry
}

/// A file of development data, where it lies: see `engine/tests/common`.
fn data(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let places = [root.join("../shared/data"), root.join("data")];
    let found = places.iter().map(|place| place.join(name)).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no {name}");
        eprintln!("SKIPPED: no {name}");
    }
    found
}

#[test]
fn the_tokenizers_of_files_are_told() {
    if let Some(stories) = data("stories260K.f32.gguf") {
        let want = json!({
            "kind": "SentencePiece", "pre_tokenizer": null, "vocabulary": 512, "bos": 1, "eos": 2, "eot": null,
            "add_bos": true, "notes": [],
        });
        assert_eq!(tokenizer(&stories), want);
    }
    if let Some(smollm) = data("smollm2-135m-instruct-q4_1.gguf") {
        let want = json!({
            "kind": "byte-level BPE", "pre_tokenizer": "smollm", "vocabulary": 49152, "bos": 1, "eos": 2, "eot": 2,
            "add_bos": false, "notes": [],
        });
        assert_eq!(tokenizer(&smollm), want);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let made = harness(&["model", "synth", "--model", "tiny-260k", "--out", path.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let entry = tokenizer(&path);
    let why = entry["why"].as_str().unwrap();
    assert_eq!(entry["kind"], "none");
    assert!(why.contains("a.gguf") && why.contains("tokenizer.ggml.model") && why.contains("found none"), "{why}");
}

#[test]
fn the_tokenizers_of_folders_are_told() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden/hf/qwen2-tied");
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    let entry = tokenizer(folder.path());
    let why = entry["why"].as_str().unwrap();
    assert!(entry["kind"] == "none" && why.contains("tokenizer.json"), "{entry}");
    assert_eq!(why.matches("os error 2").count(), 1, "{why}");

    let write = |json: &Value| std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let mut bpe = json!({
        "version": "1.0", "added_tokens": [], "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "ab": 2 }, "merges": ["a b"] },
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
    });
    write(&bpe);
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"bos_token": "a", "add_bos_token": true}"#)
        .unwrap();
    let mut want = json!({
        "kind": "byte-level BPE", "pre_tokenizer": "gpt-2", "vocabulary": 3, "bos": 0, "eos": null, "eot": null,
        "add_bos": true, "notes": [],
    });
    assert_eq!(tokenizer(folder.path()), want);
    bpe["pre_tokenizer"] = json!({ "type": "Whitespace" });
    write(&bpe);
    want["pre_tokenizer"] = Value::Null;
    assert_eq!(tokenizer(folder.path()), want);
    bpe["decoder"] = json!({ "type": "ByteFallback" });
    write(&bpe);
    want["kind"] = json!("SentencePiece");
    assert_eq!(tokenizer(folder.path()), want);
    bpe["model"] = json!({ "type": "WordLevel", "vocab": { "a": 0, "b": 1, "ab": 2 }, "unk_token": "a" });
    write(&bpe);
    want["kind"] = json!("WordLevel");
    assert_eq!(tokenizer(folder.path()), want);
}

/// A message holds its cause once, though errors have a chain of causes.
#[test]
fn a_cause_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let cases: [(&[&str], &str); 3] = [
        (&["model", "inspect", &path("none.gguf")], "none.gguf"),
        (&["plan", &path("none.toml")], "none.toml"),
        (&["report", &path("none")], "none/run.json"),
    ];
    for (arguments, file) in cases {
        let output = harness(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(65), "{message}");
        assert!(message.contains(file), "{message}");
        assert_eq!(message.matches("os error 2").count(), 1, "{message}");
    }
}
