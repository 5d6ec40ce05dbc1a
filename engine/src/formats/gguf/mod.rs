//! GGUF, versions 2 and 3, little-endian.
//!
//! Layout (ggml's `docs/gguf.md`): magic `GGUF`, u32 version, u64 tensor count, u64 pair count; the
//! metadata pairs; the tensor table; padding to `general.alignment` (32 unless given); tensor data.
//!
//! The file is mapped, and nothing is copied but names. Every count, length and offset is checked
//! against the bytes that are left before anything is allocated or read by it, so memory is bounded
//! by a small multiple of the file's own size. A tensor's padding after its last byte may be absent.

mod cursor;
mod file;
mod getters;
mod metadata;
mod resolve;
mod tensor;
mod ternary;
mod types;
mod writer;

pub use file::GgufFile;
pub(crate) use file::KERNELS_KEY;
pub use metadata::{Array, Value, ValueType};
pub(crate) use tensor::Shape;
pub use tensor::TensorInfo;
pub use ternary::I2sLayout;
pub(crate) use ternary::scale_name;
pub(crate) use types::I2S_TAIL;
pub use types::{OtherType, TensorType};
pub use writer::{Meta, Metadata, Planned, Writer};
