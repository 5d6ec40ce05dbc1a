//! Readings become joules: wraps undone, gaps and failures never guessed over.
//!
//! A [`Ledger`] holds the sources and is told when to read them; a lap gives what each has counted since the one before.
//! It has no thread and no clock of its own: the same code runs in tests with a scripted clock.

use super::arithmetic;
use super::clock::{Clock, Moment};
use super::source::{Domain, EnergySource, Info, MOST_WATTS, Part, Raw, Scale, Wraps};
use std::time::Duration;
use suites::record::{DomainEnergy, Energy, EnergyKind, Joules, SourceEnergy};

/// Longest time that reading one source may take: of a value that came later it is not known when it was true.
pub(crate) const STALL: Duration = Duration::from_millis(100);
/// Least difference of the two clocks that is a sleep, and not the time between reading them.
const SLEEP: Duration = Duration::from_millis(100);
/// A window shorter than this many refreshes of a source is told with a doubt: each end of it may be off by one.
pub(crate) const REFRESHES: u32 = 50;
/// Shortest stretch that a peak of power is taken over.
pub(crate) const PEAK_OVER: Duration = Duration::from_millis(50);
/// How much later than the clock a counter may be when a jump is judged: refreshes, and readings held up.
const SLACK_SECONDS: f64 = 1.0;

/// What the sources have counted, from lap to lap.
pub struct Ledger {
    clock: Box<dyn Clock>,
    accounts: Vec<Account>,
    begun: Option<Moment>,
}

/// What was counted between two laps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lap {
    /// From lap to lap, sleep left out.
    pub window_ns: u64,
    /// What each source has counted, the most trusted first.
    pub sources: Vec<SourceEnergy>,
}

/// One source with what it has counted since the last lap.
struct Account {
    source: Box<dyn EnergySource>,
    entries: Vec<Entry>,
    /// When the entries' values were read.
    at: Option<Moment>,
    readings: u32,
    peak: Peak,
}

/// One domain's.
#[derive(Default)]
struct Entry {
    last: Option<Raw>,
    microjoules: f64,
    fault: Option<String>,
}

/// The highest power over any stretch of [`PEAK_OVER`] or more since the lap began.
#[derive(Default)]
struct Peak {
    since: Option<Duration>,
    microjoules: f64,
    watts: Option<f64>,
}

impl Ledger {
    /// Of `sources`, the most trusted first. Nothing is read yet.
    pub fn new(clock: Box<dyn Clock>, sources: Vec<Box<dyn EnergySource>>) -> Ledger {
        let account = |source: Box<dyn EnergySource>| {
            let entries = source.info().domains.iter().map(|_| Entry::default()).collect();
            Account { source, entries, at: None, readings: 0, peak: Peak::default() }
        };
        Ledger { clock, accounts: sources.into_iter().map(account).collect(), begun: None }
    }

    /// What the sources are.
    pub fn infos(&self) -> impl Iterator<Item = &Info> {
        self.accounts.iter().map(|account| account.source.info())
    }

    /// The longest time between two readings that keeps every source certain: what a poller's period must be well below.
    pub fn longest_gap(&self) -> Option<Duration> {
        self.infos().filter_map(Info::longest_gap).min()
    }

    /// Reads every source.
    pub fn read(&mut self) {
        let clock = self.clock.as_ref();
        self.accounts.iter_mut().for_each(|account| account.read(clock));
    }

    /// Reads every source, and gives what was counted since the last lap. Of what was before the first, nothing is known.
    pub fn lap(&mut self) -> Lap {
        self.read();
        let now = self.clock.now();
        let window = self.begun.replace(now).map_or(Duration::ZERO, |begun| now.awake.saturating_sub(begun.awake));
        Lap {
            window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
            sources: self.accounts.iter_mut().map(Account::close).collect(),
        }
    }
}

impl Account {
    fn read(&mut self, clock: &dyn Clock) {
        let begin = clock.now();
        let mut values = self.source.read();
        let now = clock.now();
        let took = now.all.saturating_sub(begin.all);
        let info = self.source.info();
        values.resize(info.domains.len(), Err("the source gave no value".to_owned()));
        let span = self.at.replace(now).map(|then| (then, now));
        for ((entry, domain), value) in self.entries.iter_mut().zip(&info.domains).zip(values) {
            let value = value.and_then(|value| match took > STALL {
                true => Err(format!("reading it took {:.1} s", took.as_secs_f64())),
                false => Ok(value),
            });
            if let Err(reason) = entry.take(domain, info.refresh, value, span) {
                entry.fault.get_or_insert(format!("{}: {reason}", domain.name));
            }
        }
        self.readings += 1;
        let counted = |(_, domain): &(&Entry, &Domain)| domain.part == Part::Counted;
        let total = self.entries.iter().zip(&info.domains).filter(counted).map(|(entry, _)| entry.microjoules).sum();
        self.peak.note(now.awake, total);
    }

    /// What was counted since the last time, which begins anew.
    fn close(&mut self) -> SourceEnergy {
        let info = self.source.info();
        let (mut domains, mut doubts, mut total, mut invalid) = (Vec::new(), Vec::new(), 0.0, None);
        for (entry, domain) in self.entries.iter_mut().zip(&info.domains) {
            let microjoules = std::mem::take(&mut entry.microjoules);
            let counted = domain.part == Part::Counted;
            match entry.fault.take() {
                Some(reason) if counted => invalid = invalid.or(Some(reason)),
                Some(reason) => doubts.push(reason),
                None => {
                    total += if counted { microjoules } else { 0.0 };
                    domains.push(DomainEnergy { domain: domain.name.clone(), energy_uj: whole(microjoules) });
                }
            }
            if let Scale::Counter { wraps: Wraps::Unknown(why), .. } = &domain.scale {
                doubts.push(format!("{}: whether it wrapped is unknown, as its range is: {why}", domain.name));
            }
        }
        let peak = std::mem::take(&mut self.peak);
        self.peak.since = self.at.map(|at| at.awake);
        SourceEnergy {
            source: info.name.clone(),
            kind: info.kind,
            total_uj: invalid.is_none().then(|| whole(total)),
            // What is added up by this process comes at once, at no power of its own.
            peak_mw: peak
                .watts
                .filter(|_| invalid.is_none() && !info.refresh.is_zero())
                .map(|watts| whole(watts * 1e3)),
            invalid,
            domains,
            doubts,
            readings: std::mem::take(&mut self.readings),
        }
    }
}

fn whole(amount: f64) -> u64 {
    amount.round().max(0.0) as u64
}

impl Entry {
    /// Takes a value over; what was counted since the last is added if it is certain.
    fn take(
        &mut self,
        domain: &Domain,
        refresh: Duration,
        value: Result<Raw, String>,
        span: Option<(Moment, Moment)>,
    ) -> Result<(), String> {
        // A value that could not be read is no base for the next one.
        let last = self.last.take();
        let value = value.and_then(|value| sane(&domain.scale, value).map(|()| value))?;
        self.last = Some(value);
        let Some((then, now)) = span else { return Ok(()) };
        let last = last.ok_or("no value to count from")?;
        let (awake, all) = (now.awake.saturating_sub(then.awake), now.all.saturating_sub(then.all));
        if all > awake + SLEEP {
            return Err(format!("the machine slept for {:.1} s", (all - awake).as_secs_f64()));
        }
        if let Some(most) = domain.longest_gap(refresh).filter(|&most| awake > most) {
            let (gap, most) = (awake.as_secs_f64(), most.as_secs_f64());
            return Err(format!("{gap:.1} s without a reading, of which at most {most:.1} s are certain"));
        }
        self.microjoules += added(&domain.scale, last, value, awake.as_secs_f64())?;
        Ok(())
    }
}

/// Whether a value can be one of such a domain.
fn sane(scale: &Scale, value: Raw) -> Result<(), String> {
    match (scale, value) {
        (Scale::Power, Raw::Watts(watts)) if watts.is_finite() && watts >= 0.0 => Ok(()),
        (Scale::Power, Raw::Watts(watts)) => Err(format!("{watts} W is no power that can be drawn")),
        (Scale::Counter { wraps: Wraps::After { range, .. }, .. }, Raw::Count(count)) if count > *range => {
            Err(format!("{count} is above its range, {range}"))
        }
        (Scale::Counter { .. }, Raw::Count(_)) => Ok(()),
        _ => Err("the source gave a value of another sort".to_owned()),
    }
}

/// Microjoules from one value to the next, both sane, `seconds` later.
fn added(scale: &Scale, last: Raw, value: Raw, seconds: f64) -> Result<f64, String> {
    let (unit_uj, wraps, last, value) = match (scale, last, value) {
        (Scale::Counter { unit_uj, wraps }, Raw::Count(last), Raw::Count(value)) => (unit_uj, wraps, last, value),
        (_, Raw::Watts(last), Raw::Watts(value)) => return Ok((last + value) / 2.0 * seconds * 1e6),
        _ => return Err("the source gave a value of another sort".to_owned()),
    };
    let (counts, most_watts) = match wraps {
        // No fall is undone, so none is mistaken for energy; a meter that counts in steps of 0.001 kWh jumps by 3.6 kJ.
        Wraps::Never => (value.checked_sub(last).ok_or("it fell, though it never wraps")?, f64::INFINITY),
        Wraps::Unknown(why) => {
            let fell = || format!("it fell from {last} to {value}, and its range is unknown: {why}");
            (value.checked_sub(last).ok_or_else(fell)?, MOST_WATTS)
        }
        Wraps::After { range, most_watts } => {
            (value.checked_sub(last).unwrap_or_else(|| range - last + value), *most_watts)
        }
    };
    let microjoules = counts as f64 * unit_uj;
    if microjoules / 1e6 > most_watts * (seconds + SLACK_SECONDS) {
        let joules = microjoules / 1e6;
        return Err(format!("it went on by {joules:.1} J in {seconds:.3} s: set back, or not what it says"));
    }
    Ok(microjoules)
}

impl Peak {
    fn note(&mut self, now: Duration, total: f64) {
        let Some(since) = self.since else {
            *self = Peak { since: Some(now), microjoules: total, watts: None };
            return;
        };
        let stretch = now.saturating_sub(since);
        if stretch >= PEAK_OVER {
            let watts = (total - self.microjoules) / 1e6 / stretch.as_secs_f64();
            let watts = self.watts.map_or(watts, |most| most.max(watts));
            *self = Peak { since: Some(now), microjoules: total, watts: Some(watts) };
        }
    }
}

impl Lap {
    /// What the most trusted source with a valid total has counted, in which `tokens` tokens were processed; measured joules
    /// before modelled ones. Without one, why there is none, or `missing`.
    pub fn energy(&self, tokens: u64, missing: impl FnOnce() -> String) -> Energy {
        let of_kind =
            |kind| self.sources.iter().find(|s| s.kind == kind && s.total_uj.is_some() && s.source != arithmetic::NAME);
        let found = of_kind(EnergyKind::Measured).or_else(|| of_kind(EnergyKind::Modelled));
        let Some((source, total_uj)) = found.and_then(|source| Some((source, source.total_uj?))) else {
            let reasons: Vec<String> =
                self.sources.iter().filter_map(|s| Some(format!("{}: {}", s.source, s.invalid.as_ref()?))).collect();
            let reason = if reasons.is_empty() { missing() } else { reasons.join("; ") };
            return Energy::Unavailable { reason };
        };
        let joules = Joules {
            source: source.source.clone(),
            total_uj,
            domains: source.domains.clone(),
            window_ns: self.window_ns,
            tokens,
            net_uj: None,
            peak_mw: source.peak_mw,
            doubts: source.doubts.clone(),
        };
        match source.kind {
            EnergyKind::Measured => Energy::Measured(joules),
            EnergyKind::Modelled => Energy::Modelled(joules),
        }
    }

    /// Adds a doubt to sources, described by `infos`, whose values change too seldom for so short a window.
    pub fn doubted(mut self, infos: &[Info]) -> Lap {
        let window = Duration::from_nanos(self.window_ns);
        for source in &mut self.sources {
            let info = infos.iter().find(|info| info.name == source.source && !info.refresh.is_zero());
            if let Some(refresh) = info.map(|info| info.refresh).filter(|&refresh| window < refresh * REFRESHES) {
                // Without the window's own length: the same doubt of many windows is told once.
                let every = refresh.as_secs_f64() * 1e3;
                source
                    .doubts
                    .push(format!("a window of fewer than {REFRESHES} of its values, a new one every {every:.0} ms"));
            }
        }
        self
    }

    /// This and the lap that came after it as one.
    pub fn and(mut self, next: Lap) -> Lap {
        if self.sources.is_empty() {
            return next;
        }
        self.window_ns += next.window_ns;
        for (own, next) in self.sources.iter_mut().zip(next.sources) {
            own.total_uj = own.total_uj.zip(next.total_uj).map(|(a, b)| a + b);
            own.invalid = own.invalid.take().or(next.invalid);
            own.peak_mw = own.peak_mw.max(next.peak_mw).filter(|_| own.invalid.is_none());
            let of = |domain: &str| next.domains.iter().find(|d| d.domain == domain);
            own.domains.retain_mut(|d| of(&d.domain).map(|more| d.energy_uj += more.energy_uj).is_some());
            for doubt in next.doubts {
                if !own.doubts.contains(&doubt) {
                    own.doubts.push(doubt);
                }
            }
            own.readings += next.readings;
        }
        self
    }
}
