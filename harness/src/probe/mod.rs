//! What is read from the machine: memory, energy, counters, interference, bandwidth.

pub mod bandwidth;
pub mod counters;
pub mod energy;
pub mod procfs;
