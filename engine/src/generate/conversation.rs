//! Text that is continued more than once: what the cache holds is kept as far as it still holds, and what happens when the
//! context is full is the user's choice.

use std::ops::ControlFlow;
use std::time::Instant;

use super::{Generation, Growing, Sampling, StopReason, choose, follow, nanoseconds};
use crate::error::{Error, Result};
use crate::model::Session;

/// What to do when the context has no room for another token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// End the generation with [`StopReason::ContextFull`]; a prompt that does not fit is an error.
    Stop,
    /// Fail with [`Error::ContextFull`].
    Error,
    /// Keep the first `keep` tokens, drop the older half of the rest, and evaluate what is left anew, as if the text had been
    /// so from the beginning. (Moving cached keys to new positions instead would be quicker, and another function than the
    /// model's: what a token's keys and values are made of has seen the tokens that were dropped.)
    Shift {
        /// Tokens at the beginning that stay, such as a system message.
        keep: usize,
    },
}

/// A continuation and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The tokens that follow.
    pub made: Generation,
    /// Tokens of the text that were in the cache already.
    pub reused: usize,
    /// Tokens that were dropped to make room.
    pub dropped: usize,
}

/// A session, and the tokens that its cache holds.
#[derive(Debug)]
pub struct Conversation<'m> {
    session: Session<'m>,
    cached: Vec<u32>,
}

impl<'m> Conversation<'m> {
    /// Takes a session over; what its cache holds is forgotten.
    pub fn new(mut session: Session<'m>) -> Conversation<'m> {
        session.truncate(0);
        Conversation { session, cached: Vec::new() }
    }

    /// Continues `text`, all of it, as [`generate`](super::generate) continues a prompt, token for token. The tokens that the
    /// cache holds are compared with it one by one, and evaluated anew from the first that differs.
    ///
    /// A decode time holds the evaluation after a shift; the time to the first token that of the text.
    ///
    /// # Errors
    /// Those of `generate`, and [`Error::Config`] for a `keep` that leaves nothing to drop.
    pub fn answer(
        &mut self,
        text: &[u32],
        max_tokens: usize,
        stop_tokens: &[u32],
        sampling: Sampling,
        when_full: WhenFull,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Turn> {
        let mut growing = Growing::new(text, max_tokens, stop_tokens, sampling)?;
        let start = Instant::now();
        let (kept, mut dropped) = self.fit(text, when_full)?;
        let (logits, reused) = self.read(&kept)?;
        let mut token = choose(&mut growing.sampler, logits)?;
        growing.made.ttft_ns = nanoseconds(start);
        while growing.take(token, &mut on_token) {
            let start = Instant::now();
            if self.session.position() == self.session.context() {
                match when_full {
                    WhenFull::Stop => {
                        growing.made.stop = StopReason::ContextFull;
                        break;
                    }
                    WhenFull::Error => return Err(self.full(1)),
                    WhenFull::Shift { keep } => {
                        let shifted = shift(&self.cached, keep, self.session.context())?;
                        dropped += self.cached.len() - shifted.len();
                        self.read(&shifted)?;
                    }
                }
            }
            self.cached.push(token);
            token = follow(&mut growing.sampler, &mut self.session, token).inspect_err(|_| self.cached.clear())?;
            growing.made.decode_ns.push(nanoseconds(start));
        }
        Ok(Turn { made: growing.made, reused, dropped })
    }

    /// The session.
    pub fn session(&self) -> &Session<'m> {
        &self.session
    }

    /// The context's size in tokens.
    pub fn context(&self) -> usize {
        self.session.context()
    }

    fn full(&self, tokens: usize) -> Error {
        Error::ContextFull { context: self.session.context(), position: self.session.position(), tokens }
    }

    /// What of a text fits the context, and how many tokens do not.
    fn fit(&self, text: &[u32], when_full: WhenFull) -> Result<(Vec<u32>, usize)> {
        let context = self.session.context();
        let mut kept = text.to_vec();
        while kept.len() > context {
            let WhenFull::Shift { keep } = when_full else {
                return Err(Error::ContextFull { context, position: 0, tokens: text.len() });
            };
            kept = shift(&kept, keep, context)?;
        }
        let dropped = text.len() - kept.len();
        Ok((kept, dropped))
    }

    /// Brings the cache to hold `text`; the logits after it, and how many of its tokens were there before.
    fn read(&mut self, text: &[u32]) -> Result<(&[f32], usize)> {
        // The last is evaluated in any case, for its logits.
        let most = text.len().saturating_sub(1);
        let common = self.cached.iter().zip(&text[..most]).take_while(|(a, b)| a == b).count();
        self.session.truncate(common);
        self.cached.truncate(common);
        let logits = self.session.prefill(&text[common..])?;
        self.cached.extend(&text[common..]);
        Ok((logits, common))
    }
}

/// `tokens` without the older half of what follows the first `keep`.
fn shift(tokens: &[u32], keep: usize, context: usize) -> Result<Vec<u32>> {
    if keep + 2 > context {
        let expected = format!("at most {}, for a context of {context}", context.saturating_sub(2));
        return Err(Error::Config { field: "keep", expected, found: keep.to_string() });
    }
    let rest = tokens.len() - keep;
    Ok([&tokens[..keep], &tokens[keep + rest.div_ceil(2)..]].concat())
}

#[cfg(test)]
mod tests {
    use super::super::{generate, tests::model};
    use super::*;
    use crate::kernels::isa::Kernels;
    use crate::model::{Model, SessionOptions};
    use crate::threads::Pool;

    fn with(context: usize, body: impl FnOnce(&dyn Fn() -> Session<'static>)) {
        // Leaked: a test ends with its process.
        let model: &'static Model = Box::leak(Box::new(model()));
        let pool: &'static Pool = Box::leak(Box::new(Pool::new(1, false).unwrap()));
        let kernels = Kernels::new(None).unwrap();
        body(&|| Session::new(model, pool, kernels, SessionOptions::new(context)).unwrap());
    }

    const SAMPLING: Sampling = Sampling { temperature: 2.0, seed: 3, repetition_penalty: 1.2, ..Sampling::GREEDY };

    fn go(_: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn turns_are_what_they_would_be_alone() {
        with(60, |session| {
            let mut conversation = Conversation::new(session());
            let mut text = vec![3, 1, 4, 1, 5];
            for turn in 0..4 {
                let found = conversation.answer(&text, 6, &[], SAMPLING, WhenFull::Stop, go).unwrap();
                let alone = generate(&mut session(), &text, 6, &[], SAMPLING, go).unwrap();
                assert_eq!((&found.made.tokens, found.made.stop), (&alone.tokens, alone.stop));
                // All of the text before, and the answer but for its last token, which nothing followed.
                assert_eq!(found.reused, if turn == 0 { 0 } else { text.len() - 3 }, "turn {turn}");
                text.extend(&found.made.tokens);
                text.extend([7, 8]);
            }
            // A text that differs in the middle, one that was had before, and one token alone.
            for (change, reused) in [(text[..20].to_vec(), 10), (text.clone(), 10), (vec![3], 0)] {
                let change: Vec<u32> =
                    change.iter().enumerate().map(|(i, &t)| if i == 10 { (t + 1) % 100 } else { t }).collect();
                let found = conversation.answer(&change, 3, &[], SAMPLING, WhenFull::Stop, go).unwrap();
                let alone = generate(&mut session(), &change, 3, &[], SAMPLING, go).unwrap();
                assert_eq!(found.made.tokens, alone.tokens);
                assert!(found.reused >= reused, "{}", found.reused);
            }
            assert!(matches!(conversation.answer(&[], 3, &[], SAMPLING, WhenFull::Stop, go), Err(Error::EmptyPrompt)));
            assert!(matches!(
                conversation.answer(&[3, 200], 3, &[], SAMPLING, WhenFull::Stop, go),
                Err(Error::Token { .. })
            ));
            assert_eq!(conversation.answer(&[3], 1, &[], SAMPLING, WhenFull::Stop, go).unwrap().reused, 0);
        });
    }

    #[test]
    fn a_full_context_stops_fails_or_shifts() {
        with(16, |session| {
            let text: Vec<u32> = (1..=10).collect();
            let run = |when_full, text: &[u32]| {
                Conversation::new(session()).answer(text, 30, &[], Sampling::GREEDY, when_full, go)
            };
            let stopped = run(WhenFull::Stop, &text).unwrap();
            // The prompt's logits give one token, six positions one each.
            assert_eq!(
                (stopped.made.tokens.len(), stopped.made.stop, stopped.dropped),
                (7, StopReason::ContextFull, 0)
            );
            let error = run(WhenFull::Error, &text).unwrap_err();
            assert!(matches!(error, Error::ContextFull { context: 16, position: 16, tokens: 1 }), "{error}");
            for when_full in [WhenFull::Stop, WhenFull::Error] {
                assert!(matches!(run(when_full, &[1; 17]), Err(Error::ContextFull { tokens: 17, .. })));
            }

            let shifted = run(WhenFull::Shift { keep: 4 }, &text).unwrap();
            assert_eq!((shifted.made.tokens.len(), shifted.made.stop), (30, StopReason::MaxTokens));
            assert_eq!(shifted.made.decode_ns.len(), 29);
            // By hand: each token from a session of its own that reads what the rule leaves.
            let (mut held, mut expected, mut dropped) = (text.clone(), Vec::new(), 0);
            while expected.len() < 30 {
                let next = generate(&mut session(), &held, 1, &[], Sampling::GREEDY, go).unwrap().tokens[0];
                expected.push(next);
                if held.len() == 16 {
                    held.drain(4..10);
                    dropped += 6;
                }
                held.push(next);
            }
            assert_eq!((&shifted.made.tokens, shifted.dropped), (&expected, dropped));

            // A prompt that does not fit: 40 tokens, 4 kept, 36 halved, halved again to 13 in all.
            let long: Vec<u32> = (0..40).collect();
            let found = run(WhenFull::Shift { keep: 4 }, &long).unwrap();
            let kept = [&long[..4], &long[31..]].concat();
            assert_eq!(found.made.tokens, run(WhenFull::Shift { keep: 4 }, &kept).unwrap().made.tokens);
            assert!(found.dropped >= 27);
            assert!(run(WhenFull::Shift { keep: 14 }, &text).is_ok());
            let message = run(WhenFull::Shift { keep: 15 }, &text).unwrap_err().to_string();
            assert!(message.contains("keep") && message.contains("at most 14"), "{message}");
        });
    }
}
