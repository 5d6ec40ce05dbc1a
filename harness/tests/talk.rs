//! The commands that talk to a model, as a user meets them, with a real small model (stories260K).

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A file of development data, where it lies: see `engine/tests/common`.
fn data(name: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let places = [root.join("../shared/data"), root.join("data")];
    let found: Option<PathBuf> = places.iter().map(|place| place.join(name)).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no {name}");
        eprintln!("SKIPPED: no {name}");
    }
    found.map(|path| path.display().to_string())
}

fn model() -> Option<String> {
    data("stories260K.f32.gguf")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

fn start(arguments: &[&str]) -> Child {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What comes out after `input`.
fn with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = start(arguments);
    // It may have ended before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(arguments: &[&str]) -> Value {
    lines(&run(arguments)).remove(0)
}

#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is not in: {message}"));
}

/// The ids of a list, as `--tokens` takes them.
fn ids(list: &Value) -> String {
    let ids: Vec<String> = list.as_array().unwrap().iter().map(Value::to_string).collect();
    ids.join(",")
}

#[test]
fn a_chat_is_what_its_prompts_give_afresh() {
    let Some(model) = model() else { return };
    let options =
        ["--temperature", "0.9", "--top-k", "40", "--seed", "5", "--max-tokens", "12", "--context", "400", "--json"];
    let usual = ["chat", "--model", &model, "--template", "llama3", "--system", "Tell a story."];
    let turns =
        lines(&with_input(&[&usual[..], &options].concat(), "Once upon a time\n\nThere was a cat\r\nThe end\n"));
    assert_eq!(turns.len(), 3);
    let mut before = 0;
    for (index, turn) in turns.iter().enumerate() {
        let prompt = turn["prompt_tokens"].as_array().unwrap();
        // A process of its own, with an empty cache and the turn's seed.
        let (tokens, seed) = (ids(&turn["prompt_tokens"]), (5 + index).to_string());
        let alone = json(
            &[
                &["generate", "--model", &model, "--tokens", &tokens][..],
                &options[..4],
                &["--seed", &seed],
                &options[6..],
            ]
            .concat(),
        );
        assert_eq!((&turn["tokens"], &turn["text"], &turn["stop"]), (&alone["tokens"], &alone["text"], &alone["stop"]));
        assert_eq!((turn["template"].as_str(), turn["turn"].as_u64()), (Some("llama3"), Some(index as u64 + 1)));
        let reused = turn["reused_tokens"].as_u64().unwrap() as usize;
        assert!(reused >= before && reused < prompt.len(), "{reused}");
        // The template begins with BOS, and the vocabulary knows it as one token.
        assert_eq!(prompt[0], turn["special"]["bos"]);
        before = prompt.len() - 8;
    }
    assert!(turns[1]["reused_tokens"].as_u64().unwrap() > 20);
}

#[test]
fn a_chat_without_a_template_says_what_there_is() {
    let Some(model) = model() else { return };
    refused(&run(&["chat", "--model", &model]), 64, &["no chat template", "bitnet", "llama3", "chatml", "--template"]);
    let unknown = run(&["chat", "--model", &model, "--template", "alpaca"]);
    refused(&unknown, 64, &["--template", "bitnet", "chatml", "found alpaca"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.jinja");
    let own = path.to_str().unwrap();
    std::fs::write(&path, "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}").unwrap();
    let usual = ["chat", "--model", &model, "--template", own, "--max-tokens", "5", "--json"];
    let turns = lines(&with_input(&usual, "Once upon a time\n"));
    let plain = json(&["generate", "--model", &model, "--prompt", "Once upon a time", "--max-tokens", "5", "--json"]);
    assert_eq!(turns[0]["tokens"], plain["tokens"]);
    std::fs::write(&path, "{% for m in messages %}").unwrap();
    refused(&run(&usual), 65, &["chat template", "own.jinja"]);
    std::fs::write(&path, "{{ raise_exception('no ' + messages[0].role) }}").unwrap();
    refused(&with_input(&usual, "Hi\n"), 65, &["the template refuses: no user"]);
    refused(&with_input(&usual, &"a".repeat(2 << 20)), 65, &["stdin", "at most"]);
}

#[test]
fn a_full_context_is_met_as_asked() {
    let Some(model) = model() else { return };
    let usual = [
        "generate",
        "--model",
        &model,
        "--prompt",
        "Once upon a time",
        "--max-tokens",
        "90",
        "--context",
        "64",
        "--json",
    ];
    let with = |more: &[&str]| run(&[&usual[..], more].concat());
    let stopped = &lines(&with(&[]))[0];
    assert_eq!((stopped["stop"].as_str(), stopped["context_full"].as_str()), (Some("context_full"), Some("stop")));
    assert_eq!(stopped["tokens"].as_array().unwrap().len(), 60);
    refused(&with(&["--context-full", "error"]), 64, &["context of 64 tokens is full"]);
    let shifted = &lines(&with(&["--context-full", "shift", "--keep", "5"]))[0];
    assert_eq!((shifted["stop"].as_str(), shifted["context_full"].as_str()), (Some("max_tokens"), Some("shift")));
    // Of the 59 after the five kept 30 go when the 65th comes, which makes room for as many.
    assert_eq!((shifted["dropped_tokens"].as_u64(), shifted["tokens"].as_array().unwrap().len()), (Some(30), 90));
    assert_eq!(
        ids(&shifted["tokens"]).split(',').take(60).collect::<Vec<_>>(),
        ids(&stopped["tokens"]).split(',').collect::<Vec<_>>()
    );
    refused(&with(&["--context-full", "shift", "--keep", "63"]), 64, &["keep", "at most 62"]);

    let chat = ["chat", "--model", &model, "--template", "chatml", "--context", "80", "--max-tokens", "60", "--json"];
    let talk = "Once upon a time there was a cat\n".repeat(4);
    let output = with_input(&chat, &talk);
    assert!(lines(&output).len() < 4);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--context-full shift"));
    refused(&with_input(&[&chat[..], &["--context-full", "error"]].concat(), &talk), 64, &["context of 80"]);
    let turns = lines(&with_input(&[&chat[..], &["--context-full", "shift"]].concat(), &talk));
    assert_eq!(turns.len(), 4);
    assert!(turns[3]["dropped_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn special_tokens_are_recorded() {
    let Some(model) = model() else { return };
    let text = json(&["generate", "--model", &model, "--prompt", "Once", "--max-tokens", "2", "--json"]);
    let special = &text["special"];
    assert_eq!((&special["bos"], &special["eos"], &special["eot"]), (&1.into(), &2.into(), &Value::Null));
    assert_eq!((special["bos_added"].as_bool(), ids(&special["stop_tokens"]).as_str()), (Some(true), "2"));
    let tokens = json(&["generate", "--model", &model, "--tokens", "1,403", "--max-tokens", "2", "--json"]);
    assert_eq!(tokens["special"]["bos_added"], false);
    let score = json(&["score", "--model", &model, "--context", "Once", "--continuation", " upon"]);
    assert_eq!(score["special"], text["special"]);
}

#[test]
fn perplexity_is_that_of_the_logits() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    let file = path.to_str().unwrap();
    let text = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n";
    std::fs::write(&path, text).unwrap();
    let usual = ["perplexity", "--model", &model, "--file", file, "--json"];
    let whole = json(&usual);
    let ids_of = json(&["generate", "--model", &model, "--prompt", text, "--max-tokens", "0", "--json"]);
    let tokens: Vec<usize> =
        ids_of["prompt_tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as usize).collect();
    let logits = json(&["logits", "--model", &model, "--tokens", &ids(&ids_of["prompt_tokens"]), "--all"]);
    let mut nll = 0.0;
    for (row, &next) in logits["logits"].as_array().unwrap().iter().zip(&tokens[1..]) {
        let row: Vec<f64> = row.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
        nll += row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[next];
    }
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&whole["nll"]) - nll).abs() < 1e-6 * nll, "{whole} {nll}");
    assert_eq!((whole["scored"].as_u64(), whole["prefix"].as_u64()), (Some(tokens.len() as u64 - 1), Some(1)));
    assert!((number(&whole["perplexity"]) - (nll / (tokens.len() - 1) as f64).exp()).abs() < 1e-6);
    let bits = number(&whole["nll"]) / 2f64.ln() / text.len() as f64;
    assert!((number(&whole["bits_per_byte"]) - bits).abs() < 1e-9);

    // Windows, other threads and paths: the same by a bit. The ids in a file are the text's, BOS and all.
    let windows = ["--context", "16", "--stride", "5"];
    let base = json(&[&usual[..], &windows].concat());
    assert!(base["windows"] == 5 && base["nll"] != whole["nll"]);
    let scalar = json(&[&usual[..], &windows, &["--threads", "1", "--isa", "scalar"]].concat());
    assert_eq!(base["nll"], scalar["nll"]);
    std::fs::write(folder.path().join("ids"), ids_of["prompt_tokens"].to_string()).unwrap();
    let list = folder.path().join("ids").display().to_string();
    let given = json(&[&["perplexity", "--model", &model, "--tokens-file", &list, "--json"], &windows[..]].concat());
    assert_eq!((&given["nll"], &given["prefix"], &given["bits_per_byte"]), (&base["nll"], &Value::Null, &Value::Null));

    let none = json(&[&usual[..], &["--prefix", "none"]].concat());
    assert_eq!(none["scored"].as_u64(), Some(tokens.len() as u64 - 2));
    refused(&run(&[&usual[..], &["--stride", "0"]].concat()), 64, &["stride"]);
    std::fs::write(folder.path().join("ids"), "[1, -2]").unwrap();
    refused(&run(&["perplexity", "--model", &model, "--tokens-file", &list]), 65, &["array of token ids"]);
    refused(&run(&["perplexity", "--model", &model, "--file", "/nothing"]), 65, &["/nothing"]);
}

#[test]
fn an_interrupt_ends_the_answer_and_then_the_program() {
    let interrupt = |child: &Child| {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    };
    // One that is slow enough to be interrupted.
    if let Some(model) = data("smollm2-135m-instruct-q4_1.gguf") {
        let usual = ["chat", "--model", &model, "--max-tokens", "400"];
        let mut child = start(&usual);
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"Write a very long story.\n").unwrap();
        let mut first = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        interrupt(&child);
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        // 400 tokens are some 1800 bytes.
        assert!(output.stdout.len() < 900, "{} bytes", output.stdout.len());
        assert!(output.stdout.ends_with(b"\n"));
    }
    // While nothing is answered, one is enough.
    let Some(model) = model() else { return };
    let mut child = start(&["chat", "--model", &model, "--template", "chatml", "--max-tokens", "1"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Once\n").unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") {
        let mut byte = [0; 1];
        output.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn prompts_together_are_answered_as_alone() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl").display().to_string();
    let texts = ["Once upon a time", "Tom", "The little dog ran", "One day, a girl"];
    let mut lines_in: Vec<String> =
        texts.iter().map(|text| serde_json::json!({ "prompt": text }).to_string()).collect();
    lines_in.push("\n{\"tokens\": [1, 403, 407]}".to_owned());
    std::fs::write(&file, lines_in.join("\n")).unwrap();
    let options = ["--model", &model, "--max-tokens", "24", "--temperature", "1.5", "--stop", "and"];
    let generate = |more: &[&str]| run(&[&["generate"], &options[..], more].concat());
    let together = lines(&generate(&["--prompts", &file, "--together", "3", "--seed", "9"]));
    assert_eq!(together.len(), 5);
    for (index, found) in together.iter().enumerate() {
        let seed = (9 + index).to_string();
        let what = texts.get(index).map_or(["--tokens", "1,403,407"], |text| ["--prompt", text]);
        let alone = lines(&generate(&[&what[..], &["--seed", &seed, "--json"]].concat())).remove(0);
        for key in ["prompt_tokens", "tokens", "text", "stop", "special"] {
            assert_eq!(found[key], alone[key], "{key} of prompt {index}");
        }
        assert_eq!((&found["index"], &found["together"]), (&index.into(), &[3, 3, 3, 2, 2][index].into()));
    }
    std::fs::write(&file, "{\"prompt\": \"a\"}\n{\"prompt\": 3}\n").unwrap();
    refused(&generate(&["--prompts", &file]), 65, &["prompts.jsonl:2", "prompt"]);
    std::fs::write(&file, "{\"tokens\": []}\n").unwrap();
    refused(&generate(&["--prompts", &file]), 64, &["prompt 1"]);
    refused(&generate(&["--prompts", &file, "--together", "0"]), 64, &["--together"]);
    std::fs::write(&file, "{\"tokens\": [1, 2]}\n").unwrap();
    refused(&generate(&["--prompts", &file, "--context-full", "shift"]), 64, &["shift"]);
    refused(
        &generate(&["--prompts", &file, "--context", "3", "--context-full", "error"]),
        64,
        &["prompt 1", "context"],
    );
}

#[test]
fn a_bounded_head_gives_the_same_tokens_and_tells_its_bytes() {
    let Some(model) = model() else { return };
    let usual = ["generate", "--model", &model, "--prompt", "Once upon a time", "--max-tokens", "60", "--json"];
    let with = |more: &[&str]| run(&[&usual[..], more].concat());
    let (full, bounded) = (lines(&with(&[])).remove(0), lines(&with(&["--head", "bounded"])).remove(0));
    assert_eq!((&full["tokens"], &full["text"]), (&bounded["tokens"], &bounded["text"]));
    let (none, head) = (&full["head"], &bounded["head"]);
    assert_eq!((none["kind"].as_str(), &none["bytes_read"]), (Some("full"), &Value::Null));
    let number = |key: &str| head[key].as_u64().unwrap();
    assert_eq!((head["kind"].as_str(), number("head_steps")), (Some("bounded"), 59));
    assert_eq!(none["full_bytes"].as_u64(), Some(number("full_bytes")));
    // Each step reads the copy's first level, of its second the rows left open, one or two panels to see what is the
    // largest, and then the candidates' rows or all of the head.
    let (row, fine_row) = (number("full_bytes") / 512, (number("copy_bytes") - number("first_bytes")) / 512);
    let whole = number("full_steps") * number("full_bytes") + number("rescored_rows") * row;
    let panels = number("bytes_read") - 59 * number("first_bytes") - number("refined_rows") * fine_row - whole;
    assert!(panels % (16 * row) == 0 && (59..=118).contains(&(panels / 16 / row)), "{head}");
    refused(&with(&["--head", "bounded", "--temperature", "0.5"]), 64, &["--head bounded", "--temperature 0"]);
    refused(&with(&["--head", "bounded", "--repetition-penalty", "1.1"]), 64, &["--repetition-penalty 1"]);
    refused(&with(&["--head", "bounded", "--engine", "bf16"]), 64, &["f16", "found bf16"]);
}

/// The packed weights are kept beside the model, found again, and made anew when they are of no use.
#[test]
fn a_cache_is_written_used_and_made_anew() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stories.gguf");
    std::fs::copy(&model, &path).unwrap();
    let path = path.to_str().unwrap();
    let usual = ["generate", "--model", path, "--tokens", "1,2,3", "--max-tokens", "5", "--json"];
    let plain = json(&usual);
    assert!(plain["load_ns"].as_u64().unwrap() > 0 && plain["weight_bytes"].as_u64().unwrap() > 500_000);
    assert!(plain.get("from_cache").is_none());
    let cached = || {
        let output = run(&[&usual[..], &["--cache"]].concat());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        (lines(&output).remove(0), message)
    };
    for from_cache in [false, true] {
        let (answer, message) = cached();
        assert_eq!((&answer["tokens"], &answer["from_cache"]), (&plain["tokens"], &from_cache.into()), "{message}");
        assert!(!message.contains("cache:"), "{message}");
    }
    std::fs::write(format!("{path}.tritmark-f16"), "TRITMARK").unwrap();
    let (answer, message) = cached();
    assert_eq!((&answer["tokens"], &answer["from_cache"]), (&plain["tokens"], &false.into()));
    assert!(message.contains("cache:") && message.contains("stories.gguf.tritmark-f16"), "{message}");
    assert_eq!(cached().0["from_cache"], true);
    refused(&run(&[&usual[..], &["--cache", "--engine", "reference"]].concat()), 64, &["--cache"]);
    let none = ["logits", "--model", "125m", "--tokens", "1", "--cache"];
    refused(&run(&none), 64, &["--cache", "no file"]);
}

/// A ternary file with a Q6_K head: kept, widened, or widened and bounded.
#[test]
fn a_files_head_is_kept_or_widened_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q6.gguf");
    let path = path.to_str().unwrap();
    let shape = ["--set", "hidden=256", "--set", "heads=4", "--set", "kv_heads=4", "--set", "vocab=2000"];
    let synth = ["model", "synth", "--model", "tiny-260k", "--to", "i2_s", "--embedding", "q6_k", "--out", path];
    let made = run(&[&synth[..], &shape].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let usual = ["--model", path, "--tokens", "1,2,3", "--threads", "1"];
    let generate = ["generate", "--max-tokens", "20", "--json", "--engine"];
    let by = |engine: &str, more: &[&str]| json(&[&generate[..], &[engine], &usual, more].concat());
    let of = |more: &[&str]| by("ternary", more);
    let (kept, wide, bounded) = (of(&[]), of(&["--head", "f16"]), of(&["--head", "bounded"]));
    assert_eq!(of(&["--head", "file"])["tokens"], kept["tokens"]);
    let head = |answer: &Value| (answer["head"]["weights"].clone(), answer["head"]["full_bytes"].as_u64().unwrap());
    assert_eq!(head(&kept), ("q6_k".into(), 2000 * 210));
    assert_eq!((head(&wide), head(&bounded)), (("f16".into(), 2000 * 512), ("f16".into(), 2000 * 512)));
    assert_eq!((bounded["head"]["kind"].as_str(), &bounded["tokens"]), (Some("bounded"), &wide["tokens"]));
    // The engine that is bounded by itself; and as the file has it where that is asked for.
    assert_eq!(by("ternary-bounded", &[])["head"]["kind"], "bounded");
    assert_eq!(head(&by("ternary-bounded", &["--head", "file"])), head(&kept));
    let logits = |engine: &str, more: &[&str]| run(&[&["logits", "--engine", engine], &usual[..], more].concat());
    let numbers = |engine: &str, more: &[&str]| lines(&logits(engine, more)).remove(0)["logits"].clone();
    assert_ne!(numbers("ternary", &[]), numbers("ternary", &["--head", "f16"]));
    assert_eq!(numbers("ternary", &["--head", "f16"]), numbers("ternary-bounded", &[]));
    refused(&logits("ternary", &["--head", "bounded"]), 64, &["--head bounded", "generate"]);
    refused(&logits("bf16", &["--head", "f16"]), 64, &["--head f16", "found bf16"]);
    refused(&logits("ternary", &["--head", "full"]), 64, &["full", "file"]);
    let synthetic = ["logits", "--model", "2b4t-q6", "--engine", "ternary", "--tokens", "1", "--head", "f16"];
    refused(&run(&synthetic), 64, &["--head f16", "2b4t-q6", "q6_k"]);
    // Caches of the two lie side by side.
    for (more, file) in [(&[][..], "ternary"), (&["--head", "f16"], "ternary-head-f16")] {
        for from_cache in [false, true] {
            let answer = of(&[more, &["--cache"]].concat());
            assert_eq!(
                (&answer["from_cache"], head(&answer)),
                (&from_cache.into(), if more.is_empty() { head(&kept) } else { head(&wide) })
            );
        }
        assert!(Path::new(&format!("{path}.tritmark-{file}")).exists());
    }
}
