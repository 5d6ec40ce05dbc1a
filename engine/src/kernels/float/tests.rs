use super::*;
use crate::kernels::isa::Isa;

/// Lengths around every border of groups.
const LENGTHS: [usize; 10] = [1, 2, 15, 16, 17, 31, 32, 48, 120, 203];

/// Numbers in [-`scale`, `scale`) with no pattern.
fn noise(count: usize, seed: u32, scale: f32) -> Vec<f32> {
    let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) ^ i << 7).wrapping_mul(0x9e37_79b9);
    (0..count as u32).map(|i| (value(i) as f32 / 2f32.powi(31) - 1.0) * scale).collect()
}

/// Runs `step` on every ISA and returns its answer, which must be the same on all.
fn on_all(step: impl Fn(Kernels) -> Vec<f32>) -> Vec<f32> {
    let truth = step(Kernels::new(Some(Isa::Scalar)).unwrap());
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for isa in Isa::available() {
        let found = step(Kernels::new(Some(isa)).unwrap());
        assert_eq!(bits(&found), bits(&truth), "{isa}, {} values", truth.len());
    }
    truth
}

fn assert_close(found: &[f32], truth: impl IntoIterator<Item = f64>, relative: f64) {
    for (index, (found, truth)) in found.iter().zip(truth).enumerate() {
        let error = (f64::from(*found) - truth).abs();
        assert!(error <= relative * truth.abs() + 1e-37, "{index}: {found} instead of {truth}");
    }
}

struct Exp<'a>(&'a mut [f32]);

impl Step for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for group in self.0.as_chunks_mut::<LANES>().0 {
            l.store(exp_negative(l, l.load(group)), group);
        }
    }
}

#[test]
fn exp_is_accurate_and_stays_normal_far_below() {
    let mut x: Vec<f32> = (0..160_000).map(|i| i as f32 * -87.0 / 160_000.0).collect();
    x.extend([-87.0, -88.0, -104.0, -1e30, f32::NEG_INFINITY, 0.0, -0.0, -1e-30]);
    x.resize(x.len().next_multiple_of(LANES), -1.0);
    let found = on_all(|kernels| {
        let mut out = x.clone();
        run(kernels, Exp(&mut out));
        out
    });
    assert_close(&found, x.iter().map(|x| f64::from(x.max(-87.0)).exp()), 3e-7);
    assert!(found.iter().all(|p| p.is_normal()));
}

#[test]
fn rms_norm_is_the_definition() {
    for len in LENGTHS {
        let (x, weight) = (noise(len, 1, 3.0), noise(len, 2, 1.0));
        let found = on_all(|kernels| {
            let mut out = vec![f32::NAN; len];
            rms_norm(kernels, &x, &weight, 1e-5, &mut out);
            let mut in_place = x.clone();
            rms_norm_in_place(kernels, &mut in_place, &weight, 1e-5);
            assert_eq!(out, in_place);
            out
        });
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64;
        let truth = x.iter().zip(&weight).map(|(x, w)| f64::from(*x) / (mean + 1e-5).sqrt() * f64::from(*w));
        assert_close(&found, truth, 1e-6);
    }
}

#[test]
fn gates_are_their_functions() {
    for len in LENGTHS {
        for scale in [0.1, 5.0, 200.0] {
            let (gate, up) = (noise(len, 1, scale), noise(len, 2, 1.0));
            let both = |f: fn(f64) -> f64| gate.iter().zip(&up).map(move |(g, u)| f(f64::from(*g)) * f64::from(*u));
            let found = on_all(|kernels| {
                let mut out = vec![f32::NAN; len];
                silu_gate(kernels, &gate, &up, &mut out);
                out
            });
            // Where exp has reached its floor the true value is smaller still: 1e-34 for inputs of 200.
            for (found, truth) in found.iter().zip(both(|x| x / (1.0 + (-x).exp()))) {
                assert!((f64::from(*found) - truth).abs() <= 6e-7 * truth.abs() + 1e-34, "{found} {truth}");
            }
            let found = on_all(|kernels| {
                let mut out = vec![f32::NAN; len];
                relu2_gate(kernels, &gate, &up, &mut out);
                out
            });
            assert_close(&found, both(|x| x.max(0.0).powi(2)), 2e-7);
        }
    }
}

#[test]
fn residual_addition_adds() {
    for len in LENGTHS {
        let (x, y) = (noise(len, 1, 1.0), noise(len, 2, 1.0));
        let found = on_all(|kernels| {
            let mut out = x.clone();
            add_assign(kernels, &mut out, &y);
            out
        });
        assert_eq!(found, x.iter().zip(&y).map(|(x, y)| x + y).collect::<Vec<_>>());
    }
}

#[test]
fn rope_turns_the_pairs_of_its_style() {
    for pairs in [1, 12, 16, 24, 60, 64] {
        let (x, angles) = (noise(3 * 2 * pairs, 1, 1.0), noise(pairs, 2, 3.0));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let neox = on_all(|kernels| {
            let mut out = x.clone();
            rope_neox(kernels, &mut out, &cos, &sin);
            out
        });
        let interleaved = on_all(|kernels| {
            let mut out = x.clone();
            rope_interleaved(kernels, &mut out, &cos, &sin);
            out
        });
        for (head, i) in (0..3).flat_map(|head| (0..pairs).map(move |i| (head * 2 * pairs, i))) {
            for (found, a, b) in [(&neox, head + i, head + i + pairs), (&interleaved, head + 2 * i, head + 2 * i + 1)] {
                let (cos, sin) = (f64::from(cos[i]), f64::from(sin[i]));
                let (p, q) = (f64::from(x[a]), f64::from(x[b]));
                assert!((f64::from(found[a]) - (p * cos - q * sin)).abs() < 3e-7);
                assert!((f64::from(found[b]) - (p * sin + q * cos)).abs() < 3e-7);
            }
        }
    }
}

/// What is no finite number, at each place of a step, must come out as NaN: it has to reach the logits, where it is
/// refused. A maximum that drops a NaN, or a norm of squares that overflow, would turn it into plausible numbers.
#[test]
fn what_is_no_number_stays_none() {
    let all_nan = |what: &str, step: &dyn Fn(Kernels) -> Vec<f32>| {
        for isa in Isa::available() {
            let found = step(Kernels::new(Some(isa)).unwrap());
            assert!(found.iter().all(|x| x.is_nan()), "{what}, {isa}: {found:?}");
        }
    };
    for (len, at) in [(1, 0), (16, 3), (17, 16), (40, 20), (40, 39)] {
        let (good, mut bad) = (noise(len, 1, 1.0), noise(len, 2, 1.0));
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            bad[at] = value;
            all_nan(&format!("RMSNorm with {value}"), &|kernels| {
                let mut out = vec![0.0; len];
                rms_norm(kernels, &bad, &good, 1e-5, &mut out);
                out
            });
        }
        for value in [f32::NAN, -f32::NAN, f32::INFINITY] {
            bad[at] = value;
            all_nan(&format!("softmax with {value}"), &|kernels| vec![run(kernels, Weights(&mut bad.clone()))]);
        }
        for value in [f32::NAN, -f32::NAN] {
            bad[at] = value;
            for (what, gate) in [("SiLU", silu_gate as fn(_, &[f32], &[f32], &mut [f32])), ("ReLU2", relu2_gate)] {
                all_nan(what, &|kernels| {
                    let mut out = vec![0.0; len];
                    gate(kernels, &bad, &good, &mut out);
                    vec![out[at]]
                });
            }
        }
    }
}

struct Weights<'a>(&'a mut [f32]);

impl Step for Weights<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        softmax_weights(l, self.0)
    }
}

#[test]
fn softmax_sums_to_one() {
    for len in LENGTHS {
        let scores = noise(len, 1, 20.0);
        let found = on_all(|kernels| {
            let mut out = scores.clone();
            let inverse = run(kernels, Weights(&mut out));
            out.iter_mut().for_each(|p| *p *= inverse);
            out
        });
        let total: f64 = scores.iter().map(|x| f64::from(*x).exp()).sum();
        assert_close(&found, scores.iter().map(|x| f64::from(*x).exp() / total), 3e-6);
    }
}
