//! What the kernel keeps of each thread anyway, in `/proc`: software events where `perf_event_open` is forbidden, as it is in
//! most containers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One event of some threads, from `/proc`.
#[derive(Debug)]
pub(super) struct Kept {
    /// A folder of one thread each, or one with a folder a thread.
    of: Tasks,
    count: fn(&Path) -> Option<u64>,
    begun: Option<Counts>,
    counted: Option<u64>,
}

/// Counts by folder of a thread.
type Counts = BTreeMap<OsString, u64>;

/// Whose events.
#[derive(Clone, Debug)]
pub(super) enum Tasks {
    /// Of every thread below a folder such as `/proc/self/task`.
    All(PathBuf),
    /// Of one thread, by its folder.
    One(PathBuf),
}

impl Kept {
    /// The event `name` of perf; `None` if there is no such count, or it can't be read.
    pub(super) fn open(name: &str, of: Tasks) -> Option<Kept> {
        let count = match name {
            "context-switches" => switches,
            "cpu-migrations" => migrations,
            "page-faults" => faults,
            _ => return None,
        };
        // Of faults there is the process's own count too, which keeps those of threads that have ended.
        let of = match of {
            Tasks::All(tasks) if name == "page-faults" => Tasks::One(tasks.parent()?.to_owned()),
            of => of,
        };
        let kept = Kept { of, count, begun: None, counted: None };
        kept.now().map(|_| kept)
    }

    /// Begins counting.
    pub(super) fn start(&mut self) {
        self.begun = self.now();
    }

    /// Stops counting. Of a thread that ended meanwhile the count is lost, and with it the sum.
    pub(super) fn stop(&mut self) {
        let span = self.begun.take().zip(self.now());
        self.counted = span.and_then(|(begun, mut now)| {
            let counted = begun.into_iter().map(|(task, begun)| now.remove(&task)?.checked_sub(begun));
            let old: u64 = counted.sum::<Option<u64>>()?;
            // Threads that were made meanwhile began at 0.
            Some(old + now.into_values().sum::<u64>())
        });
    }

    /// What was counted between the last start and stop.
    pub(super) fn value(&self) -> Option<u64> {
        self.counted
    }

    fn now(&self) -> Option<Counts> {
        let tasks = match &self.of {
            Tasks::One(task) => vec![task.clone()],
            Tasks::All(tasks) => {
                let entries = std::fs::read_dir(tasks).ok()?;
                entries.map(|entry| Some(entry.ok()?.path())).collect::<Option<Vec<PathBuf>>>()?
            }
        };
        tasks.into_iter().map(|task| Some((task.file_name()?.to_owned(), (self.count)(&task)?))).collect()
    }
}

/// A number behind `name` and a colon.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    rest.trim().parse().ok()
}

/// Voluntary and other context switches.
fn switches(task: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(task.join("status")).ok()?;
    field(&status, "voluntary_ctxt_switches")?.checked_add(field(&status, "nonvoluntary_ctxt_switches")?)
}

/// Moves from one CPU to another; not every kernel tells them.
fn migrations(task: &Path) -> Option<u64> {
    field(&std::fs::read_to_string(task.join("sched")).ok()?, "se.nr_migrations")
}

/// Minor and major page faults: fields 10 and 12 of `stat`.
fn faults(task: &Path) -> Option<u64> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    number(7)?.checked_add(number(9)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(task: &Path, switches: [u64; 2], faults: [u64; 2], migrations: u64) {
        std::fs::create_dir_all(task).unwrap();
        let status = format!(
            "Name:\tx\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
            switches[0], switches[1]
        );
        std::fs::write(task.join("status"), status).unwrap();
        let stat = format!("7 (a) b) S 1 7 7 0 -1 4194304 {} 200 {} 0 3 4 250 50 20 0 1\n", faults[0], faults[1]);
        std::fs::write(task.join("stat"), stat).unwrap();
        std::fs::write(
            task.join("sched"),
            format!("x (7, #threads: 1)\nse.nr_migrations          :    {migrations}\n"),
        )
        .unwrap();
    }

    #[test]
    fn counts_of_threads_are_told_apart_and_added_up() {
        let root = tempfile::tempdir().unwrap();
        let task = |name: &str| root.path().join("task").join(name);
        write(root.path(), [0, 0], [400, 5], 0);
        write(&task("1"), [10, 1], [100, 3], 2);
        write(&task("2"), [20, 2], [200, 0], 0);
        let names = ["context-switches", "page-faults", "cpu-migrations"];
        let mut all = names.map(|name| Kept::open(name, Tasks::All(root.path().join("task"))).unwrap());
        let mut one = names.map(|name| Kept::open(name, Tasks::One(task("1"))).unwrap());
        all.iter_mut().chain(&mut one).for_each(Kept::start);
        write(&task("1"), [13, 2], [150, 4], 3);
        write(&task("2"), [20, 7], [200, 1], 0);
        // Of a thread that came and went, too.
        write(root.path(), [0, 0], [460, 7], 0);
        all.iter_mut().chain(&mut one).for_each(Kept::stop);
        assert_eq!(all.each_ref().map(Kept::value), [Some(9), Some(62), Some(1)]);
        assert_eq!(one.each_ref().map(Kept::value), [Some(4), Some(51), Some(1)]);
        // A thread that ended takes its count along; what is not told is no 0.
        all.iter_mut().for_each(Kept::start);
        std::fs::remove_dir_all(task("2")).unwrap();
        all.iter_mut().for_each(Kept::stop);
        assert_eq!(all.each_ref().map(Kept::value), [None, Some(0), None]);
        std::fs::remove_file(task("1").join("sched")).unwrap();
        std::fs::write(task("1").join("stat"), "7 (x) S 1").unwrap();
        assert!(Kept::open("cpu-migrations", Tasks::One(task("1"))).is_none());
        assert!(Kept::open("page-faults", Tasks::One(task("1"))).is_none());
        assert!(Kept::open("cycles", Tasks::One(task("1"))).is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_block_that_is_touched_faults() {
        let mut kept = Kept::open("page-faults", Tasks::All("/proc/self/task".into())).unwrap();
        kept.start();
        let block = vec![1u8; 8 << 20];
        kept.stop();
        assert!(kept.value() > Some(0), "{}", block.len());
    }
}
