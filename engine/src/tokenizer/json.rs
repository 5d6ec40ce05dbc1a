//! `tokenizer.json` of Hugging Face models, read by the `tokenizers` crate, with what
//! `tokenizer_config.json` beside it says of BOS and EOS.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use super::bytes::{ByteMap, Pieces};
use super::patterns::check_patterns;
use super::pre::Pre;
use super::spm::{byte_of, push_visible};
use super::{ChatSource, DEFAULT_TEMPLATE, Kind, TokenizerError};
use crate::formats::error::shown;

const CONFIG: &str = "tokenizer_config.json";

/// A `tokenizer.json` and its neighbours.
pub(super) struct Loaded {
    pub(super) encoder: Tokenizer,
    pub(super) kind: Kind,
    pub(super) pieces: Pieces,
    pub(super) strip_space: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) adds_bos: bool,
    pub(super) adds_eos: bool,
    /// Further tokens that end a generation.
    pub(super) ends: Vec<u32>,
    pub(super) chat_templates: Vec<ChatSource>,
}

/// The files beside a `tokenizer.json`; `Null` for one that is not there.
pub(super) struct Neighbours {
    path: PathBuf,
    config: Value,
    generation: Value,
    /// `chat_template.jinja`, which goes before the one in the configuration.
    template: Option<String>,
}

/// Longest file that is read.
const MOST_BYTES: u64 = 256 << 20;

pub(super) fn wrong(path: &Path, reason: impl ToString) -> TokenizerError {
    TokenizerError::Json { path: path.to_owned(), reason: reason.to_string() }
}

/// A whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let file = std::fs::File::open(path).map_err(|e| wrong(path, e))?;
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| wrong(path, e))?;
    if read as u64 > MOST_BYTES {
        return Err(wrong(path, format!("expected at most {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Value, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|e| wrong(path, e))
}

impl Neighbours {
    pub(super) fn read(tokenizer: &Path) -> Result<Self, TokenizerError> {
        let beside = |name: &str| tokenizer.with_file_name(name);
        let json = |name: &str| match beside(name) {
            path if path.exists() => parse(&path, &read(&path)?),
            _ => Ok(Value::Null),
        };
        let (path, config) = (beside(CONFIG), json(CONFIG)?);
        let generation = json("generation_config.json")?;
        let jinja = beside("chat_template.jinja");
        let template = match jinja.exists() {
            true => Some(String::from_utf8(read(&jinja)?).map_err(|e| wrong(&jinja, e))?),
            false => None,
        };
        Ok(Self { path, config, generation, template })
    }

    pub(super) fn of_config(tokenizer: &Path, config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        let path = tokenizer.with_file_name(CONFIG);
        let config = config.map_or(Ok(Value::Null), |bytes| parse(&path, bytes))?;
        Ok(Self { path, config, generation: Value::Null, template: None })
    }

    /// A string, or a list of `{"name": .., "template": ..}`.
    fn chat_templates(&self) -> Result<Vec<ChatSource>, TokenizerError> {
        let whole = |source: &str| ChatSource { name: DEFAULT_TEMPLATE.to_owned(), source: source.to_owned() };
        let bad = |found: &Value| {
            let expected = "chat_template: expected a string or a list of {\"name\": .., \"template\": ..}";
            wrong(&self.path, format!("{expected}, found {}", shown(&found.to_string())))
        };
        if let Some(template) = &self.template {
            return Ok(vec![whole(template)]);
        }
        match &self.config["chat_template"] {
            Value::Null => Ok(Vec::new()),
            Value::String(source) => Ok(vec![whole(source)]),
            Value::Array(list) => {
                let one = |item: &Value| match (item["name"].as_str(), item["template"].as_str()) {
                    (Some(name), Some(source)) => Ok(ChatSource { name: name.to_owned(), source: source.to_owned() }),
                    _ => Err(bad(item)),
                };
                let mut list = list.iter().map(one).collect::<Result<Vec<_>, _>>()?;
                list.sort_by_key(|template| template.name != DEFAULT_TEMPLATE);
                Ok(list)
            }
            other => Err(bad(other)),
        }
    }

    /// `eos_token_id` of `generation_config.json`: an id or a list of them.
    fn ends(&self) -> Vec<u32> {
        let ids = &self.generation["eos_token_id"];
        let list = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
        list.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    }
}

pub(super) fn load(path: &Path, bytes: &[u8], beside: &Neighbours) -> Result<Loaded, TokenizerError> {
    let json = parse(path, bytes)?;
    check_merges(path, &json["model"])?;
    check_patterns(path, &json)?;
    let mut encoder = Tokenizer::from_bytes(bytes).map_err(|e| wrong(path, e))?;
    encoder.with_padding(None);
    encoder.with_truncation(None).map_err(|e| wrong(path, e))?;
    // As the crate read it, whatever form the file has it in.
    let processor = serde_json::to_value(encoder.get_post_processor()).map_err(|e| wrong(path, e))?;
    check_template(path, &processor)?;
    let decoder = Decoder::of(path, &json["decoder"])?;
    let pieces = pieces(path, &encoder, &decoder, bytes.len())?;

    let config = &beside.config;
    let (before, after) = template(&encoder);
    if let Some(id) = [before, after].into_iter().flatten().find(|&id| pieces.get(id).is_none()) {
        return Err(wrong(path, format!("post_processor: expected ids of the vocabulary, found {id}")));
    }
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
        ends: beside.ends().into_iter().filter(|&id| pieces.get(id).is_some()).collect(),
        chat_templates: beside.chat_templates()?,
        kind: kind(&json, &decoder),
        pieces,
        encoder,
    })
}

/// The kind, by the model (BPE if it is not said) and by what its tokens stand for.
fn kind(json: &Value, decoder: &Decoder) -> Kind {
    match (json["model"]["type"].as_str().unwrap_or("BPE"), decoder.byte_level) {
        ("BPE", true) => {
            let pre = Pre::of_json(&json["normalizer"], &json["pre_tokenizer"]);
            Kind::ByteLevelBpe { pre: pre.map(str::to_owned) }
        }
        ("BPE" | "Unigram", false) => Kind::SentencePiece,
        (other, _) => Kind::Other(other.to_owned()),
    }
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

/// The crate looks up the special tokens of a template without asking whether they are there.
fn check_template(path: &Path, processor: &Value) -> Result<(), TokenizerError> {
    for nested in processor["processors"].as_array().into_iter().flatten() {
        check_template(path, nested)?;
    }
    let pieces = ["single", "pair"].into_iter().filter_map(|key| processor[key].as_array()).flatten();
    for id in pieces.filter_map(|piece| piece["SpecialToken"]["id"].as_str()) {
        if processor["special_tokens"].get(id).is_none() {
            let reason = "expected a token that special_tokens defines";
            return Err(wrong(path, format!("post_processor: token {} of the template: {reason}", shown(id))));
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
            _ if added.contains_key(&id) && decoder.byte_level => out.extend_from_slice(text.as_bytes()),
            _ if decoder.byte_level => map.push(&text, out),
            Some(byte) => out.push(byte),
            None => push_visible(&text, out),
        });
    }
    Ok(pieces)
}
