//! Work timed on several pinned threads that begin together.

use rustix::thread::CpuSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// CPUs this process may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    let mask = rustix::thread::sched_getaffinity(None);
    mask.map_or_else(|_| vec![0], |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Has each of `threads` pinned threads make its work (memory is then its own node's) and do it `passes` times, all
/// beginning each pass together; a work says whether its result was right. The time of each pass, that of its slowest
/// thread; `None` if a result was wrong.
pub(super) fn lockstep<W: FnMut() -> bool>(
    threads: usize,
    passes: usize,
    make: impl Fn() -> W + Sync,
) -> Option<Vec<Duration>> {
    let (cpus, barrier) = (allowed_cpus(), Barrier::new(threads));
    let times = std::thread::scope(|scope| {
        let one = |index: usize| {
            let (cpus, barrier, make) = (&cpus, &barrier, &make);
            scope.spawn(move || {
                pin(cpus[index % cpus.len()]);
                let mut work = make();
                let mut timed = || {
                    barrier.wait();
                    let start = Instant::now();
                    let right = work();
                    (start.elapsed(), right)
                };
                (0..passes).map(|_| timed()).collect::<Vec<_>>()
            })
        };
        let handles: Vec<_> = (0..threads).map(one).collect();
        handles.into_iter().map(|handle| handle.join().ok()).collect::<Option<Vec<_>>>()
    })?;
    let slowest = |pass: usize| times.iter().map(|t| t[pass].0).max();
    let right = times.iter().flatten().all(|(_, right)| *right);
    right.then(|| (0..passes).filter_map(slowest).collect())
}

/// Unpinned is a worse measurement, not a failed one.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// The middle of some times, the later of the two middle ones: what a machine shared with others gives for some
/// milliseconds, no work of seconds can have.
pub(super) fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// `amount` in `time`, per second.
pub(super) fn rate(amount: u64, time: Duration) -> Option<u64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| (amount as f64 / seconds) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_thread_does_every_pass_and_a_wrong_result_is_no_time() {
        let count = AtomicU32::new(0);
        let right = || {
            || {
                count.fetch_add(1, Ordering::Relaxed);
                true
            }
        };
        assert_eq!(lockstep(3, 5, right).unwrap().len(), 5);
        assert_eq!(count.load(Ordering::Relaxed), 15);
        let wrong = || || count.fetch_add(1, Ordering::Relaxed) < 20;
        assert_eq!(lockstep(2, 5, wrong), None);
    }

    #[test]
    fn the_later_of_two_middle_times() {
        let times: Vec<Duration> = [4, 1, 3, 2].map(Duration::from_secs).to_vec();
        assert_eq!(median(&times), Some(Duration::from_secs(3)));
        assert_eq!(median(&[]), None);
        assert_eq!(rate(10, Duration::from_secs(4)), Some(2));
        assert_eq!(rate(10, Duration::ZERO), None);
    }
}
