//! Instructions of a token, counted by Valgrind's callgrind within `count`'s own function: the same every time on one
//! machine, however busy that is. They tell of work, not of time: a kernel that waits for memory has as many.

use super::side::Side;
use crate::answer::COUNTED;
use crate::cmd::count::Ran;
use crate::driver::child::{self, Ended};
use crate::driver::interrupt::Interrupt;
use anyhow::Result;
use rayon::prelude::*;
use reports::gate::{Line, Verdict};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use suites::gate::Metric;

/// Engine, model, instruction set.
type Case = (&'static str, &'static str, &'static str);
/// What is counted. AVX-512 is not, as Valgrind has none.
const CASES: [Case; 4] = [
    ("ternary", "twin-ternary", "scalar"),
    ("ternary", "twin-ternary", "avx2"),
    ("f16", "twin-fp16", "scalar"),
    ("f16", "twin-fp16", "avx2"),
];
/// Tokens that are decoded, and tokens of the prompt that is prefilled: as many as take a second or two.
const SCALAR_TOKENS: (u32, u32) = (2, 4);
/// The same of vector kernels.
const VECTOR_TOKENS: (u32, u32) = (12, 32);
/// A run takes seconds; one that takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Counts of a case: instructions of a decoded token and of a prompt's, and what ran.
#[derive(Clone, Debug, PartialEq)]
struct Counted {
    decode: f64,
    prefill: f64,
    ran: Ran,
}

/// What was counted of baseline and candidate, or why nothing was.
type Both = [Result<Counted, String>; 2];

/// A line for each case and phase; where there is no callgrind, one that says so.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub(super) fn lines(metric: &Metric, sides: [&Side<'_>; 2], interrupt: &Interrupt) -> Result<Vec<Line>> {
    if let Some(reason) = missing(interrupt)? {
        return Ok(vec![Line { note: Some(reason), ..Line::new(&metric.name, "kernels") }]);
    }
    let supported = crate::local::isas();
    let cases: Vec<&Case> = CASES.iter().filter(|(.., isa)| supported.iter().any(|known| known == isa)).collect();
    let paths = sides.map(|side| side.path.as_path());
    // Counts are the same beside other processes: the cases share the machine.
    let found = cases.par_iter().map(|case| both(paths, case, interrupt)).collect::<Result<Vec<Both>>>()?;
    let of = |((engine, _, isa), both): (&&Case, Both)| {
        [("decode", 0), ("prefill", 1)]
            .map(|(phase, which)| judge(metric, &format!("{engine}/{isa} {phase}"), &both, which))
    };
    Ok(cases.iter().zip(found).flat_map(of).collect())
}

/// Why nothing can be counted here.
fn missing(interrupt: &Interrupt) -> Result<Option<String>> {
    let asked = [OsString::from("--version")];
    Ok(match child::run(Path::new("valgrind"), &asked, Duration::from_secs(20), interrupt)? {
        Ended::Exited(_) => None,
        Ended::Failed(_) => Some("valgrind, which counts instructions, was not found (Debian: valgrind)".to_owned()),
    })
}

fn both(paths: [&Path; 2], case: &Case, interrupt: &Interrupt) -> Result<Both> {
    Ok([case_of(paths[0], case, interrupt)?, case_of(paths[1], case, interrupt)?])
}

/// Counts one case of a program; within, why it has no figure.
fn case_of(program: &Path, case: &Case, interrupt: &Interrupt) -> Result<Result<Counted, String>> {
    let (decoded, prefilled) = if case.2 == "scalar" { SCALAR_TOKENS } else { VECTOR_TOKENS };
    let mut per_token = [0.0; 2];
    let mut last = None;
    for (count, (prefill, decode)) in per_token.iter_mut().zip([(1, decoded), (prefilled, 0)]) {
        match run(program, case, (prefill, decode), interrupt)? {
            Ok((0, _)) => {
                return Ok(Err(
                    "nothing was counted: stripped of its symbols, or of before `count` had its own function"
                        .to_owned(),
                ));
            }
            Ok((total, ran)) => {
                (*count, last) = (total as f64 / f64::from(if decode > 0 { decode } else { prefill }), Some(ran))
            }
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let Some(ran) = last.filter(|ran| ran.isa == case.2) else {
        return Ok(Err(format!("asked for the kernels of {}, others ran", case.2)));
    };
    let [decode, prefill] = per_token;
    Ok(Ok(Counted { decode, prefill, ran }))
}

/// One program under callgrind: its instructions within [`COUNTED`], and what it says that ran.
fn run(
    program: &Path,
    (engine, model, isa): &Case,
    (prefill, decode): (u32, u32),
    interrupt: &Interrupt,
) -> Result<Result<(u64, Ran), String>> {
    let mut words: Vec<OsString> = vec!["--tool=callgrind".into(), "--callgrind-out-file=/dev/null".into()];
    words.push(format!("--toggle-collect={COUNTED}").into());
    words.push(program.into());
    let asked = format!(
        "count --model {model} --engine {engine} --isa {isa} --threads 1 --prefill {prefill} --decode {decode}"
    );
    words.extend(asked.split(' ').map(OsString::from));
    Ok(match child::run(Path::new("valgrind"), &words, PATIENCE, interrupt)? {
        Ended::Failed(failure) => Err(format!("{}: {}", failure.stage, failure.message)),
        Ended::Exited(ran) => match (collected(&ran.tail.text()), serde_json::from_str(ran.stdout.trim())) {
            (Some(total), Ok(told)) => Ok((total, told)),
            (None, _) => Err("valgrind did not tell what it collected".to_owned()),
            (_, Err(error)) => Err(format!("`{asked}` said no such thing as was expected: {error}")),
        },
    })
}

/// What callgrind's summary says: `==123== Collected : 456`.
fn collected(stderr: &str) -> Option<u64> {
    let line = stderr.lines().find(|line| line.starts_with("==") && line.contains("Collected :"))?;
    line.rsplit(':').next()?.split_whitespace().next()?.parse().ok()
}

fn judge(metric: &Metric, of: &str, both: &Both, which: usize) -> Line {
    let line = Line { threshold: metric.threshold, unit: metric.kind.unit().to_owned(), ..Line::new(&metric.name, of) };
    let (before, after) = match both {
        [Ok(before), Ok(after)] => (before, after),
        [Ok(_), Err(reason)] => {
            let note = Some(format!("the candidate fails, the baseline does not: {reason}"));
            return Line { verdict: Verdict::Regressed, note, ..line };
        }
        [Err(reason), _] => return Line { note: Some(format!("the baseline fails: {reason}")), ..line },
    };
    let pick = |counted: &Counted| if which == 0 { counted.decode } else { counted.prefill };
    let (a, b) = (pick(before), pick(after));
    let change = b / a - 1.0;
    let verdict = match change {
        change if change > metric.threshold => Verdict::Regressed,
        change if change < -metric.threshold => Verdict::Improved,
        _ => Verdict::Unchanged,
    };
    let note = if before.ran.linear != after.ran.linear {
        Some(format!("linear layers were {}, now {}", before.ran.linear, after.ran.linear))
    } else {
        (before.ran.digest != after.ran.digest).then(|| "the logits differ".to_owned())
    };
    Line { verdict, change: Some(change), values: Some((a, b)), note, ..line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use suites::gate::Gates;

    #[test]
    fn callgrinds_summary_is_read() {
        let text = "==7== Callgrind, a call-graph\n==7== \n==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(text), Some(123_456));
        assert_eq!(collected("==7== Collected : many"), None);
        assert_eq!(collected("Collected : 5"), None);
    }

    #[test]
    fn a_case_is_judged_by_its_threshold_or_its_reason() {
        let gates = Gates::embedded().unwrap();
        let metric = gates.metrics.iter().find(|metric| metric.kind == suites::gate::Kind::Instructions).unwrap();
        let ran = |linear: &str| Ran { isa: "avx2".into(), linear: linear.into(), digest: "d".into() };
        let counted = |decode, linear| Ok(Counted { decode, prefill: 10.0, ran: ran(linear) });
        let verdict = |both: Both, which| judge(metric, "x", &both, which);
        let more = 100.0 * (1.0 + 2.0 * metric.threshold);
        assert_eq!(verdict([counted(100.0, "a"), counted(more, "a")], 0).verdict, Verdict::Regressed);
        assert_eq!(verdict([counted(100.0, "a"), counted(more, "a")], 1).verdict, Verdict::Unchanged);
        assert_eq!(verdict([counted(more, "a"), counted(100.0, "a")], 0).verdict, Verdict::Improved);
        let line = verdict([counted(100.0, "a"), counted(100.0, "b")], 0);
        assert_eq!(line.note.as_deref(), Some("linear layers were a, now b"));
        let broken = || Err("it broke".to_owned());
        assert_eq!(verdict([counted(1.0, "a"), broken()], 0).verdict, Verdict::Regressed);
        assert_eq!(verdict([broken(), counted(1.0, "a")], 0).verdict, Verdict::Na);
    }
}
