//! Ctrl-C, SIGTERM and, unless `nohup` is at work, SIGHUP: the workers in flight are killed at once, the driver then finds out
//! by itself.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the signal handler and the driver.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    workers: Arc<Mutex<Vec<Pid>>>,
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
        self.kill_all();
    }

    /// Whether to stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Names a process group to kill; kills it if the interrupt came first.
    pub fn watch(&self, worker: &Child) {
        self.lock().extend(pid(worker));
        if self.requested() {
            self.kill_all();
        }
    }

    /// Kills a watched worker with all it started.
    pub fn kill(&self, worker: &Child) {
        self.lock().iter().filter(|&&watched| Some(watched) == pid(worker)).for_each(kill);
    }

    fn kill_all(&self) {
        self.lock().iter().for_each(kill);
    }

    /// The status of a watched worker that has ended, which frees its process id: it is watched no longer.
    pub fn reap(&self, worker: &mut Child) -> Option<ExitStatus> {
        let mut workers = self.lock();
        let status = worker.try_wait().ok().flatten();
        if status.is_some() {
            workers.retain(|&watched| Some(watched) != pid(worker));
        }
        status
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Pid>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pid(worker: &Child) -> Option<Pid> {
    i32::try_from(worker.id()).ok().and_then(Pid::from_raw)
}

fn kill(worker: &Pid) {
    // An error means that it has ended by itself.
    let _ = kill_process_group(*worker, Signal::KILL);
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does: a handler would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SIGHUP - 1) & 1 == 1)
}
