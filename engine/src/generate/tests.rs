use super::*;
use crate::kernels::isa::Kernels;
use crate::model::{Config, Format, Model, SessionOptions};
use crate::synthetic::{HeadType, SyntheticSpec, build};
use crate::threads::Pool;

/// A small model.
pub(super) fn model() -> Model {
    let config = Config { kv_heads: 4, ..Config::small() };
    build(&SyntheticSpec { config, seed: 1, head: HeadType::Q8_0, gate_zeros: None }, Format::Ternary).unwrap()
}

/// Runs `body` with a session of `context` positions on it.
fn with_session(context: usize, body: impl FnOnce(&mut Session<'_>)) {
    let model = model();
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
        let made = generate(session, &prompt, 20, &[], Sampling::GREEDY, |token| {
            seen.push(token);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!((&made.tokens, made.stop), (&expected, StopReason::MaxTokens));
        assert_eq!(seen, expected);
        assert_eq!(made.decode_ns.len(), 19);
        assert!(made.ttft_ns > 0 && made.decode_ns.iter().all(|ns| *ns > 0));

        // The fourth token as stop token ends it where that one first came up.
        session.truncate(0);
        let first = expected.iter().position(|token| *token == expected[3]).unwrap();
        let made =
            generate(session, &prompt, 20, &[expected[3]], Sampling::GREEDY, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((made.tokens.as_slice(), made.stop), (&expected[..first], StopReason::Eos));
    });
}

#[test]
fn a_full_context_ends_generation() {
    with_session(8, |session| {
        let made =
            generate(session, &[1, 2, 3, 4, 5], 100, &[], Sampling::GREEDY, |_| ControlFlow::Continue(())).unwrap();
        // The prompt's last logits give one token, the three positions left one each.
        assert_eq!((made.tokens.len(), made.stop), (4, StopReason::ContextFull));
        assert!(generate(session, &[1], 1, &[], Sampling::GREEDY, |_| ControlFlow::Continue(())).is_err());
    });
}

#[test]
fn seeds_decide_and_no_tokens_may_be_asked_for() {
    with_session(64, |session| {
        let mut draw = |seed, max| {
            session.truncate(0);
            let sampling = Sampling { temperature: 1.5, top_k: 50, top_p: 0.95, seed, ..Sampling::GREEDY };
            generate(session, &[7], max, &[], sampling, |_| ControlFlow::Continue(())).unwrap().tokens
        };
        assert_eq!(draw(1, 30), draw(1, 30));
        assert_ne!(draw(1, 30), draw(2, 30));
        assert!(draw(1, 0).is_empty());
    });
}

#[test]
fn the_caller_may_end_it() {
    with_session(64, |session| {
        let mut left = 3;
        let count = |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let made = generate(session, &[1, 2], 20, &[], Sampling::GREEDY, count).unwrap();
        assert_eq!((made.tokens.len(), made.stop), (3, StopReason::Caller));
    });
}

/// Log-likelihoods from the logits of each position, one by one, in f64.
fn slow_score(session: &mut Session<'_>, tokens: &[u32], first: usize) -> (f64, bool) {
    session.truncate(0);
    let (mut sum, mut greedy_all) = (0.0, true);
    for (index, pair) in tokens.windows(2).enumerate() {
        let logits = session.decode(pair[0]).unwrap();
        if index + 1 >= first {
            let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            sum += f64::from(logits[pair[1] as usize]) - total.ln();
            greedy_all &= greedy(logits) == pair[1];
        }
    }
    (sum, greedy_all)
}

#[test]
fn scores_are_sums_of_log_probabilities() {
    with_session(64, |session| {
        let chosen = generate(session, &[5, 6, 7], 4, &[], Sampling::GREEDY, |_| ControlFlow::Continue(())).unwrap();
        let likely = [vec![5, 6, 7], chosen.tokens].concat();
        let cases: [(&[u32], usize); 5] =
            [(&[5, 6, 7, 9, 11], 3), (&[5, 6, 7, 9, 12], 3), (&[5, 6, 8], 2), (&[1, 2], 1), (&likely, 3)];
        let expected: Vec<_> = cases.iter().map(|(tokens, first)| slow_score(session, tokens, *first)).collect();
        session.truncate(0);
        let mut scorer = Scorer::new(session);
        for (round, ((tokens, first), (sum, greedy))) in cases.iter().zip(&expected).enumerate() {
            let score = scorer.score(tokens, *first).unwrap();
            assert!((score.loglikelihood - sum).abs() < 1e-9 * sum.abs().max(1.0), "{round}: {score:?}, not {sum}");
            assert_eq!((score.greedy, score.tokens), (*greedy, tokens.len() - first), "{round}");
        }
        assert!(expected[4].1, "greedy text is greedy");
        assert!(matches!(scorer.score(&[1, 2], 0), Err(Error::EmptyPrompt)));
        assert!(matches!(scorer.score(&[1, 2], 2), Err(Error::EmptyPrompt)));
        assert!(matches!(scorer.score(&[1; 66], 3), Err(Error::ContextFull { .. })));
        // The last token is only scored, never evaluated: one more than the context fits.
        assert!(scorer.score(&[1; 65], 3).is_ok());
    });
}
