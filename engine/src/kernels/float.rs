//! The float steps between the linear layers: RMSNorm, gated activations, residual addition, rotary embedding, softmax.
//!
//! One defined order of operations each, the same for every instruction set and vector length: products accumulate by
//! fused multiply-add, lane i of sixteen takes elements i, i+16, .., and a fixed tree joins the lanes. One flipped int8
//! rounding would change all that follows.

use super::isa::Kernels;
use super::lanes::{LANES, Lanes, Step, run};

/// `1.5 * 2^23 + 127`: added to a small number it leaves the nearest integer plus 127 in the low mantissa bits.
const EXP_MAGIC: f32 = 12_582_912.0 + 127.0;
/// Below this, `exp` stays at its value here (about 1.6e-38): the result is a normal number, for which all agree.
const EXP_MIN: f32 = -87.0;
/// `ln 2` in two parts; the first has few mantissa bits, so that `n * LN2_HI` is exact.
const LN2_HI: f32 = 355.0 / 512.0;
const LN2_LO: f32 = -2.121_944_4e-4;
/// 1/n! for n = 6 .. 0: the Taylor polynomial of exp on |r| <= ln(2)/2, error under 1.3e-7 relative.
const EXP_COEFFICIENTS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// `exp(x)` for `x <= 0`, within 3e-7 relative of the true value down to -87, where it stays. NaN stays NaN: what the
/// overflow of an earlier step left must reach the logits, where it is refused.
#[inline(always)]
pub(super) fn exp_negative<L: Lanes>(l: L, x: L::V) -> L::V {
    // The second operand is the answer where one is NaN.
    let x = l.max(l.splat(EXP_MIN), x);
    let shifted = l.fma(x, l.splat(std::f32::consts::LOG2_E), l.splat(EXP_MAGIC));
    let n = l.add(shifted, l.splat(-EXP_MAGIC));
    let r = l.fma(n, l.splat(-LN2_HI), x);
    let r = l.fma(n, l.splat(-LN2_LO), r);
    let mut p = l.splat(EXP_COEFFICIENTS[0]);
    for c in &EXP_COEFFICIENTS[1..] {
        p = l.fma(p, r, l.splat(*c));
    }
    l.mul(p, l.exponent(shifted))
}

/// The inverse of the root mean square: `1 / sqrt(mean(x^2) + eps)`; NaN where the squares overflow, for which the plain
/// formula would give 0 and so a norm of plausible zeros.
#[inline(always)]
fn inverse_rms<L: Lanes>(l: L, x: &[f32], eps: f32) -> f32 {
    let (groups, tail) = x.as_chunks::<LANES>();
    let mut sum = l.splat(0.0);
    for group in groups {
        let v = l.load(group);
        sum = l.fma(v, v, sum);
    }
    if !tail.is_empty() {
        let v = l.load_part(tail, 0.0);
        sum = l.fma(v, v, sum);
    }
    let square = l.sum(sum) / x.len() as f32 + eps;
    if square.is_finite() { 1.0 / square.sqrt() } else { f32::NAN }
}

/// Calls `f` on each group of sixteen of `a`, `b` and `out`, the last one filled up with zeros.
#[inline(always)]
fn zip_map<L: Lanes>(l: L, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(L::V, L::V) -> L::V) {
    assert!(a.len() == out.len() && b.len() == out.len(), "float step over slices of different lengths");
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        l.store(f(l.load(a), l.load(b)), out);
    }
    if !out_tail.is_empty() {
        l.store_part(f(l.load_part(a_tail, 0.0), l.load_part(b_tail, 0.0)), out_tail);
    }
}

/// Replaces each group of sixteen of `x` by `f` of it and of the same group of `y`, the last one filled up with zeros.
#[inline(always)]
fn update<L: Lanes>(l: L, x: &mut [f32], y: &[f32], f: impl Fn(L::V, L::V) -> L::V) {
    assert_eq!(x.len(), y.len(), "float step over slices of different lengths");
    let ((x, x_tail), (y, y_tail)) = (x.as_chunks_mut::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter_mut().zip(y) {
        l.store(f(l.load(x), l.load(y)), x);
    }
    if !x_tail.is_empty() {
        l.store_part(f(l.load_part(x_tail, 0.0), l.load_part(y_tail, 0.0)), x_tail);
    }
}

/// RMSNorm (arXiv 1910.07467) of one token: `out = (x * inv_rms) * weight`. All of one length.
pub(crate) fn rms_norm(kernels: Kernels, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    run(kernels, RmsNorm { x, weight, eps, out });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Step for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let inverse = l.splat(inverse_rms(l, self.x, self.eps));
        zip_map(l, self.x, self.weight, self.out, |x, w| l.mul(l.mul(x, inverse), w));
    }
}

/// As [`rms_norm`], in place.
pub(crate) fn rms_norm_in_place(kernels: Kernels, x: &mut [f32], weight: &[f32], eps: f32) {
    run(kernels, RmsNormInPlace { x, weight, eps });
}

struct RmsNormInPlace<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Step for RmsNormInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let inverse = l.splat(inverse_rms(l, self.x, self.eps));
        update(l, self.x, self.weight, |x, w| l.mul(l.mul(x, inverse), w));
    }
}

/// `x += y`, the residual addition.
pub(crate) fn add_assign(kernels: Kernels, x: &mut [f32], y: &[f32]) {
    run(kernels, AddAssign { x, y });
}

struct AddAssign<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Step for AddAssign<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        update(l, self.x, self.y, |x, y| l.add(x, y));
    }
}

/// `out = silu(gate) * up` with `silu(x) = x / (1 + exp(-x))`.
pub(crate) fn silu_gate(kernels: Kernels, gate: &[f32], up: &[f32], out: &mut [f32]) {
    run(kernels, SiluGate { gate, up, out });
}

struct SiluGate<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Step for SiluGate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { gate, up, out } = self;
        assert!(gate.len() == out.len() && up.len() == out.len(), "float step over slices of different lengths");
        // Loops and no closure: one of this size stays a function of its own, without the instruction set, and takes
        // every vector through memory.
        let ((gate, gate_tail), (up, up_tail)) = (gate.as_chunks::<LANES>(), up.as_chunks::<LANES>());
        let (out, out_tail) = out.as_chunks_mut::<LANES>();
        for ((gate, up), out) in gate.iter().zip(up).zip(out) {
            l.store(silu_times(l, l.load(gate), l.load(up)), out);
        }
        if !out_tail.is_empty() {
            l.store_part(silu_times(l, l.load_part(gate_tail, 0.0), l.load_part(up_tail, 0.0)), out_tail);
        }
    }
}

/// `silu(x) * up`. With e = exp(-|x|): x / (1 + e) for x >= 0 and x * e / (1 + e) below; no overflow on either side.
#[inline(always)]
fn silu_times<L: Lanes>(l: L, x: L::V, up: L::V) -> L::V {
    let (zero, one, minus_one) = (l.splat(0.0), l.splat(1.0), l.splat(-1.0));
    let negated = l.mul(x, minus_one);
    let e = exp_negative(l, l.mul(l.max(x, negated), minus_one));
    let below = l.mul(l.max(negated, zero), minus_one);
    let numerator = l.fma(below, e, l.max(x, zero));
    l.mul(l.div(numerator, l.add(one, e)), up)
}

/// `out = relu(gate)^2 * up` (BitNet b1.58 2B4T's feed-forward).
pub(crate) fn relu2_gate(kernels: Kernels, gate: &[f32], up: &[f32], out: &mut [f32]) {
    run(kernels, Relu2Gate { gate, up, out });
}

struct Relu2Gate<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Step for Relu2Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let zero = l.splat(0.0);
        zip_map(l, self.gate, self.up, self.out, |x, up| {
            // In this order NaN stays NaN.
            let positive = l.max(zero, x);
            l.mul(l.mul(positive, positive), up)
        });
    }
}

/// Rotary embedding, NeoX style: in each head the pair (i, i + d/2) turns by the angle i of this position.
/// `x` is whole heads of `2 * cos.len()` values; `cos` and `sin` hold one value a pair.
pub(crate) fn rope_neox(kernels: Kernels, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    run(kernels, RopeNeox { x, cos, sin });
}

struct RopeNeox<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Step for RopeNeox<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let half = self.cos.len();
        assert_eq!(half, self.sin.len(), "RoPE tables of different lengths");
        let ((cos, cos_tail), (sin, sin_tail)) = (self.cos.as_chunks::<LANES>(), self.sin.as_chunks::<LANES>());
        let minus_one = l.splat(-1.0);
        for head in self.x.chunks_exact_mut(2 * half) {
            let (a, b) = head.split_at_mut(half);
            let ((a, a_tail), (b, b_tail)) = (a.as_chunks_mut::<LANES>(), b.as_chunks_mut::<LANES>());
            for (((a, b), cos), sin) in a.iter_mut().zip(b.iter_mut()).zip(cos).zip(sin) {
                let (x, y, cos, sin) = (l.load(a), l.load(b), l.load(cos), l.load(sin));
                l.store(l.fma(x, cos, l.mul(l.mul(y, sin), minus_one)), a);
                l.store(l.fma(x, sin, l.mul(y, cos)), b);
            }
            for (((a, b), cos), sin) in a_tail.iter_mut().zip(b_tail).zip(cos_tail).zip(sin_tail) {
                (*a, *b) = rotate(*a, *b, *cos, *sin);
            }
        }
    }
}

/// Rotary embedding, interleaved style (GGUF's `llama` order): the pair (2i, 2i + 1) turns by the angle i.
pub(crate) fn rope_interleaved(kernels: Kernels, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    run(kernels, RopeInterleaved { x, cos, sin });
}

struct RopeInterleaved<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Step for RopeInterleaved<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        for head in self.x.chunks_exact_mut(2 * self.cos.len()) {
            let (pairs, _) = head.as_chunks_mut::<2>();
            for ((pair, cos), sin) in pairs.iter_mut().zip(self.cos).zip(self.sin) {
                (pair[0], pair[1]) = rotate(pair[0], pair[1], *cos, *sin);
            }
        }
    }
}

/// The pair (x, y) turned by one angle; the same operations as the vector form.
#[inline(always)]
fn rotate(x: f32, y: f32, cos: f32, sin: f32) -> (f32, f32) {
    (x.mul_add(cos, -(y * sin)), x.mul_add(sin, y * cos))
}

/// Turns scores into unnormalised softmax weights `exp(x - max)` in place and returns one over their sum.
/// Lane i of the sum takes the elements i, i + 16, ..
#[inline(always)]
pub(super) fn softmax_weights<L: Lanes>(l: L, scores: &mut [f32]) -> f32 {
    let (groups, tail) = scores.as_chunks_mut::<LANES>();
    // Four chains: a maximum takes its operands in any order.
    let (fours, rest) = groups.as_chunks::<4>();
    let mut largest = [l.load_part(tail, f32::NEG_INFINITY); 4];
    for four in fours {
        for i in 0..4 {
            largest[i] = l.max(largest[i], l.load(&four[i]));
        }
    }
    for group in rest {
        largest[0] = l.max(largest[0], l.load(group));
    }
    let largest = l.max(l.max(largest[0], largest[1]), l.max(largest[2], largest[3]));
    let shift = l.splat(-l.largest(largest));
    let mut sum = l.splat(0.0);
    for group in groups {
        let p = exp_negative(l, l.add(l.load(group), shift));
        l.store(p, group);
        sum = l.add(sum, p);
    }
    if !tail.is_empty() {
        let p = exp_negative(l, l.add(l.load_part(tail, 0.0), shift));
        l.store_part(p, tail);
        sum = l.add(sum, l.load_part(tail, 0.0));
    }
    1.0 / l.sum(sum)
}

#[cfg(test)]
mod tests;
