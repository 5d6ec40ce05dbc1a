//! Byte-level BPE (GGUF's tokenizer model `gpt2`), built for the `tokenizers` crate.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab as BpeVocab};
use tokenizers::{AddedToken, Tokenizer};

use super::bytes::{ByteMap, Pieces};
use super::pre::Pre;
use super::vocab::{TokenKind, Vocab};
use crate::formats::FormatError;
use crate::formats::error::shown;

const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
/// Bytes of all control tokens together, far above any vocabulary's: the automaton that finds them takes a hundred times
/// as much.
pub(super) const MOST_LITERAL: usize = 1 << 20;
const TOKENS: &str = "tokenizer.ggml.tokens";

/// The size of LLaMA 3's vocabulary.
const LLAMA_3: usize = 128_256;

/// The pre-tokenizer that the file names, and its name. Without a name: LLaMA 3's if the vocabulary is of its size and has its first
/// control token (BitNet b1.58 2B4T's official files are so), else llama.cpp's default; either goes into `notes`.
pub(super) fn pre_of<'a>(vocab: &Vocab<'a>, notes: &mut Vec<String>) -> Result<(&'a str, Pre), FormatError> {
    let name = match vocab.file.opt_str(PRE)? {
        Some(name) => name,
        None => {
            let (name, why) = match vocab.tokens.contains(&"<|begin_of_text|>") && vocab.tokens.len() == LLAMA_3 {
                true => ("llama-bpe", "its vocabulary has LLaMA 3's size and control tokens"),
                false => ("default", "its vocabulary is not LLaMA 3's, so this is a guess"),
            };
            notes.push(format!("{}: {PRE} is missing: {name} is taken, as {why}", vocab.file.path().display()));
            name
        }
    };
    let pre = Pre::named(name).ok_or_else(|| vocab.file.wrong_key(PRE, Pre::KNOWN, shown(name)))?;
    Ok((name, pre))
}

/// The encoder: vocabulary, merges, splits and literal tokens.
pub(super) fn encoder(vocab: &Vocab<'_>, pre: Pre) -> Result<Tokenizer, FormatError> {
    let ids = ids_by_text(vocab);
    let merges = read_merges(vocab, &ids)?;
    let wrong = |e: tokenizers::Error| vocab.file.wrong_key(TOKENS, "a BPE vocabulary", e.to_string());
    let model =
        BPE::builder().vocab_and_merges(owned(&ids), merges).ignore_merges(pre.ignore_merges).build().map_err(wrong)?;
    let bytes: usize = vocab.iter().filter(|(_, _, kind)| kind.is_literal()).map(|(_, text, _)| text.len()).sum();
    if bytes > MOST_LITERAL {
        let expected = format!("control tokens of at most {MOST_LITERAL} bytes together");
        return Err(vocab.file.wrong_key(TOKENS, expected, format!("{bytes} bytes")));
    }
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(pre.normalizer()).map_err(wrong)?;
    tokenizer.with_pre_tokenizer(Some(pre.build().map_err(wrong)?));
    let literal = vocab
        .iter()
        .filter(|(id, text, kind)| kind.is_literal() && ids.get(text) == Some(id))
        .map(|(_, text, kind)| AddedToken::from(text, kind != TokenKind::UserDefined).normalized(false));
    tokenizer.add_tokens(literal).map_err(wrong)?;
    Ok(tokenizer)
}

/// The lowest id of every text that is not empty.
fn ids_by_text<'a>(vocab: &Vocab<'a>) -> HashMap<&'a str, u32> {
    let mut ids = HashMap::with_capacity(vocab.tokens.len());
    for (id, text, _) in vocab.iter().filter(|(_, text, _)| !text.is_empty()) {
        ids.entry(text).or_insert(id);
    }
    ids
}

fn owned(ids: &HashMap<&str, u32>) -> BpeVocab {
    ids.iter().map(|(&text, &id)| (text.to_owned(), id)).collect()
}

/// Pairs in order of rank. Every part and every result must be a token: the builder takes that for
/// granted.
fn read_merges(vocab: &Vocab<'_>, ids: &HashMap<&str, u32>) -> Result<Vec<(String, String)>, FormatError> {
    let lines = vocab.file.strings(MERGES)?;
    let mut merges = Vec::with_capacity(lines.len());
    let mut whole = String::new();
    for (rank, line) in lines.iter().enumerate() {
        // As llama.cpp: the first space that is not the first character parts the pair.
        let first = line.chars().next().map_or(0, char::len_utf8);
        let space = line[first..].find(' ').map(|at| first + at);
        let Some((left, right)) = space.map(|at| (&line[..at], &line[at + 1..])) else {
            let found = format!("{} (merge {rank})", shown(line));
            return Err(vocab.file.wrong_key(MERGES, "pairs parted by a space", found));
        };
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        if let Some(part) = [left, right, &whole].into_iter().find(|&p| !ids.contains_key(p)) {
            let found = format!("{} in {} (merge {rank})", shown(part), shown(line));
            return Err(vocab.file.wrong_key(MERGES, "parts and results that are tokens", found));
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

/// What each id decodes to.
pub(super) fn pieces(vocab: &Vocab<'_>) -> Pieces {
    let map = ByteMap::new();
    let mut pieces = Pieces::default();
    for (_, text, kind) in vocab.iter() {
        pieces.push(|out| match kind {
            TokenKind::UserDefined => out.extend_from_slice(text.as_bytes()),
            kind if kind.is_silent() => {}
            _ => map.push(text, out),
        });
    }
    pieces
}
