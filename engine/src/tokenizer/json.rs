//! `tokenizer.json` of Hugging Face models, read by the `tokenizers` crate, with what
//! `tokenizer_config.json` beside it says of BOS and EOS.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use super::TokenizerError;
use super::bytes::{ByteMap, Pieces};
use super::spm::{byte_of, push_visible};

/// A `tokenizer.json` and its neighbour.
pub(super) struct Loaded {
    pub(super) encoder: Tokenizer,
    pub(super) pieces: Pieces,
    pub(super) strip_space: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) adds_bos: bool,
    pub(super) adds_eos: bool,
}

fn wrong(path: &Path, reason: impl ToString) -> TokenizerError {
    TokenizerError::Json { path: path.to_owned(), reason: reason.to_string() }
}

fn parse(path: &Path) -> Result<(Vec<u8>, Value), TokenizerError> {
    let bytes = std::fs::read(path).map_err(|e| wrong(path, e))?;
    let value = serde_json::from_slice(&bytes).map_err(|e| wrong(path, e))?;
    Ok((bytes, value))
}

pub(super) fn load(path: &Path) -> Result<Loaded, TokenizerError> {
    let (bytes, json) = parse(path)?;
    check_merges(path, &json["model"])?;
    let mut encoder = Tokenizer::from_bytes(&bytes).map_err(|e| wrong(path, e))?;
    encoder.with_padding(None);
    encoder.with_truncation(None).map_err(|e| wrong(path, e))?;
    let decoder = Decoder::of(path, &json["decoder"])?;
    let pieces = pieces(path, &encoder, &decoder, bytes.len())?;

    let config_path = path.with_file_name("tokenizer_config.json");
    let config = if config_path.exists() { parse(&config_path)?.1 } else { Value::Null };
    let (before, after) = template(&encoder);
    let named = |key: &str| {
        let token = &config[key];
        let text = token.as_str().or_else(|| token["content"].as_str())?;
        encoder.token_to_id(text)
    };
    let flag = |key: &str, otherwise: bool| config[key].as_bool().unwrap_or(otherwise);
    Ok(Loaded {
        bos: named("bos_token").or(before),
        eos: named("eos_token").or(after),
        adds_bos: flag("add_bos_token", before.is_some()),
        adds_eos: flag("add_eos_token", after.is_some()),
        strip_space: decoder.strip_space,
        pieces,
        encoder,
    })
}

/// The ids that the file's own post-processor puts before and after a text, if it does.
fn template(encoder: &Tokenizer) -> (Option<u32>, Option<u32>) {
    let with = |special| encoder.encode("a", special).map(|e| e.get_ids().to_vec());
    let (Ok(bare), Ok(full)) = (with(false), with(true)) else {
        return (None, None);
    };
    let Some(at) = (0..full.len()).find(|&at| full[at..].starts_with(&bare)) else {
        return (None, None);
    };
    let before = full[..at].first().copied();
    (before, full[at + bare.len()..].first().copied())
}

/// The crate indexes by the longest token when it joins a merge's parts: every part and every whole
/// must be in the vocabulary before it sees them.
fn check_merges(path: &Path, model: &Value) -> Result<(), TokenizerError> {
    let (Some(merges), Some(vocab)) = (model["merges"].as_array(), model["vocab"].as_object()) else {
        return Ok(());
    };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("");
    for merge in merges {
        let pair = match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
            (Some(line), _) => line.split_once(' '),
            (_, Some([left, right])) => left.as_str().zip(right.as_str()),
            _ => None,
        };
        let whole = pair.and_then(|(left, right)| {
            let right = right.strip_prefix(prefix)?;
            Some(format!("{left}{right}"))
        });
        let known = |token: &str| vocab.contains_key(token);
        let good = pair.zip(whole).is_some_and(|((left, right), whole)| known(left) && known(right) && known(&whole));
        if !good {
            let found = format!("merge {merge}: expected a pair of tokens whose union is a token");
            return Err(wrong(path, found));
        }
    }
    Ok(())
}

/// How texts of tokens become bytes.
struct Decoder {
    byte_level: bool,
    strip_space: bool,
}

impl Decoder {
    fn of(path: &Path, json: &Value) -> Result<Self, TokenizerError> {
        let steps = match json["decoders"].as_array() {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(json),
        };
        let step = |name: &str| steps.iter().find(|s| s["type"] == name);
        let metaspace = step("Metaspace");
        if step("ByteLevel").is_none() && step("ByteFallback").is_none() && metaspace.is_none() {
            let kinds: Vec<_> = steps.iter().map(|s| s["type"].to_string()).collect();
            let found = kinds.join(", ");
            let expected = "decoder: expected ByteLevel, ByteFallback or Metaspace";
            return Err(wrong(path, format!("{expected}, found {found}")));
        }
        let strips = step("Strip").is_some_and(|s| s["start"] != 0);
        let prepends = metaspace.is_some_and(|s| s["prepend_scheme"] != "never");
        Ok(Self { byte_level: step("ByteLevel").is_some(), strip_space: strips || prepends })
    }
}

fn pieces(path: &Path, encoder: &Tokenizer, decoder: &Decoder, file_bytes: usize) -> Result<Pieces, TokenizerError> {
    let vocab = encoder.get_vocab(true);
    let last = vocab.values().max().copied();
    let ids = last.map_or(0, |id| id as usize + 1);
    if ids == 0 || ids > file_bytes {
        // Ids need not be dense, but a table of them must not outgrow the file.
        return Err(wrong(path, format!("vocabulary of {} tokens with ids to {last:?}", vocab.len())));
    }
    let added = encoder.get_added_tokens_decoder();
    let silent: HashSet<u32> = added.iter().filter(|(_, t)| t.special).map(|(&id, _)| id).collect();
    let map = ByteMap::new();
    let mut pieces = Pieces::default();
    for id in 0..ids as u32 {
        let text = encoder.id_to_token(id).unwrap_or_default();
        pieces.push(|out| match byte_of(&text) {
            _ if silent.contains(&id) => {}
            _ if added.contains_key(&id) => out.extend_from_slice(text.as_bytes()),
            _ if decoder.byte_level => map.push(&text, out),
            Some(byte) => out.push(byte),
            None => push_visible(&text, out),
        });
    }
    Ok(pieces)
}
