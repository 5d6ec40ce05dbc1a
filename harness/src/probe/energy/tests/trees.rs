//! Every reader on trees as the kernel lays them out.

use super::*;

#[test]
fn psys_mmio_and_parts_are_never_added_to_packages() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    laptop(root.path(), 1000);
    let mut ledger = ledger_of(root.path(), &clock);
    ledger.lap();
    laptop(root.path(), 1060);
    clock.pass(2.0);
    let lap = ledger.lap();
    let found = only(&lap);
    assert_eq!((found.total_uj, found.invalid.as_deref(), lap.window_ns), (Some(60_000_000), None, 2_000_000_000));
    assert_eq!(found.peak_mw, Some(30_000));
    let domains: Vec<(&str, u64)> =
        found.domains.iter().map(|d| (d.domain.as_str(), d.energy_uj / 1_000_000)).collect();
    let want = [
        ("package-0", 60),
        ("package-0/core", 30),
        ("package-0/uncore", 6),
        ("psys", 120),
        ("intel-rapl-mmio/package-0", 60),
    ];
    assert_eq!(domains, want);
    let Energy::Measured(joules) = lap.energy(7, String::new) else { panic!("{lap:?}") };
    assert_eq!((joules.source.as_str(), joules.total_uj, joules.tokens), ("powercap", 60_000_000, 7));
}

#[test]
fn the_class_views_links_and_a_tree_passed_into_a_guest_are_the_same_zones() {
    let root = tempfile::tempdir().unwrap();
    laptop(root.path(), 5);
    let class = root.path().join("class/powercap");
    for (link, to) in
        [("intel-rapl:0", "intel-rapl/intel-rapl:0"), ("intel-rapl:0:0", "intel-rapl/intel-rapl:0/intel-rapl:0:0")]
    {
        std::os::unix::fs::symlink(class.join(to), class.join(link)).unwrap();
    }
    assert_eq!(Powercap::open(root.path()).unwrap_or_else(|m| panic!("{m:?}")).info().domains.len(), 5);
    // Flat, as a host's exporter writes it.
    let guest = tempfile::tempdir().unwrap();
    let range = INTEL.to_string();
    write(
        guest.path(),
        &[
            ("intel-rapl:0/name", "package-0"),
            ("intel-rapl:0/energy_uj", "1"),
            ("intel-rapl:0/max_energy_range_uj", &range),
        ],
    );
    let meter = EnergyMeter::open(&below(guest.path()));
    assert!(meter.available());
    assert_eq!(meter.describe(), "powercap: package-0");
}

/// The crate is the reference reader: the same zones, names and values.
#[test]
fn the_powercap_crate_reads_the_same() {
    let root = tempfile::tempdir().unwrap();
    laptop(root.path(), 77);
    let tree = powercap::PowerCap::try_from(root.path().join("class/powercap").as_path()).unwrap();
    let mut source = Powercap::open(root.path()).unwrap_or_else(|m| panic!("{m:?}"));
    let values = source.read();
    let of = |name: &str| {
        let index = source.info().domains.iter().position(|d| d.name == name).unwrap();
        let Ok(Raw::Count(value)) = values[index] else { panic!("{values:?}") };
        value
    };
    let sockets = &tree.intel_rapl.sockets;
    assert_eq!(sockets[&0].energy().unwrap(), of("package-0"));
    assert_eq!(sockets[&1].energy().unwrap(), of("psys"));
    for domain in sockets[&0].domains.values() {
        assert_eq!(domain.energy().unwrap(), of(&format!("package-0/{}", domain.name().unwrap())));
    }
    assert_eq!(sockets[&0].max_energy_range().unwrap(), INTEL);
}

#[test]
fn sockets_and_the_memory_beside_them_add_up() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    let xeon = |joules: u64| {
        for socket in 0..2u64 {
            let (zones, uj) = (format!("intel-rapl/intel-rapl:{socket}"), joules * 1_000_000 * (socket + 1));
            zone(root.path(), &zones, &format!("package-{socket}"), uj, INTEL);
            zone(root.path(), &format!("{zones}/intel-rapl:{socket}:0"), "dram", uj / 10, 65_712_999_613);
        }
    };
    xeon(100);
    let mut ledger = ledger_of(root.path(), &clock);
    ledger.lap();
    xeon(200);
    clock.pass(3.0);
    // 100 and 200 J of packages, 10 and 20 J of memory.
    assert_eq!(only(&ledger.lap()).total_uj, Some(330_000_000));
}

#[test]
fn dies_that_share_a_counter_count_once_and_must_go_on_sharing_it() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    let epyc = |first: u64, second: u64| {
        for (die, uj) in [first, second].into_iter().enumerate() {
            zone(root.path(), &format!("intel-rapl/intel-rapl:{die}"), &format!("package-0-die-{die}"), uj, AMD);
        }
    };
    // Across the wrap: the second was read just after it.
    epyc(AMD - 1000, 500);
    let mut ledger = ledger_of(root.path(), &clock);
    let parts: Vec<Part> = ledger.infos().next().unwrap().domains.iter().map(|d| d.part.clone()).collect();
    assert_eq!(parts, [Part::Counted, Part::Left("the same counter as package-0-die-0".to_owned())]);
    ledger.lap();
    epyc(280_000_000, 280_000_100);
    clock.pass(1.0);
    assert_eq!(only(&ledger.lap()).total_uj, Some(280_001_000));
    epyc(300_000_000, 500_000_000);
    clock.pass(1.0);
    let lap = ledger.lap();
    assert!(only(&lap).invalid.as_ref().unwrap().contains("package-0-die-1 counts on its own"), "{lap:?}");
    // Two dies with counters of their own are two, as soon as they are further apart than a reading lasts.
    epyc(1_000_000_000, 1_040_000_000);
    let ledger = ledger_of(root.path(), &clock);
    assert!(ledger.infos().next().unwrap().domains.iter().all(|d| d.part == Part::Counted));
}

#[test]
fn an_unknown_range_is_said_and_a_fall_then_has_no_energy() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    zone(root.path(), "intel-rapl/intel-rapl:0", "package-0", 5_000_000, 1);
    let folder = root.path().join("class/powercap/intel-rapl/intel-rapl:0");
    fs::remove_file(folder.join("max_energy_range_uj")).unwrap();
    let mut ledger = ledger_of(root.path(), &clock);
    ledger.lap();
    fs::write(folder.join("energy_uj"), "6000000\n").unwrap();
    clock.pass(1.0);
    let lap = ledger.lap();
    assert_eq!(only(&lap).total_uj, Some(1_000_000));
    assert!(only(&lap).doubts[0].contains("whether it wrapped is unknown"), "{lap:?}");
    fs::write(folder.join("energy_uj"), "1000\n").unwrap();
    clock.pass(1.0);
    let lap = ledger.lap();
    assert!(only(&lap).invalid.as_ref().unwrap().contains("its range is unknown"), "{lap:?}");
}

#[test]
fn garbage_and_vanished_zones_are_named() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    laptop(root.path(), 10);
    let mut ledger = ledger_of(root.path(), &clock);
    ledger.lap();
    let tree = root.path().join("class/powercap/intel-rapl");
    fs::write(tree.join("intel-rapl:0/energy_uj"), "garbage").unwrap();
    fs::remove_dir_all(tree.join("intel-rapl:1")).unwrap();
    clock.pass(1.0);
    let lap = ledger.lap();
    let invalid = only(&lap).invalid.clone().unwrap();
    assert!(invalid.contains("intel-rapl:0/energy_uj: expected a number, found `garbage`"), "{invalid}");
    assert!(only(&lap).doubts.iter().any(|doubt| doubt.starts_with("psys: ")), "{lap:?}");
    assert_eq!(only(&lap).domains.len(), 3, "parts and the package by MMIO are still read");
}

#[test]
fn a_boards_input_holds_its_rails() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    let jetson = |milliamperes: &str| {
        let rail = |n: u32, label: &str, ma: &str| {
            let file = |kind: &str| format!("class/hwmon/hwmon1/{kind}");
            let (volts, amps, name) =
                (file(&format!("in{n}_input")), file(&format!("curr{n}_input")), file(&format!("in{n}_label")));
            write(root.path(), &[(&volts, "5000"), (&amps, ma), (&name, label)]);
        };
        write(root.path(), &[("class/hwmon/hwmon1/name", "ina3221"), ("class/hwmon/hwmon0/name", "nvme")]);
        rail(1, "VDD_IN", milliamperes);
        rail(2, "VDD_CPU_GPU_CV", "400");
        rail(3, "VDD_SOC", "300");
    };
    jetson("2000");
    let source = Hwmon::open(root.path()).unwrap_or_else(|m| panic!("{m:?}"));
    let mut ledger = Ledger::new(Box::new(clock.clone()), vec![Box::new(source)]);
    ledger.lap();
    jetson("3000");
    clock.pass(2.0);
    let lap = ledger.lap();
    // From 10 W to 15 W within 2 s.
    assert_eq!(only(&lap).total_uj, Some(25_000_000));
    let domains: Vec<(&str, u64)> = only(&lap).domains.iter().map(|d| (d.domain.as_str(), d.energy_uj)).collect();
    assert_eq!(
        domains,
        [("ina3221/VDD_IN", 25_000_000), ("ina3221/VDD_CPU_GPU_CV", 4_000_000), ("ina3221/VDD_SOC", 3_000_000)]
    );
    fs::write(root.path().join("class/hwmon/hwmon1/name"), "amdgpu").unwrap();
    let missing = Hwmon::open(root.path()).err().unwrap();
    assert!(missing.reason.contains("only nvme, amdgpu"), "{missing:?}");
}

/// Jetson AGX Orin: two monitors, no channel for all of the board, one that is not connected, and shunts' voltages and a sum of
/// currents that are no rail of their own.
#[test]
fn a_board_without_an_input_of_its_own_is_the_sum_of_its_rails() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    let monitor = |device: u32, labels: [&str; 3], milliamperes: [u32; 3]| {
        let file = |name: String| format!("class/hwmon/hwmon{device}/{name}");
        write(
            root.path(),
            &[(&file("name".to_owned()), "ina3221"), (&file("in7_label".to_owned()), "sum of shunt voltages")],
        );
        for (n, (label, ma)) in (1..).zip(labels.into_iter().zip(milliamperes)) {
            write(
                root.path(),
                &[
                    (&file(format!("in{n}_label")), label),
                    (&file(format!("in{n}_input")), "5000"),
                    (&file(format!("curr{n}_input")), &ma.to_string()),
                    (&file(format!("in{}_input", n + 3)), "12"),
                ],
            );
        }
        write(root.path(), &[(&file("curr4_input".to_owned()), &milliamperes.iter().sum::<u32>().to_string())]);
    };
    monitor(2, ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], [1000, 600, 800]);
    monitor(3, ["NC", "VDDQ_VDD2_1V8AO", "NC"], [0, 300, 0]);
    let source = Hwmon::open(root.path()).unwrap_or_else(|m| panic!("{m:?}"));
    let mut ledger = Ledger::new(Box::new(clock.clone()), vec![Box::new(source)]);
    ledger.lap();
    clock.pass(2.0);
    let lap = ledger.lap();
    // 5, 3 and 4 W; 1.5 W are inside the last.
    assert_eq!(only(&lap).total_uj, Some(24_000_000));
    let domains: Vec<(&str, u64)> = only(&lap).domains.iter().map(|d| (d.domain.as_str(), d.energy_uj)).collect();
    let want = [
        ("ina3221/VDD_GPU_SOC", 10_000_000),
        ("ina3221/VDD_CPU_CV", 6_000_000),
        ("ina3221/VIN_SYS_5V0", 8_000_000),
        ("ina3221/VDDQ_VDD2_1V8AO", 3_000_000),
    ];
    assert_eq!(domains, want);
    // A module's input counts for all monitors of the board.
    write(root.path(), &[("class/hwmon/hwmon3/in1_label", "VDD_IN"), ("class/hwmon/hwmon3/curr1_input", "3000")]);
    let source = Hwmon::open(root.path()).unwrap_or_else(|m| panic!("{m:?}"));
    let counted: Vec<&str> =
        source.info().domains.iter().filter(|d| d.part == Part::Counted).map(|d| d.name.as_str()).collect();
    assert_eq!(counted, ["ina3221/VDD_IN"]);
}

#[test]
fn a_battery_measures_while_it_is_discharged() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    let set = |file: &str, text: &str| write(root.path(), &[(&format!("class/power_supply/BAT0/{file}"), text)]);
    write(
        root.path(),
        &[
            ("class/power_supply/AC/type", "Mains"),
            ("class/power_supply/mouse/type", "Battery"),
            ("class/power_supply/mouse/scope", "Device"),
        ],
    );
    assert!(Battery::open(root.path()).err().unwrap().reason.contains("no battery"));
    set("type", "Battery");
    set("status", "Charging");
    set("power_now", "12000000");
    let missing = Battery::open(root.path()).err().unwrap();
    assert!(missing.reason.contains("not discharging") && missing.remedy.is_some(), "{missing:?}");
    set("status", "Discharging");
    let open = || Battery::open(root.path()).unwrap_or_else(|m| panic!("{m:?}"));
    let mut ledger = Ledger::new(Box::new(clock.clone()), vec![Box::new(open())]);
    ledger.lap();
    clock.pass(2.0);
    assert_eq!(only(&ledger.lap()).total_uj, Some(24_000_000));
    set("status", "Charging");
    clock.pass(2.0);
    assert!(only(&ledger.lap()).invalid.as_ref().unwrap().contains("Charging"));
    // Another driver: current, negative while discharging, and voltage.
    fs::remove_file(root.path().join("class/power_supply/BAT0/power_now")).unwrap();
    set("status", "Discharging");
    set("current_now", "-1500000");
    set("voltage_now", "12000000");
    assert_eq!(open().read(), [Ok(Raw::Watts(18.0))]);
}

#[test]
fn the_power_pmu_counts_in_its_own_scale_on_its_own_cpus() {
    let (root, clock) = (tempfile::tempdir().unwrap(), Script::default());
    let pmu = |file: &str| format!("bus/event_source/devices/power/{file}");
    let scale = "2.3283064365386962890625e-10";
    write(root.path(), &[(&pmu("type"), "23"), (&pmu("cpumask"), "0,18")]);
    for (event, number) in [("energy-pkg", "event=0x02"), ("energy-ram", "event=0x03"), ("energy-psys", "event=0x05")] {
        write(
            root.path(),
            &[(&pmu(&format!("events/{event}")), number), (&pmu(&format!("events/{event}.scale")), scale)],
        );
    }
    let count = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&count);
    let opener = move |kind: u32, config: u64, cpu: usize| -> Result<super::super::perf::Open, String> {
        assert!(kind == 23 && [2, 3, 5].contains(&config) && [0, 18].contains(&cpu));
        let shared = Arc::clone(&shared);
        Ok(Box::new(move || Ok(shared.load(Ordering::Relaxed) * config)))
    };
    let source = Perf::open(root.path(), &opener).unwrap_or_else(|m| panic!("{m:?}"));
    let mut ledger = Ledger::new(Box::new(clock.clone()), vec![Box::new(source)]);
    ledger.lap();
    // 10 J of event 1.
    count.store(10 << 32, Ordering::Relaxed);
    clock.pass(1.0);
    // Two packages of 20 J and twice 30 J of memory; psys stays apart.
    assert_eq!(only(&ledger.lap()).total_uj, Some(100_000_000));
    let denied = |_: u32, _: u64, _: usize| -> Result<super::super::perf::Open, String> {
        Err("Permission denied (os error 13)".to_owned())
    };
    let missing = Perf::open(root.path(), &denied).err().unwrap();
    assert!(missing.remedy.unwrap().contains("perf_event_paranoid"));
}

#[test]
fn without_sources_every_reason_is_given() {
    let root = tempfile::tempdir().unwrap();
    let meter = EnergyMeter::open(&below(root.path()));
    assert!(!meter.available());
    let told = meter.describe();
    for place in ["class/powercap/intel-rapl", "class/hwmon", "class/power_supply"] {
        assert!(told.contains(place), "{told}");
    }
    meter.begin();
    assert!(
        matches!(meter.energy(&meter.lap(), 1), Energy::Unavailable { reason } if reason.contains("class/powercap"))
    );
}

#[test]
fn a_counter_that_is_not_readable_names_file_and_command() {
    let root = tempfile::tempdir().unwrap();
    laptop(root.path(), 1);
    // A folder can't be read as a file by anyone, root included.
    let file = root.path().join("class/powercap/intel-rapl/intel-rapl:0/energy_uj");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let missing = Powercap::open(root.path()).err().unwrap();
    assert!(missing.reason.contains("intel-rapl:0/energy_uj"), "{missing:?}");
    assert!(missing.remedy.unwrap().contains("energy_uj -exec chmod a+r"));
}

/// Real time: a thread of its own reads while a writer advances the counter, and what is found lies between what the writer
/// had written just before and just after.
#[test]
fn a_live_counter_is_read_by_the_meters_own_thread() {
    let root = tempfile::tempdir().unwrap();
    zone(root.path(), "intel-rapl/intel-rapl:0", "package-0", 0, INTEL);
    let file = root.path().join("class/powercap/intel-rapl/intel-rapl:0/energy_uj");
    let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (written, stop) = (Arc::clone(&written), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let value = written.load(Ordering::Relaxed) + 50_000;
                // Replaced at once, so that no reader sees half of it.
                let new = file.with_extension("new");
                fs::write(&new, value.to_string()).unwrap();
                written.store(value, Ordering::Relaxed);
                fs::rename(&new, &file).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let source = Powercap::open(root.path()).unwrap_or_else(|m| panic!("{m:?}"));
    let meter = Meter::start(vec![Box::new(source)], Duration::from_millis(20));
    let low = written.load(Ordering::Relaxed);
    meter.lap();
    let begun = written.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(400));
    let before = written.load(Ordering::Relaxed);
    let lap = meter.lap();
    let after = written.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let found = only(&lap).total_uj.unwrap_or_else(|| panic!("{lap:?}"));
    // The file is one step behind what is told of it at most.
    let step = 50_000;
    assert!(
        (before - begun).saturating_sub(step) <= found && found <= after - low + step,
        "{found}, {before} - {begun}"
    );
    assert!(only(&lap).readings > 5, "{lap:?}");
}
