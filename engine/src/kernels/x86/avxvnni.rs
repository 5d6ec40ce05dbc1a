//! AVX-VNNI, beside AVX2: CPUs without AVX-512 whose `vpdpbusd` takes 256 bits. All but ternary weights and int8
//! caches (`lanes/dots.rs`) goes the AVX2 way.

pub(crate) mod base3;
pub(crate) mod sparse;
pub(crate) mod ternary;
