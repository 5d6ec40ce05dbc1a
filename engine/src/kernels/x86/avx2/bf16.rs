//! bf16 weights: widened and multiplied by fused multiply-adds, per row one chain over pairs of columns, the odd column of
//! each first.

use std::arch::x86_64::*;

use half::bf16;

use super::float16::store;
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;

/// The values of a pair of columns of a panel.
const PAIR: usize = 2 * PANEL;
/// Panels read side by side, as for f16.
const GROUP: usize = 4;

/// `y = W x` for whole panels; `out` may end inside the last. `ahead`: see
/// [`Kernels::asks_ahead`](crate::kernels::isa::Kernels::asks_ahead).
#[target_feature(enable = "avx2,fma")]
pub(crate) fn gemv(panels: &[bf16], pairs: &[u32], ahead: bool, out: &mut [f32]) {
    let panel_len = pairs.len() * PAIR;
    for (group, out) in panels.chunks(GROUP * panel_len).zip(out.chunks_mut(GROUP * PANEL)) {
        if out.len() > (GROUP - 1) * PANEL {
            dots::<GROUP>(group, pairs, ahead, out);
        } else {
            for (panel, out) in group.chunks_exact(panel_len).zip(out.chunks_mut(PANEL)) {
                dots::<1>(panel, pairs, ahead, out);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn dots<const G: usize>(panels: &[bf16], pairs: &[u32], ahead: bool, out: &mut [f32]) {
    let panel_len = pairs.len() * PAIR;
    assert!(panels.len() >= G * panel_len);
    let mut acc = [[_mm256_setzero_ps(); 2]; G];
    for (pair, &x) in pairs.iter().enumerate() {
        let [x_odd, x_even] = widened(_mm256_set1_epi32(x as i32));
        for (g, acc) in acc.iter_mut().enumerate() {
            let at = panels.as_ptr().wrapping_add(g * panel_len + pair * PAIR).cast::<__m256i>();
            if ahead {
                prefetch_ahead(at.cast());
            }
            for (half, acc) in acc.iter_mut().enumerate() {
                // SAFETY: one half of pair `pair` of panel `g`, which is within `panels`.
                let [w_odd, w_even] = widened(unsafe { _mm256_loadu_si256(at.wrapping_add(half)) });
                *acc = _mm256_fmadd_ps(w_even, x_even, _mm256_fmadd_ps(w_odd, x_odd, *acc));
            }
        }
    }
    for (acc, out) in acc.into_iter().zip(out.chunks_mut(PANEL)) {
        let mut row = [0.0; PANEL];
        store(&mut row, acc);
        out.copy_from_slice(&row[..out.len()]);
    }
}

/// The odd and the even values of pairs as f32.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(pairs: __m256i) -> [__m256; 2] {
    let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
    [_mm256_castsi256_ps(odd), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs))]
}
