use super::*;

/// Blocks too small for huge pages, each touched; mapped anew, as an allocator may hand out what was touched before.
fn touch(blocks: usize) {
    let mut kept = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        let mut block = memmap2::MmapMut::map_anon(64 << 10).unwrap();
        block.fill(1);
        kept.push(block);
    }
    assert_eq!(std::hint::black_box(&kept).len(), blocks);
}

#[test]
fn threads_made_later_are_counted() {
    let mut counters = Counters::open();
    counters.start();
    std::thread::scope(|scope| {
        scope.spawn(|| touch(16));
    });
    counters.stop();
    for counter in counters.read() {
        assert!(counter.value.is_some() != counter.unavailable.is_some(), "{counter:?}");
        if let ("page-faults", Some(faults)) = (counter.name.as_str(), counter.value) {
            assert!(faults > 0, "memory mapped anew faults");
        }
    }
}

#[test]
fn threads_made_earlier_are_told_apart() {
    let (told, ids) = std::sync::mpsc::channel();
    let (begin, done, end) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3), std::sync::Barrier::new(3));
    std::thread::scope(|scope| {
        let workers: Vec<_> = [(1, 16), (2, 256)]
            .map(|(number, blocks)| {
                let (told, begin, done, end) = (told.clone(), &begin, &done, &end);
                scope.spawn(move || {
                    let id = rustix::thread::gettid().as_raw_nonzero().get();
                    told.send(Thread { number, id }).unwrap();
                    begin.wait();
                    touch(blocks);
                    done.wait();
                    end.wait();
                })
            })
            .into();
        let mut threads: Vec<Thread> = ids.iter().take(2).collect();
        threads.sort_by_key(|thread| thread.number);
        let mut counters = Counters::open();
        counters.open_threads(&threads, 2);
        // As with a PMU, so with the events that are everywhere.
        let of_process = counters.read();
        counters.leave_to_threads(usize::MAX);
        counters.start();
        begin.wait();
        done.wait();
        counters.stop();
        end.wait();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let found = counters.read_threads();
        let faults = |number: u32| {
            let thread = found.iter().find(|found| found.thread == number)?;
            let counter = thread.counters.iter().find(|counter| counter.name == "page-faults")?;
            assert!(counter.enabled_ns != Some(0) && counter.enabled_ns.is_some() == counter.running_ns.is_some());
            counter.value
        };
        // What is forbidden or not there stays so, with its reason.
        let all = counters.read();
        let same = |(a, b): (&record::Counter, &record::Counter)| {
            a.name == b.name && (a.unavailable.is_none() || a.unavailable == b.unavailable)
        };
        assert!(all.iter().zip(&of_process).all(same), "{all:?}");
        let total = all.iter().find(|counter| counter.name == "page-faults").unwrap();
        let (few, many) = (faults(1), faults(2));
        let both = few.zip(many).map(|(few, many)| few + many);
        match total.enabled_ns {
            Some(_) => assert_eq!(both, total.value, "{found:?}"),
            // From /proc: of all of the process's threads.
            None => assert!(both <= total.value, "{found:?}, {total:?}"),
        }
        assert_eq!((few.is_some(), many.is_some()), (total.value.is_some(), total.value.is_some()), "{found:?}");
        if let (Some(few), Some(many)) = (few, many) {
            assert!(few > 0 && many > 3 * few, "{few} and {many} faults");
        }
        assert!(found.iter().flat_map(|thread| &thread.counters).all(|counter| counter.value.is_some()));
    });
}

#[test]
fn a_sum_has_a_value_if_each_has() {
    let of =
        |value| record::Counter { value, enabled_ns: Some(10), running_ns: Some(4), ..unavailable("x", String::new()) };
    let of = |value| record::Counter { unavailable: None, ..of(Some(value)) };
    let all = sum("x", [of(1), of(2)].into_iter());
    assert_eq!((all.value, all.enabled_ns, all.running_ns, all.unavailable), (Some(3), Some(20), Some(8), None));
    let none = || unavailable("x", "gone".to_owned());
    assert_eq!(sum("x", [of(1), none()].into_iter()), none());
    assert!(sum("x", [of(1), of(u64::MAX)].into_iter()).unavailable.is_some());
}

#[test]
fn a_thread_that_is_gone_has_no_counters() {
    let mut counters = Counters::open();
    counters.open_threads(&[Thread { number: 1, id: i32::MAX }], 1);
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
