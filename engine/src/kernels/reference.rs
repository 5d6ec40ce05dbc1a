//! The scalar kernels: what every result is. Plain loops over the packed layouts of [`crate::quant`].

use half::{bf16, f16};

use super::activations::{BlockScale, TokenScale};
use super::bf16::widened;
use super::bounded::{FineRows, Near, Ordered, Panels, Probe};
use super::q6;
use super::sparse::{Columns, Rows};
use crate::quant::bounded::fine;
use crate::quant::sparse::{CHUNK, CHUNK_BYTES, place};
use crate::quant::{Float16, PANEL, base3, bounded, q6 as quant_q6, q8, ternary};

/// The largest |x| by its bits, so that the result does not depend on how a comparison treats NaN (which wins here).
#[inline(always)]
fn absmax(x: &[f32]) -> f32 {
    f32::from_bits(x.iter().fold(0, |max, v| max.max(v.to_bits() & 0x7fff_ffff)))
}

/// Rounds to the nearest integer, ties to even, and clamps to -128..=127; NaN becomes -128, as it does in vectors.
#[inline(always)]
fn to_int8(v: f32) -> i8 {
    // 1.5 * 2^23 + v has steps of 1: the addition rounds, and the low byte of the mantissa is the integer.
    const MAGIC: f32 = 12_582_912.0;
    let v = if v > -128.0 { v } else { -128.0 };
    let v = if v < 127.0 { v } else { 127.0 };
    (v + MAGIC).to_bits() as i8
}

/// See [`super::activations::quantise_token`].
#[inline(always)]
pub(crate) fn quantise_token(x: &[f32], out: &mut [i8]) -> TokenScale {
    let largest = absmax(x);
    // Not `max`, which would drop a NaN: outputs of activations that are no numbers are none.
    let s = 127.0 / if largest < 1e-5 { 1e-5 } else { largest };
    for (out, v) in out.iter_mut().zip(x) {
        *out = to_int8(v * s);
    }
    out[x.len()..].fill(0);
    TokenScale { step: 1.0 / s, sum: out.iter().map(|&a| i32::from(a)).sum() }
}

/// See [`super::activations::quantise_blocks`].
#[inline(always)]
pub(crate) fn quantise_blocks(x: &[f32], out: &mut [i8], scales: &mut [BlockScale]) {
    out[x.len()..].fill(0);
    for ((x, out), scale) in x.chunks(q8::BLOCK).zip(out.chunks_exact_mut(q8::BLOCK)).zip(scales) {
        let step = absmax(x) / 127.0;
        // A denormal step has an infinite inverse, and zeros times that would be NaN: such a block counts as zeros.
        let inverse = if step >= f32::MIN_POSITIVE { 1.0 / step } else { 0.0 };
        for (out, v) in out.iter_mut().zip(x) {
            *out = to_int8(v * inverse);
        }
        let sum = |values: &[i8]| values.iter().map(|&a| i32::from(a)).sum();
        *scale = BlockScale { step, sum: sum(out), first: sum(&out[..q8::BLOCK / 2]) };
    }
}

/// Sum of code x activation for the 16 rows of a panel.
pub(crate) fn ternary_dots(panel: &[u8], activations: &[i8]) -> [i32; PANEL] {
    let mut sums = [0i32; PANEL];
    for (block, a) in panel.chunks_exact(ternary::BLOCK_BYTES).zip(activations.chunks_exact(ternary::BLOCK)) {
        for (s, a) in a.chunks_exact(4).enumerate() {
            for (sum, codes) in sums.iter_mut().zip(block.chunks_exact(4)) {
                let code = |j: usize| i32::from(codes[j] >> (2 * s) & 3);
                let term = |j: usize| code(j) * i32::from(a[j]);
                *sum += term(0) + term(1) + term(2) + term(3);
            }
        }
    }
    sums
}

/// A ternary output from its sum: weights are codes - 1, and integers become numbers by both scales.
#[inline(always)]
pub(crate) fn ternary_output(dot: i32, scale: f32, token: TokenScale) -> f32 {
    (dot - token.sum) as f32 * (scale * token.step)
}

/// Ternary `y = W x` for panels `panels` (whole panels; `out` may end inside the last) and one token.
pub(crate) fn ternary(panels: &[u8], scale: f32, activations: &[i8], token: TokenScale, out: &mut [f32]) {
    let panel_bytes = activations.len() / 4 * PANEL;
    for (panel, out) in panels.chunks_exact(panel_bytes).zip(out.chunks_mut(PANEL)) {
        let dots = ternary_dots(panel, activations);
        for (out, dot) in out.iter_mut().zip(dots) {
            *out = ternary_output(dot, scale, token);
        }
    }
}

/// As [`ternary_dots`] for weights at five a byte: the same integers.
pub(crate) fn base3_dots(panel: &[u8], activations: &[i8]) -> [i32; PANEL] {
    let mut sums = [0i32; PANEL];
    for (block, a) in panel.chunks_exact(base3::BLOCK_BYTES).zip(activations.chunks_exact(base3::BLOCK)) {
        for (i, &byte) in block.iter().enumerate() {
            let term = |s: usize| i32::from(base3::digit(byte, s)) * i32::from(a[4 * s + i % 4]);
            sums[i / 4] += term(0) + term(1) + term(2) + term(3) + term(4);
        }
    }
    sums
}

/// As [`ternary`] for weights at five a byte.
pub(crate) fn base3(panels: &[u8], scale: f32, activations: &[i8], token: TokenScale, out: &mut [f32]) {
    let panel_bytes = activations.len() / base3::BLOCK * base3::BLOCK_BYTES;
    for (panel, out) in panels.chunks_exact(panel_bytes).zip(out.chunks_mut(PANEL)) {
        let dots = base3_dots(panel, activations);
        for (out, dot) in out.iter_mut().zip(dots) {
            *out = ternary_output(dot, scale, token);
        }
    }
}

/// Sums of code x activation of the rows picked, handed to `finish(k, sum)` in order; the activations in the order of rows
/// (see [`super::sparse::order`]).
pub(crate) fn sparse_rows(rows: Rows<'_>, activations: &[i8], mut finish: impl FnMut(usize, i32)) {
    for k in 0..rows.count() {
        let mut sum = 0;
        for (codes, activations) in rows.row(k).chunks_exact(CHUNK_BYTES).zip(activations.chunks_exact(CHUNK)) {
            for (s, activations) in activations.chunks_exact(CHUNK_BYTES).enumerate() {
                let terms = codes.iter().zip(activations).map(|(c, a)| i32::from(c >> (2 * s) & 3) * i32::from(*a));
                sum += terms.sum::<i32>();
            }
        }
        finish(k, sum);
    }
}

/// Sums of code x activation over the columns given, for as many rows from the first as there are sums.
pub(crate) fn sparse_columns(columns: Columns<'_>, sums: &mut [i32]) {
    for &column in columns.columns {
        let codes = &columns.codes[column as usize * columns.stride..];
        let activation = i32::from(columns.activations[column as usize]);
        for (row, sum) in sums.iter_mut().enumerate() {
            let (at, shift) = place(row);
            *sum += i32::from(codes[at] >> shift & 3) * activation;
        }
    }
}

/// f16 `y = W x` for panels `panels` and one token: per row one chain of fused multiply-adds in column order.
pub(crate) fn float16(panels: &[f16], x: &[f32], out: &mut [f32]) {
    for (panel, out) in panels.chunks_exact(PANEL * x.len()).zip(out.chunks_mut(PANEL)) {
        let mut sums = [0.0f32; PANEL];
        for (column, &x) in panel.chunks_exact(PANEL).zip(x) {
            let mut wide = [0.0f32; PANEL];
            for (wide, &w) in wide.iter_mut().zip(column) {
                *wide = w.widen();
            }
            for (sum, w) in sums.iter_mut().zip(wide) {
                *sum = w.mul_add(x, *sum);
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// bf16 `y = W x` for panels `panels` and one token, two activations to a word: per row one chain of fused multiply-adds,
/// of each pair of columns the odd one first.
pub(crate) fn bf16(panels: &[bf16], pairs: &[u32], out: &mut [f32]) {
    for (panel, out) in panels.chunks_exact(2 * PANEL * pairs.len()).zip(out.chunks_mut(PANEL)) {
        let mut sums = [0.0f32; PANEL];
        for (weights, &pair) in panel.chunks_exact(2 * PANEL).zip(pairs) {
            let [odd, even] = widened(pair).map(f32::from_bits);
            for (sum, w) in sums.iter_mut().zip(weights.as_chunks::<2>().0) {
                *sum = w[0].widen().mul_add(even, w[1].widen().mul_add(odd, *sum));
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// q8 `y = W x` for whole panels and one token: per row and block an exact i32 dot product, the blocks added in order
/// by fused multiply-add with the product of the two scales.
pub(crate) fn q8(weights: &[u8], scales: &[f16], activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let panels = weights.chunks_exact(PANEL * activations.len()).zip(scales.chunks_exact(PANEL * steps.len()));
    for ((weights, scales), out) in panels.zip(out.chunks_mut(PANEL)) {
        let mut sums = [0.0f32; PANEL];
        for (b, step) in steps.iter().enumerate() {
            let block = &weights[b * q8::BLOCK_BYTES..][..q8::BLOCK_BYTES];
            let a = &activations[b * q8::BLOCK..][..q8::BLOCK];
            for (r, sum) in sums.iter_mut().enumerate() {
                let weight = |i: usize| i32::from(block[i / 4 * 64 + r * 4 + i % 4]) - 128;
                let dot: i32 = (0..q8::BLOCK).map(|i| weight(i) * i32::from(a[i])).sum();
                *sum = (dot as f32).mul_add(scales[b * PANEL + r].widen() * step.step, *sum);
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// q6 `y = W x` for whole panels and one token: per row and block of 32 an exact i32, the dot products of its two halves
/// times their int8 scales (at most 2 x 128 x 16 x 32 x 128 = 2^24, exact as f32 too); the blocks of a super-block added in
/// order by fused multiply-add with the activations' scale, the super-blocks with theirs. (llama.cpp sums the same
/// integers, but of activations that share a scale over 256 columns: ours round to finer steps.)
pub(crate) fn q6(panels: q6::Panels<'_>, activations: &[i8], steps: &[BlockScale], out: &mut [f32]) {
    let (blocks, supers) = (steps.len(), steps.len().div_ceil(quant_q6::SUPER_BLOCKS));
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        for (r, out) in out.iter_mut().enumerate() {
            *out = 0.0;
            for s in 0..supers {
                let mut sum = 0.0f32;
                for b in s * quant_q6::SUPER_BLOCKS..((s + 1) * quant_q6::SUPER_BLOCKS).min(blocks) {
                    let block = &panels.weights[(p * blocks + b) * quant_q6::BLOCK_BYTES..][..quant_q6::BLOCK_BYTES];
                    let scales = &panels.scales[(p * blocks + b) * quant_q6::BLOCK_SCALES..];
                    let term = |i: usize| {
                        let scale = i32::from(scales[i / 16 * PANEL + r]);
                        scale * (i32::from(quant_q6::get(block, r, i)) - 32) * i32::from(activations[b * 32 + i])
                    };
                    let dot: i32 = (0..quant_q6::BLOCK).map(term).sum();
                    sum = (dot as f32).mul_add(steps[b].step, sum);
                }
                *out = sum.mul_add(panels.supers[(p * supers + s) * PANEL + r].widen(), *out);
            }
        }
    }
}

/// The 4-bit copy of a head times one token, for whole panels: the columns kept as f16 by fused multiply-add, in order; per
/// row and block an exact i32 dot product; the blocks of a group added in order by fused multiply-add with the activations'
/// scales, the groups with the weights'. Beside it, in the order of the groups, the products of the norms of residuals and
/// activations.
pub(crate) fn bounded(panels: Panels<'_>, probe: Probe<'_>, out: &mut [Near]) {
    let (blocks, groups) = (probe.steps.len(), probe.norms.len());
    for (p, out) in out.chunks_mut(PANEL).enumerate() {
        let codes = &panels.codes[p * blocks * bounded::BLOCK_BYTES..][..blocks * bounded::BLOCK_BYTES];
        for (r, out) in out.iter_mut().enumerate() {
            *out = Near::default();
            let kept = &panels.kept[p * probe.kept.len() * PANEL..];
            for (k, &x) in probe.kept.iter().enumerate() {
                out.value = kept[k * PANEL + r].widen().mul_add(x, out.value);
            }
            for (g, &norm) in probe.norms.iter().enumerate() {
                let mut sum = 0.0f32;
                for b in g * bounded::GROUP_BLOCKS..((g + 1) * bounded::GROUP_BLOCKS).min(blocks) {
                    let code = |i: usize| {
                        let byte = codes[b * bounded::BLOCK_BYTES + i / 8 * 64 + r * 4 + i % 4];
                        usize::from(byte >> (i % 8 / 4 * 4) & 15)
                    };
                    let term =
                        |i: usize| i32::from(panels.book[code(i)]) * i32::from(probe.int8[b * bounded::BLOCK + i]);
                    let dot = (0..bounded::BLOCK).map(term).sum::<i32>() - bounded::LEVELS * probe.steps[b].sum;
                    sum = (dot as f32).mul_add(probe.steps[b].step, sum);
                }
                let at = (p * groups + g) * PANEL + r;
                out.value = sum.mul_add(panels.scales[at].widen(), out.value);
                out.residual = panels.residuals[at].widen().mul_add(norm, out.residual);
            }
        }
    }
}

/// Rows of the second level of the copy times one token, added to what the first level says: of each group the exact i32
/// dot products of its 8 blocks times the activations' scales, added to 8 sums by fused multiply-add with the weights'
/// scale; the sums halved thrice. So are the products of norms, of 8 groups at a time.
pub(crate) fn refine(rows: FineRows<'_>, activations: &Ordered, (picked, near): (&[u32], &[Near]), out: &mut [Near]) {
    let groups = activations.groups;
    let (scales, norms) = fine::places(groups);
    for (&index, out) in picked.iter().zip(out) {
        let row = rows.row(index);
        let half = |at: usize| half::f16::from_le_bytes([row[at], row[at + 1]]).widen();
        let (mut values, mut residuals) = ([0.0f32; fine::LANES], [0.0f32; fine::LANES]);
        for g in 0..groups {
            let scale = half(scales + 2 * g);
            for (b, value) in values.iter_mut().enumerate() {
                let term = |i: usize| {
                    let (at, shift) = fine::place(bounded::BLOCK * b + i);
                    let code = row[g * fine::GROUP_BYTES + at] >> shift & 15;
                    let place = (at / 32 * 2 + shift / 4) * 32 + at % 32;
                    i32::from(code) * i32::from(activations.int8[g * bounded::GROUP + place])
                };
                let dot = 2 * (0..bounded::BLOCK).map(term).sum::<i32>() + activations.offsets[g * fine::LANES + b];
                *value = (dot as f32 * activations.steps[g * fine::LANES + b]).mul_add(scale, *value);
            }
            let lane = &mut residuals[g % fine::LANES];
            *lane = half(norms + 2 * g).mul_add(activations.norms[g], *lane);
        }
        let sum = |lanes: [f32; fine::LANES]| {
            let [a, b, c, d] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
            (a + c) + (b + d)
        };
        *out = Near { value: near[index as usize].value + sum(values), residual: sum(residuals) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even_and_clamped() {
        let cases =
            [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (126.6, 127), (1e30, 127), (-1e30, -128), (-128.4, -128)];
        for (v, want) in cases {
            assert_eq!(to_int8(v), want, "{v}");
        }
        for i in -2000..2000 {
            let v = i as f32 / 10.0;
            assert_eq!(f32::from(to_int8(v)), v.round_ties_even().clamp(-128.0, 127.0));
        }
        assert_eq!(to_int8(f32::NAN), -128);
    }

    #[test]
    fn activations_are_quantised_as_defined() {
        let x = [0.5, -1.0, 0.25, 0.0];
        let mut out = [9i8; 16];
        let scale = quantise_token(&x, &mut out);
        assert_eq!(out, [64, -127, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(scale, TokenScale { step: 1.0 / 127.0, sum: -31 });
        let mut blocks = [BlockScale::default(); 1];
        let mut out = [9i8; 32];
        quantise_blocks(&x, &mut out, &mut blocks);
        assert_eq!((&out[..4], blocks[0].sum), (&[64, -127, 32, 0][..], -31));
        quantise_token(&[0.0; 4], &mut out);
        assert_eq!(out, [0; 32]);
    }
}
