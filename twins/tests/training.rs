//! A tiny training end to end: loss falls, checkpoints go on where they stopped, folders are written.

use candle_core::Var;
use std::path::Path;
use twins::export;
use twins::model::{Mode, Model, Shape};
use twins::optimizer::Schedule;
use twins::train::{Plan, run};

fn plan(mode: Mode) -> Plan {
    let shape = Shape { layers: 1, context: 128, ..Shape::default() };
    let schedule = Schedule { warmup: 2, ..Schedule::new(10, 3e-3) };
    Plan { mode, shape, schedule, rows: 2, seed: 1, nudge: None, log_every: 1, save_every: 100 }
}

fn curve(folder: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join("loss.csv")).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect()
}

#[test]
fn the_loss_of_both_twins_falls_in_ten_steps_and_a_resumed_training_is_the_same() {
    for mode in [Mode::Ternary, Mode::Fp16] {
        let (whole, parts, out) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plan = plan(mode);
        let state = run(&plan, whole.path(), 10).unwrap();
        let losses = curve(whole.path());
        assert_eq!(losses.len(), 10);
        assert!(losses[9] < losses[0] - 0.5, "{losses:?}");

        run(&plan, parts.path(), 5).unwrap();
        run(&plan, parts.path(), 10).unwrap();
        assert_eq!(curve(parts.path()), losses);

        export::write(&plan, &state, whole.path(), out.path()).unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            assert!(out.path().join(file).exists(), "{file}");
        }
    }
}

#[test]
fn a_nudge_moves_every_weight_in_its_last_bits_alone() {
    let shape = Shape { layers: 1, ..Shape::default() };
    let weights = |nudge| Model::new(shape.clone(), Mode::Fp16, 1, nudge).unwrap().weights;
    let (plain, nudged) = (weights(None), weights(Some(3)));
    let mut moved = 0;
    for (name, var) in &plain {
        let values = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in values(var).into_iter().zip(values(&nudged[name])) {
            assert!((a - b).abs() <= a.abs() * 3e-7, "{name}: {a} and {b}");
            moved += usize::from(a != b);
        }
    }
    let all: usize = plain.values().map(|var| var.elem_count()).sum();
    assert!(moved > all / 2 && moved < all * 3 / 4, "{moved} of {all}");
}
