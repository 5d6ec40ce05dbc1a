//! `eval` and `compare` as a user calls them, on the twins that come with the checkout.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn harness(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one log that `folder` holds of `engine`.
fn log(folder: &Path, engine: &str) -> PathBuf {
    let all = std::fs::read_dir(folder.join("results/eval")).unwrap();
    let mut found = all.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains(engine));
    found.next().unwrap()
}

#[test]
fn two_engines_answer_and_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let line = ["eval", "twins_science", "--model", "twin-ternary", "--engine", "ternary", "--against", "f16"];
    let done = harness(&[&line[..], &["--limit", "60", "--json"]].concat(), folder.path());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    for result in found["results"].as_array().unwrap() {
        assert_eq!(
            (&result["items"], &result["skipped"], &result["task"]),
            (&60.into(), &0.into(), &"twins_science".into())
        );
        let figure = &result["figures"][0];
        // Four choices: chance is 0.25.
        assert!(figure["metric"] == "acc_norm" && figure["value"].as_f64().unwrap() > 0.7, "{figure}");
        assert!(figure["interval"][0].as_f64().unwrap() <= figure["value"].as_f64().unwrap());
    }
    assert!(found["comparisons"][0].as_str().unwrap().contains("McNemar's exact p"), "{found}");
    // The same again answers nothing; more items answer those alone.
    let items = |limit: &str| {
        let done = harness(&[&line[..6], &["--limit", limit]].concat(), folder.path());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let text = std::fs::read_to_string(log(folder.path(), "-ternary-")).unwrap();
        assert!(text.starts_with("{\"kind\":\"header\""));
        (text.matches("\"kind\":\"item\"").count(), text.matches("\"kind\":\"part\"").count())
    };
    assert_eq!(items("60"), (60, 2));
    assert_eq!(items("64"), (64, 3));
    assert_eq!(items("10"), (64, 4));
    let logs = ["-ternary-", "-f16-"].map(|engine| log(folder.path(), engine).display().to_string());
    let done = harness(&["compare", &logs[0], &logs[1]], folder.path());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("over 60 items"), "{}", text(&done.stdout));
}

#[test]
fn word_problems_are_solved_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let line = ["eval", "twins_problems", "--model", "twin-fp16", "--engine", "f16", "--limit", "24", "--json"];
    let done = harness(&line, folder.path());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    let figure = &found["results"][0]["figures"][0];
    assert!(figure["metric"] == "exact_match_strict" && figure["value"].as_f64().unwrap() > 0.6, "{figure}");
}

/// A task of one's own: its TOML, and the documents beside it.
fn own(folder: &Path, documents: &str) {
    let task = "name = \"mine\"\nabout = \"a\"\nsource = \"b\"\nkind = \"choices\"\nmetrics = [\"acc\"]\n[documents]\n\
        test = \"mine.jsonl\"\nfetch = \"none\"\n[prompt]\ndoc_to_text = \"Question: {{q}}\\nAnswer:\"\n\
        doc_to_choice = \"{{choices}}\"\ndoc_to_target = \"{{answer}}\"\n";
    std::fs::write(folder.join("mine.toml"), task).unwrap();
    std::fs::write(folder.join("mine.jsonl"), documents).unwrap();
}

#[test]
fn bad_documents_are_refused_or_listed_never_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let long = "word ".repeat(400);
    own(
        folder.path(),
        &format!(
            "{{\"q\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": 1}}\nnonsense\n\
             {{\"q\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": 5}}\n\
             {{\"q\": \"{long}\", \"choices\": [\"x\", \"y\"], \"answer\": 0}}\n\
             {{\"q\": \"a\", \"choices\": [\"{long}\", \"y\"], \"answer\": 0}}\n"
        ),
    );
    let line = ["eval", "mine.toml", "--model", "twin-ternary", "--engine", "ternary"];
    let done = harness(&line, folder.path());
    assert_eq!(done.status.code(), Some(65));
    let told = text(&done.stderr);
    assert!(told.contains("mine.jsonl:2") && told.contains("no JSON object") && told.contains("--skip-bad"), "{told}");
    let done = harness(&[&line[..], &["--skip-bad"]].concat(), folder.path());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let told = text(&done.stdout);
    // Two documents are none, one has a choice that fills the context; the long question is cut off, and counted.
    assert!(told.contains("2 items"), "{told}");
    for part in [
        "document 1: no JSON object",
        "document 2: doc_to_target",
        "document 4: a continuation of",
        "1 items were cut off",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn what_cannot_be_asked_is_told() {
    let folder = tempfile::tempdir().unwrap();
    own(folder.path(), "{\"q\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": 1}\n");
    let base = ["--model", "twin-ternary", "--engine", "ternary"];
    for (arguments, code, words) in [
        (&["arc_esay"][..], 64, "did you mean `arc_easy`"),
        (&["mine.toml", "--fewshot", "2"], 64, "names no file of examples"),
        (&["mine.toml", "--limit", "0"], 64, "at least 1"),
        (&["mine.toml", "--context", "100000"], 64, "1 to the model's 256"),
        (&["mine.toml", "--documents", "none.jsonl"], 65, "none.jsonl"),
        (&["none.toml"], 65, "none.toml"),
        (&["mine.toml", "--chat", "nothing"], 65, "nothing"),
    ] {
        let done = harness(&[&["eval"][..], arguments, &base].concat(), folder.path());
        let told = text(&done.stderr);
        assert!(done.status.code() == Some(code) && told.contains(words), "{arguments:?}: {:?} {told}", done.status);
    }
    let code = "{\"prompt\": \"def f():\\n\", \"test\": \"def check(f): pass\", \"entry_point\": \"f\"}\n";
    std::fs::write(folder.path().join("code.jsonl"), code).unwrap();
    let done = harness(&[&["eval", "humaneval", "--documents", "code.jsonl"][..], &base].concat(), folder.path());
    assert!(done.status.code() == Some(64) && text(&done.stderr).contains("--run-generated-code"));
    let done = harness(&["compare", "mine.jsonl", "mine.jsonl"], folder.path());
    assert_eq!(done.status.code(), Some(65));
}
