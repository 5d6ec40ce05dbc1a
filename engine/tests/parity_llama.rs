//! The LLaMA family against transformers' own models in float32: scaled RoPE, biases, norms of queries and keys, a sliding
//! window, tied and untied heads, grouped-query attention. Small random checkpoints whose weights f16 and bf16 both hold
//! exactly, with f32 caches: only the rounding of f32 sums is left.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::parity::{Fixture, logits};
use engine::formats::GgufFile;
use engine::generate::Scorer;
use engine::model::{Format, KvType, Session, SessionOptions, load_gguf};
use engine::{Kernels, Pool};
use serde_json::{Value, json};

/// The largest difference of a logit over the root mean square of transformers' logits.
const CLOSE: f64 = 1e-4;

const NAMES: [&str; 5] = ["llama-tied-rope3", "llama-untied-linear", "qwen2-tied", "qwen3-untied", "mistral-window"];

#[test]
fn logits_agree_with_transformers() {
    for fixture in NAMES.map(Fixture::open) {
        for format in [Format::F16, Format::Bf16, Format::Reference] {
            let model = fixture.model(format);
            // bf16 layers round their inputs: so does transformers' model here.
            let key = if format == Format::Bf16 { "prompts_bf16" } else { "prompts" };
            for prompt in fixture.prompts_of(key) {
                let distance = prompt.distance(&logits(&model, &prompt.tokens));
                println!("{} {format:?}, {} tokens: {distance:.1e}", fixture.name, prompt.tokens.len());
                assert!(distance < CLOSE, "{} {format:?}, {} tokens: {distance}", fixture.name, prompt.tokens.len());
            }
        }
    }
}

/// 128 greedy tokens are transformers' wherever its best logit leads by more than two logits may be off; where it does
/// not, its choice is followed.
#[test]
fn greedy_text_is_transformers() {
    for fixture in NAMES.map(Fixture::open) {
        let model = fixture.model(Format::F16);
        let read = |key: &str| fixture.expected["greedy"][key].clone();
        let prompt: Vec<u32> = serde_json::from_value(read("prompt")).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(read("tokens")).unwrap();
        let margins: Vec<f64> = serde_json::from_value(read("margins")).unwrap();
        assert_eq!((tokens.len(), margins.len()), (128, 128));
        let pool = Pool::new(1, false).unwrap();
        let options = SessionOptions { kv: KvType::F32, ..SessionOptions::new(prompt.len() + tokens.len()) };
        let mut session = Session::new(&model, &pool, Kernels::new(None).unwrap(), options).unwrap();
        let mut row = session.prefill(&prompt).unwrap().to_vec();
        let mut certain = 0;
        for (step, (&token, &margin)) in tokens.iter().zip(&margins).enumerate() {
            let rms = (row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64).sqrt();
            if margin > 2.0 * CLOSE * rms {
                assert_eq!(engine::generate::greedy(&row), token, "{} at step {step}", fixture.name);
                certain += 1;
            }
            row = session.decode(token).unwrap().to_vec();
        }
        println!("{}: {certain} of 128 tokens with a margin above the bound, all equal", fixture.name);
        assert!(certain > 120, "{}: {certain}", fixture.name);
    }
}

/// Each part that sets these models apart, left out or taken wrongly, is caught.
#[test]
fn a_part_left_out_is_caught() {
    type Change = fn(&mut Value);
    let faults: [(&str, &str, Change); 6] = [
        ("llama-tied-rope3", "RoPE not scaled", |config| config["rope_scaling"] = Value::Null),
        ("llama-tied-rope3", "RoPE scaled linearly", |config| {
            config["rope_scaling"] = json!({ "rope_type": "linear", "factor": 8.0 });
        }),
        ("llama-untied-linear", "RoPE not scaled", |config| config["rope_scaling"] = Value::Null),
        ("mistral-window", "no window", |config| config["sliding_window"] = Value::Null),
        ("mistral-window", "a window of one more", |config| config["sliding_window"] = json!(12)),
        ("qwen3-untied", "another epsilon", |config| config["rms_norm_eps"] = json!(1e-2)),
    ];
    for (name, what, change) in faults {
        let fixture = Fixture::open(name);
        let model = fixture.spoilt(Format::F16, change);
        let [_, prompt, _] = fixture.prompts();
        let distance = prompt.distance(&logits(&model, &prompt.tokens));
        println!("{name}, {what}: {distance:.1e}");
        assert!(distance > 10.0 * CLOSE, "{name}, {what}: {distance}");
    }
}

/// How far the perplexity of the same token ids may be off, as a share.
const PERPLEXITY: f64 = 1e-3;

/// SmolLM2 as transformers evaluates it after dequantising the file itself, matrices rounded to f16 as ours are: logits,
/// 128 greedy tokens, and the perplexity of two windows of WikiText-2 (`scripts/oracle/transformers_smollm.py`).
#[test]
fn smollm_is_transformers() {
    let Some(path) = common::data("smollm2-135m-instruct-q4_1.gguf") else { return };
    let model = load_gguf(&GgufFile::open(path).unwrap(), Format::F16).unwrap();
    let golden = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/smollm2-transformers.json"));
    let golden: Smol = serde_json::from_slice(&golden.unwrap()).unwrap();
    let pool = Pool::new(2, false).unwrap();
    let options = SessionOptions { kv: KvType::F32, ..SessionOptions::new(256) };
    let mut session = Session::new(&model, &pool, Kernels::new(None).unwrap(), options).unwrap();

    let all = [golden.prompt_tokens.clone(), golden.tokens.clone()].concat();
    let rows = session.prefill_all(&all).unwrap();
    let rows: Vec<&[f32]> = rows.chunks(model.config().vocab).collect();
    let mut worst = 0.0f64;
    for (position, truth) in &golden.logits {
        let row = rows[position.parse::<usize>().unwrap()].iter().step_by(golden.logit_step);
        assert_eq!(row.len(), truth.len());
        worst = row.zip(truth).map(|(found, truth)| (f64::from(*found) - truth).abs()).fold(worst, f64::max);
    }
    println!("logits: {:.1e}", worst / golden.rms);
    assert!(worst / golden.rms < CLOSE, "{}", worst / golden.rms);

    let steps = golden.tokens.iter().zip(&golden.margins).zip(&rows[golden.prompt_tokens.len() - 1..]);
    let certain: Vec<_> = steps.filter(|((_, margin), _)| **margin > 2.0 * CLOSE).collect();
    println!("{} of 128 tokens with a margin above the bound", certain.len());
    assert!(golden.tokens.len() == 128 && certain.len() > 120);
    certain.iter().for_each(|((token, _), row)| assert_eq!(engine::generate::greedy(row), **token));

    let mut scorer = Scorer::new(&mut session);
    let (mut ours, mut theirs, mut count) = (0.0, 0.0, 0);
    for window in &golden.windows {
        ours += scorer.score(&window.tokens, 1).unwrap().loglikelihood;
        theirs += window.loglikelihood;
        count += window.tokens.len() - 1;
    }
    let perplexity = |sum: f64| (-sum / f64::from(count as u32)).exp();
    let (ours, theirs) = (perplexity(ours), perplexity(theirs));
    println!("perplexity of {count} tokens: {ours}, of transformers {theirs}");
    assert!((ours / theirs - 1.0).abs() < PERPLEXITY, "{ours}, not {theirs}");
}

/// What transformers says of SmolLM2.
#[derive(serde::Deserialize)]
struct Smol {
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    margins: Vec<f64>,
    rms: f64,
    logit_step: usize,
    logits: BTreeMap<String, Vec<f64>>,
    windows: Vec<Window>,
}

#[derive(serde::Deserialize)]
struct Window {
    tokens: Vec<u32>,
    loglikelihood: f64,
}
