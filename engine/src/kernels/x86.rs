//! The x86-64 paths. Every function here is `unsafe` to call only for its `target_feature`s, which
//! [`super::isa::Kernels`] proves; lengths are checked inside.

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avxvnni;
