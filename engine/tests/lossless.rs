//! The papers' lossless test: greedy text of the ternary engine against an f32 evaluation of the same quantised function.
//!
//! "The same function" means activations rounded to int8 as the model defines it, those integers multiplied by trits and
//! summed without loss (an f64 sum of such products is exact), scaled once at the end. That is what [`Format::Reference`]
//! computes, in plain loops over f32 weights that share no code with the packed kernels. The text must be equal to the
//! last token, and so must the logits behind it to the last bit: a difference of one bit could flip an int8 rounding
//! later on.

mod common;

use std::collections::BTreeSet;

use common::parity::Fixture;
use engine::model::{Batch, Config, Format, KvType, Model, Session, SessionOptions};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::{Isa, Kernels, Pool};
use rayon::prelude::*;

const PROMPTS: usize = 100;
const TOKENS: usize = 100;

fn small() -> Config {
    Config { hidden: 96, ffn: 200, heads: 6, vocab: 301, context: 128, ..common::small() }
}

fn spec(config: Config) -> SyntheticSpec {
    SyntheticSpec { config, seed: 7, head: HeadType::F16, gate_zeros: None }
}

/// Prompts of 1 to 23 tokens, no two alike.
fn prompt(index: usize, vocab: usize) -> Vec<u32> {
    (0..1 + index * 7 % 23).map(|i| ((index * 7919 + i * (i + 31) * 17 + 5) % vocab) as u32).collect()
}

/// A greedy text in the making, and a hash (FNV-1a) of the bits of all logits that it was chosen from.
#[derive(Clone, PartialEq)]
struct Text {
    tokens: Vec<u32>,
    hash: u64,
}

impl Text {
    fn new() -> Text {
        Text { tokens: Vec::new(), hash: 0xcbf2_9ce4_8422_2325 }
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        for logit in logits {
            self.hash = (self.hash ^ u64::from(logit.to_bits())).wrapping_mul(0x0100_0000_01b3);
        }
        self.tokens.push(engine::generate::greedy(logits));
        self.tokens[self.tokens.len() - 1]
    }
}

const OPTIONS: SessionOptions = SessionOptions { context: 128, kv: KvType::F16, max_batch: 64 };

/// Each prompt in a session of its own.
fn alone(model: &Model, isa: Isa) -> Vec<Text> {
    let kernels = Kernels::new(Some(isa)).unwrap();
    let tell = |index| {
        let pool = Pool::new(1, false).unwrap();
        let mut session = Session::new(model, &pool, kernels, OPTIONS).unwrap();
        let mut text = Text::new();
        let mut next = text.choose(session.prefill(&prompt(index, model.config().vocab)).unwrap());
        while text.tokens.len() < TOKENS {
            next = text.choose(session.decode(next).unwrap());
        }
        text
    };
    (0..PROMPTS).into_par_iter().map(tell).collect()
}

/// All prompts together, on some threads.
fn together(model: &Model, isa: Isa, threads: usize) -> Vec<Text> {
    let (kernels, vocab) = (Kernels::new(Some(isa)).unwrap(), model.config().vocab);
    let pool = Pool::new(threads, false).unwrap();
    let mut batch = Batch::new(model, &pool, kernels, OPTIONS, PROMPTS).unwrap();
    let mut texts = vec![Text::new(); PROMPTS];
    let mut next: Vec<Vec<u32>> = (0..PROMPTS).map(|index| prompt(index, vocab)).collect();
    for _ in 0..TOKENS {
        let slices: Vec<&[u32]> = next.iter().map(Vec::as_slice).collect();
        let rows = batch.append(&slices).unwrap().chunks(vocab);
        next = texts.iter_mut().zip(rows).map(|(text, logits)| vec![text.choose(logits)]).collect();
    }
    texts
}

/// Every ISA and thread count against the reference.
fn lossless(name: &str, make: impl Fn(Format) -> Model) {
    let truth = alone(&make(Format::Reference), Isa::Scalar);
    let model = make(Format::Ternary);
    for isa in Isa::available() {
        equal(&format!("{name}, {isa}"), &alone(&model, isa), &truth);
        // Scalar code is slow: one thread count.
        let threads = if isa == Isa::Scalar { [2].as_slice() } else { &[1, 2, 3] };
        for &threads in threads {
            equal(&format!("{name}, {isa}, batch, {threads} threads"), &together(&model, isa, threads), &truth);
        }
    }
}

fn equal(what: &str, found: &[Text], truth: &[Text]) {
    let same = same(found, truth);
    println!("{what}: {same} of {} tokens are the reference's", PROMPTS * TOKENS);
    assert_eq!(same, PROMPTS * TOKENS, "{what}");
    assert!(found == truth, "{what}: logits differ in some bit");
}

fn same(found: &[Text], truth: &[Text]) -> usize {
    found.iter().zip(truth).map(|(found, truth)| matches(&found.tokens, &truth.tokens)).sum()
}

fn matches(found: &[u32], truth: &[u32]) -> usize {
    found.iter().zip(truth).filter(|(found, truth)| found == truth).count()
}

#[test]
fn a_hundred_greedy_texts_of_a_hundred_tokens_are_the_references() {
    lossless("synthetic", |format| build(&spec(small()), format).unwrap());
}

/// The same for Hugging Face folders, whose scales multiply, divide or come from master weights.
#[test]
fn texts_of_folders_are_the_references() {
    for name in ["bitnet-offline-untied", "bitnet-legacy-tied", "bitnet-online-tied", "llama-bitlinear"] {
        let fixture = Fixture::open(name);
        lossless(name, |format| fixture.model(format));
    }
}

/// The comparison can fail: the same weights without activation quantisation tell other stories.
#[test]
fn without_activation_quantisation_the_texts_part() {
    let truth = alone(&build(&spec(small()), Format::Reference).unwrap(), Isa::Scalar);
    let same = same(&alone(&build(&spec(small()), Format::F16).unwrap(), Isa::best()), &truth);
    let texts: BTreeSet<&Vec<u32>> = truth.iter().map(|text| &text.tokens).collect();
    println!("f16: {same} of {} tokens; {} different texts", PROMPTS * TOKENS, texts.len());
    assert!(texts.len() == PROMPTS && same < PROMPTS * TOKENS * 9 / 10, "{same} tokens, {} texts", texts.len());
}
