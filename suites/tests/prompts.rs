//! The prompts of every task against those that lm-evaluation-harness's own code makes of the same documents
//! (`golden/lm_eval_prompts.jsonl`, by `scripts/oracle/lm_eval_prompts.py`; the documents are made up).

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use suites::task::{Ask, Documents, Item, Judge, Options, Pair, Task};

/// An item as the fixture has it: the texts of its requests, and what is right.
fn told(item: &Item) -> (Value, Value) {
    let pair = |pair: &Pair| json!([pair.context, pair.continuation]);
    match &item.ask {
        Ask::Choices(choices) => (choices.pairs.iter().map(pair).collect(), json!(choices.gold)),
        Ask::Likelihood(one) => (json!([pair(one)]), Value::Null),
        Ask::Document(text) => (json!([[text.text]]), Value::Null),
        Ask::Generate(prompt) => {
            let target = match &prompt.judge {
                Judge::Gsm8k { target } | Judge::Math { target } => target.clone(),
                Judge::Python { test, entry_point, .. } => format!("{test}\ncheck({entry_point})"),
            };
            (json!([[prompt.prompt]]), json!(target))
        }
    }
}

#[test]
fn prompts_are_those_of_lm_evaluation_harness() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = std::fs::read_to_string(golden.join("lm_eval_prompts.jsonl")).unwrap();
    let (mut seen, mut drawn) = (BTreeSet::new(), 0);
    for case in cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let (name, shots) = (case["task"].as_str().unwrap(), case["shots"].as_u64().unwrap() as u32);
        let task = Task::embedded(name).unwrap();
        let read = |file: &str| Documents::open(&golden.join("tasks").join(file), None).unwrap();
        let limit = case["limit"].as_u64().map(|limit| limit as u32);
        let documents = task.documents(&golden.join("tasks").join(&task.test), limit).unwrap();
        let stem = task.test.trim_end_matches("_test.jsonl").trim_end_matches("_validation.jsonl");
        let few = if name == "mmlu" { "mmlu_dev.jsonl".to_owned() } else { format!("{stem}_train.jsonl") };
        let examples = if shots > 0 { read(&few) } else { Documents::default() };
        let made = task.items(&documents, &examples, Options { fewshot: Some(shots), seed: 1234 }).unwrap();
        assert!(made.skipped.is_empty(), "{name}: {:?}", made.skipped);
        let expected = case["items"].as_array().unwrap();
        assert_eq!(made.items.len(), expected.len(), "{name}");
        for (item, expected) in made.items.iter().zip(expected) {
            let (requests, gold) = told(item);
            assert_eq!(requests, expected["requests"], "{name}, {shots} shots, line {}", item.index);
            assert_eq!(gold, expected["gold"], "{name}, {shots} shots, line {}", item.index);
        }
        seen.insert(name.to_owned());
        drawn += u32::from(shots > 0 && name != "mmlu");
    }
    assert_eq!(drawn, 9);
    let own: BTreeSet<String> = Task::names().filter(|name| !name.starts_with("twins_")).map(str::to_owned).collect();
    assert_eq!(seen, own);
}
