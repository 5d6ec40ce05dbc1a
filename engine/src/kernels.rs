//! The inner loops. [`isa`] says which code path runs; the scalar one in `reference` defines every result, and the
//! others equal it bit for bit.

pub(crate) mod activations;
#[doc(hidden)]
pub mod alone;
pub(crate) mod attention;
pub(crate) mod base3;
pub(crate) mod bf16;
pub(crate) mod bounded;
pub(crate) mod float;
pub(crate) mod float16;
pub mod isa;
pub(crate) mod lanes;
pub(crate) mod plain;
pub(crate) mod q6;
pub(crate) mod q8;
pub(crate) mod reference;
pub(crate) mod sparse;
pub(crate) mod ternary;
pub(crate) mod tile;
pub(crate) mod wide;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;
