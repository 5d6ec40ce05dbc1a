//! Log-likelihoods of many continuations: what texts have in common is evaluated once, and many texts go through the model
//! together.
//!
//! The texts of a window make a tree: a branch is a run of tokens that several of them begin with (a few-shot preamble, the
//! context of an item's choices), evaluated once, in one sequence of a [`Batch`]; where the tree divides, the cache is copied.
//! All branches of one depth are evaluated together, so that the weights are read and unpacked once for all.

mod tree;

use super::score::log_probability;
use super::{Result, Score, greedy};
use crate::error::Error;
use crate::kernels::isa::Kernels;
use crate::model::{Batch, Model, Session, SessionOptions};
use crate::threads::Pool;
use tree::{Node, Tree};

/// Most sequences evaluated together.
const SEQUENCES: usize = 64;

/// A continuation to score: `tokens[first..]` after `tokens[..first]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Tokens of context and continuation.
    pub tokens: Vec<u32>,
    /// Where the continuation begins.
    pub first: usize,
}

impl Request {
    /// The tokens that are evaluated: the last one is scored, but nothing follows it.
    fn read(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }
}

/// Scores continuations, many together. Each score is that of a [`Scorer`](super::Scorer), by a bit.
#[derive(Debug)]
pub struct BatchScorer<'m> {
    model: &'m Model,
    pool: &'m Pool,
    kernels: Kernels,
    options: SessionOptions,
    cache_bytes: u64,
    batch: Option<Batch<'m>>,
}

/// What was made of a row of logits: ln p of each target, and whether greedy choice would have taken it; `None` if the logits
/// are no finite numbers.
type Found = Vec<Option<(f64, bool)>>;

impl<'m> BatchScorer<'m> {
    /// A scorer of texts of at most `options.context` tokens (the last token apart), whose caches take at most about
    /// `cache_bytes` together, but always one of a text and one of what it shares.
    ///
    /// # Errors
    /// [`Error::Size`] if `context` or `max_batch` is 0, or `context` exceeds the model's.
    pub fn new(
        model: &'m Model,
        pool: &'m Pool,
        kernels: Kernels,
        options: SessionOptions,
        cache_bytes: u64,
    ) -> Result<BatchScorer<'m>> {
        // What a session refuses is refused now, not at the first request.
        Session::new(model, pool, kernels, SessionOptions { context: options.context.min(1), ..options })?;
        let most = model.config().context;
        if options.context > most {
            let expected = format!("1 to the model's {most}");
            return Err(Error::Size { what: "context (positions)", expected, found: options.context });
        }
        Ok(BatchScorer { model, pool, kernels, options, cache_bytes, batch: None })
    }

    /// The scores of all requests, in order.
    ///
    /// # Errors
    /// Of all: what the system refuses memory for. Of one: [`Error::EmptyPrompt`] if nothing comes before or nothing is to be
    /// scored, [`Error::Token`], [`Error::ContextFull`], [`Error::NotFinite`].
    pub fn score(&mut self, requests: &[Request]) -> Result<Vec<Result<Score>>> {
        let mut scores: Vec<Result<Score>> = requests.iter().map(|request| self.check(request)).collect();
        // Those that share most are neighbours.
        let mut open: Vec<usize> = (0..requests.len()).filter(|&index| scores[index].is_ok()).collect();
        open.sort_by(|&a, &b| requests[a].read().cmp(requests[b].read()));
        let Some(longest) = open.iter().map(|&index| requests[index].read().len()).max() else { return Ok(scores) };
        let sequences = self.prepare(longest)?;
        let mut rest = open.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(tree::window(requests, rest, sequences));
            let tree = Tree::new(requests, now);
            self.evaluate(&tree, requests, &mut scores)?;
            rest = later;
        }
        Ok(scores)
    }

    /// An empty score of a request that can be evaluated.
    fn check(&self, Request { tokens, first }: &Request) -> Result<Score> {
        if *first == 0 || *first >= tokens.len() {
            return Err(Error::EmptyPrompt);
        }
        let vocab = self.model.config().vocab;
        if let Some((index, &token)) = tokens.iter().enumerate().find(|(_, token)| **token as usize >= vocab) {
            return Err(Error::Token { index, token, vocab });
        }
        let context = self.options.context;
        if tokens.len() - 1 > context {
            return Err(Error::ContextFull { context, position: 0, tokens: tokens.len() - 1 });
        }
        Ok(Score { loglikelihood: 0.0, tokens: 0, greedy: true })
    }

    /// Makes room for texts of `longest` tokens; gives the number of sequences there are.
    fn prepare(&mut self, longest: usize) -> Result<usize> {
        if let Some(batch) = self.batch.as_ref().filter(|batch| batch.context() >= longest) {
            return Ok(batch.sequences());
        }
        self.batch = None;
        // Some more, so that a slightly longer text does not make all caches anew.
        let context = (longest + longest / 4).next_multiple_of(64).min(self.options.context);
        let bytes = Session::predict_bytes(self.model, self.pool.threads(), context, self.options.kv).max(1);
        let sequences = (self.cache_bytes / bytes).clamp(2, SEQUENCES as u64) as usize;
        let options = SessionOptions { context, ..self.options };
        self.batch = Some(Batch::new(self.model, self.pool, self.kernels, options, sequences)?);
        Ok(sequences)
    }

    /// Evaluates a tree, depth by depth, and adds what it finds to the scores.
    fn evaluate(&mut self, tree: &Tree<'_>, requests: &[Request], scores: &mut [Result<Score>]) -> Result<()> {
        let Some(batch) = self.batch.as_mut() else { return Ok(()) };
        let mut places = Places::new(batch.sequences());
        for depth in tree.depths() {
            for &node in depth {
                places.settle(tree, node, batch);
            }
            level(batch, tree, depth, &places, requests, scores)?;
            for &node in depth {
                places.leave(tree, node);
            }
        }
        Ok(())
    }
}

/// Evaluates the branches of one depth together.
fn level(
    batch: &mut Batch<'_>,
    tree: &Tree<'_>,
    depth: &[usize],
    places: &Places,
    requests: &[Request],
    scores: &mut [Result<Score>],
) -> Result<()> {
    let mut tokens: Vec<&[u32]> = vec![&[]; batch.sequences()];
    let mut rows: Vec<&[usize]> = vec![&[]; batch.sequences()];
    let mut nodes: Vec<Option<&Node<'_>>> = vec![None; batch.sequences()];
    for &index in depth {
        let (node, place) = (&tree.nodes[index], places.of[&index]);
        (tokens[place], rows[place], nodes[place]) = (node.tokens, &node.rows, Some(node));
    }
    let targets =
        |place: usize, token: usize| -> &[(usize, usize)] { nodes[place].map_or(&[], |node| node.targets(token)) };
    let found: Vec<Found> = batch.append_rows(&tokens, &rows, |place, token, logits| {
        let likeliest = greedy(logits);
        let of = |&(request, at): &(usize, usize)| {
            let target = requests[request].tokens[at];
            log_probability(logits, target).map(|logarithm| (logarithm, likeliest == target))
        };
        targets(place, token).iter().map(of).collect()
    })?;
    // In the order of the sequences and their tokens: as they were found.
    let names = rows.iter().enumerate().flat_map(|(place, rows)| rows.iter().map(move |&token| (place, token)));
    for ((place, token), found) in names.zip(found) {
        for (&(request, _), found) in targets(place, token).iter().zip(found) {
            match (&mut scores[request], found) {
                (Ok(score), Some((logarithm, greedy))) => {
                    score.loglikelihood += logarithm;
                    score.tokens += 1;
                    score.greedy &= greedy;
                }
                (score, None) => *score = Err(Error::NotFinite),
                (Err(_), _) => {}
            }
        }
    }
    Ok(())
}

/// Which sequence of the batch each branch is in.
struct Places {
    free: Vec<usize>,
    of: std::collections::BTreeMap<usize, usize>,
    /// Branches that have yet to leave each one.
    children: std::collections::BTreeMap<usize, usize>,
}

impl Places {
    fn new(sequences: usize) -> Places {
        Places { free: (0..sequences).rev().collect(), of: Default::default(), children: Default::default() }
    }

    /// Finds a sequence for a branch that goes on where its parent ends: the parent's own for its last child, else a copy.
    fn settle(&mut self, tree: &Tree<'_>, index: usize, batch: &mut Batch<'_>) {
        let place = match tree.nodes[index].parent {
            Some(parent) => {
                let from = self.of[&parent];
                let left = self.children.get_mut(&parent).expect("a parent with children");
                *left -= 1;
                if *left == 0 {
                    self.of.remove(&parent);
                    from
                } else {
                    let place = self.free.pop().expect("a window has as many ends as there are sequences");
                    batch.fork(from, place, batch.position(from));
                    place
                }
            }
            None => {
                let place = self.free.pop().expect("a window has as many ends as there are sequences");
                batch.truncate(place, 0);
                place
            }
        };
        self.of.insert(index, place);
        self.children.insert(index, tree.nodes[index].children);
    }

    /// Frees the sequence of a branch that nothing follows.
    fn leave(&mut self, tree: &Tree<'_>, index: usize) {
        if tree.nodes[index].children == 0 {
            self.free.extend(self.of.remove(&index));
        }
    }
}

#[cfg(test)]
mod tests;
