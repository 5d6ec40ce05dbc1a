//! A decode made slower by a known part, for studies of the gate: in programs of the feature `planted` alone.

use crate::gate::study::PLANTED;
use std::sync::LazyLock;
use std::time::Instant;

/// The part of a token's time that is added to it; 0 unless the environment says otherwise.
static PART: LazyLock<f64> = LazyLock::new(|| {
    let percent = std::env::var(PLANTED).ok().and_then(|text| text.parse::<f64>().ok());
    percent.filter(|percent| percent.is_finite() && *percent > 0.0).unwrap_or(0.0) / 100.0
});

/// Keeps the CPU busy for the planted part of the time since `begun`.
pub(super) fn slow(begun: Instant) {
    if *PART > 0.0 {
        let until = Instant::now() + begun.elapsed().mul_f64(*PART);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}
