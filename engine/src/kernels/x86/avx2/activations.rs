//! Quantising activations: the scalar source, vectorised by the compiler (it has no operation that could be reordered
//! or fused: an integer maximum, an integer sum, and elementwise float steps).

use crate::kernels::activations::{BlockScale, TokenScale};
use crate::kernels::reference;

#[target_feature(enable = "avx2")]
pub(crate) fn quantise_token(x: &[f32], out: &mut [i8]) -> TokenScale {
    reference::quantise_token(x, out)
}

#[target_feature(enable = "avx2")]
pub(crate) fn quantise_blocks(x: &[f32], out: &mut [i8], scales: &mut [BlockScale]) {
    reference::quantise_blocks(x, out, scales);
}
