//! Where reading single rows and columns stops being faster: what [`Crossover`] holds is read off this table.
//!
//! `cargo test -p engine --lib crossover -- --ignored --nocapture`

use std::time::Instant;

use super::*;

/// The feed-forward of 2B4T.
const FFN: usize = 6912;
const HIDDEN: usize = 2560;
/// Layers, so that weights come from DRAM: 48 times 4.4 MB, in either packing.
const LAYERS: usize = 48;
/// Passes, of which the median counts; those of dense and sparse walks alternate.
const PASSES: usize = 9;

/// Nanoseconds of `f`.
fn time(f: impl FnOnce()) -> u64 {
    let start = Instant::now();
    f();
    start.elapsed().as_nanos() as u64
}

fn median(mut times: Vec<u64>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2] as f64
}

/// Median times of all layers in panels and, in turn with them, alone.
fn times(threads: usize, isa: Isa, layers: &[Packings], percent: u64, rows: bool) -> (f64, f64) {
    let (kernels, pool) = (Kernels::new(Some(isa)).unwrap(), Pool::new(threads, true).unwrap());
    let cols = layers[0].panels.cols();
    let x: Vec<f32> = match rows {
        true => thinned(cols, 0),
        false => thinned(cols, 100 - percent),
    };
    let mut input = Input::new(1, cols);
    input.f32_mut(1).copy_from_slice(&x);
    let mut out = vec![0.0; layers[0].panels.rows()];
    let (mut dense, mut sparse) = (Vec::new(), Vec::new());
    pool.enter(|team| {
        input.prepare(team, kernels, &layers[0].panels);
        let (activations, token) = (input.int8().token(0, ternary::BLOCK), input.int8().scales[0]);
        let active: Vec<Vec<u32>> = (0..LAYERS as u64)
            .map(|l| (0..layers[0].panels.rows() as u32).filter(|&r| mix(l, u64::from(r)) % 100 < percent).collect())
            .collect();
        for _ in 0..PASSES {
            dense.push(time(|| layers.iter().for_each(|l| l.panels.forward(team, kernels, &input, &mut out))));
            sparse.push(time(|| {
                let (mut ordered, mut nonzero, mut some) = (Vec::new(), Vec::new(), Vec::new());
                for (layer, active) in layers.iter().zip(&active) {
                    if rows {
                        order(activations, &mut ordered);
                        some.resize(active.len(), 0.0);
                        forward_rows(team, kernels, &layer.by_row, (&ordered, token), active, &mut some);
                        out.fill(0.0);
                        active.iter().zip(&some).for_each(|(&row, &x)| out[row as usize] = x);
                    } else {
                        list_nonzero(kernels, &activations[..cols], &mut nonzero);
                        forward_columns(team, kernels, &layer.by_column, (activations, token), &nonzero, &mut out);
                    }
                }
            }));
        }
    });
    (median(dense), median(sparse))
}

#[test]
#[ignore = "measures for a minute; prints"]
fn crossover() {
    let make = |rows: usize, cols: usize| -> Vec<Packings> {
        let layer = |l: usize| packings(rows, cols, |r, c| (mix(l as u64, (r * cols + c) as u64) % 3) as i8 - 1);
        (0..LAYERS).map(layer).collect()
    };
    for (name, rows, layers) in [("rows", true, make(FFN, HIDDEN)), ("columns", false, make(HIDDEN, FFN))] {
        for isa in Isa::available().into_iter().filter(|&isa| isa != Isa::Scalar) {
            for threads in [1, 2] {
                print!("{name} {isa} {threads} threads, active % (time alone / time of all):");
                for percent in [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100] {
                    let (dense, sparse) = times(threads, isa, &layers, percent, rows);
                    print!(" {percent} ({:.2})", sparse / dense);
                    if percent == 20 {
                        let us = |time: f64| time / LAYERS as f64 / 1e3;
                        print!(" [{:.0} of {:.0} us]", us(sparse), us(dense));
                    }
                }
                println!();
            }
        }
    }
}
