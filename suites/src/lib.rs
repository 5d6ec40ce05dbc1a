//! The vocabulary of the bench: what is measured, and the row every result is kept in.
//!
//! Suites, models and engines are data (`definitions/*.toml`, `models.toml`, `engines.toml`). Each file is read as a
//! wire type that refuses unknown keys, then turned into a checked domain type. Records are the only interface between
//! measuring (`harness`) and meaning (`reports`).

pub mod arithmetic;
pub mod catalogue;
pub mod cell;
pub mod claim;
pub mod definition;
pub mod error;
pub mod eval;
pub mod gate;
pub mod model;
pub mod outside;
pub mod published;
pub mod record;
pub mod run;
pub mod schema;
pub mod task;

pub use catalogue::Catalogue;
pub use cell::{Cell, Phase, Workload};
pub use definition::Suite;
pub use error::Error;
pub use model::{EngineSpec, ModelSpec};
pub use record::Record;
