//! Documents to batches of rows of one length, whole documents only.

use crate::corpus::Stream;
use crate::ops::loss::NONE;
use crate::tokens::{BOS, EOS, encode};
use anyhow::Result;
use std::sync::Arc;
use tokenizers::Tokenizer;

/// Rows of tokens, what each is followed by, and where its document starts in its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Tokens of all rows, one row after another.
    pub tokens: Vec<u32>,
    /// The next token of the same document, or [`NONE`].
    pub targets: Arc<Vec<u32>>,
    /// The first token that each token sees, counted in its row.
    pub starts: Arc<Vec<u32>>,
    /// Tokens of a row.
    pub time: usize,
}

impl Batch {
    /// One row of one text, without targets.
    #[must_use]
    pub fn of(tokens: &[u32]) -> Self {
        let (time, tokens) = (tokens.len(), tokens.to_vec());
        Self { tokens, targets: Arc::new(vec![NONE; time]), starts: Arc::new(vec![0; time]), time }
    }
}

/// Documents that wait for a row with room.
const WAITING: usize = 32;

/// The endless sequence of batches of a seed.
#[derive(Debug)]
pub struct Batches {
    stream: Stream,
    tokenizer: Tokenizer,
    waiting: Vec<Vec<u32>>,
    rows: usize,
    time: usize,
}

impl Batches {
    /// Batches of `rows` rows of `time` tokens.
    #[must_use]
    pub fn new(seed: u64, tokenizer: Tokenizer, rows: usize, time: usize) -> Self {
        Self { stream: Stream::new(seed), tokenizer, waiting: Vec::new(), rows, time }
    }

    /// The next batch.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn draw(&mut self) -> Result<Batch> {
        let size = self.rows * self.time;
        let (mut tokens, mut targets, mut starts) = (Vec::with_capacity(size), Vec::new(), Vec::new());
        for row in 1..=self.rows {
            while tokens.len() < row * self.time {
                let (used, room) = (tokens.len() - (row - 1) * self.time, row * self.time - tokens.len());
                let document = self.fitting(room)?;
                starts.extend(std::iter::repeat_n(used as u32, document.len()));
                match document[0] {
                    EOS => targets.extend(std::iter::repeat_n(NONE, document.len())),
                    _ => targets.extend(document.iter().skip(1).copied().chain([NONE])),
                }
                tokens.extend(document);
            }
        }
        Ok(Batch { tokens, targets: Arc::new(targets), starts: Arc::new(starts), time: self.time })
    }

    /// The longest waiting document of at most `room` tokens; a filling of EOS if none is so short.
    fn fitting(&mut self, room: usize) -> Result<Vec<u32>> {
        while self.waiting.len() < WAITING {
            let Some(document) = self.stream.next() else { break };
            let mut ids = vec![BOS];
            ids.extend(encode(&self.tokenizer, &document.text)?);
            ids.push(EOS);
            ids.truncate(self.time);
            self.waiting.push(ids);
        }
        // Whatever waits longest begins a row, so that no document waits for ever.
        let best = match room == self.time {
            true => Some(0),
            false => {
                let short = self.waiting.iter().enumerate().filter(|(_, ids)| ids.len() <= room);
                short.max_by_key(|(at, ids)| (ids.len(), usize::MAX - at)).map(|(at, _)| at)
            }
        };
        Ok(best.map_or_else(|| vec![EOS; room], |at| self.waiting.remove(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_whole_documents_and_little_filling() -> Result<()> {
        let tokenizer = crate::tokens::train(1)?;
        let mut batches = Batches::new(1, tokenizer.clone(), 8, 256);
        let (mut filled, mut all) = (0, 0);
        for _ in 0..10 {
            let batch = batches.draw()?;
            assert_eq!((batch.tokens.len(), batch.targets.len(), batch.starts.len()), (2048, 2048, 2048));
            filled += batch.tokens.windows(2).filter(|pair| *pair == [EOS, EOS]).count();
            all += batch.tokens.len();
        }
        assert!(filled * 10 < all, "{filled} of {all}");
        let first = |seed| Batches::new(seed, tokenizer.clone(), 2, 256).draw();
        assert_eq!(first(5)?, first(5)?);
        assert_ne!(first(5)?, first(6)?);
        Ok(())
    }
}
