//! What is read from the machine: memory, energy, counters, interference, bandwidth and peaks.

pub mod bandwidth;
pub mod counters;
pub mod energy;
pub mod lockstep;
pub mod peak;
pub mod procfs;
pub mod roofline;
