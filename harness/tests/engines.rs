//! The engines as an outsider meets them, through `logits`.

use std::process::{Command, Output};

fn logits(engine: &str, more: &[&str]) -> Output {
    let usual = ["logits", "--model", "tiny-260k", "--engine", engine, "--tokens", "1,2,3,500", "--all", "--kv", "f32"];
    Command::new(env!("CARGO_BIN_EXE_harness")).args([&usual, more].concat()).output().unwrap()
}

fn answer(engine: &str, more: &[&str]) -> serde_json::Value {
    let output = logits(engine, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_reference_prints_what_the_ternary_engine_prints() {
    let (reference, ternary) = (answer("reference", &[]), answer("ternary", &[]));
    assert_eq!((&reference["engine"], &reference["isa"]), (&"reference".into(), &"scalar".into()));
    assert_eq!(reference["logits"].as_array().unwrap().len(), 4);
    assert_eq!(reference["logits"], ternary["logits"]);
    assert_eq!(answer("ternary-1.6", &["--threads", "1"])["logits"], ternary["logits"]);
    let f16 = answer("f16", &[]);
    let bf16 = answer("bf16", &["--threads", "1"]);
    assert_eq!(bf16["logits"], answer("bf16", &["--isa", "scalar"])["logits"]);
    assert_ne!(bf16["logits"], f16["logits"], "rounded activations lose something");
    assert_ne!(f16["logits"], ternary["logits"], "int8 activations lose something");
}

#[test]
fn an_unknown_engine_gets_the_nearest_name() {
    let output = logits("bf61", &[]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(message.contains("did you mean `bf16`"), "{message}");
}
