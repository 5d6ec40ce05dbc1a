//! Ternary weights at five a byte times int8 activations, by ISA. Sums are the integers of the 2-bit kernels.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::isa::Isa;
use super::isa::Kernels;
#[cfg(target_arch = "x86_64")]
use super::x86::{avx2, avx512, avxvnni};
use super::{reference, ternary, tile, wide};
use crate::input::Int8;
use crate::quant::base3::{BLOCK, BLOCK_BYTES};
use crate::quant::{Base3Matrix, PANEL, TernaryMatrix, base3, ternary as two_bits};
use crate::threads::Strip;

/// Blocks of this packing, and of that at 2 bits, that hold the same columns.
pub(crate) const PERIOD_BLOCKS: (usize, usize) = (base3::PERIOD / BLOCK, base3::PERIOD / two_bits::BLOCK);

/// `y = W x` of the first token for the rows from `first` (a multiple of [`PANEL`]).
pub(crate) fn gemv(kernels: Kernels, matrix: &Base3Matrix, input: &Int8, first: usize, out: &mut [f32]) {
    let (scale, token, activations) = (matrix.scale(), input.scales[0], input.token(0, BLOCK));
    let panels = panels(matrix, first, out.len());
    // Only the x86-64 paths take the sums panel by panel.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables))]
    let finish = |panel: usize, sums: &[i32; PANEL]| {
        let rows = panel * PANEL..((panel + 1) * PANEL).min(out.len());
        for (out, &sum) in out[rows].iter_mut().zip(sums) {
            *out = reference::ternary_output(sum, scale, token);
        }
    };
    match kernels.vectors() {
        // SAFETY: `kernels` proves the features but VBMI, which is asked for.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if vbmi() => unsafe { avx512::base3::gemv_vbmi(panels, activations, finish) },
        // SAFETY: `kernels` proves the features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::base3::gemv(panels, activations, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => unsafe { avxvnni::base3::gemv(panels, activations, finish) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::base3::gemv(panels, activations, finish) },
        _ => reference::base3(panels, scale, activations, token, out),
    }
}

/// `y = W x` of all tokens for the rows of `out`, whose first is a multiple of [`PANEL`]: panels are unpacked to 2 bits
/// once for all tiles that stay in the cache together, and multiplied as those.
pub(crate) fn gemm(kernels: Kernels, matrix: &Base3Matrix, input: &Int8, mut out: Strip<'_, f32>) {
    let panels = panels(matrix, out.columns().start, out.columns().len());
    let (Some(micro), Some(unpack)) = (ternary::micro(kernels), unpacker(kernels)) else {
        for t in 0..out.rows() {
            reference::base3(panels, matrix.scale(), input.token(t, BLOCK), input.scales[t], out.row(t));
        }
        return;
    };
    let panel_bytes = Base3Matrix::panel_bytes(matrix.cols());
    if wide::takes(kernels, out.rows()) {
        return wide::run(kernels, Panels { panels, panel_bytes, unpack }, input, matrix.scale(), out);
    }
    let codes_bytes = TernaryMatrix::panel_bytes(matrix.cols());
    let (mut codes, mut held) = (vec![0; 2 * codes_bytes], None);
    tile::each_cell(out.rows(), out.columns().len(), ternary::tiles_together(input), |cell| {
        let pair = &mut codes[..cell.panels * codes_bytes];
        if held != Some(cell.panel) {
            for (p, codes) in pair.chunks_exact_mut(codes_bytes).enumerate() {
                let panel = &panels[(cell.panel + p) * panel_bytes..][..panel_bytes];
                // SAFETY: `unpack` was chosen by `kernels`, which proves its features.
                unpack_panel(panel, codes, |bytes, codes| unsafe { unpack(bytes, codes) });
            }
            held = Some(cell.panel);
        }
        let (first, second) = pair.split_at(codes_bytes);
        let pair = [first, second];
        // SAFETY: `micro` was chosen by `kernels`, which proves its features.
        unsafe { ternary::run_cell((kernels, micro), &pair[..cell.panels], (input, matrix.scale()), cell, &mut out) };
    });
}

/// Panels of this packing.
struct Panels<'a> {
    panels: &'a [u8],
    panel_bytes: usize,
    unpack: Unpack,
}

impl wide::Packing for Panels<'_> {
    fn bytes(&self, panel: usize, columns: Range<usize>) -> &[u8] {
        let panel = &self.panels[panel * self.panel_bytes..][..self.panel_bytes];
        let (blocks, _) = panel.as_chunks::<BLOCK_BYTES>();
        blocks[columns.start / BLOCK..columns.end.div_ceil(BLOCK).min(blocks.len())].as_flattened()
    }

    fn unpack(&self, bytes: &[u8], columns: Range<usize>, place: wide::Place<'_>) {
        let mut codes = [[0; two_bits::BLOCK_BYTES]; wide::COLUMNS / two_bits::BLOCK];
        let codes = &mut codes[..columns.len() / two_bits::BLOCK];
        // SAFETY: `unpack` was chosen by `Kernels`, which prove its features.
        unpack_panel(bytes, codes.as_flattened_mut(), |bytes, codes| unsafe { (self.unpack)(bytes, codes) });
        place.fill(codes);
    }
}

/// A block of bytes with five codes each.
pub(crate) type Packed = [u8; BLOCK_BYTES];
/// A block of bytes with four codes each.
pub(crate) type Codes = [u8; two_bits::BLOCK_BYTES];

/// Turns blocks of five codes a byte, four at a time, into five of four codes a byte.
type Unpack = unsafe fn(packed: &[[Packed; PERIOD_BLOCKS.0]], codes: &mut [[Codes; PERIOD_BLOCKS.1]]);

/// The unpacking kernel of a path that has a prefill kernel.
fn unpacker(kernels: Kernels) -> Option<Unpack> {
    match kernels.vectors() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if vbmi() => Some(avx512::base3::unpack_vbmi),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::AvxVnni | Isa::Avx2 => Some(avx2::base3::unpack),
        _ => None,
    }
}

/// Unpacks one panel. The last blocks, if they are no whole period, go through a copy.
fn unpack_panel(
    panel: &[u8],
    codes: &mut [u8],
    unpack: impl Fn(&[[Packed; PERIOD_BLOCKS.0]], &mut [[Codes; PERIOD_BLOCKS.1]]),
) {
    let (packed, rest) = panel.as_chunks::<BLOCK_BYTES>().0.as_chunks::<{ PERIOD_BLOCKS.0 }>();
    let (codes, codes_rest) = codes.as_chunks_mut().0.as_chunks_mut::<{ PERIOD_BLOCKS.1 }>();
    // The last 61 to 64 columns of a period are four blocks here, but not five at 2 bits; never the other way round.
    let (packed, last) = packed.split_at(codes.len());
    unpack(packed, codes);
    if codes_rest.is_empty() {
        return;
    }
    let mut period = [[[base3::ZEROS; BLOCK_BYTES]; PERIOD_BLOCKS.0]];
    let rest = last.first().map_or(rest, |period| period);
    period[0][..rest.len()].copy_from_slice(rest);
    let mut out = [[[0; two_bits::BLOCK_BYTES]; PERIOD_BLOCKS.1]];
    unpack(&period, &mut out);
    codes_rest.copy_from_slice(&out[0][..codes_rest.len()]);
}

#[cfg(target_arch = "x86_64")]
fn vbmi() -> bool {
    is_x86_feature_detected!("avx512vbmi")
}

/// The panels of `rows` rows from `first`.
fn panels(matrix: &Base3Matrix, first: usize, rows: usize) -> &[u8] {
    let panel_bytes = Base3Matrix::panel_bytes(matrix.cols());
    &matrix.packed()[first / PANEL * panel_bytes..][..rows.div_ceil(PANEL) * panel_bytes]
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    type Gemv = unsafe fn(&[u8], &[i8], &mut dyn FnMut(usize, &[i32; PANEL]));

    /// Every kernel that this CPU can run, those that a better one of the same path hides too.
    fn gemvs() -> Vec<(&'static str, Gemv)> {
        let has = |isa| Kernels::new(Some(isa)).is_ok();
        let mut all: Vec<(&str, Gemv)> = Vec::new();
        if has(Isa::Avx2) {
            // SAFETY: just seen to be there.
            all.push(("avx2", |p, a, f| unsafe { avx2::base3::gemv(p, a, f) }));
        }
        if has(Isa::AvxVnni) {
            // SAFETY: as above.
            all.push(("avxvnni", |p, a, f| unsafe { avxvnni::base3::gemv(p, a, f) }));
        }
        if has(Isa::Avx512) {
            // SAFETY: as above.
            all.push(("avx512", |p, a, f| unsafe { avx512::base3::gemv(p, a, f) }));
        }
        if has(Isa::Avx512) && vbmi() {
            // SAFETY: as above.
            all.push(("avx512 with vbmi", |p, a, f| unsafe { avx512::base3::gemv_vbmi(p, a, f) }));
        }
        all
    }

    /// Each of the 243 bytes in each of the four places of a lane, beside activations at and within their limits.
    #[test]
    fn every_byte_counts_what_its_digits_say() {
        for (blocks, shift) in (1..=9).flat_map(|blocks| (0..243).step_by(27).map(move |shift| (blocks, shift))) {
            let panels: Vec<u8> = (0..2 * blocks * BLOCK_BYTES).map(|i| ((i * 5 + shift) % 243) as u8).collect();
            let activations: Vec<i8> = (0..blocks * BLOCK)
                .map(|i| match i % 7 {
                    0 => -128,
                    1 => 127,
                    _ => (i * 37 + shift) as i8,
                })
                .collect();
            for (name, gemv) in gemvs() {
                let mut seen = 0;
                let mut check = |panel: usize, sums: &[i32; PANEL]| {
                    let bytes = &panels[panel * blocks * BLOCK_BYTES..][..blocks * BLOCK_BYTES];
                    assert_eq!(*sums, reference::base3_dots(bytes, &activations), "{name}, {blocks} blocks");
                    seen += 1;
                };
                // SAFETY: `gemvs` lists what the CPU can run.
                unsafe { gemv(&panels, &activations, &mut check) };
                assert_eq!(seen, 2, "{name}");
            }
        }
    }

    #[test]
    fn unpacked_codes_are_the_digits() {
        for (cols, shift) in (1..=250).map(|cols: usize| (cols, cols * 11)) {
            let panel: Vec<u8> = (0..Base3Matrix::panel_bytes(cols)).map(|i| ((i * 5 + shift) % 243) as u8).collect();
            let kernels = Isa::available().into_iter().map(|isa| Kernels::new(Some(isa)).unwrap());
            for (kernels, unpack) in kernels.filter_map(|kernels| Some((kernels, unpacker(kernels)?))) {
                let mut codes = vec![0xff; TernaryMatrix::panel_bytes(cols)];
                // SAFETY: `unpack` is of kernels that the CPU has.
                unpack_panel(&panel, &mut codes, |packed, codes| unsafe { unpack(packed, codes) });
                for (r, col) in (0..PANEL).flat_map(|r| (0..cols).map(move |col| (r, col))) {
                    let byte = panel[col / BLOCK * BLOCK_BYTES + r * 4 + col % 4];
                    let code = codes[col / 16 * 64 + r * 4 + col % 4] >> (col % 16 / 4 * 2) & 3;
                    let at = format!("{}, {cols} columns: {r}, {col}", kernels.isa());
                    assert_eq!(code, base3::digit(byte, col % BLOCK / 4), "{at}");
                }
            }
        }
    }
}
