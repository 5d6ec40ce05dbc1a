//! AVX2 with FMA and F16C.

pub(crate) mod activations;
pub(crate) mod base3;
pub(crate) mod bf16;
pub(crate) mod bounded;
pub(crate) mod float16;
pub(crate) mod q6;
pub(crate) mod q8;
pub(crate) mod sparse;
pub(crate) mod ternary;
