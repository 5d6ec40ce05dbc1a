//! The memory of a prompt grows with its length, not with its square. The only test of its file, for the peak is the
//! process's.

mod common;

use common::small;
use engine::model::{Config, Format, KvType, Session, SessionOptions};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::{Kernels, Pool};

/// Bytes that a session and a prefill take beside what [`Session::predict_bytes`] tells of: a batch's activations, code
/// and stacks touched for the first time.
const CONSTANT: u64 = 8 << 20;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_prefill_of_8192_tokens_needs_no_quadratic_memory() {
    let config = Config { layers: 1, context: 8192, ..small() };
    let model =
        build(&SyntheticSpec { config, seed: 1, head: HeadType::F16, gate_zeros: None }, Format::Ternary).unwrap();
    let (pool, kernels) = (Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
    for tokens in [4096, 8192] {
        let prompt: Vec<u32> = (0..tokens).map(|token| token as u32 % 7).collect();
        for kv in [KvType::F16, KvType::Int8, KvType::F32] {
            // Sets the peak back to what is resident now.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = status("VmRSS");
            let options = SessionOptions { kv, ..SessionOptions::new(tokens) };
            let mut session = Session::new(&model, &pool, kernels, options).unwrap();
            assert!(session.prefill(&prompt).unwrap().iter().all(|logit| logit.is_finite()));
            let (peak, told) = (status("VmHWM") - before, Session::predict_bytes(&model, 2, tokens, kv));
            // One row of scores for each token and head, even in f16, would be `tokens^2 * 2` bytes: 32 and 128 MiB.
            assert!(peak < told + CONSTANT, "{} {tokens}: {peak} bytes, {told} told", kv.name());
        }
    }
}
