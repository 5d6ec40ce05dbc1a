//! Time as energy needs it: one clock that stands while the machine sleeps, and one that does not.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Time since some start, without the time that the machine was suspended.
    pub awake: Duration,
    /// The same with it; equal to `awake` where the system has no such clock.
    pub all: Duration,
}

/// What tells the time. Tests have one of their own.
pub trait Clock: Send {
    /// Now.
    fn now(&self) -> Moment;
}

/// The system's clocks.
pub struct System;

impl Clock for System {
    fn now(&self) -> Moment {
        let read = |id| {
            let time = clock_gettime(id);
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        let awake = read(ClockId::Monotonic);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let all = read(ClockId::Boottime);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let all = awake;
        Moment { awake, all }
    }
}
