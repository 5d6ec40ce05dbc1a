//! The number types of the key/value cache.

use half::f16;

use super::{AHEAD, Attend, int8};
use crate::kernels::isa::Kernels;
use crate::kernels::lanes::dots::{MAGIC, run_dots};
use crate::kernels::lanes::{LANES, Lanes, run};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// A number type of the key/value cache.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Whether each key and value of a head has a scale.
    const SCALED: bool;
    /// Neighbours that lie side by side: dimensions of a key, positions of a value. See [`attention`](super).
    const SIDE: usize;
    /// The scale of one key or value of a head; NaN if not all of it is finite.
    fn scale(x: &[f32]) -> f32;
    /// [`Element::scale`], faster.
    #[inline(always)]
    fn find_scale<L: Lanes>(_: L, x: &[f32]) -> f32 {
        Self::scale(x)
    }
    /// Nearest finite value of this type to `x / scale`, ties to even; what is no finite number stays none or makes
    /// `scale` so, so that it reaches the logits. A finite key made infinite would leave no score of its head useful.
    fn from_f32(x: f32, scale: f32) -> Self;
    /// [`Element::from_f32`] of all of `from`.
    #[inline(always)]
    fn narrow<L: Lanes>(_: L, from: &[f32], scale: f32, to: &mut [Self]) {
        to.iter_mut().zip(from).for_each(|(to, x)| *to = Self::from_f32(*x, scale));
    }
    /// Does the call with the instruction set of `kernels`.
    fn attend(kernels: Kernels, call: Attend<'_, Self>);
}

/// Where a value's codes of a group of sixteen dimensions lie among those of a chunk of positions: the first, and how far
/// each is from the one before.
#[inline(always)]
pub(crate) fn value_place<E: Element>(position: usize, group: usize, chunk: usize, stride: usize) -> (usize, usize) {
    match E::SIDE {
        1 => (position * stride + group * LANES, 1),
        side => (group * chunk * LANES + position / side * side * LANES + position % side, side),
    }
}

/// A number type that is widened to f32 where it is used.
pub(crate) trait Float: Element {
    /// Sixteen consecutive values, widened exactly.
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::V;
    /// `from`, whole groups of sixteen, widened exactly: in `to`, which has room for as many.
    #[inline(always)]
    fn widen<'a, L: Lanes>(l: L, from: &'a [Self], to: &'a mut [f32]) -> &'a [f32] {
        let to = &mut to[..from.len()];
        let per_line = LINE / size_of::<[Self; LANES]>();
        for (g, (to, from)) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(from.as_chunks::<LANES>().0).enumerate() {
            if g.is_multiple_of(per_line) {
                l.prefetch(from.as_ptr().wrapping_byte_add(AHEAD));
            }
            l.store(Self::load(l, from), to);
        }
        to
    }
}

impl Element for f16 {
    const SCALED: bool = false;
    const SIDE: usize = 1;
    #[inline(always)]
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn from_f32(x: f32, _: f32) -> f16 {
        f16::from_f32(if x.is_infinite() { x } else { x.clamp(-65504.0, 65504.0) })
    }
    #[inline(always)]
    fn narrow<L: Lanes>(l: L, from: &[f32], _: f32, to: &mut [f16]) {
        let (groups, rest) = from.as_chunks::<LANES>();
        let (to, to_rest) = to.as_chunks_mut::<LANES>();
        for (to, from) in to.iter_mut().zip(groups) {
            l.store_f16(l.load(from), to);
            for (to, x) in to.iter_mut().zip(from) {
                // What rounded to infinity.
                if to.is_infinite() && x.is_finite() {
                    *to = if *x > 0.0 { f16::MAX } else { f16::MIN };
                }
            }
        }
        to_rest.iter_mut().zip(rest).for_each(|(to, x)| *to = <f16 as Element>::from_f32(*x, 1.0));
    }
    fn attend(kernels: Kernels, call: Attend<'_, Self>) {
        run(kernels, call);
    }
}

impl Float for f16 {
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f16; LANES]) -> L::V {
        l.load_f16(from)
    }
}

impl Element for f32 {
    const SCALED: bool = false;
    const SIDE: usize = 1;
    #[inline(always)]
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn from_f32(x: f32, _: f32) -> f32 {
        x
    }
    fn attend(kernels: Kernels, call: Attend<'_, Self>) {
        run(kernels, call);
    }
}

impl Float for f32 {
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f32; LANES]) -> L::V {
        l.load(from)
    }
    #[inline(always)]
    fn widen<'a, L: Lanes>(_: L, from: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        from
    }
}

impl Element for i8 {
    const SCALED: bool = true;
    const SIDE: usize = 4;
    fn scale(x: &[f32]) -> f32 {
        let largest = x.iter().fold(0.0f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
        if x.iter().all(|x| x.is_finite()) { largest / 127.0 } else { f32::NAN }
    }
    /// Zeros have the scale 0; so has what is so small that its scale would round to 0.
    #[inline(always)]
    fn from_f32(x: f32, scale: f32) -> i8 {
        // 0 / 0 is NaN, which becomes 0.
        (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8
    }
    #[inline(always)]
    fn find_scale<L: Lanes>(l: L, x: &[f32]) -> f32 {
        let (groups, tail) = x.as_chunks::<LANES>();
        let tail = l.load_part(tail, 0.0);
        let (mut largest, mut odd) = (l.splat(0.0), l.mul(tail, l.splat(0.0)));
        largest = l.max(l.max(tail, l.mul(tail, l.splat(-1.0))), largest);
        for group in groups {
            let x = l.load(group);
            largest = l.max(l.max(x, l.mul(x, l.splat(-1.0))), largest);
            // NaN from what is no finite number on.
            odd = l.fma(x, l.splat(0.0), odd);
        }
        if l.sum(odd) == 0.0 { l.largest(largest) / 127.0 } else { f32::NAN }
    }
    #[inline(always)]
    fn narrow<L: Lanes>(l: L, from: &[f32], scale: f32, to: &mut [i8]) {
        let (groups, rest) = from.as_chunks::<LANES>();
        let (to, to_rest) = to.as_chunks_mut::<LANES>();
        for (to, from) in to.iter_mut().zip(groups) {
            if scale.is_normal() {
                // No quotient rounds to more than 127, and the lowest byte of the sum is the integer.
                let mut sums = [0.0; LANES];
                l.store(l.add(l.div(l.load(from), l.splat(scale)), l.splat(MAGIC)), &mut sums);
                *to = sums.map(|x| x.to_bits() as i8);
            } else {
                *to = from.map(|x| <i8 as Element>::from_f32(x, scale));
            }
        }
        to_rest.iter_mut().zip(rest).for_each(|(to, x)| *to = <i8 as Element>::from_f32(*x, scale));
    }
    fn attend(kernels: Kernels, call: Attend<'_, i8>) {
        run_dots(kernels, int8::Dotted(call));
    }
}
