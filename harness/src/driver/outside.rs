//! A cell of an outside engine: enough windows of it in one process, and a record of what it says.

use super::{Driver, child, limit, refused};
use crate::adapters::Engine;
use crate::adapters::llama_bench::{Asked, UNCHECKED};
use crate::probe::energy::EnergyMeter;
use crate::probe::{facts::Facts, phases::Phases, procfs, roofline};
use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use suites::Phase;
use suites::record::{Energy, Failure, Interference, Memory, NotApplicable, Outcome, Outside, Stage};
use suites::run::{Limit, PlannedCell};

/// Windows in one process at most.
pub(crate) const MAX_WINDOWS: u32 = 1000;
/// Processes tried until their windows are as long as the suite asks.
const TRIES: u32 = 4;

impl Driver<'_> {
    /// Runs one cell of an outside engine once. How many windows it takes is known from the cell's earlier blocks; before
    /// there is one, a process with a single window tells, and is the measurement if that is long enough.
    pub(super) fn outside_step(&mut self, cell: &PlannedCell) -> Result<Outcome> {
        let host = self.host;
        let found = host.outside.find(&cell.cell.engine).and_then(|engine| {
            let missing = || format!("no file of {}", cell.cell.model);
            Ok((engine, engine.model(&cell.cell.model).ok_or_else(missing)?))
        });
        let (engine, model) = match found {
            Ok(found) => found,
            Err(reason) => return Ok(Outcome::Na(NotApplicable { reason })),
        };
        let limit = (cell.cell.workload.phase == Phase::Decode).then(|| {
            let bytes = std::fs::metadata(model).map_or(0, |file| file.len());
            roofline::decode(cell.cell.threads as usize, bytes)
        });
        let wanted = u64::try_from(self.suite.min_window.as_nanos()).unwrap_or(u64::MAX);
        for _ in 0..TRIES {
            let windows = self.windows.get(&cell.cell).copied().unwrap_or(1);
            let outside = match self.outside_run(cell, engine, model, windows)? {
                Ok(outside) => outside,
                Err(failure) => return Ok(Outcome::Failed(failure)),
            };
            let measured: u64 = outside.samples.iter().map(|s| s.duration_ns).sum();
            if measured >= wanted || windows == MAX_WINDOWS {
                self.windows.insert(cell.cell.clone(), windows);
                return Ok(Outcome::Outside(Box::new(judged(outside, cell, limit, self.kv_bytes(cell)))));
            }
            self.windows.insert(cell.cell.clone(), more(windows, measured, wanted));
        }
        let message = format!("in {TRIES} processes, no windows of {:.1} s", self.suite.min_window.as_secs_f64());
        Ok(Outcome::Failed(refused("measure", &message)))
    }

    /// Predicted bytes of the cell's KV cache.
    fn kv_bytes(&self, cell: &PlannedCell) -> u64 {
        let model = self.suite.model(&cell.cell.model);
        model.map_or(0, |model| model.kv_bytes(cell.cell.workload.context(), cell.cell.kv))
    }

    /// One process of `windows` windows.
    fn outside_run(
        &self,
        cell: &PlannedCell,
        engine: &Engine,
        model: &Path,
        windows: u32,
    ) -> Result<Result<Outside, Failure>> {
        let asked = Asked { cell: &cell.cell, engine, model, windows };
        let Watched { ran, mut process_energy, interference } =
            match self.watch(&engine.spec.program, &asked.arguments(), self.timeout(cell.predicted_ns))? {
                Ok(watched) => watched,
                Err(failure) => return Ok(Err(failure)),
            };
        let told = match asked.read(&ran.stdout) {
            Ok(told) => told,
            Err(message) => {
                return Ok(Err(Failure { stderr_tail: ran.tail.text(), ..refused("protocol", &message) }));
            }
        };
        if let Energy::Measured(joules) | Energy::Modelled(joules) = &mut process_energy {
            joules.tokens = told.samples.iter().map(|s| u64::from(s.tokens)).sum();
        }
        Ok(Ok(Outside {
            program: told.program,
            model: told.model,
            samples: told.samples,
            unchecked: UNCHECKED.to_owned(),
            memory: Memory {
                peak_rss_bytes: ran.memory.peak,
                rss_anon_bytes: ran.memory.anon,
                rss_file_bytes: ran.memory.file,
                rss_program_bytes: None,
                predicted_bytes: cell.predicted_bytes,
            },
            process_ns: ran.wall.as_nanos() as u64,
            process_energy,
            interference,
            limit: None,
        }))
    }

    /// One process, with the machine at rest before it and after where energy can be measured.
    fn watch(&self, program: &Path, arguments: &[OsString], timeout: Duration) -> Result<Result<Watched, Failure>> {
        let energy = EnergyMeter::open(&self.energy);
        let facts = Facts::of_machine(self.energy.sysfs_root.as_deref());
        let mut phases = Phases::new(&energy, self.suite.idle, facts);
        phases.rest(Stage::IdleBefore);
        let (load_milli, steal) = (procfs::load_milli(), procfs::steal_ns());
        energy.begin();
        let ran = match child::run(program, arguments, timeout, &self.interrupt)? {
            child::Ended::Exited(ran) => ran,
            child::Ended::Failed(failure) => return Ok(Err(failure)),
        };
        let (lap, now) = (energy.judged(energy.lap()), procfs::steal_ns());
        phases.rest(Stage::IdleAfter);
        // What its tokens are, it tells itself.
        let mut process_energy = energy.energy(&lap, 0);
        phases.net(&mut process_energy);
        let interference = Interference {
            steal_ns: now.zip(steal).map(|(now, then)| now.saturating_sub(then)),
            involuntary_switches: None,
            load_milli,
            bandwidth_before: None,
        };
        Ok(Ok(Watched { ran, process_energy, interference }))
    }
}

/// A process that ended, and what was seen of it from outside.
struct Watched {
    ran: child::Ran,
    process_energy: Energy,
    interference: Interference,
}

/// Windows for `wanted` nanoseconds and a margin, where `windows` took `measured`.
fn more(windows: u32, measured: u64, wanted: u64) -> u32 {
    let needed = (f64::from(windows) * 1.15 * wanted as f64 / measured.max(1) as f64).ceil();
    (needed.min(f64::from(MAX_WINDOWS)) as u32).clamp((windows + 1).min(MAX_WINDOWS), MAX_WINDOWS)
}

/// Adds how near the windows came to `limit`, measured just before.
fn judged(mut outside: Outside, cell: &PlannedCell, limit: Option<Limit>, kv_bytes: u64) -> Outside {
    let Some(limit) = limit else { return outside };
    outside.interference.bandwidth_before = limit.per_second.filter(|_| limit.name == "dram");
    let speed = outside.tokens_per_second();
    // Without a depth of its own, the window begins with an empty cache.
    let depth = cell.cell.workload.depth.unwrap_or(0);
    let per_token = outside.model.read_per_token_bytes() + limit::cache_read(cell.cell.workload, depth, kv_bytes);
    outside.limit = speed.and_then(|speed| limit::of(limit, per_token, speed));
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted_from_what_one_took() {
        assert_eq!(more(1, 400, 2_000), 6, "5 and a margin");
        assert_eq!(more(6, 1_990, 2_000), 7, "never as many again");
        assert_eq!(more(1, 0, 2_000), MAX_WINDOWS);
        assert_eq!(more(MAX_WINDOWS, 1, 2_000), MAX_WINDOWS);
    }
}
