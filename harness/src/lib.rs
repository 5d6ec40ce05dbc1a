//! How it is measured: plans the cells of a suite, runs each in a worker process of its own, keeps the records.

pub mod adapters;
pub mod answer;
pub mod cmd;
pub mod constants;
pub mod data;
pub mod driver;
pub mod error;
pub mod eval;
pub mod gate;
pub mod history;
pub mod local;
pub mod machine;
pub mod parent;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod protocol;
pub mod store;
pub mod worker;
