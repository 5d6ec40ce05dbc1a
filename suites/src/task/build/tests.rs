use super::*;
use crate::task::Metric;
use std::path::PathBuf;

fn documents(lines: &[&str]) -> Documents {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    Documents::open(&path, None).unwrap()
}

fn made(task: &str, lines: &[&str]) -> Items {
    Task::embedded(task)
        .unwrap()
        .items(&documents(lines), &Documents::default(), Options { fewshot: Some(0), seed: 1 })
        .unwrap()
}

fn choices(items: &Items, index: usize) -> &Choices {
    match &items.items[index].ask {
        Ask::Choices(choices) => choices,
        other => panic!("{other:?}"),
    }
}

fn pair(context: &str, continuation: &str) -> Pair {
    Pair { context: context.to_owned(), continuation: continuation.to_owned() }
}

#[test]
fn every_task_parses_and_is_called_as_its_file() {
    let names: Vec<&str> = Task::names().collect();
    assert!(names.len() >= 18);
    for name in names {
        let task = Task::embedded(name).unwrap();
        assert_eq!(task.name, name);
        assert!(!task.about.is_empty() && !task.source.is_empty() && !task.fetch.is_empty());
    }
    let message = Task::embedded("arc_chalenge").unwrap_err().to_string();
    assert!(message.contains("did you mean `arc_challenge`"), "{message}");
}

#[test]
fn choices_follow_the_question() {
    let items = made("arc_easy", &[r#"{"question": "Why?", "choices": ["so", "thus é"], "answer": 1}"#]);
    let asked = choices(&items, 0);
    assert_eq!(asked.pairs, [pair("Question: Why?\nAnswer:", " so"), pair("Question: Why?\nAnswer:", " thus é")]);
    assert_eq!((asked.chars.as_slice(), asked.gold.as_slice()), (&[2, 6][..], &[1][..]));
    let items = made("boolq", &[r#"{"passage": "T -- x.", "question": "is it", "answer": 0}"#]);
    let asked = choices(&items, 0);
    assert_eq!(asked.pairs[1], pair("T -- x.\nQuestion: is it?\nAnswer:", " yes"));
    assert_eq!(asked.gold, [0]);
    let items = made("piqa", &[r#"{"goal": "g", "sol1": "a", "sol2": "b", "label": 1}"#]);
    assert_eq!(choices(&items, 0).pairs[1], pair("Question: g\nAnswer:", " b"));
    let letters = r#"{"question": " q ", "choices": ["v", "w", "x", "y", "z"], "answer": 4}"#;
    let asked = made("commonsense_qa", &[letters]);
    assert_eq!(choices(&asked, 0).pairs[4], pair("Question: q\nA. v\nB. w\nC. x\nD. y\nE. z\nAnswer:", " E"));
    assert_eq!(
        choices(&made("openbookqa", &[r#"{"question_stem": "s", "choices": ["a", "b"], "answer": 0}"#]), 0).pairs[0],
        pair("s", " a")
    );
}

#[test]
fn winogrande_has_two_contexts_and_one_continuation() {
    let line = r#"{"sentence": "The _ ate a _ pie.", "option1": "cat", "option2": "dog", "answer": 1}"#;
    let items = made("winogrande", &[line]);
    let asked = choices(&items, 0);
    assert_eq!(asked.pairs, [pair("The cat", " ate a _ pie."), pair("The dog", " ate a _ pie.")]);
    assert_eq!(asked.gold, [1]);
}

#[test]
fn hellaswag_takes_documents_raw_and_made_up() {
    let raw = r#"{"activity_label": "Roof", "ctx_a": "A man [x] sits.", "ctx_b": "he Jumps", "endings": ["goes [title] up.", "b"], "label": "1"}"#;
    let up = r#"{"query": "Roof: A man sits. He jumps", "choices": ["goes. up.", "b"], "answer": 1}"#;
    let items = made("hellaswag", &[raw, up]);
    assert_eq!(
        choices(&items, 0).pairs[0],
        pair("Roof: A man sits. He jumps", " goes.  up.".replace("  ", " ").as_str())
    );
    assert_eq!(choices(&items, 0).gold, [1]);
    assert_eq!(choices(&items, 1).pairs, choices(&items, 0).pairs);
}

#[test]
fn truthfulqa_has_several_right_choices() {
    let line = r#"{"question": "Q?", "mc2_targets": {"choices": ["a", "b", "c"], "labels": [1, 0, 1]}}"#;
    let items = made("truthfulqa_mc2", &[line]);
    let asked = choices(&items, 0);
    assert_eq!(asked.gold, [0, 2]);
    assert!(asked.pairs[0].context.starts_with("Q: What is human life expectancy in the United States?\nA: Human"));
    assert!(asked.pairs[0].context.ends_with("in Barcelona, Spain.\n\nQ: Q?\nA:"));
}

#[test]
fn mmlu_takes_the_first_examples_of_its_subject() {
    let line = |subject: &str, question: &str| {
        format!(r#"{{"subject": "{subject}", "question": "{question}", "choices": ["a", "b", "c", "d"], "answer": 2}}"#)
    };
    let dev: Vec<String> =
        (0..7).flat_map(|n| [line("other", "no"), line("high_school_art", &format!("q{n}"))]).collect();
    let dev = documents(&dev.iter().map(String::as_str).collect::<Vec<_>>());
    let task = Task::embedded("mmlu").unwrap();
    let test = documents(&[&line("high_school_art", "real"), &line("alone", "x")]);
    let items = task.items(&test, &dev, Options::default()).unwrap();
    let asked = choices(&items, 0);
    let context = &asked.pairs[2].context;
    let start = "The following are multiple choice questions (with answers) about high school art.\n\nq0\nA. a\nB. b\nC. c\nD. d\nAnswer: C\n\nq1\n";
    assert!(context.starts_with(start), "{context}");
    assert!(
        context.ends_with("q4\nA. a\nB. b\nC. c\nD. d\nAnswer: C\n\nreal\nA. a\nB. b\nC. c\nD. d\nAnswer:"),
        "{context}"
    );
    assert_eq!((asked.pairs[2].continuation.as_str(), items.fewshot), (" C", 5));
    assert!(items.skipped[0].reason.contains("at least 5 examples of the document's subject, found 0"));
}

#[test]
fn generation_has_stops_and_a_judge() {
    let train: Vec<String> = (0..20).map(|n| format!(r#"{{"question": "t{n}", "answer": "so #### {n}"}}"#)).collect();
    let train = documents(&train.iter().map(String::as_str).collect::<Vec<_>>());
    let test =
        documents(&[r#"{"question": "q", "answer": "x #### 7"}"#, r#"{"question": "t3", "answer": "so #### 3"}"#]);
    let task = Task::embedded("gsm8k").unwrap();
    let ask = |seed| task.items(&test, &train, Options { fewshot: None, seed }).unwrap();
    let items = ask(1);
    let Ask::Generate(prompt) = &items.items[0].ask else { panic!() };
    assert_eq!(prompt.prompt.matches("Question: ").count(), 6);
    assert!(prompt.prompt.ends_with("\n\nQuestion: q\nAnswer:"), "{}", prompt.prompt);
    assert_eq!(prompt.stops, ["Question:", "</s>", "<|im_end|>"]);
    assert_eq!(prompt.judge, Judge::Gsm8k { target: "x #### 7".to_owned() });
    // The same seed gives the same examples, another one others; no document is an example for itself.
    assert_eq!(items, ask(1));
    assert_ne!(items, ask(2));
    let itself = |items: &Items| match &items.items[1].ask {
        Ask::Generate(prompt) => prompt.prompt.matches("Question: t3\n").count(),
        _ => 0,
    };
    assert!((0..30).all(|seed| itself(&ask(seed)) == 1));
    let code = made("humaneval", &[r#"{"prompt": "def f():\n", "test": "def check(c): pass\n", "entry_point": "f"}"#]);
    let Ask::Generate(prompt) = &code.items[0].ask else { panic!() };
    assert_eq!((prompt.prompt.as_str(), prompt.max_tokens), ("def f():\n", 1024));
    let Judge::Python { test, entry_point, .. } = &prompt.judge else { panic!() };
    assert_eq!((test.as_str(), entry_point.as_str()), ("def check(c): pass\n", "f"));
}

#[test]
fn documents_and_last_words() {
    let items = made("wikitext", &[r#"{"page": " \n = A = \n \n b , c @-@ d . "}"#]);
    let Ask::Document(text) = &items.items[0].ask else { panic!() };
    // As re.split(r"\s+", page) counts: "", "=", "A", "=", "b", ",", "c", "@-@", "d", ".", "".
    assert_eq!((text.words, text.bytes), (11, 27));
    assert_eq!(text.text, "\n= A =\n\nb, c-d. ");
    let items = made("lambada_openai", &[r#"{"text": "one two  three"}"#]);
    assert_eq!(items.items[0].ask, Ask::Likelihood(pair("one two ", " three")));
}

#[test]
fn bad_documents_are_listed_by_line() {
    let items = made(
        "arc_easy",
        &[
            r#"{"question": "a", "choices": ["x", "y"], "answer": 0}"#,
            r#"{"question": "a", "choices": ["x", "y"], "answer": 2}"#,
            "nonsense",
            "",
            r#"{"question": "a", "answer": 0}"#,
            r#"{"question": "a", "choices": ["x"], "answer": 0}"#,
            r#"{"question": "a", "choices": ["x", 5], "answer": 0}"#,
            r#"{"question": "a", "choices": ["x", "y"], "answer": "z"}"#,
            r#"{"question": "a", "choices": ["x", "y"], "answer": -1}"#,
            "[1]",
            r#"{"question": "a", "choices": ["x", "y"], "answer": "y"}"#,
        ],
    );
    assert_eq!(items.items.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 10]);
    let reasons: Vec<(u32, &str)> = items.skipped.iter().map(|skip| (skip.line, skip.reason.as_str())).collect();
    assert_eq!(reasons.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4, 5, 6, 7, 8, 9]);
    for (line, words) in [
        (1, "a choice from 0 to 1, found 2"),
        (2, "no JSON object"),
        (4, "doc_to_choice: expected a list, found undefined"),
        (5, "at least 2 choices, found 1"),
        (6, "expected a text, found number"),
        (7, "one of the 2 choices, found `z`"),
        (8, "found -1"),
        (9, "expected a JSON object"),
    ] {
        let reason = reasons.iter().find(|(found, _)| *found == line).unwrap().1;
        assert!(reason.contains(words), "{line}: {reason}");
    }
}

const GOOD: &str = r#"
name = "mine"
about = "a"
source = "b"
kind = "choices"
metrics = ["acc"]
[documents]
test = "t.jsonl"
fetch = "none"
[prompt]
doc_to_text = "{{question}}"
doc_to_choice = "{{choices}}"
doc_to_target = "{{answer}}"
"#;

#[test]
fn faults_of_a_task_are_named() {
    let task = Task::parse(GOOD, "mine.toml").unwrap();
    assert_eq!((task.metrics.as_slice(), task.fewshot), (&[Metric::Acc][..], 0));
    for (from, to, words) in [
        ("about = \"a\"", "abuot = \"a\"", "did you mean `about`"),
        ("kind = \"choices\"", "kind = \"choice\"", "did you mean `choices`"),
        ("[\"acc\"]", "[]", "metrics: expected at least one of acc, acc_norm, mc2, found none"),
        ("[\"acc\"]", "[\"perplexity\"]", "found perplexity"),
        ("doc_to_target = \"{{answer}}\"", "", "either doc_to_target or doc_to_labels, found neither"),
        ("doc_to_choice = \"{{choices}}\"", "", "prompt.doc_to_choice: expected a template"),
        ("doc_to_text = \"{{question}}\"", "", "doc_to_text"),
        ("name = \"mine\"", "name = \"../mine\"", "name: expected letters"),
        ("[prompt]", "[fewshot]\ncount = 1000\n[prompt]", "fewshot.count: expected 0 to 100, found 1000"),
        ("[prompt]", "[generate]\nstops = []\nmax_tokens = 1\njudge = \"math\"\n[prompt]", "generate: expected none"),
    ] {
        assert!(GOOD.contains(from));
        let message = Task::parse(&GOOD.replace(from, to), "mine.toml").unwrap_err().to_string();
        assert!(message.contains("mine.toml") && message.contains(words), "{to}: {message}");
    }
}

#[test]
fn templates_that_fail_cost_their_document_alone() {
    let document = documents(&[r#"{"question": "q", "choices": ["a", "b"], "answer": 0}"#]);
    let ask = |template: &str| {
        let text = GOOD.replace("{{question}}", template);
        let task = Task::parse(&text, "mine.toml").unwrap();
        task.items(&document, &Documents::default(), Options::default()).unwrap()
    };
    assert_eq!(ask("{{question}}").skipped, []);
    for (template, words) in [
        ("{{nothing}}", "doc_to_text: undefined value"),
        ("{{question", "doc_to_text: syntax error"),
        ("{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}", "doc_to_text: "),
    ] {
        let found = ask(template);
        assert!(found.items.is_empty() && found.skipped[0].reason.contains(words), "{:?}", found.skipped);
    }
}

#[test]
fn files_that_are_none_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.jsonl");
    assert!(Documents::open(&path, None).unwrap_err().to_string().contains("empty.jsonl"));
    std::fs::write(&path, "\n").unwrap();
    assert!(Documents::open(&path, None).unwrap_err().to_string().contains("found no line"));
    let path = folder.path().join("bad.jsonl.gz");
    std::fs::write(&path, "not gzip").unwrap();
    assert!(Documents::open(&path, None).unwrap_err().to_string().contains("bad.jsonl.gz"));
    let own = folder.path().join("mine.toml");
    std::fs::write(&own, GOOD).unwrap();
    assert_eq!(Task::open(&own).unwrap().folder, Some(PathBuf::from(folder.path())));
}
