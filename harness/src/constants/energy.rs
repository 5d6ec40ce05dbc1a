//! The constants of how energy is read.

use super::{Stated, duration, percent, row, word};
use crate::cmd::energy::overhead;
use crate::probe::energy::{self, ledger, meter, powercap, source};
use suites::{definition, record};

/// All of them.
pub(super) fn all() -> Vec<Stated> {
    [readings(), windows(), bounds()].into_iter().flatten().collect()
}

/// How energy is read.
fn readings() -> Vec<Stated> {
    let (period, stall) = (duration(meter::PERIOD), duration(ledger::STALL));
    let (watts, over) = (source::MOST_WATTS, powercap::OVER_LIMIT);
    let disagree = percent(record::READERS_DISAGREE);
    vec![
        row(
            "PERIOD",
            "harness/src/probe/energy/meter.rs",
            period.clone(),
            "how often energy is read",
            &[format!("A counter is read every {period}, or")],
        ),
        row(
            "SPARE",
            "harness/src/probe/energy/meter.rs",
            format!("{} readings", meter::SPARE),
            "readings in half of the time that a counter takes to wrap, at least",
            &[format!("or {} times as often as is needed for half of the time", word(meter::SPARE as usize))],
        ),
        row(
            "MOST_WATTS",
            "harness/src/probe/energy/source.rs",
            format!("{watts} W"),
            "the power that wraps and jumps are reckoned with",
            &[format!("in which {watts} W (or")],
        ),
        row(
            "OVER_LIMIT",
            "harness/src/probe/energy/powercap.rs",
            format!("{over} times"),
            "the same, beside a zone's own limit, where that is more",
            &[format!("(or {over} times the zone's own limit, if that is more)")],
        ),
        row(
            "STALL",
            "harness/src/probe/energy/ledger.rs",
            stall.clone(),
            "how long reading a source may take",
            &[format!("slow reading (over {stall})")],
        ),
        row(
            "READERS_DISAGREE",
            "suites/src/record.rs",
            disagree.clone(),
            "the difference of two readers of RAPL that figures tell of",
            &[format!("differ by over {disagree}, every figure says so")],
        ),
    ]
}

/// How long energy is measured for.
fn windows() -> Vec<Stated> {
    const ENERGY: &str = "harness/src/probe/energy/mod.rs";
    const LEDGER: &str = "harness/src/probe/energy/ledger.rs";
    let idle = duration(definition::IDLE);
    let (window, longest) = (duration(energy::WINDOW), duration(energy::LONGEST_WINDOW));
    let refreshes = energy::WINDOW_REFRESHES;
    let windows = format!(
        "repeated for {window}, and for {} refreshes of the most trusted source as far as {longest}",
        word(refreshes as usize)
    );
    vec![
        row(
            "IDLE",
            "suites/src/definition.rs",
            idle.clone(),
            "rest before and after a cell, unless the suite says",
            &[format!("at rest for {idle} (the suite's `idle`)")],
        ),
        row(
            "WINDOW",
            ENERGY,
            window,
            "the shortest window of energy, where work can be repeated",
            std::slice::from_ref(&windows),
        ),
        row(
            "WINDOW_REFRESHES",
            ENERGY,
            format!("{refreshes} refreshes"),
            "the same, of the most trusted source",
            std::slice::from_ref(&windows),
        ),
        row("LONGEST_WINDOW", ENERGY, longest, "how far a window is made longer for refreshes", &[windows]),
        row(
            "REFRESHES",
            LEDGER,
            format!("{} refreshes", ledger::REFRESHES),
            "the length below which a stage's energy is doubted",
            &[format!("a stage shorter than {} refreshes is told with that doubt", word(ledger::REFRESHES as usize))],
        ),
    ]
}

/// What peaks and the cost of sampling are judged by.
fn bounds() -> Vec<Stated> {
    const LEDGER: &str = "harness/src/probe/energy/ledger.rs";
    let (peak_over, bound) = (duration(ledger::PEAK_OVER), percent(overhead::BOUND));
    vec![
        row(
            "PEAK_OVER",
            LEDGER,
            peak_over.clone(),
            "the shortest stretch of a peak of power",
            &[
                format!("(the highest over {peak_over} or more)"),
                format!("the peak is the highest over {peak_over} or more"),
            ],
        ),
        row(
            "BOUND",
            "harness/src/cmd/energy/overhead.rs",
            bound.clone(),
            "what sampling energy may cost of decode time",
            &[format!("the bound {bound}")],
        ),
    ]
}
