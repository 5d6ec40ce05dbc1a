//! The HTML page: whole, escaped, small, and the same bytes each time.

mod fixture;

use fixture::Shape;
use reports::html::{ClaimRow, ClaimsSection, render_pair, render_run};
use std::path::{Path, PathBuf};
use suites::record::{Outcome, SCHEMA};
use suites::run::Plan;

const SMALL: Shape<'_> =
    Shape { models: &["125m", "350m", "30b"], threads: &[1, 2], workloads: &["pp64", "tg16"], blocks: 3, joules: true };
const HOSTILE: &str = "</script></style></title><img src=x onerror=alert(1)>\"'`]]><!--{{ 7*7 }}&amp;\u{202e}";

fn page(dir: &Path, claims: Option<&ClaimsSection>) -> String {
    let path = render_run(&reports::load(dir).unwrap(), dir, claims, None).unwrap();
    assert_eq!(path, dir.join("report.html"));
    std::fs::read_to_string(path).unwrap()
}

fn claims(text: &str) -> ClaimsSection {
    let row = |verdict: &str, ours: Option<&str>| ClaimRow {
        claim: format!("decode is faster than f16 {text}"),
        published: "2.37 to 6.17×".to_owned(),
        verdict: verdict.to_owned(),
        ours: ours.map(str::to_owned),
        n: ours.map(|_| 5),
        differs: "another CPU".to_owned(),
        source: "2410.16144, table 1".to_owned(),
    };
    let rows = vec![row("reproduced", Some("4.1 [3.9, 4.3]×")), row("not testable here", None)];
    ClaimsSection { note: "Verdicts are of this machine alone.".to_owned(), rows }
}

/// Every start tag's name, quoted attributes skipped: what a parser would open.
fn tags(page: &str) -> Vec<String> {
    let mut rest = page;
    let mut found = Vec::new();
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        if !name.is_empty() {
            let mut quoted = false;
            let end = rest.find(|c: char| {
                quoted ^= c == '"';
                c == '>' && !quoted
            });
            let inside = &rest[..end.unwrap()];
            let outside: String = inside.split('"').step_by(2).collect();
            assert!(!outside.contains(" on") || outside.contains(" one"), "an event handler: <{inside}>");
            assert!(!outside.contains(" style="), "a style of its own: <{inside}>");
            // Scripts and styles are the page's own text.
            rest = &rest[end.unwrap()..];
            if name == "script" || name == "style" {
                rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
            }
            found.push(name);
        }
    }
    found
}

#[test]
fn the_page_is_whole_and_needs_nothing_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    fixture::write(dir.path(), &SMALL);
    let page = page(dir.path(), Some(&claims("")));
    for wanted in [
        "<html lang=\"en\">",
        "default-src 'none'; style-src 'sha256-",
        "busy machine: load 3.1",
        "tree was dirty",
        "2.37 to 6.17×",
        "data-verdict=\"not testable here\"",
        "4.1 [3.9, 4.3]×",
        "Verdicts are of this machine alone.",
        "scope=\"col\"",
        "<caption",
        "@media print",
        "prefers-color-scheme: dark",
        "class=\"failed\">FAILED",
        "logits differ | by 0.2",
        "30b needs 60 GiB, 22 GiB available",
        "Example CPU 9000 @ 2.6 GHz",
        "harness suite fixture --out &#x27;a b&#x27;",
        "<dt>seed</dt><dd>7</dd>",
        "<dt>schema</dt>",
        "n = 3",
        "class=\"skip\"",
    ] {
        assert!(page.contains(wanted), "no `{wanted}` in:\n{page}");
    }
    for bad in ["src=", "@import", "url(", "onclick"] {
        assert!(!page.contains(bad), "{bad}");
    }
    let body = page.split("<script>").next().unwrap();
    assert!(!body.contains("NaN") && !body.contains("inf "), "a figure that is none");
    let tags = tags(&page);
    let count = |name: &str| tags.iter().filter(|tag| *tag == name).count();
    assert_eq!(
        [count("h1"), count("main"), count("nav"), count("script"), count("style"), count("img")],
        [1, 1, 1, 1, 1, 0]
    );
    assert!(count("svg") >= 6 && count("svg") == count("figure"), "{}", count("svg"));
    assert_eq!(count("caption"), count("table"));
    // Joules say of every figure what they are.
    let energy = page.split("id=\"energy-table\"").nth(1).unwrap().split("</table>").next().unwrap();
    let (figures, marked) = (energy.matches("<small>").count(), energy.matches("measured powercap</small>").count());
    assert!(figures > 20 && figures == marked, "{figures} figures, {marked} marked:\n{energy}");
    // Bars say what they are when pointed at: engine, figure and unit, interval, change, replicates.
    let bars = page.split("id=\"chart-decode-joules\"").nth(1).unwrap().split("</figure>").next().unwrap();
    let hints: Vec<&str> = bars.split("<rect ").filter(|rect| rect.contains("role=\"img\"")).collect();
    assert!(
        hints.len() >= 4 && hints.iter().all(|hint| hint.contains("<title>") && hint.contains("J&#x2f;token")),
        "{bars}"
    );
    assert!(hints.iter().all(|hint| hint.contains(" threads\n") || hint.contains(" thread\n")), "{bars}");
    assert!(
        hints.iter().any(|hint| hint.contains("to the engine that it is paired with") && hint.contains("n = 3")),
        "{bars}"
    );
    let stages = page.split("id=\"chart-energy-stages\"").nth(1);
    assert!(stages.is_none_or(|stages| stages.contains("together: ")), "{page}");
    keep("joules.html", &page);
}

/// Names, reasons and warnings of a run are text wherever they stand.
#[test]
fn hostile_names_stay_text() {
    let dir = tempfile::tempdir().unwrap();
    let plain = tempfile::tempdir().unwrap();
    let mut records = fixture::write(plain.path(), &SMALL);
    for record in &mut records {
        record.cell.model = format!("{}{HOSTILE}", record.cell.model);
        record.cell.engine = format!("{}{HOSTILE}", record.cell.engine);
        match &mut record.outcome {
            Outcome::Failed(f) => f.message = HOSTILE.to_owned(),
            Outcome::Na(not) => not.reason = HOSTILE.to_owned(),
            Outcome::Ok(m) => m.check.comparisons[0].against = HOSTILE.to_owned(),
            Outcome::Outside(_) => {}
        }
    }
    let mut run = fixture::run();
    run.name = HOSTILE.to_owned();
    run.suite = HOSTILE.to_owned();
    run.command = vec![HOSTILE.to_owned()];
    run.warnings = vec![HOSTILE.to_owned()];
    run.machine.cpu = HOSTILE.to_owned();
    let plan = Plan { schema: SCHEMA, seed: 1, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &run, &plan, &records);
    let mut section = claims(HOSTILE);
    section.rows[0].verdict = HOSTILE.to_owned();
    let page = page(dir.path(), Some(&section));
    let known = tags(&page);
    assert!(known.iter().all(|tag| tag != "img"), "a foreign tag");
    let [scripts, styles, titles] = ["script", "style", "head"].map(|name| known.iter().filter(|t| *t == name).count());
    assert_eq!([scripts, styles, titles], [1, 1, 1]);
    assert!(!page.contains("49&amp;") && !page.contains('\u{202e}'), "templates ran, or writing was turned");
    let other = render_pair(dir.path(), plain.path(), Some(&dir.path().join("pair.html"))).unwrap();
    assert!(tags(&std::fs::read_to_string(other).unwrap()).iter().all(|tag| tag != "img"));
    keep("hostile.html", &page);
}

#[test]
fn five_hundred_cells_are_under_three_megabytes_and_the_same_bytes_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let shape = Shape {
        models: &["125m", "350m", "700m", "1b", "1.5b", "2.5b", "2b4t", "3.8b", "7b", "13b"],
        threads: &[1, 2, 4, 8, 16],
        workloads: &["pp512", "tg128", "tg128@d0", "tg128@d1024", "tg128@d4096"],
        blocks: 5,
        joules: true,
    };
    fixture::write(dir.path(), &shape);
    let first = page(dir.path(), None);
    println!("{} bytes", first.len());
    assert!(first.len() < 3 << 20, "{} bytes", first.len());
    assert_eq!(first, page(dir.path(), None));
    keep("big.html", &first);
    let pair = render_pair(dir.path(), dir.path(), Some(&dir.path().join("pair.html"))).unwrap();
    let pair = std::fs::read_to_string(pair).unwrap();
    println!("{} bytes of two", pair.len());
    assert!(pair.len() < 3 << 20, "{} bytes", pair.len());
    assert!(
        pair.contains("id=\"chart-first-decode-speed\"") && pair.contains("Left out, so that the page stays small"),
        "no charts"
    );
}

#[test]
fn outside_programs_are_called_unchecked() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = fixture::write(dir.path(), &SMALL);
    let theirs: Vec<_> = records.iter().filter(|r| r.cell.engine == "ternary").filter_map(fixture::outside).collect();
    let count = theirs.len();
    records.extend(theirs);
    let plan = Plan { schema: SCHEMA, seed: 7, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &records);
    let page = page(dir.path(), None);
    for wanted in [
        format!("of {count} processes of outside programs no answer was checked"),
        "theirs (outside)".to_owned(),
        "class=\"outside\">outside".to_owned(),
    ] {
        assert!(page.contains(&wanted), "no `{wanted}` in:\n{page}");
    }
}

#[test]
fn a_recorded_run_has_a_page() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/x86-quick-zen5-2cpu");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("run.html");
    render_run(&reports::load(&run).unwrap(), &run, Some(&claims("")), Some(&to)).unwrap();
    let page = std::fs::read_to_string(to).unwrap();
    assert!(page.contains("x86-quick-zen5-2cpu</h1>") && page.contains("AMD EPYC"));
    keep("run.html", &page);
}

#[test]
fn runs_without_figures_have_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { schema: SCHEMA, seed: 1, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(dir.path(), &fixture::run(), &plan, &[]);
    let page = page(dir.path(), None);
    assert!(page.contains("No published claim was judged") && page.contains("No process got as far"), "{page}");
    assert!(!page.contains("id=\"charts\""));
}

fn two(change: impl Fn(&mut suites::run::Run)) -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let records = fixture::write(&one, &SMALL);
    let mut run = fixture::run();
    run.name = "the-other".to_owned();
    change(&mut run);
    let slower: Vec<_> = records
        .into_iter()
        .filter(|r| r.cell.threads == 2)
        .map(|mut record| {
            if let Outcome::Ok(m) = &mut record.outcome {
                m.samples.iter_mut().for_each(|s| s.duration_ns *= 2);
            }
            record
        })
        .collect();
    let plan = Plan { schema: SCHEMA, seed: 1, cells: Vec::new(), steps: Vec::new() };
    fixture::write_files(&other, &run, &plan, &slower);
    let to = dir.path().join("pair.html");
    assert_eq!(render_pair(&one, &other, Some(&to)).unwrap(), to);
    let page = std::fs::read_to_string(&to).unwrap();
    (dir, to, page)
}

#[test]
fn two_runs_are_divided_on_one_kind_of_machine_alone() {
    let (_dir, _, page) = two(|run| run.build.git_revision = Some("1234567".to_owned()));
    assert!(page.contains("second over first, ×") && !page.contains("Ratios are withheld"), "{page}");
    assert!(page.matches("<td class=\"n\">0.500").count() >= 4, "half as fast:\n{page}");
    assert!(page.contains("6 cells are in") || page.contains(" cells are in made-up alone"), "{page}");
    // Each chart of both runs, the second's below the first's, named and with ids of their own.
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no `{text}` in:\n{page}"));
    assert!(at("id=\"chart-first-decode-speed\"") < at("id=\"chart-second-decode-speed\""));
    assert!(at("id=\"chart-second-decode-speed\"") < at("id=\"chart-first-decode-joules\""));
    at(">Decode speed by model size: the-other</h3>");
    assert!(page.contains("href=\"#charts\"") && !page.contains("Left out, so that"));
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<std::collections::BTreeSet<_>>().len(), "an id twice: {ids:?}");
    let program = page.split(">program</th>").nth(1).unwrap().split("<tr").next().unwrap();
    assert!(program.contains("abcdef0") && program.contains("1234567") && program.contains("differs"), "{program}");
    keep("pair.html", &page);

    let (_dir, _, page) = two(|run| {
        run.machine.cpu = "Another CPU".to_owned();
        run.build.debug_assertions = true;
    });
    assert!(page.contains("Ratios are withheld</strong>: CPU, debug assertions differ"), "{page}");
    assert!(!page.contains("second over first, ×"));
    keep("withheld.html", &page);
}

/// To look at the pages: KEEP_HTML=folder.
fn keep(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("KEEP_HTML") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(name), page).unwrap();
    }
}
