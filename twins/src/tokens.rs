//! The tokenizer: byte-level BPE, every digit a token, trained from the corpus.

use crate::corpus::Stream;
use anyhow::{Context as _, Result, anyhow};
use serde_json::json;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer, TokenizerBuilder};

/// Tokens, special ones among them.
pub const VOCAB: usize = 1024;
/// Begins a text.
pub const BOS: u32 = 0;
/// Ends a text.
pub const EOS: u32 = 1;
/// Their texts.
pub const SPECIAL: [&str; 2] = ["<s>", "</s>"];
/// Documents that merges are learnt from.
const DOCUMENTS: usize = 20_000;

/// Trains the tokenizer from the corpus of `seed`.
///
/// # Errors
/// What the `tokenizers` crate says.
pub fn train(seed: u64) -> Result<Tokenizer> {
    let alphabet = ByteLevel::alphabet().into_iter().collect();
    let special = SPECIAL.iter().map(|text| AddedToken::from((*text).to_owned(), true)).collect();
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(VOCAB)
        .min_frequency(0)
        .initial_alphabet(alphabet)
        .special_tokens(special)
        .build();
    let steps = Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
    ]);
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(steps)))
        .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
        .with_decoder(Some(ByteLevel::new(false, true, true)))
        .build()
        .map_err(|error| anyhow!("{error}"))?;
    let texts = Stream::new(seed).take(DOCUMENTS).map(|document| document.text);
    tokenizer.train(&mut trainer, texts).map_err(|error| anyhow!("{error}"))?;
    let text = tokenizer.to_string(false).map_err(|error| anyhow!("{error}"))?;
    text.parse().map_err(|error| anyhow!("{error}"))
}

/// Writes `tokenizer.json` and `tokenizer_config.json`.
///
/// # Errors
/// A file that cannot be written.
pub fn save(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    tokenizer.save(folder.join("tokenizer.json"), true).map_err(|error| anyhow!("{error}"))?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "add_bos_token": true,
        "add_eos_token": false,
    });
    let path = folder.join("tokenizer_config.json");
    std::fs::write(&path, format!("{config:#}\n")).with_context(|| path.display().to_string())
}

/// Reads `tokenizer.json`.
///
/// # Errors
/// A file that is missing or not a tokenizer.
pub fn load(folder: &Path) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// The ids of a text, no special ones added.
///
/// # Errors
/// What the `tokenizers` crate says.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, false).map_err(|error| anyhow!("{error}"))?;
    Ok(encoding.get_ids().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_single_tokens_and_texts_come_back() -> Result<()> {
        let tokenizer = train(1)?;
        assert_eq!(tokenizer.get_vocab_size(true), VOCAB);
        let text = "Ann has 12+107=<<12+107=119>>119 apples.\n#### 119";
        let ids = encode(&tokenizer, text)?;
        let texts: Vec<String> = ids.iter().filter_map(|&id| tokenizer.id_to_token(id)).collect();
        assert!(texts.iter().all(|t| t.len() == 1 || !t.contains(|c: char| c.is_ascii_digit())), "{texts:?}");
        assert_eq!(tokenizer.decode(&ids, true).map_err(|e| anyhow!("{e}"))?, text);
        assert_eq!(tokenizer.token_to_id("<s>"), Some(BOS));
        assert_eq!(tokenizer.token_to_id("</s>"), Some(EOS));
        Ok(())
    }
}
