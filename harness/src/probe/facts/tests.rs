use super::*;

/// Trees of `/proc` and `/sys` made for a test.
struct Trees(tempfile::TempDir);

impl Trees {
    fn new() -> Trees {
        Trees(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn facts(&self, cpus: &[usize]) -> Facts {
        Facts::new(&self.0.path().join("proc"), &self.0.path().join("sys"), cpus.to_vec())
    }

    /// A CPU's counts of throttling, and where it is.
    fn cpu(&self, cpu: usize, siblings: &str, package: &str, counts: [u64; 2]) {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        self.write(&format!("{folder}/topology/thread_siblings_list"), siblings);
        self.write(&format!("{folder}/topology/physical_package_id"), package);
        self.write(&format!("{folder}/thermal_throttle/core_throttle_count"), &format!("{}\n", counts[0]));
        self.write(&format!("{folder}/thermal_throttle/package_throttle_count"), &format!("{}\n", counts[1]));
    }
}

/// A `/proc/self/stat` with so many major faults; the name is one that a careless reader stumbles over.
fn stat(major: &str) -> String {
    format!("42 (a b) c) (d) S 1 42 42 0 -1 4194560 1234 99 {major} 77 10 20 0 0 20 0 3 0 100 5 6\n")
}

#[test]
fn without_any_file_every_fact_is_unknown_and_says_what_was_looked_for() {
    let trees = Trees::new();
    let facts = trees.facts(&[0]);
    assert_eq!(facts.since(&facts.counts()), StageFacts::default());
    let told = facts.told();
    assert_eq!(told.len(), 8);
    let files = ["status", "status", "self/stat", "proc/stat", "loadavg", "scaling_cur_freq", "temp", "throttle_count"];
    for (fact, file) in told.iter().zip(files) {
        let reason = fact.value.as_ref().unwrap_err();
        assert!(reason.contains(file) && reason.contains(&*trees.0.path().to_string_lossy()), "{fact:?}");
    }
}

#[test]
fn garbage_is_unknown() {
    let trees = Trees::new();
    for file in ["proc/self/status", "proc/self/stat", "proc/stat", "proc/loadavg"] {
        for garbage in ["", ")", "cpu  x", "RssAnon: -1 kB\nRssFile: 99999999999999999999 kB", "nan", "-1.0 0 0"] {
            trees.write(file, garbage);
            let facts = trees.facts(&[]);
            assert_eq!(facts.since(&facts.counts()), StageFacts::default(), "{file}: {garbage}");
        }
    }
    // Numbers that are numbers, and too large to be multiplied.
    trees.write("proc/self/status", "RssAnon:\t18446744073709551615 kB\n");
    trees.write("proc/stat", "cpu  1 1 1 1 1 1 1 18446744073709551615 0 0\n");
    let facts = trees.facts(&[]);
    assert_eq!(facts.since(&facts.counts()), StageFacts::default());
}

#[test]
fn memory_and_counts_of_a_stage_are_read() {
    let trees = Trees::new();
    trees.write("proc/self/status", "Name:\tx\nRssAnon:\t  20 kB\nRssFile:\t   8 kB\n");
    trees.write("proc/self/stat", &stat("5"));
    trees.write("proc/stat", "cpu  10 1 5 80 2 0 1 4 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
    trees.write("proc/loadavg", "1.25 0.50 0.25 1/100 4242\n");
    let facts = trees.facts(&[]);
    let before = facts.counts();
    trees.write("proc/self/stat", &stat("12"));
    trees.write("proc/stat", "cpu  10 1 5 80 2 0 1 7 9 9\n");
    let found = facts.since(&before);
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let want = StageFacts {
        rss_anon_bytes: Some(20 << 10),
        rss_file_bytes: Some(8 << 10),
        major_faults: Some(7),
        steal_ns: Some(3 * tick),
        load_milli: Some(1250),
        ..StageFacts::default()
    };
    assert_eq!(found, want);
    // Counts that fall are set back, or another machine's.
    trees.write("proc/self/stat", &stat("4"));
    trees.write("proc/stat", "cpu  10 1 5 80 2 0 1 3 9 9\n");
    let found = facts.since(&before);
    assert_eq!((found.major_faults, found.steal_ns), (None, None));
    assert_eq!(facts.told()[2], Fact { name: "major_faults", value: Ok(4) });
}

#[test]
fn major_faults_are_found_behind_any_name() {
    assert_eq!(major_faults(&stat("7")), Some(7));
    for garbage in ["", "42 (x) S 1 42 42 0", "42 (x) S 1 42 42 0 -1 4194560 1234 99 x 77", &stat("-1")] {
        assert_eq!(major_faults(garbage), None, "{garbage}");
    }
}

#[test]
fn frequency_is_the_mean_of_all_that_may_be_used_or_unknown() {
    let trees = Trees::new();
    let set = |cpu: usize, text: &str| {
        trees.write(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"), text)
    };
    set(0, "2000000\n");
    set(1, "3000000\n");
    set(2, "800000\n");
    assert_eq!(trees.facts(&[0, 1]).frequency_khz(), Ok(2_500_000));
    assert_eq!(trees.facts(&[0, 1, 2]).frequency_khz(), Ok(1_933_333));
    assert!(trees.facts(&[0, 3]).frequency_khz().unwrap_err().contains("cpu3/cpufreq"), "one has none");
    for garbage in ["<unknown>\n", "0\n", "-5\n", ""] {
        set(1, garbage);
        assert!(trees.facts(&[0, 1]).frequency_khz().unwrap_err().contains("cpu1"), "{garbage}");
    }
    assert!(trees.facts(&[]).frequency_khz().is_err());
}

#[test]
fn the_hottest_sensor_is_one_that_is_believed() {
    let trees = Trees::new();
    let hottest = || trees.facts(&[]).temperature_mc();
    trees.write("sys/class/thermal/cooling_device0/temp", "99000\n");
    assert!(hottest().unwrap_err().contains("thermal_zone*/temp"));
    for (sensor, text) in
        [("thermal_zone0/temp", "0\n"), ("thermal_zone1/temp", "-273200\n"), ("thermal_zone2/temp", "hot\n")]
    {
        trees.write(&format!("sys/class/thermal/{sensor}"), text);
    }
    trees.write("sys/class/hwmon/hwmon0/temp3_input", "127000\n");
    assert!(hottest().unwrap_err().contains("none of 4 sensors"));
    trees.write("sys/class/thermal/thermal_zone3/temp", "41000\n");
    assert_eq!(hottest(), Ok(41_000));
    trees.write("sys/class/hwmon/hwmon1/temp1_input", "63500\n");
    trees.write("sys/class/hwmon/hwmon1/temp1_crit", "100000\n");
    trees.write("sys/class/hwmon/hwmon1/in1_input", "99000\n");
    assert_eq!(hottest(), Ok(63_500));
}

#[test]
fn throttling_counts_each_core_and_each_package_once() {
    let trees = Trees::new();
    // Two packages of one core with two threads each; the second thread of the first slept through one event.
    trees.cpu(0, "0,2", "0", [10, 100]);
    trees.cpu(1, "1,3", "1", [20, 200]);
    trees.cpu(2, "0,2", "0", [9, 100]);
    trees.cpu(3, "1,3", "1", [20, 200]);
    trees.write("sys/devices/system/cpu/cpufreq/thermal_throttle/core_throttle_count", "5\n");
    let facts = trees.facts(&[0]);
    assert_eq!(facts.told()[7], Fact { name: "throttled", value: Ok(10 + 20 + 100 + 200) });
    let before = facts.counts();
    let throttled = || facts.since(&before).throttled;
    assert_eq!(throttled(), Some(0));
    trees.cpu(0, "0,2", "0", [13, 101]);
    trees.cpu(2, "0,2", "0", [11, 101]);
    trees.cpu(3, "1,3", "1", [20, 205]);
    assert_eq!(throttled(), Some(3 + 1 + 5));
    trees.cpu(2, "0,2", "0", [8, 101]);
    assert_eq!(throttled(), None, "a count that fell");
    trees.cpu(2, "0,2", "0", [11, 101]);
    trees.cpu(4, "4", "1", [0, 205]);
    assert_eq!(throttled(), None, "a CPU that came");
    fs::remove_dir_all(trees.0.path().join("sys/devices/system/cpu/cpu4")).unwrap();
    assert_eq!(throttled(), Some(9));
    trees.write("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "many\n");
    assert_eq!(throttled(), None);
    assert!(facts.throttled().unwrap_err().contains("cpu1/thermal_throttle/core_throttle_count: expected a number"));
}

#[test]
fn throttling_without_a_topology_counts_a_package_once() {
    let trees = Trees::new();
    for cpu in 0..4 {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        trees.write(&format!("{folder}/core_throttle_count"), "1\n");
        trees.write(&format!("{folder}/package_throttle_count"), "7\n");
    }
    assert_eq!(trees.facts(&[]).throttled().unwrap().total(), Some(4 + 7));
    let most = Throttled([(("a".to_owned(), "0".to_owned()), u64::MAX), (("b".to_owned(), "0".to_owned()), 1)].into());
    assert_eq!(most.total(), None);
}
