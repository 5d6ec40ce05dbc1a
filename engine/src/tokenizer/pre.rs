//! Pre-tokenizers of GPT-2-style vocabularies: how text is split into words before merging.
//!
//! The expressions are those of the models' own `tokenizer.json` files; the names are the values of
//! `tokenizer.ggml.pre`.

use serde_json::Value;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Mistral's Tekken (tekken.json of Mistral NeMo).
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What llama.cpp falls back to when the file names no pre-tokenizer.
const FALLBACK: [&str; 4] = [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];

/// A way to split text, and what llama.cpp takes for granted along with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pre {
    /// Applied one after another, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// A word that is itself a token is taken whole, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether BOS is put first when the file does not say.
    pub(super) adds_bos: bool,
    /// Whether the model's own tokenizer composes accents (NFC) before all else, which llama.cpp leaves out.
    composes: bool,
}

impl Pre {
    /// The names that are known, for messages.
    pub(super) const KNOWN: &'static str = "one of: smollm, llama-bpe (llama3, llama-v3, falcon3, falcon-h1, falcon_e, \
         pixtral, lfm2), gpt-2 (phi-2, mpt, olmo), qwen2 (megrez, deepseek-r1-qwen), tekken, default";

    const fn new(patterns: &'static [&'static str]) -> Self {
        Self { patterns, ignore_merges: false, adds_bos: false, composes: false }
    }

    /// The one that a `tokenizer.ggml.pre` names, with the names of llama.cpp (`falcon_e` is ik_llama.cpp's).
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "smollm" => Self::new(&[r"\p{N}", GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "falcon_e" | "pixtral" | "lfm2" => {
                Self { ignore_merges: true, adds_bos: true, ..Self::new(&[LLAMA3]) }
            }
            "gpt-2" | "phi-2" | "mpt" | "olmo" => Self::new(&[GPT2]),
            "qwen2" => Self { composes: true, ..Self::new(&[QWEN2]) },
            "megrez" | "deepseek-r1-qwen" => Self::new(&[QWEN2]),
            "tekken" => Self { ignore_merges: true, adds_bos: true, ..Self::new(&[TEKKEN]) },
            "default" => Self::new(&FALLBACK),
            _ => return None,
        })
    }

    /// The name of the one that a `tokenizer.json` describes, if it is one of llama.cpp's: the splits must be the same,
    /// digit for digit.
    pub(super) fn of_json(normalizer: &Value, pre_tokenizer: &Value) -> Option<&'static str> {
        let steps = match pre_tokenizer["pretokenizers"].as_array() {
            Some(steps) => steps.as_slice(),
            None => std::slice::from_ref(pre_tokenizer),
        };
        let mut patterns = Vec::new();
        for step in steps {
            match step["type"].as_str()? {
                "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
                    patterns.push(step["pattern"]["Regex"].as_str()?);
                }
                "Digits" if step["individual_digits"] == true => patterns.push(r"\p{N}"),
                "ByteLevel" if step["add_prefix_space"] == true => return None,
                "ByteLevel" if step["use_regex"] == true || step["use_regex"].is_null() => patterns.push(GPT2),
                "ByteLevel" => {}
                _ => return None,
            }
        }
        let composes = match normalizer["type"].as_str() {
            None => false,
            Some("NFC") => true,
            Some(_) => return None,
        };
        let names = ["llama-bpe", "qwen2", "deepseek-r1-qwen", "smollm", "gpt-2", "tekken"];
        let same =
            |name: &&str| Self::named(name).is_some_and(|pre| pre.patterns == patterns && pre.composes == composes);
        names.into_iter().find(same)
    }

    /// What is done to text before it is split.
    pub(super) fn normalizer(self) -> Option<NormalizerWrapper> {
        self.composes.then_some(NormalizerWrapper::NFC(NFC))
    }

    /// The splits, then bytes as their stand-ins.
    pub(super) fn build(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut steps = Vec::with_capacity(self.patterns.len() + 1);
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        let bytes = ByteLevel::new(false, false, false);
        steps.push(PreTokenizerWrapper::ByteLevel(bytes));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }
}
