use std::sync::atomic::{AtomicUsize, Ordering};

use super::split::{Left, part};
use super::*;

#[test]
fn every_worker_runs_every_job_once() {
    for threads in [1, 2, 3, 5] {
        let pool = Pool::new(threads, true).unwrap();
        let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for _ in 0..20 {
            pool.enter(|team| {
                for _ in 0..50 {
                    team.run(&|worker| {
                        counts[worker].fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1000), "{threads} threads: {counts:?}");
    }
}

#[test]
fn pieces_cover_the_data_once_with_borders_at_units() {
    for threads in [1, 2, 3, 4] {
        let pool = Pool::new(threads, false).unwrap();
        for (len, unit) in [(0, 16), (1, 16), (16, 16), (33, 16), (100, 7), (5, 1)] {
            let mut data = vec![0usize; len];
            pool.enter(|team| {
                team.split(&mut data, unit, |first, piece| {
                    assert_eq!(first % unit, 0);
                    for (i, item) in piece.iter_mut().enumerate() {
                        *item += first + i + 1;
                    }
                })
            });
            assert_eq!(data, (1..=len).collect::<Vec<_>>(), "{threads} threads, unit {unit}");
        }
    }
}

#[test]
fn strips_and_rows_cover_a_matrix_once() {
    let pool = Pool::new(3, false).unwrap();
    let (rows, width) = (5, 37);
    let mut data = vec![0usize; rows * width];
    pool.enter(|team| {
        team.split_rows(&mut data, width, 16, |mut strip| {
            for r in 0..strip.rows() {
                let first = strip.columns().start;
                strip.row(r).iter_mut().enumerate().for_each(|(i, item)| *item += r * width + first + i);
            }
        });
        team.each_row(&mut data, width, |r, row| row.iter_mut().for_each(|item| *item -= r * width));
    });
    assert!(data.iter().enumerate().all(|(i, &item)| item == i % width));
}

/// The piece that a worker begins with waits until all others are done: so the other worker does the rest of its part too.
#[test]
fn who_is_ahead_takes_from_who_is_behind() {
    let pool = Pool::new(2, false).unwrap();
    let (done, waited) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut data = vec![0u8; 128];
    pool.enter(|team| {
        team.split(&mut data, 2, |first, piece| {
            while first == 64 && done.load(Ordering::Acquire) < 128 - piece.len() {
                // Far more than it takes: a test that fails instead of hanging.
                assert!(waited.fetch_add(1, Ordering::Relaxed) < 10_000, "{} of 128", done.load(Ordering::Acquire));
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            piece.iter_mut().for_each(|item| *item += 1);
            done.fetch_add(piece.len(), Ordering::Release);
        })
    });
    assert!(data.iter().all(|&item| item == 1));
}

#[test]
fn units_are_taken_once_by_whoever_comes() {
    for (len, takers, side) in [(0, 2, 1), (1, 3, 4), (5, 2, 1), (5, 2, 4), (1003, 4, 4), (1003, 4, 1), (70_000, 3, 2)]
    {
        let left = Left::new(7..7 + len);
        let fewer = AtomicUsize::new(0);
        let taken: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for taker in 0..takers {
                let (left, taken, fewer) = (&left, &taken, &fewer);
                scope.spawn(move || {
                    while let Some(units) = if taker == 0 { left.front(side) } else { left.back(side) } {
                        assert!(!units.is_empty());
                        // What is fewer is the last.
                        fewer.fetch_add(usize::from(units.len() % side != 0), Ordering::Relaxed);
                        units.for_each(|unit| {
                            taken[unit - 7].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{len} units, {takers} takers");
        assert_eq!(fewer.into_inner(), usize::from(len % side != 0));
    }
    assert!(catch_unwind(|| Left::new(0..1 << 32)).is_err());
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_survives() {
    let pool = Pool::new(3, false).unwrap();
    for culprit in 0..3 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.enter(|team| team.run(&|worker| assert_ne!(worker, culprit, "culprit")));
        }));
        assert!(caught.is_err());
        let done = AtomicUsize::new(0);
        pool.enter(|team| {
            team.run(&|_| {
                done.fetch_add(1, Ordering::Relaxed);
            })
        });
        assert_eq!(done.into_inner(), 3);
    }
}

#[test]
fn entering_twice_panics_instead_of_hanging() {
    let pool = Pool::new(2, false).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| pool.enter(|_| pool.enter(|_| ()))));
    assert!(caught.is_err());
    assert_eq!(pool.enter(|team| team.threads()), 2);
}

#[test]
fn no_threads_is_an_error() {
    assert!(matches!(Pool::new(0, true), Err(Error::Size { found: 0, .. })));
}

#[test]
fn the_leaders_affinity_is_restored() {
    let before = affinity::allowed().unwrap();
    let pool = Pool::new(before.len().min(2), true).unwrap();
    let inside = pool.enter(|_| affinity::allowed().unwrap());
    assert_eq!(inside, before[..1]);
    assert_eq!(affinity::allowed().unwrap(), before);
}

#[test]
fn shares_are_even_and_complete() {
    for (units, threads) in [(0, 3), (1, 3), (7, 3), (usize::MAX, 7)] {
        let parts: Vec<_> = (0..threads).map(|w| part(units, threads, w)).collect();
        assert_eq!((parts[0].start, parts[threads - 1].end), (0, units));
        assert!(parts.windows(2).all(|p| p[0].end == p[1].start));
        let sizes = || parts.iter().map(|p| p.end - p.start);
        assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
    }
}
