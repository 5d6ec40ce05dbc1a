use super::*;
use crate::kernels::isa::Kernels;
use crate::model::{Activation, Architecture, Config, Format, RopeStyle, SessionOptions};
use crate::synthetic::{HeadType, SyntheticSpec, build};
use crate::threads::Pool;

/// Runs `body` with a session of `context` positions on a small model.
fn with_session(context: usize, body: impl FnOnce(&mut Session<'_>)) {
    let config = Config {
        arch: Architecture::BitNet,
        hidden: 64,
        ffn: 96,
        layers: 2,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        vocab: 100,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
        context: 64,
        tied: true,
    };
    let model = build(&SyntheticSpec { config, seed: 1, head: HeadType::Q8_0 }, Format::Ternary).unwrap();
    let pool = Pool::new(1, false).unwrap();
    body(&mut Session::new(&model, &pool, Kernels::new(None).unwrap(), SessionOptions::new(context)).unwrap());
}

#[test]
fn greedy_generation_is_the_argmax_loop() {
    with_session(64, |session| {
        let prompt = [3, 1, 4, 1, 5];
        let mut expected = vec![greedy(session.prefill(&prompt).unwrap())];
        for _ in 1..20 {
            expected.push(greedy(session.decode(expected[expected.len() - 1]).unwrap()));
        }
        session.truncate(0);
        let mut seen = Vec::new();
        let made = generate(session, &prompt, 20, &[], Sampling::GREEDY, |token| seen.push(token)).unwrap();
        assert_eq!((&made.tokens, made.stop), (&expected, StopReason::MaxTokens));
        assert_eq!(seen, expected);
        assert_eq!(made.decode_ns.len(), 19);
        assert!(made.ttft_ns > 0 && made.decode_ns.iter().all(|ns| *ns > 0));

        // The fourth token as stop token ends it where that one first came up.
        session.truncate(0);
        let first = expected.iter().position(|token| *token == expected[3]).unwrap();
        let made = generate(session, &prompt, 20, &[expected[3]], Sampling::GREEDY, |_| ()).unwrap();
        assert_eq!((made.tokens.as_slice(), made.stop), (&expected[..first], StopReason::Eos));
    });
}

#[test]
fn a_full_context_ends_generation() {
    with_session(8, |session| {
        let made = generate(session, &[1, 2, 3, 4, 5], 100, &[], Sampling::GREEDY, |_| ()).unwrap();
        // The prompt's last logits give one token, the three positions left one each.
        assert_eq!((made.tokens.len(), made.stop), (4, StopReason::ContextFull));
        assert!(generate(session, &[1], 1, &[], Sampling::GREEDY, |_| ()).is_err());
    });
}

#[test]
fn seeds_decide_and_no_tokens_may_be_asked_for() {
    with_session(64, |session| {
        let mut draw = |seed, max| {
            session.truncate(0);
            let sampling = Sampling { temperature: 1.5, top_k: 50, top_p: 0.95, seed };
            generate(session, &[7], max, &[], sampling, |_| ()).unwrap().tokens
        };
        assert_eq!(draw(1, 30), draw(1, 30));
        assert_ne!(draw(1, 30), draw(2, 30));
        assert!(draw(1, 0).is_empty());
    });
}
