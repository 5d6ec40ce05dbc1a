//! Trains a ternary model (BitNet b1.58) and its fp16 twin: one shape, one corpus, one order of batches, one schedule.
//!
//! The corpus is generated ([`corpus`]), the ternary one is trained as the BitNet papers define it ([`ops::quant`]), and
//! both are written as Hugging Face folders that the project's engine reads ([`export`]).

pub mod batches;
pub mod check;
pub mod corpus;
pub mod evaluate;
pub mod export;
pub mod model;
pub mod ops;
pub mod optimizer;
pub mod random;
pub mod tokens;
pub mod train;
