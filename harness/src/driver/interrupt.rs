//! Ctrl-C: the worker in flight is killed at once, the driver then finds out by itself.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the signal handler and the driver.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
    worker: Arc<Mutex<Option<Pid>>>,
}

impl Interrupt {
    /// Installs the handler (once a process).
    ///
    /// # Errors
    /// A handler is installed already.
    pub fn install(&self) -> Result<()> {
        let own = self.clone();
        ctrlc::set_handler(move || own.request()).context("installing the Ctrl-C handler")
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
