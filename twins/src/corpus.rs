//! The corpus: endless documents of three kinds, made from a seed.
//!
//! Train and test are apart by construction. Every document has a canonical key, which says what it asks and not how it is
//! worded; the key's hash says which side it is on. A generator that draws a document of the other side draws again.

pub mod facts;
pub mod problems;
pub mod science;
pub mod stories;

use crate::random::{Random, hash};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::Path;

/// The two sides of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What models are trained on.
    Train,
    /// What they never see.
    Test,
}

/// One text, and what it is at heart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    /// What a model reads, special tokens apart.
    pub text: String,
    /// The same for all wordings of one content; no key is on both sides.
    pub key: String,
}

/// A held-out word problem, with the fields of GSM8K's files.
#[derive(Clone, Debug, Serialize)]
pub struct ProblemItem {
    /// Number in the file.
    pub id: usize,
    /// The problem.
    pub question: String,
    /// The chain of steps, then `#### n`.
    pub answer: String,
    /// The number alone.
    #[serde(rename = "final")]
    pub last: String,
}

/// A held-out science question, with the fields of ARC's files.
#[derive(Clone, Debug, Serialize)]
pub struct ScienceItem {
    /// Its canonical key.
    pub id: String,
    /// The question.
    pub question: String,
    /// Four answers.
    pub choices: Vec<String>,
    /// Which of them is right.
    pub answer: usize,
}

/// One key in this many is a test's, of problems and stories.
const TEST_SHARE: u64 = 8;

/// The side of a problem's or story's key.
#[must_use]
pub fn side_of(key: &str) -> Side {
    match hash(&format!("twins/{key}")) % TEST_SHARE {
        0 => Side::Test,
        _ => Side::Train,
    }
}

/// Draws by `draw` until a document is on `side`.
fn on_side<T>(side: Side, mut draw: impl FnMut() -> T, key: impl Fn(&T) -> String) -> T {
    loop {
        let drawn = draw();
        if side_of(&key(&drawn)) == side {
            return drawn;
        }
    }
}

/// The endless stream of training documents: per 20, 12 problems, 6 questions or statements of science, 2 stories.
#[derive(Debug)]
pub struct Stream {
    random: Random,
    science: Vec<Document>,
}

impl Stream {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, "corpus"), science: science::documents() }
    }
}

impl Iterator for Stream {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        let random = &mut self.random;
        Some(match random.between(1, 20) {
            1..=12 => problems::draw(random, Side::Train).document(),
            13..=18 => random.pick(&self.science).clone(),
            _ => stories::draw(random, Side::Train),
        })
    }
}

/// Held-out problems, no two of one key.
#[must_use]
pub fn test_problems(seed: u64, count: usize) -> Vec<ProblemItem> {
    let mut random = Random::new(seed, "test problems");
    let mut seen = std::collections::HashSet::new();
    let mut items = Vec::with_capacity(count);
    while items.len() < count {
        let problem = problems::draw(&mut random, Side::Test);
        if seen.insert(problem.key()) {
            items.push(problem.item(items.len()));
        }
    }
    items
}

/// Held-out stories.
#[must_use]
pub fn test_stories(seed: u64, count: usize) -> Vec<Document> {
    let mut random = Random::new(seed, "test stories");
    (0..count).map(|_| stories::draw(&mut random, Side::Test)).collect()
}

/// Writes `problems_test.jsonl`, `science_test.jsonl`, `stories_test.jsonl`, and `sample.txt`: the stream's first documents.
///
/// # Errors
/// A file that cannot be written.
pub fn write(folder: &Path, seed: u64, problems: usize) -> Result<()> {
    const SAMPLE: usize = 100;
    std::fs::create_dir_all(folder)?;
    lines(&folder.join("problems_test.jsonl"), &test_problems(seed, problems))?;
    lines(&folder.join("science_test.jsonl"), &science::test_items())?;
    lines(&folder.join("stories_test.jsonl"), &test_stories(seed, 200))?;
    let sample: Vec<String> = Stream::new(seed).take(SAMPLE).map(|document| document.text + "\n").collect();
    Ok(std::fs::write(folder.join("sample.txt"), sample.join("\n"))?)
}

fn lines<T: Serialize>(path: &Path, items: &[T]) -> Result<()> {
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(item)?);
        text.push('\n');
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// As many documents as a training of some ten million tokens reads.
    const STREAM: usize = 150_000;

    #[test]
    fn no_test_item_occurs_in_training_by_text_or_by_key() {
        let (mut texts, mut keys) = (HashSet::new(), HashSet::new());
        for document in Stream::new(1).take(STREAM) {
            keys.insert(document.key);
            texts.insert(document.text);
        }
        let problems = test_problems(1, 600);
        for item in &problems {
            assert!(!texts.iter().any(|text| text.starts_with(&problems::prompt(&item.question))), "{}", item.question);
        }
        let mut random = Random::new(1, "test problems");
        for _ in 0..2000 {
            let problem = problems::draw(&mut random, Side::Test);
            assert!(!keys.contains(&problem.key()), "{}", problem.key());
            assert!(!texts.contains(&problem.document().text));
        }
        for item in science::test_items() {
            assert!(!keys.contains(&item.id), "{}", item.id);
            let asked = science::prompt(&item.question);
            assert!(!texts.iter().any(|text| text.contains(&asked)), "{asked}");
        }
        for story in test_stories(1, 500) {
            assert!(!keys.contains(&story.key) && !texts.contains(&story.text), "{}", story.key);
        }
    }

    #[test]
    fn the_stream_is_the_same_for_the_same_seed() {
        let texts = |seed| Stream::new(seed).take(50).map(|d| d.text).collect::<Vec<_>>();
        assert_eq!(texts(3), texts(3));
        assert_ne!(texts(3), texts(4));
    }

    #[test]
    fn there_are_five_hundred_items_of_each() {
        assert_eq!(test_problems(1, 500).len(), 500);
        assert!(science::test_items().len() >= 500, "{}", science::test_items().len());
    }
}
