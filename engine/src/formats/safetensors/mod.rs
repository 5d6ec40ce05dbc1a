//! Hugging Face model folders: `config.json`, and weights in safetensors files.
//!
//! A safetensors file is a u64 length (little-endian), that many bytes of JSON (name to dtype, shape, offsets), and the
//! tensors' bytes without a gap between them. A folder has one, `model.safetensors`, or several with an index,
//! `model.safetensors.index.json`, that says which tensor is in which.
//!
//! The files are mapped. Every offset is checked against the bytes there are, every name against the index; what is
//! allocated by what a file says is bounded by a small multiple of its own size.
//!
//! What the weights mean is the matter of `quantization_config` ([`Convention`]): the same bytes stand for different
//! models under `bitlinear` and `autobitlinear`.

mod folder;
mod header;
mod json;
mod names;
mod quantisation;
mod weight;

pub use folder::HfFolder;
pub use header::{Dtype, TensorInfo};
pub use json::Section;
pub use names::{gguf_name, hf_names};
pub use quantisation::Convention;
pub use weight::{Packing, Trits, Weight};
