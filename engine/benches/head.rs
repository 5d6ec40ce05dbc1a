//! The output head in greedy decoding: all of the f16 head, and the bounded copy with what it leaves open.
//!
//! The model is 2B4T's head over one small block, whose bytes are counted; the whole step is timed.

mod common;

use std::cell::OnceCell;

use common::{Arithmetic, Bench, Case, Timer, Work, paths, thread_counts};
use engine::bounded::BoundedHead;
use engine::generate::greedy;
use engine::model::{Activation, Architecture, RopeStyle};
use engine::synthetic::{HeadType, SyntheticSpec, build};
use engine::{Config, Format, Isa, Kernels, Model, Pool, Session, SessionOptions};

/// Tokens decoded in a pass: what the bound leaves open differs from one to the next.
const TOKENS: [u32; 4] = [1, 77, 400, 1000];

fn config(vocab: usize, hidden: usize) -> Config {
    Config {
        arch: Architecture::BitNet,
        hidden,
        ffn: 256,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 128,
        vocab,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope: RopeStyle::Neox,
        rope_factors: Vec::new(),
        attention_bias: false,
        output_bias: false,
        qk_norm: false,
        sliding_window: None,
        activation: Activation::Relu2,
        sub_norms: true,
        context: 16,
        tied: true,
    }
}

fn model(quick: bool) -> Model {
    let (vocab, hidden) = if quick { (1024, 256) } else { (128_256, 2560) };
    let spec = SyntheticSpec { config: config(vocab, hidden), seed: 1, head: HeadType::F16, gate_zeros: None };
    build(&spec, Format::Ternary).expect("a model of this shape")
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
    let within = bounded.map_or(head, |bounded| bounded.bytes() + head);
    // Of the f16 head two operations a weight; of the copy's int8 ones there are four times as many a byte.
    let (operations, arithmetic) = match bounded {
        Some(_) => (2 * footprint.embedding_bytes / 2 * TOKENS.len(), Arithmetic::Int8),
        None => (2 * footprint.embedding_bytes / 2 * TOKENS.len(), Arithmetic::F32),
    };
    let work = Work { bytes: read + blocks, within, operations, arithmetic };
    timer.time(work, &mut state, pass, |(_, found)| found == expected);
}

fn main() {
    let mut bench = Bench::new();
    let quick = bench.quick;
    let (made, tokens) = (OnceCell::new(), OnceCell::new());
    let model = || made.get_or_init(|| model(quick));
    let expected = || tokens.get_or_init(|| expected(model())).as_slice();
    let copy = OnceCell::new();
    let copy = || copy.get_or_init(|| BoundedHead::new(model().head()).expect("an f16 head"));
    for kind in ["f16", "bounded"] {
        for isa in paths(false).into_iter().filter(|&isa| isa != Isa::Scalar) {
            for threads in thread_counts() {
                let case = Case { name: format!("head/{kind}"), isa, threads };
                bench.case(&case, |timer| {
                    let bounded = (kind == "bounded").then(copy);
                    time(&case, model(), bounded, expected(), timer);
                });
            }
        }
    }
    bench.finish("head");
}
