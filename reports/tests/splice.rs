//! Tables inside a Markdown file.

mod fixture;

use fixture::Shape;
use reports::splice::{Constant, Spliced};
use std::path::Path;

const MARKER: &str = "<!-- tritmark:table run=results/one workload=tg16 threads=best,2 chart=decode-speed -->";

fn splice(path: &Path) -> Result<Spliced, reports::Error> {
    reports::splice::splice(path, &[])
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let shape =
        Shape { models: &["125m", "350m"], threads: &[1, 2], workloads: &["pp64", "tg16"], blocks: 2, joules: false };
    let run = dir.path().join("results/one");
    fixture::write(&run, &shape);
    reports::render(&run).unwrap();
    dir
}

fn file(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("README.md");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_block_is_made_and_made_again_alike() {
    let dir = folder();
    let path = file(dir.path(), &format!("before\n\n{MARKER}\nold\n<!-- /tritmark -->\n\nafter, no line end"));
    let spliced = splice(&path).unwrap();
    assert_eq!(spliced.blocks, 1);
    let after = &spliced.after;
    assert!(after.starts_with(&format!("before\n\n{MARKER}\n\n**Decode, tg16, best thread count**\n")), "{after}");
    assert!(after.ends_with("\n\n<!-- /tritmark -->\n\nafter, no line end"), "{after}");
    assert!(!after.contains("old") && after.contains("results/one/plots/decode-speed.svg)"), "{after}");
    std::fs::write(&path, after).unwrap();
    let again = splice(&path).unwrap();
    assert_eq!(again.before, again.after);
}

#[test]
fn line_ends_and_fences_stay() {
    let dir = folder();
    let text = format!("a\r\n\tb  \r\n{MARKER}\r\n<!-- /tritmark -->\r\nc\rd\n\u{feff}e");
    let after = splice(&file(dir.path(), &text)).unwrap().after;
    assert!(after.starts_with(&format!("a\r\n\tb  \r\n{MARKER}\r\n\r\n**Decode")), "{after:?}");
    assert!(after.ends_with("\r\n<!-- /tritmark -->\r\nc\rd\n\u{feff}e"), "{after:?}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count() + 1);
    for fence in ["```", "~~~~", "````md"] {
        let close = fence.trim_end_matches("md");
        let text = format!("{fence}\n{MARKER}\n{close}\nx\n");
        let spliced = splice(&file(dir.path(), &text)).unwrap();
        assert_eq!((spliced.blocks, &spliced.after), (0, &text));
    }
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let dir = folder();
    let end = "<!-- /tritmark -->";
    let block = |words: &str| format!("\n<!-- tritmark:{words} -->\n{end}\n");
    let cases = [
        (block("table run=results/one colour=red"), "README.md:2: expected `run`, `workload`"),
        (block("table run"), "README.md:2: expected KEY=VALUE, found `run`"),
        (block("table"), "README.md:2: expected `run=FOLDER`"),
        (
            block("graph run=results/one"),
            "README.md:2: expected `<!-- tritmark:table`, `<!-- tritmark:peers`, `<!-- tritmark:gate` or `<!-- tritmark:constants`, found `<!-- tritmark:graph`",
        ),
        (block("table run=../one"), "README.md:2: expected a folder below"),
        (block("table run=/one"), "README.md:2: expected a folder below"),
        (block("table run=results/none"), "README.md:2: expected a recorded run at `results/none`"),
        (block("table run=results/one workload=xx1"), "README.md:2: expected a workload such as"),
        (block("table run=results/one workload=tg99"), "README.md:2: expected a workload of the run, found `tg99`"),
        (block("table run=results/one threads=0"), "README.md:2: expected `best` or a number"),
        (block("table run=results/one threads=9"), "README.md:2: expected a thread count of the run, found `9`"),
        (block("table run=results/one models=9b"), "README.md:2: expected a model of the run, found `9b`"),
        (block("table run=results/one engines=f8"), "README.md:2: expected an engine of the run, found `f8`"),
        (block("peers run=results/one"), "README.md:2: expected workloads, threads, models and engines that"),
        (block("gate"), "README.md:2: expected `run=FOLDER` alone, found 0"),
        (block("gate run=../one"), "README.md:2: expected a folder below"),
        (block("gate run=results/one"), "power.csv"),
        (block("constants run=results/one"), "README.md:2: expected no key of constants, found `run=results/one`"),
        (block("table run=results/one chart=none"), "README.md:2: expected a plot at"),
        (block("table run=results/one chart=../one"), "README.md:2: expected a plot at"),
        (format!("a\n\n{MARKER}\nb\n"), "README.md:3: expected `<!-- /tritmark -->`"),
        (format!("{MARKER}\n{MARKER}\n{end}\n"), "README.md:2: expected `<!-- /tritmark -->` for the block of line 1"),
        (format!("a\n{end}\n"), "README.md:2: expected a block before its end"),
        ("<!-- tritmark:table run=results/one\n".to_owned(), "README.md:1: expected `-->`"),
    ];
    for (text, wanted) in cases {
        let error = splice(&file(dir.path(), &text)).unwrap_err().to_string();
        assert!(error.contains(wanted), "expected `{wanted}` in: {error}");
    }
    let damaged = dir.path().join("results/one/records.jsonl");
    std::fs::write(damaged, "{}\n").unwrap();
    let error = splice(&file(dir.path(), &block("table run=results/one"))).unwrap_err().to_string();
    assert!(error.contains("README.md:2:") && error.contains("records.jsonl:1:"), "{error}");
}

#[test]
fn engines_are_chosen() {
    let dir = folder();
    let block = "<!-- tritmark:table run=results/one workload=tg16 threads=2 engines=f16 -->\n<!-- /tritmark -->\n";
    let after = splice(&file(dir.path(), block)).unwrap().after;
    assert!(after.contains("| f16 |") && !after.contains("ternary"), "{after}");
}

/// Of a recorded run: each group of engines by itself, the fastest of its outside ones named, all thread counts in a row.
#[test]
fn peers_are_the_fastest_of_their_group() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root.join("results"), dir.path().join("results")).unwrap();
    let marker = "<!-- tritmark:peers run=results/peers-gnr-2cpu threads=1,2 models=2b4t,2b4t-q6 engines=ternary,ik_llama.cpp-iq2_bn,\
        ik_llama.cpp-iq2_bn-repacked engines=f16,llama.cpp-f16,ik_llama.cpp-f16 -->";
    let spliced = splice(&file(dir.path(), &format!("{marker}\n<!-- /tritmark -->\n"))).unwrap();
    let rows: Vec<&str> = spliced.after.lines().filter(|line| line.starts_with("| 2b4t")).collect();
    assert_eq!(rows.len(), 4, "{}", spliced.after);
    assert!(spliced.after.contains("| model | engine | workload | fastest outside engine | 1 thread | 2 threads |"));
    let row =
        |start: &str| *rows.iter().find(|row| row.starts_with(start)).unwrap_or_else(|| panic!("{start}: {rows:?}"));
    // As summary.csv of the run has it.
    let decode = row("| 2b4t-q6 | ternary | decode, tg64 | ik\\_llama.cpp-iq2\\_bn | 2.11× [");
    assert!(decode.contains("| 2.41× ["), "{decode}");
    row("| 2b4t-q6 | ternary | prefill, pp512 | ik\\_llama.cpp-iq2\\_bn-repacked | 4.39× [");
    // With two threads alone; llama.cpp is the faster of the two in prefill, ik_llama.cpp in decode.
    row("| 2b4t | f16 | decode, tg32 | ik\\_llama.cpp-f16 |  | 1.24× [");
    row("| 2b4t | f16 | prefill, pp512 | llama.cpp-f16 |  | 1.66× [");
    assert!(spliced.after.contains("Answers of outside engines are not checked."));
}

#[test]
fn constants_are_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let constant = Constant { name: "a::B", file: "a/b.rs", value: "2 | 3".to_owned(), decides: "a <thing>" };
    let path = file(dir.path(), "<!-- tritmark:constants -->\nold\n<!-- /tritmark -->\n");
    let spliced = reports::splice::splice(&path, &[constant]).unwrap();
    let row = "| `a::B` | 2 \\| 3 | `a/b.rs` | a &lt;thing&gt; |";
    assert!(spliced.after.contains(row) && !spliced.after.contains("old"), "{}", spliced.after);
}
