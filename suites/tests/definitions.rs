//! The embedded definitions are right, and wrong ones are told so by line and nearest name.

use suites::model::{ModelSpec, WeightFormat};
use suites::{Catalogue, Suite};

fn catalogue() -> Catalogue {
    Catalogue::embedded().unwrap()
}

const GOOD: &str = r#"name = "t"
about = "a test"
blocks = 2
seed = 1
timeout = "10s"
min_window = "1s"

[[group]]
models = ["125m"]
engines = ["ternary", "f16"]
threads = [1, 2]
workloads = ["pp8", "tg8"]
"#;

fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    Suite::parse(&GOOD.replace(from, to), "my.toml", &catalogue()).unwrap_err().to_string()
}

#[test]
fn embedded_suites_parse_and_name_cells_once() {
    for suite in catalogue().suites().unwrap() {
        let cells = suite.cells(2, |_| true);
        assert!(!cells.is_empty(), "{}", suite.name);
        let mut ids: Vec<_> = cells.iter().map(|asked| asked.cell.id()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), cells.len());
    }
}

#[test]
fn a_missing_file_model_gives_way_to_the_fallback() {
    let suite = catalogue().suite("x86-quick").unwrap();
    let names = |present: bool| -> Vec<String> {
        suite
            .cells(2, |m| present || matches!(m, ModelSpec::Synthetic(_)))
            .into_iter()
            .map(|asked| asked.cell.model)
            .collect()
    };
    assert!(names(true).contains(&"smollm2-135m".to_owned()));
    assert!(!names(false).contains(&"smollm2-135m".to_owned()) && names(false).contains(&"tiny-260k".to_owned()));
    // The others of its group stay.
    let text = GOOD.replace("[\"125m\"]", "[\"125m\", \"smollm2-135m\"]\nfallback = [\"tiny-260k\"]");
    let suite = Suite::parse(&text, "my.toml", &catalogue()).unwrap();
    let models: std::collections::BTreeSet<String> =
        suite.cells(2, |m| matches!(m, ModelSpec::Synthetic(_))).into_iter().map(|asked| asked.cell.model).collect();
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["125m", "tiny-260k"]);
}

#[test]
fn absurdly_many_cells_are_refused() {
    let counts: Vec<String> = (1..=4096).map(|n| n.to_string()).collect();
    let models = "[\"125m\", \"350m\", \"700m\", \"1b\", \"1.5b\", \"2.5b\", \"3.8b\"]";
    let text = GOOD.replace("[1, 2]", &format!("[{}]", counts.join(", "))).replace("[\"125m\"]", models);
    let message = Suite::parse(&text, "my.toml", &catalogue()).unwrap_err().to_string();
    assert!(message.contains("at most 100000 cells") && message.contains("114688"), "{message}");
}

/// Linear parameter counts as derived in arXiv 2410.16144's appendix A.
#[test]
fn shapes_are_the_papers() {
    for (name, millions) in [
        ("125m", 103.8),
        ("350m", 327.2),
        ("700m", 679.5),
        ("1b", 931.1),
        ("1.5b", 1453.3),
        ("2.5b", 2379.0),
        ("3.8b", 3680.5),
        ("7b", 6878.7),
        ("13b", 12687.8),
        ("30b", 30261.9),
        ("70b", 69793.2),
        ("100b", 99958.7),
        ("2b4t", 2084.0),
    ] {
        let catalogue = catalogue();
        let ModelSpec::Synthetic(shape) = catalogue.model(name).unwrap() else { panic!("{name} is synthetic") };
        let found = shape.linear_params() as f64 / 1e6;
        assert!((found - millions).abs() < 0.06, "{name}: {found} M, the paper has {millions} M");
        let two_bits = shape.weight_bytes(WeightFormat::Ternary).linear as f64;
        assert!((two_bits * 4.0 / 1e6 - millions).abs() < 0.06, "{name}: two bits a weight, nothing padded");
        let bits = shape.weight_bytes(WeightFormat::Base3).linear as f64 * 8.0 / shape.linear_params() as f64;
        // Rows of 768 weights are padded to 780.
        let most = if millions < 500.0 { 1.63 } else { 1.62 };
        assert!((1.6..=most).contains(&bits), "{name}: {bits} bits a weight");
        let half = shape.weight_bytes(WeightFormat::F16);
        assert_eq!(half, shape.weight_bytes(WeightFormat::Bf16));
        let reference = shape.weight_bytes(WeightFormat::Reference);
        assert!(reference.linear == 2 * half.linear && reference.embedding > 2 * half.embedding, "{name}");
    }
}

#[test]
fn threads_rule_covers_the_machine() {
    let suite = catalogue().suite("x86-full").unwrap();
    let counts = |cpus| suite.groups[0].threads.on(cpus);
    assert_eq!(counts(1), [1]);
    assert_eq!(counts(2), [1, 2]);
    assert_eq!(counts(6), [1, 2, 4, 6]);
}

#[test]
fn wrong_names_get_the_line_and_the_nearest() {
    let cases = [
        ("\"125m\"", "\"125n\"", ["my.toml:9", "did you mean `125m`"]),
        ("\"ternary\"", "\"ternry\"", ["my.toml:10", "did you mean `ternary`"]),
        ("workloads =", "worklods =", ["line 12", "did you mean `workloads`"]),
        ("blocks =", "block =", ["line 3", "did you mean `blocks`"]),
        ("\"pp8\"", "\"px8\"", ["my.toml:12", "pp512"]),
        ("\"10s\"", "\"10 parsecs\"", ["my.toml:5", "timeout"]),
        ("[1, 2]", "[0]", ["threads", "1 to 4096"]),
        ("[1, 2]", "\"all\"", ["threads", "powers-of-two"]),
        ("blocks = 2", "blocks = 0", ["blocks", "1 to 1000"]),
        ("[1, 2]", "[1, 2]\nblocks = 3", ["group.blocks", "at most the suite's 2"]),
        ("name = \"t\"", "name = \"../t\"", ["name", "../t"]),
        ("name = \"t\"", "name = \"\"", ["name", "letters"]),
        ("[1, 2]", "[1, 2]\nisa = \"avx3\"", ["my.toml:12", "did you mean `avx2`"]),
    ];
    for (from, to, wanted) in cases {
        let message = error(from, to);
        for part in wanted {
            assert!(message.contains(part), "{to}: expected `{part}` in: {message}");
        }
    }
    let message = catalogue().suite("x86-quik").unwrap_err().to_string();
    assert!(message.contains("did you mean `x86-quick`"), "{message}");
}

#[test]
fn outside_engines_have_any_name_but_the_projects() {
    let with = |names: &str| {
        GOOD.replace("engines = [\"ternary\", \"f16\"]", &format!("engines = [\"ternary\"]\noutside = [{names}]"))
    };
    let suite = Suite::parse(&with("\"theirs-1.0\""), "my.toml", &catalogue()).unwrap();
    assert!(suite.is_outside("theirs-1.0") && !suite.is_outside("ternary"));
    let cells: Vec<String> = suite.cells(2, |_| true).into_iter().map(|asked| asked.cell.id()).collect();
    assert_eq!(cells.len(), 8);
    assert!(cells.contains(&"theirs-1.0/125m/t2/tg8".to_owned()));
    for (names, part) in
        [("\"f16\"", "own engines has, found `f16`"), ("\"a/b\"", "letters, digits"), ("\"\"", "letters")]
    {
        let message = Suite::parse(&with(names), "my.toml", &catalogue()).unwrap_err().to_string();
        assert!(message.contains("my.toml:11") && message.contains(part), "{message}");
    }
    let alone = with("\"theirs\"").replace("engines = [\"ternary\"]\n", "");
    assert_eq!(Suite::parse(&alone, "my.toml", &catalogue()).unwrap().cells(2, |_| true).len(), 4);
}

#[test]
fn suites_may_bring_models_of_their_own() {
    let shape = |heads: u32| {
        format!(
            "{GOOD}\n[[synthetic]]\nname = \"mine\"\nfamily = \"llama\"\nhidden = 64\nffn = 128\nlayers = 2\nheads = {heads}\nkv_heads = 2\nvocab = 100\nactivation = \"silu\"\ntied = false\nhead = \"f16\"\nrope_theta = 10000.0\ncontext = 64\nseed = 1\nsource = \"here\"\n"
        )
        .replace("[\"125m\"]", "[\"mine\"]")
    };
    assert!(Suite::parse(&shape(4), "my.toml", &catalogue()).unwrap().model("mine").is_some());
    let message = Suite::parse(&shape(3), "my.toml", &catalogue()).unwrap_err().to_string();
    assert!(message.contains("mine") && message.contains("heads") && message.contains("my.toml"), "{message}");
    let clash = shape(4).replace("name = \"mine\"", "name = \"125m\"");
    assert!(Suite::parse(&clash, "my.toml", &catalogue()).unwrap_err().to_string().contains("no other model"));
}

proptest::proptest! {
    /// No text makes the parser panic.
    #[test]
    fn mangled_suites_do_not_panic(cut in 0usize..300, insert in ".{0,12}") {
        let cut = (0..=cut.min(GOOD.len())).rev().find(|&c| GOOD.is_char_boundary(c)).unwrap();
        let text = format!("{}{insert}{}", &GOOD[..cut], &GOOD[cut..]);
        let _ = Suite::parse(&text, "my.toml", &catalogue());
    }
}
