//! A ledger that is read often enough by a thread of its own.

use super::clock::System;
use super::ledger::{Lap, Ledger};
use super::source::{EnergySource, Info};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often sources are read: power is a tenth of a second's, and a counter's wrap is far.
pub const PERIOD: Duration = Duration::from_millis(100);
/// A source's longest gap between two readings is this many periods at least, so that a reading that comes late, or not at
/// all, loses nothing.
pub(crate) const SPARE: u32 = 4;

/// Sources that are being read.
pub struct Meter {
    ledger: Arc<Mutex<Ledger>>,
    poller: Option<(Sender<()>, JoinHandle<()>)>,
    period: Duration,
}

impl Meter {
    /// Reads `sources`, the most trusted first, every `period` or more often if one of them needs it; without one that must be
    /// read, there is no thread.
    pub fn start(sources: Vec<Box<dyn EnergySource>>, period: Duration) -> Meter {
        let idle = sources.iter().all(|source| source.info().refresh.is_zero());
        let mut ledger = Ledger::new(Box::new(System), sources);
        let period = ledger.longest_gap().map_or(period, |gap| period.min(gap / SPARE)).max(Duration::from_millis(1));
        ledger.lap();
        let ledger = Arc::new(Mutex::new(ledger));
        let (stop, stopped) = channel::<()>();
        let shared = Arc::clone(&ledger);
        let poll = move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                lock(&shared).read();
            }
        };
        let thread = if idle { None } else { std::thread::Builder::new().name("energy".to_owned()).spawn(poll).ok() };
        Meter { ledger, poller: thread.map(|thread| (stop, thread)), period }
    }

    /// What has been counted since the last lap, or the start.
    pub fn lap(&self) -> Lap {
        lock(&self.ledger).lap()
    }

    /// What the sources are.
    pub fn infos(&self) -> Vec<Info> {
        lock(&self.ledger).infos().cloned().collect()
    }

    /// How often they are read.
    pub fn period(&self) -> Duration {
        self.period
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.poller.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
