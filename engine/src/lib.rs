//! A complete ternary (BitNet b1.58) inference engine and its honest fp16 baseline.

pub mod formats;
pub mod quant;
pub mod tokenizer;
