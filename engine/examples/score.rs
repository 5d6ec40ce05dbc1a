//! What scoring choices together saves: `cargo run --release -p engine --example score -- SHAPE ENGINE THREADS ITEMS ROUNDS`
//! scores items of four choices (a context of about 40 tokens, choices of about 6), as ARC's are, with random weights of the
//! shape (`125m`, `350m`, `700m`; `125m-128k` with LLaMA 3's vocabulary), engine `ternary` or `f16`, in four ways:
//! a forward pass a choice (context and choice in one batch) with the logits of every position, as lm-evaluation-harness asks of its
//! models (`HFLM._loglikelihood_tokens`), the same with the logits of the choice alone, `Scorer`, and `BatchScorer`.
//!
//! The ways take turns, item order the same, and their scores are compared bit for bit. Times of a round are printed, and
//! the medians' ratios. Words behind the five: `one`, choices of one token, as MMLU's letters; `shots`, contexts of some 400 tokens, as few-shot
//! prompts have.

use std::time::Instant;

use engine::generate::{BatchScorer, Request, Score, Scorer, greedy};
use engine::model::{Batch, Config, Format, Model, Session, SessionOptions};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::threads::Pool;
use engine::{Isa, Kernels};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ([shape, engine, threads, items, rounds], rest) = arguments.split_first_chunk().ok_or("see the source")?;
    let config = config(shape)?;
    let format = if *engine == "f16" { Format::F16 } else { Format::Ternary };
    let requests = requests(items.parse()?, config.vocab, rest);
    let model = build(&SyntheticSpec { config, seed: 1, head: HeadType::F16, gate_zeros: None }, format)?;
    let pool = Pool::new(threads.parse()?, true)?;
    let ways = compare(&model, &pool, &requests, rounds.parse()?)?;
    let [whole, forward, one_by_one, together] = ways.map(median);
    println!(
        "{shape} {engine} {threads} threads, {} choices: {:.2}x over a forward pass a choice, {:.2}x over one of its logits alone, {:.2}x \
         over Scorer",
        requests.len(),
        whole / together,
        forward / together,
        one_by_one / together
    );
    Ok(())
}

/// The shapes of arXiv 2410.16144, appendix A.
fn config(shape: &str) -> Result<Config, Failure> {
    let (hidden, ffn, layers, heads, vocab) = match shape {
        "125m" => (768, 3072, 11, 12, 32_002),
        "125m-128k" => (768, 3072, 11, 12, 128_256),
        "350m" => (1024, 4096, 22, 16, 32_002),
        "700m" => (1536, 4096, 23, 16, 32_002),
        _ => return Err("shapes: 125m, 125m-128k, 350m, 700m".into()),
    };
    let (kv_heads, head_dim, context) = (heads, hidden / heads, 8192);
    Ok(Config { hidden, ffn, layers, heads, kv_heads, head_dim, vocab, context, ..Config::small() })
}

/// Tokens of context and choice, and where the choice begins.
fn requests(items: usize, vocab: usize, words: &[&str]) -> Vec<(Vec<u32>, usize)> {
    let shortest = if words.contains(&"shots") { 392 } else { 32 };
    let mut state = 1u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let mut all = Vec::new();
    for _ in 0..items {
        let len = shortest + below(17);
        let context: Vec<u32> = (0..len).map(|_| below(vocab) as u32).collect();
        for _ in 0..4 {
            let mut tokens = context.clone();
            let len = if words.contains(&"one") { 1 } else { 4 + below(5) };
            tokens.extend((0..len).map(|_| below(vocab) as u32));
            all.push((tokens, context.len()));
        }
    }
    all
}

/// Seconds of each way by round.
fn compare(
    model: &Model,
    pool: &Pool,
    requests: &[(Vec<u32>, usize)],
    rounds: usize,
) -> Result<[Vec<f64>; 4], Failure> {
    let kernels = Kernels::new(Some(Isa::best()))?;
    let longest = requests.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(1);
    let options = SessionOptions::new(longest);
    let mut single = Batch::new(model, pool, kernels, options, 1)?;
    let mut session = Session::new(model, pool, kernels, options)?;
    let mut scorer = BatchScorer::new(model, pool, kernels, options, 1 << 30)?;
    let together: Vec<_> =
        requests.iter().map(|(tokens, first)| Request { tokens: tokens.clone(), first: *first }).collect();
    let mut times = [const { Vec::new() }; 4];
    // The first warms up.
    for round in 0..=rounds {
        let mut ways = [const { Vec::new() }; 4];
        let mut seconds = [0.0; 4];
        for (way, (scores, seconds)) in ways.iter_mut().zip(&mut seconds).enumerate() {
            let start = Instant::now();
            *scores = match way {
                0 | 1 => requests.iter().map(|r| alone(&mut single, r, way == 0)).collect::<Result<Vec<Score>, _>>()?,
                2 => {
                    let mut one_by_one = Scorer::new(&mut session);
                    let scored = requests.iter().map(|(tokens, first)| one_by_one.score(tokens, *first));
                    scored.collect::<Result<_, _>>()?
                }
                _ => scorer.score(&together)?.into_iter().collect::<Result<_, _>>()?,
            };
            *seconds = start.elapsed().as_secs_f64();
        }
        if ways.iter().any(|scores| *scores != ways[3]) {
            return Err("the scores differ".into());
        }
        let [whole, forward, one_by_one, batched] = seconds;
        println!(
            "round {round}: {whole:.3} s, {forward:.3} s, {one_by_one:.3} s, {batched:.3} s, {:.2}x, {:.2}x",
            whole / batched,
            forward / batched
        );
        if round > 0 {
            times.iter_mut().zip(seconds).for_each(|(times, seconds)| times.push(seconds));
        }
    }
    Ok(times)
}

/// Context and choice in one batch, from nothing; logits of `every` position, or of the choice alone.
fn alone(batch: &mut Batch<'_>, (tokens, first): &(Vec<u32>, usize), every: bool) -> Result<Score, Failure> {
    batch.truncate(0, 0);
    let rows: Vec<usize> = (if every { 0 } else { first - 1 }..tokens.len() - 1).collect();
    let found = batch.append_rows(&[&tokens[..tokens.len() - 1]], &[&rows], |_, token, logits| {
        if token + 1 < *first {
            return None;
        }
        let target = tokens[token + 1];
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        Some((f64::from(logits[target as usize]) - largest - sum.ln(), greedy(logits) == target))
    })?;
    let mut score = Score { loglikelihood: 0.0, tokens: 0, greedy: true };
    for (logarithm, greedy) in found.into_iter().flatten() {
        score.loglikelihood += logarithm;
        score.tokens += 1;
        score.greedy &= greedy;
    }
    Ok(score)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
