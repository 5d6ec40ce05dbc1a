//! The tree of what texts have in common.

use super::Request;
use std::ops::Range;

/// A branch is made where it saves at least this many tokens: another depth is another pass over the weights, which costs
/// about as much.
const SAVES: usize = 24;

/// A run of tokens that some texts share after those of its parent.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// Its tokens, at least one.
    pub(super) tokens: &'a [u32],
    /// The branch before it.
    pub(super) parent: Option<usize>,
    /// Branches after it.
    pub(super) children: usize,
    /// Those of its tokens after which logits are wanted, ascending.
    pub(super) rows: Vec<usize>,
    /// What they are wanted for: request and the number of the token that is scored, for each of `rows`.
    targets: Vec<Vec<(usize, usize)>>,
}

impl Node<'_> {
    /// Requests, and which token of each, that are scored by the logits after token `token`.
    pub(super) fn targets(&self, token: usize) -> &[(usize, usize)] {
        self.rows.binary_search(&token).map_or(&[], |row| &self.targets[row])
    }
}

/// The branches of a window, and those of each depth.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    depths: Vec<Vec<usize>>,
}

/// How many of `open`, sorted by what they read, have at most `sequences` different texts: at least one.
pub(super) fn window(requests: &[Request], open: &[usize], sequences: usize) -> usize {
    let mut texts = 0;
    for (count, &index) in open.iter().enumerate() {
        let read = requests[index].read();
        let known = count > 0 && requests[open[count - 1]].read() == read;
        if !known {
            texts += 1;
            if texts > sequences {
                return count;
            }
        }
    }
    open.len()
}

/// Tokens that two texts begin with.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<'a> Tree<'a> {
    /// The tree of `window`, which is sorted by what is read.
    pub(super) fn new(requests: &'a [Request], window: &[usize]) -> Tree<'a> {
        let mut tree = Tree { nodes: Vec::new(), depths: Vec::new() };
        tree.grow(requests, window, (None, 0), 0);
        tree
    }

    /// The branches of each depth, from the root on.
    pub(super) fn depths(&self) -> &[Vec<usize>] {
        &self.depths
    }

    /// Adds the branches of `window` after `done` tokens, which all have in common, under `parent`.
    fn grow(
        &mut self,
        requests: &'a [Request],
        window: &[usize],
        (parent, done): (Option<usize>, usize),
        depth: usize,
    ) {
        let read = |index: usize| requests[index].read();
        let mut rest = window;
        while let Some(&first) = rest.first() {
            if read(first).len() == done {
                // It ends where its parent does, which has its rows.
                rest = &rest[1..];
                continue;
            }
            let next = read(first)[done];
            let count = rest.iter().take_while(|&&index| read(index)[done] == next).count();
            let (group, later) = rest.split_at(count);
            rest = later;
            let end = common(read(first), read(group[count - 1]));
            let texts = 1 + group.windows(2).filter(|pair| read(pair[0]) != read(pair[1])).count();
            if texts == 1 || (end - done) * (texts - 1) >= SAVES {
                let node = self.add(requests, group, (parent, done..end), depth);
                self.grow(requests, group, (Some(node), end), depth + 1);
                continue;
            }
            // Too little to share: each text for itself.
            let mut alone = group;
            while let Some(&first) = alone.first() {
                let same = alone.iter().take_while(|&&index| read(index) == read(first)).count();
                let (these, others) = alone.split_at(same);
                self.add(requests, these, (parent, done..read(first).len()), depth);
                alone = others;
            }
        }
    }

    /// Adds a branch: tokens `span` of every request of `group`.
    fn add(
        &mut self,
        requests: &'a [Request],
        group: &[usize],
        (parent, span): (Option<usize>, Range<usize>),
        depth: usize,
    ) -> usize {
        let tokens = &requests[group[0]].read()[span.clone()];
        let mut wanted: Vec<Vec<(usize, usize)>> = vec![Vec::new(); tokens.len()];
        for &index in group {
            // The logits after token t score token t + 1.
            let first = requests[index].first - 1;
            let read = requests[index].read().len();
            for token in span.start.max(first)..span.end.min(read) {
                wanted[token - span.start].push((index, token + 1));
            }
        }
        let rows: Vec<usize> = (0..wanted.len()).filter(|&token| !wanted[token].is_empty()).collect();
        wanted.retain(|targets| !targets.is_empty());
        let node = self.nodes.len();
        self.nodes.push(Node { tokens, parent, children: 0, rows, targets: wanted });
        if let Some(parent) = parent {
            self.nodes[parent].children += 1;
        }
        if self.depths.len() <= depth {
            self.depths.resize(depth + 1, Vec::new());
        }
        self.depths[depth].push(node);
        node
    }
}
