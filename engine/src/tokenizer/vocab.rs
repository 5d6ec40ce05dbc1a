//! What a GGUF file says of its vocabulary.

use crate::formats::FormatError;
use crate::formats::gguf::GgufFile;

/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    pub(super) fn from_id(id: i32) -> Option<Self> {
        Some(match id {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Tokens found in the text as they stand, before anything else is done with it.
    pub(super) fn is_literal(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }

    /// Tokens that decode to nothing.
    pub(super) fn is_silent(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::Unused)
    }
}

/// The tokens and their kinds, as many of one as of the other.
pub(super) struct Vocab<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) tokens: Vec<&'a str>,
    pub(super) kinds: Vec<TokenKind>,
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";

impl<'a> Vocab<'a> {
    pub(super) fn read(file: &'a GgufFile) -> Result<Self, FormatError> {
        let tokens = file.strings(TOKENS)?;
        if tokens.is_empty() || u32::try_from(tokens.len()).is_err() {
            let found = format!("{} tokens", tokens.len());
            return Err(file.wrong_key(TOKENS, "a vocabulary of 1 to 2^32 - 1 tokens", found));
        }
        let kinds = match file.opt_integers(KINDS)? {
            None => vec![TokenKind::Normal; tokens.len()],
            Some(ids) => read_kinds(file, &ids, tokens.len())?,
        };
        Ok(Self { file, tokens, kinds })
    }

    /// An id from the metadata, checked against the vocabulary.
    pub(super) fn id(&self, key: &str) -> Result<Option<u32>, FormatError> {
        let Some(id) = self.file.opt_u32(key)? else {
            return Ok(None);
        };
        if (id as usize) < self.tokens.len() {
            return Ok(Some(id));
        }
        let expected = format!("a token id below {}", self.tokens.len());
        Err(self.file.wrong_key(key, expected, id.to_string()))
    }

    /// How the file writes a token; empty for none.
    pub(super) fn text(&self, id: Option<u32>) -> String {
        id.and_then(|id| self.tokens.get(id as usize)).map_or_else(String::new, |text| (*text).to_owned())
    }

    /// Ids, texts and kinds, in order of id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &'a str, TokenKind)> + '_ {
        let both = self.tokens.iter().zip(&self.kinds);
        (0u32..).zip(both).map(|(id, (&text, &kind))| (id, text, kind))
    }
}

fn read_kinds(file: &GgufFile, ids: &[i32], tokens: usize) -> Result<Vec<TokenKind>, FormatError> {
    if ids.len() != tokens {
        let expected = format!("{tokens} types, one a token");
        return Err(file.wrong_key(KINDS, expected, ids.len().to_string()));
    }
    let kind =
        |&id: &i32| TokenKind::from_id(id).ok_or_else(|| file.wrong_key(KINDS, "types from 1 to 6", id.to_string()));
    ids.iter().map(kind).collect()
}
