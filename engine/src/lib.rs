//! A complete ternary (BitNet b1.58) inference engine and the fp16 baseline it is held against.
//!
//! The engine knows nothing of measuring. One model code serves both engines; they differ in [`Linear`] alone.

pub mod bounded;
pub mod chat;
pub mod convert;
pub mod error;
pub mod formats;
pub mod generate;
pub mod input;
pub mod kernels;
pub mod linear;
pub mod model;
pub mod quant;
pub mod synthetic;
pub mod threads;
pub mod tokenizer;
pub mod verify;

pub use error::{Error, Result};
pub use input::Input;
pub use kernels::isa::{Isa, Kernels};
pub use linear::Linear;
pub use model::{Config, Format, Model, Session, SessionOptions};
pub use threads::{Pool, Team};
