//! Ctrl-C, SIGTERM and, unless `nohup` is at work, SIGHUP: the worker in flight is killed at once, the driver then finds out
//! by itself.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the signal handler and the driver.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    worker: Arc<Mutex<Option<Pid>>>,
}

impl Interrupt {
    /// Listens for the signals, in a thread of its own.
    ///
    /// # Errors
    /// The system refuses.
    pub fn install(&self) -> Result<()> {
        let wanted: &[i32] = if ignores_hangup() { &[SIGINT, SIGTERM] } else { &[SIGINT, SIGTERM, SIGHUP] };
        let mut signals = Signals::new(wanted).context("installing the Ctrl-C handler")?;
        let own = self.clone();
        std::thread::spawn(move || signals.forever().for_each(|_| own.request()));
        Ok(())
    }

    /// What the handler does.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.kill();
    }

    /// Whether to stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Names the process group to kill; kills it if the interrupt came first.
    pub fn watch(&self, worker: Pid) {
        *self.lock() = Some(worker);
        if self.requested() {
            self.kill();
        }
    }

    /// Kills the watched worker with all it started.
    pub fn kill(&self) {
        if let Some(pid) = *self.lock() {
            // An error means that it has ended by itself.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Runs `reap`, which may free the process id, and stops watching if it says that it did.
    pub fn reap<T>(&self, reap: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut worker = self.lock();
        let reaped = reap();
        if reaped.is_some() {
            *worker = None;
        }
        reaped
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pid>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does: a handler would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}
