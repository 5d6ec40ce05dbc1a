//! Independent sequences evaluated together: the weights are read once for all of them.

use super::Model;
use super::evaluate::{Evaluator, Sequence};
use super::session::SessionOptions;
use crate::error::{Error, Result};
use crate::kernels::isa::Kernels;
use crate::threads::Pool;

/// A fixed number of sequences with a cache each.
///
/// Logits are those of a [`Session`](super::Session) that evaluates the sequence alone, bit for bit.
#[derive(Debug)]
pub struct Batch<'a> {
    evaluator: Evaluator<'a>,
    sequences: Vec<Sequence>,
    logits: Vec<f32>,
}

impl<'a> Batch<'a> {
    /// `sequences` empty sequences, each with room for `options.context` positions.
    ///
    /// # Errors
    /// [`Error::Size`] if `sequences`, `context` or `max_batch` is 0, `context` exceeds the model's, or a cache fits no
    /// memory.
    pub fn new(
        model: &'a Model,
        pool: &'a Pool,
        kernels: Kernels,
        options: SessionOptions,
        sequences: usize,
    ) -> Result<Batch<'a>> {
        let (evaluator, sequences) = Evaluator::new(model, pool, kernels, options, sequences)?;
        let logits = vec![0.0; sequences.len() * model.config().vocab];
        Ok(Batch { evaluator, sequences, logits })
    }

    /// The model.
    pub fn model(&self) -> &'a Model {
        self.evaluator.model
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// Positions that fit each cache.
    pub fn context(&self) -> usize {
        self.evaluator.options.context
    }

    /// Tokens of a sequence.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn position(&self, sequence: usize) -> usize {
        self.sequences[sequence].position
    }

    /// Forgets all tokens of a sequence from `position` on; does nothing if there are none.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn truncate(&mut self, sequence: usize, position: usize) {
        let sequence = &mut self.sequences[sequence];
        sequence.position = sequence.position.min(position);
    }

    /// Makes the sequence `to` begin with the first `positions` tokens of `from`, and hold nothing else.
    ///
    /// # Panics
    /// If there is no such sequence, both are one, or `from` has fewer tokens.
    pub fn fork(&mut self, from: usize, to: usize, positions: usize) {
        assert!(positions <= self.sequences[from].position, "{positions} of {} tokens", self.sequences[from].position);
        let [from, to] = self.sequences.get_disjoint_mut([from, to]).expect("two sequences");
        to.cache.copy(&from.cache, positions);
        to.position = positions;
    }

    /// As [`Batch::append`], with something made of the logits of chosen tokens: `rows` has, of each sequence, the numbers of
    /// those of its tokens after which logits are wanted, ascending; `found` makes something of sequence, token and logits
    /// (`[vocab]`), on any of the pool's threads. What it made comes back in the order of the sequences and their tokens.
    ///
    /// # Errors
    /// As there, but that all lists may be empty.
    ///
    /// # Panics
    /// If `rows` is not one list a sequence, or names a token that is not given.
    pub fn append_rows<T: Send>(
        &mut self,
        tokens: &[&[u32]],
        rows: &[&[usize]],
        found: impl Fn(usize, usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        let Batch { evaluator, sequences, logits } = self;
        if tokens.len() != sequences.len() {
            let expected = format!("token lists for {} sequences", sequences.len());
            return Err(Error::Size { what: "tokens", expected, found: tokens.len() });
        }
        assert_eq!(rows.len(), sequences.len(), "a list of rows for each sequence");
        for (sequence, tokens) in sequences.iter().zip(tokens).filter(|(_, tokens)| !tokens.is_empty()) {
            evaluator.check(sequence, tokens)?;
        }
        let (mut rest, mut made) = (tokens.to_vec(), Vec::new());
        while rest.iter().any(|rest| !rest.is_empty()) {
            let before: Vec<usize> = tokens.iter().zip(&rest).map(|(all, rest)| all.len() - rest.len()).collect();
            let (mut parts, _) = next_batch(sequences, &mut rest, evaluator.options.max_batch);
            let (mut wanted, mut names, mut row) = (Vec::new(), Vec::new(), 0);
            for (sequence, &first) in before.iter().enumerate() {
                let now = tokens[sequence].len() - rest[sequence].len() - first;
                let here = rows[sequence].iter().filter(|&&token| (first..first + now).contains(&token));
                for &token in here {
                    wanted.push(row + token - first);
                    names.push((sequence, token));
                }
                row += now;
            }
            made.extend(
                evaluator.each_row(&mut parts, &wanted, logits, |index, logits| {
                    found(names[index].0, names[index].1, logits)
                }),
            );
        }
        assert_eq!(made.len(), rows.iter().map(|rows| rows.len()).sum::<usize>(), "rows of tokens that are given");
        Ok(made)
    }

    /// Appends to each sequence its tokens, none being allowed, together in batches of up to `max_batch` tokens. Returns
    /// the logits after the last token of each sequence that got some, in order: `sequences with tokens x vocab`.
    ///
    /// # Errors
    /// [`Error::Size`] if `tokens` is not one slice a sequence, [`Error::EmptyPrompt`] if all are empty,
    /// [`Error::Token`], [`Error::ContextFull`]; the sequences are then as before.
    pub fn append(&mut self, tokens: &[&[u32]]) -> Result<&[f32]> {
        let Batch { evaluator, sequences, logits } = self;
        if tokens.len() != sequences.len() {
            let expected = format!("token lists for {} sequences", sequences.len());
            return Err(Error::Size { what: "tokens", expected, found: tokens.len() });
        }
        let wanted = tokens.iter().filter(|tokens| !tokens.is_empty()).count();
        if wanted == 0 {
            return Err(Error::EmptyPrompt);
        }
        for (sequence, tokens) in sequences.iter().zip(tokens).filter(|(_, tokens)| !tokens.is_empty()) {
            evaluator.check(sequence, tokens)?;
        }
        let vocab = evaluator.model.config().vocab;
        logits.resize(sequences.len() * vocab, 0.0);
        let (mut rest, mut answered) = (tokens.to_vec(), 0);
        while answered < wanted {
            let (mut parts, rows) = next_batch(sequences, &mut rest, evaluator.options.max_batch);
            let out = &mut logits[answered * vocab..(answered + rows.len()) * vocab];
            evaluator.batch(&mut parts, &rows, out);
            answered += rows.len();
        }
        Ok(&self.logits[..wanted * vocab])
    }
}

/// Takes up to `most` tokens off `rest`, in the order of the sequences: what is evaluated next, and the rows that are a
/// sequence's last.
fn next_batch<'s, 't>(
    sequences: &'s mut [Sequence],
    rest: &mut [&'t [u32]],
    most: usize,
) -> (Vec<(&'s mut Sequence, &'t [u32])>, Vec<usize>) {
    let (mut parts, mut rows, mut room) = (Vec::new(), Vec::new(), most);
    for (sequence, rest) in sequences.iter_mut().zip(rest) {
        let (now, later) = rest.split_at(rest.len().min(room));
        if !now.is_empty() {
            room -= now.len();
            if later.is_empty() {
                rows.push(most - room - 1);
            }
            parts.push((sequence, now));
        }
        *rest = later;
    }
    (parts, rows)
}
