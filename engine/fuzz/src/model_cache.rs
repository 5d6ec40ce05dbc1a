//! A cache of packed weights, of the seed's own model: whole, or a header and panels that are put together here.

use engine::formats::GgufFile;
use engine::model::load_gguf_from;

use super::gguf_model::evaluate;
use super::refused;

/// The name that inputs have in messages.
const NAME: &str = "model.tritmark";

/// The model that every cache here is of.
const MODEL: &[u8] = include_bytes!("../corpus/gguf_model/seed-i2s");

/// Loads the model with a cache in every format that has one, and runs it.
pub fn run(data: &[u8]) -> bool {
    let file = GgufFile::from_bytes("seed.gguf", MODEL.to_vec()).expect("a seed");
    let mut taken = false;
    for format in super::gguf_model::FORMATS {
        for cache in [data.to_vec(), framed(data)] {
            taken |= match load_gguf_from(&file, format, NAME.as_ref(), cache) {
                Ok(model) => evaluate(&model),
                // What the cache does not have is loaded from the file, which is not of every format.
                Err(error) if error.to_string().starts_with("seed.gguf") => false,
                Err(error) => refused(NAME, &error),
            };
        }
    }
    taken
}

/// The first line as a header, its length before it, and what follows from the next page on.
fn framed(data: &[u8]) -> Vec<u8> {
    let (header, panels) = data.split_at(data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len()));
    let mut bytes = [&b"TRITMARK"[..], &(header.len() as u64).to_le_bytes(), header].concat();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes.extend(panels.iter().skip(1));
    bytes
}
