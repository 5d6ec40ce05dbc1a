//! The model that a GGUF file holds, in every format, and a few tokens of it on every path of the kernels.

use std::ops::ControlFlow;

use engine::formats::GgufFile;
use engine::formats::gguf::TensorType;
use engine::generate::{Sampling, generate};
use engine::model::{HeadWeights, KvType, Loading, load_gguf};
use engine::{Error, Format, Isa, Kernels, Model, Pool, Session, SessionOptions};

use super::{LAYOUTS, NAME, refused};

/// Everything a model is loaded as.
pub(crate) fn loadings() -> impl Iterator<Item = Loading> {
    let formats = [Format::Ternary, Format::Base3, Format::F16, Format::Bf16, Format::Reference];
    let widened = Loading { format: Format::Ternary, head: HeadWeights::F16 };
    formats.into_iter().map(Loading::from).chain([widened])
}

/// Loads and runs a file's model.
pub fn run(data: &[u8]) -> bool {
    let mut file = match GgufFile::from_bytes(NAME, data.to_vec()) {
        Ok(file) => file,
        Err(error) => return refused(NAME, &error),
    };
    let mut taken = false;
    for layout in LAYOUTS {
        file = file.with_i2s_layout(layout);
        for loading in loadings() {
            taken |= match load_gguf(&file, loading) {
                Ok(model) => evaluate(&model),
                Err(error) => refused(NAME, &error),
            };
        }
        if !file.tensors().iter().any(|tensor| tensor.kind() == TensorType::I2S) {
            break;
        }
    }
    taken
}

/// The same logits, by a bit, from every path, together and token by token; and generation that ends or says why not.
pub(crate) fn evaluate(model: &Model) -> bool {
    let context = model.config().context.min(3);
    let last = model.config().vocab as u32 - 1;
    let tokens = &[0, last, last / 2][..context];
    let pool = Pool::new(1, false).expect("a pool of the calling thread");
    let mut want = None;
    for isa in Isa::available() {
        let mut session = session(model, &pool, isa, context);
        let together = bits(&session.prefill_all(tokens).expect("tokens of the vocabulary"));
        session.truncate(0);
        let single = tokens.iter().flat_map(|&token| bits(session.decode(token).expect("a token"))).collect::<Vec<_>>();
        assert!(together == single, "{isa}: a batch differs from its tokens");
        assert!(*want.get_or_insert(together) == single, "{isa} differs");
    }
    let mut session = session(model, &pool, Isa::best(), context);
    match generate(&mut session, &tokens[..1], 2, &[], Sampling::GREEDY, |_| ControlFlow::Continue(())) {
        Ok(generation) => assert!(generation.tokens.iter().all(|&token| token <= last)),
        Err(Error::NotFinite) => {}
        Err(error) => panic!("{error}"),
    }
    true
}

fn session<'a>(model: &'a Model, pool: &'a Pool, isa: Isa, context: usize) -> Session<'a> {
    let options = SessionOptions { context, kv: KvType::F16, max_batch: 3 };
    let kernels = Kernels::new(Some(isa)).expect("an available path");
    Session::new(model, pool, kernels, options).expect("a session of a few tokens")
}

/// Bits, all NaNs alike.
fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| if logit.is_nan() { u32::MAX } else { logit.to_bits() }).collect()
}
