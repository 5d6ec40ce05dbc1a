//! BitNet b1.58 against transformers' own model in float32, number by number: small random checkpoints in every
//! convention, with f32 caches. An f16 cache would drown what some of the faults below do.
//!
//! Distances are the largest difference of a logit over the root mean square of transformers' logits.

mod common;

use common::evaluator::{Checkpoint, Fault, How};
use common::parity::{Fixture, logits};
use engine::model::Format;
use serde_json::json;

/// Prompts of 1 and 17 tokens, chosen so that no activation lies on the edge between two int8 values: only float
/// rounding is left.
const CLOSE: f64 = 1e-4;

/// A fault must be this far off at 17 tokens.
const CAUGHT: f64 = 10.0 * CLOSE;

/// What f32 arithmetic does to an activation, relative to the largest of its token: a few units in the last place, as
/// norms, attention and sums of products leave them.
const NOISE: f64 = 5e-7;

const BITNET: [&str; 5] = [
    "bitnet-offline-tied",
    "bitnet-offline-untied",
    "bitnet-legacy-untied",
    "bitnet-legacy-tied",
    "bitnet-online-tied",
];

/// The five, and a LLaMA of the legacy BitLinear (as HF1BitLLM's Llama3-8B-1.58).
fn fixtures() -> impl Iterator<Item = Fixture> {
    BITNET.into_iter().chain(["llama-bitlinear"]).map(Fixture::open)
}

#[test]
fn one_and_seventeen_tokens_agree_with_transformers() {
    for fixture in fixtures() {
        for format in [Format::Ternary, Format::Reference] {
            let model = fixture.model(format);
            for prompt in &fixture.prompts()[..2] {
                let distance = prompt.distance(&logits(&model, &prompt.tokens));
                println!("{} {format:?}, {} tokens: {distance:.1e}", fixture.name, prompt.tokens.len());
                assert!(distance < CLOSE, "{} {format:?}, {} tokens: {distance}", fixture.name, prompt.tokens.len());
            }
        }
    }
}

/// Over 64 tokens some activations do lie on an edge. How far two honest implementations may part is taken from our
/// evaluator in f64: the most that any of 16 evaluations with float-sized noise before the rounding is off from the one
/// without, doubled, as two implementations each have their own noise.
#[test]
fn sixty_four_tokens_agree_as_far_as_int8_rounding_lets_them() {
    for fixture in fixtures() {
        let [_, _, prompt] = fixture.prompts();
        let checkpoint = Checkpoint::open(&fixture.folder());
        let exact = checkpoint.logits(&prompt.tokens, How::faulty(Fault::None));
        let noisy = |seed| checkpoint.logits(&prompt.tokens, How { fault: Fault::None, noise: NOISE, seed });
        let spread = (0..16).map(|seed| prompt.distance_between(&noisy(seed), &exact)).fold(0.0, f64::max);
        let bound = CLOSE + 2.0 * spread;
        let found = logits(&fixture.model(Format::Ternary), &prompt.tokens);
        let (ours, theirs, apart) =
            (prompt.distance_between(&found, &exact), prompt.distance(&exact), prompt.distance(&found));
        println!(
            "{}: ours to f64 {ours:.1e}, transformers to f64 {theirs:.1e}, ours to transformers {apart:.1e}; \
             bound {bound:.1e}",
            fixture.name
        );
        assert!(bound < 0.15, "{}: a bound of {bound} would let faults pass", fixture.name);
        assert!(ours < bound && theirs < bound && apart < bound, "{}: {ours} {theirs} {apart}", fixture.name);
    }
}

/// The evaluator in f64 agrees with transformers, and with any one fault it does not: the comparison sees them all.
#[test]
fn every_planted_fault_is_caught() {
    for fixture in fixtures() {
        let [_, prompt, _] = fixture.prompts();
        let checkpoint = Checkpoint::open(&fixture.folder());
        let distance = |fault| prompt.distance(&checkpoint.logits(&prompt.tokens, How::faulty(fault)));
        let right = distance(Fault::None);
        println!("{}: {right:.1e}", fixture.name);
        assert!(right < CLOSE, "{}: {right}", fixture.name);
        for fault in Fault::ALL.into_iter().filter(|&fault| checkpoint.shows(fault)) {
            let wrong = distance(fault);
            println!("    {fault:?}: {wrong:.1e}");
            assert!(wrong > CAUGHT, "{} {fault:?}: {wrong}", fixture.name);
        }
    }
}

/// The same faults in the engine itself, as far as a wrong file or a wrong engine brings them about.
#[test]
fn an_engine_with_a_fault_is_caught() {
    for fixture in fixtures() {
        let [_, prompt, _] = fixture.prompts();
        let caught = |what: &str, model| {
            let distance = prompt.distance(&logits(&model, &prompt.tokens));
            println!("{} {what}: {distance:.1e}", fixture.name);
            assert!(distance > CAUGHT, "{} {what}: {distance}", fixture.name);
        };
        caught("without activation quantisation", fixture.model(Format::F16));
        let act = if fixture.name.starts_with("llama") { "relu2" } else { "silu" };
        caught("the other activation", fixture.spoilt(Format::Ternary, |config| config["hidden_act"] = json!(act)));
        caught("another base", fixture.spoilt(Format::Ternary, |config| config["rope_theta"] = json!(10_000.0)));
        if fixture.name.contains("online") {
            continue;
        }
        let class = if fixture.name.contains("offline") { "bitlinear" } else { "autobitlinear" };
        let swap = |config: &mut serde_json::Value| config["quantization_config"]["linear_class"] = json!(class);
        caught("the inverse scale", fixture.spoilt(Format::Ternary, swap));
    }
}
