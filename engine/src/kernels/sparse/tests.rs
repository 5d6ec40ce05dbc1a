//! Rows and columns of ternary weights against the panels that hold the same.

mod crossover;

use super::*;
use crate::input::Input;
use crate::kernels::isa::Isa;
use crate::linear::Linear;
use crate::quant::TernaryMatrix;
use crate::threads::Pool;

/// The same weights in panels, rows and columns.
struct Packings {
    panels: Linear,
    by_row: TernaryRows,
    by_column: TernaryColumns,
}

/// A small deterministic stream of bits.
fn mix(seed: u64, i: u64) -> u64 {
    let mut z = (seed ^ i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ z >> 27
}

fn packings(rows: usize, cols: usize, weight: impl Fn(usize, usize) -> i8 + Sync) -> Packings {
    let matrix = TernaryMatrix::from_codes(rows, cols, 0.037, weight).unwrap();
    let (by_row, by_column) = (TernaryRows::new(&matrix).unwrap(), TernaryColumns::new(&matrix).unwrap());
    Packings { panels: Linear::Ternary(matrix), by_row, by_column }
}

/// Activations in -3..3 of which about `percent` are 0.
fn thinned(cols: usize, percent: u64) -> Vec<f32> {
    let real = |i: u64| (mix(percent, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..cols as u64).map(|i| 3.0 * real(i) * f32::from(u8::from(mix(9, i) % 100 >= percent))).collect()
}

/// The outputs, by their bits.
struct Outputs {
    panels: Vec<u32>,
    picked: Vec<u32>,
    columns: Vec<u32>,
}

/// All three, the rows those of `pick`.
fn outputs(packings: &Packings, isa: Isa, threads: usize, x: &[f32], pick: &[u32]) -> Outputs {
    let Packings { panels, by_row, by_column } = packings;
    let (kernels, pool) = (Kernels::new(Some(isa)).unwrap(), Pool::new(threads, false).unwrap());
    let mut input = Input::new(1, x.len());
    input.f32_mut(1).copy_from_slice(x);
    let mut out = [panels.rows(), pick.len(), panels.rows()].map(|n| vec![f32::NAN; n]);
    pool.enter(|team| {
        input.prepare(team, kernels, panels);
        panels.forward(team, kernels, &input, &mut out[0]);
        let (activations, token) = (input.int8().token(0, ternary::BLOCK), input.int8().scales[0]);
        let (mut ordered, mut nonzero) = (vec![77; 3], vec![77; 3]);
        order(activations, &mut ordered);
        forward_rows(team, kernels, by_row, (&ordered, token), pick, &mut out[1]);
        list_nonzero(kernels, &activations[..x.len()], &mut nonzero);
        forward_columns(team, kernels, by_column, (activations, token), &nonzero, &mut out[2]);
    });
    let [panels, picked, columns] = out.map(|out| out.iter().map(|x| x.to_bits()).collect());
    Outputs { panels, picked, columns }
}

fn check(packings: &Packings, x: &[f32], threads: &[usize], what: &str) {
    let rows = packings.panels.rows() as u32;
    let want = outputs(packings, Isa::Scalar, 1, x, &[]).panels;
    let all = (0..rows).collect();
    // Every third row, from the last; and one of them again.
    let some = (0..rows).rev().step_by(3).chain([rows - 1]).collect();
    for pick in [all, some, Vec::new()] {
        let want_picked: Vec<u32> = pick.iter().map(|&row| want[row as usize]).collect();
        for isa in Isa::available() {
            for &threads in threads {
                let found = outputs(packings, isa, threads, x, &pick);
                assert_eq!(found.picked, want_picked, "{} rows of {what}, {isa}, {threads} threads", pick.len());
                assert_eq!(found.columns, want, "columns of {what}, {isa}, {threads} threads");
            }
        }
    }
}

#[test]
fn rows_and_columns_equal_panels_at_every_tail() {
    let shapes = (1..=40).map(|n| (n, 41 - n)).chain((250..=262).map(|n| (n, n + 3)));
    let wide = [(15, 511), (513, 17), (600, 70), (70, 600), (1, 1025), (1025, 1), (300, 2560)];
    for (rows, cols) in shapes.chain(wide) {
        let packings = packings(rows, cols, |r, c| (mix(3, (r * cols + c) as u64) % 3) as i8 - 1);
        for percent in [0, 50, 90, 100] {
            check(&packings, &thinned(cols, percent), &[1, 3], &format!("{rows} x {cols} at {percent} %"));
        }
    }
}

/// At every length, with signed zeros, NaN of either sign and infinities among the gates.
#[test]
fn lists_hold_what_is_not_zero() {
    let odd =
        [0.0, -0.0, f32::NAN, -f32::NAN, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, -1e-45, 1e-45];
    for len in (0..=200).chain([6912]) {
        let gate: Vec<f32> = (0..len).map(|i| odd[(mix(len, i) % 11) as usize]).collect();
        let activations: Vec<i8> = (0..len).map(|i| (mix(len, i) >> 8) as i8 % 3).collect();
        let positions =
            |keep: &dyn Fn(usize) -> bool| (0..len as u32).filter(|&i| keep(i as usize)).collect::<Vec<_>>();
        let active = positions(&|i| gate[i] > 0.0 || gate[i].is_nan());
        let nonzero = positions(&|i| activations[i] != 0);
        assert_eq!((count_active(&gate), count_nonzero(&activations)), (active.len(), nonzero.len()));
        for isa in Isa::available() {
            let (kernels, mut out) = (Kernels::new(Some(isa)).unwrap(), vec![9; 7]);
            list_active(kernels, &gate, &mut out);
            assert_eq!(out, active, "{isa} {len}");
            list_nonzero(kernels, &activations, &mut out);
            assert_eq!(out, nonzero, "{isa} {len}");
        }
    }
}

/// As many active columns as fill groups, and one or some less.
#[test]
fn every_number_of_columns_is_added() {
    let packings = packings(300, 60, |r, c| (mix(5, (r * 60 + c) as u64) % 3) as i8 - 1);
    for active in 0..=60 {
        let x: Vec<f32> = (0..60).map(|c| f32::from(u8::from(c * 7 % 60 < active)) * (c as f32 - 29.5)).collect();
        check(&packings, &x, &[2], &format!("{active} active columns"));
    }
}

/// All products of one sign and as large as they come, where narrow sums would overflow; and activations that are no
/// numbers, whose int8 is -128.
#[test]
fn the_largest_sums_and_no_numbers_are_the_same() {
    for sign in [-1, 1] {
        let packings = packings(300, 5000, |_, _| sign);
        for x in [1.0, -1.0, f32::NAN, f32::INFINITY] {
            check(&packings, &[x; 5000], &[2], &format!("weights of {sign} times {x}"));
        }
    }
}
