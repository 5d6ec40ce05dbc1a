//! Performance counters through `perf_event_open`: hardware events where there is a PMU, software events everywhere.
//!
//! Each counter is opened on its own (a group read panics in the crate after a failed member) with `inherit`, which
//! covers the threads created afterwards: open them before the engine's pool.

use perf_event::events::{Hardware, Software};
use perf_event::{Builder, Counter};
use suites::record;

enum Slot {
    Open(Counter),
    Unavailable(String),
}

/// The counters of one worker.
pub struct Counters {
    slots: Vec<(&'static str, Slot)>,
}

impl Counters {
    /// Opens what can be opened. Threads created later are counted; call this before any is.
    pub fn open() -> Counters {
        let hardware = [
            ("cycles", Hardware::CPU_CYCLES),
            ("instructions", Hardware::INSTRUCTIONS),
            ("cache-misses", Hardware::CACHE_MISSES),
            ("branch-misses", Hardware::BRANCH_MISSES),
        ];
        let software = [
            ("context-switches", Software::CONTEXT_SWITCHES),
            ("cpu-migrations", Software::CPU_MIGRATIONS),
            ("page-faults", Software::PAGE_FAULTS),
        ];
        let mut slots = Vec::new();
        for (name, event) in hardware {
            let mut builder = Builder::new().kind(event);
            builder.inherit(true);
            slots.push((name, open(builder)));
        }
        for (name, event) in software {
            let mut builder = Builder::new().kind(event);
            // With the kernel excluded, context switches always read 0.
            builder.inherit(true).exclude_kernel(false);
            slots.push((name, open(builder)));
        }
        Counters { slots }
    }

    /// Begins counting.
    pub fn start(&mut self) {
        self.each(Counter::enable);
    }

    /// Stops counting.
    pub fn stop(&mut self) {
        self.each(Counter::disable);
    }

    fn each(&mut self, act: impl Fn(&mut Counter) -> std::io::Result<()>) {
        for (_, slot) in &mut self.slots {
            if let Slot::Open(counter) = slot
                && let Err(error) = act(counter)
            {
                *slot = Slot::Unavailable(error.to_string());
            }
        }
    }

    /// The counts, each with its value or the reason why there is none.
    pub fn read(&mut self) -> Vec<record::Counter> {
        self.slots.iter_mut().map(|(name, slot)| read(name, slot)).collect()
    }
}

fn open(builder: Builder) -> Slot {
    match builder.build() {
        Ok(counter) => Slot::Open(counter),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Slot::Unavailable("no such event here (no PMU: a guest, or an unknown CPU)".to_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Slot::Unavailable(format!("{error}; sysctl kernel.perf_event_paranoid=1 grants it"))
        }
        Err(error) => Slot::Unavailable(error.to_string()),
    }
}

fn read(name: &str, slot: &mut Slot) -> record::Counter {
    let name = name.to_owned();
    let none = |reason: String| record::Counter {
        name: name.clone(),
        value: None,
        enabled_ns: None,
        running_ns: None,
        unavailable: Some(reason),
    };
    match slot {
        Slot::Unavailable(reason) => none(reason.clone()),
        // The crate asserts running <= enabled, which the kernel breaks now and then (its issue 65).
        Slot::Open(counter) => {
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| counter.read_count_and_time())) {
                Ok(Ok(count)) => record::Counter {
                    name: name.clone(),
                    value: Some(count.count),
                    enabled_ns: Some(count.time_enabled),
                    running_ns: Some(count.time_running),
                    unavailable: None,
                },
                Ok(Err(error)) => none(error.to_string()),
                Err(_) => none("the kernel reported more time running than enabled".to_owned()),
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn threads_made_later_are_counted() {
        let mut counters = Counters::open();
        counters.start();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let block = vec![1u8; 8 << 20];
                assert!(std::hint::black_box(&block)[4096] == 1);
            });
        });
        counters.stop();
        for counter in counters.read() {
            assert!(counter.value.is_some() != counter.unavailable.is_some(), "{counter:?}");
            if let ("page-faults", Some(faults)) = (counter.name.as_str(), counter.value) {
                assert!(faults > 0, "an untouched block of 8 MiB faults");
            }
        }
    }
}
