//! The rule that RoPE's divisors were made by: GGUF files have the divisors, `config.json` the rule.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::{Config, Llama3Scaling};

/// `factor` of the llama3 rules that are tried.
const FACTORS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Their `original_max_position_embeddings`: 2 to the power of these.
const CONTEXT_BITS: std::ops::RangeInclusive<u32> = 11..=17;
/// By how many units in the last place divisors may miss a rule's: llama.cpp's converter evaluates the rule in f32,
/// which was seen to miss f64 by 3 for LLaMA 3.1 and 3.2, and by 41 at most over the rules above, heads of 32 to 256 and
/// bases of 1e4 to 1e6. Two rules are apart by a thousand times as much.
const MOST_ULPS: u64 = 128;

/// A rule, as `config.json` has it.
pub(super) struct Rule {
    pub(super) json: Value,
    /// By how many units in the last place its divisors miss the file's at most.
    pub(super) ulps: u64,
}

/// The rule that gives a model's divisors; `None` if RoPE is not scaled.
///
/// # Errors
/// Divisors that no rule gives.
pub(super) fn rule(config: &Config) -> Result<Option<Rule>> {
    let factors = &config.rope_factors;
    let Some(first) = factors.first() else { return Ok(None) };
    if factors.iter().all(|factor| factor == first) {
        let json = json!({ "rope_type": "linear", "factor": f64::from(*first) });
        return Ok(Some(Rule { json, ulps: 0 }));
    }
    let mut best = None;
    for (factor, bits) in FACTORS.into_iter().flat_map(|factor| CONTEXT_BITS.map(move |bits| (factor, bits))) {
        let (low, high, original) = (1.0, 4.0, 1usize << bits);
        let scaling =
            Llama3Scaling { factor, low_freq_factor: low, high_freq_factor: high, original_context: original };
        let ulps = apart(&scaling.factors(config.head_dim, config.rope_theta)?, factors);
        if ulps <= MOST_ULPS && best.as_ref().is_none_or(|best: &Rule| ulps < best.ulps) {
            let json = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original,
            });
            best = Some(Rule { json, ulps });
        }
    }
    best.map(Some).ok_or_else(|| {
        let expected = format!(
            "factors of a rule that config.json has: linear, or llama3 with a factor of 2 to 64, low and high frequency \
             factors of 1 and 4 and an original context of {} to {}",
            1u32 << CONTEXT_BITS.start(),
            1u32 << CONTEXT_BITS.end(),
        );
        let found = format!("{} factors from {first} to {} that none gives", factors.len(), factors[factors.len() - 1]);
        Error::Config { field: "rope_factors", expected, found }
    })
}

/// The largest distance of two numbers, in units in the last place; all are positive.
fn apart(one: &[f32], other: &[f32]) -> u64 {
    let distance = |(a, b): (&f32, &f32)| u64::from(a.to_bits().abs_diff(b.to_bits()));
    one.iter().zip(other).map(distance).max().unwrap_or(0)
}
