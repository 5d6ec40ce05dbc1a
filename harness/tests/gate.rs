//! The gate as a user meets it, with fake workers of known speed: what it says, its exit code, what it writes.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SUITE: &str = r#"name = "own"
about = "a test"
blocks = 40
seed = 9
timeout = "60s"
min_window = "1ms"
[[group]]
models = ["tiny-260k"]
engines = ["f16"]
threads = [1]
workloads = ["tg8"]
"#;

const GATES: &str = r#"suite = "./own.toml"
[rule]
looks = [10, 20]
alpha = 0.01
confirm = 10
confirm_alpha = 0.01
turns = "1ms"
budget = "120s"
drift = 0.15
seed = 1
[[metric]]
name = "decode"
kind = "decode"
threshold = 0.02
drives = true
why = "a test"
[[metric]]
name = "answer"
kind = "answer"
threshold = 0.0
why = "a test"
[[metric]]
name = "binary"
kind = "binary"
threshold = 0.5
why = "a test"
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.path("own.toml"), SUITE).unwrap();
        std::fs::write(bench.path("gates.toml"), GATES).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A worker whose `n`-th process tells of tokens of `ns` nanoseconds, an expression of the shell in `n`.
    fn worker(&self, name: &str, ns: &str, digest: &str) -> String {
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/worker.sh");
        let text = std::fs::read_to_string(fake).unwrap();
        let count = format!(
            "read -r request\nn=$(cat \"$0.n\" 2>/dev/null || echo 0)\necho $((n + 1)) >\"$0.n\"\nns=$(({ns}))\n"
        );
        let text = text.replacen("read -r request\n", &count, 1).replacen("[62500]", "['\"$ns\"']", 1);
        let text = text.replace(r#""digest":"d""#, &format!(r#""digest":"{digest}""#));
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("./{name}")
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.folder.path()).args(arguments).output().unwrap()
    }

    fn gate(&self, baseline: &str, candidate: &str, more: &[&str]) -> (Option<i32>, String) {
        let usual =
            ["gate", "--against-program", baseline, "--candidate", candidate, "--gates", "gates.toml", "--out", "out"];
        told(&self.harness(&[&usual, more].concat()))
    }
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    (output.status.code(), text)
}

/// Tokens of 100,000 ns, give or take a fraction of a per cent.
const PLAIN: &str = "100000 + n % 7 * 100";

#[test]
fn the_same_speed_is_unchanged_and_ends_early() {
    let bench = Bench::new();
    let (a, b) = (bench.worker("a.sh", PLAIN, "d"), bench.worker("b.sh", PLAIN, "d"));
    let (code, text) = bench.gate(&a, &b, &["--name", "same", "--also", "json=same.json"]);
    assert_eq!(code, Some(0), "{text}");
    let json = std::fs::read_to_string(bench.path("same.json")).unwrap();
    let outcome: serde_json::Value = serde_json::from_str(&json).unwrap();
    let decode = &outcome["lines"][0];
    assert_eq!(
        (&decode["metric"], &decode["verdict"], &decode["n"]),
        (&"decode".into(), &"unchanged".into(), &10.into())
    );
    assert!(decode["smallest"].as_f64().unwrap() < 0.02, "{decode}");
    // What it rests on is kept, and both sides are runs like others.
    let kept = std::fs::read_to_string(bench.path("out/same/gate.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&kept).unwrap()["series"][0]["rounds"].as_array().unwrap().len(),
        10
    );
    for side in ["baseline", "candidate"] {
        let (code, text) = told(&bench.harness(&["report", &format!("out/same/{side}"), "--format", "csv"]));
        assert!(code == Some(0) && text.contains("tokens_per_second"), "{text}");
    }
}

#[test]
fn a_slower_candidate_regresses_after_fresh_rounds_and_may_be_allowed() {
    let bench = Bench::new();
    let (a, b) = (bench.worker("a.sh", PLAIN, "d"), bench.worker("b.sh", "105000 + n % 7 * 100", "d"));
    let also = ["--also", "junit=junit.xml", "--also", "badge=badge.json", "--also", "bmf=bmf.json"];
    let (code, text) = bench.gate(&a, &b, &[&["--name", "slower"][..], &also].concat());
    assert_eq!(code, Some(1), "{text}");
    // Ten rounds, and ten more.
    let line = text.lines().find(|line| line.contains("decode")).unwrap();
    assert!(line.contains("regressed") && line.contains("| 20 "), "{line}");
    let junit = std::fs::read_to_string(bench.path("junit.xml")).unwrap();
    assert!(junit.contains("failures=\"1\"") && junit.contains("<failure message=\"regressed"), "{junit}");
    assert!(std::fs::read_to_string(bench.path("badge.json")).unwrap().contains("\"red\""));
    assert!(std::fs::read_to_string(bench.path("bmf.json")).unwrap().contains("decode-ns-per-token"));
    let (code, text) = bench.gate(&a, &b, &["--name", "allowed", "--allow", "decode"]);
    assert!(code == Some(0) && text.contains("regressed, which was allowed"), "{text}");
    let (code, text) = bench.gate(&b, &a, &["--name", "faster"]);
    assert!(code == Some(0) && text.contains("improved"), "{text}");
}

#[test]
fn what_cannot_be_told_is_inconclusive() {
    let bench = Bench::new();
    let wild = |step: u32| format!("100000 + n * {step} % 40000");
    let (a, b) = (bench.worker("a.sh", &wild(7919), "d"), bench.worker("b.sh", &wild(104_729), "d"));
    let (code, text) = bench.gate(&a, &b, &[]);
    let line = text.lines().find(|line| line.contains("decode")).unwrap();
    assert!(code == Some(2) && line.contains("inconclusive") && line.contains("| 20 "), "{text}");
}

#[test]
fn answers_and_failures_gate_hard() {
    let bench = Bench::new();
    let (a, b) = (bench.worker("a.sh", PLAIN, "d"), bench.worker("b.sh", PLAIN, "e"));
    let (code, text) = bench.gate(&a, &b, &["--name", "answer"]);
    assert!(code == Some(1) && text.contains("the logits differ: digest d, now e"), "{text}");
    assert_eq!(bench.gate(&a, &b, &["--name", "intended", "--allow", "answer"]).0, Some(0));
    let broken = bench.worker("c.sh", PLAIN, "d");
    std::fs::write(bench.path("c.sh.kind"), "failed").unwrap();
    let (code, text) = bench.gate(&a, &broken, &["--name", "broken"]);
    assert!(
        code == Some(1) && text.contains("the candidate fails, the baseline does not: load: no such model"),
        "{text}"
    );
    // One that fails now and then, here in its sixth process, does not pass for one that was measured less.
    let flaky = bench.worker("f.sh", "n == 6 ? 1 / 0 : 100000", "d");
    let (code, text) = bench.gate(&a, &flaky, &["--name", "flaky"]);
    assert!(code == Some(1) && text.contains("the candidate fails, the baseline does not"), "{text}");
    // A program from before turns answers, and refuses them.
    let old = bench.worker("old.sh", PLAIN, "d");
    let refuses = "#!/bin/sh\ncase \"$*\" in *--turns*) echo \"unexpected argument '--turns'\" >&2; exit 64 ;; esac\n";
    let text = std::fs::read_to_string(bench.path("old.sh")).unwrap().replacen("#!/bin/sh\n", refuses, 1);
    std::fs::write(bench.path("old.sh"), text).unwrap();
    let (code, text) = bench.gate(&old, &a, &["--name", "old"]);
    assert!(code == Some(2) && text.contains("the program knows of no turns"), "{text}");
    let (code, text) = bench.gate(&broken, &a, &["--name", "mended"]);
    assert!(code == Some(2) && text.contains("the baseline fails: load: no such model"), "{text}");
}

#[test]
fn recorded_runs_are_judged_with_the_machines_drift_or_refused() {
    let bench = Bench::new();
    let (a, b) = (bench.worker("a.sh", PLAIN, "d"), bench.worker("b.sh", "150000 + n % 7 * 100", "d"));
    assert_eq!(bench.gate(&a, &b, &["--name", "g"]).0, Some(1));
    let recorded = |a: &str, b: &str| told(&bench.harness(&["gate", "--baseline", a, b, "--gates", "gates.toml"]));
    let (code, text) = recorded("out/g/baseline", "out/g/candidate");
    assert!(code == Some(1) && text.contains("17.0 %"), "{text}");
    assert_eq!(recorded("out/g/baseline", "out/g/baseline").0, Some(0));
    // A cell that only the baseline has is not passed over.
    let records = bench.path("out/g/candidate/records.jsonl");
    let text = std::fs::read_to_string(&records).unwrap();
    std::fs::write(&records, "").unwrap();
    let (code, told) = recorded("out/g/baseline", "out/g/candidate");
    assert!(code == Some(2) && told.contains("the candidate has no figure of this cell"), "{told}");
    std::fs::write(&records, text).unwrap();
    let edit = |from: &str, to: &str| {
        let path = bench.path("out/g/candidate/run.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    edit("\"opt_level\": \"3\"", "\"opt_level\": \"0\"");
    let (code, text) = recorded("out/g/baseline", "out/g/candidate");
    assert!(code == Some(65) && text.contains("optimisation level: \"3\" and \"0\""), "{text}");
    edit("\"cpu\": \"", "\"cpu\": \"another ");
    let (code, text) = recorded("out/g/baseline", "out/g/candidate");
    assert!(code == Some(65) && text.contains("machine's CPU: "), "{text}");
}

#[test]
fn a_study_goes_on_where_it_was_stopped() {
    let bench = Bench::new();
    let gates = GATES.replace("looks = [10, 20]", "looks = [2]").replace("./own.toml", "smoke");
    std::fs::write(bench.path("quick.toml"), gates).unwrap();
    let usual =
        ["gate", "--gates", "quick.toml", "--models", "tiny-260k", "--out", "out", "--name", "s", "--study", "aa"];
    let study = |count: &str| told(&bench.harness(&[&usual[..], &[count]].concat()));
    let (code, text) = study("1");
    assert!(code == Some(0) && text.contains("1 gates: 0 found decode slower, 0 false alarms"), "{text}");
    let path = bench.path("out/s/trials.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{{\"study\":")).unwrap();
    let (code, text) = study("2");
    assert!(code == Some(0) && text.contains("2 gates"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    // Beside a neighbour, and drawn from the rounds of those without one.
    let usual = ["gate", "--gates", "quick.toml", "--models", "tiny-260k", "--out", "out"];
    let (code, text) = told(&bench.harness(&[&usual[..], &["--study", "noisy", "sleep 0.01", "1"]].concat()));
    assert!(code == Some(0) && text.contains("beside `sleep 0.01`: 1 gates"), "{text}");
    let (code, text) = told(&bench.harness(&[&usual[..], &["--study", "virtual", "20"]].concat()));
    assert!(code == Some(0) && text.contains("20 virtual") && text.contains("2 real"), "{text}");
    let csv = std::fs::read_to_string(bench.path("out/power.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 13 + 2, "{csv}");
    assert!(csv.contains("\n0.0,false,sleep 0.01,1,") && csv.contains("\n0.0,false,,2,"), "{csv}");
    assert!(std::fs::read_to_string(bench.path("out/power.svg")).unwrap().contains("real gates beside a neighbour"));
    let (code, text) =
        told(&bench.harness(&[&usual[..], &["--study", "noisy", "exit 1", "1", "--name", "bad"]].concat()));
    assert!(code == Some(2) && text.contains("`exit 1` ended with"), "{text}");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen(r#"{"kind":"aa"}"#, r#"{"kind":"planted","percent":5.0}"#, 1)).unwrap();
    let (code, text) = study("3");
    assert!(
        code == Some(64) && text.contains("holds trials of a decode slower by 5 %, not of the same program"),
        "{text}"
    );
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let bench = Bench::new();
    for (arguments, code, message) in [
        (&["gate"][..], 64, "give --against REV"),
        (&["gate", "--against-program", "nowhere"], 64, "--against-program nowhere: expected a file"),
        (&["gate", "--baseline", "a"], 64, "RUN"),
        (&["gate", "--study", "aa", "x"], 64, "expected `aa N`"),
        (&["gate", "--study", "aa", "0"], 64, "expected `aa N`"),
        (&["gate", "--study", "noisy", "3"], 64, "expected `aa N`"),
        (&["gate", "--study", "virtual", "9", "--out", "nowhere"], 65, "nowhere"),
        (&["gate", "--study", "virtual", "9", "--out", "."], 65, "no gate of a program against itself"),
        (&["gate", "--study", "planted", "5", "1"], 64, "--features harness/planted"),
        (&["gate", "--study", "aa", "1", "--allow", "speed"], 64, "unknown metric `speed`"),
        (&["gate", "--study", "aa", "1", "--gates", "none.toml"], 65, "none.toml"),
        (&["gate", "--study", "aa", "1", "--also", "pdf=x"], 64, "pdf"),
    ] {
        let (found, text) = told(&bench.harness(arguments));
        assert!(found == Some(code) && text.contains(message), "{arguments:?}: {found:?} {text}");
    }
    // Outside any checkout there are no revisions.
    let (code, text) = told(&bench.harness(&["gate", "--against", "HEAD"]));
    assert!(code == Some(64) && text.contains("git rev-parse"), "{text}");
}

#[test]
fn instructions_are_counted_and_the_kernels_that_ran_are_named() {
    let valgrind = Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success());
    if !valgrind {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "missing under CI: valgrind");
        eprintln!("skipped: valgrind is not installed (Debian: valgrind)");
        return;
    }
    let bench = Bench::new();
    let gates = GATES.replace("looks = [10, 20]", "looks = [1]").replace("./own.toml", "smoke");
    let counted = "[[metric]]\nname = \"work\"\nkind = \"instructions\"\nthreshold = 0.005\nwhy = \"a test\"\n";
    std::fs::write(bench.path("counted.toml"), gates + counted).unwrap();
    let own = env!("CARGO_BIN_EXE_harness");
    let usual =
        ["gate", "--against-program", own, "--candidate", own, "--gates", "counted.toml", "--models", "tiny-260k"];
    let output = bench.harness(&[&usual[..], &["--out", "out", "--name", "c", "--format", "json"]].concat());
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines: Vec<_> = outcome["lines"].as_array().unwrap().iter().filter(|line| line["metric"] == "work").collect();
    // Two engines, decode and prefill, scalar and, where the CPU has it, AVX2.
    assert!(lines.len() == 4 || lines.len() == 8, "{lines:#?}");
    for line in &lines {
        assert_eq!(line["verdict"], "unchanged", "{line:#?}");
        assert!(
            line["change"].as_f64().unwrap().abs() < 1e-4 && line["values"][0].as_f64().unwrap() > 1e5,
            "{line:#?}"
        );
    }
    // A vector instruction does the work of several.
    let of = |of: &str| lines.iter().find(|line| line["of"] == of).map(|line| line["values"][0].as_f64().unwrap());
    if let (Some(vector), Some(scalar)) = (of("f16/avx2 decode"), of("f16/scalar decode")) {
        assert!(scalar > 3.0 * vector, "{scalar} {vector}");
    }
}
