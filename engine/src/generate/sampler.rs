//! Choosing a token from logits.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability (nucleus sampling, arXiv 1904.09751); 1 is all.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the likeliest (arXiv 2407.01082); 0 is all.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of every token that prompt and answer hold already (CTRL,
    /// arXiv 1909.05858); 1 changes nothing. Greedy choice heeds it too.
    pub repetition_penalty: f32,
    /// Same seed and same logits, same tokens.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, seed: 0 };
}

/// Chooses tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
    /// Tokens still in question, with their logits, later weights.
    candidates: Vec<(f32, u32)>,
    /// Tokens that the penalty falls on.
    seen: BTreeSet<u32>,
    penalised: Vec<f32>,
}

impl Sampler {
    /// # Errors
    /// [`Error::Config`] for a temperature below 0 or not finite, `top_p` outside (0, 1], `min_p` outside [0, 1], or a
    /// penalty that is not above 0 and finite.
    pub fn new(sampling: Sampling) -> Result<Sampler> {
        let refuse = |field, expected: &str, found: f32| {
            Err(Error::Config { field, expected: expected.to_owned(), found: found.to_string() })
        };
        if !(sampling.temperature.is_finite() && sampling.temperature >= 0.0) {
            return refuse("temperature", "a finite number from 0 up", sampling.temperature);
        }
        if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
            return refuse("top_p", "above 0, up to 1", sampling.top_p);
        }
        if !(0.0..=1.0).contains(&sampling.min_p) {
            return refuse("min_p", "0 to 1", sampling.min_p);
        }
        if !(sampling.repetition_penalty.is_finite() && sampling.repetition_penalty > 0.0) {
            return refuse("repetition_penalty", "a finite number above 0", sampling.repetition_penalty);
        }
        let random = ChaCha8Rng::seed_from_u64(sampling.seed);
        let (candidates, seen, penalised) = (Vec::new(), BTreeSet::new(), Vec::new());
        Ok(Sampler { sampling, random, candidates, seen, penalised })
    }

    /// Takes note of tokens of prompt or answer, for the repetition penalty.
    pub fn see(&mut self, tokens: &[u32]) {
        if self.sampling.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Whether the next token is that of the largest logit, whatever came before.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature == 0.0 && self.sampling.repetition_penalty == 1.0
    }

    /// The next token; `logits` is `[vocab]`, not empty.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        if self.seen.is_empty() {
            return self.choose(logits);
        }
        let mut penalised = std::mem::take(&mut self.penalised);
        penalised.clear();
        penalised.extend_from_slice(logits);
        let penalty = self.sampling.repetition_penalty;
        for &token in &self.seen {
            if let Some(logit) = penalised.get_mut(token as usize) {
                let changed = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                // Finite, as the choice needs it, however absurd the penalty.
                *logit = changed.clamp(f32::MIN, f32::MAX);
            }
        }
        let token = self.choose(&penalised);
        self.penalised = penalised;
        token
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature == 0.0 {
            return greedy(logits);
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(logits.iter().copied().zip(0..));
        // Likeliest first, lower id first among equals: a total order, so that the choice is defined.
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if (1..candidates.len()).contains(&self.sampling.top_k) {
            candidates.select_nth_unstable_by(self.sampling.top_k, order);
            candidates.truncate(self.sampling.top_k);
        }
        candidates.sort_unstable_by(order);
        let largest = candidates[0].0;
        let mut total = 0.0f64;
        for (logit, _) in candidates.iter_mut() {
            *logit = ((*logit - largest) / self.sampling.temperature).exp();
            total += f64::from(*logit);
        }
        if self.sampling.top_p < 1.0 {
            let nucleus = total * f64::from(self.sampling.top_p);
            let mut sum = 0.0;
            let last = candidates.iter().position(|(weight, _)| {
                sum += f64::from(*weight);
                sum >= nucleus
            });
            candidates.truncate(last.map_or(candidates.len(), |last| last + 1));
            total = candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        }
        if self.sampling.min_p > 0.0 {
            // The likeliest has weight 1.
            let likely = candidates.partition_point(|(weight, _)| *weight >= self.sampling.min_p);
            candidates.truncate(likely.max(1));
            total = candidates.iter().map(|(weight, _)| f64::from(*weight)).sum();
        }
        // 53 random bits: uniform in [0, 1).
        let mut left = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        for (weight, token) in candidates.iter() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return *token;
            }
        }
        candidates[0].1
    }
}

/// The token of the largest logit, the lowest id among equals.
pub fn greedy(logits: &[f32]) -> u32 {
    let better = |best: (u32, f32), this: (u32, f32)| if this.1 > best.1 { this } else { best };
    (0..).zip(logits.iter().copied()).fold((0, f32::NEG_INFINITY), better).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling { temperature, top_k, top_p, seed, ..Sampling::GREEDY }).unwrap()
    }

    /// How often each of the four tokens comes up in 20,000 draws.
    fn shares(mut sampler: Sampler, logits: &[f32; 4]) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[sampler.sample(logits) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_largest_and_the_lowest_id_of_equals() {
        assert_eq!(greedy(&[0.0, 3.0, -1.0, 3.0]), 1);
        assert_eq!(greedy(&[f32::NAN, f32::NEG_INFINITY, -5.0]), 2);
        assert_eq!(sampler(0.0, 3, 0.5, 9).sample(&[1.0, 1.0, 0.5]), 0);
    }

    #[test]
    fn shares_follow_the_probabilities() {
        let weights = [0.5f64, 0.2, 0.2, 0.1];
        let logits = weights.map(|w| w.ln() as f32 * 0.7 + 3.0);
        // 0.7 undoes the temperature. Deviation of a share is at most 0.0036: five of them.
        let close = |found: [f64; 4], expected: [f64; 4]| {
            found.iter().zip(expected).for_each(|(f, e)| assert!((f - e).abs() < 0.018, "{found:?} {expected:?}"));
        };
        close(shares(sampler(0.7, 0, 1.0, 1), &logits), weights);
        close(shares(sampler(0.7, 2, 1.0, 2), &logits), [0.5 / 0.7, 0.2 / 0.7, 0.0, 0.0]);
        close(shares(sampler(0.7, 0, 0.6, 3), &logits), [0.5 / 0.7, 0.2 / 0.7, 0.0, 0.0]);
        close(shares(sampler(0.7, 0, 0.85, 4), &logits), [0.5 / 0.9, 0.2 / 0.9, 0.2 / 0.9, 0.0]);
        close(shares(sampler(0.7, 1, 1.0, 5), &logits), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn min_p_leaves_what_is_near_the_likeliest() {
        let logits = [0.5f64, 0.24, 0.16, 0.1].map(|w| w.ln() as f32);
        let sampling = Sampling { temperature: 1.0, min_p: 0.3, seed: 5, ..Sampling::GREEDY };
        let found = shares(Sampler::new(sampling).unwrap(), &logits);
        // 0.3 x 0.5 lies between 0.16 and 0.1.
        let expected = [0.5 / 0.9, 0.24 / 0.9, 0.16 / 0.9, 0.0];
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 0.018), "{found:?}");
        let all = Sampler::new(Sampling { min_p: 1.0, ..sampling }).unwrap();
        assert_eq!(shares(all, &logits)[0].round(), 1.0);
    }

    #[test]
    fn repetition_is_penalised_on_both_sides_of_zero() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(sampling).unwrap();
        assert_eq!(sampler.sample(&[3.0, 2.0, -1.0]), 0);
        sampler.see(&[0]);
        assert_eq!(sampler.sample(&[3.0, 2.0, -1.0]), 1);
        assert_eq!(sampler.sample(&[5.0, 2.0, -1.0]), 0);
        sampler.see(&[0, 1]);
        assert_eq!(sampler.sample(&[-1.0, -1.5, -1.8]), 2);
        // An id beyond the vocabulary harms nothing; a penalty of 1 takes no note.
        sampler.see(&[77]);
        assert_eq!(sampler.sample(&[9.0, 2.0, -1.0]), 0);
        let mut plain = Sampler::new(Sampling::GREEDY).unwrap();
        plain.see(&[0]);
        assert!(plain.seen.is_empty());
    }

    #[test]
    fn an_absurd_penalty_leaves_a_choice() {
        let sampling = Sampling { repetition_penalty: f32::MIN_POSITIVE, temperature: 1.0, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(sampling).unwrap();
        sampler.see(&[0, 1, 2]);
        // The first three overflow: infinite, they would leave no weight a number.
        let drawn: BTreeSet<u32> = (0..50).map(|_| sampler.sample(&[5.0, 10.0, 20.0, 1.0])).collect();
        assert_eq!(drawn, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn seeds_decide_the_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32 * 0.1).collect();
        let draw = |seed| {
            let mut sampler = sampler(1.0, 0, 1.0, seed);
            (0..50).map(|_| sampler.sample(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn parameters_out_of_range_are_named() {
        for (temperature, top_p, field) in
            [(-1.0, 1.0, "temperature"), (f32::NAN, 1.0, "temperature"), (1.0, 0.0, "top_p"), (1.0, 1.5, "top_p")]
        {
            let error = Sampler::new(Sampling { temperature, top_p, ..Sampling::GREEDY }).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        for (min_p, repetition_penalty, field) in [
            (-0.1, 1.0, "min_p"),
            (f32::NAN, 1.0, "min_p"),
            (0.0, 0.0, "repetition_penalty"),
            (0.0, f32::INFINITY, "repetition_penalty"),
        ] {
            let error = Sampler::new(Sampling { min_p, repetition_penalty, ..Sampling::GREEDY }).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
