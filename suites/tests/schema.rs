//! The published schemas are the ones the types have, and real rows satisfy them.

use suites::outside::Kind;
use suites::record::*;
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
        memory: Memory { peak_rss_bytes: Some(1), rss_anon_bytes: None, rss_file_bytes: None, predicted_bytes: 2 },
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
