//! Energy as a user meets it: a counter that this test advances at a known power, read by `energy`, `doctor` and a suite's
//! real worker.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use suites::Record;
use suites::arithmetic::{Counted, Layers, Process};
use suites::record::{Energy, EnergyKind, Stage};

const WATTS: f64 = 40.0;

/// A powercap tree whose one package takes [`WATTS`] as long as this lives.
struct Machine {
    folder: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    late_ns: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("class/powercap/intel-rapl/intel-rapl:0");
        std::fs::create_dir_all(&zone).unwrap();
        for (file, text) in [("name", "package-0\n"), ("max_energy_range_uj", "262143328850\n"), ("energy_uj", "0\n")] {
            std::fs::write(zone.join(file), text).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let late_ns = Arc::new(AtomicU64::new(0));
        let (stopped, file, begin, late) =
            (Arc::clone(&stop), zone.join("energy_uj"), Instant::now(), Arc::clone(&late_ns));
        let writer = std::thread::spawn(move || {
            let mut last = begin;
            while !stopped.load(Ordering::Relaxed) {
                late.fetch_max(last.elapsed().as_nanos() as u64, Ordering::Relaxed);
                last = Instant::now();
                let new = file.with_extension("new");
                std::fs::write(&new, format!("{}\n", (begin.elapsed().as_secs_f64() * WATTS * 1e6) as u64)).unwrap();
                // Replaced at once, so that no reader sees half of it.
                std::fs::rename(&new, &file).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Machine { folder, stop, late_ns, writer: Some(writer) }
    }

    /// What the counter may be wrong by over a window, as a part of it: on a busy machine it was advanced late at either end.
    fn late(&self, window_ns: f64) -> f64 {
        2.0 * self.late_ns.load(Ordering::Relaxed) as f64 / window_ns
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.folder.path()).args(arguments).output().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.take().map(JoinHandle::join);
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_commands_joules_with_its_own_output_and_exit_code() {
    let machine = Machine::new();
    let usual = ["energy", "--sysfs-root", ".", "--json", "out.json", "--csv", "out.csv", "--interval", "200ms"];
    let output =
        machine.harness(&[&usual[..], &["--idle", "300ms", "--", "sh", "-c", "echo said; sleep 1; exit 7"]].concat());
    let told = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(7), "said\n"), "{told}");
    assert!(told.contains("J (powercap, measured)") && told.contains("package-0"), "{told}");
    let report = json(&machine.path("out.json"));
    assert_eq!((&report["exit_code"], &report["signal"]), (&7.into(), &serde_json::Value::Null));
    let source = &report["sources"][0];
    let mean = source["average_mw"].as_f64().unwrap() / 1e3;
    assert!((mean / WATTS - 1.0).abs() < 0.05 + machine.late(1e9), "{report:#}");
    // At rest the machine takes as much: next to nothing is left.
    let (total, net) = (source["total_uj"].as_f64().unwrap(), source["net_uj"].as_f64().unwrap());
    assert!(net.abs() < (0.1 + machine.late(300e6)) * total, "{report:#}");
    assert!(report["peak_rss_bytes"].as_u64().unwrap() > 100_000, "{report:#}");
    let mut rows = csv::Reader::from_path(machine.path("out.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    let sum: f64 = rows.iter().filter(|row| &row[4] == "total").map(|row| row[5].parse::<f64>().unwrap()).sum();
    assert!((sum * 1e6 / total - 1.0).abs() < 1e-6, "{sum} J in rows of {total} uJ");
    assert!(rows.len() >= 8, "{rows:?}");
}

#[test]
fn a_killed_command_and_a_signal_to_the_meter_lose_nothing() {
    let machine = Machine::new();
    let usual = ["energy", "--sysfs-root", ".", "--json", "out.json", "--"];
    let output = machine.harness(&[&usual[..], &["sh", "-c", "sleep 0.2; kill -9 $$"]].concat());
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
    let report = json(&machine.path("out.json"));
    assert!(report["signal"] == 9 && report["sources"][0]["total_uj"].as_u64() > Some(1_000_000), "{report:#}");
    // To the meter alone: passed on, and everything is told at the end.
    let mut meter = Command::new(env!("CARGO_BIN_EXE_harness"));
    meter.current_dir(machine.folder.path()).args(usual).args(["sleep", "30"]);
    let mut meter = meter.stdin(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(Command::new("kill").args(["-TERM", &meter.id().to_string()]).status().unwrap().success());
    assert_eq!(meter.wait().unwrap().code(), Some(143));
    let report = json(&machine.path("out.json"));
    assert!(report["signal"] == 15 && report["sources"][0]["total_uj"].as_u64() > Some(1_000_000), "{report:#}");
}

#[test]
fn without_counters_the_command_runs_and_the_reasons_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(folder.path()).args(arguments).output().unwrap()
    };
    let output = run(&["energy", "--sysfs-root", ".", "--", "sh", "-c", "exit 3"]);
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(3) && told.contains("no powercap: no powercap tree at"), "{told}");
    assert_eq!(run(&["energy"]).status.code(), Some(64));
    let output = run(&["energy", "--", "./nothing"]);
    assert!(output.status.code() == Some(64) && text(&output.stderr).contains("./nothing"), "{output:?}");
}

/// A meter of the user's own comes first; what is modelled is never called measured, and never makes `doctor` content.
#[test]
fn a_users_meter_is_trusted_most_and_a_model_is_marked() {
    let machine = Machine::new();
    std::fs::write(machine.path("wall"), "55.5 W\n").unwrap();
    let usual = ["energy", "--sysfs-root", ".", "--meter", "file:wall", "--cpu-watts", "65", "--json", "out.json"];
    let output = machine.harness(&[&usual[..], &["--", "sleep", "0.4"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = json(&machine.path("out.json"));
    let sources = report["sources"].as_array().unwrap();
    let of = |index: usize| (sources[index]["source"].as_str().unwrap(), sources[index]["kind"].as_str().unwrap());
    assert_eq!([of(0), of(1), of(2)], [("file", "measured"), ("powercap", "measured"), ("cpu-time", "modelled")]);
    let mean = sources[0]["average_mw"].as_f64().unwrap();
    assert!((mean / 55_500.0 - 1.0).abs() < 0.01, "{report:#}");
    let told = text(&output.stderr);
    assert!(told.contains("(cpu-time, modelled)") && !told.contains("(cpu-time, measured)"), "{told}");
    let empty = tempfile::tempdir().unwrap();
    let output = machine.harness(&["doctor", "--sysfs-root", &empty.path().display().to_string(), "--cpu-watts", "65"]);
    assert_eq!(output.status.code(), Some(2), "modelled only");
    assert!(text(&output.stdout).contains("cpu-time (modelled)"), "{output:?}");
    assert_eq!(machine.harness(&["energy", "--meter", "wall", "--", "true"]).status.code(), Some(64));
}

#[test]
fn doctor_tells_every_source_and_by_its_exit_code_whether_one_measures() {
    let machine = Machine::new();
    let output = machine.harness(&["doctor", "--sysfs-root", ".", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sources = told["energy"].as_array().unwrap();
    let of = |name: &str| sources.iter().find(|source| source["source"] == name).unwrap();
    assert_eq!((&of("powercap")["kind"], &of("powercap")["domains"][0]["counted"]), (&"measured".into(), &true.into()));
    for missing in ["perf", "hwmon", "battery"] {
        assert!(of(missing)["available"] == false && of(missing)["reason"].is_string(), "{told:#}");
    }
    let empty = tempfile::tempdir().unwrap();
    let output = machine.harness(&["doctor", "--sysfs-root", &empty.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_model_of_the_papers_is_printed_as_modelled() {
    let machine = Machine::new();
    let output = machine.harness(&["energy", "model"]);
    let told = text(&output.stdout);
    assert!(output.status.success() && told.starts_with("Modelled, not measured"), "{told}");
    let row = told.lines().find(|line| line.starts_with("BitNet b1.58 2B4T") && line.contains(" 7 nm")).unwrap();
    assert!(row.contains("0.0277") && row.ends_with("0.028"), "{row}");
    let output = machine.harness(&["energy", "model", "--model", "2b4t", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["rows"].as_array().unwrap().len(), 6);
    assert!(told["rows"].as_array().unwrap().iter().all(|row| row["kind"] == "modelled"), "{told:#}");
    assert_eq!(machine.harness(&["energy", "model", "--model", "2b4x"]).status.code(), Some(64));
}

/// Counters that root alone may read, and a user who is not root: told with file, mode and command; granted by that command, and
/// taken back.
#[test]
fn a_user_without_the_right_is_told_and_granted_it() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    let open = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), 0o755);
    let zone = folder.path().join("sys/class/powercap/intel-rapl/intel-rapl:0");
    std::fs::create_dir_all(&zone).unwrap();
    for (file, text) in [("name", "package-0\n"), ("max_energy_range_uj", "262143328850\n"), ("energy_uj", "5\n")] {
        std::fs::write(zone.join(file), text).unwrap();
    }
    // Whoever is root here can read everything, and lets another user look. A user reads not even what is his own at mode 0.
    let root = rustix::process::geteuid().is_root();
    let mode = if root { 0o400 } else { 0 };
    open(&zone.join("energy_uj"), mode);
    let program = folder.path().join("harness");
    std::fs::copy(env!("CARGO_BIN_EXE_harness"), &program).unwrap();
    open(&program, 0o755);
    let sysfs = folder.path().join("sys").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir("/").args(arguments);
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    };
    let doctor = || {
        let output = run(&["doctor", "--sysfs-root", &sysfs]);
        (output.status.code(), text(&output.stdout))
    };
    let (code, told) = doctor();
    let want = format!("intel-rapl:0/energy_uj: Permission denied (os error 13): its mode is {mode:04o}, its owner ");
    assert!(code == Some(2) && told.contains(&want) && told.contains("sudo scripts/grant-rapl --apply"), "{told}");
    let output = run(&["energy", "--sysfs-root", &sysfs, "--", "sh", "-c", "exit 5"]);
    assert!(output.status.code() == Some(5) && text(&output.stderr).contains(&want), "{output:?}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/grant-rapl");
    let grant = |word: &str| {
        let output =
            Command::new(&script).args(["--root", &folder.path().display().to_string(), word]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    grant("--apply");
    let (code, told) = doctor();
    assert!(code == Some(0) && told.contains("powercap (measured)"), "{told}");
    if root {
        grant("--undo");
        assert_eq!(doctor().0, Some(2));
    }
}

/// A real worker of a suite, against a counter of known power: joules a token are power over speed, to 1 %.
#[test]
fn a_suites_joules_a_token_are_right() {
    let machine = Machine::new();
    let suite = "name = \"own\"\nabout = \"a test\"\nblocks = 1\nseed = 9\ntimeout = \"60s\"\nmin_window = \"2s\"\nidle = \"500ms\"\n\
        [[group]]\nmodels = [\"125m\"]\nengines = [\"ternary\"]\nthreads = [1]\nworkloads = [\"tg16@d32\"]\n";
    std::fs::write(machine.path("own.toml"), suite).unwrap();
    let output = machine.harness(&["suite", "./own.toml", "--sysfs-root", ".", "--out", "out", "--name", "run"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let records = std::fs::read_to_string(machine.path("out/run/records.jsonl")).unwrap();
    let record: Record = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    let measured = record.measurement().unwrap();
    let Energy::Measured(joules) = &measured.energy else { panic!("{:?}", measured.energy) };
    let seconds: f64 = measured.samples.iter().map(|sample| sample.duration_ns as f64 / 1e9).sum();
    let tokens: u64 = measured.samples.iter().map(|sample| u64::from(sample.tokens)).sum();
    assert_eq!(joules.tokens, tokens);
    let (found, want) = (joules.total_uj as f64 / 1e6 / tokens as f64, WATTS * seconds / tokens as f64);
    assert!(
        (found / want - 1.0).abs() < 0.01 + machine.late(seconds * 1e9),
        "{found} J/token, {want} by power and speed; {joules:?}, {seconds} s"
    );
    // From rest to rest, each at the same power: next to nothing is left net of rest.
    let stages: Vec<Stage> = measured.phases.iter().map(|phase| phase.stage).collect();
    assert_eq!(stages, [Stage::IdleBefore, Stage::Load, Stage::Prefill, Stage::Decode, Stage::IdleAfter]);
    for phase in &measured.phases {
        let watts = phase.sources[0].total_uj.unwrap() as f64 * 1e3 / phase.window_ns as f64;
        let slack = 0.02 + 10e6 / phase.window_ns as f64 + machine.late(phase.window_ns as f64);
        assert!((watts / WATTS - 1.0).abs() < slack, "{watts} W, {phase:?}");
        assert!(phase.peak_rss_bytes <= measured.memory.peak_rss_bytes, "{phase:?}");
    }
    assert_eq!(measured.phases[2].tokens, 32);
    // What the papers' arithmetic makes of the same tokens stands beside it, marked.
    let modelled = measured.phases[3].sources.iter().find(|source| source.source == "arithmetic").unwrap();
    assert_eq!(modelled.kind, EnergyKind::Modelled);
    let catalogue = suites::Catalogue::embedded().unwrap();
    let Ok(suites::ModelSpec::Synthetic(shape)) = catalogue.model("125m") else { panic!() };
    let at = |tokens| Counted::from(shape).energy(Layers::Ternary, Process::Nm7, tokens).total() * 1e6;
    let want = (at(48) - at(32)) * measured.samples.len() as f64;
    let found = modelled.total_uj.unwrap() as f64;
    assert!((found - want).abs() <= 1.0, "{found} uJ by the arithmetic, {want} expected");
    let net = joules.net_uj.unwrap() as f64 / joules.total_uj as f64;
    assert!(net.abs() < 0.05 + machine.late(500e6), "{net} of all is left net of rest");
    let summary = std::fs::read_to_string(machine.path("out/run/summary.csv")).unwrap();
    let row = summary.lines().find(|line| line.contains(",joules_per_token,")).unwrap();
    assert!(row.contains(",measured,ok,"), "{row}");
    for metric in ["net_joules_per_token", "average_watts", "peak_watts", "energy_delay"] {
        assert!(
            summary.lines().any(|line| line.contains(&format!(",{metric},")) && line.contains(",measured,ok,")),
            "{metric}"
        );
    }
}

/// The study of what sampling costs, on windows too short to judge: what was read, both halves, the control, and an exit code that
/// says what was found.
#[test]
fn the_study_of_overhead_keeps_every_window() {
    let machine = Machine::new();
    let usual = ["energy", "overhead", "--model", "125m", "--tokens", "2", "--processes", "2", "--quads", "1"];
    let study =
        |more: &[&str]| machine.harness(&[&usual[..], &["--out", ".", "--name", "o", "--sysfs-root"], more].concat());
    let output = study(&["."]);
    let told = text(&output.stdout);
    assert!(told.contains("overhead ") && told.contains("control "), "{told}\n{}", text(&output.stderr));
    let found = json(&machine.path("o/overhead.json"));
    assert_eq!((&found["made_tree"], &found["sources"]), (&false.into(), &"powercap: package-0".into()), "{found:#}");
    let processes = found["processes"].as_array().unwrap();
    let windows = processes.iter().flat_map(|quads| quads.as_array().unwrap());
    let of =
        |quad: &serde_json::Value, half: &str| quad[half][0].as_u64() > Some(0) && quad[half][1].as_u64() > Some(0);
    let windows: Vec<bool> = windows.map(|quad| of(quad, "with_ns") && of(quad, "without_ns")).collect();
    assert_eq!(windows, [true; 4]);
    let code = match found["verdict"].as_str().unwrap() {
        "below the bound" => 0,
        "above the bound" => 1,
        _ => 2,
    };
    assert_eq!(output.status.code(), Some(code), "{told}");
    // A name is taken once; and where nothing measures, files are made, and that is said.
    assert_eq!(study(&["."]).status.code(), Some(64));
    std::fs::remove_dir_all(machine.path("o")).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let output = study(&[&empty.path().display().to_string()]);
    assert!(text(&output.stdout).contains("files made for this study: nothing measures here"), "{output:?}");
}
