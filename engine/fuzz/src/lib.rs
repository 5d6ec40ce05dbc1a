//! What the fuzz targets do with their input. An input that is refused is fine, by an error that names the file; one
//! that is taken must hold what the types promise. A panic, an abort, five seconds or a gigabyte are findings. Every `run` returns
//! whether the input was taken.
//!
//! `engine/tests/fuzz_corpus.rs` includes this file too, and runs every input of the corpus with the other tests.

pub mod chat_template;
pub mod gguf;
pub mod gguf_model;
pub mod model_cache;
pub mod safetensors;
pub mod tokenizer_gguf;
pub mod tokenizer_json;

// The tests' own writer, of which the targets use a part, without docs as tests have none; `fuzz_corpus` compiles it twice.
#[path = "../../tests/common/writer.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, clippy::duplicate_mod)]
pub mod writer;

use std::fmt::Display;

use engine::formats::gguf::I2sLayout;

/// The name that inputs have in messages.
const NAME: &str = "input.gguf";

const LAYOUTS: [I2sLayout; 3] = [I2sLayout::Blocks128, I2sLayout::Blocks64, I2sLayout::Rows4];

/// A refusal must say of what file, and be fit to print. Returns false: not taken.
fn refused(name: &str, error: &impl Display) -> bool {
    let message = error.to_string();
    assert!(message.contains(name), "no {name} in: {message}");
    assert!(message.len() < 10_000 && !message.contains('\u{1b}'), "not fit to print: {message:?}");
    false
}
