//! A `tokenizer.json` and, behind a zero byte if there is one, the `tokenizer_config.json` beside it.

use engine::tokenizer::Tokenizer;

use super::refused;
use super::tokenizer_gguf::encode;

/// Builds the tokenizer and encodes some texts.
pub fn run(data: &[u8]) -> bool {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let json = parts.next().unwrap_or_default();
    match Tokenizer::from_json_bytes("tokenizer.json", json, parts.next()) {
        Ok(tokenizer) => encode(&tokenizer, ""),
        Err(error) => refused("tokenizer", &error),
    }
}
