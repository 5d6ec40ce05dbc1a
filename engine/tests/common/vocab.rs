//! Vocabularies as GGUF files have them.

use std::collections::HashMap;
use std::path::Path;

use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;
use serde_json::Value;

use super::writer::{Meta, Writer};
use super::{Stream, data};

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

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// llama.cpp's test strings and their ids.
pub fn vectors(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let folder = data("tokenizer_vectors")?;
    let texts = std::fs::read_to_string(folder.join(format!("{name}.inp"))).unwrap();
    let ids = std::fs::read_to_string(folder.join(format!("{name}.out"))).unwrap();
    let ids = ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    let both: Vec<_> = texts.split(SEPARATOR).map(str::to_owned).zip(ids).collect();
    assert!(both.len() >= 46, "{}", both.len());
    Some(both)
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|c| DIGITS.iter().position(|&d| d == c));
    let (mut bits, mut held, mut out) = (0usize, 0, Vec::new());
    for digit in digits {
        (bits, held) = ((bits << 6 | digit) & 0xffff, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

/// LLaMA 2's vocabulary as a GGUF file has it, from a package that carries it inside a script: texts in order of id,
/// one a line, and merges in order of score as pairs of ids (u16). Only the order of scores matters, so a token's
/// score is here minus the rank of the first merge that makes it.
pub fn llama_2() -> Option<Writer> {
    let script = std::fs::read_to_string(data("llama2-tokenizer/llama-tokenizer.js")?).unwrap();
    let constant = |name: &str| {
        let (_, rest) = script.split_once(&format!("const {name} = \"")).unwrap();
        base64(rest.split_once('"').unwrap().0)
    };
    let lines = String::from_utf8(constant("llama_vocab_base64")).unwrap();
    let tokens: Vec<String> = lines.split('\n').map(str::to_owned).collect();
    assert_eq!(tokens.len(), 32_000);
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
    let merges = constant("llama_merges_binary");
    let mut scores = vec![0.0; tokens.len()];
    for (rank, pair) in merges.chunks_exact(4).enumerate().rev() {
        let part = |at: usize| tokens[usize::from(u16::from_le_bytes([pair[at], pair[at + 1]]))].as_str();
        scores[ids[format!("{}{}", part(0), part(2)).as_str()]] = -(rank as f32);
    }
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..=258 => 6,
        _ => 1,
    };
    let mut writer = Writer::default();
    writer
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.scores", Meta::Floats(scores))
        .set("tokenizer.ggml.token_type", Meta::Integers((0..32_000).map(kind).collect()))
        .set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    Some(writer)
}

/// Texts of many scripts, odd spaces and broken words.
pub fn texts() -> Vec<String> {
    const PARTS: [&str; 24] = [
        "Once upon a time",
        " there was",
        "  ",
        "\n",
        "\n\n",
        "\t",
        " \n ",
        "Tom's",
        "I'LL",
        "3",
        "1234567",
        "½",
        "é",
        "日本語",
        "🦙",
        "👨‍👩‍👧",
        "_",
        "...",
        "!?",
        "don't",
        "camelCase",
        "\u{a0}",
        "а́",
        "ÅÄÖ",
    ];
    let mut stream = Stream(7);
    (0..2000).map(|_| (0..1 + stream.below(8)).map(|_| PARTS[stream.below(PARTS.len())]).collect()).collect()
}
