//! Writing keys and values to the cache.

use super::element::{Element, LINE, value_place};
use crate::kernels::isa::Kernels;
use crate::kernels::lanes::{LANES, Lanes, Step, run};

/// One head's cache in one chunk, to write to: all of its positions.
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
        let block = LANES * dim.next_multiple_of(E::SIDE);
        // A key goes to a line a dimension or a few, a value perhaps to many: all are asked for before any is waited for.
        for (position, _) in rows().take(1) {
            for head in heads.iter() {
                let keys = &head.keys[position / LANES * block..][..block];
                keys.iter().step_by(LINE / size_of::<E>()).for_each(|slot| l.prefetch(slot));
                let chunk = head.values.len() / stride;
                for group in 0..if E::SIDE > 1 { stride / LANES } else { 1 } {
                    l.prefetch(&head.values[value_place::<E>(position, group, chunk, stride).0]);
                }
            }
        }
        let mut codes = vec![E::default(); dim];
        for (position, (key, value)) in rows() {
            for (head, (key, value)) in heads.iter_mut().zip(key.chunks_exact(dim).zip(value.chunks_exact(dim))) {
                let (key_scale, value_scale) = (E::find_scale(l, key), E::find_scale(l, value));
                if E::SCALED {
                    (head.key_scales[position], head.value_scales[position]) = (key_scale, value_scale);
                }
                E::narrow(l, key, key_scale, &mut codes);
                put_key(&codes, &mut head.keys[position / LANES * block..][..block], position % LANES);
                E::narrow(l, value, value_scale, &mut codes);
                put_value(&codes, head.values, position);
            }
        }
    }
}

/// Puts a key to its place in a block of sixteen positions.
#[inline(always)]
pub(super) fn put_key<E: Element>(codes: &[E], block: &mut [E], lane: usize) {
    for (slots, codes) in block.chunks_exact_mut(LANES * E::SIDE).zip(codes.chunks(E::SIDE)) {
        slots[lane * E::SIDE..][..codes.len()].copy_from_slice(codes);
    }
}

/// Puts a value to its place in a chunk's.
#[inline(always)]
pub(super) fn put_value<E: Element>(codes: &[E], values: &mut [E], position: usize) {
    let stride = codes.len().next_multiple_of(LANES);
    let chunk = values.len() / stride;
    for (group, codes) in codes.chunks(LANES).enumerate() {
        let (first, step) = value_place::<E>(position, group, chunk, stride);
        values[first..].iter_mut().step_by(step).zip(codes).for_each(|(to, code)| *to = *code);
    }
}
