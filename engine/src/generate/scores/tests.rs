use super::super::{Scorer, tests::model};
use super::*;
use crate::model::{Config, Format, KvType};
use crate::synthetic::{HeadType, SyntheticSpec, build};
use proptest::prelude::*;

/// The same by the scorer that takes one after the other.
fn alone(model: &Model, requests: &[Request], options: SessionOptions) -> Vec<Result<Score>> {
    let (pool, kernels) = (Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
    let mut session = Session::new(model, &pool, kernels, options).unwrap();
    let mut scorer = Scorer::new(&mut session);
    requests.iter().map(|request| scorer.score(&request.tokens, request.first)).collect()
}

fn bits(scores: &[Result<Score>]) -> Vec<Option<(u64, usize, bool)>> {
    scores.iter().map(|score| score.as_ref().ok().map(|s| (s.loglikelihood.to_bits(), s.tokens, s.greedy))).collect()
}

fn check(model: &Model, requests: &[Request], options: SessionOptions, cache_bytes: u64) {
    let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
    let mut scorer = BatchScorer::new(model, &pool, kernels, options, cache_bytes).unwrap();
    let expected = bits(&alone(model, requests, options));
    assert_eq!(bits(&scorer.score(requests).unwrap()), expected);
    // What is left in its caches does not matter.
    let turned: Vec<Request> = requests.iter().rev().cloned().collect();
    assert!(bits(&scorer.score(&turned).unwrap()).into_iter().rev().eq(expected));
}

fn request(tokens: &[u32], first: usize) -> Request {
    Request { tokens: tokens.to_vec(), first }
}

/// Items with a preamble, each with some choices, of ragged lengths.
fn items(preamble: usize, items: u32, choices: u32) -> Vec<Request> {
    let preamble: Vec<u32> = (0..preamble as u32).map(|i| (i * 7 + 3) % 100).collect();
    let mut requests = Vec::new();
    for item in 0..items {
        let context: Vec<u32> = (0..20 + item % 5).map(|i| (i * i + item * 11 + 1) % 100).collect();
        for choice in 0..choices {
            let choice: Vec<u32> = (0..1 + (choice * item) % 6).map(|i| (i * 13 + choice * 17 + item) % 100).collect();
            let first = preamble.len() + context.len();
            requests.push(request(&[preamble.clone(), context.clone(), choice].concat(), first));
        }
    }
    requests
}

#[test]
fn scores_are_those_of_one_after_the_other() {
    let of = |config: Config, format: Format| {
        let spec = SyntheticSpec { config, seed: 3, head: HeadType::F16, gate_zeros: None };
        build(&spec, format).unwrap()
    };
    let ternary = of(Config { context: 128, ..Config::small() }, Format::Ternary);
    for kv in [KvType::F16, KvType::F32, KvType::Int8] {
        for max_batch in [512, 7] {
            let options = SessionOptions { kv, max_batch, ..SessionOptions::new(128) };
            check(&ternary, &items(0, 9, 4), options, u64::MAX);
            check(&ternary, &items(60, 9, 4), options, u64::MAX);
            check(&ternary, &items(60, 5, 3), options, 0);
        }
    }
    let windowed = Config { sliding_window: Some(16), context: 128, ..Config::small() };
    check(&of(windowed, Format::F16), &items(40, 6, 3), SessionOptions::new(128), u64::MAX);
}

#[test]
fn odd_requests_have_their_scores_too() {
    let long: Vec<u32> = (0..40).map(|i| (i * 3 + 1) % 100).collect();
    let requests = [
        request(&long, 39),
        request(&long, 39),
        request(&long, 1),
        request(&long[..20], 19),
        request(&long[..20], 5),
        request(&[&long[..20], &[5, 6, 7]].concat(), 20),
        request(&[9, 8], 1),
        request(&[9, 9], 1),
    ];
    check(&model(), &requests, SessionOptions::new(64), u64::MAX);
    check(&model(), &requests, SessionOptions::new(64), 0);
    let (model, pool, kernels) = (model(), Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
    let mut scorer = BatchScorer::new(&model, &pool, kernels, SessionOptions::new(8), u64::MAX).unwrap();
    assert!(scorer.score(&[]).unwrap().is_empty());
    let scores = scorer.score(&[
        request(&[1], 1),
        request(&[1, 2], 0),
        request(&[1, 100], 1),
        request(&long[..10], 1),
        request(&long[..9], 1),
    ]);
    let scores = scores.unwrap();
    assert!(matches!(scores[0], Err(Error::EmptyPrompt)) && matches!(scores[1], Err(Error::EmptyPrompt)));
    assert!(matches!(scores[2], Err(Error::Token { index: 1, .. })));
    assert!(matches!(scores[3], Err(Error::ContextFull { tokens: 9, .. })) && scores[4].is_ok());
    assert!(BatchScorer::new(&model, &pool, kernels, SessionOptions::new(1 << 20), 1).is_err());
    assert!(BatchScorer::new(&model, &pool, kernels, SessionOptions::new(0), 1).is_err());
}

#[test]
fn what_is_shared_is_evaluated_once() {
    let requests = items(60, 4, 4);
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by(|&a, &b| requests[a].read().cmp(requests[b].read()));
    let tree = Tree::new(&requests, &order);
    let evaluated: usize = tree.nodes.iter().map(|node| node.tokens.len()).sum();
    let asked: usize = requests.iter().map(|request| request.read().len()).sum();
    // The preamble, four contexts, and little else.
    assert!(evaluated < 60 + 4 * 24 + 16 * 6 && asked > 16 * 80, "{evaluated} of {asked}");
    // One row of logits scores every one-token choice of a context.
    let choices: Vec<Request> = (0..4).map(|choice| request(&[&[1; 30][..], &[choice]].concat(), 30)).collect();
    let tree = Tree::new(&choices, &[0, 1, 2, 3]);
    assert_eq!(tree.nodes.len(), 1);
    assert_eq!((tree.nodes[0].rows.as_slice(), tree.nodes[0].targets(29).len()), (&[29][..], 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any texts over few letters, which share much.
    #[test]
    fn any_texts(texts in prop::collection::vec((prop::collection::vec(0u32..3, 2..40), 0.0f64..1.0), 1..20), cache in 0u64..200_000) {
        let cut = |(tokens, at): (Vec<u32>, f64)| {
            let first = 1 + (at * (tokens.len() - 1) as f64) as usize;
            Request { first: first.min(tokens.len() - 1), tokens }
        };
        let requests: Vec<Request> = texts.into_iter().map(cut).collect();
        check(&model(), &requests, SessionOptions::new(64), cache);
    }
}
