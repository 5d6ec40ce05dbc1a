//! Words against the decoders of single rows, for any bytes, and the matrices made of both.

use super::*;
use crate::error::Result;
use crate::formats::gguf::I2sLayout;
use crate::quant::{Base3Matrix, TernaryMatrix, trits};
use proptest::prelude::*;

const LAYOUTS: [Layout; 6] =
    [Layout::Blocks128, Layout::Blocks64, Layout::Rows4, Layout::Tq1_0, Layout::Tq2_0, Layout::Hf];

/// Rows and columns near `rows` and `cols` that a layout can have.
fn shape(layout: Layout, rows: usize, cols: usize) -> (usize, usize) {
    match layout {
        Layout::Blocks128 => (rows, cols.next_multiple_of(128)),
        Layout::Blocks64 => (rows, cols.next_multiple_of(64)),
        Layout::Tq1_0 | Layout::Tq2_0 => (rows, cols.next_multiple_of(256)),
        Layout::Rows4 | Layout::Hf => (rows.next_multiple_of(4), cols),
    }
}

/// Bytes of a matrix.
fn size(layout: Layout, rows: usize, cols: usize) -> usize {
    match layout {
        Layout::Tq1_0 => rows * cols / 256 * 54,
        Layout::Tq2_0 => rows * cols / 256 * 66,
        _ => rows * cols / 4,
    }
}

/// A row weight by weight, as the files' own decoders have it; a code 3 is 2.
fn row(layout: Layout, bytes: &[u8], (rows, cols): (usize, usize), row: usize, out: &mut [i8]) {
    let i2s = |layout: I2sLayout, out: &mut [i8]| {
        out.iter_mut().enumerate().for_each(|(col, out)| {
            let (byte, shift) = layout.place(cols, row, col);
            *out = (bytes[byte] >> shift & 3) as i8 - 1;
        });
    };
    let zero = |block: &[u8]| block[block.len() - 2] == 0 && block[block.len() - 1] & 0x7f == 0;
    match layout {
        Layout::Blocks128 => i2s(I2sLayout::Blocks128, out),
        Layout::Blocks64 => i2s(I2sLayout::Blocks64, out),
        Layout::Rows4 => i2s(I2sLayout::Rows4, out),
        Layout::Tq1_0 | Layout::Tq2_0 => {
            let block_bytes = size(layout, 1, 256);
            let blocks = bytes[row * cols / 256 * block_bytes..].chunks_exact(block_bytes);
            for (out, block) in out.chunks_exact_mut(256).zip(blocks) {
                let decoded = match layout {
                    Layout::Tq1_0 => trits::tq1_0(block.try_into().unwrap()),
                    _ => trits::tq2_0(block.try_into().unwrap()),
                };
                out.copy_from_slice(&if zero(block) { [0; 256] } else { decoded });
            }
        }
        Layout::Hf => {
            let quarter = rows / 4;
            let bytes = &bytes[row % quarter * cols..][..cols];
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = (byte >> (2 * (row / quarter)) & 3) as i8 - 1);
        }
    }
}

/// Any bytes, or such as no code 3 is among; some blocks with a scale of 0.
fn bytes(len: usize, seed: u64, sound: bool, layout: Layout) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| next()).collect();
    if sound && layout != Layout::Tq1_0 {
        bytes.iter_mut().for_each(|byte| *byte &= !((*byte & *byte >> 1 & 0x55) << 1));
    }
    if matches!(layout, Layout::Tq1_0 | Layout::Tq2_0) {
        for (nth, block) in bytes.chunks_exact_mut(size(layout, 1, 256)).enumerate() {
            let at = block.len() - 2;
            block[at..].copy_from_slice(&[[0, 0], [0, 0x80], [1, 0], [0, 0x3c]][(nth + seed as usize) % 4]);
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn panels_of_words_are_panels_of_rows(
        layout in prop::sample::select(&LAYOUTS[..]),
        rows in 1usize..70,
        cols in 1usize..700,
        seed: u64,
        sound: bool,
    ) {
        let (rows, cols) = shape(layout, rows, cols);
        let bytes = bytes(size(layout, rows, cols), seed, sound, layout);
        let packed = PackedTrits::new(layout, &bytes, rows, cols).unwrap();
        let by_word = |panel: usize, words: &mut [u32]| -> Result<()> {
            packed.panel(panel, words);
            Ok(())
        };
        let by_row = |nth: usize, out: &mut [i8]| -> Result<()> {
            row(layout, &bytes, (rows, cols), nth, out);
            Ok(())
        };
        let fast = TernaryMatrix::from_words(rows, cols, 0.5, by_word);
        match TernaryMatrix::from_rows(rows, cols, 0.5, by_row) {
            Ok(slow) => {
                prop_assert!(fast.unwrap().packed() == slow.packed());
                let fast = Base3Matrix::from_words(rows, cols, 0.5, by_word).unwrap();
                let slow = Base3Matrix::from_rows(rows, cols, 0.5, by_row).unwrap();
                prop_assert!(fast.packed() == slow.packed());
            }
            Err(_) => prop_assert!(!sound && fast.is_err()),
        }
    }

    /// What `from_rows` makes holds the weights that it was given.
    #[test]
    fn words_of_trits_hold_them(rows in 1usize..40, cols in 1usize..100, seed: u64) {
        let weight = |row: usize, col: usize| (seed.rotate_left((row * 7 + col * 3) as u32 % 64) % 3) as i8 - 1;
        let matrix = TernaryMatrix::from_codes(rows, cols, 1.0, weight).unwrap();
        for row in 0..rows {
            prop_assert!((0..cols).all(|col| matrix.weight(row, col) == weight(row, col)));
        }
    }
}

#[test]
fn shapes_that_words_cannot_have_are_left_to_rows() {
    let bytes = [0; 4096];
    for (layout, rows, cols) in [
        (Layout::Blocks128, 2, 64),
        (Layout::Blocks64, 2, 96),
        (Layout::Tq1_0, 1, 128),
        (Layout::Tq2_0, 1, 264),
        (Layout::Rows4, 6, 16),
        (Layout::Hf, 7, 16),
        (Layout::Hf, 4, 4097),
        (Layout::Blocks64, usize::MAX, 64),
        (Layout::Blocks64, 0, 64),
    ] {
        assert!(PackedTrits::new(layout, &bytes, rows, cols).is_none(), "{layout:?} {rows} x {cols}");
    }
}
