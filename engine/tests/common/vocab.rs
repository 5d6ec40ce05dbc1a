//! Vocabularies as GGUF files have them.

use std::collections::HashMap;
use std::path::Path;

use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;
use serde_json::Value;

use super::writer::{Meta, Writer};

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The GGUF file that a converter makes of a `tokenizer.json`.
pub fn gguf_of(path: &Path, pre: &str) -> Writer {
    let json = json(path);
    let mut ids: HashMap<usize, (String, i32)> = HashMap::new();
    for (text, id) in json["model"]["vocab"].as_object().unwrap() {
        ids.insert(id.as_u64().unwrap() as usize, (text.clone(), 1));
    }
    for token in json["added_tokens"].as_array().unwrap() {
        let id = token["id"].as_u64().unwrap() as usize;
        let text = token["content"].as_str().unwrap();
        let kind = if text == "<unk>" {
            2
        } else if token["special"] == true {
            3
        } else {
            4
        };
        ids.insert(id, (text.to_owned(), kind));
    }
    let (tokens, kinds): (Vec<_>, Vec<_>) = (0..ids.len()).map(|id| ids[&id].clone()).unzip();
    let merges: Vec<String> = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| match merge.as_array() {
            Some(pair) => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
            None => merge.as_str().unwrap().to_owned(),
        })
        .collect();
    let mut writer = Writer::default();
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", pre);
    writer.set("tokenizer.ggml.merges", Meta::Texts(merges));
    writer.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    writer.set("tokenizer.ggml.token_type", Meta::Integers(kinds));
    writer
}

/// The tokenizer of a file in memory.
pub fn from_gguf(writer: &Writer) -> Result<Tokenizer, String> {
    let file = GgufFile::from_bytes("test.gguf", writer.bytes()).map_err(|e| e.to_string())?;
    Tokenizer::from_gguf(&file).map_err(|e| e.to_string())
}
