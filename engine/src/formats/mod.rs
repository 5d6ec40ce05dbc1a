//! Model files: untrusted bytes in, checked metadata and tensors out.

pub(crate) mod bytes;
pub(crate) mod error;
pub mod gguf;
pub mod kernel_config;
pub mod safetensors;

pub use error::FormatError;
pub use gguf::GgufFile;
pub use kernel_config::KernelConfig;
pub use safetensors::HfFolder;
