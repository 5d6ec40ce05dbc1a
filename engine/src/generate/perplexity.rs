//! Perplexity over a long text, by the rolling windows of EleutherAI's lm-evaluation-harness.

use super::{Result, Scorer};
use crate::error::Error;
use crate::model::Session;

/// How well a model foresees a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// Tokens that were scored: all but the first.
    pub scored: usize,
    /// Windows they were scored in.
    pub windows: usize,
    /// Sum over them of -ln p(token | those before it in its window), in f64.
    pub nll: f64,
    /// exp of the mean of the same.
    pub perplexity: f64,
    /// The standard error of the mean, with perplexity as factor (the delta method); it takes the tokens as independent of each
    /// other, which those of a text are not quite. `None` for one token.
    pub standard_error: Option<f64>,
    /// Tokens that greedy choice would have taken.
    pub greedy: usize,
}

/// The perplexity of `tokens`, in windows of the session's context `C`.
///
/// Every token but the first is scored once. The first window evaluates tokens 0 to `C - 1` and scores 1 to `C`. Each further
/// one scores the next `stride` tokens, or those that are left, and evaluates the `C` tokens that come before the last
/// of them. A stride of `C` is lm-evaluation-harness's `loglikelihood_rolling`: each token sees those before it in its
/// window, the first of a window one. (In transformers' guide to perplexity the window holds the scored token as well, so
/// a token sees one less, and the last window is not drawn back to its full length.)
///
/// # Errors
/// [`Error::EmptyPrompt`] for less than two tokens, [`Error::Size`] for a stride that is not 1 to `C`, those of
/// [`Scorer::each`].
pub fn perplexity(session: &mut Session<'_>, tokens: &[u32], stride: usize) -> Result<Perplexity> {
    let context = session.context();
    if !(1..=context).contains(&stride) {
        let expected = format!("1 to the context's {context}");
        return Err(Error::Size { what: "stride (tokens)", expected, found: stride });
    }
    if tokens.len() < 2 {
        return Err(Error::EmptyPrompt);
    }
    let mut scorer = Scorer::new(session);
    let (mut windows, mut greedy, mut each) = (0, 0, Vec::with_capacity(tokens.len()));
    let mut next = 1;
    while next < tokens.len() {
        let length = if windows == 0 { context } else { stride };
        let end = (next + length).min(tokens.len());
        let begin = end.saturating_sub(context + 1);
        scorer.each(&tokens[begin..end], next - begin, |logarithm, likeliest| {
            each.push(-logarithm);
            greedy += usize::from(likeliest);
        })?;
        (next, windows) = (end, windows + 1);
    }
    let scored = each.len();
    let nll: f64 = each.iter().sum();
    let mean = nll / scored as f64;
    let perplexity = mean.exp();
    let squares: f64 = each.iter().map(|x| (x - mean) * (x - mean)).sum();
    let standard_error = (scored > 1).then(|| perplexity * (squares / (scored - 1) as f64 / scored as f64).sqrt());
    Ok(Perplexity { scored, windows, nll, perplexity, standard_error, greedy })
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;
    use crate::kernels::isa::Kernels;
    use crate::model::SessionOptions;
    use crate::threads::Pool;

    /// lm-evaluation-harness's `get_rolling_token_windows`, written after it: what is evaluated, and what is scored.
    fn rolling(tokens: &[u32], prefix: u32, most: usize, context: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
        let pred = most - context + 1;
        let first = most.min(tokens.len());
        let mut windows = vec![([&[prefix], &tokens[..first - 1]].concat(), tokens[..first].to_vec())];
        let mut predicted = first;
        while predicted < tokens.len() {
            let length = (tokens.len() - predicted).min(pred);
            let end = predicted + length;
            windows.push((tokens[end - most - 1..end - 1].to_vec(), tokens[end - length..end].to_vec()));
            predicted = end;
        }
        windows
    }

    #[test]
    fn windows_are_those_of_the_evaluation_harness() {
        let (model, pool, kernels) = (model(), Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
        let tokens: Vec<u32> = (0..53u32).map(|i| (i * i + 7 * i + 2) % 100).collect();
        for (context, stride) in [(16, 16), (16, 5), (16, 1), (52, 52), (51, 51), (60, 60), (1, 1)] {
            let mut session = Session::new(&model, &pool, kernels, SessionOptions::new(context)).unwrap();
            let found = perplexity(&mut session, &tokens, stride).unwrap();
            let (mut each, mut greedy) = (Vec::new(), 0);
            let windows = rolling(&tokens[1..], tokens[0], context, context - stride + 1);
            for (evaluated, scored) in &windows {
                session.truncate(0);
                let rows = session.prefill_all(evaluated).unwrap();
                let rows: Vec<&[f32]> = rows.chunks(100).collect();
                for (logits, target) in rows[rows.len() - scored.len()..].iter().zip(scored) {
                    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
                    each.push(total.ln() - f64::from(logits[*target as usize]));
                    greedy += usize::from(super::super::greedy(logits) == *target);
                }
            }
            assert_eq!((found.scored, found.windows, found.greedy), (52, windows.len(), greedy));
            let nll: f64 = each.iter().sum();
            assert!((found.nll - nll).abs() < 1e-9 * nll, "{context} {stride}: {} not {nll}", found.nll);
            let mean = nll / 52.0;
            let variance = each.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 51.0;
            assert!((found.perplexity - mean.exp()).abs() < 1e-6 * mean.exp());
            let error = mean.exp() * (variance / 52.0).sqrt();
            assert!((found.standard_error.unwrap() - error).abs() < 1e-6 * error);
        }
    }

    #[test]
    fn wrong_requests_are_errors() {
        let (model, pool, kernels) = (model(), Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
        let mut session = Session::new(&model, &pool, kernels, SessionOptions::new(8)).unwrap();
        assert!(matches!(perplexity(&mut session, &[1], 8), Err(Error::EmptyPrompt)));
        assert!(matches!(perplexity(&mut session, &[1, 2], 0), Err(Error::Size { what: "stride (tokens)", .. })));
        assert!(matches!(perplexity(&mut session, &[1, 2], 9), Err(Error::Size { .. })));
        assert!(matches!(perplexity(&mut session, &[1, 100], 8), Err(Error::Token { .. })));
        assert_eq!(perplexity(&mut session, &[1, 2], 8).unwrap().standard_error, None);
    }
}
