//! Writing keys and values to the cache.

use super::element::Element;
use crate::kernels::isa::Kernels;
use crate::kernels::lanes::{LANES, Lanes, Step, run};

/// A part of one head's cache, to write to: consecutive positions of one chunk, the first a multiple of 16.
pub(crate) struct HeadMut<'a, E> {
    pub(crate) keys: &'a mut [E],
    pub(crate) values: &'a mut [E],
    /// Empty unless [`Element::SCALED`].
    pub(crate) key_scales: &'a mut [f32],
    pub(crate) value_scales: &'a mut [f32],
}

/// Stores the keys and values of positions from `first` (of those in `heads`) on: each row of `keys` and `values` holds one
/// vector for each head.
pub(crate) fn store<E: Element>(
    kernels: Kernels,
    heads: &mut [HeadMut<'_, E>],
    first: usize,
    (keys, values): (&[f32], &[f32]),
    (width, dim): (usize, usize),
) {
    run(kernels, Store { heads, first, keys, values, width, dim });
}

struct Store<'a, 'h, E> {
    heads: &'a mut [HeadMut<'h, E>],
    first: usize,
    keys: &'a [f32],
    values: &'a [f32],
    /// Of a row of keys or values.
    width: usize,
    /// Of a head.
    dim: usize,
}

impl<E: Element> Step for Store<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Store { heads, first, keys, values, width, dim } = self;
        let stride = dim.next_multiple_of(LANES);
        let rows = || (first..).zip(keys.chunks(width).zip(values.chunks(width)));
        // A key goes to a line a dimension or two: all are asked for before any is waited for.
        for (position, _) in rows().take(1) {
            for head in heads.iter() {
                let block = &head.keys[position / LANES * LANES * dim..][..LANES * dim];
                block.iter().step_by(LANES).for_each(|slot| l.prefetch(slot));
                l.prefetch(&head.values[position * stride]);
            }
        }
        let mut codes = vec![E::default(); dim];
        for (position, (key, value)) in rows() {
            for (head, (key, value)) in heads.iter_mut().zip(key.chunks_exact(dim).zip(value.chunks_exact(dim))) {
                let (key_scale, value_scale) = (E::scale(key), E::scale(value));
                if E::SCALED {
                    (head.key_scales[position], head.value_scales[position]) = (key_scale, value_scale);
                }
                E::narrow(l, key, key_scale, &mut codes);
                let block = &mut head.keys[position / LANES * LANES * dim..][..LANES * dim];
                for (slots, code) in block.as_chunks_mut::<LANES>().0.iter_mut().zip(&codes) {
                    slots[position % LANES] = *code;
                }
                E::narrow(l, value, value_scale, &mut head.values[position * stride..][..dim]);
            }
        }
    }
}
