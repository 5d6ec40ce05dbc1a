//! The program as a user meets it, with a fake worker: whatever a worker does, the suite goes on and the row says what.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use suites::record::{Outcome, Record};

const SUITE: &str = r#"name = "own"
about = "a test"
blocks = 2
seed = 9
timeout = "60s"
min_window = "1ms"
[[group]]
models = ["tiny-260k"]
engines = ["ternary", "f16"]
threads = [1]
workloads = ["tg8"]
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(kind: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/worker.sh");
        std::fs::copy(fake, bench.path("worker.sh")).unwrap();
        bench.kind(kind);
        std::fs::write(bench.path("own.toml"), SUITE).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn kind(&self, kind: &str) {
        std::fs::write(self.path("worker.sh.kind"), kind).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn suite(&self, more: &[&str]) -> Output {
        let usual = ["suite", "./own.toml", "--worker", "./worker.sh", "--out", "out"];
        self.harness(&[&usual, more].concat())
    }

    fn records(&self, run: &str) -> Vec<Record> {
        let text = std::fs::read_to_string(self.path("out").join(run).join("records.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_good_worker_gives_records_and_a_report() {
    let bench = Bench::new("ok");
    let output = bench.suite(&["--name", "run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let records = bench.records("run");
    assert_eq!(records.len(), 4);
    for record in &records {
        let check = &record.measurement().unwrap().check;
        assert_eq!(check.comparisons.len(), 2, "scalar reference and pair");
    }
    for file in ["run.json", "plan.json", "summary.csv", "report.md"] {
        assert!(bench.path("out/run").join(file).is_file(), "{file}");
    }
    let again = bench.suite(&["--name", "run"]);
    assert_eq!(again.status.code(), Some(64), "an existing run is not overwritten");
}

#[test]
fn whatever_a_worker_does_is_a_failed_row() {
    let cases = [
        ("garbage", "protocol", "Segmentation fault?"),
        ("half", "protocol", "half a line"),
        ("huge", "protocol", "more than 16777216 bytes"),
        ("silent", "protocol", "without a result"),
        ("hang", "timeout", "killed after 3.0 s"),
        ("killed", "killed", "likely out of memory"),
        ("halfkilled", "killed", "likely out of memory"),
        ("code", "check", "exit code 3"),
        ("failed", "load", "no such model"),
        ("wrong", "check", "wrong answer"),
    ];
    for (kind, stage, part) in cases {
        let bench = Bench::new(kind);
        if kind == "hang" {
            std::fs::write(bench.path("own.toml"), SUITE.replace("60s", "3s")).unwrap();
        }
        let output = bench.suite(&["--name", "run", "--blocks", "1"]);
        assert_eq!(output.status.code(), Some(1), "{kind}: {}", stderr(&output));
        let records = bench.records("run");
        assert_eq!(records.len(), 2, "{kind}: the suite goes on");
        for record in records {
            let Outcome::Failed(failure) = record.outcome else { panic!("{kind}: {record:?}") };
            assert_eq!(failure.stage, stage, "{kind}: {failure:?}");
            assert!(failure.message.contains(part) && failure.message.len() < 500, "{kind}: {failure:?}");
            assert_eq!(failure.check.is_some(), kind == "wrong");
            assert!(kind == "wrong" || failure.stderr_tail.contains("prose on stderr"), "{kind}: {failure:?}");
        }
    }
}

#[test]
fn a_program_that_is_not_there_is_a_failed_row() {
    let bench = Bench::new("ok");
    let output = bench.harness(&["suite", "./own.toml", "--worker", "./nothing", "--out", "out", "--name", "run"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let Outcome::Failed(failure) = &bench.records("run")[0].outcome else { panic!() };
    assert_eq!(failure.stage, "reference");
    assert!(failure.message.contains("spawn") && failure.message.contains("nothing"), "{failure:?}");
}

#[test]
fn ctrl_c_keeps_what_is_done_and_resume_goes_on() {
    let bench = Bench::new("ok");
    // The fake hangs once the file `hang-at` counts down to nothing.
    let script = "#!/bin/sh\nn=$(($(cat hang-at) - 1)); echo $n > hang-at\n[ $n -eq 0 ] && { touch hanging; sleep 60; }\nexec ./worker.sh\n";
    std::fs::write(bench.path("slow.sh"), script).unwrap();
    std::fs::set_permissions(bench.path("slow.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(bench.path("hang-at"), "5").unwrap();
    let arguments = ["suite", "./own.toml", "--worker", "./slow.sh", "--out", "out", "--name", "run"];
    let mut child = bench.command(&arguments).stdout(std::process::Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while !bench.path("hanging").exists() && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept = bench.records("run");
    assert_eq!(kept.len(), 2);
    assert!(bench.path("out/run/report.md").is_file());
    // A line torn by a crash, and on.
    let path = bench.path("out/run/records.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{}", &text[..40])).unwrap();
    let output = bench.suite(&["--resume", "run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("torn last line"), "{}", stderr(&output));
    let records = bench.records("run");
    assert_eq!(records[..2], kept[..]);
    let mut orders: Vec<u32> = records.iter().map(|r| r.order).collect();
    orders.sort_unstable();
    assert_eq!(orders, [0, 1, 2, 3], "every step once");
    // The run knows its own suite.
    std::fs::remove_file(bench.path("own.toml")).unwrap();
    let output = bench.harness(&["suite", "--resume", "run", "--out", "out", "--worker", "./worker.sh"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // Another machine goes on with nothing.
    let run = std::fs::read_to_string(bench.path("out/run/run.json")).unwrap();
    let mut moved: serde_json::Value = serde_json::from_str(&run).unwrap();
    moved["machine"]["cpu"] = "another".into();
    std::fs::write(bench.path("out/run/run.json"), moved.to_string()).unwrap();
    let output = bench.harness(&["suite", "--resume", "run", "--out", "out", "--worker", "./worker.sh"]);
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(stderr(&output).contains("another machine"), "{}", stderr(&output));
    // Another build of the program, too: its processes are not to be averaged with these.
    let mut rebuilt: serde_json::Value = serde_json::from_str(&run).unwrap();
    rebuilt["build"]["git_revision"] = "another".into();
    std::fs::write(bench.path("out/run/run.json"), rebuilt.to_string()).unwrap();
    let output = bench.harness(&["suite", "--resume", "run", "--out", "out", "--worker", "./worker.sh"]);
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(stderr(&output).contains("another build"), "{}", stderr(&output));
    std::fs::write(bench.path("out/run/run.json"), run).unwrap();
    // Another suite under the same run is refused.
    std::fs::write(bench.path("own.toml"), SUITE.replace("seed = 9", "seed = 8")).unwrap();
    let output = bench.suite(&["--resume", "run"]);
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    assert!(stderr(&output).contains("another suite"), "{}", stderr(&output));
}

#[test]
fn a_budget_leaves_rows_that_say_so() {
    let bench = Bench::new("ok");
    let output = bench.suite(&["--name", "run", "--budget", "0s"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let records = bench.records("run");
    assert_eq!(records.len(), 4);
    for record in records {
        let Outcome::Na(na) = record.outcome else { panic!("{record:?}") };
        assert_eq!(na.reason, "budget of 0s used up");
    }
    // More time, and what was left is run.
    assert_eq!(bench.suite(&["--resume", "run", "--budget", "10m"]).status.code(), Some(0));
    assert_eq!(bench.records("run").iter().filter(|r| r.measurement().is_some()).count(), 4);
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::new("ok");
    let output = bench.suite(&["--dry-run"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ternary/tiny-260k/t1/tg8"));
    assert!(!bench.path("out").exists());
}

#[test]
fn wrong_names_and_files_have_their_exit_codes() {
    let bench = Bench::new("ok");
    let bad = SUITE.replace("tiny-260k", "tiny-260");
    std::fs::write(bench.path("bad.toml"), bad).unwrap();
    let cases: [(&[&str], i32, &str); 18] = [
        (&["suite", "x86-quik"], 64, "did you mean `x86-quick`"),
        (&["suite", "x86-quick", "--engines", "ternry"], 64, "did you mean `ternary`"),
        (&["plan", "x86-quick", "--models", "125n"], 64, "did you mean `125m`"),
        (&["plan", "x86-quick", "--shard", "5/4"], 64, "i/n"),
        (&["sute", "x86-quick"], 64, "suite"),
        (&["plan", "./bad.toml"], 65, "bad.toml:8"),
        (&["plan", "./nothing.toml"], 65, "nothing.toml"),
        (&["report", "nothing"], 65, "run.json"),
        (&["suite", "smoke", "--out", "own.toml"], 64, "own.toml"),
        (&["generate", "--model", "tiny-260k", "--tokens", "1", "--threads", "0"], 64, "1 to 4096"),
        (&["generate", "--model", "tiny-260k", "--tokens", "1,x"], 64, "`x`"),
        (&["generate", "--model", "tiny-260k"], 64, "--prompt, --tokens or --prompts"),
        (&["generate", "--model", "tiny-260k", "--prompt", "hi"], 64, "no tokenizer"),
        (&["generate", "--model", "tiny-260k", "--tokens", "1", "--temperature=-1"], 64, "temperature"),
        (&["generate", "--model", "tiny-260k", "--tokens", "1", "--context", "513"], 64, "512"),
        (&["generate", "--model", "tiny-260k", "--tokens", "512"], 64, "vocabulary"),
        (&["logits", "--model", "tiny-260k", "--tokens", ""], 64, "--tokens"),
        (&["model", "synth", "--model", "100b", "--engine", "f16"], 64, "available"),
    ];
    for (arguments, code, part) in cases {
        let output = bench.harness(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_shard_keeps_pairs_together() {
    let bench = Bench::new("ok");
    let cells = |shard: &str| -> Vec<suites::Cell> {
        let plan = bench.harness(&["plan", "x86-quick", "--format", "json", "--shard", shard]);
        let plan: suites::run::Plan = serde_json::from_slice(&plan.stdout).unwrap();
        plan.cells.into_iter().map(|c| c.cell).collect()
    };
    let whole = cells("1/1");
    let shards = [cells("1/3"), cells("2/3"), cells("3/3")];
    assert_eq!(shards.iter().map(Vec::len).sum::<usize>(), whole.len());
    for cell in shards.iter().flatten().filter(|c| c.engine == "ternary") {
        let pair = suites::Cell { engine: "f16".to_owned(), ..cell.clone() };
        assert!(shards.iter().any(|shard| shard.contains(cell) && shard.contains(&pair)), "{}", cell.id());
    }
}

#[test]
fn a_reader_that_leaves_is_no_crash() {
    let bench = Bench::new("ok");
    for line in ["list --format json", "logits --model tiny-260k --tokens 1,2,3 --all"] {
        let shell = format!("{} {line} | head -c 1; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_harness"));
        let output = Command::new("bash").args(["-c", &shell]).current_dir(bench.folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
    }
}

#[test]
fn machine_output_parses() {
    let bench = Bench::new("ok");
    let plan = bench.harness(&["plan", "x86-full", "--format", "json"]);
    let plan: suites::run::Plan = serde_json::from_slice(&plan.stdout).unwrap();
    let csv = bench.harness(&["plan", "x86-full", "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&csv.stdout).lines().count(), plan.cells.len() + 1);
    let list = bench.harness(&["list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert!(["suites", "models", "engines"].iter().all(|key| list[key].as_array().is_some_and(|a| !a.is_empty())));
}

/// Process ids whose parent is `parent`.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<String> {
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let of = |pid: &String| {
        let stat = stat(pid);
        let mut after_name = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, found) = (after_name.next(), after_name.next());
        state != Some("Z") && found == Some(parent.to_string().as_str())
    };
    let names = std::fs::read_dir("/proc").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).filter(of).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_does_not_outlive_a_killed_driver() {
    let bench = Bench::new("ok");
    let long = SUITE.replace("tiny-260k", "125m").replace("60s", "200s").replace("1ms", "120s");
    std::fs::write(bench.path("own.toml"), long).unwrap();
    let mut driver = bench.command(&["suite", "./own.toml", "--out", "out"]);
    let mut driver = driver.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let wait = std::time::Duration::from_millis(20);
    let workers = std::iter::repeat_with(|| {
        std::thread::sleep(wait);
        children(driver.id())
    })
    .take(1500)
    .find(|workers| !workers.is_empty())
    .expect("a worker is started");
    // Long enough for the worker to be past its first instructions.
    std::thread::sleep(wait * 10);
    driver.kill().unwrap();
    driver.wait().unwrap();
    let gone = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    let ended = (0..250).any(|_| {
        std::thread::sleep(wait);
        workers.iter().all(gone)
    });
    assert!(ended, "worker {workers:?} runs on without its driver");
}
