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
