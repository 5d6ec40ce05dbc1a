//! Choosing a token from logits.

use crate::error::{Error, Result};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Only the most likely `top_k` tokens; 0 is all.
    pub top_k: usize,
    /// Only the smallest set of most likely tokens whose probabilities reach this; 1 is all.
    pub top_p: f32,
    /// Seed of the random stream (ChaCha8: the same on every machine).
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
}

/// A seeded source of choices.
#[derive(Debug)]
pub struct Sampler {
    options: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the beginning of its random stream.
    ///
    /// # Errors
    /// [`Error::Config`] for a temperature below 0 or a `top_p` outside (0, 1].
    pub fn new(options: &Sampling) -> Result<Sampler> {
        let bad = |field, expected: &str, found: f32| {
            Err(Error::Config { field, expected: expected.to_owned(), found: found.to_string() })
        };
        if !(options.temperature.is_finite() && options.temperature >= 0.0) {
            return bad("temperature", "0 or more", options.temperature);
        }
        if !(options.top_p > 0.0 && options.top_p <= 1.0) {
            return bad("top_p", "above 0, at most 1", options.top_p);
        }
        Ok(Sampler { options: *options, random: ChaCha8Rng::seed_from_u64(options.seed) })
    }

    /// Chooses a token; of equals, the lowest id comes first.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        if self.options.temperature == 0.0 {
            let largest = |best: (usize, f32), (i, &l): (usize, &f32)| if l > best.1 { (i, l) } else { best };
            return logits.iter().enumerate().fold((0, f32::NEG_INFINITY), largest).0 as u32;
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        if self.options.top_k > 0 {
            order.truncate(self.options.top_k);
        }
        let Some(&first) = order.first() else { return 0 };
        let temperature = f64::from(self.options.temperature);
        let weight =
            |&id: &u32| ((f64::from(logits[id as usize]) - f64::from(logits[first as usize])) / temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut reached = 0.0;
        let kept = weights.iter().position(|w| {
            reached += w;
            reached >= f64::from(self.options.top_p) * total
        });
        weights.truncate(kept.map_or(weights.len(), |last| last + 1));
        let mut point = self.random.random::<f64>() * weights.iter().sum::<f64>();
        for (id, weight) in order.iter().zip(&weights) {
            if point < *weight {
                return *id;
            }
            point -= weight;
        }
        order[weights.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(options: Sampling, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(&options).unwrap();
        (0..count).map(|_| sampler.choose(logits)).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draw(Sampling::GREEDY, &[1.0, 5.0, 5.0, f32::NEG_INFINITY], 1), [1]);
    }

    #[test]
    fn a_seed_fixes_the_choices_and_frequencies_follow_the_softmax() {
        let options = Sampling { temperature: 1.0, seed: 7, ..Sampling::GREEDY };
        let logits = [0.0, (3.0f32).ln(), f32::NEG_INFINITY];
        let drawn = draw(options, &logits, 4000);
        assert_eq!(drawn, draw(options, &logits, 4000));
        let ones = drawn.iter().filter(|&&t| t == 1).count();
        assert!((2850..3150).contains(&ones) && !drawn.contains(&2), "{ones} of 4000, 3000 expected");
        assert_ne!(drawn, draw(Sampling { seed: 8, ..options }, &logits, 4000));
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [1.0, 0.9, 0.8, -3.0];
        let base = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        assert!(draw(Sampling { top_k: 2, ..base }, &logits, 500).iter().all(|&t| t < 2));
        assert!(draw(Sampling { top_p: 0.3, ..base }, &logits, 500).iter().all(|&t| t == 0));
        assert!(draw(Sampling { top_p: 0.99, ..base }, &logits, 500).iter().all(|&t| t < 3));
    }

    #[test]
    fn bad_options_are_errors() {
        for bad in [
            Sampling { temperature: -1.0, ..Sampling::GREEDY },
            Sampling { temperature: f32::NAN, ..Sampling::GREEDY },
            Sampling { top_p: 0.0, ..Sampling::GREEDY },
            Sampling { top_p: 1.5, ..Sampling::GREEDY },
        ] {
            assert!(Sampler::new(&bad).is_err(), "{bad:?}");
        }
    }
}
