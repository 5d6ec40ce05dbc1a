//! The gated feed-forward's inside: `act(gate) * up`, with a norm after it in BitNet b1.58.

use super::config::{Activation, Config};
use crate::kernels::float;
use crate::kernels::isa::Kernels;
use crate::threads::Team;

/// Writes `act(gate) * up`, normed by `sub_norm` if there is one, to `out`; all `tokens x ffn`.
pub(super) fn gated(
    team: &Team<'_>,
    kernels: Kernels,
    config: &Config,
    sub_norm: Option<&[f32]>,
    (gate, up): (&[f32], &[f32]),
    out: &mut [f32],
) {
    let width = config.ffn;
    team.each_row(out, width, |token, out| {
        let (gate, up) = (&gate[token * width..][..width], &up[token * width..][..width]);
        match config.activation {
            Activation::Silu => float::silu_gate(kernels, gate, up, out),
            Activation::Relu2 => float::relu2_gate(kernels, gate, up, out),
        }
        if let Some(weight) = sub_norm {
            float::rms_norm_in_place(kernels, out, weight, config.norm_eps);
        }
    });
}
