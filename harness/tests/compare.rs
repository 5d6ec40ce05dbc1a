//! `compare` of two runs, `rank` and `benches` as a user meets them: what they print, what they refuse, their exit codes.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RECORDED: &str = "x86-quick-zen5-2cpu";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A recorded run by another name, with changes to its `run.json` and to each of its records.
    fn run(&self, name: &str, run: &[(&str, &str)], records: &[(&str, &str)]) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results").join(RECORDED);
        let to = self.path("results").join(name);
        std::fs::create_dir_all(&to).unwrap();
        for (file, changes) in [("run.json", run), ("plan.json", &[]), ("records.jsonl", records)] {
            let mut text = std::fs::read_to_string(from.join(file)).unwrap().replace(RECORDED, name);
            for (from, to) in changes {
                assert!(text.contains(from), "{file}: {from}");
                text = text.replace(from, to);
            }
            std::fs::write(to.join(file), text).unwrap();
        }
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.current_dir(self.folder.path()).env_remove("CARGO_TARGET_DIR").args(arguments).output().unwrap()
    }

    fn told(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.harness(arguments);
        let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        (output.status.code(), text)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.harness(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn two_runs_are_held_against_each_other_cell_by_cell() {
    let bench = Bench::new();
    bench.run("one", &[], &[]);
    // A digit put first makes every time of loading more than twice as long.
    bench.run("two", &[], &[("\"load_ns\":", "\"load_ns\":1")]);
    let found = bench.json(&["compare", "one", "two", "--format", "json"]);
    let cells = found["cells"].as_array().unwrap();
    let of = |metric: &str| cells.iter().filter(|line| line["metric"] == metric).collect::<Vec<_>>();
    let speeds = of("tokens_per_second");
    assert!(speeds.len() > 5, "{}", speeds.len());
    for line in speeds.iter().chain(&of("peak_rss_bytes")) {
        assert_eq!((&line["ratio"]["value"], &line["change"]), (&1.0.into(), &"not-told-apart".into()), "{line}");
        assert!(line["ratio"]["lo"].as_f64().unwrap() <= 1.0 && line["ratio"]["hi"].as_f64().unwrap() >= 1.0, "{line}");
        assert!(line["baseline_n"].as_u64().unwrap() >= 2 && line["kind"] == "measured", "{line}");
    }
    assert!(of("load_seconds").iter().all(|line| line["change"] == "higher"));
    assert_eq!(found["means"][0]["of"], "all");
    assert_eq!(found["means"][0]["ratio"]["value"], 1.0);
    assert_eq!(found["means"][0]["cells"].as_u64().unwrap() as usize, speeds.len());
    // What a shared machine does between two runs is told where ratios are.
    let (code, table) = bench.told(&["compare", "one", "two"]);
    assert!(code == Some(0) && table.contains("drift by 15.0 % and more") && table.contains("one: "), "{table}");
    let csv = bench.harness(&["compare", "one", "two", "--format", "csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(
        csv.starts_with("baseline,candidate,of,metric,")
            && csv.contains("one,two,all,geometric_mean_of_speed,x,,,,,1.0,"),
        "{csv}"
    );
    assert!(bench.told(&["compare", "one", "two", "--format", "markdown"]).1.contains("| cell | metric | baseline |"));
}

#[test]
fn runs_that_can_not_be_compared_are_refused_with_the_field() {
    let bench = Bench::new();
    bench.run("one", &[], &[]);
    let digest = "blake3:a813b021ff7edf3c5d641a005b49a43959f0c0074b9ca33c162c5d54fac8f155";
    type Changes<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, Changes<'_>, Changes<'_>, &str); 5] = [
        ("cpu", &[("AMD EPYC", "Another")], &[], "machine's CPU: \"AMD EPYC\" and \"Another\""),
        (
            "profile",
            &[("\"profile\": \"dev\"", "\"profile\": \"test\"")],
            &[("\"profile\":\"dev\"", "\"profile\":\"test\"")],
            "build profile: \"dev\" and \"test\"",
        ),
        ("suite", &[(digest, "blake3:00")], &[], "text of the suite (cells, windows, blocks): "),
        (
            "schema",
            &[("\"schema\": 1", "\"schema\": 2")],
            &[("\"schema\":1,", "\"schema\":2,")],
            "schema of the records: 1 and 2",
        ),
        ("model", &[("\"digest\": \"blake3:", "\"digest\": \"blake3:0")], &[], "digest of model `"),
    ];
    for (name, run, records, want) in cases {
        bench.run(name, run, records);
        let output = bench.harness(&["compare", "one", name]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(65), 0), "{message}");
        assert!(
            message.contains(&format!("runs one and {name} can't be compared: ")) && message.contains(want),
            "{message}"
        );
    }
}

#[test]
fn what_is_no_pair_of_runs_is_told() {
    let bench = Bench::new();
    bench.run("one", &[], &[]);
    let (code, text) = bench.told(&["compare", "one", "nothing"]);
    assert!(code == Some(65) && text.contains("nothing/run.json"), "{text}");
    let (code, text) = bench.told(&["compare", "results/one/records.jsonl", "one"]);
    assert!(code == Some(64) && text.contains("expected two runs or two logs of items"), "{text}");
    let (code, text) = bench.told(&["compare", "results/one/records.jsonl", "gone.jsonl"]);
    assert!(code == Some(65) && text.contains("gone.jsonl: expected a log of items"), "{text}");
    bench.run("empty", &[], &[]);
    std::fs::write(bench.path("results/empty/records.jsonl"), "").unwrap();
    let (code, text) = bench.told(&["compare", "one", "empty"]);
    assert!(code == Some(2) && text.contains("no cell was measured in both"), "{text}");
    bench.run("torn", &[], &[]);
    let records = bench.path("results/torn/records.jsonl");
    let text = std::fs::read_to_string(&records).unwrap();
    std::fs::write(&records, &text[..text.len() - 20]).unwrap();
    let (code, told) = bench.told(&["compare", "one", "torn"]);
    assert!(code == Some(0) && told.contains("the last line is torn"), "{told}");
    std::fs::write(&records, text.replacen("\"schema\":1", "\"schema\":\"x\"", 1)).unwrap();
    let (code, told) = bench.told(&["compare", "one", "torn"]);
    assert!(code == Some(65) && told.contains("records.jsonl:1"), "{told}");
}

#[test]
fn engines_of_a_run_are_ranked() {
    let bench = Bench::new();
    bench.run("one", &[], &[]);
    let found = bench.json(&["rank", "one", "--format", "json"]);
    let ranking = &found["rankings"][0];
    let places = ranking["places"].as_array().unwrap();
    assert!(places.len() > 2, "{}", places.len());
    for place in places {
        let list = place["standings"].as_array().unwrap();
        assert!(list.len() >= 2 && list[0]["rank"] == 1 && list[0]["ratio"].is_null(), "{place}");
        for own in &list[1..] {
            let hi = own["decided_by"]["hi"].as_f64();
            // Either it is told from the first of its rank, or it shares that rank.
            assert!(hi.is_some_and(|hi| hi < 1.0) || own["tied"] == true, "{own}");
        }
    }
    assert_eq!(ranking["overall"][0]["rank"], 1);
    let over = bench.json(&["rank", "one", "--format", "json", "--baseline", "f16"]);
    let list = over["rankings"][0]["overall"].as_array().unwrap();
    assert!(list.iter().all(|own| own["ratio"].is_null() == (own["engine"] == "f16")), "{list:?}");
    let (code, table) = bench.told(&["rank", "one"]);
    assert!(code == Some(0) && table.contains("Overall: geometric mean of tokens/s over the"), "{table}");
    let (code, text) = bench.told(&["rank", "one", "--baseline", "f61"]);
    assert!(code == Some(64) && text.contains("unknown engine `f61`"), "{text}");
    assert_eq!(bench.told(&["rank", "one", "--engines", "nothing"]).0, Some(64));
    assert_eq!(bench.told(&["rank", "nothing"]).0, Some(65));
    assert_eq!(bench.told(&["rank"]).0, Some(64));
}

#[test]
fn several_runs_are_ranked_apart() {
    let bench = Bench::new();
    bench.run("one", &[], &[]);
    bench.run("two", &[], &[]);
    bench.run("far", &[("AMD EPYC", "Another")], &[]);
    let found = bench.json(&["rank", "one", "two", "far", "--format", "json"]);
    assert_eq!(found["rankings"].as_array().unwrap().len(), 3);
    let apart = found["apart"].as_array().unwrap();
    assert!(apart[0].as_str().unwrap().contains("different times"), "{apart:?}");
    assert!(apart[1].as_str().unwrap().contains("one and far can't be compared: machine's CPU"), "{apart:?}");
}

const BENCHMARK: &str = r#"{"group_id":"decode/f16/6912x2560","function_id":"scalar","value_str":"1","throughput":{"ElementsAndBytes":{"elements":4000,"bytes":1000}},"full_id":"decode/f16/6912x2560/scalar/1","directory_name":"d","title":"t"}"#;
const ESTIMATES: &str = r#"{"median":{"confidence_interval":{"confidence_level":0.95,"lower_bound":10.0,"upper_bound":30.0},"point_estimate":20.0,"standard_error":1.0}}"#;
const SAMPLE: &str = r#"{"sampling_mode":"Linear","iters":[1.0,2.0,3.0],"times":[30.0,40.0,30.0]}"#;

#[test]
fn benches_are_joined_into_records() {
    let bench = Bench::new();
    let case = |name: &str| {
        let new = bench.path("target/criterion").join(name).join("new");
        std::fs::create_dir_all(&new).unwrap();
        for (file, text) in [("benchmark.json", BENCHMARK), ("estimates.json", ESTIMATES), ("sample.json", SAMPLE)] {
            std::fs::write(new.join(file), text).unwrap();
        }
        new
    };
    let (code, text) = bench.told(&["benches", "target/criterion"]);
    assert!(code == Some(65) && text.contains("target/criterion: expected criterion's folder"), "{text}");
    let good = case("a/b");
    let found = bench.json(&["benches", "target/criterion", "--format", "json", "--out", "kept/benches.json"]);
    let kept: Value = serde_json::from_slice(&std::fs::read(bench.path("kept/benches.json")).unwrap()).unwrap();
    assert_eq!(found, kept);
    let case_found = &found["benches"][0];
    let figures =
        ["median_ns", "lo_ns", "hi_ns", "bytes_per_second", "operations_per_second"].map(|key| &case_found[key]);
    assert_eq!(figures, [20.0, 10.0, 30.0, 5e10, 2e11].map(Value::from).each_ref());
    assert_eq!(
        (&case_found["isa"], &case_found["shape"], &case_found["samples"]),
        (&"scalar".into(), &"6912x2560".into(), &3.into())
    );
    assert!(found["machine"]["cpu"].is_string() && found["build"]["profile"].is_string() && found["schema"] == 1);
    let csv = bench.told(&["benches", "target/criterion", "--format", "csv"]).1;
    let row = "decode/f16/6912x2560/scalar/1,decode/f16/6912x2560,scalar,1,decode/f16,6912x2560,scalar,1,20.0,10.0,30.0,0.95,3,1000,4000,";
    assert!(csv.starts_with("name,group,function,value,") && csv.contains(row), "{csv}");
    let (code, table) = bench.told(&["benches", "target/criterion", "--only", "f16"]);
    assert!(code == Some(0) && table.contains("20.0 ns [10.0, 30.0]") && table.contains("Written from 20"), "{table}");
    // One file that is torn keeps no other out, and is told.
    std::fs::write(case("a/torn").join("estimates.json"), &ESTIMATES[..70]).unwrap();
    let (code, text) = bench.told(&["benches", "target/criterion"]);
    assert!(
        code == Some(1) && text.contains("left out: ") && text.contains("torn/new/estimates.json: expected what"),
        "{text}"
    );
    assert!(text.contains("20.0 ns [10.0, 30.0]"), "{text}");
    std::fs::write(good.join("benchmark.json"), "{}").unwrap();
    let (code, text) = bench.told(&["benches", "target/criterion"]);
    assert!(
        code == Some(65) && text.contains("missing field `group_id`") && text.contains("found none, and 2 files"),
        "{text}"
    );
}
