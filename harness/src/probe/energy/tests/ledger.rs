//! The ledger by a scripted clock and scripted counters.

use super::*;

#[test]
fn hundreds_of_wraps_are_undone_at_the_zones_own_range() {
    let (clock, told) = (Script::default(), Told::counter(AMD));
    let mut ledger = told.ledger(&clock);
    let (watts, step) = (280.0, 40.0);
    let value = |seconds: f64| (watts * seconds * 1e6) as u64 % AMD;
    told.say(Ok(Raw::Count(value(0.0))));
    ledger.lap();
    let steps = 2000;
    for i in 1..=steps {
        clock.pass(step);
        told.say(Ok(Raw::Count(value(f64::from(i) * step))));
        ledger.read();
    }
    let wraps = watts * step * f64::from(steps) * 1e6 / AMD as f64;
    assert!(wraps > 300.0, "{wraps}");
    let want = watts * step * f64::from(steps) * 1e6;
    let found = only(&ledger.lap()).total_uj.unwrap() as f64;
    assert!((found / want - 1.0).abs() < 1e-9, "{found} of {want}");
}

/// Any power below 1.5 times the thermal design power, read by any legal schedule: the integral, to 0.1 %.
#[test]
fn any_curve_read_often_enough_gives_its_integral() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (clock, range) = (Script::default(), random.random_range(20_000_000_000..300_000_000_000u64));
        let told = Told::counter(range);
        let mut ledger = told.ledger(&clock);
        let most = ledger.longest_gap().unwrap().as_secs_f64();
        let start = random.random_range(0..range);
        let mut joules = 0.0;
        told.say(Ok(Raw::Count(start)));
        ledger.lap();
        for _ in 0..random.random_range(1..300) {
            let gap = random.random_range(0.001..most * 0.999);
            // The mean of whatever the power did meanwhile.
            let watts =
                if random.next_u32().is_multiple_of(4) { MOST_WATTS } else { random.random_range(0.0..MOST_WATTS) };
            joules += watts * gap;
            clock.pass(gap);
            told.say(Ok(Raw::Count(((u128::from(start) + (joules * 1e6) as u128) % u128::from(range)) as u64)));
            ledger.read();
        }
        let lap = ledger.lap();
        let found = only(&lap).total_uj.unwrap_or_else(|| panic!("seed {seed}: {lap:?}")) as f64 / 1e6;
        assert!((found - joules).abs() <= joules * 1e-3, "seed {seed}: {found} of {joules}");
    }
}

#[test]
fn power_is_integrated_by_trapezoids() {
    let (clock, told) = (Script::default(), Told::one(Scale::Power));
    let mut ledger = told.ledger(&clock);
    // 0 to 100 W in a line within 10 s, then 100 W for 5 s: 500 J and 500 J.
    told.say(Ok(Raw::Watts(0.0)));
    ledger.lap();
    for i in 1..=15 {
        clock.pass(1.0);
        told.say(Ok(Raw::Watts(f64::from(i.min(10)) * 10.0)));
        ledger.read();
    }
    let lap = ledger.lap();
    assert_eq!((only(&lap).total_uj, only(&lap).peak_mw), (Some(1_000_000_000), Some(100_000)));
}

/// A wall meter's thousandth of a kilowatt-hour comes at once; a fall still has no energy.
#[test]
fn a_meter_that_never_wraps_may_count_in_large_steps() {
    let (clock, told) = (Script::default(), Told::one(Scale::Counter { unit_uj: 1.0, wraps: Wraps::Never }));
    let mut ledger = told.ledger(&clock);
    ledger.lap();
    clock.pass(0.1);
    told.say(Ok(Raw::Count(3_600_000_000)));
    assert_eq!(only(&ledger.lap()).total_uj, Some(3_600_000_000));
    clock.pass(0.1);
    told.say(Ok(Raw::Count(0)));
    assert!(only(&ledger.lap()).invalid.as_ref().unwrap().contains("it fell"));
}

/// What makes a window invalid: never a zero, never a wrap; the one after is right again.
#[test]
fn what_can_not_be_known_is_said() {
    type Fault = fn(&Script, &Told);
    let faults: [(&str, Fault); 6] = [
        ("file vanished", |clock, told| {
            told.say(Err("file vanished"));
            clock.pass(1.0);
        }),
        ("the machine slept for 60.0 s", |clock, _| clock.sleep(60.0)),
        ("without a reading", |clock, _| clock.pass(100.0)),
        ("set back", |clock, told| {
            told.say(Ok(Raw::Count(0)));
            clock.pass(1.0);
        }),
        ("above its range", |clock, told| {
            told.say(Ok(Raw::Count(AMD + 1)));
            clock.pass(1.0);
        }),
        ("of another sort", |clock, told| {
            told.say(Ok(Raw::Watts(3.0)));
            clock.pass(1.0);
        }),
    ];
    for (want, fault) in faults {
        let (clock, told) = (Script::default(), Told::counter(AMD));
        let mut ledger = told.ledger(&clock);
        told.say(Ok(Raw::Count(30_000_000_000)));
        ledger.lap();
        clock.pass(1.0);
        told.say(Ok(Raw::Count(30_050_000_000)));
        ledger.read();
        fault(&clock, &told);
        ledger.read();
        told.say(Ok(Raw::Count(30_100_000_000)));
        clock.pass(1.0);
        let lap = ledger.lap();
        let found = only(&lap);
        assert!(found.total_uj.is_none() && found.peak_mw.is_none(), "{want}: {lap:?}");
        assert!(found.invalid.as_ref().is_some_and(|reason| reason.contains(want)), "{want}: {lap:?}");
        let Energy::Unavailable { reason } = lap.energy(1, String::new) else { panic!("{lap:?}") };
        assert!(reason.contains(want), "{reason}");
        clock.pass(1.0);
        told.say(Ok(Raw::Count(30_142_000_000)));
        assert_eq!(only(&ledger.lap()).total_uj, Some(42_000_000), "after {want}");
    }
}

#[test]
fn a_reader_that_stalls_makes_its_sample_invalid() {
    struct Slow(Script, Told);
    impl EnergySource for Slow {
        fn info(&self) -> &Info {
            self.1.info()
        }
        fn read(&mut self) -> Vec<Result<Raw, String>> {
            self.0.pass(30.0);
            self.1.read()
        }
    }
    let (clock, told) = (Script::default(), Told::counter(INTEL));
    let mut ledger = Ledger::new(Box::new(clock.clone()), vec![Box::new(Slow(clock, told))]);
    ledger.lap();
    let lap = ledger.lap();
    assert!(only(&lap).invalid.as_ref().unwrap().contains("reading it took 30.0 s"), "{lap:?}");
}

#[test]
fn laps_add_up_and_a_fault_stays() {
    let (clock, told) = (Script::default(), Told::counter(INTEL));
    let mut ledger = told.ledger(&clock);
    ledger.lap();
    let mut next = |uj: u64, seconds: f64| {
        clock.pass(seconds);
        told.say(Ok(Raw::Count(uj)));
        ledger.lap()
    };
    let (first, second) = (next(10_000_000, 1.0), next(40_000_000, 1.0));
    let both = Lap::default().and(first).and(second);
    assert_eq!(
        (both.window_ns, only(&both).total_uj, only(&both).peak_mw),
        (2_000_000_000, Some(40_000_000), Some(30_000))
    );
    assert_eq!(only(&both).domains[0].energy_uj, 40_000_000);
    let broken = next(1, 1.0);
    let all = both.and(broken);
    assert!(only(&all).total_uj.is_none() && only(&all).invalid.is_some() && only(&all).domains.is_empty());
}

/// A wall meter that tells something new each second says little of two; the same added up to a minute is certain.
#[test]
fn a_window_of_few_refreshes_is_told_with_that_doubt() {
    let (clock, mut told) = (Script::default(), Told::counter(INTEL));
    told.1.refresh = Duration::from_secs(1);
    let mut ledger = told.ledger(&clock);
    let infos: Vec<Info> = ledger.infos().cloned().collect();
    ledger.lap();
    let mut all = Lap::default();
    for second in 1..=60u32 {
        clock.pass(1.0);
        told.say(Ok(Raw::Count(u64::from(second) * 10_000_000)));
        let lap = ledger.lap();
        if second == 2 {
            let doubts = only(&lap.clone().doubted(&infos)).doubts.clone();
            assert_eq!(doubts, ["a window of fewer than 50 of its values, a new one every 1000 ms"]);
        }
        all = all.and(lap);
    }
    let all = all.doubted(&infos);
    assert_eq!((only(&all).total_uj, only(&all).doubts.len()), (Some(600_000_000), 0));
}
