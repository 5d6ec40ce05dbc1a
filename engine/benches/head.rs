//! The output head in greedy decoding: all of the f16 head, and the bounded copy with what it leaves open.
//!
//! The model is 2B4T's head over one small block that adds nothing, whose bytes are counted; the whole step is timed. How
//! much is left open is up to the weights: of `clear` ones the answer stands out, so that little more than the copy is
//! read; of `open` ones no logit does, so that after the copy all of the f16 head is.

mod common;

use std::cell::OnceCell;

use common::{Arithmetic, Bench, Case, Timer, Work, noise, paths, thread_counts};
use criterion::Throughput;
use engine::bounded::BoundedHead;
use engine::generate::greedy;
use engine::model::Layer;
use engine::quant::{F16Matrix, TernaryMatrix};
use engine::{Config, Isa, Kernels, Linear, Model, Pool, Session, SessionOptions};
use half::f16;

/// Tokens decoded in a pass: what the bound leaves open differs from one to the next.
const TOKENS: [u32; 4] = [1, 77, 400, 1000];

fn config(vocab: usize, hidden: usize) -> Config {
    Config { hidden, ffn: 256, layers: 1, heads: 1, kv_heads: 1, head_dim: 128, vocab, context: 16, ..Config::small() }
}

/// Vocabulary and hidden size.
fn shape(quick: bool) -> (usize, usize) {
    if quick { (1024, 256) } else { (128_256, 2560) }
}

/// A model whose blocks add nothing: what meets the head is the token's own row of it, with every other sign changed where
/// the answer shall be `open`.
fn model(quick: bool, open: bool) -> Model {
    let (vocab, hidden) = shape(quick);
    let config = config(vocab, hidden);
    let zeros = |rows, cols| {
        Linear::Ternary(TernaryMatrix::from_codes(rows, cols, 1.0, |_, _| 0).expect("a matrix of these dimensions"))
    };
    let (width, ffn) = (config.head_dim, config.ffn);
    let layer = Layer {
        attn_norm: vec![1.0; hidden],
        q: zeros(width, hidden),
        k: zeros(width, hidden),
        v: zeros(width, hidden),
        q_bias: None,
        k_bias: None,
        v_bias: None,
        q_norm: None,
        k_norm: None,
        attn_sub_norm: Some(vec![1.0; width]),
        o: zeros(hidden, width),
        o_bias: None,
        ffn_norm: vec![1.0; hidden],
        gate: zeros(ffn, hidden),
        up: zeros(ffn, hidden),
        ffn_sub_norm: Some(vec![1.0; ffn]),
        down: zeros(hidden, ffn),
    };
    let embedding = F16Matrix::from_panels(vocab, hidden, |panel, out| {
        let bits = |i: usize| noise(panel * hidden * 16 + i) as u16;
        out.iter_mut().enumerate().for_each(|(i, w)| *w = f16::from_bits(0x2800 | bits(i) & 0x83ff));
    });
    let norm = (0..hidden).map(|i| if open && i % 2 == 1 { -1.0 } else { 1.0 }).collect();
    let embedding = Linear::F16(embedding.expect("a matrix of these dimensions"));
    Model::new(config, embedding, vec![layer], norm, None).expect("a model of this shape")
}

/// The tokens that follow, by the scalar path's logits.
fn expected(model: &Model) -> Vec<u32> {
    let pool = Pool::new(*thread_counts().last().expect("one at least"), true).expect("a thread pool");
    let kernels = Kernels::new(Some(Isa::Scalar)).expect("plain code");
    let mut session = Session::new(model, &pool, kernels, SessionOptions::new(16)).expect("a session");
    let mut follow = |token: u32| {
        session.truncate(0);
        greedy(session.decode(token % model.config().vocab as u32).expect("logits"))
    };
    TOKENS.into_iter().map(&mut follow).collect()
}

fn time(case: &Case, model: &Model, bounded: Option<&BoundedHead<'_>>, expected: &[u32], timer: Timer<'_, '_>) {
    let pool = Pool::new(case.threads, true).expect("a thread pool");
    let mut session = Session::new(model, &pool, case.kernels(), SessionOptions::new(16)).expect("a session");
    if let Some(head) = bounded {
        session.use_bounded_head(head).expect("this model's head");
    }
    let pass = |(session, found): &mut (Session<'_>, Vec<u32>)| {
        found.clear();
        for token in TOKENS {
            session.truncate(0);
            found.push(session.decode_greedy(token % session.model().config().vocab as u32).expect("a token"));
        }
    };
    let mut state = (session, Vec::new());
    // What is read does not depend on the path: once is enough to know it.
    pass(&mut state);
    let footprint = model.footprint();
    let head = footprint.embedding_bytes;
    let blocks = (footprint.read_per_token - head) * TOKENS.len();
    let read = state.0.head_reads().map_or(head * TOKENS.len(), |reads| reads.bytes as usize);
    // Two operations a weight of two bytes, in the copy's arithmetic or in the head's own.
    let arithmetic = if bounded.is_some() { Arithmetic::Int8 } else { Arithmetic::F32 };
    let (bytes, within) = (read + blocks, (read + blocks) / TOKENS.len());
    let work = Work { bytes, within, operations: head * TOKENS.len(), arithmetic };
    timer.time(work, &mut state, pass, |(_, found)| found == expected);
}

fn main() {
    let mut bench = Bench::new();
    let quick = bench.quick;
    for open in [false, true] {
        let (made, tokens) = (OnceCell::new(), OnceCell::new());
        let model = || made.get_or_init(|| model(quick, open));
        let expected = || tokens.get_or_init(|| expected(model())).as_slice();
        let copy = OnceCell::new();
        let copy = || copy.get_or_init(|| BoundedHead::new(model().head(), &[]).expect("an f16 head"));
        // The f16 head is read whole whatever the weights.
        let kinds: &[&str] = if open { &["bounded-open"] } else { &["f16", "bounded-clear"] };
        for kind in kinds {
            for isa in paths(false).into_iter().filter(|&isa| isa != Isa::Scalar) {
                for threads in thread_counts() {
                    let case = Case { name: format!("head/{kind}"), isa, threads };
                    // How many bytes the bound leaves to read, only a pass tells.
                    let (vocab, hidden) = shape(quick);
                    let told = Throughput::Elements((2 * vocab * hidden * TOKENS.len()) as u64);
                    bench.case(&case, Some(told), |timer| {
                        let bounded = kind.starts_with("bounded").then(copy);
                        time(&case, model(), bounded, expected(), timer);
                    });
                }
            }
        }
    }
    bench.finish("head");
}
