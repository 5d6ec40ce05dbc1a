//! Text to token ids and back, as the model's own file says.
//!
//! From GGUF metadata: `gpt2` (byte-level BPE, run by the `tokenizers` crate) and `llama`
//! (SentencePiece BPE). From `tokenizer.json`: whatever the crate reads.
//!
//! Where a GGUF file is silent, llama.cpp's conventions hold: `llama` adds BOS and a space prefix
//! and has BOS 1, EOS 2 and unknown 0; `gpt2` adds neither, but LLaMA 3's pre-tokenizer adds BOS.

mod bpe;
mod bytes;
pub(crate) mod carry;
mod error;
mod json;
mod merges;
mod patterns;
mod pre;
mod spm;
mod vocab;

use std::path::Path;

use crate::formats::error::shown;
use crate::formats::gguf::GgufFile;
use bytes::Pieces;
pub use error::TokenizerError;
use spm::Spm;
use vocab::{TokenKind, Vocab};

/// Texts of tokens that end a turn or a document, the most specific first.
const TURN_ENDS: [&str; 6] =
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"];

#[derive(Debug)]
enum Encoder {
    Crate(Box<tokenizers::Tokenizer>),
    Spm(Spm),
}

/// How a tokenizer parts text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BPE of bytes within the words that a pre-tokenizer makes.
    ByteLevelBpe {
        /// The pre-tokenizer's name in GGUF files; `None` for a `tokenizer.json` whose splits have none.
        pre: Option<String>,
    },
    /// SentencePiece: BPE of characters, or unigrams.
    SentencePiece,
    /// Another model of a `tokenizer.json`.
    Other(String),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::ByteLevelBpe { .. } => f.write_str("byte-level BPE"),
            Kind::SentencePiece => f.write_str("SentencePiece"),
            Kind::Other(model) => f.write_str(model),
        }
    }
}

/// A vocabulary and the rules that turn text into its ids.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    kind: Kind,
    pieces: Pieces,
    /// Decoding a whole text drops the space that encoding put first.
    strip_space: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    stops: Vec<u32>,
    adds_bos: bool,
    adds_eos: bool,
    /// As the vocabulary writes them, for chat templates.
    bos_text: String,
    eos_text: String,
    chat_templates: Vec<ChatSource>,
    notes: Vec<String>,
}

/// A chat template as the file has it, in Jinja: see [`crate::chat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatSource {
    /// `default`, or what the file calls it.
    pub name: String,
    /// The template.
    pub source: String,
}

/// The name of a file's only or first template.
pub const DEFAULT_TEMPLATE: &str = "default";

impl Tokenizer {
    /// The tokenizer that a GGUF file carries.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Format`] names the metadata key that is missing or wrong, and lists the
    /// tokenizer models and pre-tokenizers that are known.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        const MODEL: &str = "tokenizer.ggml.model";
        let model = file.str(MODEL)?;
        if !matches!(model, "gpt2" | "llama") {
            return Err(file.wrong_key(MODEL, "gpt2 or llama", shown(model)).into());
        }
        let is_spm = model == "llama";
        let vocab = Vocab::read(file)?;
        let special = |name: &str, otherwise: u32| {
            let id = vocab.id(&format!("tokenizer.ggml.{name}_token_id"))?;
            let exists = (otherwise as usize) < vocab.tokens.len();
            Ok::<_, TokenizerError>(id.or((is_spm && exists).then_some(otherwise)))
        };
        let (bos, eos, unknown) = (special("bos", 1)?, special("eos", 2)?, special("unknown", 0)?);
        let mut notes = Vec::new();
        let (encoder, kind, pieces, strip_space, bos_by_default) = if is_spm {
            let space = file.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
            let spm = Spm::new(&vocab, unknown, space)?;
            (Encoder::Spm(spm), Kind::SentencePiece, spm::pieces(vocab.iter()), space, true)
        } else {
            let (name, pre) = bpe::pre_of(&vocab, &mut notes)?;
            let encoder = Encoder::Crate(Box::new(bpe::encoder(&vocab, pre)?));
            let kind = Kind::ByteLevelBpe { pre: Some(name.to_owned()) };
            (encoder, kind, bpe::pieces(&vocab), false, pre.adds_bos)
        };
        let ends = turn_ends(|text| {
            let mut all = vocab.iter();
            all.find(|&(_, t, kind)| t == text && kind == TokenKind::Control).map(|(id, ..)| id)
        });
        let eot = vocab.id("tokenizer.ggml.eot_token_id")?.or(ends.first().copied());
        Ok(Self {
            encoder,
            kind,
            pieces,
            strip_space,
            bos,
            eos,
            eot,
            stops: stop_ids(eos, eot, ends),
            adds_bos: file.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(bos_by_default),
            adds_eos: file.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            bos_text: vocab.text(bos),
            eos_text: vocab.text(eos),
            chat_templates: gguf_templates(file)?,
            notes,
        })
    }

    /// The tokenizer of a `tokenizer.json`, with what the files beside it say, where there are any: `tokenizer_config.json` of
    /// BOS, EOS and chat templates, `chat_template.jinja` of the chat template, `generation_config.json` of the tokens that
    /// end a generation. Without them BOS and EOS are those of the file's own post-processor.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Json`] when a file cannot be read or makes no tokenizer.
    pub fn from_json(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        Self::from_json_parts(path, &json::read(path)?, &json::Neighbours::read(path)?)
    }

    /// As [`Tokenizer::from_json`], from bytes: `json` is the tokenizer, `config` the text of a `tokenizer_config.json`. `name`
    /// stands for the path in errors.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::from_json`].
    pub fn from_json_bytes(name: &str, json: &[u8], config: Option<&[u8]>) -> Result<Self, TokenizerError> {
        let path = Path::new(name);
        Self::from_json_parts(path, json, &json::Neighbours::of_config(path, config)?)
    }

    fn from_json_parts(path: &Path, json: &[u8], beside: &json::Neighbours) -> Result<Self, TokenizerError> {
        let loaded = json::load(path, json, beside)?;
        let mut ends = turn_ends(|text| loaded.encoder.token_to_id(text));
        let eot = ends.first().copied();
        ends.extend(&loaded.ends);
        let text = |id: Option<u32>| id.and_then(|id| loaded.encoder.id_to_token(id)).unwrap_or_default();
        Ok(Self {
            bos_text: text(loaded.bos),
            eos_text: text(loaded.eos),
            encoder: Encoder::Crate(Box::new(loaded.encoder)),
            kind: loaded.kind,
            pieces: loaded.pieces,
            strip_space: loaded.strip_space,
            bos: loaded.bos,
            eos: loaded.eos,
            eot,
            stops: stop_ids(loaded.eos, eot, ends),
            adds_bos: loaded.adds_bos,
            adds_eos: loaded.adds_eos,
            chat_templates: loaded.chat_templates,
            notes: Vec::new(),
        })
    }

    /// The ids of `text`. Control tokens written out in the text become their ids. With
    /// `add_special`, BOS and EOS are added where the file says so ([`Tokenizer::adds_bos`]).
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Encode`] when the text defeats the encoder.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        if add_special && self.adds_bos {
            ids.extend(self.bos);
        }
        match &self.encoder {
            Encoder::Spm(spm) => spm.encode(text, &mut ids),
            Encoder::Crate(encoder) => {
                let encoding = encoder.encode_fast(text, false);
                let encoding = encoding.map_err(|e| TokenizerError::Encode { reason: e.to_string() })?;
                ids.extend_from_slice(encoding.get_ids());
            }
        }
        if add_special && self.adds_eos {
            ids.extend(self.eos);
        }
        Ok(ids)
    }

    /// The ids of a text to be continued: BOS where the file wants it, never EOS.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids: Vec<u32> = self.bos.filter(|_| self.adds_bos).into_iter().collect();
        ids.extend(self.encode(text, false)?);
        Ok(ids)
    }

    /// The text of `ids` as a whole: control tokens are left out, bytes that make no UTF-8 become
    /// U+FFFD, and the space that SentencePiece puts before a text is dropped.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] for an id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.piece(id)?);
        }
        let from = usize::from(self.strip_space && bytes.first() == Some(&b' '));
        Ok(String::from_utf8_lossy(&bytes[from..]).into_owned())
    }

    /// The bytes that one id stands for: none for control tokens, and not always whole characters.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::UnknownId`] for an id beyond the vocabulary.
    pub fn piece(&self, id: u32) -> Result<&[u8], TokenizerError> {
        self.pieces.get(id).ok_or(TokenizerError::UnknownId { id, vocabulary: self.pieces.len() })
    }

    /// How text is parted.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The number of ids.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a text, if the file names one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, if the file names one.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that ends a turn: the file's, else the first of the well-known ones it has.
    #[must_use]
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// Every token at which generation ends: EOS, EOT and well-known ends, sorted.
    #[must_use]
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Whether the file wants BOS before a text.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.adds_bos && self.bos.is_some()
    }

    /// How the vocabulary writes BOS; empty without one.
    #[must_use]
    pub fn bos_text(&self) -> &str {
        &self.bos_text
    }

    /// How the vocabulary writes EOS; empty without one.
    #[must_use]
    pub fn eos_text(&self) -> &str {
        &self.eos_text
    }

    /// The chat templates that came with the vocabulary, unread; `default` first.
    #[must_use]
    pub fn chat_templates(&self) -> &[ChatSource] {
        &self.chat_templates
    }

    /// What a user should know: where the file was silent and something was taken for granted.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// `tokenizer.chat_template`, and `tokenizer.chat_template.NAME` of every name.
fn gguf_templates(file: &GgufFile) -> Result<Vec<ChatSource>, TokenizerError> {
    const KEY: &str = "tokenizer.chat_template";
    let mut templates = Vec::new();
    let named = file.keys().filter_map(|key| Some((key, key.strip_prefix(KEY)?.strip_prefix('.')?)));
    for (key, name) in std::iter::once((KEY, DEFAULT_TEMPLATE)).chain(named) {
        if let Some(source) = file.opt_str(key)? {
            templates.push(ChatSource { name: name.to_owned(), source: source.to_owned() });
        }
    }
    Ok(templates)
}

fn turn_ends(id_of: impl Fn(&str) -> Option<u32>) -> Vec<u32> {
    TURN_ENDS.iter().filter_map(|text| id_of(text)).collect()
}

fn stop_ids(eos: Option<u32>, eot: Option<u32>, mut ends: Vec<u32>) -> Vec<u32> {
    ends.extend(eos);
    ends.extend(eot);
    ends.sort_unstable();
    ends.dedup();
    ends
}
