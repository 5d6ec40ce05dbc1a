//! SentencePiece BPE (GGUF's tokenizer model `llama`).
//!
//! Kudo and Richardson 2018, with the merge rule of sentencepiece's `bpe_model.cc`: of all adjacent
//! pairs whose union is a token, the one with the highest score merges first, the leftmost of equals.
//! (A list of merges can say the same only where no two tokens score alike, see `merges`; so the scores
//! are used as they are.) What is no token in the end falls back to byte tokens, or to the unknown token
//! where the vocabulary lacks them.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::bytes::Pieces;
use super::vocab::{TokenKind, Vocab};
use crate::formats::FormatError;

/// U+2581, which stands for a space.
pub(super) const SPACE: char = '\u{2581}';

const SCORES: &str = "tokenizer.ggml.scores";
const TOKENS: &str = "tokenizer.ggml.tokens";
const NONE: usize = usize::MAX;

/// The encoder.
#[derive(Debug)]
pub(super) struct Spm {
    /// Id and score of every token that text may become.
    tokens: HashMap<String, (u32, f32)>,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// Tokens that are looked for in the text as they stand, by first byte, longest first.
    literals: Vec<Vec<(String, u32)>>,
    /// A space goes before text at the start and after a literal token.
    space_prefix: bool,
}

impl Spm {
    pub(super) fn new(vocab: &Vocab<'_>, unknown: Option<u32>, space_prefix: bool) -> Result<Self, FormatError> {
        let spm = Self::of(vocab.iter(), &read_scores(vocab)?, unknown, space_prefix);
        if unknown.is_none() && spm.bytes.contains(&None) {
            let expected = "a token for every byte, or an unknown token";
            return Err(vocab.file.wrong_key(TOKENS, expected, "neither"));
        }
        Ok(spm)
    }

    /// The encoder of these tokens, with a score for each of them.
    pub(super) fn of<'a>(
        vocab: impl Iterator<Item = (u32, &'a str, TokenKind)>,
        scores: &[f32],
        unknown: Option<u32>,
        space_prefix: bool,
    ) -> Self {
        let mut spm = Self {
            tokens: HashMap::with_capacity(scores.len()),
            bytes: vec![None; 256],
            unknown,
            literals: vec![Vec::new(); 256],
            space_prefix,
        };
        for ((id, text, kind), &score) in vocab.zip(scores) {
            let Some(&first) = text.as_bytes().first() else {
                continue;
            };
            if let (TokenKind::Byte, Some(byte)) = (kind, byte_of(text)) {
                spm.bytes[usize::from(byte)].get_or_insert(id);
            } else if kind.is_literal() {
                spm.literals[usize::from(first)].push((text.to_owned(), id));
            }
            if matches!(kind, TokenKind::Normal | TokenKind::UserDefined) {
                spm.tokens.entry(text.to_owned()).or_insert((id, score));
            }
        }
        for literals in &mut spm.literals {
            literals.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        spm
    }

    /// Text, id and score of every token that text may become, by id.
    pub(super) fn tokens(&self) -> Vec<(&str, u32, f32)> {
        let mut tokens: Vec<_> = self.tokens.iter().map(|(text, &(id, score))| (text.as_str(), id, score)).collect();
        tokens.sort_unstable_by_key(|&(_, id, _)| id);
        tokens
    }

    /// The id of a token that text may become.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.tokens.get(token).map(|&(id, _)| id)
    }

    /// The token that stands for a byte.
    pub(super) fn byte(&self, byte: u8) -> Option<u32> {
        self.bytes[usize::from(byte)]
    }

    /// The two parts that merging makes `token` of in the end; `None` if it does not make it.
    pub(super) fn parts<'a>(&self, token: &'a str) -> Option<(&'a str, &'a str)> {
        let mut merger = Merger::new(self, token);
        merger.merge_all();
        let whole = merger.symbols.first().is_some_and(|symbol| symbol.len == token.len());
        (whole && merger.last > 0).then(|| token.split_at(merger.last))
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut plain_from = 0;
        let mut at = 0;
        while at < text.len() {
            match self.literal_at(&text[at..]) {
                Some((length, id)) => {
                    self.encode_plain(&text[plain_from..at], out);
                    out.push(id);
                    at += length;
                    plain_from = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.encode_plain(&text[plain_from..], out);
    }

    fn literal_at(&self, text: &str) -> Option<(usize, u32)> {
        let candidates = &self.literals[usize::from(*text.as_bytes().first()?)];
        let found = candidates.iter().find(|(literal, _)| text.starts_with(literal.as_str()));
        found.map(|(literal, id)| (literal.len(), *id))
    }

    /// Text without literal tokens: spaces made visible, then merged.
    fn encode_plain(&self, text: &str, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut visible = String::with_capacity(text.len() + 8);
        if self.space_prefix {
            visible.push(SPACE);
        }
        visible.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for part in Merger::new(self, &visible).run() {
            self.emit(part, out);
        }
    }

    fn emit(&self, part: &str, out: &mut Vec<u32>) {
        if let Some(&(id, _)) = self.tokens.get(part) {
            out.push(id);
            return;
        }
        let bytes = part.bytes().map(|b| self.bytes[usize::from(b)]);
        match (bytes.clone().all(|id| id.is_some()), self.unknown) {
            (false, Some(unknown)) => out.push(unknown),
            _ => out.extend(bytes.flatten()),
        }
    }
}

/// Scores, one a token; all alike when the file has none.
fn read_scores(vocab: &Vocab<'_>) -> Result<Vec<f32>, FormatError> {
    let tokens = vocab.tokens.len();
    let Some(scores) = vocab.file.opt_floats(SCORES)? else {
        return Ok(vec![0.0; tokens]);
    };
    if scores.len() != tokens {
        let expected = format!("{tokens} scores, one a token");
        return Err(vocab.file.wrong_key(SCORES, expected, scores.len().to_string()));
    }
    match scores.iter().find(|s| s.is_nan()) {
        Some(nan) => Err(vocab.file.wrong_key(SCORES, "numbers", nan.to_string())),
        None => Ok(scores),
    }
}

/// The byte that a token such as `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// What each id decodes to.
pub(super) fn pieces<'a>(vocab: impl Iterator<Item = (u32, &'a str, TokenKind)>) -> Pieces {
    let mut pieces = Pieces::default();
    for (_, text, kind) in vocab {
        pieces.push(|out| match (kind, byte_of(text)) {
            (TokenKind::Byte, Some(byte)) => out.push(byte),
            (kind, _) if kind.is_silent() => {}
            _ => push_visible(text, out),
        });
    }
    pieces
}

/// Appends a token's text with its spaces made spaces again.
pub(super) fn push_visible(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        let c = if c == SPACE { ' ' } else { c };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// A run of characters: a link in the chain that merging shortens.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// 0 once the symbol was merged into the one before it.
    len: usize,
    previous: usize,
    next: usize,
}

/// Two neighbours whose union is a token.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of the union, by which a pair is known to be stale.
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        let score = self.score.total_cmp(&other.score);
        score.then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

struct Merger<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
    /// Length of the left part of what merged last; 0 before anything has.
    last: usize,
}

impl<'a> Merger<'a> {
    /// One symbol a character.
    fn new(spm: &'a Spm, text: &'a str) -> Self {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (index, (start, c)) in text.char_indices().enumerate() {
            symbols.push(Symbol {
                start,
                len: c.len_utf8(),
                previous: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        Self { spm, text, symbols, pairs: BinaryHeap::new(), last: 0 }
    }

    /// Merges until nothing merges.
    fn merge_all(&mut self) {
        for right in 1..self.symbols.len() {
            self.offer(right - 1, right);
        }
        while let Some(pair) = self.pairs.pop() {
            self.merge(&pair);
        }
    }

    /// The parts in the end, in order.
    fn run(mut self) -> impl Iterator<Item = &'a str> {
        self.merge_all();
        let text = self.text;
        let left = self.symbols.into_iter().filter(|s| s.len > 0);
        left.map(move |s| &text[s.start..s.start + s.len])
    }

    fn offer(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let start = self.symbols[left].start;
        let len = self.symbols[left].len + self.symbols[right].len;
        if let Some(&(_, score)) = self.spm.tokens.get(&self.text[start..start + len]) {
            self.pairs.push(Pair { score, left, right, len });
        }
    }

    fn merge(&mut self, pair: &Pair) {
        let (left, right) = (self.symbols[pair.left], self.symbols[pair.right]);
        if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
            return;
        }
        self.last = left.len;
        self.symbols[pair.left].len = pair.len;
        self.symbols[pair.left].next = right.next;
        self.symbols[pair.right].len = 0;
        if right.next != NONE {
            self.symbols[right.next].previous = pair.left;
        }
        self.offer(left.previous, pair.left);
        self.offer(pair.left, right.next);
    }
}
