//! temp
pub mod data;
pub mod probe;
