//! Tokenizers from one file format to the other: `tokenizer.json` to GGUF's metadata, and back.

mod spm;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::json::read;
use super::merges::Ranks;
use super::pre::Pre;
use super::spm::byte_of;
use super::vocab::Vocab;
use super::{DEFAULT_TEMPLATE, Encoder, Tokenizer, TokenizerError};
use crate::formats::gguf::{GgufFile, Meta, Metadata};

/// `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Sets the keys of `tokenizer.ggml` from a folder's `tokenizer.json` and what lies beside it; `vocab` is the number of
/// rows of the embedding.
///
/// # Errors
/// A tokenizer that is none, or that GGUF has no name or no scores for; nothing is set then.
pub(crate) fn folder_to_metadata(folder: &Path, vocab: usize, metadata: &mut Metadata) -> Result<(), TokenizerError> {
    let path = folder.join("tokenizer.json");
    let tokenizer = Tokenizer::from_json(&path)?;
    let wrong = |reason: String| TokenizerError::Json { path: path.clone(), reason };
    let json: Value = serde_json::from_slice(&read(&path)?).map_err(|e| wrong(e.to_string()))?;
    let model = &json["model"];
    if model["type"].as_str().is_some_and(|kind| kind != "BPE") || !model["vocab"].is_object() {
        return Err(wrong(format!("model: expected BPE, which GGUF files carry, found {}", model["type"])));
    }
    let (tokens, kinds) = tokens(&json, vocab).map_err(wrong)?;
    let merges = merges(model).map_err(wrong)?;
    if model["byte_fallback"] == true {
        let ranks: Ranks<'_> =
            merges.iter().enumerate().map(|(rank, (left, right))| ((&**left, &**right), rank)).collect();
        let found = spm::scores(&tokenizer, &json, (&tokens, &kinds), &ranks).map_err(wrong)?;
        metadata.set("tokenizer.ggml.model", "llama");
        metadata.set("tokenizer.ggml.scores", Meta::Floats(found.scores));
        metadata.set("tokenizer.ggml.add_space_prefix", Meta::Bool(found.space_prefix));
        if let Some(id) = found.unknown {
            metadata.set("tokenizer.ggml.unknown_token_id", Meta::U32(id));
        }
    } else {
        let pre = Pre::of_json(&json["normalizer"], &json["pre_tokenizer"]);
        let pre =
            pre.ok_or_else(|| wrong(format!("pre_tokenizer: expected one that GGUF has a name for ({})", Pre::KNOWN)))?;
        metadata.set("tokenizer.ggml.model", "gpt2");
        metadata.set("tokenizer.ggml.pre", pre);
        let lines = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        metadata.set("tokenizer.ggml.merges", Meta::Texts(lines));
    }
    metadata.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    metadata.set("tokenizer.ggml.token_type", Meta::Integers(kinds));
    specials(&tokenizer, metadata);
    Ok(())
}

fn specials(tokenizer: &Tokenizer, metadata: &mut Metadata) {
    for (key, id) in [("bos", tokenizer.bos), ("eos", tokenizer.eos), ("eot", tokenizer.eot)] {
        if let Some(id) = id {
            metadata.set(&format!("tokenizer.ggml.{key}_token_id"), Meta::U32(id));
        }
    }
    metadata.set("tokenizer.ggml.add_bos_token", Meta::Bool(tokenizer.adds_bos));
    metadata.set("tokenizer.ggml.add_eos_token", Meta::Bool(tokenizer.adds_eos));
    for template in &tokenizer.chat_templates {
        let key = match template.name.as_str() {
            DEFAULT_TEMPLATE => "tokenizer.chat_template".to_owned(),
            name => format!("tokenizer.chat_template.{name}"),
        };
        metadata.set(&key, template.source.as_str());
    }
}

/// The text that llama.cpp's converter gives an id that no token has.
fn unused(id: u64) -> String {
    format!("[PAD{id}]")
}

/// Texts and kinds by id; ids that no token has are unused.
fn tokens(json: &Value, vocab: usize) -> Result<(Vec<String>, Vec<i32>), String> {
    let mut tokens: Vec<String> = (0..vocab as u64).map(unused).collect();
    let mut kinds = vec![UNUSED; vocab];
    let mut put = |text: &str, id: &Value, kind: i32| {
        let at = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < vocab);
        let at =
            at.ok_or_else(|| format!("token {text:?}: expected an id below the vocabulary's {vocab}, found {id}"))?;
        (tokens[at], kinds[at]) = (text.to_owned(), kind);
        Ok::<(), String>(())
    };
    let model = &json["model"];
    let bytes = model["byte_fallback"] == true;
    for (text, id) in model["vocab"].as_object().into_iter().flatten() {
        if !bytes && id.as_u64().is_some_and(|id| *text == unused(id)) {
            continue;
        }
        let byte = bytes && byte_of(text).is_some();
        put(text, id, if byte { BYTE } else { NORMAL })?;
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().ok_or("added_tokens: expected a content")?;
        let kind = match (model["unk_token"] == *text && bytes, token["special"] == true) {
            (true, _) => UNKNOWN,
            (false, true) => CONTROL,
            (false, false) => USER_DEFINED,
        };
        put(text, &token["id"], kind)?;
    }
    Ok((tokens, kinds))
}

/// Pairs in order of rank, written `a b` or `["a", "b"]`.
fn merges(model: &Value) -> Result<Vec<(String, String)>, String> {
    let pair = |merge: &Value| {
        let text = merge.as_str().and_then(|line| line.split_once(' '));
        let (left, right) = text.or_else(|| merge[0].as_str().zip(merge[1].as_str()))?;
        Some((left.to_owned(), right.to_owned()))
    };
    let all = model["merges"].as_array().into_iter().flatten();
    all.map(|merge| pair(merge).ok_or_else(|| format!("merge {merge}: expected a pair"))).collect()
}

/// A file for a Hugging Face folder.
pub(crate) struct TokenizerFile {
    pub(crate) name: &'static str,
    pub(crate) text: String,
}

/// The files of a Hugging Face folder that say the same as a GGUF file's metadata: `tokenizer.json`,
/// `tokenizer_config.json` and `generation_config.json`.
///
/// # Errors
/// A tokenizer that is none, or a SentencePiece one that no list of merges says the same as.
pub(crate) fn gguf_to_files(file: &GgufFile) -> Result<Vec<TokenizerFile>, TokenizerError> {
    let tokenizer = Tokenizer::from_gguf(file)?;
    let wrong = |reason: String| TokenizerError::Json { path: file.path().to_owned(), reason };
    let mut config = config(&tokenizer);
    let mut json = match &tokenizer.encoder {
        Encoder::Crate(encoder) => {
            let text = encoder.to_string(false).map_err(|e| wrong(e.to_string()))?;
            let mut json: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
            json["decoder"] =
                json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
            json
        }
        Encoder::Spm(encoder) => {
            let json = spm::json(encoder, &Vocab::read(file)?, tokenizer.strip_space).map_err(wrong)?;
            if let Some(text) = json["model"]["unk_token"].as_str() {
                config["unk_token"] = json!(text);
            }
            json
        }
    };
    if let Some(post) = post_processor(&tokenizer) {
        json["post_processor"] = post;
    }
    if let Encoder::Spm(_) = &tokenizer.encoder {
        spm::same(&tokenizer, &json, &config).map_err(wrong)?;
    }
    let generation = json!({ "bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.stops });
    let file = |name, value: Value| TokenizerFile { name, text: format!("{value:#}\n") };
    Ok(vec![
        file("tokenizer.json", json),
        file("tokenizer_config.json", config),
        file("generation_config.json", generation),
    ])
}

/// `tokenizer_config.json`. Its class is the one that takes `tokenizer.json` as it is.
fn config(tokenizer: &Tokenizer) -> Value {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": tokenizer.adds_bos, "add_eos_token": tokenizer.adds_eos,
        "clean_up_tokenization_spaces": false,
    });
    for (key, id, text) in [("bos", tokenizer.bos, &tokenizer.bos_text), ("eos", tokenizer.eos, &tokenizer.eos_text)] {
        if id.is_some() {
            config[format!("{key}_token")] = json!(text);
        }
    }
    match tokenizer.chat_templates.as_slice() {
        [] => {}
        [one] if one.name == DEFAULT_TEMPLATE => config["chat_template"] = json!(one.source),
        many => {
            let list = many.iter().map(|template| json!({ "name": template.name, "template": template.source }));
            config["chat_template"] = list.collect();
        }
    }
    config
}

/// What puts BOS first and EOS last in the crate itself, which does not read the configuration.
fn post_processor(tokenizer: &Tokenizer) -> Option<Value> {
    let bos = tokenizer.bos.filter(|_| tokenizer.adds_bos).map(|id| (id, &tokenizer.bos_text));
    let eos = tokenizer.eos.filter(|_| tokenizer.adds_eos).map(|id| (id, &tokenizer.eos_text));
    if bos.is_none() && eos.is_none() {
        return None;
    }
    let part = |name: &str, kind: u32| -> Vec<Value> {
        let special = |token: Option<(u32, &String)>| {
            token.map(|(_, text)| json!({ "SpecialToken": { "id": text, "type_id": kind } }))
        };
        let text = json!({ "Sequence": { "id": name, "type_id": kind } });
        special(bos).into_iter().chain([text]).chain(special(eos)).collect()
    };
    let specials = bos.into_iter().chain(eos);
    let specials: Map<String, Value> =
        specials.map(|(id, text)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] }))).collect();
    let pair = [part("A", 0), part("B", 1)].concat();
    Some(json!({
        "type": "TemplateProcessing", "single": part("A", 0), "pair": pair, "special_tokens": specials,
    }))
}
