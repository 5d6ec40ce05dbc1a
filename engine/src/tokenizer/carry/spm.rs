//! SentencePiece vocabularies as the `tokenizer.json` that transformers makes of them, and back; refused where the two
//! would not do the same.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::bpe::MOST_LITERAL;
use super::super::json::Neighbours;
use super::super::merges::{self, Ranks};
use super::super::spm::{SPACE, Spm, byte_of, pieces};
use super::super::vocab::{TokenKind, Vocab};
use super::super::{Encoder, Tokenizer};

/// How `tokenizer.json` writes the token of a byte.
fn byte_text(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// `tokenizer.json`, without what puts BOS first.
///
/// # Errors
/// What it would not say the same.
pub(super) fn json(spm: &Spm, vocab: &Vocab<'_>, space_prefix: bool) -> Result<Value, String> {
    // Ids that text never becomes and that stand for nothing are no tokens there.
    let used: Vec<_> = vocab.iter().filter(|&(_, _, kind)| kind != TokenKind::Unused).collect();
    let mut tokens = Map::new();
    for &(id, text, kind) in &used {
        if tokens.insert(text.to_owned(), json!(id)).is_some() {
            return Err(format!("two tokens {text:?}: tokenizer.json has one id a text"));
        }
        distinct(spm, text, id, kind)?;
    }
    all_bytes(spm, |text| tokens.get(text).and_then(Value::as_u64))?;
    let literals: Vec<_> = used.iter().filter(|(_, text, kind)| kind.is_literal() && !text.is_empty()).collect();
    let bytes: usize = literals.iter().map(|(_, text, _)| text.len()).sum();
    if bytes > MOST_LITERAL {
        return Err(format!("control tokens of {bytes} bytes together: expected at most {MOST_LITERAL}"));
    }
    let added = |(id, text, kind): &&(u32, &str, TokenKind)| {
        json!({
            "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": *kind != TokenKind::UserDefined,
        })
    };
    let unknown = used.iter().find(|(_, _, kind)| *kind == TokenKind::Unknown).map(|(_, text, _)| text);
    let merges: Vec<Value> = merges::of_scores(spm)?.into_iter().map(|(left, right)| json!([left, right])).collect();
    let space = SPACE.to_string();
    let mut normalizers = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": space })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": space }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space_prefix {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": space }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": literals.iter().map(added).collect::<Vec<Value>>(),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null, "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": tokens, "merges": merges,
        },
    }))
}

/// Checks that a token is nothing else to `tokenizer.json`, which knows no kinds: there, what is one character is what
/// this character becomes, and what is written as a byte is that byte.
fn distinct(spm: &Spm, text: &str, id: u32, kind: TokenKind) -> Result<(), String> {
    if text.chars().count() == 1 && spm.id(text) != Some(id) {
        return Err(format!("token {text:?} (id {id}): expected a character to be a token of text"));
    }
    if byte_of(text).is_some() && kind != TokenKind::Byte {
        return Err(format!("token {text:?} (id {id}): expected what is written as a byte to be one"));
    }
    Ok(())
}

/// Checks that every byte has a token, and the same by both.
fn all_bytes(spm: &Spm, id: impl Fn(&str) -> Option<u64>) -> Result<(), String> {
    let other = (0..=u8::MAX).find(|&byte| {
        let here = spm.byte(byte).map(u64::from);
        here.is_none() || here != id(&byte_text(byte))
    });
    match other {
        None => Ok(()),
        Some(byte) => Err(format!("expected a token for every byte, found none for {}", byte_text(byte))),
    }
}

/// Checks that files say of special tokens and of what ids stand for what a tokenizer does.
///
/// # Errors
/// Where they do not.
pub(super) fn same(tokenizer: &Tokenizer, json: &Value, config: &Value) -> Result<(), String> {
    let (json, config) = (json.to_string(), config.to_string());
    let path = Path::new("tokenizer.json");
    let beside = Neighbours::of_config(path, Some(config.as_bytes())).map_err(|e| e.to_string())?;
    let read = Tokenizer::from_json_parts(path, json.as_bytes(), &beside).map_err(|e| e.to_string())?;
    let specials = |t: &Tokenizer| (t.bos, t.eos, t.adds_bos(), t.adds_eos && t.eos.is_some(), t.strip_space);
    if specials(tokenizer) != specials(&read) {
        let (want, found) = (specials(tokenizer), specials(&read));
        return Err(format!("BOS and EOS in tokenizer.json: expected {want:?}, found {found:?}"));
    }
    same_pieces(tokenizer, &read)
}

/// Checks that two tokenizers decode every id alike; ids beyond one's last stand for nothing.
fn same_pieces(one: &Tokenizer, other: &Tokenizer) -> Result<(), String> {
    let ids = 0..one.vocabulary().max(other.vocabulary()) as u32;
    let piece = |tokenizer: &Tokenizer, id| tokenizer.pieces.get(id).unwrap_or_default().to_vec();
    match ids.into_iter().find(|&id| piece(one, id) != piece(other, id)) {
        None => Ok(()),
        Some(id) => {
            let [a, b] = [one, other].map(|t| String::from_utf8_lossy(&piece(t, id)).into_owned());
            Err(format!("token id {id}: expected it to stand for {a:?}, found {b:?}"))
        }
    }
}

/// What a GGUF file has of a `tokenizer.json`, beside its tokens.
pub(super) struct Scored {
    pub(super) scores: Vec<f32>,
    pub(super) space_prefix: bool,
    pub(super) unknown: Option<u32>,
}

/// The scores by which SentencePiece does what `json`, read as `tokenizer`, does.
///
/// # Errors
/// Where none do.
pub(super) fn scores(
    tokenizer: &Tokenizer,
    json: &Value,
    (tokens, kinds): (&[String], &[i32]),
    ranks: &Ranks<'_>,
) -> Result<Scored, String> {
    let space_prefix = plain(json)?;
    if tokenizer.strip_space != space_prefix {
        return Err("decoder: expected one that strips a space where the normalizer puts one first".to_owned());
    }
    let Encoder::Crate(encoder) = &tokenizer.encoder else { return Err("expected a model of merges".to_owned()) };
    let mut best = HashMap::new();
    for (&(left, right), &rank) in ranks {
        let first = best.entry(format!("{left}{right}")).or_insert(rank);
        *first = rank.min(*first);
    }
    let score = |token: &String| best.get(token).map_or(0.0, |&rank| -(rank as f32) - 1.0);
    let scores: Vec<f32> = tokens.iter().map(score).collect();
    let unknown = json["model"]["unk_token"].as_str().and_then(|text| encoder.token_to_id(text));
    let kinds = kinds.iter().map(|&kind| TokenKind::from_id(kind).unwrap_or(TokenKind::Unused));
    let all: Vec<_> = (0u32..).zip(tokens).zip(kinds).map(|((id, text), kind)| (id, text.as_str(), kind)).collect();
    let spm = Spm::of(all.iter().copied(), &scores, unknown, space_prefix);
    let mut seen = HashSet::new();
    for &(id, text, kind) in all.iter().filter(|(_, _, kind)| *kind != TokenKind::Unused) {
        if !seen.insert(text) {
            return Err(format!("two tokens {text:?}: expected one"));
        }
        if encoder.token_to_id(text) != Some(id) {
            return Err(format!("token {text:?}: expected the id {id}, found {:?}", encoder.token_to_id(text)));
        }
        distinct(&spm, text, id, kind)?;
        if text.chars().count() == 1 && json["model"]["vocab"][text] != id {
            return Err(format!("token {text:?}: expected a character to be a token of the model"));
        }
    }
    let known = encoder.get_vocab_size(true);
    if known != seen.len() {
        return Err(format!("vocab: expected an id of its own for each of {known} tokens, found {} ids", seen.len()));
    }
    all_bytes(&spm, |text| json["model"]["vocab"][text].as_u64())?;
    merges::check(&spm, ranks)?;
    let (read, want) = (pieces(all.iter().copied()), &tokenizer.pieces);
    let other = (0..tokens.len() as u32).find(|&id| read.get(id) != Some(want.get(id).unwrap_or_default()));
    match other {
        None => Ok(Scored { scores, space_prefix, unknown }),
        Some(id) => Err(format!("token id {id}: expected one that stands for the same in a GGUF file")),
    }
}

/// Checks that nothing is done to text but what SentencePiece does, as a GGUF file has it: whether a space goes before
/// it.
fn plain(json: &Value) -> Result<bool, String> {
    let model = &json["model"];
    for (key, usual) in [("continuing_subword_prefix", json!("")), ("end_of_word_suffix", json!(""))] {
        if !model[key].is_null() && model[key] != usual {
            return Err(format!("{key}: expected none, found {}", model[key]));
        }
    }
    if !model["dropout"].is_null() || model["ignore_merges"] == true {
        return Err("model: expected neither dropout nor ignore_merges".to_owned());
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        for key in ["single_word", "lstrip", "rstrip", "normalized"] {
            if token[key] == true {
                let content = &token["content"];
                return Err(format!("added token {content}: expected {key} to be false (GGUF files cannot say it)"));
            }
        }
    }
    let space = SPACE.to_string();
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": space });
    let prepend = json!({ "type": "Prepend", "prepend": space });
    let normalizer = &json["normalizer"];
    let steps = match normalizer["normalizers"].as_array() {
        Some(steps) => steps.as_slice(),
        None => std::slice::from_ref(normalizer),
    };
    let pre = &json["pre_tokenizer"];
    let visible = ["type", "replacement", "prepend_scheme"].map(|key| pre[key].as_str());
    let never = visible == [Some("Metaspace"), Some(space.as_str()), Some("never")] && pre["split"] == false;
    if pre.is_null() && steps == [prepend, replace.clone()] {
        Ok(true)
    } else if pre.is_null() && steps == [replace] || normalizer.is_null() && never {
        Ok(false)
    } else {
        let expected = "Prepend and Replace, Replace alone, or Metaspace that never prepends";
        Err(format!(
            "normalizer and pre_tokenizer: expected {expected} (GGUF's SentencePiece), found {normalizer} and {pre}"
        ))
    }
}
