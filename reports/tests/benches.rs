//! Criterion's folder in, records out; torn and alien files are told of.

mod fixture;

use reports::benches::{Records, SCHEMA, read, show};
use reports::sheet::Format;
use std::path::{Path, PathBuf};

const BENCHMARK: &str = r#"{"group_id":"decode/ternary-2bit/6912x2560","function_id":"avx2","value_str":"2","throughput":{"ElementsAndBytes":{"elements":4000,"bytes":1000}},"full_id":"decode/ternary-2bit/6912x2560/avx2/2","directory_name":"d","title":"t"}"#;
/// The median of 10, 20 and 30 ns.
const ESTIMATES: &str = r#"{"mean":{"point_estimate":1},"median":{"confidence_interval":{"confidence_level":0.95,"lower_bound":10.0,"upper_bound":30.0},"point_estimate":20.0,"standard_error":1.0},"slope":null}"#;
const SAMPLE: &str = r#"{"sampling_mode":"Linear","iters":[1.0,2.0,3.0],"times":[30.0,40.0,30.0]}"#;

fn case(folder: &Path, name: &str) -> PathBuf {
    let new = folder.join("criterion").join(name).join("new");
    std::fs::create_dir_all(&new).unwrap();
    for (file, text) in [("benchmark.json", BENCHMARK), ("estimates.json", ESTIMATES), ("sample.json", SAMPLE)] {
        std::fs::write(new.join(file), text).unwrap();
    }
    new
}

fn found(folder: &Path) -> (Vec<reports::benches::Bench>, Vec<String>) {
    read(&folder.join("criterion"), &folder.join("kernels")).unwrap()
}

#[test]
fn a_case_has_its_names_times_and_rates() {
    let folder = tempfile::tempdir().unwrap();
    let new = case(folder.path(), "a/b/avx2/2");
    // Other folders of criterion's are none.
    std::fs::create_dir_all(new.with_file_name("report")).unwrap();
    std::fs::write(folder.path().join("criterion/a/stray.json"), "{").unwrap();
    let (benches, left_out) = found(folder.path());
    assert!(left_out.is_empty(), "{left_out:?}");
    let [bench] = benches.as_slice() else { panic!("{benches:?}") };
    assert_eq!((bench.kernel.as_str(), bench.shape.as_deref()), ("decode/ternary-2bit", Some("6912x2560")));
    assert_eq!((bench.isa.as_deref(), bench.threads), (Some("avx2"), Some(2)));
    assert_eq!(
        (bench.median_ns, bench.lo_ns, bench.hi_ns, bench.confidence, bench.samples),
        (20.0, 10.0, 30.0, 0.95, 3)
    );
    // 1000 bytes in 20 ns.
    assert_eq!((bench.bytes_per_second, bench.operations_per_second), (Some(5e10), Some(2e11)));
    assert_eq!((bench.bound.as_deref(), bench.share), (None, None));
    assert!(bench.written_unix_s.is_some());
}

#[test]
fn names_and_throughput_are_taken_as_far_as_they_go() {
    let folder = tempfile::tempdir().unwrap();
    for (name, group, function, throughput) in [
        ("a", "sort", "null", "null"),
        ("b", "softmax/128", r#""quick""#, r#"{"Bytes":40}"#),
        ("c", "x/1.5/7", r#""scalar""#, r#"{"Elements":40}"#),
    ] {
        let text = BENCHMARK.replace("decode/ternary-2bit/6912x2560\",\"function", &format!("{group}\",\"function"));
        let text = text.replace(r#""avx2","value_str":"2""#, &format!(r#"{function},"value_str":"many""#));
        let text = text.replace(r#"{"ElementsAndBytes":{"elements":4000,"bytes":1000}}"#, throughput);
        std::fs::write(case(folder.path(), name).join("benchmark.json"), text).unwrap();
    }
    let (benches, left_out) = found(folder.path());
    assert!(left_out.is_empty(), "{left_out:?}");
    let told = |at: usize| {
        let b = &benches[at];
        (b.kernel.as_str(), b.shape.as_deref(), b.isa.as_deref(), b.threads, b.bytes, b.operations)
    };
    assert_eq!(told(0), ("softmax", Some("128"), None, None, Some(40), None));
    assert_eq!(told(1), ("sort", None, None, None, None, None));
    assert_eq!(told(2), ("x/1.5", Some("7"), Some("scalar"), None, None, Some(40)));
    assert_eq!(benches[1].bytes_per_second, None, "unknown is not 0");
}

#[test]
fn what_is_torn_or_alien_is_left_out_and_told() {
    let huge = SAMPLE.replacen("3.0]", &format!("3.0]{}", " ".repeat(17 << 20)), 1);
    let cases = [
        ("estimates.json", "", "expected what criterion writes: EOF"),
        ("estimates.json", &ESTIMATES[..60], "expected what criterion writes: EOF"),
        ("estimates.json", r#"{"mean":1}"#, "missing field `median`"),
        ("benchmark.json", "[1,2]", "benchmark.json: expected what criterion writes"),
        ("benchmark.json", &BENCHMARK.replace("ElementsAndBytes", "Furlongs"), "unknown variant `Furlongs`"),
        ("benchmark.json", &BENCHMARK.replace("4000", "-4000"), "invalid value"),
        (
            "estimates.json",
            &ESTIMATES.replace(":20.0", ":0.0"),
            "median.point_estimate: expected nanoseconds over 0, found 0",
        ),
        ("estimates.json", &ESTIMATES.replace(":10.0", ":25.0"), "median.confidence_interval: expected bounds"),
        (
            "estimates.json",
            &ESTIMATES.replace("0.95", "95.0"),
            "confidence_level: expected a part between 0 and 1, found 95",
        ),
        ("estimates.json", &ESTIMATES.replace(":20.0", ":20.1"), "are the two of one run?"),
        (
            "sample.json",
            &SAMPLE.replace("[1.0,", "["),
            "iters, times: expected as many of one as of the other, and some, found 2 and 3",
        ),
        ("sample.json", r#"{"iters":[],"times":[]}"#, "found 0 and 0"),
        (
            "sample.json",
            &SAMPLE.replace("[1.0,", "[0.0,"),
            "times, iters: expected a time of an iteration over 0, found inf",
        ),
        ("sample.json", &huge, "at most 16777216 bytes"),
    ];
    for (file, text, want) in cases {
        let folder = tempfile::tempdir().unwrap();
        case(folder.path(), "good");
        std::fs::write(case(folder.path(), "bad").join(file), text).unwrap();
        let (benches, left_out) = found(folder.path());
        assert_eq!((benches.len(), left_out.len()), (1, 1), "{want}: {left_out:?}");
        assert!(left_out[0].contains(want) && left_out[0].contains(file), "{want}: {}", left_out[0]);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::remove_file(case(folder.path(), "bad").join("sample.json")).unwrap();
    let (benches, left_out) = found(folder.path());
    assert!(benches.is_empty() && left_out[0].contains("sample.json: expected criterion's file"), "{left_out:?}");
    assert!(read(&folder.path().join("nowhere"), folder.path()).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn the_benches_own_tables_are_joined_where_they_are_of_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let text = BENCHMARK.replace(r#"{"ElementsAndBytes":{"elements":4000,"bytes":1000}}"#, r#"{"Elements":4000}"#);
    std::fs::write(case(folder.path(), "one").join("benchmark.json"), text).unwrap();
    let tables = folder.path().join("kernels");
    std::fs::create_dir(&tables).unwrap();
    let table = |median: &str, more: &str| {
        let head = "case,isa,threads,median_ns,bytes,within_bytes,operations,bytes_per_second,operations_per_second,\
            reading_limit,peak_limit,peak_instruction,bound,share";
        let row = format!("decode/ternary-2bit/6912x2560,avx2,2,{median},2000,2000,4000,1,1,1,1,x,bytes,0.5");
        std::fs::write(tables.join("linears.csv"), format!("{head}\n{row}\n{more}")).unwrap();
    };
    table("28.5", "");
    let bench = found(folder.path()).0.remove(0);
    assert_eq!((bench.bytes, bench.bytes_per_second), (Some(2000), Some(1e11)));
    assert_eq!((bench.bound.as_deref(), bench.share), (Some("bytes"), Some(0.5)));
    // Beyond every sample: of another run.
    table("31.0", "");
    let bench = found(folder.path()).0.remove(0);
    assert_eq!((bench.bytes, bench.bound, bench.share), (None, None, None));
    table("20.0", "x,avx2,many,1,1,1,1,1,1,1,1,x,bytes,0.5\n");
    let (benches, left_out) = found(folder.path());
    assert!(
        benches.len() == 1 && left_out[0].contains("linears.csv: expected a row of the benches' table"),
        "{left_out:?}"
    );
}

#[test]
fn times_are_shown_in_the_unit_that_suits_them() {
    let folder = tempfile::tempdir().unwrap();
    let new = case(folder.path(), "a");
    let shown = || {
        let mut fixture = fixture::run();
        let (benches, left_out) = found(folder.path());
        fixture.machine.cpu = "Example\u{1b}[31m".to_owned();
        let (machine, build) = (fixture.machine, fixture.build);
        let records = Records { schema: SCHEMA, machine, build, warnings: Vec::new(), benches, left_out };
        show(&records, Format::Table).unwrap()
    };
    let text = shown();
    assert!(
        text.contains("| 20.0 ns [10.0, 30.0] |") && text.starts_with("1 benches on Example [31m, 4 CPUs"),
        "{text}"
    );
    // The same in thousands.
    let thousands = |text: &str| text.replace("10.0", "10000.0").replace("20.0", "20000.0").replace("30.0", "30000.0");
    std::fs::write(new.join("estimates.json"), thousands(ESTIMATES)).unwrap();
    std::fs::write(new.join("sample.json"), thousands(SAMPLE).replace("40.0", "40000.0")).unwrap();
    assert!(shown().contains("| 20.0 us [10.0, 30.0] |"), "{}", shown());
}
