//! The tokenizer in a GGUF file's metadata. An input is either a file or, so that changes of it make sense more often,
//! lines that a file is written from: the first the tokenizer model, then `t` a token of kind (a digit), `m` a merge,
//! `k` a key and an id, `p` the pre-tokenizer, the rest a text to encode.

use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;

use super::writer::{Meta, Writer};
use super::{NAME, refused};

/// Texts that meet the splits, fallbacks and literal tokens.
const TEXTS: [&str; 4] = ["", "abc cab <s> é", " It's 1234\r\n\t \u{2581}日\0", "<|im_end|>aaaaaaaaaaaaaaaaaaaaaaaa  "];

/// Builds the tokenizer and encodes some texts.
pub fn run(data: &[u8]) -> bool {
    if data.starts_with(b"GGUF") {
        return file(data.to_vec(), "");
    }
    let input = String::from_utf8_lossy(data);
    let (writer, text) = write(&input);
    file(writer.bytes(), &text)
}

fn file(bytes: Vec<u8>, text: &str) -> bool {
    let file = match GgufFile::from_bytes(NAME, bytes) {
        Ok(file) => file,
        Err(error) => return refused(NAME, &error),
    };
    match Tokenizer::from_gguf(&file) {
        Ok(tokenizer) => encode(&tokenizer, text),
        Err(error) => refused(NAME, &error),
    }
}

/// Ids are of the vocabulary, and their bytes make the text they decode to.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> bool {
    for text in TEXTS.into_iter().chain([text]) {
        for special in [false, true] {
            let Ok(ids) = tokenizer.encode(text, special) else { continue };
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary()), "{ids:?}");
            tokenizer.decode(&ids).expect("ids of the vocabulary");
        }
    }
    let known = |id: Option<u32>| assert!(id.is_none_or(|id| tokenizer.piece(id).is_ok()), "{id:?}");
    known(tokenizer.bos());
    known(tokenizer.eos());
    known(tokenizer.eot());
    tokenizer.stops().iter().for_each(|&id| known(Some(id)));
    true
}

/// The file that lines describe, and the text.
fn write(input: &str) -> (Writer, String) {
    let mut writer = Writer::default();
    let (mut tokens, mut kinds, mut scores, mut merges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut text = String::new();
    let mut lines = input.lines();
    writer.set("tokenizer.ggml.model", lines.next().unwrap_or_default());
    for line in lines {
        let (what, rest) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
        match what {
            "t" => {
                let (kind, token) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
                kinds.push(kind.parse().unwrap_or(1));
                scores.push(-(tokens.len() as f32 % 7.0));
                tokens.push(token.to_owned());
            }
            "m" => merges.push(rest.to_owned()),
            "p" => {
                writer.set("tokenizer.ggml.pre", rest);
            }
            "k" => {
                let (key, value) = rest.split_once(' ').unwrap_or((rest, "0"));
                let value = value.parse().map_or(Meta::Bool(value == "true"), Meta::U32);
                writer.set(&format!("tokenizer.ggml.{key}"), value);
            }
            _ => text.push_str(line),
        }
    }
    writer.set("tokenizer.ggml.tokens", Meta::Texts(tokens)).set("tokenizer.ggml.token_type", Meta::Integers(kinds));
    writer.set("tokenizer.ggml.scores", Meta::Floats(scores));
    if !merges.is_empty() {
        writer.set("tokenizer.ggml.merges", Meta::Texts(merges));
    }
    (writer, text)
}
