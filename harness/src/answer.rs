//! The answer a cell must give: the logits after a short probe, as a digest and a sample.

use crate::protocol::{Answer, Reference};
use anyhow::{Result, ensure};
use engine::model::Session;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use suites::record::Comparison;

/// Probe length: a batch, then one decoded token, so that both paths have a part in the answer. It is short because
/// the scalar reference runs it too.
pub const PROBE_TOKENS: usize = 5;
/// Logits kept for a comparison that is not bit for bit.
const SAMPLE: usize = 256;
/// Tokens of the check that a batch equals one-by-one decoding: more than two register tiles and a remainder.
pub const BATCH_TOKENS: usize = 29;

/// The name of [`counted`] as `callgrind --toggle-collect` takes it, whatever a compiler puts around it.
pub(crate) const COUNTED: &str = "*answer::counted*";

/// `count` seeded tokens of a vocabulary. The first `n` of them do not depend on `count`.
pub fn tokens(seed: u64, vocab: usize, count: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(0..vocab as u32)).collect()
}

/// Runs the probe from an empty cache and leaves the cache empty.
pub fn probe(session: &mut Session<'_>, seed: u64, vocab: usize) -> Result<Answer> {
    let tokens = tokens(seed, vocab, PROBE_TOKENS);
    session.truncate(0);
    session.prefill(&tokens[..PROBE_TOKENS - 1])?;
    let logits = session.decode(tokens[PROBE_TOKENS - 1])?.to_vec();
    session.truncate(0);
    of(&logits)
}

/// Passes over tokens: the logits after the last. Loading and writing, which differ from run to run (two in a thousand
/// of all were seen), lie outside. A symbol to toggle at ([`COUNTED`]), hence neither inlined nor generic.
#[inline(never)]
pub(crate) fn counted(session: &mut Session<'_>, passes: &[&[u32]]) -> Result<Vec<f32>> {
    let mut logits = Vec::new();
    for tokens in passes {
        logits = session.prefill(tokens)?.to_vec();
    }
    Ok(logits)
}

/// Digest, most likely token and seeded sample of a row of logits.
pub(crate) fn of(logits: &[f32]) -> Result<Answer> {
    ensure!(logits.iter().all(|l| l.is_finite()), "the probe's logits are not finite");
    let mut hasher = blake3::Hasher::new();
    logits.iter().for_each(|l| {
        hasher.update(&l.to_bits().to_le_bytes());
    });
    let picks = self::tokens(0, logits.len(), SAMPLE.min(logits.len()));
    let sample = picks.into_iter().map(|i| (i, logits[i as usize].to_bits())).collect();
    Ok(Answer {
        digest: hasher.finalize().to_hex().to_string(),
        argmax: argmax(logits),
        vocab: logits.len() as u32,
        sample,
    })
}

/// Index of the largest logit, the lowest of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let best =
        logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &l)| if l > best.1 { (i, l) } else { best });
    best.0 as u32
}

/// Holds `answer` against a reference.
pub fn compare(answer: &Answer, reference: &Reference) -> Comparison {
    let distance = relative_rms_ppb(answer, &reference.answer);
    let pass = match reference.bound_ppb {
        0 => answer.digest == reference.answer.digest,
        bound => distance.is_some_and(|d| d <= bound),
    };
    let relative_rms_ppb = if answer.digest == reference.answer.digest { Some(0) } else { distance };
    Comparison { against: reference.against.clone(), relative_rms_ppb, bound_ppb: reference.bound_ppb, pass }
}

/// Root mean square of the samples' difference over that of the reference, in parts per 10⁹.
fn relative_rms_ppb(answer: &Answer, reference: &Answer) -> Option<u64> {
    if answer.vocab != reference.vocab || answer.sample.len() != reference.sample.len() {
        return None;
    }
    let (mut difference, mut size) = (0f64, 0f64);
    for (&(i, a), &(j, r)) in answer.sample.iter().zip(&reference.sample) {
        if i != j {
            return None;
        }
        let (a, r) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(r)));
        difference += (a - r) * (a - r);
        size += r * r;
    }
    let ratio = (difference / size).sqrt() * 1e9;
    ratio.is_finite().then(|| ratio.round().min(1e18) as u64)
}

/// Holds a batch of [`BATCH_TOKENS`] against the same tokens decoded one by one: the logits must be equal bit for bit.
pub fn batch_equals_decode(session: &mut Session<'_>, seed: u64, vocab: usize) -> Result<Comparison> {
    let tokens = tokens(seed, vocab, BATCH_TOKENS);
    session.truncate(0);
    let batch = of(session.prefill(&tokens)?)?;
    session.truncate(0);
    for &token in &tokens[..BATCH_TOKENS - 1] {
        session.decode(token)?;
    }
    let single = of(session.decode(tokens[BATCH_TOKENS - 1])?)?;
    session.truncate(0);
    Ok(compare(&batch, &Reference { against: "one-by-one decode".to_owned(), answer: single, bound_ppb: 0 }))
}

/// Holds the tokens that a bounded head chooses against the whole head's, after each of [`BATCH_TOKENS`] tokens: they must
/// be the same.
pub fn same_tokens(session: &mut Session<'_>, seed: u64, vocab: usize) -> Result<Comparison> {
    session.truncate(0);
    let mut same = true;
    for (position, &token) in tokens(seed, vocab, BATCH_TOKENS).iter().enumerate() {
        let whole = argmax(session.decode(token)?);
        session.truncate(position);
        same &= session.decode_greedy(token)? == whole;
    }
    session.truncate(0);
    let (against, relative_rms_ppb) = ("tokens of the whole head".to_owned(), same.then_some(0));
    Ok(Comparison { against, relative_rms_ppb, bound_ppb: 0, pass: same })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(logits: &[f32], bound_ppb: u64) -> Reference {
        Reference { against: "x".to_owned(), answer: of(logits).unwrap(), bound_ppb }
    }

    #[test]
    fn distance_is_relative_rms() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        let off: Vec<f32> = logits.iter().map(|l| l * 1.01).collect();
        let found = compare(&of(&off).unwrap(), &reference(&logits, 20_000_000));
        assert!(found.pass && (9_999_000..10_001_000).contains(&found.relative_rms_ppb.unwrap()), "{found:?}");
        assert!(!compare(&of(&off).unwrap(), &reference(&logits, 9_000_000)).pass);
    }

    #[test]
    fn bit_for_bit_means_every_logit() {
        let logits = vec![1.0f32; 5000];
        let mut off = logits.clone();
        assert!(compare(&of(&off).unwrap(), &reference(&logits, 0)).pass);
        off[4999] = f32::from_bits(1.0f32.to_bits() + 1);
        assert!(!compare(&of(&off).unwrap(), &reference(&logits, 0)).pass);
    }

    #[test]
    fn other_vocabularies_and_zeros_never_pass() {
        let bound = 1_000_000_000;
        assert!(!compare(&of(&[1.0; 10]).unwrap(), &reference(&[1.0; 11], bound)).pass);
        assert!(!compare(&of(&[1.0; 10]).unwrap(), &reference(&[0.0; 10], bound)).pass);
        assert!(of(&[f32::NAN]).is_err());
    }

    #[test]
    fn seeded_tokens_are_stable() {
        assert_eq!(tokens(7, 1000, 5), tokens(7, 1000, 9)[..5]);
        assert_ne!(tokens(7, 1000, 5), tokens(8, 1000, 5));
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }
}
