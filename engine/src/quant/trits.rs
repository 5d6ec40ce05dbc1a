//! Ternary packings of files, decoded to trits (-1, 0, 1); a code 3, which none of them means, becomes 2.

/// Values of a TQ1_0 or TQ2_0 block.
pub(crate) const BLOCK: usize = 256;

/// Powers of three by which a byte of TQ1_0 is multiplied, modulo 256, to bring each of its five digits to the top.
const POWERS: [u8; 5] = [1, 3, 9, 27, 81];

/// The digit at the top of a byte: a fraction of 256 in base three.
fn digit(byte: u8, power: u8) -> i8 {
    ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as i8 - 1
}

/// The trits of a TQ1_0 block (`ggml-quants.c`, `dequantize_row_tq1_0`). A byte holds q = ceil(256 n / 243), n a number
/// of five digits in base three, the first value its first digit. 32 bytes of five values each (value 32 n + m is digit
/// n of byte m), 16 bytes of five, 4 bytes of four.
pub(crate) fn tq1_0(bytes: &[u8; 54]) -> [i8; BLOCK] {
    let mut trits = [0; BLOCK];
    let mut at = 0;
    for (bytes, digits) in [(&bytes[..32], 5), (&bytes[32..48], 5), (&bytes[48..52], 4)] {
        for &power in &POWERS[..digits] {
            for &byte in bytes {
                trits[at] = digit(byte, power);
                at += 1;
            }
        }
    }
    trits
}

/// The trits of a TQ2_0 block: value 128 h + 32 n + m has code trit + 1 at bits 2 n of byte 32 h + m.
pub(crate) fn tq2_0(bytes: &[u8; 66]) -> [i8; BLOCK] {
    std::array::from_fn(|i| (bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) as i8 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_digits_come_out_of_a_byte_first_to_last() {
        for n in 0u32..243 {
            let byte = (n * 256).div_ceil(243) as u8;
            let digits = [n / 81, n / 27 % 3, n / 9 % 3, n / 3 % 3, n % 3];
            for (power, want) in POWERS.into_iter().zip(digits) {
                assert_eq!(digit(byte, power), want as i8 - 1, "{n}");
            }
        }
    }

    #[test]
    fn blocks_fill_in_their_order() {
        let mut bytes = [0u8; 54];
        // 242 = 22222 in base three.
        bytes[33] = (242u32 * 256).div_ceil(243) as u8;
        let trits = tq1_0(&bytes);
        let ones: Vec<usize> = (0..BLOCK).filter(|&i| trits[i] == 1).collect();
        assert_eq!(ones, [161, 177, 193, 209, 225]);
        let mut bytes = [0u8; 66];
        bytes[33] = 0b11_10_01_00;
        let trits = tq2_0(&bytes);
        assert_eq!([trits[129], trits[161], trits[193], trits[225]], [-1, 0, 1, 2]);
    }
}
