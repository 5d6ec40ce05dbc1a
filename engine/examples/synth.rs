//! Makes one synthetic model and says how long it took: `cargo run --release -p engine --example synth -- f16 3840 8192
//! 24 32 32 32002` (format, hidden, ffn, layers, heads, kv heads, vocabulary; the defaults are a small model).

use std::time::Instant;

use engine::linear::Linear;
use engine::model::{Config, Format, Model};
use engine::synthetic::{HeadType, SyntheticSpec, build};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let format = match arguments.next().as_deref() {
        None | Some("ternary") => Format::Ternary,
        Some("ternary-1.6") => Format::Base3,
        Some("f16") => Format::F16,
        Some("bf16") => Format::Bf16,
        Some(other) => return Err(format!("format {other:?}: expected ternary, ternary-1.6, f16 or bf16").into()),
    };
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (hidden, ffn, layers) = (number(768)?, number(3072)?, number(11)?);
    let (heads, kv_heads, vocab) = (number(12)?, number(12)?, number(32002)?);
    let config = Config {
        hidden,
        ffn,
        layers,
        heads,
        kv_heads,
        head_dim: hidden / heads.max(1),
        vocab,
        context: 8192,
        ..Config::small()
    };
    let start = Instant::now();
    let model = build(&SyntheticSpec { config, seed: 1, head: HeadType::F16, gate_zeros: None }, format)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{seconds:.2} s, {} bytes, digest {:016x}", model.footprint().total(), digest(&model));
    Ok(())
}

/// A digest of all linear weights, for comparing runs.
fn digest(model: &Model) -> u64 {
    let mut state = 0u64;
    let mut add = |word: u64| state = (state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut linear = |linear: &Linear| match linear {
        Linear::Ternary(matrix) => {
            matrix.packed().as_chunks::<8>().0.iter().for_each(|bytes| add(u64::from_le_bytes(*bytes)));
        }
        Linear::Base3(matrix) => matrix.packed().iter().for_each(|x| add(u64::from(*x))),
        Linear::F16(matrix) => matrix.packed().iter().for_each(|x| add(u64::from(x.to_bits()))),
        Linear::Bf16(matrix) => matrix.packed().iter().for_each(|x| add(u64::from(x.to_bits()))),
        Linear::Plain(matrix) => matrix.weights().iter().for_each(|x| add(u64::from(x.to_bits()))),
        Linear::Q8(matrix) => matrix.weights().iter().for_each(|x| add(u64::from(*x))),
        Linear::Q6(matrix) => {
            let mut row = vec![0.0; matrix.cols()];
            for index in 0..matrix.rows() {
                matrix.row_to_f32(index, &mut row);
                row.iter().for_each(|x| add(u64::from(x.to_bits())));
            }
        }
    };
    linear(model.embedding());
    for layer in model.layers() {
        layer.linears().iter().for_each(|(_, l)| linear(l));
    }
    state
}
