//! Several prompts continued at once.

use std::ops::ControlFlow;
use std::time::Instant;

use super::{Generation, Growing, Sampling, StopReason, choose, nanoseconds};
use crate::error::{Error, Result};
use crate::model::Batch;

/// Continues each prompt in its sequence of `batch`, all together: prompt `i` as [`generate`](super::generate) does alone
/// with the seed `sampling.seed + i`, token for token. `on_token` gets the number of the prompt and the token; a break
/// ends that sequence. A sequence that has ended costs nothing more.
///
/// The times are those of the steps of the whole batch: until a prompt's first token is chosen all prompts are read.
///
/// # Errors
/// [`Error::Size`] if there is not one prompt a sequence, [`Error::EmptyPrompt`] if one is empty, and those of `generate`;
/// an error of one sequence ends all.
pub fn generate_batch(
    batch: &mut Batch<'_>,
    prompts: &[&[u32]],
    max_tokens: usize,
    stop_tokens: &[u32],
    sampling: Sampling,
    mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Generation>> {
    if prompts.iter().any(|prompt| prompt.is_empty()) {
        return Err(Error::EmptyPrompt);
    }
    let vocab = batch.model().config().vocab;
    let growing = prompts.iter().zip(0..).map(|(prompt, index)| {
        let sampling = Sampling { seed: sampling.seed.wrapping_add(index), ..sampling };
        Growing::new(prompt, max_tokens, stop_tokens, sampling)
    });
    let mut growing = growing.collect::<Result<Vec<_>>>()?;
    // What each sequence is given next; nothing once it has ended.
    let mut tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
    let mut first = true;
    while tokens.iter().any(|tokens| !tokens.is_empty()) {
        let given: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let running: Vec<usize> = (0..given.len()).filter(|&index| !given[index].is_empty()).collect();
        let start = Instant::now();
        let logits = batch.append(&given)?;
        let rows = running.iter().zip(logits.chunks_exact(vocab));
        let chosen = rows.map(|(&index, logits)| choose(&mut growing[index].sampler, logits));
        let chosen = chosen.collect::<Result<Vec<_>>>()?;
        let taken_ns = nanoseconds(start);
        for (index, token) in running.into_iter().zip(chosen) {
            let made = &mut growing[index].made;
            if first {
                made.ttft_ns = taken_ns;
            } else {
                made.decode_ns.push(taken_ns);
            }
            tokens[index].clear();
            if growing[index].take(token, &mut |token| on_token(index, token)) {
                if batch.position(index) == batch.context() {
                    growing[index].made.stop = StopReason::ContextFull;
                } else {
                    tokens[index].push(token);
                }
            }
        }
        first = false;
    }
    Ok(growing.into_iter().map(|growing| growing.made).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{generate, tests::model};
    use super::*;
    use crate::kernels::isa::Kernels;
    use crate::model::{Session, SessionOptions};
    use crate::threads::Pool;

    #[test]
    fn a_batch_generates_what_its_sequences_do_alone() {
        let (model, pool, kernels) = (model(), Pool::new(2, false).unwrap(), Kernels::new(None).unwrap());
        let options = SessionOptions { max_batch: 8, ..SessionOptions::new(40) };
        let prompts: [&[u32]; 4] = [&[3, 1, 4, 1, 5], &[9], &[2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3], &[7; 33]];
        let sampling = Sampling { temperature: 3.0, seed: 5, repetition_penalty: 1.1, ..Sampling::GREEDY };
        // Token 50 ends a sequence; prompt 1 is ended by its reader after 4 tokens; prompt 3 fills the context.
        let stops = [50];
        let reader = |index: usize, count: usize| match index == 1 && count == 4 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let alone = |index: usize| {
            let mut session = Session::new(&model, &pool, kernels, options).unwrap();
            let (seed, mut count) = (sampling.seed + index as u64, 0);
            let sampling = Sampling { seed, ..sampling };
            generate(&mut session, prompts[index], 20, &stops, sampling, |_| {
                count += 1;
                reader(index, count)
            })
            .unwrap()
        };
        let mut counts = [0; 4];
        let mut batch = Batch::new(&model, &pool, kernels, options, 4).unwrap();
        let made = generate_batch(&mut batch, &prompts, 20, &stops, sampling, |index, _| {
            counts[index] += 1;
            reader(index, counts[index])
        })
        .unwrap();
        for (index, made) in made.iter().enumerate() {
            let alone = alone(index);
            assert_eq!((&made.tokens, made.stop), (&alone.tokens, alone.stop), "prompt {index}");
            assert_eq!(made.tokens.len(), counts[index]);
            assert_eq!(made.decode_ns.len(), alone.decode_ns.len());
            assert!(made.ttft_ns > 0);
        }
        assert_eq!((made[1].stop, made[3].stop), (StopReason::Caller, StopReason::ContextFull));
        assert!(made[0].tokens != made[2].tokens);
    }

    #[test]
    fn wrong_requests_are_errors() {
        let (model, pool, kernels) = (model(), Pool::new(1, false).unwrap(), Kernels::new(None).unwrap());
        let mut batch = Batch::new(&model, &pool, kernels, SessionOptions::new(8), 2).unwrap();
        let mut run = |prompts: &[&[u32]]| {
            generate_batch(&mut batch, prompts, 4, &[], Sampling::GREEDY, |_, _| ControlFlow::Continue(()))
        };
        assert!(matches!(run(&[&[1], &[]]), Err(Error::EmptyPrompt)));
        assert!(matches!(run(&[&[1]]), Err(Error::Size { what: "tokens", .. })));
        assert!(matches!(run(&[&[1], &[100]]), Err(Error::Token { .. })));
        assert!(matches!(run(&[&[1], &[2; 9]]), Err(Error::ContextFull { .. })));
        assert_eq!(run(&[&[1], &[2]]).unwrap().len(), 2);
    }
}
