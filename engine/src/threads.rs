//! One fixed thread pool, pinned, entered once per token.
//!
//! The calling thread is the leader and worker 0. Inside [`Pool::enter`] the others spin for jobs, so that a fork and
//! join costs well under a microsecond; outside they spin a little longer and then sleep.

mod affinity;
mod split;

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
pub use split::Strip;

/// Pause instructions before a waiting thread gives its time slice away: some 20 us, far longer than the gap between
/// two jobs of one token, far shorter than a scheduler tick.
const SPINS: u32 = 1000;
/// Yields after the leader has left before a worker sleeps: bridges the sampling between two tokens.
const YIELDS_BEFORE_SLEEP: u32 = 4;

type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// Keeps what different threads write off each other's cache line (and off its prefetched neighbour).
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    /// Counts jobs; a change tells the workers that `job` holds a new one.
    epoch: Padded<AtomicU64>,
    /// Workers that have yet to finish the current job.
    running: Padded<AtomicUsize>,
    /// True while a leader is inside `enter`.
    active: Padded<AtomicBool>,
    exit: AtomicBool,
    /// The current job: a pointer to the leader's `&Job`, valid until `running` is 0.
    job: AtomicPtr<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A fixed pool of threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    leader: Mutex<()>,
    /// The CPU of the leader, if pinned.
    leader_cpu: Option<usize>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).field("pinned", &self.leader_cpu.is_some()).finish()
    }
}

impl Pool {
    /// A pool of `threads` including the calling one. With `pin`, each thread is bound to one CPU of those allowed to
    /// the process; with more threads than CPUs none is bound. The others are named `worker-1` and so on, by which they can be
    /// found from outside.
    ///
    /// # Errors
    /// [`Error::Size`] for 0 threads, [`Error::Threads`] if the system refuses a thread or its affinity.
    pub fn new(threads: usize, pin: bool) -> Result<Pool> {
        if threads == 0 {
            return Err(Error::Size { what: "threads", expected: "at least 1".into(), found: 0 });
        }
        let failed = |what| move |source| Error::Threads { threads, what, source };
        let cpus = if pin { affinity::allowed().map_err(failed("read the CPU affinity"))? } else { Vec::new() };
        let cpu_of = |worker: usize| if threads <= cpus.len() { Some(cpus[worker]) } else { None };
        let shared = Arc::new(Shared {
            epoch: Padded(AtomicU64::new(0)),
            running: Padded(AtomicUsize::new(0)),
            active: Padded(AtomicBool::new(false)),
            exit: AtomicBool::new(false),
            job: AtomicPtr::new(std::ptr::null_mut()),
            panic: Mutex::new(None),
        });
        let mut pool = Pool { shared, workers: Vec::new(), leader: Mutex::new(()), leader_cpu: cpu_of(0) };
        let (ready, pinned) = std::sync::mpsc::channel();
        for worker in 1..threads {
            let (shared, ready, cpu) = (Arc::clone(&pool.shared), ready.clone(), cpu_of(worker));
            let body = move || {
                // The receiver outlives the sends: it is dropped after one message of every worker.
                let _ = ready.send(cpu.map_or(Ok(()), affinity::pin));
                drop(ready);
                work(&shared, worker);
            };
            let thread = std::thread::Builder::new().name(format!("worker-{worker}"));
            pool.workers.push(thread.spawn(body).map_err(failed("start a thread"))?);
        }
        drop(ready);
        for outcome in pinned {
            outcome.map_err(failed("pin a thread"))?;
        }
        Ok(pool)
    }

    /// The number of threads, the leader included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Whether each thread is bound to a CPU of its own.
    pub fn pinned(&self) -> bool {
        self.leader_cpu.is_some()
    }

    /// Wakes the workers and runs `f` on the calling thread, which is pinned meanwhile.
    ///
    /// # Panics
    /// If the pool is already entered (a pool has one leader at a time), and with any panic of `f` or of a job.
    pub fn enter<R>(&self, f: impl FnOnce(&Team<'_>) -> R) -> R {
        let _lead = match self.leader.try_lock() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => panic!("the pool is already entered"),
        };
        let _mask = self.leader_cpu.and_then(affinity::Pinned::to);
        let _active = Active::start(self);
        f(&Team { shared: &self.shared, threads: self.threads(), not_sync: PhantomData })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.exit.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its jobs, so there is none to report here.
            let _ = worker.join();
        }
    }
}

/// Holds `active` true for as long as it lives, also while unwinding.
struct Active<'a>(&'a Pool);

impl<'a> Active<'a> {
    fn start(pool: &'a Pool) -> Active<'a> {
        if !pool.workers.is_empty() {
            // SeqCst pairs with the worker's check before it parks; `unpark` leaves a token if it has not parked yet.
            pool.shared.active.0.store(true, Ordering::SeqCst);
            for worker in &pool.workers {
                worker.thread().unpark();
            }
        }
        Active(pool)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.shared.active.0.store(false, Ordering::Release);
    }
}

/// The life of a worker: wait for a job, do it, report.
fn work(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let (mut spins, mut yields) = (0, 0);
        while shared.epoch.0.load(Ordering::Acquire) == seen {
            if shared.exit.load(Ordering::Acquire) {
                return;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            spins = 0;
            if shared.active.0.load(Ordering::SeqCst) || yields < YIELDS_BEFORE_SLEEP {
                yields += 1;
                std::thread::yield_now();
            } else {
                std::thread::park();
                yields = 0;
            }
        }
        seen += 1;
        let job = shared.job.load(Ordering::Acquire).cast_const().cast::<&Job<'_>>();
        // SAFETY: `Team::run` published `job` with the epoch just seen and keeps it alive until `running` is 0.
        let job = unsafe { *job };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(worker))) {
            shared.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
        shared.running.0.fetch_sub(1, Ordering::Release);
    }
}

/// The awake threads of an entered pool.
///
/// Not `Sync`, so that no job can reach it: jobs do not nest.
pub struct Team<'a> {
    shared: &'a Shared,
    threads: usize,
    not_sync: PhantomData<*const ()>,
}

impl std::fmt::Debug for Team<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads).finish()
    }
}

impl Team<'_> {
    /// The number of threads, the leader included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `job` with each worker's number, each on its own thread, and returns when all have ended.
    ///
    /// # Panics
    /// With the panic of a job, after all have ended.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.threads == 1 {
            return job(0);
        }
        let shared = self.shared;
        shared.running.0.store(self.threads - 1, Ordering::Relaxed);
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        shared.epoch.0.fetch_add(1, Ordering::Release);
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut spins = 0;
        while shared.running.0.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = own.err().or(theirs) {
            resume_unwind(payload);
        }
    }
}

#[cfg(test)]
mod tests;
