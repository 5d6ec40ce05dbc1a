//! Accuracy: what judges an answer, what runs generated programs, and what asks a server.

pub mod endpoint;
pub mod judge;
pub mod sandbox;
