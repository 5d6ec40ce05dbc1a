//! The published schemas are the ones the types have, and real rows satisfy them.

use std::collections::BTreeSet;
use suites::eval::{Accuracy, AccuracyFigure, TaskOutcome};
use suites::outside::Kind;
use suites::record::*;
use suites::task::Metric;
use suites::{Cell, Record, schema};

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema")
}

/// Set `UPDATE_SCHEMA=1` to rewrite the published files after a change of the types (and of `SCHEMA`).
#[test]
fn published_schemas_are_current() {
    for (name, text) in schema::all() {
        let path = folder().join(name);
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == text, "{name} is stale: run UPDATE_SCHEMA=1 cargo test -p suites");
    }
}

fn record(outcome: Outcome) -> Record {
    let cell = Cell {
        engine: "ternary".into(),
        model: "125m".into(),
        threads: 2,
        workload: "tg4".parse().unwrap(),
        kv: Default::default(),
        isa: None,
    };
    let (run, suite, profile) = ("r".into(), "s".into(), "dev".into());
    Record {
        schema: SCHEMA,
        run,
        suite,
        cell,
        block: 0,
        order: 3,
        started: "2026-01-01T00:00:00Z".into(),
        profile,
        outcome,
    }
}

fn measurement() -> Measurement {
    let text = |s: &str| s.to_owned();
    Measurement {
        ran: Ran {
            isa: text("avx2"),
            linear: text("ternary-2bit"),
            head: text("f16"),
            kv: text("f16"),
            profile: text("dev"),
            pinned: true,
        },
        load_ns: 5,
        samples: vec![Sample { tokens: 4, duration_ns: 40, ttft_ns: None, token_ns: vec![10; 4] }],
        footprint: Footprint {
            weights_bytes: 1,
            linear_bytes: 1,
            read_per_token_bytes: 1,
            linear_weights: None,
            kv_bytes: 1,
        },
        memory: Memory {
            peak_rss_bytes: Some(1),
            rss_anon_bytes: None,
            rss_file_bytes: None,
            rss_program_bytes: None,
            predicted_bytes: 2,
        },
        energy: Energy::Unavailable { reason: text("no powercap tree") },
        phases: vec![StageRecord {
            stage: Stage::IdleBefore,
            window_ns: 1,
            tokens: 0,
            peak_rss_bytes: None,
            sources: vec![SourceEnergy {
                source: text("cpu-time"),
                kind: EnergyKind::Modelled,
                total_uj: Some(1),
                invalid: None,
                peak_mw: None,
                domains: vec![],
                doubts: vec![text("a doubt")],
                readings: 2,
            }],
            facts: Some(StageFacts { throttled: Some(0), ..StageFacts::default() }),
        }],
        counters: vec![],
        thread_counters: vec![ThreadCounters { thread: 0, counters: vec![] }],
        check: Check {
            digest: text("00"),
            argmax: 1,
            comparisons: vec![Comparison {
                against: text("scalar reference"),
                relative_rms_ppb: Some(0),
                bound_ppb: 0,
                pass: true,
            }],
        },
        sparsity: None,
        bounded: None,
        accuracy: vec![
            TaskOutcome::Unavailable { task: text("mmlu"), reason: text("not fetched") },
            TaskOutcome::Ok(Accuracy {
                task: text("arc_easy"),
                items: 2,
                skipped: 1,
                truncated: 0,
                fewshot: 0,
                figures: vec![AccuracyFigure {
                    metric: Metric::AccNorm,
                    value: 0.5,
                    stderr: Some(0.5),
                    interval: Some((0.0, 1.0)),
                }],
                tokens: 9,
                duration_ns: 10,
                log: text("items/0-arc_easy.jsonl"),
            }),
        ],
        interference: Interference {
            steal_ns: None,
            involuntary_switches: Some(0),
            load_milli: Some(10),
            bandwidth_before: None,
        },
        limit: None,
    }
}

fn outside() -> Outside {
    let Measurement { samples, memory, energy, interference, .. } = measurement();
    let text = |s: &str| s.to_owned();
    Outside {
        program: Program {
            kind: Kind::LlamaBench,
            file: text("llama-bench"),
            arguments: vec![text("-t"), text("2")],
            commit: Some(text("abc")),
            build: None,
            isa: None,
            told: [(text("cpu_info"), text("A CPU"))].into(),
        },
        model: OutsideModel {
            file: text("a.gguf"),
            description: text("bitnet"),
            bytes: 1,
            weights: 1,
            file_bytes: Some(1),
        },
        samples,
        unchecked: text("none given"),
        memory,
        process_ns: 50,
        process_energy: energy,
        interference,
        limit: None,
    }
}

#[test]
fn rows_satisfy_the_schema_and_round_trip() {
    let schema: serde_json::Value = serde_json::from_str(&schema::all()[0].1).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let failure = Failure { stage: "load".into(), message: "m".into(), stderr_tail: String::new(), check: None };
    for outcome in [
        Outcome::Ok(Box::new(measurement())),
        Outcome::Outside(Box::new(outside())),
        Outcome::Failed(failure),
        Outcome::Na(NotApplicable { reason: "needs 28 GB, 23 GB are available".into() }),
    ] {
        let row = record(outcome);
        let json = serde_json::to_value(&row).unwrap();
        assert!(validator.is_valid(&json), "{json:#}");
        assert_eq!(serde_json::from_value::<Record>(json.clone()).unwrap(), row);
        let mut broken = json;
        broken["cell"]["workload"] = serde_json::json!(17);
        assert!(!validator.is_valid(&broken));
    }
}

#[test]
fn a_check_without_comparisons_has_not_passed() {
    let mut check = measurement().check;
    assert!(check.passed());
    check.comparisons.clear();
    assert!(!check.passed());
}

/// Whether an object of the schema says which kind its joules are of.
fn tells_kind(object: &serde_json::Value) -> bool {
    object["properties"].get("kind").is_some()
}

/// Objects with a property of joules or watts, by where they stand, that say no kind themselves and lie in none that does. `within`
/// is whether something around `node` says it; a reference is followed from each place that has one.
fn unmarked(
    root: &serde_json::Value,
    node: &serde_json::Value,
    at: &str,
    within: bool,
    seen: &mut BTreeSet<(String, bool)>,
    out: &mut BTreeSet<String>,
) {
    let within = within || tells_kind(node);
    if let Some(properties) = node["properties"].as_object() {
        let energy = |key: &String| ["_uj", "_mw", "_j"].iter().any(|end| key.ends_with(end)) || key.contains("joules");
        if !within && properties.keys().any(energy) {
            out.insert(at.to_owned());
        }
    }
    if let Some(name) = node["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"))
        && seen.insert((name.to_owned(), within))
    {
        unmarked(root, &root["$defs"][name], name, within, seen, out);
    }
    match node {
        serde_json::Value::Object(members) => {
            for (key, member) in members.iter().filter(|(key, _)| *key != "$defs") {
                unmarked(root, member, &format!("{at}/{key}"), within, seen, out);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unmarked(root, item, &format!("{at}/{index}"), within, seen, out);
            }
        }
        _ => {}
    }
}

fn unmarked_in(schema: &serde_json::Value) -> BTreeSet<String> {
    let (mut seen, mut out) = (BTreeSet::new(), BTreeSet::new());
    unmarked(schema, schema, "", false, &mut seen, &mut out);
    out
}

/// No joule stands in a published file without its kind: the object that has it says `kind`, or one around it does.
#[test]
fn every_joule_says_whether_it_was_measured() {
    for (name, text) in schema::all() {
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(unmarked_in(&schema), BTreeSet::new(), "{name}");
    }
    // The walk reaches the joules, and finds each that loses its kind.
    let good: serde_json::Value = serde_json::from_str(&schema::all()[0].1).unwrap();
    let mut source = good.clone();
    source["$defs"]["SourceEnergy"]["properties"].as_object_mut().unwrap().remove("kind");
    assert_eq!(unmarked_in(&source), ["DomainEnergy", "SourceEnergy"].map(String::from).into());
    let mut windows = good.clone();
    for variant in windows["$defs"]["Energy"]["oneOf"].as_array_mut().unwrap() {
        variant["properties"].as_object_mut().unwrap().remove("kind");
    }
    assert_eq!(unmarked_in(&windows).len(), 3, "both kinds, and their domains: {:?}", unmarked_in(&windows));
    let mut stage = good;
    stage["$defs"]["StageRecord"]["properties"]["total_uj"] = serde_json::json!({ "type": "integer" });
    assert_eq!(unmarked_in(&stage), ["StageRecord".to_owned()].into());
}
