//! Log-likelihoods of given continuations.

use super::{Result, greedy};
use crate::error::Error;
use crate::model::Session;

/// Tokens whose logits are held at once.
const PIECE: usize = 64;

/// How likely a continuation is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Sum over its tokens of ln p(token | all before it), in f64.
    pub loglikelihood: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Whether each is the one that greedy choice would have taken.
    pub greedy: bool,
}

/// Scores continuations one after the other. What a text has in common with the one before is not evaluated again: the
/// logits are the same, by a bit.
#[derive(Debug)]
pub struct Scorer<'s, 'm> {
    session: &'s mut Session<'m>,
    /// The tokens in the session's cache.
    cached: Vec<u32>,
}

impl<'s, 'm> Scorer<'s, 'm> {
    /// Takes a session over; what its cache holds is forgotten.
    pub fn new(session: &'s mut Session<'m>) -> Scorer<'s, 'm> {
        session.truncate(0);
        Scorer { session, cached: Vec::new() }
    }

    /// The score of `tokens[first..]` after `tokens[..first]`.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`] if nothing comes before or nothing is to be scored, [`Error::Token`],
    /// [`Error::ContextFull`] if all but the last token do not fit the context, [`Error::NotFinite`].
    pub fn score(&mut self, tokens: &[u32], first: usize) -> Result<Score> {
        let mut score = Score { loglikelihood: 0.0, tokens: 0, greedy: true };
        self.each(tokens, first, |logarithm, greedy| {
            score.loglikelihood += logarithm;
            score.tokens += 1;
            score.greedy &= greedy;
        })?;
        Ok(score)
    }

    /// As [`Scorer::score`], token by token: `found` gets ln p(token | all before it), and whether greedy choice would have
    /// taken the token.
    ///
    /// # Errors
    /// As there.
    pub fn each(&mut self, tokens: &[u32], first: usize, mut found: impl FnMut(f64, bool)) -> Result<()> {
        if first == 0 || first >= tokens.len() {
            return Err(Error::EmptyPrompt);
        }
        let vocab = self.session.model().config().vocab;
        if let Some((index, &token)) = tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocab) {
            return Err(Error::Token { index, token, vocab });
        }
        // The last token is scored, but nothing follows it.
        let read = &tokens[..tokens.len() - 1];
        let common = self.cached.iter().zip(&read[..first - 1]).take_while(|(a, b)| a == b).count();
        self.session.truncate(common);
        self.cached.truncate(common);
        if read.len() > self.session.context() {
            let (context, position) = (self.session.context(), 0);
            return Err(Error::ContextFull { context, position, tokens: read.len() });
        }
        if common < first - 1 {
            self.session.prefill(&read[common..first - 1])?;
        }
        for start in (first - 1..read.len()).step_by(PIECE) {
            let end = (start + PIECE).min(read.len());
            let rows = self.session.prefill_all(&read[start..end])?;
            for (logits, &target) in rows.chunks_exact(vocab).zip(&tokens[start + 1..]) {
                found(log_probability(logits, target).ok_or(Error::NotFinite)?, greedy(logits) == target);
            }
        }
        self.cached = read.to_vec();
        Ok(())
    }
}

/// ln of the softmax at `token`, in f64; `None` if the logits are no finite numbers.
pub(super) fn log_probability(logits: &[f32], token: u32) -> Option<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !logits.iter().all(|logit| logit.is_finite()) {
        return None;
    }
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(largest)).exp()).sum();
    Some(f64::from(logits[token as usize]) - f64::from(largest) - sum.ln())
}
