//! Hand-worked blocks; whole rows are held against the `gguf` package's decoder in `tests/blocks.rs`.

use super::*;

fn f16_bytes(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

fn decoded(kind: TensorType, bytes: &[u8], len: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; len];
    assert!(dequantise(kind, bytes, &mut out));
    out
}

#[test]
fn plain_types_are_their_values() {
    assert_eq!(decoded(TensorType::F32, &1.5f32.to_le_bytes(), 1), [1.5]);
    assert_eq!(decoded(TensorType::F16, &f16_bytes(-0.25), 1), [-0.25]);
    let bytes = bf16::from_f32(3.0).to_le_bytes();
    assert_eq!(decoded(TensorType::BF16, &bytes, 1), [3.0]);
}

#[test]
fn q8_0_is_scale_times_signed_byte() {
    let mut bytes = f16_bytes(0.5).to_vec();
    bytes.extend((0..32).map(|i| (i as i8 - 16) as u8));
    let expected: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) * 0.5).collect();
    assert_eq!(decoded(TensorType::Q8_0, &bytes, 32), expected);
}

#[test]
fn q4_keeps_the_first_half_in_the_low_nibbles() {
    let nibbles: Vec<u8> = (0..16).map(|j| j | ((15 - j) << 4)).collect();
    let mut q4_0 = f16_bytes(2.0).to_vec();
    q4_0.extend(&nibbles);
    let out = decoded(TensorType::Q4_0, &q4_0, 32);
    assert_eq!((out[0], out[15], out[16], out[31]), (-16.0, 14.0, 14.0, -16.0));

    let mut q4_1 = f16_bytes(2.0).to_vec();
    q4_1.extend(f16_bytes(-1.0));
    q4_1.extend(&nibbles);
    let out = decoded(TensorType::Q4_1, &q4_1, 32);
    assert_eq!((out[0], out[15], out[16], out[31]), (-1.0, 29.0, 29.0, -1.0));
}

#[test]
fn q6_k_gathers_six_bits_and_its_group_scale() {
    let mut bytes = vec![0u8; 210];
    bytes[208..].copy_from_slice(&f16_bytes(0.5));
    for (group, scale) in bytes[192..208].iter_mut().enumerate() {
        *scale = (group as i8 - 8) as u8;
    }
    // Value 200 is in the second half at n = 2, l = 8: q = 63 needs all of its six bits set.
    bytes[64 + 8] = 0xf0;
    bytes[128 + 32 + 8] = 3 << 4;
    let out = decoded(TensorType::Q6K, &bytes, 256);
    assert_eq!(out[200], 0.5 * (12.0 - 8.0) * 31.0);
    assert_eq!(out[0], 0.5 * -8.0 * -32.0);
    assert_eq!(out[255], 0.5 * 7.0 * -32.0);
    // The same low byte also holds value 136 (n = 0) in its low nibble, which is zero.
    assert_eq!(out[136], 0.0);
}

#[test]
fn types_that_are_not_read_are_refused() {
    let kind = TensorType::from_id(10).unwrap();
    assert!(!dequantise(kind, &[0; 84], &mut [0.0; 256]));
    assert!(!dequantise(TensorType::I2S, &[0; 2], &mut [0.0; 8]));
}
