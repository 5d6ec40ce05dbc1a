//! A `tokenizer.json` and, behind a zero byte if there is one, the `tokenizer_config.json` beside it.

use std::path::Path;
use std::sync::LazyLock;

use engine::tokenizer::Tokenizer;
use tempfile::TempDir;

use super::refused;
use super::tokenizer_gguf::encode;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a temporary folder")
});

/// Builds the tokenizer and encodes some texts.
pub fn run(data: &[u8]) -> bool {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let (json, config) = (FOLDER.path().join("tokenizer.json"), FOLDER.path().join("tokenizer_config.json"));
    std::fs::write(&json, parts.next().unwrap_or_default()).expect("room for the input");
    match parts.next() {
        Some(bytes) => std::fs::write(&config, bytes).expect("room for the input"),
        None => drop(std::fs::remove_file(&config)),
    }
    match Tokenizer::from_json(&json) {
        Ok(tokenizer) => encode(&tokenizer, ""),
        Err(error) => refused("tokenizer", &error),
    }
}
