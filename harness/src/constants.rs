//! The constants of the code that METHODOLOGY.md states: its table is spliced from here, and a test holds its sentences against them.

mod energy;

use crate::gate::rounds;
use crate::probe::{bandwidth, facts, peak};
use crate::{answer, driver, local, machine, plan, worker};
use reports::gate::virtually;
use reports::splice::Constant;
use reports::{changepoint, claims, fit, stats};
use std::time::Duration;
use suites::cell::Workload;

/// A constant, and where the page states it in its text.
struct Stated {
    constant: Constant,
    /// What the page says of it, made of its value.
    said: Vec<String>,
}

/// Every constant, as the block `constants` of a Markdown file has it.
pub fn table() -> Vec<Constant> {
    stated().into_iter().map(|stated| stated.constant).collect()
}

/// What METHODOLOGY.md says of each constant in its text, by the constant's name: parts of sentences, of single spaces.
pub fn sentences() -> Vec<(&'static str, String)> {
    let all = |Stated { constant, said }: Stated| said.into_iter().map(move |said| (constant.name, said));
    stated().into_iter().flat_map(all).collect()
}

fn stated() -> Vec<Stated> {
    [cells(), checks(), limits(), statistics(), history(), gates(), energy::all()].into_iter().flatten().collect()
}

fn row(name: &'static str, file: &'static str, value: String, decides: &'static str, said: &[String]) -> Stated {
    Stated { constant: Constant { name, file, value, decides }, said: said.to_vec() }
}

/// What a cell does.
fn cells() -> Vec<Stated> {
    const WORKER: &str = "harness/src/worker.rs";
    let (prompt, prefill, decode) = (Workload::DECODE_PROMPT, worker::WARM_UP_PREFILL, worker::WARM_UP_DECODE);
    vec![
        row(
            "Workload::DECODE_PROMPT",
            "suites/src/cell.rs",
            format!("{prompt} tokens"),
            "the depth of decode that names none",
            &[
                format!("a forced token stream after a {prompt}-token prompt"),
                format!("and after {prompt} tokens here"),
            ],
        ),
        row(
            "WARM_UP_PREFILL",
            WORKER,
            format!("{prefill} tokens"),
            "the longest warm-up of prefill",
            &[format!("up to {prefill} prompt tokens")],
        ),
        row(
            "WARM_UP_DECODE",
            WORKER,
            format!("{decode} tokens"),
            "the warm-up of decode, behind the depth",
            &[format!("or the depth and {} decoded tokens", word(decode as usize))],
        ),
        row("MAX_SAMPLES", WORKER, thousands(worker::MAX_SAMPLES as u64), "most windows in one process", &[]),
        row(
            "Crossover::of_isa",
            "engine/src/kernels/sparse.rs",
            crossovers(),
            "up to which active share rows and columns are read alone",
            &[crossovers()],
        ),
        row(
            "LOOK",
            "harness/src/driver/child.rs",
            duration(driver::child::LOOK),
            "how often an outside process's memory is looked at",
            &[format!("looked at {} times a second", word((1000 / driver::child::LOOK.as_millis()) as usize))],
        ),
        row(
            "MAX_WINDOWS",
            "harness/src/driver/outside.rs",
            thousands(driver::outside::MAX_WINDOWS.into()),
            "most windows that an outside process is asked for",
            &[],
        ),
    ]
}

/// How a cell's answer is checked.
fn checks() -> Vec<Stated> {
    const ANSWER: &str = "harness/src/answer.rs";
    let (probe, batch) = (answer::PROBE_TOKENS, answer::BATCH_TOKENS);
    vec![
        row(
            "PROBE_TOKENS",
            ANSWER,
            format!("{probe} tokens"),
            "the probe that every answer is checked by",
            &[format!("({} tokens in one batch, then one decoded token)", word(probe - 1))],
        ),
        row(
            "BATCH_TOKENS",
            ANSWER,
            format!("{batch} tokens"),
            "the check of a batch against decoding one by one, and of a bounded head's tokens",
            &[
                format!("prefill cells: {batch} tokens in one batch against the same tokens decoded one by one"),
                format!("Each cell checks {batch} tokens against the whole head's"),
            ],
        ),
        row(
            "PAIR_BOUND",
            "engine/src/synthetic.rs",
            (local::PAIR_BOUND_PPB as f64 / 1e9).to_string(),
            "the relative rms distance that the engines of a pair may have",
            &[],
        ),
    ]
}

/// The machine's limits, and what does not run for them.
fn limits() -> Vec<Stated> {
    let mebibytes = bandwidth::LEAST_BYTES >> 20;
    let (low, high) = (facts::PLAUSIBLE_MC.start() / 1000, facts::PLAUSIBLE_MC.end() / 1000);
    vec![
        row(
            "LEAST_BYTES",
            "harness/src/probe/bandwidth.rs",
            format!("{mebibytes} MiB"),
            "what a pass of the bandwidth probe reads of DRAM",
            &[format!("the best of several access patterns over {mebibytes} MiB")],
        ),
        row(
            "SUMS",
            "harness/src/probe/peak.rs",
            peak::SUMS.to_string(),
            "sums that the loop of multiply-adds keeps",
            &[format!("a loop of one instruction on {} sums in registers", word(peak::SUMS))],
        ),
        row(
            "MEMORY_PERCENT",
            "harness/src/plan.rs",
            format!("{} %", plan::MEMORY_PERCENT),
            "the share of available memory beyond which a cell is N/A",
            &[format!("a cell over {} % of the available memory", plan::MEMORY_PERCENT)],
        ),
        row(
            "PATIENCE",
            "harness/src/driver.rs",
            format!("{} times", driver::PATIENCE),
            "how long beside its predicted time a process may take, where the suite's timeout is shorter",
            &[],
        ),
        row(
            "BUSY_MILLI",
            "harness/src/machine.rs",
            (machine::BUSY_MILLI as f64 / 1e3).to_string(),
            "the load average at the start beyond which a run is warned of a busy machine",
            &[],
        ),
        row(
            "PLAUSIBLE_MC",
            "harness/src/probe/facts.rs",
            format!("{low} to {high} °C"),
            "temperatures that are believed",
            &[format!("one below {low} or above {high} °C is not connected")],
        ),
    ]
}

/// What figures and verdicts are formed from.
fn statistics() -> Vec<Stated> {
    const STATS: &str = "reports/src/stats.rs";
    let resamples = thousands(stats::RESAMPLES.into());
    let confidence = percent(stats::CONFIDENCE);
    vec![
        row(
            "RESAMPLES",
            STATS,
            resamples.clone(),
            "resamples of a bootstrap: of items, for accuracy",
            &[format!("({resamples} resamples, fixed seed)")],
        ),
        row(
            "CONFIDENCE",
            STATS,
            confidence.clone(),
            "the coverage of every interval",
            &[
                format!("the {confidence} interval of a median is over processes or blocks"),
                format!("a {confidence} percentile-bootstrap interval over items"),
                format!("with its {confidence} interval:"),
            ],
        ),
        row(
            "MIN_REPLICATES",
            STATS,
            stats::MIN_REPLICATES.to_string(),
            "fewest replicates that an interval is formed from",
            &[],
        ),
        row(
            "MIN_SIZES",
            "reports/src/fit.rs",
            fit::MIN_SIZES.to_string(),
            "fewest sizes that a line is fitted to",
            &[format!("Fewer than {} sizes are not fitted", word(fit::MIN_SIZES))],
        ),
        row(
            "MIN_BLOCKS",
            "reports/src/claims.rs",
            claims::MIN_BLOCKS.to_string(),
            "fewest processes, or blocks of a ratio, that a verdict on a claim is formed from",
            &[format!("fewer than {} processes", word(claims::MIN_BLOCKS))],
        ),
    ]
}

/// What the change points of a history are found by.
fn history() -> Vec<Stated> {
    const FILE: &str = "reports/src/changepoint.rs";
    let (orders, seed, level) = (changepoint::PERMUTATIONS, changepoint::SEED, changepoint::LEVEL);
    let test = format!("({orders} orders, ChaCha8, seed {seed}) gives p of at most {level}");
    let test = std::slice::from_ref(&test);
    vec![
        row("PERMUTATIONS", FILE, orders.to_string(), "orders that a change point is tested against", test),
        row("SEED", FILE, seed.to_string(), "their seed", test),
        row("LEVEL", FILE, level.to_string(), "the largest p of a change point", test),
        row(
            "MIN_SEGMENT",
            FILE,
            format!("{} runs", changepoint::MIN_SEGMENT),
            "fewest runs on either side of a change",
            &[format!("Either side of a change has {} runs or more", word(changepoint::MIN_SEGMENT))],
        ),
        row(
            "LONGEST",
            FILE,
            format!("{} runs", changepoint::LONGEST),
            "runs of a series that are looked at, the latest",
            &[format!("the latest {} runs are", changepoint::LONGEST)],
        ),
    ]
}

/// How gates measure, beside what `gates.toml` says.
fn gates() -> Vec<Stated> {
    const ROUNDS: &str = "harness/src/gate/rounds.rs";
    let (fewest, most) = (rounds::FEWEST_QUADS, rounds::MOST_QUADS);
    let settle = duration(worker::SETTLE);
    let block = virtually::BLOCK;
    vec![
        row(
            "FEWEST_QUADS",
            ROUNDS,
            fewest.to_string(),
            "fewest fours of turns in a round of a gate",
            &[format!("at least {} fours", word(fewest))],
        ),
        row("MOST_QUADS", ROUNDS, most.to_string(), "most fours", &[format!("at most {most}")]),
        row(
            "SETTLE",
            "harness/src/worker.rs",
            settle.clone(),
            "how long a process runs untimed before the window of its turn",
            &[format!("Each turn begins with {settle} that are not timed")],
        ),
        row(
            "BLOCK",
            "reports/src/gate/virtually.rs",
            format!("{block} rounds"),
            "rounds that virtual gates draw together",
            &[format!("in blocks of {} rounds", word(block))],
        ),
    ]
}

/// The crossovers as the page's sentence has them.
fn crossovers() -> String {
    let [avx512, vnni, avx2] = local::crossovers();
    format!(
        "rows up to {} % (AVX-512), {} % (AVX-VNNI), {} % (AVX2); columns up to {}, {} and {} %",
        avx512.rows, vnni.rows, avx2.rows, avx512.columns, vnni.columns, avx2.columns
    )
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

fn duration(of: Duration) -> String {
    if of.subsec_nanos() == 0 { format!("{} s", of.as_secs()) } else { format!("{} ms", of.as_millis()) }
}

/// `10,000`.
fn thousands(count: u64) -> String {
    if count < 1000 { count.to_string() } else { format!("{},{:03}", thousands(count / 1000), count % 1000) }
}

/// A number as running text writes it.
fn word(number: usize) -> String {
    const SMALL: [&str; 13] =
        ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    match number {
        50 => "fifty".to_owned(),
        100 => "a hundred".to_owned(),
        _ => SMALL.get(number).map_or_else(|| number.to_string(), |&word| word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    /// What the page says of the gate is what `gates.toml` has.
    #[test]
    fn methodology_states_the_gates_rule() {
        let text = std::fs::read_to_string(Path::new(ROOT).join("METHODOLOGY.md")).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let rule = suites::gate::Gates::embedded().unwrap().rule;
        let [a, b, c] = rule.looks[..] else { panic!("{:?}", rule.looks) };
        assert!((rule.alpha - 0.01).abs() < 1e-12, "a third of one per cent");
        for said in [
            format!("**Looks** are at {a}, {b} and {c} rounds, each at a third of one per cent"),
            format!("{} fresh rounds must then exclude it again", word(rule.confirm as usize)),
            format!("by lot, for {}", duration(rule.turns)),
        ] {
            assert!(text.contains(&said), "{said}");
        }
    }

    /// A constant that was changed must be changed on the page too, in its sentences as in its table.
    #[test]
    fn methodology_states_what_the_code_has() {
        let path = Path::new(ROOT).join("METHODOLOGY.md");
        let spliced = reports::splice::splice(&path, &table()).unwrap();
        assert_eq!(spliced.blocks, 2);
        assert_eq!(spliced.before, spliced.after, "`harness splice METHODOLOGY.md` makes the table anew");
        let text =
            spliced.before.split("## Constants").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let unsaid: Vec<_> = sentences().into_iter().filter(|(_, said)| !text.contains(said.as_str())).collect();
        assert!(unsaid.is_empty(), "METHODOLOGY.md does not say: {unsaid:#?}");
    }

    #[test]
    fn every_constant_is_where_it_is_said_to_be() {
        for Constant { name, file, .. } in table() {
            let text = std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
            let last = name.rsplit("::").next().unwrap();
            assert!(
                text.contains(&format!("const {last}: ")) || text.contains(&format!("fn {last}(")),
                "{file}: {name}"
            );
        }
    }

    #[test]
    fn numbers_are_written_as_text_has_them() {
        assert_eq!(
            (thousands(10_000), thousands(999), thousands(1_234_567)),
            ("10,000".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!((percent(0.95), percent(0.02), percent(0.125)), ("95 %".into(), "2 %".into(), "12.5 %".into()));
        assert_eq!(
            (duration(Duration::from_millis(100)), duration(Duration::from_secs(2))),
            ("100 ms".into(), "2 s".into())
        );
        assert_eq!((word(12), word(50), word(17)), ("twelve".into(), "fifty".into(), "17".into()));
    }
}
