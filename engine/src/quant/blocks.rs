//! Decoding of GGUF's block formats to f32, as ggml's `ggml-quants.c` defines them
//! (`dequantize_row_*`): the products in f32, in the same order, so the values are the same bits.

use half::{bf16, f16};

use super::float16::Float16 as _;
use super::trits;
use crate::formats::gguf::TensorType;

const BLOCK: usize = 32;
const SUPER_BLOCK: usize = 256;

/// Decodes a row's bytes into `out`; false when the type is not one that is read.
///
/// # Panics
///
/// When `bytes` is not as long as `out.len()` values of this type are.
#[must_use]
pub fn dequantise(kind: TensorType, bytes: &[u8], out: &mut [f32]) -> bool {
    let blocks = out.len() / kind.block_len() as usize;
    let whole = out.len().is_multiple_of(kind.block_len() as usize);
    assert!(whole && bytes.len() == blocks * kind.block_bytes() as usize);
    match kind {
        TensorType::F32 => each::<4>(bytes, out, f32::from_le_bytes),
        TensorType::F16 => each::<2>(bytes, out, |b| f16::from_le_bytes(b).widen()),
        TensorType::BF16 => each::<2>(bytes, out, |b| bf16::from_le_bytes(b).widen()),
        TensorType::Q8_0 => by_block::<34, BLOCK>(bytes, out, q8_0),
        TensorType::Q4_0 => by_block::<18, BLOCK>(bytes, out, q4_0),
        TensorType::Q4_1 => by_block::<20, BLOCK>(bytes, out, q4_1),
        TensorType::Q5_0 => by_block::<22, BLOCK>(bytes, out, q5_0),
        TensorType::Q4K => by_block::<144, SUPER_BLOCK>(bytes, out, q4_k),
        TensorType::Q6K => by_block::<210, SUPER_BLOCK>(bytes, out, q6_k),
        TensorType::Tq1_0 => {
            by_block::<54, SUPER_BLOCK>(bytes, out, |b, out| ternary(trits::tq1_0(b), half_at(b, 52), out))
        }
        TensorType::Tq2_0 => {
            by_block::<66, SUPER_BLOCK>(bytes, out, |b, out| ternary(trits::tq2_0(b), half_at(b, 64), out))
        }
        // These have no blocks with a scale of their own: see `GgufFile::row_to_f32`.
        TensorType::I2S | TensorType::Tl1 | TensorType::Tl2 | TensorType::Other(_) => return false,
    }
    true
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    let (values, _) = bytes.as_chunks::<N>();
    for (out, &bytes) in out.iter_mut().zip(values) {
        *out = value(bytes);
    }
}

fn by_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<VALUES>();
    for (bytes, out) in blocks.iter().zip(outs) {
        block(bytes, out);
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// f16 d; 32 x i8 q; value = d q.
fn q8_0(bytes: &[u8; 34], out: &mut [f32; BLOCK]) {
    let scale = half_at(bytes, 0);
    for (out, &q) in out.iter_mut().zip(&bytes[2..]) {
        *out = f32::from(q as i8) * scale;
    }
}

/// f16 d; 16 bytes: value j in the low nibble of byte j, value j + 16 in the high; d (q - 8).
fn q4_0(bytes: &[u8; 18], out: &mut [f32; BLOCK]) {
    let scale = half_at(bytes, 0);
    for (j, &pair) in bytes[2..].iter().enumerate() {
        out[j] = (f32::from(pair & 15) - 8.0) * scale;
        out[j + 16] = (f32::from(pair >> 4) - 8.0) * scale;
    }
}

/// f16 d; f16 m; nibbles as in Q4_0; d q + m.
fn q4_1(bytes: &[u8; 20], out: &mut [f32; BLOCK]) {
    let (scale, least) = (half_at(bytes, 0), half_at(bytes, 2));
    for (j, &pair) in bytes[4..].iter().enumerate() {
        out[j] = f32::from(pair & 15) * scale + least;
        out[j + 16] = f32::from(pair >> 4) * scale + least;
    }
}

/// f16 d; u32 of fifth bits; nibbles as in Q4_0; d (q - 16).
fn q5_0(bytes: &[u8; 22], out: &mut [f32; BLOCK]) {
    let scale = half_at(bytes, 0);
    let fifth = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    let value = |nibble: u8, at: usize| (f32::from(nibble | ((fifth >> at & 1) as u8) << 4) - 16.0) * scale;
    for (j, &pair) in bytes[6..].iter().enumerate() {
        out[j] = value(pair & 15, j);
        out[j + 16] = value(pair >> 4, j + 16);
    }
}

/// f16 d; f16 m; 12 bytes with eight 6-bit scales s and minima n; 128 bytes of nibbles: value 64 k + l has the low one
/// of byte 32 k + l, value 64 k + 32 + l the high; d s q - m n, s and n those of the 32 values.
fn q4_k(bytes: &[u8; 144], out: &mut [f32; SUPER_BLOCK]) {
    let (scale, least) = (half_at(bytes, 0), half_at(bytes, 2));
    let packed = &bytes[4..16];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, n) = match group {
            0..4 => (packed[group] & 63, packed[group + 4] & 63),
            _ => {
                (packed[group + 4] & 15 | packed[group - 4] >> 6 << 4, packed[group + 4] >> 4 | packed[group] >> 6 << 4)
            }
        };
        let (step, offset) = (scale * f32::from(s), least * f32::from(n));
        for (out, &pair) in out.iter_mut().zip(&bytes[16 + group / 2 * 32..]) {
            *out = step * f32::from(pair >> (4 * (group % 2)) & 15) - offset;
        }
    }
}

fn ternary(trits: [i8; SUPER_BLOCK], scale: f32, out: &mut [f32; SUPER_BLOCK]) {
    for (out, trit) in out.iter_mut().zip(trits) {
        *out = f32::from(trit) * scale;
    }
}

/// 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales (one for 16 values), f16 d;
/// d scale (q - 32). Each half of 128 values uses 64 low bytes, 32 high bytes and 8 scales: value
/// 32 n + l has its low nibble in byte l + 32 (n % 2) (low half for n < 2), its high bits at shift
/// 2 n of byte l.
fn q6_k(bytes: &[u8; 210], out: &mut [f32; SUPER_BLOCK]) {
    let scale = half_at(bytes, 208);
    for half in 0..2 {
        let low = &bytes[64 * half..64 * half + 64];
        let high = &bytes[128 + 32 * half..128 + 32 * half + 32];
        let scales = &bytes[192 + 8 * half..192 + 8 * half + 8];
        for n in 0..4 {
            for l in 0..32 {
                let nibble = (low[l + 32 * (n % 2)] >> (4 * (n / 2))) & 15;
                let top = (high[l] >> (2 * n)) & 3;
                let q = i32::from(nibble | (top << 4)) - 32;
                let group = f32::from(scales[2 * n + l / 16] as i8);
                out[128 * half + 32 * n + l] = scale * group * q as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests;
