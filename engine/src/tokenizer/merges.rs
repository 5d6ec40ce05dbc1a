//! SentencePiece's scores as a list of merges, which is what `tokenizer.json` has.
//!
//! By scores, of all neighbours whose union is a token, those with the best union merge first; by a list, of all
//! neighbours that are a pair of the list, the first pair. The two do the same, step by step, because every token is
//! always made of the same two parts: while no merge crosses the ends of a stretch of text, merging within it goes as if
//! it stood alone, so that neighbours whose union is a token are the two that this token is made of when it stands
//! alone. A list of these pairs, the best union first, has the same neighbours to merge at every step as the scores,
//! and takes the same of them where
//!
//! - no two tokens that are ever made score alike: of equals scores take the leftmost, and a list its first pair;
//! - both parts of these pairs are tokens: a list knows no others, and characters that are none become bytes first.
//!
//! Pairs beyond these do no harm in a list, for they never are neighbours.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::spm::Spm;

/// Longest token, in bytes, that is split in every way.
const MOST_BYTES: usize = 256;

/// A token that merging makes, and what of.
struct Made<'a> {
    score: f32,
    token: &'a str,
    left: &'a str,
    right: &'a str,
}

/// Every token that merging makes, the best first.
///
/// # Errors
/// What a list of merges cannot say.
fn made(spm: &Spm) -> Result<Vec<Made<'_>>, String> {
    let mut made = Vec::new();
    for (token, _, score) in spm.tokens() {
        let Some((left, right)) = spm.parts(token) else { continue };
        if let Some(part) = [left, right].into_iter().find(|part| spm.id(part).is_none()) {
            return Err(format!("token {token:?} is made of {part:?}, which is none: no list of merges says that"));
        }
        made.push(Made { score, token, left, right });
    }
    made.sort_by(|a, b| b.score.total_cmp(&a.score));
    let alike = made.windows(2).find(|two| two[0].score.total_cmp(&two[1].score).is_eq());
    match alike {
        Some([a, b, ..]) => {
            let (a, b, score) = (a.token, b.token, a.score);
            Err(format!("tokens {a:?} and {b:?} both score {score}: of such, no list of merges takes the leftmost"))
        }
        _ => Ok(made),
    }
}

/// The merges that do what the scores do, in transformers' order (`generate_merges`): every way to split a token in two
/// tokens, the best token first, the longest left part first.
///
/// # Errors
/// What a list of merges cannot say.
pub(super) fn of_scores(spm: &Spm) -> Result<Vec<(&str, &str)>, String> {
    made(spm)?;
    let mut all = Vec::new();
    for (token, _, score) in spm.tokens() {
        if token.len() > MOST_BYTES {
            return Err(format!("a token of {} bytes: expected at most {MOST_BYTES}", token.len()));
        }
        let splits = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let both = splits.filter(|(left, right)| spm.id(left).is_some() && spm.id(right).is_some());
        let length = |part: &str| part.chars().count();
        all.extend(both.map(|(left, right)| (score, Reverse((length(left), length(right))), left, right)));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    Ok(all.into_iter().map(|(_, _, left, right)| (left, right)).collect())
}

/// The rank of every pair of a list: its last, where it is there twice.
pub(super) type Ranks<'a> = HashMap<(&'a str, &'a str), usize>;

/// Checks that scores do what a list of merges does.
///
/// # Errors
/// Where they do not.
pub(super) fn check(spm: &Spm, ranks: &Ranks<'_>) -> Result<(), String> {
    for (left, right) in ranks.keys() {
        if spm.id(&format!("{left}{right}")).is_none() {
            return Err(format!("merge of {left:?} and {right:?}: expected one that makes a token of text"));
        }
    }
    let mut before = None;
    for Made { token, left, right, .. } in made(spm)? {
        let rank = ranks.get(&(left, right)).copied();
        if rank.is_none() || rank <= before {
            let place = rank.map_or("not in the list".to_owned(), |rank| format!("merge {rank}"));
            return Err(format!(
                "token {token:?}, by scores made of {left:?} and {right:?}: expected a list of merges that some scores \
                 say the same as, found this pair {place}"
            ));
        }
        before = rank;
    }
    Ok(())
}
