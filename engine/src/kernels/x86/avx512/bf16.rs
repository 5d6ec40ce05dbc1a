//! bf16 by `vdpbf16ps`: to each of 16 sums the products of a pair of columns, the odd column's first.

use std::arch::x86_64::*;
use std::mem::transmute;

use half::bf16;

use super::store;
use crate::kernels::bf16::widened;
use crate::kernels::float16::prefill::Line;
use crate::kernels::tile::{Accumulators, TILE};
use crate::kernels::x86::prefetch_ahead;
use crate::quant::PANEL;
use crate::quant::float16::bf16_activation;

/// The values of a pair of columns of a panel.
const PAIR: usize = 2 * PANEL;
/// Panels read side by side in decoding, as for f16.
const GROUP: usize = 4;

/// `y = W x` for whole panels; `out` may end inside the last.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn gemv(panels: &[bf16], pairs: &[u32], out: &mut [f32]) {
    let panel_len = pairs.len() * PAIR;
    for (group, out) in panels.chunks(GROUP * panel_len).zip(out.chunks_mut(GROUP * PANEL)) {
        if out.len() > (GROUP - 1) * PANEL {
            dots::<GROUP>(group, pairs, out);
        } else {
            for (panel, out) in group.chunks_exact(panel_len).zip(out.chunks_mut(PANEL)) {
                dots::<1>(panel, pairs, out);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn dots<const G: usize>(panels: &[bf16], pairs: &[u32], out: &mut [f32]) {
    let panel_len = pairs.len() * PAIR;
    assert!(panels.len() >= G * panel_len);
    let mut acc = [_mm512_setzero_ps(); G];
    for (pair, &x) in pairs.iter().enumerate() {
        let x = _mm512_set1_epi32(x as i32);
        for (g, acc) in acc.iter_mut().enumerate() {
            let at = panels.as_ptr().wrapping_add(g * panel_len + pair * PAIR);
            prefetch_ahead(at.cast());
            // SAFETY: pair `pair` of panel `g`, 64 bytes, is within `panels`.
            let w = unsafe { _mm512_loadu_si512(at.cast()) };
            *acc = multiply_add(*acc, w, x);
        }
    }
    for (acc, out) in acc.into_iter().zip(out.chunks_mut(PANEL)) {
        store(out, acc);
    }
}

/// `sum + w[odd] x[odd]`, rounded, `+ w[even] x[even]`, rounded, in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_add(sum: __m512, w: __m512i, x: __m512i) -> __m512 {
    // SAFETY: registers of 512 bits, whatever they hold.
    unsafe { _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(w), transmute::<__m512i, __m512bh>(x)) }
}

/// Adds to `sums` the products of pairs of columns (`[pair][panel]`) of one or two panels with the first `tokens` tokens of
/// a tile (`[pair][token]`).
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn wide(weights: &[Line], panels: usize, tile: &[u32], tokens: usize, sums: &mut Accumulators<f32>) {
    match (panels, tokens) {
        (2, 0..=4) => wide_sums::<2, 4>(weights, tile, sums),
        (2, 5..=8) => wide_sums::<2, 8>(weights, tile, sums),
        (2, _) => wide_sums::<2, TILE>(weights, tile, sums),
        (1, 0..=4) => wide_sums::<1, 4>(weights, tile, sums),
        (1, 5..=8) => wide_sums::<1, 8>(weights, tile, sums),
        (1, _) => wide_sums::<1, TILE>(weights, tile, sums),
        _ => panic!("a tile takes one or two panels"),
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn wide_sums<const P: usize, const T: usize>(weights: &[Line], tile: &[u32], sums: &mut Accumulators<f32>) {
    let (weights, tile) = (weights.as_chunks::<P>().0, tile.as_chunks::<TILE>().0);
    let mut acc = [[_mm512_setzero_ps(); P]; T];
    for (acc, sums) in acc.iter_mut().zip(sums.iter()) {
        for p in 0..P {
            // SAFETY: 16 of the 32 sums of a token.
            acc[p] = unsafe { _mm512_loadu_ps(sums[p * PANEL..][..PANEL].as_ptr()) };
        }
    }
    for (weights, activations) in weights.iter().zip(tile) {
        // SAFETY: 64 bytes, aligned.
        let w: [__m512i; P] = std::array::from_fn(|p| unsafe { _mm512_load_si512(weights[p].0.as_ptr().cast()) });
        for (acc, &x) in acc.iter_mut().zip(activations) {
            let x = _mm512_set1_epi32(x as i32);
            for p in 0..P {
                acc[p] = multiply_add(acc[p], w[p], x);
            }
        }
    }
    for (acc, sums) in acc.iter().zip(sums) {
        for p in 0..P {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(sums[p * PANEL..][..PANEL].as_mut_ptr(), acc[p]) };
        }
    }
}

/// Whether this CPU's instruction sums as it should, on some thousand fixed sums and pairs of all magnitudes that a layer
/// may hold, every fourth sum all but cancelled by its products.
#[target_feature(enable = "avx512f,avx512bf16,fma")]
pub(crate) fn as_defined() -> bool {
    (0..512).all(|round| {
        let number = |salt: u64, lane: usize| {
            let bits = mix(round << 16 | (lane as u64) << 8 | salt);
            // Of either sign, from 2^-50, or in every second round from 2^-4, to as much above 1.
            let exponent = if round % 2 == 0 { 77 + (bits >> 40) as u32 % 100 } else { 123 + (bits >> 40) as u32 % 8 };
            f32::from_bits(bits as u32 & 0x807f_ffff | exponent << 23)
        };
        let pair = |salt: u64, lane: usize| {
            u32::from(bf16_activation(number(salt, lane))) | u32::from(bf16_activation(number(salt + 1, lane))) << 16
        };
        let (w, x): ([u32; PANEL], [u32; PANEL]) =
            (std::array::from_fn(|lane| pair(0, lane)), std::array::from_fn(|lane| pair(2, lane)));
        let products = |sum: f32, lane: usize| {
            let ([w_odd, w_even], [x_odd, x_even]) =
                (widened(w[lane]).map(f32::from_bits), widened(x[lane]).map(f32::from_bits));
            w_even.mul_add(x_even, w_odd.mul_add(x_odd, sum))
        };
        let sums: [f32; PANEL] =
            std::array::from_fn(|lane| if lane % 4 == 0 { -products(0.0, lane) } else { number(4, lane) });
        let mut found = [0.0; PANEL];
        // SAFETY: 64 bytes each.
        unsafe {
            let (w, x) = (_mm512_loadu_si512(w.as_ptr().cast()), _mm512_loadu_si512(x.as_ptr().cast()));
            _mm512_storeu_ps(found.as_mut_ptr(), multiply_add(_mm512_loadu_ps(sums.as_ptr()), w, x));
        }
        (0..PANEL).all(|lane| found[lane].to_bits() == products(sums[lane], lane).to_bits())
    })
}

/// A bijection of 64 bits that spreads every one of them (splitmix64's).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
