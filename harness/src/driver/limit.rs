//! The machine's limit for a cell, and the share of it that was reached.

use crate::probe::{peak::Element, roofline};
use suites::Cell;
use suites::cell::{Phase, Workload};
use suites::model::{EngineSpec, ModelSpec, WeightFormat};
use suites::record::{Measurement, Share};
use suites::run::Limit;

/// Measures what bounds `cell` (a fraction of a second): the machine's limit drifts, and a share is taken of what it was
/// just before, not an hour ago.
pub(super) fn before(cell: &Cell, model: &ModelSpec, engine: &EngineSpec) -> Limit {
    let threads = cell.threads as usize;
    match cell.workload.phase {
        Phase::Decode => roofline::decode(threads, model.engine_bytes(engine)),
        Phase::Prefill => roofline::prefill(threads, element(engine.format), cell.isa.as_deref()),
    }
}

/// What the linear layers of a format multiply.
fn element(format: WeightFormat) -> Element {
    match format {
        format if format.is_ternary() => Element::Int8,
        WeightFormat::Bf16 => Element::Bf16,
        _ => Element::F32,
    }
}

/// How near `measurement` came to `of`; `None` without a limit or a speed.
pub(super) fn share(of: Limit, workload: Workload, measurement: &Measurement) -> Option<Share> {
    let footprint = &measurement.footprint;
    let per_token = match workload.phase {
        Phase::Prefill => 2 * footprint.linear_weights?,
        Phase::Decode => footprint.read_per_token_bytes + cache_read(workload, workload.depth(), footprint.kv_bytes),
    };
    self::of(of, per_token, measurement.tokens_per_second()?)
}

/// Bytes of the cache that a token of a window reads, which begins after `depth` tokens: the cache, of `kv_bytes` when it
/// holds all of the workload's context, grows meanwhile, and its middle counts.
pub(super) fn cache_read(workload: Workload, depth: u32, kv_bytes: u64) -> u64 {
    let middle = u128::from(depth) + u128::from(workload.tokens / 2);
    (u128::from(kv_bytes) * middle / u128::from(workload.context().max(1))) as u64
}

/// The share of `of` that `speed` tokens a second come to, each of `per_token` bytes or operations; `None` without a limit.
pub(super) fn of(of: Limit, per_token: u64, speed: f64) -> Option<Share> {
    let limit = of.per_second.filter(|&limit| limit > 0)?;
    let share = speed * per_token as f64 / limit as f64;
    Some(Share { of, per_token, share_ppm: (share * 1e6).round() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use suites::record::{Check, Energy, Footprint, Interference, Memory, Ran, Sample};

    fn limit(name: &str, per_second: Option<u64>) -> Limit {
        Limit { threads: 2, name: name.to_owned(), unit: "bytes/s".to_owned(), per_second, how: String::new() }
    }

    /// 100 tokens a second; 1,000 weight bytes a token, 400 weights, 640 bytes of cache.
    fn measurement() -> Measurement {
        let text = String::new;
        let ran = Ran { isa: text(), linear: text(), head: text(), kv: text(), profile: text(), pinned: true };
        Measurement {
            ran,
            load_ns: 1,
            samples: vec![Sample { tokens: 10, duration_ns: 100_000_000, ttft_ns: None, token_ns: Vec::new() }],
            footprint: Footprint {
                weights_bytes: 1200,
                linear_bytes: 100,
                read_per_token_bytes: 1000,
                linear_weights: Some(400),
                kv_bytes: 640,
            },
            memory: Memory {
                peak_rss_bytes: None,
                rss_anon_bytes: None,
                rss_file_bytes: None,
                rss_program_bytes: None,
                predicted_bytes: 0,
            },
            energy: Energy::Unavailable { reason: text() },
            phases: Vec::new(),
            counters: Vec::new(),
            thread_counters: Vec::new(),
            check: Check { digest: text(), argmax: 0, comparisons: Vec::new() },
            sparsity: None,
            bounded: None,
            accuracy: Vec::new(),
            interference: Interference {
                steal_ns: None,
                involuntary_switches: None,
                load_milli: None,
                bandwidth_before: None,
            },
            limit: None,
        }
    }

    #[test]
    fn decode_counts_weights_and_the_middle_of_the_cache() {
        let workload = Workload { phase: Phase::Decode, tokens: 64, depth: Some(64) };
        let found = share(limit("dram", Some(1_000_000)), workload, &measurement()).unwrap();
        // 640 bytes for 128 positions, of which 96 are read.
        assert_eq!((found.per_token, found.share_ppm), (1480, 148_000));
    }

    #[test]
    fn prefill_counts_two_operations_a_weight() {
        let workload = Workload { phase: Phase::Prefill, tokens: 10, depth: None };
        let found = share(limit("int8", Some(160_000)), workload, &measurement()).unwrap();
        assert_eq!((found.per_token, found.share_ppm), (800, 500_000));
    }

    #[test]
    fn an_unknown_is_no_share() {
        let decode = Workload { phase: Phase::Decode, tokens: 1, depth: None };
        assert_eq!(share(limit("dram", None), decode, &measurement()), None);
        let mut older = measurement();
        older.footprint.linear_weights = None;
        assert_eq!(share(limit("int8", Some(1)), Workload { phase: Phase::Prefill, ..decode }, &older), None);
        older.samples.clear();
        assert_eq!(share(limit("dram", Some(1)), decode, &older), None);
    }
}
