//! A model, never a measurement: the share of CPU time that is not idle, times watts that the user names, as bitnet.cpp's script
//! has it (with 200 W). It knows nothing of memory, clocks or what an instruction costs.

use super::source::{Domain, EnergySource, Info, Missing, Part, Raw, Scale, Wraps};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use suites::record::EnergyKind;

/// Busy CPU time of the whole machine as energy.
pub struct CpuTime {
    info: Info,
    stat: PathBuf,
}

impl CpuTime {
    /// With all CPUs busy the machine is taken to draw `watts`, with none 0. `proc` is `/proc`.
    ///
    /// # Errors
    /// CPU time can't be read.
    pub fn open(proc: &Path, watts: f64) -> Result<CpuTime, Missing> {
        let stat = proc.join("stat");
        let (_, cpus) = busy(&stat).map_err(Missing::new)?;
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let scale = Scale::Counter { unit_uj: watts * 1e6 / ticks / f64::from(cpus), wraps: Wraps::Never };
        let domain = Domain { name: format!("{watts} W times busy CPUs"), part: Part::Counted, scale };
        let refresh = Duration::from_secs_f64(1.0 / ticks);
        let info = Info { name: "cpu-time".to_owned(), kind: EnergyKind::Modelled, domains: vec![domain], refresh };
        Ok(CpuTime { info, stat })
    }
}

impl EnergySource for CpuTime {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        vec![busy(&self.stat).map(|(ticks, _)| Raw::Count(ticks))]
    }
}

/// Clock ticks that CPUs were busy for since boot, all together, and how many CPUs there are.
fn busy(stat: &Path) -> Result<(u64, u32), String> {
    let text = fs::read_to_string(stat).map_err(|error| format!("{}: {error}", stat.display()))?;
    let bad = || format!("{}: expected a line `cpu` with seven numbers", stat.display());
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or_else(bad)?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user, nice, system, then idle and waiting for input, then interrupts of both kinds.
    let [user, nice, system, _, _, hard, soft, ..] = fields[..] else { return Err(bad()) };
    let is_cpu =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let cpus = u32::try_from(text.lines().filter(is_cpu).count()).unwrap_or(u32::MAX);
    if cpus == 0 { Err(bad()) } else { Ok((user + nice + system + hard + soft, cpus)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_what_is_not_idle() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(folder.path().join("stat"), text).unwrap();
        write("cpu  10 1 5 80 2 3 4 7 9 9\ncpu0 1 1 1 1 1 1 1 1\ncpu1 1 1 1 1 1 1 1 1\nintr 5\n");
        let mut source = CpuTime::open(folder.path(), 100.0).unwrap_or_else(|missing| panic!("{missing:?}"));
        assert_eq!(source.read(), [Ok(Raw::Count(23))]);
        assert_eq!(source.info().kind, EnergyKind::Modelled);
        let Scale::Counter { unit_uj, .. } = source.info().domains[0].scale else { panic!() };
        // One tick of one of two CPUs.
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        assert!((unit_uj - 100e6 * tick / 2.0).abs() < 1e-6, "{unit_uj}");
        for bad in ["", "cpu 1 2\n", "cpu  1 2 3 4 5 6 7\n"] {
            write(bad);
            assert!(CpuTime::open(folder.path(), 1.0).err().unwrap().reason.contains("stat"), "{bad}");
        }
    }
}
