use super::*;
use std::collections::BTreeMap;
use suites::eval::{EVAL_SCHEMA, Header, Part};
use suites::task::{Choices, Judge, Text};

/// Answers by rule: ln p is less by 1 a character and more by 3 where the continuation holds a `*`; one text is refused.
struct Rule {
    asked: usize,
    interrupt: Option<(usize, Interrupt)>,
}

fn rule() -> Rule {
    Rule { asked: 0, interrupt: None }
}

impl Backend for Rule {
    fn together(&self) -> usize {
        3
    }

    fn loglikelihoods(&mut self, pairs: &[&Pair]) -> Result<Vec<Result<Scored, Refused>>> {
        self.asked += pairs.len();
        if let Some((after, interrupt)) = &self.interrupt
            && self.asked >= *after
        {
            interrupt.request();
        }
        let score = |pair: &&Pair| {
            let (length, star) = (pair.continuation.chars().count() as f64, pair.continuation.contains('*'));
            if pair.context.contains("refuse") {
                return Err(Refused("told to".to_owned()));
            }
            let loglikelihood = -length + if star { 3.0 } else { 0.0 };
            Ok(Scored { loglikelihood, tokens: 2, context: 5, greedy: star, truncated: u32::from(star) })
        };
        Ok(pairs.iter().map(score).collect())
    }

    fn document(&mut self, text: &str) -> Result<Result<Scored, Refused>> {
        let tokens = text.len() as u32;
        Ok(Ok(Scored { loglikelihood: -f64::from(tokens), tokens, context: 1, greedy: false, truncated: 0 }))
    }

    fn generate(&mut self, prompts: &[&Prompt]) -> Result<Vec<Result<Made, Refused>>> {
        assert!(prompts.len() <= 3);
        let made = |prompt: &&Prompt| {
            let text = prompt.prompt.to_uppercase();
            Ok(Made { text, tokens: 4, prompt: 6, stop: "eos".to_owned(), truncated: 0 })
        };
        Ok(prompts.iter().map(made).collect())
    }
}

fn choices(index: u32, context: &str, texts: &[&str], gold: u32) -> Item {
    let pair = |text: &&str| Pair { context: context.to_owned(), continuation: format!(" {text}") };
    let pairs = texts.iter().map(pair).collect();
    let chars = texts.iter().map(|text| text.chars().count() as u32).collect();
    Item { index, ask: Ask::Choices(Choices { pairs, chars, gold: vec![gold] }) }
}

fn header() -> Header {
    Header {
        schema: EVAL_SCHEMA,
        task: "t".to_owned(),
        task_digest: String::new(),
        data_digests: Vec::new(),
        fewshot: 0,
        seed: 1,
        metrics: ALL.to_vec(),
        engine: "rule".to_owned(),
        model: "none".to_owned(),
        model_digest: None,
        kv: None,
        head: None,
        chat: None,
        bos: None,
        context: None,
    }
}

fn part() -> Part {
    let text = String::new;
    Part { started: text(), program: text(), profile: text(), isa: None, threads: None }
}

const ALL: [Metric; 4] = [Metric::Acc, Metric::AccNorm, Metric::Mc2, Metric::Perplexity];

fn evaluate(items: &[Item], backend: &mut Rule, log: &mut Log) -> Result<Spent> {
    let interrupt = backend.interrupt.as_ref().map(|(_, interrupt)| interrupt.clone()).unwrap_or_default();
    let mut judge = |prompt: &Prompt, text: &str| {
        let Judge::Gsm8k { target } = &prompt.judge else { unreachable!() };
        let right = f64::from(u8::from(target == text));
        let found = BTreeMap::from([(Metric::ExactMatch, text.to_owned())]);
        Ok(score::Judged { scores: BTreeMap::from([(Metric::ExactMatch, right)]), found })
    };
    super::run(&mut Run { metrics: &ALL, judge: &mut judge, interrupt: &interrupt, show: false }, items, backend, log)
}

fn fresh() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("items.jsonl");
    (folder, path)
}

#[test]
fn choices_are_judged_by_the_rules() {
    let (_folder, path) = fresh();
    let mut log = Log::open(&path, &header(), &part()).unwrap();
    // ln p: -3, -2 (5 less 3), -10; by character: -3/2, -2/4, -10/9.
    let items = [choices(0, "a", &["bb", "*ccc", "ddddddddd"], 1), choices(4, "refuse", &["b", "c"], 0)];
    let spent = evaluate(&items, &mut rule(), &mut log).unwrap();
    assert_eq!((spent.items, spent.tokens), (2, 21));
    let rows = log.rows();
    assert_eq!(rows[&4].skipped(), Some("told to"));
    assert!(rows[&4].scores.is_empty());
    let Answer::Choices { loglikelihoods, choice, choice_norm, truncated, .. } = &rows[&0].answer else { panic!() };
    assert_eq!((loglikelihoods.as_slice(), *choice, *choice_norm, *truncated), (&[-3.0, -2.0, -10.0][..], 1, 1, 1));
    let p = |l: f64| l.exp() / ((-3f64).exp() + (-2f64).exp() + (-10f64).exp());
    assert_eq!(rows[&0].scores[&Metric::Acc], 1.0);
    assert!((rows[&0].scores[&Metric::Mc2] - p(-2.0)).abs() < 1e-12);
    assert!(!rows[&0].scores.contains_key(&Metric::Perplexity));
}

#[test]
fn acc_and_acc_norm_differ_and_the_first_of_equals_is_chosen() {
    let rows = |items: &[Item]| {
        let (_folder, path) = fresh();
        let mut log = Log::open(&path, &header(), &part()).unwrap();
        evaluate(items, &mut rule(), &mut log).unwrap();
        log.rows().clone()
    };
    // ln p -2 and -10; by character -2 and -10/9.
    let found = rows(&[choices(0, "a", &["b", "ccccccccc"], 1), choices(1, "a", &["b", "c"], 1)]);
    assert_eq!((found[&0].scores[&Metric::Acc], found[&0].scores[&Metric::AccNorm]), (0.0, 1.0));
    assert_eq!((found[&1].scores[&Metric::Acc], found[&1].scores[&Metric::AccNorm]), (0.0, 0.0));
}

#[test]
fn likelihoods_documents_and_texts_have_their_rows() {
    let (_folder, path) = fresh();
    let mut log = Log::open(&path, &header(), &part()).unwrap();
    let pair = Pair { context: "a".to_owned(), continuation: " *".to_owned() };
    let text = Text { text: "abc".to_owned(), words: 2, bytes: 5 };
    let prompt = |target: &str| Prompt {
        prompt: "yes".to_owned(),
        stops: Vec::new(),
        max_tokens: 8,
        judge: Judge::Gsm8k { target: target.to_owned() },
    };
    let mut items = vec![
        Item { index: 0, ask: Ask::Likelihood(pair) },
        Item { index: 1, ask: Ask::Document(text) },
        Item { index: 2, ask: Ask::Generate(prompt("YES")) },
    ];
    items.extend((3..8).map(|index| Item { index, ask: Ask::Generate(prompt("no")) }));
    for item in &items {
        evaluate(std::slice::from_ref(item), &mut rule(), &mut log).unwrap();
    }
    let rows = log.rows();
    assert_eq!((rows[&0].scores[&Metric::Acc], rows[&0].scores[&Metric::Perplexity]), (1.0, 1.0));
    assert!(matches!(rows[&1].answer, Answer::Document { loglikelihood: -3.0, words: 2, bytes: 5, .. }));
    assert_eq!((rows[&2].scores[&Metric::ExactMatch], rows[&3].scores[&Metric::ExactMatch]), (1.0, 0.0));
    assert_eq!(items.len(), log.rows().len());
}

#[test]
fn an_interrupted_evaluation_goes_on_where_it_was() {
    let (_folder, path) = fresh();
    let items: Vec<Item> = (0..300).map(|index| choices(index, "a", &["b", "*c"], index % 2)).collect();
    let mut log = Log::open(&path, &header(), &part()).unwrap();
    let mut backend = Rule { asked: 0, interrupt: Some((200, Interrupt::default())) };
    let error = evaluate(&items, &mut backend, &mut log).unwrap_err();
    assert_eq!(crate::error::exit_code(&error), 130);
    let before = log.rows().len();
    assert!((100..300).contains(&before), "{before}");
    drop(log);
    // A torn line is cut off.
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"kind\":\"item\",\"in");
    std::fs::write(&path, text).unwrap();
    let mut log = Log::open(&path, &header(), &part()).unwrap();
    let mut backend = rule();
    evaluate(&items, &mut backend, &mut log).unwrap();
    assert_eq!((log.rows().len(), backend.asked), (300, 2 * (300 - before)));
    let (_folder, whole) = fresh();
    let mut at_once = Log::open(&whole, &header(), &part()).unwrap();
    evaluate(&items, &mut rule(), &mut at_once).unwrap();
    assert_eq!(at_once.rows(), log.rows());
    drop(log);
    assert_eq!(reports::items::load(&path).unwrap().unwrap().rows, *at_once.rows());
}

#[test]
fn a_log_of_something_else_is_refused() {
    let (_folder, path) = fresh();
    let items = [choices(0, "a", &["b", "*c"], 0)];
    let mut log = Log::open(&path, &header(), &part()).unwrap();
    evaluate(&items, &mut rule(), &mut log).unwrap();
    let message = Log::open(&path, &header(), &part()).unwrap_err().to_string();
    assert!(message.contains("another program"), "{message}");
    drop(log);
    let message = Log::open(&path, &Header { fewshot: 5, ..header() }, &part()).unwrap_err().to_string();
    assert!(message.contains("fewshot: expected 5, found 0"), "{message}");
    let mut log = Log::open(&path, &header(), &part()).unwrap();
    let other = [choices(0, "A", &["b", "*c"], 0)];
    let error = evaluate(&other, &mut rule(), &mut log).unwrap_err();
    assert!(error.to_string().contains("item 0: expected prompt"), "{error}");
    assert_eq!(crate::error::exit_code(&error), 65);
}

#[test]
fn chunks_hold_items_of_a_kind_whole() {
    let items: Vec<Item> = (0..100).map(|index| choices(index, "a", &["b", "c", "d"], 0)).collect();
    let open: Vec<&Item> = items.iter().collect();
    let sizes: Vec<usize> = chunks(&open, 4).iter().map(|chunk| chunk.len()).collect();
    assert_eq!(sizes, [42, 42, 16]);
    let many = choices(0, "a", &["b"; 200], 0);
    assert_eq!(chunks(&[&many, &items[0]], 4).iter().map(|chunk| chunk.len()).collect::<Vec<_>>(), [1, 1]);
}
