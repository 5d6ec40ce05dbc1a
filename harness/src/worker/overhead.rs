//! What reading energy costs a decode: windows with a meter and without take turns in one process, on one model.

use super::Bench;
use crate::probe::energy::arithmetic::Tally;
use crate::probe::energy::{EnergyMeter, Options};
use crate::protocol::{Mode, Quad};
use anyhow::Result;

impl Bench<'_, '_> {
    /// `quads` times four windows of the cell's decode, and as many of a control whose windows are all without a meter. The
    /// two with a meter are the outer ones and the inner ones by turns, so that drift weighs on both alike.
    pub(super) fn overhead(&mut self, quads: u32, options: &Options) -> Result<Vec<Quad>> {
        debug_assert!(matches!(self.request.mode, Mode::Overhead { .. }));
        let mut all = Vec::new();
        for index in 0..quads * 2 {
            let (sampled, outer) = (index % 2 == 0, index / 2 % 2 == 0);
            let mut quad = Quad { sampled, with_ns: [0; 2], without_ns: [0; 2] };
            for place in 0..4usize {
                let with = (place == 0 || place == 3) == outer;
                let window_ns = self.window(with && sampled, options)?;
                let half = if with { &mut quad.with_ns } else { &mut quad.without_ns };
                half[place / 2] = window_ns;
            }
            all.push(quad);
        }
        Ok(all)
    }

    /// One window, read as a cell's is where `sampled`: a thread of the meter's own, a lap before and one after.
    fn window(&mut self, sampled: bool, options: &Options) -> Result<u64> {
        let workload = self.request.cell.workload;
        let tokens = self.prompt(workload.tokens);
        self.session.truncate(workload.depth() as usize);
        let meter = sampled.then(|| EnergyMeter::of_engine(options, &Tally::default()));
        if let Some(meter) = &meter {
            meter.begin();
        }
        let sample = self.decode(&tokens)?;
        if let Some(meter) = &meter {
            std::hint::black_box(meter.lap());
        }
        Ok(sample.duration_ns)
    }
}
