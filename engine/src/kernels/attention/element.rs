//! The number types of the key/value cache.

use half::f16;

use super::AHEAD;
use crate::kernels::lanes::{LANES, Lanes};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// A number type of the key/value cache.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Whether each key and value of a head has a scale.
    const SCALED: bool;
    /// The scale of one key or value of a head; NaN if not all of it is finite.
    fn scale(x: &[f32]) -> f32;
    /// Nearest finite value of this type to `x / scale`, ties to even; what is no finite number stays none or makes
    /// `scale` so, so that it reaches the logits. A finite key made infinite would leave no score of its head useful.
    fn from_f32(x: f32, scale: f32) -> Self;
    /// [`Element::from_f32`] of all of `from`.
    #[inline(always)]
    fn narrow<L: Lanes>(_: L, from: &[f32], scale: f32, to: &mut [Self]) {
        to.iter_mut().zip(from).for_each(|(to, x)| *to = Self::from_f32(*x, scale));
    }
    /// Sixteen consecutive values, widened exactly, yet to be multiplied by the scale.
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
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[f16; LANES]) -> L::V {
        l.load_f16(from)
    }
}

impl Element for f32 {
    const SCALED: bool = false;
    #[inline(always)]
    fn scale(_: &[f32]) -> f32 {
        1.0
    }
    #[inline(always)]
    fn from_f32(x: f32, _: f32) -> f32 {
        x
    }
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
    fn load<L: Lanes>(l: L, from: &[i8; LANES]) -> L::V {
        l.load_i8(from)
    }
}
