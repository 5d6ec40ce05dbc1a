//! What is read from the machine: memory, energy, counters, facts of each stage, interference, bandwidth and peaks.

pub mod bandwidth;
pub mod counters;
pub mod energy;
pub mod facts;
pub mod lockstep;
pub mod peak;
pub mod phases;
pub mod procfs;
pub mod roofline;
