//! A cache of packed weights, of a seed's own model: whole, or a header and panels that are put together here.

use engine::formats::GgufFile;
use engine::model::load_gguf_from;

use super::gguf_model::{evaluate, loadings};
use super::refused;

/// The name that inputs have in messages.
const NAME: &str = "model.tritmark";

/// The models that caches here are of: with a head of f16, Q6_K and Q8_0.
const MODELS: [&[u8]; 3] = [
    include_bytes!("../corpus/gguf_model/seed-i2s"),
    include_bytes!("../corpus/gguf_model/seed-tq1"),
    include_bytes!("../corpus/gguf_model/seed-llama-ternary"),
];

/// Loads each model with a cache as everything that has one, and runs it.
pub fn run(data: &[u8]) -> bool {
    let caches = [data.to_vec(), framed(data)];
    let mut taken = false;
    for model in MODELS {
        let file = GgufFile::from_bytes("seed.gguf", model.to_vec()).expect("a seed");
        for (loading, cache) in loadings().flat_map(|loading| caches.iter().map(move |cache| (loading, cache))) {
            taken |= match load_gguf_from(&file, loading, NAME.as_ref(), cache.clone()) {
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
