//! Tokenizers against the `tokenizers` package on thousands of texts (`scripts/oracle/tokens.py`).

mod common;

use std::path::Path;

use common::vocab::{from_gguf, gguf_of, json};
use common::{Stream, data};
use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;

const TEXTS: usize = 4000;
const BLOCK: usize = 100;

/// As in the script, and so is all that follows.
const RANGES: [(u32, u32); 23] = [
    (0x20, 0x7e),
    (0x61, 0x7a),
    (0x41, 0x5a),
    (0x30, 0x39),
    (0x9, 0xd),
    (0xa0, 0x17f),
    (0x370, 0x3ff),
    (0x400, 0x45f),
    (0x5d0, 0x5ea),
    (0x620, 0x64a),
    (0x904, 0x939),
    (0xe01, 0xe30),
    (0x2000, 0x206f),
    (0x2190, 0x21ff),
    (0x300, 0x36f),
    (0x3041, 0x3096),
    (0x4e00, 0x9fa5),
    (0xac00, 0xd7a3),
    (0x1f300, 0x1f5ff),
    (0x660, 0x669),
    (0xb2, 0xbe),
    (0x1d400, 0x1d433),
    (0xff01, 0xff5e),
];

#[rustfmt::skip]
const SNIPPETS: [&str; 37] = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "'s", "'S", "'ll", "'LL", "'re", "don't", "I'VE", "the", " The", "ing", "1234567", "3.14",
    "e\u{301}", "A\u{30a}", "\u{1100}\u{1161}", "...", "!!", "://", "_", "{}", "--", "\u{a0}", "\u{3000}", "👩‍👩‍👧", "<|endoftext|>", "<|im_end|>",
    "<s>", "</s>", "<0x0A>",
];

fn texts() -> Vec<String> {
    let mut stream = Stream(2025);
    let mut text = || {
        let mut text = String::new();
        for _ in 0..1 + stream.below(12) {
            if stream.below(3) == 0 {
                text.push_str(SNIPPETS[stream.below(SNIPPETS.len())]);
                continue;
            }
            let (first, last) = RANGES[stream.below(RANGES.len())];
            for _ in 0..1 + stream.below(8) {
                text.push(char::from_u32(first + stream.below((last - first + 1) as usize) as u32).unwrap());
            }
        }
        text
    };
    (0..TEXTS).map(|_| text()).collect()
}

fn digest(lists: &[Vec<u32>]) -> String {
    let mut value = 0xcbf2_9ce4_8422_2325u64;
    for ids in lists {
        for number in std::iter::once(ids.len() as u32).chain(ids.iter().copied()) {
            for byte in number.to_le_bytes() {
                value = (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    format!("{value:016x}")
}

/// Holds a tokenizer against the digests of this name.
#[track_caller]
fn agrees(tokenizer: &Tokenizer, name: &str) {
    let golden = json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokens.json"));
    let texts = texts();
    let bytes: Vec<Vec<u32>> = texts.iter().map(|text| text.bytes().map(u32::from).collect()).collect();
    assert_eq!(digest(&bytes), golden["texts"].as_str().unwrap(), "other texts than the script's");
    let expected = golden["digests"][name].as_array().unwrap();
    assert_eq!(expected.len(), TEXTS / BLOCK);
    let mut tokens = 0;
    for (index, (block, expected)) in texts.chunks(BLOCK).zip(expected).enumerate() {
        let ids: Vec<Vec<u32>> = block.iter().map(|text| tokenizer.encode(text, false).unwrap()).collect();
        tokens += ids.iter().map(Vec::len).sum::<usize>();
        assert_eq!(
            digest(&ids),
            expected.as_str().unwrap(),
            "{name}: texts {} to {}",
            index * BLOCK,
            (index + 1) * BLOCK
        );
    }
    assert_eq!(tokens as u64, golden["tokens"][name].as_u64().unwrap());
}

/// Both from `tokenizer.json` and from the GGUF file that a converter makes of it.
fn both_agree(name: &str, pre: &str) {
    let Some(path) = data(&format!("{name}-tokenizer/tokenizer.json")) else { return };
    agrees(&Tokenizer::from_json(&path).unwrap(), name);
    agrees(&from_gguf(&gguf_of(&path, pre)).unwrap(), name);
}

#[test]
fn llama_3_agrees() {
    both_agree("llama3", "llama-bpe");
}

#[test]
fn qwen_2_agrees() {
    both_agree("qwen2", "qwen2");
}

#[test]
fn gpt_2_agrees() {
    both_agree("gpt2", "gpt-2");
}

#[test]
fn smollm_agrees() {
    let Some(path) = data("smollm2-135m-instruct-q4_1.gguf") else { return };
    agrees(&Tokenizer::from_gguf(&GgufFile::open(&path).unwrap()).unwrap(), "smollm");
}

#[test]
fn stories_agrees() {
    let (Some(gguf), Some(path)) = (data("stories260K.f32.gguf"), data("tok512.tokenizer.json")) else { return };
    agrees(&Tokenizer::from_json(&path).unwrap(), "tok512");
    agrees(&Tokenizer::from_gguf(&GgufFile::open(&gguf).unwrap()).unwrap(), "tok512");
}
