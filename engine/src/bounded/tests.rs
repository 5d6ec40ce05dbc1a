//! The token against that of the whole f16 head, the bound against both kernels, and bounds that are too small against the
//! tests.

use half::f16;

use super::*;
use crate::kernels::isa::Isa;
use crate::quant::Float16;
use crate::threads::Pool;

/// A small deterministic stream.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Of 0..n.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In -1..1.
    fn real(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Roughly normal.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.real()).sum::<f32>() * 0.707
    }
}

fn head(rows: usize, cols: usize, values: &[f16]) -> Linear {
    let fill = |row: usize, out: &mut [f16]| {
        out.copy_from_slice(&values[row * cols..][..cols]);
        Ok(())
    };
    Linear::F16(F16Matrix::from_rows(rows, cols, fill).unwrap())
}

/// A kind of head: plain, equal rows, near ties, outliers, tiny weights, zeros.
fn weights(kind: usize, rows: usize, cols: usize, random: &mut Random) -> Vec<f16> {
    let mut values: Vec<f16> = (0..rows * cols).map(|_| f16::from_f32(random.normal() * 0.05)).collect();
    match kind % 6 {
        1 => (1..rows).filter(|row| row % 3 > 0).for_each(|row| values.copy_within(..cols, row * cols)),
        2 => {
            // All but the first are the first with a few weights moved by one unit in the last place.
            for row in 1..rows {
                values.copy_within(..cols, row * cols);
                for _ in 0..random.below(3) {
                    let weight = &mut values[row * cols + random.below(cols)];
                    *weight = f16::from_bits(weight.to_bits() ^ 1);
                }
            }
        }
        3 => (0..rows).for_each(|_| values[random.below(rows * cols)] = f16::from_f32(random.real() * 60000.0)),
        4 => values.iter_mut().for_each(|w| *w = f16::from_bits(w.to_bits() & 0x83ff)),
        5 => values.iter_mut().for_each(|w| *w = if random.below(4) > 0 { f16::ZERO } else { *w }),
        _ => {}
    }
    values
}

/// Activations of a kind: plain, huge outliers, zeros, denormal, along a row, near overflow, of very unlike size.
fn activations(kind: usize, row: &[f32], random: &mut Random) -> Vec<f32> {
    let mut x: Vec<f32> = row.iter().map(|_| random.normal()).collect();
    let cols = x.len();
    match kind % 8 {
        1 => (0..3).for_each(|_| x[random.below(cols)] = random.real() * 1e4),
        2 => x.fill(0.0),
        3 => x.iter_mut().for_each(|x| *x *= 1e-42),
        4 => x.iter_mut().zip(row).for_each(|(x, w)| *x = *x * 0.3 + w * 20.0),
        5 => x.iter_mut().for_each(|x| *x *= 1e37),
        6 => x.iter_mut().for_each(|x| *x *= 10f32.powi(random.below(40) as i32 - 20)),
        7 => x.iter_mut().for_each(|x| *x = if random.below(9) > 0 { 0.0 } else { x.signum() * 1e-3 }),
        _ => {}
    }
    x
}

struct Bench {
    pool: Pool,
    kernels: Kernels,
    input: Input,
    scratch: Scratch,
    reads: HeadReads,
}

impl Bench {
    fn new(isa: Isa, threads: usize, cols: usize) -> Bench {
        Bench {
            pool: Pool::new(threads, false).unwrap(),
            kernels: Kernels::new(Some(isa)).unwrap(),
            input: Input::new(1, cols),
            scratch: Scratch::default(),
            reads: HeadReads::default(),
        }
    }

    fn greedy(&mut self, bounded: &BoundedHead<'_>, x: &[f32]) -> Result<u32> {
        self.input.f32_mut(1).copy_from_slice(x);
        let Bench { pool, kernels, input, scratch, reads } = self;
        pool.enter(|team| bounded.greedy(team, *kernels, input, scratch, reads))
    }

    /// As `greedy`, with the bound times `factor`; `None` if it falls back.
    fn faulty(&mut self, bounded: &BoundedHead<'_>, x: &[f32], factor: f64) -> Option<u32> {
        self.input.f32_mut(1).copy_from_slice(x);
        let Bench { pool, kernels, input, scratch, reads } = self;
        pool.enter(|team| {
            input.prepare_q8(team, *kernels);
            let bound = bounded.bound(input, &mut scratch.norms)?;
            let [residual, norm, floor] = [bound.residual, bound.norm, bound.floor].map(|part| part * factor);
            bounded.choose(team, *kernels, input, Bound { residual, norm, floor }, scratch, reads).ok()
        })
    }

    fn logits(&mut self, head: &Linear, x: &[f32]) -> Vec<f32> {
        self.input.f32_mut(1).copy_from_slice(x);
        let Bench { pool, kernels, input, .. } = self;
        let mut logits = vec![0.0; head.rows()];
        pool.enter(|team| {
            input.prepare(team, *kernels, head);
            head.forward(team, *kernels, input, &mut logits);
        });
        logits
    }

    /// Approximate output and bound of each row; none if a sum might overflow.
    fn bounds(&mut self, bounded: &BoundedHead<'_>, x: &[f32]) -> Option<Vec<(f64, f64)>> {
        self.input.f32_mut(1).copy_from_slice(x);
        let Bench { pool, kernels, input, scratch, .. } = self;
        pool.enter(|team| {
            input.prepare_q8(team, *kernels);
            let bound = bounded.bound(input, &mut scratch.norms)?;
            bounded.approximate(team, *kernels, input, scratch);
            let rows = scratch.near.iter().zip(bounded.copy.norms());
            Some(rows.map(|(&near, &norm)| (f64::from(near.value), bound.slack(near, norm))).collect())
        })
    }
}

/// 10,000 steps on heads and activations of every kind; each token is the whole head's, each row within its bound, and a
/// refusal is one of the whole head's logits.
#[test]
fn tokens_are_those_of_the_whole_head() {
    let mut random = Random(1);
    let (mut steps, mut pruned, mut refused, mut worst) = (0, 0, 0, 0.0f64);
    for case in 0..250 {
        let (rows, cols) = (1 + random.below(300), 1 + random.below([40, 300, 600][case % 3]));
        let values = weights(case, rows, cols, &mut random);
        let head = head(rows, cols, &values);
        let bounded = BoundedHead::new(&head).unwrap();
        let isas = Isa::available();
        let mut bench = Bench::new(isas[case % isas.len()], 1 + case % 3, cols);
        for step in 0..40 {
            let at = random.below(rows) * cols;
            let row: Vec<f32> = values[at..at + cols].iter().map(|w| w.widen()).collect();
            let x = activations(step, &row, &mut random);
            let logits = bench.logits(&head, &x);
            let finite = logits.iter().all(|logit| logit.is_finite());
            if let Some(bounds) = bench.bounds(&bounded, &x) {
                for (row, (&logit, (near, slack))) in logits.iter().zip(bounds).enumerate() {
                    let off = (f64::from(logit) - near).abs();
                    assert!(off <= slack, "case {case} step {step} row {row}: {logit} {near} +- {slack}");
                    worst = worst.max(if slack > 1e-30 { off / slack } else { 0.0 });
                }
            }
            let before = bench.reads;
            match bench.greedy(&bounded, &x) {
                Ok(token) => assert!(finite && token == greedy(&logits), "case {case} step {step}: {token}"),
                Err(error) => assert!(!finite && matches!(error, Error::NotFinite)),
            }
            refused += usize::from(!finite);
            pruned += usize::from(bench.reads.full_steps == before.full_steps && finite);
            steps += 1;
        }
    }
    println!("{steps} steps, {pruned} without the whole head, {refused} refused, at worst {worst:.3} of the bound");
    assert!(steps == 10_000 && pruned > 2500 && refused > 20 && worst > 0.3, "{pruned} {refused} {worst}");
}

/// A row whose logit is what its approximation says plus nearly all of its bound, and one that it beats by little: a bound
/// that is smaller by a tenth loses it, in most cases; the right one never does.
#[test]
fn a_bound_that_is_too_small_is_caught() {
    let (rows, cols) = (64, 2 * GROUP);
    let mut wrong = [0; 3];
    for case in 0..200 {
        let mut random = Random(case);
        // The first group is zero in all rows but the target, the second in all but its rival, where it is one number.
        let (target, rival) = (random.below(32), 32 + random.below(32));
        let mut values = weights(0, rows, cols, &mut random);
        for (row, values) in values.chunks_exact_mut(cols).enumerate() {
            let (first, second) = values.split_at_mut(GROUP);
            second.fill(if row == rival { f16::ONE } else { f16::ZERO });
            if row != target {
                first.fill(f16::ZERO);
            }
        }
        let head = head(rows, cols, &values);
        let bounded = BoundedHead::new(&head).unwrap();
        let mut bench = Bench::new(Isa::best(), 1, cols);
        // Along the residual of the target, where Cauchy and Schwarz are equal.
        let (mut exact, mut copy) = (vec![0.0; cols], vec![0.0; cols]);
        head.row_to_f32(target, &mut exact);
        bounded.copy.row_to_f32(target, &mut copy);
        let mut x: Vec<f32> = exact.iter().zip(&copy).map(|(w, v)| (w - v) * 1000.0).collect();
        x[GROUP..].fill(0.0);
        let (near, slack) = bench.bounds(&bounded, &x).unwrap()[target];
        let logit = f64::from(bench.logits(&head, &x)[target]);
        assert!(logit - near > 0.8 * slack && logit - near <= slack, "{logit} {near} {slack}");
        // The rival lies between what a faulty bound allows the target and what the target has.
        for (wrong, factor) in wrong.iter_mut().zip([0.5, 0.75, 1.0]) {
            let between = near + (f64::min(factor, 0.8) * slack + (logit - near)) / 2.0;
            x[GROUP..].fill((between / GROUP as f64) as f32);
            let logits = bench.logits(&head, &x);
            if greedy(&logits) as usize != target {
                continue;
            }
            let token = bench.faulty(&bounded, &x, factor).unwrap();
            *wrong += usize::from(token as usize != target);
            assert_eq!(bench.greedy(&bounded, &x).unwrap() as usize, target);
        }
    }
    println!("wrong with half the bound, three quarters, all of it: {wrong:?} of 200");
    assert!(wrong[0] > 150 && wrong[1] > 150 && wrong[2] == 0, "{wrong:?}");
}

#[test]
fn every_isa_and_thread_count_gives_the_same_bits_and_reads() {
    let mut random = Random(5);
    for (rows, cols) in [(1, 1), (16, 32), (33, 31), (70, 256), (100, 257), (40, 800), (17, 1000)] {
        let values = weights(0, rows, cols, &mut random);
        let head = head(rows, cols, &values);
        let bounded = BoundedHead::new(&head).unwrap();
        let x = activations(0, &vec![0.0; cols], &mut random);
        let mut truth = Bench::new(Isa::Scalar, 1, cols);
        let token = truth.greedy(&bounded, &x).unwrap();
        let bits = |near: &[Near]| near.iter().map(|n| [n.value, n.residual].map(f32::to_bits)).collect::<Vec<_>>();
        for isa in Isa::available() {
            for threads in [1, 2, 3] {
                let mut bench = Bench::new(isa, threads, cols);
                assert_eq!(bench.greedy(&bounded, &x).unwrap(), token);
                assert!(bits(&bench.scratch.near) == bits(&truth.scratch.near), "{isa} {rows} x {cols}");
                assert_eq!(bench.reads, truth.reads);
            }
        }
    }
}

/// Random weights of the synthetic kind, the hardest for a bound: nothing stands out.
#[test]
fn few_rows_of_a_large_head_are_left() {
    let (rows, cols) = (32_000, 512);
    let mut random = Random(2);
    let values: Vec<f16> = (0..rows * cols).map(|_| f16::from_bits(random.next() as u16 & 0x87ff | 0x3800)).collect();
    let head = head(rows, cols, &values);
    let bounded = BoundedHead::new(&head).unwrap();
    let mut bench = Bench::new(Isa::best(), 2, cols);
    for _ in 0..10 {
        let x = activations(0, &vec![0.0; cols], &mut random);
        let logits = bench.logits(&head, &x);
        assert_eq!(bench.greedy(&bounded, &x).unwrap(), greedy(&logits));
    }
    let HeadReads { steps, bytes, rescored_rows, full_steps } = bench.reads;
    println!("{rescored_rows} rows, {full_steps} full, {} bytes a step of {}", bytes / steps, bounded.exact_bytes());
    assert!(steps == 10 && full_steps == 0 && bytes / steps < bounded.exact_bytes() as u64 / 2);
    assert!(bounded.bytes() < bounded.exact_bytes() * 27 / 100);
}

#[test]
fn what_cannot_be_is_refused() {
    let values = weights(0, 40, 50, &mut Random(3));
    let exact = head(40, 50, &values);
    let bounded = BoundedHead::new(&exact).unwrap();
    let mut bench = Bench::new(Isa::best(), 2, 50);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![0.5; 50];
        x[49] = bad;
        assert!(matches!(bench.greedy(&bounded, &x), Err(Error::NotFinite)));
        assert!(bench.logits(&exact, &x).iter().all(|logit| !logit.is_finite()));
    }
    let q8 = crate::quant::Q8Matrix::from_rows(1, 32, |_, out| {
        out.fill(0.5);
        Ok(())
    });
    let message = BoundedHead::new(&Linear::Q8(q8.unwrap())).unwrap_err().to_string();
    assert!(message.contains("f16") && message.contains("q8_0"), "{message}");
}
