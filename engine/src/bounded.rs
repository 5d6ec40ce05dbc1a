//! Greedy decoding without reading the whole head: a 4-bit copy says which rows can be the largest, and those alone are
//! computed from the f16 head. The token is that of the f16 head, by the proof below.
//!
//! # A step
//! 1. Of all rows, an approximate output by the copy's first level (4 bits a weight) and a bound on how far the f16 head's may
//!    be from it.
//! 2. The panel of the largest approximation is computed exactly: no row below `L`, the largest in it, can be the answer.
//! 3. Of the rows whose approximation plus bound is not below `L`, and of them alone, the second level (4 bits more) gives a
//!    better approximation and a bound some ten times smaller.
//! 4. The panel of the largest of these is computed exactly too, for a larger `L`. Candidates are the rows whose second
//!    approximation plus bound is not below it. The panels that hold one are computed by the f16 head's own kernel, so to the
//!    same bits (rows of a panel lie side by side: one costs as much as all 16). The largest of them, the lowest row among
//!    equals, is the token. A row that is no candidate is less than `L`, strictly, so it is not even an equal.
//!
//! If candidates are in more than half of the panels, the f16 head is read as a stream as ever, and the step has cost what
//! the copy takes on top of it. So it is if a logit might overflow. Where activations are no finite numbers no logit is
//! one, and the step is refused as the f16 head's logits would be.
//!
//! # The bound
//! Let first no column be kept as f16. For one row of `n` columns: weights `w`; copies `v = s c` (`s` the scale of a group of columns, `c` a whole number) and,
//! of the second level, `z = r d` of `w - v`; `x` the f32 activations; `y = t a` what int8 makes of them (`t` the step of a
//! block of 32, `a` a whole number). `E` is what the f16 kernel computes, `A` the first approximation, `B` the second. With
//! u = 2^-24 and g(k) = k u / (1 - k u), Higham's gamma (Accuracy and Stability of Numerical Algorithms, 2nd ed., section
//! 3.1):
//!
//! - `E` is a chain of n fused multiply-adds, each rounded once, so |E - w.x| <= g(n) sum |w_i x_i| <= g(n) |w| |x| by
//!   Cauchy and Schwarz, and what is lost below the normal numbers: at most 2^-150 a step.
//! - w.x - v.y = (w - v).x + v.(x - y), and |(w - v).x| <= R = sum over groups of |w - v| |x|, each the group's own norm;
//!   |v.(x - y)| <= |v| D, where D is the norm of x - y.
//! - `A` sums, per block, an exact whole number (at most 32 x 126 x 128 < 2^24, so exact as f32 too) times `t`, at most 8
//!   blocks a group by fused multiply-add, then the groups times `s`: every term passes at most 9 + n / 256 roundings,
//!   fewer than n + 9. So |A - v.y| <= g(n + 9) sum over blocks of |s t dot| <= g(n + 9) |v| |y| <= g(n + 9) |v| (|x| + D).
//!   Losses below the normal numbers: 2^-150 a block, each times `s` < 2^11 afterwards, and 2^-150 a group.
//!
//! Together, with N at least |w|, |v|, |z| and |v + z|: |E - A| <= R + N D + (g(n) + g(n + 9)) N (|x| + D) + 2^-110. The
//! losses are less than (2^22 + 2^17 2^11 + 2^14) 2^-150 < 2^-121 as n <= 2^22.
//!
//! The second level is the same with v + z in place of `v` and its own R. `B` is `A` plus a sum whose terms pass at most 6 +
//! n / 256 roundings (a product with `t`, a fused multiply-add a group, three halvings of eight sums), each an exact whole
//! number (at most 32 x 15 x 128) times `t` and `r` < 2^13, and then one rounding for both: |B - (v + z).y| <= g(n + 10) (|v| +
//! |z|) (|x| + D). So |E - B| <= R + N D + (g(n) + 2 g(n + 10)) N (|x| + D) + 2^-110.
//!
//! With k <= 16 columns kept as f16, `x` and `w` are split in `x1`, `w1` on those and `x'`, `w'` on the others, and all that is
//! said of the copies and of y is said of `x'` and `w'`. `A` begins with a chain of k fused multiply-adds of `w1` and `x1`: no
//! term passes more than k + 9 + n / 256 roundings, so that the sum of the terms' magnitudes grows by |w1| |x1| <= N |x|, and the
//! bounds become R + N D + (g(n) + 2 g(n + 26)) N (|x| + D) + 2^-110 and the same with 3 for 2, where |x| is of all of `x`.
//!
//! Everything in it is rounded up or made larger than its own rounding: norms are computed in f64 from exact differences
//! (those of x - y have 53 bits at most but for blocks whose values lie far apart, and then err by 2^-53) and enlarged by
//! 2^-20; R is a chain of m <= 2^14 fused multiply-adds of positive f32 (or eight, and three additions), so the true sum is
//! at most (1 + 2 (m + 3) u) times what was computed; the rest is f64, whose roundings g(n + 48) in place of g(n + 26)
//! outweighs.
//!
//! Nothing overflows, else the step falls back: N (|x| + D) < 2^126 bounds every partial sum of `E`, `A` and what `B` adds to
//! it, and |x| + D < 2^100 those within a group, which are less than 2^23 |x|.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::generate::greedy;
use crate::input::Input;
use crate::kernels::bounded::{self as kernel, Near, Ordered, Probe};
use crate::kernels::float16;
use crate::kernels::isa::Kernels;
use crate::linear::Linear;
use crate::model::{Model, Session, SessionOptions};
use crate::quant::bounded::{BLOCK, BoundedMatrix, GROUP, GROUP_BLOCKS, f32_up, up};
use crate::quant::{F16Matrix, PANEL};
use crate::threads::{Pool, Team};

/// Columns kept as f16, if any are worth it.
pub const KEPT: usize = 16;
/// What share of the squares' sum these must have: the bound falls by the root of what is left, and they cost 6 % of what a
/// copy of 1024 columns takes.
const LARGE: f64 = 0.1;
/// Tokens that show which columns they are.
const CALIBRATION: usize = 64;

/// An f16 head and its 4-bit copy.
#[derive(Debug)]
pub struct BoundedHead<'m> {
    exact: &'m F16Matrix,
    copy: BoundedMatrix,
}

/// What the head read in greedy decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadReads {
    /// Tokens chosen.
    pub steps: u64,
    /// Weight bytes read for them, of both levels of the copy and of the f16 head.
    pub bytes: u64,
    /// Rows that the first level left open: those read of the second.
    pub refined_rows: u64,
    /// Rows computed from the f16 head, where candidates alone were (all of a panel's if one is a candidate).
    pub rescored_rows: u64,
    /// Steps that read all of the f16 head.
    pub full_steps: u64,
}

/// Working memory of a step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The activations without the columns kept as f16, and those.
    rest: Option<Input>,
    kept: Vec<f32>,
    near: Vec<Near>,
    /// Upper bounds of the norms of groups of activations.
    norms: Vec<f32>,
    ordered: Ordered,
    /// Per panel: which of its rows are open, a bit each.
    open: Vec<u16>,
    /// Those rows, and what both levels say of them.
    rows: Vec<u32>,
    fine: Vec<Near>,
    /// The panels that hold a candidate.
    panels: Vec<usize>,
    /// Outputs of those panels, or of all rows.
    exact: Vec<f32>,
}

/// The bound of a row of residual sum `near.residual` and norm `N`: `residual x near.residual + norm x N + floor`, with
/// `fine_norm` for `norm` on the second level.
#[derive(Clone, Copy, Debug)]
struct Bound {
    residual: f64,
    norm: f64,
    fine_norm: f64,
    floor: f64,
    /// What tests multiply each level's bound by.
    #[cfg(test)]
    faults: (f64, f64),
}

impl Bound {
    fn slack(&self, near: Near, norm: f32) -> f64 {
        let slack = self.residual * f64::from(near.residual) + self.norm * f64::from(norm) + self.floor;
        #[cfg(test)]
        let slack = slack * self.faults.0;
        slack
    }

    fn fine_slack(&self, near: Near, norm: f32) -> f64 {
        let slack = self.residual * f64::from(near.residual) + self.fine_norm * f64::from(norm) + self.floor;
        #[cfg(test)]
        let slack = slack * self.faults.1;
        slack
    }

    /// Whether the row's exact output is surely less than `least`; not if anything is no number.
    fn below(&self, near: Near, norm: f32, least: f64) -> bool {
        f64::from(near.value) + self.slack(near, norm) < least
    }

    fn fine_below(&self, near: Near, norm: f32, least: f64) -> bool {
        f64::from(near.value) + self.fine_slack(near, norm) < least
    }
}

/// The activations split, as the kernels read them; none before the first step.
fn probe<'s>(rest: Option<&'s Input>, kept: &'s [f32], norms: &'s [f32]) -> Option<Probe<'s>> {
    let (int8, steps) = rest?.q8().token(0);
    Some(Probe { int8, steps, norms, kept })
}

/// The [`KEPT`] channels with the largest activations before the head, if these are [`LARGE`] of their squares' sum: over a
/// few tokens spread over the vocabulary. (Which they are changes what is read, never a token.)
fn large_channels(model: &Model, pool: &Pool, kernels: Kernels) -> Result<Vec<usize>> {
    let (vocab, hidden) = (model.config().vocab, model.config().hidden);
    let count = CALIBRATION.min(model.config().context);
    let tokens: Vec<u32> = (0..count).map(|i| (vocab * (2 * i + 1) / (2 * count)) as u32).collect();
    let mut session = Session::new(model, pool, kernels, SessionOptions::new(count))?;
    let mut squares = vec![0.0; hidden];
    session.head_inputs(&tokens, |values| {
        values.iter().zip((0..hidden).cycle()).for_each(|(x, i)| squares[i] += f64::from(*x) * f64::from(*x));
    })?;
    let mut channels: Vec<usize> = (0..hidden).collect();
    channels.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    channels.truncate(KEPT);
    channels.sort_unstable();
    let share = channels.iter().map(|&i| squares[i]).sum::<f64>() / squares.iter().sum::<f64>();
    Ok(if share > LARGE { channels } else { Vec::new() })
}

impl<'m> BoundedHead<'m> {
    /// Makes the copy of a model's head, in parallel; it takes about half of the head's memory beside it. A few tokens are
    /// evaluated, to see whether some channels' activations are much larger than others': those columns are kept as f16.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the head is not f16; [`Error::Weight`] if a weight is no finite number.
    pub fn of(model: &'m Model, pool: &Pool, kernels: Kernels) -> Result<BoundedHead<'m>> {
        BoundedHead::new(model.head(), &large_channels(model, pool, kernels)?)
    }

    /// As [`BoundedHead::of`], with at most [`KEPT`] columns that the caller chose.
    ///
    /// # Errors
    /// As [`BoundedHead::of`], and [`Error::Size`] for other columns.
    pub fn new(head: &'m Linear, kept: &[usize]) -> Result<BoundedHead<'m>> {
        let Linear::F16(exact) = head else {
            let (name, expected) = ("output".to_owned(), "an f16 head, for a bounded copy of it".to_owned());
            return Err(Error::Tensor { name, expected, found: head.kind().to_owned() });
        };
        let most = kept.iter().max().map_or(0, |col| col + 1);
        if kept.len() > KEPT || most > exact.cols() {
            let expected = format!("at most {KEPT} columns of {}", exact.cols());
            return Err(Error::Size { what: "columns kept as f16", expected, found: kept.len().max(most) });
        }
        Ok(BoundedHead { exact, copy: BoundedMatrix::new(exact, kept)? })
    }

    /// Bytes of the copy's first level: read in every step.
    pub fn first_bytes(&self) -> usize {
        self.copy.bytes()
    }

    /// Bytes of both levels of the copy.
    pub fn bytes(&self) -> usize {
        self.copy.bytes() + self.copy.fine_bytes()
    }

    /// Bytes of the f16 head: what a step reads without the copy.
    pub fn exact_bytes(&self) -> usize {
        size_of_val(self.exact.packed())
    }

    /// The columns kept as f16.
    pub fn kept(&self) -> &[usize] {
        self.copy.kept()
    }

    /// Whether `head` is the one that this is the copy of.
    pub(crate) fn is_of(&self, head: &Linear) -> bool {
        matches!(head, Linear::F16(matrix) if std::ptr::eq(matrix, self.exact))
    }

    /// The token that the f16 head's logits of the one token in `input` would give: the largest, the lowest among equals.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if one of the logits is no finite number.
    pub(crate) fn greedy(
        &self,
        team: &Team<'_>,
        kernels: Kernels,
        input: &mut Input,
        scratch: &mut Scratch,
        reads: &mut HeadReads,
    ) -> Result<u32> {
        if input.f32().iter().any(|x| !x.is_finite()) {
            return Err(Error::NotFinite);
        }
        reads.steps += 1;
        self.split(team, kernels, input, scratch);
        match self.bound(scratch) {
            Some(bound) => self.choose(team, kernels, input, bound, scratch, reads),
            None => self.full(team, kernels, input, scratch, reads),
        }
    }

    /// Takes the activations of the columns kept as f16 out, and makes the others int8.
    fn split(&self, team: &Team<'_>, kernels: Kernels, input: &Input, scratch: &mut Scratch) {
        let rest = scratch.rest.get_or_insert_with(|| Input::new(1, self.copy.cols()));
        let values = rest.f32_mut(1);
        values.copy_from_slice(input.f32());
        scratch.kept.clear();
        scratch.kept.extend(self.copy.kept().iter().map(|&col| std::mem::take(&mut values[col])));
        rest.prepare_q8(team, kernels);
    }

    /// The bound for these activations; `norms` become those of their groups. `None` if a sum might overflow.
    fn bound(&self, Scratch { rest, kept, norms, .. }: &mut Scratch) -> Option<Bound> {
        let rest = rest.as_ref()?;
        let (int8, steps) = rest.q8().token(0);
        let (mut whole, mut lost) = (kept.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>(), 0.0);
        norms.clear();
        for (x, (a, steps)) in rest.f32().chunks(GROUP).zip(int8.chunks(GROUP).zip(steps.chunks(GROUP_BLOCKS))) {
            let mut square = 0.0;
            for (i, (&x, &a)) in x.iter().zip(a).enumerate() {
                let x = f64::from(x);
                let off = x - f64::from(a) * f64::from(steps[i / BLOCK].step);
                square += x * x;
                lost += off * off;
            }
            norms.push(f32_up(up(square.sqrt())));
            whole += square;
        }
        let (whole, lost) = (up(whole.sqrt()), up(lost.sqrt()));
        let most = whole + lost;
        if !(most < 2f64.powi(100) && most * f64::from(self.copy.largest_norm()) < 2f64.powi(126)) {
            return None;
        }
        let unit = 2f64.powi(-24);
        let gamma = |roundings: usize| roundings as f64 * unit / (1.0 - roundings as f64 * unit);
        Some(Bound {
            residual: 1.0 + 2.0 * (norms.len() + 4) as f64 * unit,
            norm: lost + 3.0 * gamma(self.copy.cols() + 48) * most,
            fine_norm: lost + 4.0 * gamma(self.copy.cols() + 48) * most,
            floor: 2f64.powi(-110),
            #[cfg(test)]
            faults: (1.0, 1.0),
        })
    }

    /// Steps 1 to 4.
    fn choose(
        &self,
        team: &Team<'_>,
        kernels: Kernels,
        input: &Input,
        bound: Bound,
        scratch: &mut Scratch,
        reads: &mut HeadReads,
    ) -> Result<u32> {
        let best = self.approximate(team, kernels, scratch);
        let least = self.largest_of_panel(kernels, input, best);
        self.list_open(team, bound, least, scratch);
        self.refine(team, kernels, scratch);
        let larger =
            |best: usize, this: usize| if scratch.fine[this].value > scratch.fine[best].value { this } else { best };
        let best_fine = (0..scratch.rows.len()).reduce(larger).map_or(best, |k| scratch.rows[k] as usize);
        let mut computed = 1;
        let least = if best_fine / PANEL == best / PANEL {
            least
        } else {
            computed += 1;
            least.max(self.largest_of_panel(kernels, input, best_fine))
        };
        reads.bytes += (self.copy.bytes() + scratch.rows.len() * self.copy.fine_row_bytes()) as u64;
        reads.bytes += computed * self.panel_bytes();
        reads.refined_rows += scratch.rows.len() as u64;

        let Scratch { rows, fine, panels, .. } = &mut *scratch;
        panels.clear();
        for (&row, &near) in rows.iter().zip(&*fine) {
            let (row, norm) = (row as usize, self.copy.norms()[row as usize]);
            if !bound.fine_below(near, norm, least) && panels.last() != Some(&(row / PANEL)) {
                panels.push(row / PANEL);
            }
        }
        let all = self.copy.rows().div_ceil(PANEL);
        if panels.is_empty() || panels.len() > all.div_ceil(2) {
            return self.full(team, kernels, input, scratch, reads);
        }
        Ok(self.largest_of_candidates(team, kernels, input, scratch, reads))
    }

    /// The largest exact output of the candidates' panels, the lowest row among equals.
    fn largest_of_candidates(
        &self,
        team: &Team<'_>,
        kernels: Kernels,
        input: &Input,
        Scratch { panels, exact, .. }: &mut Scratch,
        reads: &mut HeadReads,
    ) -> u32 {
        exact.clear();
        exact.resize(panels.len() * PANEL, f32::NEG_INFINITY);
        team.split(exact, PANEL, |first, out| {
            for (&panel, out) in panels[first / PANEL..].iter().zip(out.chunks_exact_mut(PANEL)) {
                self.rescore(kernels, input, panel, out);
            }
        });
        let live = |panel: &usize| (self.copy.rows() - panel * PANEL).min(PANEL) as u64;
        reads.rescored_rows += panels.iter().map(live).sum::<u64>();
        reads.bytes += panels.len() as u64 * self.panel_bytes();
        let found = greedy(exact) as usize;
        (panels[found / PANEL] * PANEL + found % PANEL) as u32
    }

    /// Bytes of a panel of the f16 head.
    fn panel_bytes(&self) -> u64 {
        (PANEL * self.exact.cols() * size_of::<half::f16>()) as u64
    }

    /// The largest exact output of the panel of `row`.
    fn largest_of_panel(&self, kernels: Kernels, input: &Input, row: usize) -> f64 {
        let mut panel = [f32::NEG_INFINITY; PANEL];
        self.rescore(kernels, input, row / PANEL, &mut panel);
        f64::from(panel.into_iter().fold(f32::NEG_INFINITY, f32::max))
    }

    /// Lists the rows that the first level does not put below `least`.
    fn list_open(&self, team: &Team<'_>, bound: Bound, least: f64, scratch: &mut Scratch) {
        let Scratch { near, open, rows, .. } = scratch;
        open.resize(self.copy.rows().div_ceil(PANEL), 0);
        team.split(open, 1, |first, open| {
            let near = near.chunks(PANEL).zip(self.copy.norms().chunks(PANEL)).skip(first);
            for (open, (near, norms)) in open.iter_mut().zip(near) {
                let bits = near.iter().zip(norms).enumerate();
                *open = bits.fold(0, |bits, (r, (&n, &norm))| bits | u16::from(!bound.below(n, norm, least)) << r);
            }
        });
        rows.clear();
        for (panel, &bits) in open.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            rows.extend((0..PANEL as u32).filter(|r| bits >> r & 1 == 1).map(|r| (panel * PANEL) as u32 + r));
        }
    }

    /// What both levels say of the rows listed.
    fn refine(&self, team: &Team<'_>, kernels: Kernels, scratch: &mut Scratch) {
        let Scratch { rest, kept, near, norms, ordered, rows, fine, .. } = scratch;
        let Some(probe) = probe(rest.as_ref(), kept, norms) else { return };
        ordered.set(probe);
        fine.resize(rows.len(), Near::default());
        team.split(fine, 4, |first, fine| {
            let picked = &rows[first..][..fine.len()];
            kernel::refine(kernels, &self.copy, ordered, (picked, near), fine);
        });
    }

    /// Approximate outputs of all rows; the row of the largest.
    fn approximate(&self, team: &Team<'_>, kernels: Kernels, scratch: &mut Scratch) -> usize {
        let Scratch { rest, kept, near, norms, .. } = scratch;
        let Some(probe) = probe(rest.as_ref(), kept, norms) else { return 0 };
        near.resize(self.copy.rows(), Near::default());
        let best = Mutex::new((f32::NEG_INFINITY, 0));
        team.split(near, PANEL, |first, near| {
            kernel::gemv(kernels, &self.copy, probe, first, near);
            let better = |best: (f32, usize), this: (f32, usize)| if this.0 > best.0 { this } else { best };
            let own = near.iter().map(|near| near.value).zip(first..).fold((f32::NEG_INFINITY, first), better);
            let mut best = best.lock().unwrap_or_else(PoisonError::into_inner);
            if own.0 > best.0 || own.0 == best.0 && own.1 < best.1 {
                *best = own;
            }
        });
        best.into_inner().unwrap_or_else(PoisonError::into_inner).1
    }

    /// The f16 head's outputs of a panel; `out` keeps what it holds beyond the last row.
    fn rescore(&self, kernels: Kernels, input: &Input, panel: usize, out: &mut [f32]) {
        let live = (self.exact.rows() - panel * PANEL).min(PANEL);
        float16::gemv(kernels, self.exact, input.f32(), panel * PANEL, &mut out[..live]);
    }

    /// The f16 head as ever.
    fn full(
        &self,
        team: &Team<'_>,
        kernels: Kernels,
        input: &Input,
        scratch: &mut Scratch,
        reads: &mut HeadReads,
    ) -> Result<u32> {
        reads.full_steps += 1;
        reads.bytes += self.exact_bytes() as u64;
        let exact = &mut scratch.exact;
        exact.resize(self.exact.rows(), 0.0);
        team.split(exact, 4 * PANEL, |first, out| float16::gemv(kernels, self.exact, input.f32(), first, out));
        if exact.iter().all(|logit| logit.is_finite()) { Ok(greedy(exact)) } else { Err(Error::NotFinite) }
    }
}

#[cfg(test)]
mod tests;
