//! What a bounded head leaves open: `cargo run --release -p engine --example head -- FILE.gguf TEXT TOKENS` decodes a text's
//! tokens with a file's f16 head and its copy; `-- synthetic HIDDEN VOCAB STEPS` a head of random weights with random
//! activations. Every token is held against the whole head's.

use std::time::Instant;

use engine::bounded::{BoundedHead, HeadReads};
use engine::formats::GgufFile;
use engine::generate::greedy;
use engine::model::{Config, Format, Model, Session, SessionOptions, load_gguf};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::threads::Pool;
use engine::tokenizer::Tokenizer;
use engine::{Isa, Kernels};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["synthetic", hidden, vocab, steps] => {
            let model = synthetic(hidden.parse()?, vocab.parse()?)?;
            let tokens: Vec<u32> =
                (0..steps.parse()?).map(|i: u32| i * 7919 % vocab.parse::<u32>().unwrap_or(1)).collect();
            run(&model, &tokens)
        }
        [file, text, tokens] => {
            let file = GgufFile::open(file)?;
            let ids = Tokenizer::from_gguf(&file)?.encode_prompt(&std::fs::read_to_string(text)?)?;
            run(&load_gguf(&file, Format::F16)?, &ids[..ids.len().min(tokens.parse()?)])
        }
        _ => Err("expected FILE.gguf TEXT TOKENS, or synthetic HIDDEN VOCAB STEPS".into()),
    }
}

fn run(model: &Model, tokens: &[u32]) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let (pool, kernels) = (Pool::new(2, true)?, Kernels::new(Some(Isa::best()))?);
    let head = BoundedHead::of(model, &pool, kernels)?;
    println!(
        "copied in {:.2} s, {} bytes beside {}, {} columns kept",
        start.elapsed().as_secs_f64(),
        head.bytes(),
        head.exact_bytes(),
        head.kept().len()
    );
    let options = SessionOptions::new(256.min(model.config().context));
    let mut dense = Session::new(model, &pool, kernels, options)?;
    let mut bounded = Session::new(model, &pool, kernels, options)?;
    bounded.use_bounded_head(&head)?;
    let (mut wrong, mut worst, mut refined) = (0, 0, Vec::new());
    let (mut times, mut last) = ([0.0; 2], HeadReads::default());
    for (index, &token) in tokens.iter().enumerate() {
        if index % options.context == 0 {
            dense.truncate(0);
            bounded.truncate(0);
        }
        let start = Instant::now();
        let want = greedy(dense.decode(token)?);
        let between = Instant::now();
        wrong += u32::from(bounded.decode_greedy(token)? != want);
        times[0] += (between - start).as_secs_f64();
        times[1] += between.elapsed().as_secs_f64();
        let reads = bounded.head_reads().unwrap_or_default();
        worst = worst.max(reads.bytes - last.bytes);
        refined.push(reads.refined_rows - last.refined_rows);
        last = reads;
    }
    refined.sort_unstable();
    let quantile = |q: usize| refined[(refined.len() - 1) * q / 100];
    let steps = last.steps as f64;
    println!(
        "{steps} steps, {wrong} wrong; rows of the second level: mean {:.1}, p50 {}, p90 {}, p99 {}, most {}; rows of f16 {:.1}, \
         full steps {}; bytes {:.0} a step, at worst {worst}, {:.3} of the f16 head; ms a token {:.3} dense, {:.3} bounded",
        last.refined_rows as f64 / steps,
        quantile(50),
        quantile(90),
        quantile(99),
        quantile(100),
        last.rescored_rows as f64 / steps,
        last.full_steps,
        last.bytes as f64 / steps,
        last.bytes as f64 / steps / head.exact_bytes() as f64,
        times[0] * 1e3 / steps,
        times[1] * 1e3 / steps,
    );
    Ok(())
}

fn synthetic(hidden: usize, vocab: usize) -> Result<Model, Box<dyn std::error::Error>> {
    let config = Config {
        hidden,
        ffn: hidden,
        heads: hidden / 64,
        kv_heads: hidden / 64,
        head_dim: 64,
        vocab,
        context: 256,
        ..Config::small()
    };
    Ok(build(&SyntheticSpec { config, seed: 1, head: HeadType::F16, gate_zeros: None }, Format::Ternary)?)
}
