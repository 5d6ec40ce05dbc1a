//! Binding threads to CPUs.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that the calling thread may run on, ascending.
pub(super) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Binds the calling thread to `cpu`.
pub(super) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Binds the calling thread for as long as it lives, then restores the mask it found.
pub(super) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// `None` if the system refuses: an unpinned leader computes the same, and there is nothing to restore.
    pub(super) fn to(cpu: usize) -> Option<Pinned> {
        let before = sched_getaffinity(None).ok()?;
        pin(cpu).ok()?;
        Some(Pinned { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The mask was in force before, so only a cpuset change in between can refuse it; then the pin is gone too.
        let _ = sched_setaffinity(None, &self.before);
    }
}
