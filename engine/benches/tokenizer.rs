//! From text to tokens and back: the twins' byte-level BPE of 1024 tokens over their own stories, one sentence and all of them.
//!
//! Plain code on one thread. Bytes are those of the text, operations are its tokens: no multiplications or additions.

mod common;

use std::path::{Path, PathBuf};

use common::{Arithmetic, Bench, Case, Work};
use engine::Isa;
use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;

const SENTENCE: &str = "One day, Tom went to the forest with his dog.";

/// A file of the twins, which lie in the checkout.
fn twins(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites/twins").join(file)
}

/// The first `count` stories, a line each.
fn stories(count: usize) -> String {
    let lines = std::fs::read_to_string(twins("twins_stories.jsonl")).expect("the twins' stories");
    let story = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        document["text"].as_str().expect("a text").to_owned() + "\n"
    };
    lines.lines().take(count).map(story).collect()
}

/// The same ids word by word: the pre-tokenizer parts a text before each single space, whatever comes next.
fn by_words(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let starts = text.match_indices(' ').map(|(at, _)| at);
    let bounds: Vec<usize> = std::iter::once(0).chain(starts).chain([text.len()]).collect();
    let word = |pair: &[usize]| tokenizer.encode(&text[pair[0]..pair[1]], false).expect("ids");
    bounds.windows(2).flat_map(word).collect()
}

fn bench(bench: &mut Bench, tokenizer: &Tokenizer, name: &str, text: &str) {
    assert!(!text.contains("  "), "{name}: words are parted by single spaces");
    let ids = by_words(tokenizer, text);
    let work = Work { bytes: text.len(), within: text.len(), operations: ids.len(), arithmetic: Arithmetic::F32 };
    let case = |way: &str| {
        let name = format!("tokenizer/{way}-bpe-{}/{name}", tokenizer.vocabulary());
        Case { name, isa: Isa::Scalar, threads: 1 }
    };
    bench.case(&case("encode"), work.throughput(), |timer| {
        let pass = |found: &mut Vec<u32>| *found = tokenizer.encode(text, false).expect("ids");
        timer.time(work, &mut Vec::new(), pass, |found| *found == ids);
    });
    bench.case(&case("decode"), work.throughput(), |timer| {
        let pass = |found: &mut String| *found = tokenizer.decode(&ids).expect("a text");
        timer.time(work, &mut String::new(), pass, |found| found == text);
    });
}

fn main() {
    let mut all = Bench::new();
    let file = GgufFile::open(twins("twin-ternary.gguf")).expect("the twin's file");
    let tokenizer = Tokenizer::from_gguf(&file).expect("its tokenizer");
    let stories = stories(if all.quick { 5 } else { usize::MAX });
    bench(&mut all, &tokenizer, "sentence", SENTENCE);
    bench(&mut all, &tokenizer, "stories", &stories);
    all.finish("tokenizer");
}
