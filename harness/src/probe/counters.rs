//! Performance counters through `perf_event_open`: hardware events where there is a PMU, software events everywhere.
//!
//! Each counter is opened on its own (a group read panics in the crate after a failed member). Those of the process have
//! `inherit`, which covers the threads created afterwards: open them before the engine's pool. Those of a thread are opened by its
//! id, after it was made. A PMU counts few events at once: where each thread has a counter of one, that of the process is closed
//! and its count is their sum, so that the kernel need not let them take turns.
//!
//! Where `perf_event_open` is forbidden, software events are what `/proc` keeps of each thread.

mod kept;

use self::kept::{Kept, Tasks};
use perf_event::events::{Event, Hardware, Software};
use perf_event::{Builder, Counter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::path::Path;
use suites::record::{self, ThreadCounters};

/// Open files left to everything else when there are many threads.
const SPARE_FILES: u64 = 256;

/// This process's threads.
const TASKS: &str = "/proc/self/task";

/// Hardware events come first in [`slots`].
const HARDWARE: usize = 4;

enum Slot {
    Open(Counter),
    /// Closed: the count is the sum of all threads'.
    OfThreads,
    /// From `/proc`.
    Kept(Kept),
    Unavailable(String),
}

/// Each event with its counter.
type Slots = Vec<(&'static str, Slot)>;

/// A thread of this process: its number in the pool, and the kernel's id of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// From 0, which is the thread that calls the pool.
    pub number: u32,
    /// As in `/proc/self/task`.
    pub id: i32,
}

/// The counters of one worker.
pub struct Counters {
    slots: Slots,
    threads: Vec<(Thread, Slots)>,
}

impl Counters {
    /// Opens what can be opened. Threads created later are counted; call this before any is.
    pub fn open() -> Counters {
        let slots = slots(inherited, &Tasks::All(TASKS.into()));
        Counters { slots, threads: Vec::new() }
    }

    /// Opens counters of each of `threads`, which are there already; all that count are `all` of them. Where the system allows
    /// too few open files, none is opened, and stderr tells it.
    pub fn open_threads(&mut self, threads: &[Thread], all: usize) {
        let files = (threads.len() * self.slots.len()) as u64 + SPARE_FILES;
        if !room_for(files) {
            eprintln!("no counters of each thread: they take {files} open files, more than the limit");
            return;
        }
        let of = |thread: &Thread| {
            let task = Tasks::One(Path::new(TASKS).join(thread.id.to_string()));
            (*thread, slots(|builder| builder.observe_pid(thread.id), &task))
        };
        self.threads = threads.iter().map(of).collect();
        if threads.len() == all {
            self.leave_to_threads(HARDWARE);
        }
    }

    /// Closes the process's counters of the first `count` events, as far as each thread has one.
    fn leave_to_threads(&mut self, count: usize) {
        for (index, (_, slot)) in self.slots.iter_mut().enumerate().take(count) {
            let mut counters = self.threads.iter().map(|(_, slots)| &slots[index].1);
            if counters.len() > 0 && counters.all(|slot| matches!(slot, Slot::Open(_))) {
                *slot = Slot::OfThreads;
            }
        }
    }

    /// Begins counting.
    pub fn start(&mut self) {
        each(&mut self.slots, Counter::enable, Kept::start);
        self.threads.iter_mut().for_each(|(_, slots)| each(slots, Counter::enable, Kept::start));
    }

    /// Stops counting.
    pub fn stop(&mut self) {
        self.threads.iter_mut().for_each(|(_, slots)| each(slots, Counter::disable, Kept::stop));
        each(&mut self.slots, Counter::disable, Kept::stop);
    }

    /// The counts of the process, each with its value or the reason why there is none.
    pub fn read(&mut self) -> Vec<record::Counter> {
        let one = |(index, (name, slot)): (usize, &mut (&'static str, Slot))| match slot {
            Slot::OfThreads => sum(name, self.threads.iter_mut().map(|(_, slots)| read(name, &mut slots[index].1))),
            slot => read(name, slot),
        };
        self.slots.iter_mut().enumerate().map(one).collect()
    }

    /// The counts of each thread that have a value; threads without any are left out.
    pub fn read_threads(&mut self) -> Vec<ThreadCounters> {
        let of = |(thread, slots): &mut (Thread, Slots)| {
            let all = slots.iter_mut().map(|(name, slot)| read(name, slot));
            let counters: Vec<record::Counter> = all.filter(|counter| counter.value.is_some()).collect();
            (!counters.is_empty()).then_some(ThreadCounters { thread: thread.number, counters })
        };
        self.threads.iter_mut().filter_map(of).collect()
    }
}

/// The threads of the engine's pool: the calling thread is number 0, the others are named `worker-1` and so on.
pub fn pool_threads() -> Vec<Thread> {
    pool_below(Path::new(TASKS), rustix::thread::gettid().as_raw_nonzero().get())
}

/// The same of a folder of tasks. A number that two threads claim is neither's.
fn pool_below(tasks: &Path, caller: i32) -> Vec<Thread> {
    let mut claims: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
    for task in std::fs::read_dir(tasks).into_iter().flatten().flatten() {
        let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let number = name.trim_end().strip_prefix("worker-").and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|&number| number > 0 && id != caller) {
            claims.entry(number).or_default().push(id);
        }
    }
    let workers = claims.into_iter().filter(|(_, ids)| ids.len() == 1);
    let workers = workers.flat_map(|(number, ids)| ids.into_iter().map(move |id| Thread { number, id }));
    std::iter::once(Thread { number: 0, id: caller }).chain(workers).collect()
}

/// Whether this process may have `files` open; its soft limit is raised to that many if it must be.
fn room_for(files: u64) -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(files), maximum };
    current.is_none_or(|most| files <= most) || setrlimit(Resource::Nofile, wanted).is_ok()
}

/// As of threads that are made later.
fn inherited(mut builder: Builder<'_>) -> Builder<'_> {
    builder.inherit(true);
    builder
}

/// Every event, each opened with what `of` says of whom it counts, or as `/proc` keeps it of `tasks`.
fn slots(of: impl for<'a> Fn(Builder<'a>) -> Builder<'a>, tasks: &Tasks) -> Slots {
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
    let hardware = hardware.into_iter().map(|(name, event)| (name, Event::from(event), false));
    // With the kernel excluded, context switches always read 0.
    let software = software.into_iter().map(|(name, event)| (name, Event::from(event), true));
    let one = |(name, event, kernel): (&'static str, Event, bool)| {
        let mut builder = Builder::new().kind(event);
        builder.exclude_kernel(!kernel);
        let slot = match open(of(builder)) {
            Slot::Unavailable(reason) => Kept::open(name, tasks.clone()).map_or(Slot::Unavailable(reason), Slot::Kept),
            slot => slot,
        };
        (name, slot)
    };
    hardware.chain(software).map(one).collect()
}

fn each(slots: &mut Slots, act: impl Fn(&mut Counter) -> std::io::Result<()>, kept: impl Fn(&mut Kept)) {
    for (_, slot) in slots {
        match slot {
            Slot::Open(counter) => {
                if let Err(error) = act(counter) {
                    *slot = Slot::Unavailable(error.to_string());
                }
            }
            Slot::Kept(counter) => kept(counter),
            Slot::OfThreads | Slot::Unavailable(_) => {}
        }
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

fn unavailable(name: &str, reason: String) -> record::Counter {
    record::Counter {
        name: name.to_owned(),
        value: None,
        enabled_ns: None,
        running_ns: None,
        unavailable: Some(reason),
    }
}

/// Threads' counters of one event as one; one that has no value makes the sum have none.
fn sum(name: &str, threads: impl Iterator<Item = record::Counter>) -> record::Counter {
    let zero = Some(0);
    let mut all =
        record::Counter { name: name.to_owned(), value: zero, enabled_ns: zero, running_ns: zero, unavailable: None };
    let add = |a: Option<u64>, b: Option<u64>| a?.checked_add(b?);
    for one in threads {
        if one.unavailable.is_some() {
            return one;
        }
        all.value = add(all.value, one.value);
        all.enabled_ns = add(all.enabled_ns, one.enabled_ns);
        all.running_ns = add(all.running_ns, one.running_ns);
    }
    if all.value.is_some() { all } else { unavailable(name, "the threads' counts are too many to add up".to_owned()) }
}

fn read(name: &str, slot: &mut Slot) -> record::Counter {
    match slot {
        Slot::Unavailable(reason) => unavailable(name, reason.clone()),
        Slot::OfThreads => unavailable(name, "no thread has one".to_owned()),
        Slot::Kept(kept) => match kept.value() {
            Some(value) => record::Counter {
                name: name.to_owned(),
                value: Some(value),
                enabled_ns: None,
                running_ns: None,
                unavailable: None,
            },
            None => unavailable(name, "not counted yet, or a thread ended meanwhile".to_owned()),
        },
        // The crate asserts running <= enabled, which the kernel breaks now and then (its issue 65).
        Slot::Open(counter) => {
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| counter.read_count_and_time())) {
                Ok(Ok(count)) => record::Counter {
                    name: name.to_owned(),
                    value: Some(count.count),
                    enabled_ns: Some(count.time_enabled),
                    running_ns: Some(count.time_running),
                    unavailable: None,
                },
                Ok(Err(error)) => unavailable(name, error.to_string()),
                Err(_) => unavailable(name, "the kernel reported more time running than enabled".to_owned()),
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
