//! Performance counters through `perf_event_open`: hardware events where there is a PMU, software events everywhere.
//!
//! Each counter is opened on its own (a group read panics in the crate after a failed member). Those of the process have
//! `inherit`, which covers the threads created afterwards: open them before the engine's pool. Those of a thread are opened by its
//! id, after it was made.

use perf_event::events::{Event, Hardware, Software};
use perf_event::{Builder, Counter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::path::Path;
use suites::record::{self, ThreadCounters};

/// Open files left to everything else when there are many threads.
const SPARE_FILES: u64 = 256;

enum Slot {
    Open(Counter),
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
        let slots = slots(|mut builder| {
            builder.inherit(true);
            builder
        });
        Counters { slots, threads: Vec::new() }
    }

    /// Opens counters of each of `threads` besides, which are there already. Where the system allows too few open files for
    /// all of them, none is opened, and stderr tells it.
    pub fn open_threads(&mut self, threads: &[Thread]) {
        let files = (threads.len() * self.slots.len()) as u64 + SPARE_FILES;
        if !room_for(files) {
            eprintln!("no counters of each thread: they take {files} open files, more than the limit");
            return;
        }
        let of = |thread: &Thread| (*thread, slots(|builder| builder.observe_pid(thread.id)));
        self.threads = threads.iter().map(of).collect();
    }

    /// Begins counting.
    pub fn start(&mut self) {
        each(&mut self.slots, Counter::enable);
        self.threads.iter_mut().for_each(|(_, slots)| each(slots, Counter::enable));
    }

    /// Stops counting.
    pub fn stop(&mut self) {
        self.threads.iter_mut().for_each(|(_, slots)| each(slots, Counter::disable));
        each(&mut self.slots, Counter::disable);
    }

    /// The counts of the process, each with its value or the reason why there is none.
    pub fn read(&mut self) -> Vec<record::Counter> {
        self.slots.iter_mut().map(|(name, slot)| read(name, slot)).collect()
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
    pool_below(Path::new("/proc/self/task"), rustix::thread::gettid().as_raw_nonzero().get())
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

/// Every event, each opened with what `of` says of whom it counts.
fn slots(of: impl for<'a> Fn(Builder<'a>) -> Builder<'a>) -> Slots {
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
        (name, open(of(builder)))
    };
    hardware.chain(software).map(one).collect()
}

fn each(slots: &mut Slots, act: impl Fn(&mut Counter) -> std::io::Result<()>) {
    for (_, slot) in slots {
        if let Slot::Open(counter) = slot
            && let Err(error) = act(counter)
        {
            *slot = Slot::Unavailable(error.to_string());
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

    /// Blocks too small for huge pages, each touched.
    fn touch(blocks: usize) {
        let kept: Vec<Vec<u8>> = (0..blocks).map(|_| vec![1; 64 << 10]).collect();
        assert_eq!(std::hint::black_box(&kept).len(), blocks);
    }

    #[test]
    fn threads_made_earlier_are_told_apart() {
        let (told, ids) = std::sync::mpsc::channel();
        let begin = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            let workers: Vec<_> = [(1, 16), (2, 256)]
                .map(|(number, blocks)| {
                    let (told, begin) = (told.clone(), &begin);
                    scope.spawn(move || {
                        let id = rustix::thread::gettid().as_raw_nonzero().get();
                        told.send(Thread { number, id }).unwrap();
                        begin.wait();
                        touch(blocks);
                    })
                })
                .into();
            let mut threads: Vec<Thread> = ids.iter().take(2).collect();
            threads.sort_by_key(|thread| thread.number);
            let mut counters = Counters::open();
            counters.open_threads(&threads);
            counters.start();
            begin.wait();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            counters.stop();
            let found = counters.read_threads();
            let faults = |number: u32| {
                let thread = found.iter().find(|found| found.thread == number)?;
                let counter = thread.counters.iter().find(|counter| counter.name == "page-faults")?;
                assert!(counter.enabled_ns > Some(0) && counter.running_ns.is_some(), "{counter:?}");
                counter.value
            };
            // Where counters are forbidden, those of the process are too, with the reason.
            let allowed = counters.read().iter().any(|c| c.name == "page-faults" && c.value.is_some());
            let (few, many) = (faults(1), faults(2));
            assert_eq!((few.is_some(), many.is_some()), (allowed, allowed), "{found:?}");
            if let (Some(few), Some(many)) = (few, many) {
                assert!(few > 0 && many > 3 * few, "{few} and {many} faults");
            }
            assert!(found.iter().flat_map(|thread| &thread.counters).all(|counter| counter.value.is_some()));
        });
    }

    #[test]
    fn a_thread_that_is_gone_has_no_counters() {
        let mut counters = Counters::open();
        counters.open_threads(&[Thread { number: 1, id: i32::MAX }]);
        counters.start();
        counters.stop();
        assert!(counters.read_threads().is_empty());
    }

    #[test]
    fn the_pool_is_known_by_its_names() {
        let tasks = tempfile::tempdir().unwrap();
        let task = |id: &str, name: &str| {
            std::fs::create_dir(tasks.path().join(id)).unwrap();
            std::fs::write(tasks.path().join(id).join("comm"), name).unwrap();
        };
        assert_eq!(pool_below(&tasks.path().join("none"), 7), [Thread { number: 0, id: 7 }]);
        for (id, name) in [("7", "harness\n"), ("8", "energy\n"), ("10", "worker-10\n"), ("9", "worker-2\n")] {
            task(id, name);
        }
        for (id, name) in [("11", "worker-\n"), ("12", "worker-0\n"), ("13", "worker-x\n"), ("x", "worker-1\n")] {
            task(id, name);
        }
        std::fs::create_dir(tasks.path().join("14")).unwrap();
        let of = |number, id| Thread { number, id };
        assert_eq!(pool_below(tasks.path(), 7), [of(0, 7), of(2, 9), of(10, 10)]);
        task("15", "worker-2\n");
        assert_eq!(pool_below(tasks.path(), 7), [of(0, 7), of(10, 10)], "claimed by two");
    }

    #[test]
    fn open_files_are_made_room_for_or_it_is_told() {
        assert!(room_for(0));
        assert!(!room_for(u64::MAX / 2) || getrlimit(Resource::Nofile).current.is_none());
    }
}
