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

    /// As `greedy`, with each level's bound times its factor; `None` if it falls back.
    fn faulty(&mut self, bounded: &BoundedHead<'_>, x: &[f32], factors: (f64, f64)) -> Option<u32> {
        self.input.f32_mut(1).copy_from_slice(x);
        let Bench { pool, kernels, input, scratch, reads } = self;
        pool.enter(|team| {
            bounded.split(team, *kernels, input, scratch);
            let mut bound = bounded.bound(scratch)?;
            let full = reads.full_steps;
            bound.faults = factors;
            let token = bounded.choose(team, *kernels, input, bound, scratch, reads).ok();
            token.filter(|_| reads.full_steps == full)
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

    /// Approximate output and bound of each row, of both levels; none if a sum might overflow.
    fn bounds(&mut self, bounded: &BoundedHead<'_>, x: &[f32]) -> Option<[Vec<(f64, f64)>; 2]> {
        self.input.f32_mut(1).copy_from_slice(x);
        let Bench { pool, kernels, input, scratch, .. } = self;
        pool.enter(|team| {
            bounded.split(team, *kernels, input, scratch);
            let bound = bounded.bound(scratch)?;
            bounded.approximate(team, *kernels, scratch);
            scratch.rows = (0..bounded.copy.rows() as u32).collect();
            bounded.refine(team, *kernels, scratch);
            let first = scratch.near.iter().zip(bounded.copy.norms());
            let first = first.map(|(&near, &norm)| (f64::from(near.value), bound.slack(near, norm)));
            let second = scratch.fine.iter().zip(bounded.copy.norms());
            let second = second.map(|(&near, &norm)| (f64::from(near.value), bound.fine_slack(near, norm)));
            Some([first.collect(), second.collect()])
        })
    }
}

/// Some columns to keep as f16, or none.
fn kept(cols: usize, random: &mut Random) -> Vec<usize> {
    let count = random.below(2) * random.below(KEPT + 1);
    let mut kept: Vec<usize> = (0..count).map(|_| random.below(cols)).collect();
    kept.sort_unstable();
    kept.dedup();
    kept
}

/// What the steps of a test came to.
#[derive(Debug, Default)]
struct Tally {
    steps: u32,
    pruned: u32,
    refused: u32,
    /// Steps in which the first level left more than half of the rows open, and the second no more than half of the panels.
    second: u32,
    /// The largest share of its bound that a row used up, by level.
    worst: [f64; 2],
}

impl Tally {
    /// One step, held against the whole head.
    fn step(&mut self, bench: &mut Bench, (head, bounded): (&Linear, &BoundedHead<'_>), x: &[f32], what: &str) {
        let logits = bench.logits(head, x);
        let finite = logits.iter().all(|logit| logit.is_finite());
        for (level, bounds) in bench.bounds(bounded, x).into_iter().flatten().enumerate() {
            for (row, (&logit, (near, slack))) in logits.iter().zip(bounds).enumerate() {
                let off = (f64::from(logit) - near).abs();
                assert!(off <= slack, "{what} row {row}: {logit} {near} +- {slack}");
                self.worst[level] = self.worst[level].max(if slack > 1e-30 { off / slack } else { 0.0 });
            }
        }
        let before = bench.reads;
        match bench.greedy(bounded, x) {
            Ok(token) => assert!(finite && token == greedy(&logits), "{what}: {token}"),
            Err(error) => assert!(!finite && matches!(error, Error::NotFinite), "{what}"),
        }
        let reads = bench.reads;
        let pruned = reads.full_steps == before.full_steps && finite;
        self.steps += 1;
        self.refused += u32::from(!finite);
        self.pruned += u32::from(pruned);
        self.second += u32::from(pruned && (reads.refined_rows - before.refined_rows) as usize > logits.len() / 2);
        let panel = (PANEL * 2 * bounded.exact.cols()) as u64;
        let most = bounded.first_bytes() as u64
            + (reads.refined_rows - before.refined_rows) * bounded.copy.fine_row_bytes() as u64
            + (2 + logits.len().div_ceil(PANEL) as u64) * panel;
        assert!(reads.bytes - before.bytes <= most && (pruned || reads.bytes - before.bytes >= panel), "{what}: bytes");
    }
}

/// 10,000 steps on heads and activations of every kind; each token is the whole head's, each row within its bounds, and a
/// refusal is one of the whole head's logits.
#[test]
fn tokens_are_those_of_the_whole_head() {
    let (mut random, mut tally) = (Random(1), Tally::default());
    for case in 0..250 {
        let (rows, cols) = (1 + random.below(300), 1 + random.below([40, 300, 600][case % 3]));
        let values = weights(case, rows, cols, &mut random);
        let head = head(rows, cols, &values);
        let bounded = BoundedHead::new(&head, &kept(cols, &mut random)).unwrap();
        let isas = Isa::available();
        let mut bench = Bench::new(isas[case % isas.len()], 1 + case % 3, cols);
        for step in 0..40 {
            let at = random.below(rows) * cols;
            let row: Vec<f32> = values[at..at + cols].iter().map(|w| w.widen()).collect();
            let x = activations(step, &row, &mut random);
            tally.step(&mut bench, (&head, &bounded), &x, &format!("case {case} step {step}"));
        }
    }
    println!("{tally:?}");
    let Tally { steps, pruned, refused, second, worst } = tally;
    assert!(steps == 10_000 && pruned > 5000 && refused > 20 && second > 200, "{pruned} {refused} {second}");
    assert!(worst[0] > 0.3 && worst[1] > 0.1, "{worst:?}");
}

/// Logits that are equal, or neighbours among f32: one weight moves by its last bit, the sum by one of its own.
#[test]
fn ties_and_neighbours_are_told_apart() {
    let (mut random, mut tally, mut close) = (Random(9), Tally::default(), [0; 2]);
    for case in 0..300 {
        // Five rows among many that are none of it.
        let (rows, cols) = (200 + random.below(60), 64 + random.below(200));
        let mut values = weights(0, rows, cols, &mut random);
        for row in (1..rows).filter(|row| row % 23 == 0).take(4) {
            values.copy_within(..cols, row * cols);
            let weight = &mut values[row * cols + random.below(cols)];
            *weight = f16::from_bits(weight.to_bits() ^ (case % 2));
        }
        let head = head(rows, cols, &values);
        let bounded = BoundedHead::new(&head, &kept(cols, &mut random)).unwrap();
        let mut bench = Bench::new(Isa::best(), 1, cols);
        let x: Vec<f32> = values[..cols].iter().map(|w| w.widen() * 3.0 + random.normal() * 1e-3).collect();
        let mut logits = bench.logits(&head, &x);
        logits.sort_by(f32::total_cmp);
        close[0] += usize::from(logits[rows - 1] == logits[rows - 2]);
        close[1] += usize::from(logits[rows - 5..].windows(2).any(|pair| pair[0].next_up() == pair[1]));
        tally.step(&mut bench, (&head, &bounded), &x, &format!("case {case}"));
    }
    println!("{tally:?}, {close:?} with equal and with neighbouring logits");
    assert!(close[0] > 150 && close[1] > 20 && tally.pruned > 250, "{close:?}");
}

/// A row whose logit is what its approximation says plus nearly all of its bound, and one that it beats by little: a bound
/// that is smaller loses it, in most cases, on either level; the right one never does.
#[test]
fn a_bound_that_is_too_small_is_caught() {
    for level in 0..2 {
        let mut wrong = [0; 3];
        for case in 0..200 {
            let mut random = Random(case);
            for (wrong, is) in wrong.iter_mut().zip(adversary(level, &mut random)) {
                *wrong += usize::from(is);
            }
        }
        println!("level {level}: wrong with two bounds too small, and the right one: {wrong:?} of 200");
        assert!(wrong[0] > 100 && wrong[1] > 100 && wrong[2] == 0, "{wrong:?}");
    }
}

/// Whether bounds of a level, two of them too small and the right one, lose the token.
fn adversary(level: usize, random: &mut Random) -> [bool; 3] {
    let (rows, cols) = (64, 2 * GROUP);
    // The first group is zero in all rows but the target, the second in all but its rival, where it is one number.
    let (target, rival) = (random.below(32), 32 + random.below(32));
    let mut values = weights(0, rows, cols, random);
    for (row, values) in values.chunks_exact_mut(cols).enumerate() {
        let (first, second) = values.split_at_mut(GROUP);
        second.fill(if row == rival { f16::ONE } else { f16::ZERO });
        if row != target {
            first.fill(f16::ZERO);
        }
    }
    let head = head(rows, cols, &values);
    let bounded = BoundedHead::new(&head, &[]).unwrap();
    let mut bench = Bench::new(Isa::best(), 1, cols);
    // Along the residual of the target, where Cauchy and Schwarz are equal.
    let (mut exact, mut copy) = (vec![0.0; cols], vec![0.0; cols]);
    head.row_to_f32(target, &mut exact);
    if level == 0 {
        bounded.copy.row_to_f32(target, &mut copy)
    } else {
        bounded.copy.both_to_f32(target, &mut copy)
    }
    let mut x: Vec<f32> = exact.iter().zip(&copy).map(|(w, v)| (w - v) * 1000.0).collect();
    x[GROUP..].fill(0.0);
    let (near, slack) = bench.bounds(&bounded, &x).unwrap()[level][target];
    let logit = f64::from(bench.logits(&head, &x)[target]);
    // The second level's bound has as much of what int8 may lose as of residuals.
    let (share, factors) = if level == 0 { (0.8, [0.5, 0.75, 1.0]) } else { (0.35, [0.15, 0.3, 1.0]) };
    assert!(logit - near > share * slack && logit - near <= slack, "{logit} {near} {slack}");
    factors.map(|factor| {
        // The rival lies between what a faulty bound allows the target and what the target has.
        let between = near + (f64::min(factor, share) * slack + (logit - near)) / 2.0;
        x[GROUP..].fill((between / GROUP as f64) as f32);
        let logits = bench.logits(&head, &x);
        if greedy(&logits) as usize != target {
            return false;
        }
        assert_eq!(bench.greedy(&bounded, &x).unwrap() as usize, target);
        let factors = if level == 0 { (factor, 1.0) } else { (1.0, factor) };
        bench.faulty(&bounded, &x, factors).is_some_and(|token| token as usize != target)
    })
}

#[test]
fn every_isa_and_thread_count_gives_the_same_bits_and_reads() {
    let mut random = Random(5);
    for (rows, cols) in [(1, 1), (16, 32), (33, 31), (70, 256), (100, 257), (40, 800), (17, 1000), (20, 2304)] {
        let values = weights(0, rows, cols, &mut random);
        let head = head(rows, cols, &values);
        let kept: Vec<usize> = (0..cols.min(rows % 5)).collect();
        let bounded = BoundedHead::new(&head, &kept).unwrap();
        let x = activations(0, &vec![0.0; cols], &mut random);
        let mut truth = Bench::new(Isa::Scalar, 1, cols);
        let token = truth.greedy(&bounded, &x).unwrap();
        let bits = |near: &[Near]| near.iter().map(|n| [n.value, n.residual].map(f32::to_bits)).collect::<Vec<_>>();
        for isa in Isa::available() {
            for threads in [1, 2, 3] {
                let mut bench = Bench::new(isa, threads, cols);
                assert_eq!(bench.greedy(&bounded, &x).unwrap(), token);
                assert!(bits(&bench.scratch.near) == bits(&truth.scratch.near), "{isa} {rows} x {cols}");
                let [found, want] = [&mut bench, &mut truth].map(|bench| bench.bounds(&bounded, &x).unwrap());
                assert!(
                    found == want && bits(&bench.scratch.fine) == bits(&truth.scratch.fine),
                    "{isa} {rows} x {cols}"
                );
                assert_eq!(bench.reads, truth.reads);
            }
        }
    }
}

/// Random weights of the synthetic kind, the hardest for a bound: nothing stands out. The wider, the more rows are open.
#[test]
fn few_rows_of_a_large_head_are_left() {
    for (rows, cols, open) in [(32_000, 512, 1000), (8_000, 2560, 3000)] {
        let mut random = Random(2);
        let values: Vec<f16> =
            (0..rows * cols).map(|_| f16::from_bits(random.next() as u16 & 0x87ff | 0x3800)).collect();
        let head = head(rows, cols, &values);
        let bounded = BoundedHead::new(&head, &[]).unwrap();
        let mut bench = Bench::new(Isa::best(), 2, cols);
        for _ in 0..10 {
            let x = activations(0, &vec![0.0; cols], &mut random);
            let logits = bench.logits(&head, &x);
            assert_eq!(bench.greedy(&bounded, &x).unwrap(), greedy(&logits));
        }
        let HeadReads { steps, bytes, refined_rows, rescored_rows, full_steps } = bench.reads;
        let share = bytes as f64 / (steps * bounded.exact_bytes() as u64) as f64;
        println!(
            "{rows} x {cols}: {refined_rows} rows, then {rescored_rows}, {full_steps} full, {share:.3} of the head's bytes"
        );
        assert!(
            steps == 10 && full_steps == 0 && refined_rows / steps < open && share < 0.36,
            "{refined_rows} {share}"
        );
        assert!(bounded.first_bytes() < bounded.exact_bytes() * 27 / 100);
        assert!(bounded.bytes() < bounded.exact_bytes() * 58 / 100);
    }
}

/// A column that carries nearly all of the activations' energy spoils the bound of a copy, and not if it is kept.
#[test]
fn a_large_channel_is_worth_keeping() {
    let (rows, cols, mut random) = (4000, 256, Random(4));
    let values = weights(0, rows, cols, &mut random);
    let head = head(rows, cols, &values);
    let open = [&[][..], &[7]].map(|kept| {
        let bounded = BoundedHead::new(&head, kept).unwrap();
        let (mut bench, mut random) = (Bench::new(Isa::best(), 1, cols), Random(5));
        for _ in 0..20 {
            let mut x = activations(0, &vec![0.0; cols], &mut random);
            x[7] = 200.0;
            let logits = bench.logits(&head, &x);
            assert_eq!(bench.greedy(&bounded, &x).unwrap(), greedy(&logits));
        }
        bench.reads.refined_rows
    });
    println!("{open:?} rows");
    assert!(open[0] > 10 * open[1], "{open:?}");
}

#[test]
fn what_cannot_be_is_refused() {
    let values = weights(0, 40, 50, &mut Random(3));
    let exact = head(40, 50, &values);
    let bounded = BoundedHead::new(&exact, &[49]).unwrap();
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
    let message = BoundedHead::new(&Linear::Q8(q8.unwrap()), &[]).unwrap_err().to_string();
    assert!(message.contains("f16") && message.contains("q8_0"), "{message}");
    for kept in [&[50][..], &[0; KEPT + 1]] {
        assert!(matches!(BoundedHead::new(&exact, kept), Err(Error::Size { .. })));
    }
}
