//! Outside engines as a user meets them, with a fake llama-bench: whatever it does, the suite goes on and the row says what.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use suites::record::{Energy, Outcome, Record};
use suites::run::{Plan, PlannedCell, Run};

const SUITE: &str = r#"name = "own"
about = "a test"
blocks = 2
seed = 9
timeout = "60s"
min_window = "100ms"
[[group]]
models = ["tiny-260k"]
engines = ["ternary"]
outside = ["theirs"]
threads = [1]
workloads = ["tg8"]
"#;
const OUTSIDE: &str = r#"[[engine]]
name = "theirs"
kind = "llama-bench"
program = "llama-bench.sh"
args = ["-rtr", "1"]
[engine.models]
"tiny-260k" = "models/tiny.gguf"
"#;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(kind: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
        for script in ["worker.sh", "llama-bench.sh"] {
            std::fs::copy(fake.join(script), bench.path(script)).unwrap();
        }
        std::fs::create_dir(bench.path("models")).unwrap();
        bench.write("models/tiny.gguf", &"GGUF".repeat(500));
        bench.write("llama-bench.sh.kind", kind);
        bench.write("own.toml", SUITE);
        bench.write("outside.toml", OUTSIDE);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.folder.path());
        command.args(["suite", "./own.toml", "--worker", "./worker.sh", "--out", "out"]).args(more);
        command
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.folder.path()).args(arguments).output().unwrap()
    }

    fn suite(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// A run called `run` with the outside file.
    fn run(&self, more: &[&str]) -> Output {
        self.suite(&[&["--name", "run", "--outside", "outside.toml"], more].concat())
    }

    /// The plan's only cell of an outside engine.
    fn planned(&self, more: &[&str]) -> PlannedCell {
        let output = self.harness(&[&["plan", "./own.toml", "--format", "json"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let plan: Plan = serde_json::from_slice(&output.stdout).unwrap();
        let [cell] = &plan.cells.into_iter().filter(|c| c.outside).collect::<Vec<_>>()[..] else { panic!("one cell") };
        cell.clone()
    }

    fn records(&self) -> Vec<Record> {
        let text = self.read("out/run/records.jsonl");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The run's records of the outside engine.
    fn theirs(&self) -> Vec<Record> {
        self.records().into_iter().filter(|r| r.cell.engine == "theirs").collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_beside_an_outside_engine() {
    let bench = Bench::new("ok");
    let output = bench.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let theirs = bench.theirs();
    assert_eq!(theirs.iter().map(|r| r.block).collect::<Vec<_>>(), [0, 1]);
    for record in &theirs {
        let outside = record.outside().unwrap_or_else(|| panic!("{record:?}"));
        assert_eq!(outside.samples.iter().map(|s| (s.tokens, s.duration_ns)).collect::<Vec<_>>(), [(8, 40_000_000); 3]);
        assert_eq!(outside.tokens_per_second(), Some(200.0));
        assert_eq!((outside.program.commit.as_deref(), outside.program.build), (Some("abc1234"), Some(42)));
        assert_eq!((outside.model.file.as_str(), outside.model.bytes), ("tiny.gguf", 1000));
        assert_eq!((outside.model.file_bytes, outside.model.read_per_token_bytes()), (Some(2000), 1000));
        let peak = outside.memory.peak_rss_bytes.unwrap();
        assert!((100_000..50_000_000).contains(&peak), "a shell's peak, not {peak}");
        assert!(outside.process_ns > 100_000_000 && outside.unchecked.contains("not checked"));
    }
    // One window tells how many are needed; the second block knows.
    let calls = bench.read("llama-bench.sh.calls");
    let windows: Vec<&str> = calls.lines().map(|c| c.split("-r ").nth(1).unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(windows, ["1", "3", "3"]);
    assert!(calls.lines().all(|call| call.contains("-t 1 -p 0 -n 8 ") && call.ends_with("-rtr 1")), "{calls}");
    // Files by name and digest, no paths.
    let run: Run = serde_json::from_str(&bench.read("out/run/run.json")).unwrap();
    let [files] = &run.outside[..] else { panic!("{:?}", run.outside) };
    assert_eq!((files.program.name.as_str(), files.models[0].file.name.as_str()), ("llama-bench.sh", "tiny.gguf"));
    assert!(files.models[0].file.digest.starts_with("blake3:"));
    let folder = bench.folder.path().display().to_string();
    assert!(
        !bench.read("out/run/records.jsonl").contains(&folder) && !bench.read("out/run/run.json").contains(&folder)
    );
    // Marked wherever they are shown.
    let csv = bench.read("out/run/summary.csv");
    let row = |start: &str| csv.lines().find(|l| l.contains(start)).unwrap_or_else(|| panic!("no {start} in {csv}"));
    let speed = row(",theirs,tiny-260k,1,tg8,tokens_per_second,200,");
    assert!(speed.contains(",outside,") && speed.contains("not checked"), "{speed}");
    assert!(row(",ternary,tiny-260k,1,tg8,ratio_to_theirs,").contains(",derived,ok,"));
    assert!(row(",theirs,tiny-260k,1,tg8,joules_per_token,,").contains(",na,"));
    assert!(row(",theirs,tiny-260k,1,tg8,read_per_token_bytes,1000,").contains(",modelled,outside,"));
    let page = bench.read("out/run/report.md");
    for part in
        ["## Beside outside engines", "theirs (outside) tokens/s", "abc1234 (build 42)", "no answer was checked"]
    {
        assert!(page.contains(part), "no `{part}` in:\n{page}");
    }
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("theirs (outside) t1") && table.contains("not checked"), "{table}");
}

/// A counter that stands still: what counts is that it was read from rest to rest, around the process.
#[test]
fn an_outside_process_is_measured_net_of_rest() {
    let bench = Bench::new("ok");
    bench.write("own.toml", &SUITE.replacen("seed", "idle = \"20ms\"\nseed", 1));
    let zone = "sys/class/powercap/intel-rapl/intel-rapl:0";
    std::fs::create_dir_all(bench.path(zone)).unwrap();
    for (file, text) in [("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "7000000")] {
        bench.write(&format!("{zone}/{file}"), text);
    }
    let output = bench.run(&["--sysfs-root", "sys", "--blocks", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let [record] = &bench.theirs()[..] else { panic!("{:?}", bench.theirs()) };
    let Energy::Measured(joules) = &record.outside().unwrap().process_energy else { panic!("{record:?}") };
    assert_eq!((joules.source.as_str(), joules.total_uj, joules.net_uj), ("powercap", 0, Some(0)));
    assert_eq!(joules.tokens, 24, "three windows of eight");
}

/// Each in one suite: an outside engine of its own for everything that can go wrong.
#[test]
fn whatever_an_outside_program_does_is_a_failed_row() {
    let cases = [
        ("slow", "timeout", "killed after 3.0 s"),
        ("crash", "killed", "11 (SIGSEGV)"),
        ("code", "measure", "exit code 3: error: failed to load model"),
        ("garbage", "protocol", "no JSON of llama-bench"),
        ("silent", "protocol", "no JSON of llama-bench"),
        ("half", "protocol", "no JSON of llama-bench"),
        ("threads", "protocol", "asked for 1 threads, answered for 7"),
        ("other-test", "protocol", "asked for tg8"),
        ("ok", "", ""),
    ];
    let bench = Bench::new("ok");
    let mut entries = String::new();
    for (kind, ..) in cases {
        let program = format!("{kind}.sh");
        std::fs::copy(bench.path("llama-bench.sh"), bench.path(&program)).unwrap();
        bench.write(&format!("{program}.kind"), kind);
        entries += &OUTSIDE.replace("theirs", kind).replace("llama-bench.sh", &program);
    }
    bench.write("outside.toml", &entries);
    let names: Vec<String> = cases.iter().map(|(kind, ..)| format!("\"{kind}\"")).collect();
    bench.write("own.toml", &SUITE.replace("60s", "3s").replace("\"theirs\"", &names.join(", ")));
    let output = bench.run(&["--blocks", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let records = bench.records();
    assert_eq!(records.len(), cases.len() + 1, "the suite goes on");
    for (kind, stage, part) in cases {
        let record = records.iter().find(|r| r.cell.engine == kind).unwrap();
        match &record.outcome {
            Outcome::Outside(_) => assert_eq!(kind, "ok"),
            Outcome::Failed(failure) => {
                assert_eq!(failure.stage, stage, "{kind}: {failure:?}");
                assert!(failure.message.contains(part) && failure.message.len() < 500, "{kind}: {failure:?}");
                assert!(failure.stderr_tail.contains("prose on stderr"), "{kind}: {failure:?}");
            }
            other => panic!("{kind}: {other:?}"),
        }
    }
}

#[test]
fn what_can_not_run_is_na_and_says_why() {
    let bench = Bench::new("ok");
    let reason = |arguments: &[&str]| bench.planned(arguments).na;
    let with = ["--outside", "outside.toml"];
    assert_eq!(reason(&with), None);
    assert!(reason(&[]).unwrap().contains("--outside FILE.toml"));
    for (from, to, part) in [
        ("theirs", "others", "no engine `theirs` in outside.toml"),
        ("\"tiny-260k\"", "\"tiny\"", "no GGUF file of `tiny-260k` for it, only of tiny"),
    ] {
        bench.write("outside.toml", &OUTSIDE.replace(from, to));
        assert!(reason(&with).unwrap().contains(part), "{:?}", reason(&with));
    }
    bench.write("outside.toml", OUTSIDE);
    for (from, to, part) in [
        ("\"tg8\"", "\"pp8@d4\"", "can't fill the cache"),
        ("[\"tg8\"]", "[\"tg8\"]\nkv = \"int8\"", "no cache of int8"),
        ("\"tg8\"", "\"tg513\"", "513 tokens, the model allows 512"),
        ("threads = [1]", "threads = [4096]", "4096 threads"),
        ("[\"tg8\"]", "[\"tg8\"]\nisa = \"scalar\"", "for a build with isa = \"scalar\""),
    ] {
        bench.write("own.toml", &SUITE.replace(from, to));
        assert!(reason(&with).unwrap().contains(part), "{to}: {:?}", reason(&with));
    }
    // By the user's word, the program is built for it.
    bench.write("outside.toml", &OUTSIDE.replace("args =", "isa = \"scalar\"\nargs ="));
    let planned = bench.planned(&with);
    assert!(planned.na.is_none() && planned.predicted_ns > 0 && planned.predicted_bytes > 1 << 20, "{planned:?}");
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_key() {
    let bench = Bench::new("ok");
    let plan = || bench.harness(&["plan", "./own.toml", "--outside", "outside.toml"]);
    let cases = [
        ("program =", "programm =", ["outside.toml", "did you mean `program`"]),
        ("llama-bench.sh", "nothing.sh", ["engine `theirs`: program", "nothing.sh"]),
        ("llama-bench.sh", "own.toml", ["engine `theirs`: program", "can be run"]),
        ("models/tiny.gguf", "models/none.gguf", ["models.\"tiny-260k\"", "none.gguf"]),
        ("models/tiny.gguf", "models", ["models.\"tiny-260k\"", "no file"]),
        ("\"theirs\"", "\"ternary\"", ["engine 1: name", "own engines"]),
    ];
    for (from, to, parts) in cases {
        bench.write("outside.toml", &OUTSIDE.replace(from, to));
        let output = plan();
        assert_eq!(output.status.code(), Some(65), "{to}: {}", stderr(&output));
        assert!(parts.iter().all(|part| stderr(&output).contains(part)), "{to}: {}", stderr(&output));
    }
    bench.write("outside.toml", OUTSIDE);
    bench.write("llama-bench.sh.kind", "other");
    let output = plan();
    assert!(output.status.code() == Some(65) && stderr(&output).contains("something else"), "{}", stderr(&output));
}

#[test]
fn a_run_is_gone_on_with_only_by_the_same_files() {
    let bench = Bench::new("ok");
    assert_eq!(bench.run(&["--budget", "0s"]).status.code(), Some(0));
    let output = bench.suite(&["--resume", "run"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("--outside FILE.toml"), "{}", stderr(&output));
    bench.write("models/tiny.gguf", "GGUF of another model");
    let output = bench.suite(&["--resume", "run", "--outside", "outside.toml"]);
    assert!(output.status.code() == Some(65) && stderr(&output).contains("have changed"), "{}", stderr(&output));
    bench.write("models/tiny.gguf", &"GGUF".repeat(500));
    let output = bench.suite(&["--resume", "run", "--outside", "outside.toml", "--budget", "10m"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(bench.theirs().iter().filter(|r| r.outside().is_some()).count(), 2);
}

/// Whether a process with `word` on its command line runs.
#[cfg(target_os = "linux")]
fn runs(word: &str) -> bool {
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|e| std::fs::read(e.ok()?.path().join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(word))
}

/// What a fake that hangs started, and what it is itself, ends with the driver, however that goes.
#[cfg(target_os = "linux")]
#[test]
fn no_program_outlives_the_driver() {
    use rustix::process::{Pid, Signal, kill_process};
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let bench = Bench::new("slow");
        let model = bench.path("models/tiny.gguf").display().to_string();
        let mut command = bench.command(&["--name", "run", "--outside", "outside.toml"]);
        let mut driver =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let wait = |until: &dyn Fn() -> bool| {
            (0..1500).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                until()
            })
        };
        assert!(wait(&|| bench.path("llama-bench.sh.hanging").exists()) && runs(&model), "it is started");
        kill_process(Pid::from_child(&driver), signal).unwrap();
        assert_eq!(driver.wait().unwrap().code(), code);
        assert!(wait(&|| !runs(&model)), "it runs on after {signal:?}");
    }
}
