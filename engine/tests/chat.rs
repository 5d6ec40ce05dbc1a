//! Chat templates against transformers (`scripts/oracle/chat.py`), and templates that mean harm.

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::data;
use common::writer::{Meta, Writer};
use engine::chat::{BUILT_IN, ChatTemplate, Frame, MOST_INPUT, MOST_SOURCE, Message};
use engine::formats::GgufFile;
use engine::tokenizer::Tokenizer;
use serde_json::Value;

const FRAME: Frame<'static> = Frame { bos: "<s>", eos: "</s>", add_generation_prompt: true, strftime: None };

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A model's own template, if its file is here.
fn of_file(name: &str) -> Option<String> {
    let path = data(name)?;
    if name.ends_with(".gguf") {
        let tokenizer = Tokenizer::from_gguf(&GgufFile::open(&path).unwrap()).unwrap();
        return Some(tokenizer.chat_templates()[0].source.clone());
    }
    let tokenizer = Tokenizer::from_json(path.with_file_name("tokenizer.json")).unwrap();
    assert_eq!((tokenizer.bos_text(), tokenizer.eos_text()), ("<|begin_of_text|>", "<|end_of_text|>"));
    Some(tokenizer.chat_templates()[0].source.clone())
}

#[test]
fn texts_are_those_of_transformers() {
    let golden = golden();
    let mut files: HashMap<&str, Option<String>> = HashMap::new();
    let mut compared = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let source = match golden["sources"][name].as_str() {
            Some(source) => Some(source.to_owned()),
            None => files.entry(name).or_insert_with(|| of_file(name)).clone(),
        };
        let Some(source) = source else { continue };
        let conversation = case["conversation"].as_str().unwrap();
        let variables = &golden["variables"][conversation][case["prompt"].to_string()];
        let found = ChatTemplate::new(name, &source).unwrap().render_json(variables.as_str().unwrap());
        match case["output"].as_str() {
            Some(expected) => assert_eq!(found.as_deref().unwrap(), expected, "{name} {conversation}"),
            None => {
                let message = found.unwrap_err().to_string();
                assert!(message.contains(case["error"].as_str().unwrap()) && message.contains(name), "{message}");
            }
        }
        compared += 1;
    }
    assert!(compared >= 60, "{compared}");
}

/// The text, or why there is none; and all within a second.
fn quickly(source: &str) -> Result<String, String> {
    let start = std::time::Instant::now();
    let messages = [Message::new("user", &"é".repeat(1000))];
    let result = ChatTemplate::new("harm", source).and_then(|t| t.render(&messages, &FRAME)).map_err(|e| e.to_string());
    let shown: String = source.chars().take(80).collect();
    assert!(start.elapsed().as_secs_f64() < 5.0, "{shown} took {:?}", start.elapsed());
    result
}

#[test]
fn templates_that_cost_too_much_are_ended() {
    let loops = "{% for i in range(90000) %}";
    let bomb = "{% set x = [x, x] %}".repeat(60);
    let sources = [
        format!("{loops}{loops}a{{% endfor %}}{{% endfor %}}"),
        format!("{loops}{}{{% endfor %}}", "a".repeat(1 << 15)),
        "{{ 'a' * 1000000000 }}".to_owned(),
        "{% set x = 'a' * 4000000 %}{{ x * 1000 }}".to_owned(),
        format!("{{% set ns = namespace(x='aa') %}}{loops}{{% set ns.x = ns.x ~ ns.x %}}{{% endfor %}}"),
        format!("{{% set ns = namespace(x='') %}}{loops}{{% set ns.x %}}{{{{ ns.x }}}}ab{{% endset %}}{{% endfor %}}"),
        format!("{{% set ns = namespace(x=[]) %}}{loops}{{% set ns.x = [ns.x] %}}{{% endfor %}}{{{{ ns.x }}}}"),
        format!("{{% set ns = namespace(x={{}}) %}}{loops}{{% set ns.x = {{'a': ns.x}} %}}{{% endfor %}}"),
        format!("{{% set ns = namespace(x=[0]) %}}{loops}{{% set ns.x = ns.x[0:] %}}{{% endfor %}}{{{{ ns.x }}}}"),
        format!("{{% set ns = namespace(x=[0]) %}}{loops}{{% set ns.x = ns.x + ns.x %}}{{% endfor %}}"),
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = [{'a': ns}] %}{{ ns|tojson }}".to_owned(),
        format!("{{% set x = [1] %}}{bomb}{{{{ x }}}}"),
        format!("{{% set x = [1] %}}{{% set y = [1] %}}{bomb}{}{{{{ x == y }}}}", bomb.replace('x', "y")),
        format!("{{% set x = [1] %}}{}{{{{ x|tojson }}}}", "{% set x = {'a': x, 'b': x} %}".repeat(60)),
        format!("{{% set x = [1] %}}{}{{{{ x }}}}", "{% set x = (x, x) %}".repeat(60)),
        "{% macro f(x, n) %}{% if n %}{{ f([x, x], n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f(1, 60) }}"
            .to_owned(),
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}".to_owned(),
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        format!("{loops}{{% set y = ('a' * 200000).count('b') %}}{{% endfor %}}"),
        "{{ messages[0].content.replace('é', 'é' * 10000).replace('é', 'é' * 10000) }}".to_owned(),
        "{{ ('é' * 10000)|join('é' * 10000) }}".to_owned(),
        "{{ 'a'|indent(1000000000, true) }}{{ '%1000000000d'|format(1) }}".to_owned(),
        "{{ [1]|batch(1000000000, 0)|list }}".to_owned(),
        "{{ [1]|slice(1000000000, 0)|list }}".to_owned(),
        "{{ [[[1]]]|tojson(indent=1000000000) }}".to_owned(),
        format!("{{{{ 1{} }}}}", "+a".repeat(20_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(20_000)),
        format!("{{{{ a{} }}}}", "|trim".repeat(10_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}{}", "{% if 1 %}".repeat(2000), "{% endif %}".repeat(2000)),
        "a".repeat(MOST_SOURCE + 1),
    ];
    for source in &sources {
        let message = quickly(source).expect_err(&source.chars().take(200).collect::<String>());
        assert!(message.starts_with("chat template harm: ") && message.len() < 1000, "{message}");
    }
}

#[test]
fn templates_that_only_look_dear_are_rendered() {
    let elif = format!("{{% if false %}}{}{{% endif %}}", "{% elif false %}".repeat(3000));
    for (source, expected) in [
        (elif.as_str(), ""),
        ("{{ messages[0].content|length }}", "1000"),
        ("{% set ns = namespace(x=namespace_is_no_word) %}{{ ns.x }}", ""),
        (
            "{% for m in messages %}{% set outer = loop %}{% for c in [1, 2] %}{{ outer.index }}{{ c }}{% endfor %}{% endfor %}",
            "1112",
        ),
        ("{{ [1, 2][0] }}{{ {'a': [3]}['a'][0] }}{{ (1, 2)[1] }}{{ [[1], [2]][1][0] }}", "1322"),
        ("{% if 1 in [1] and [] is not defined or not [1] %}a{% endif %}{{ 1 if [1] else [2] }}", "1"),
        ("{% set a, b = [1], {'k': (1,)} %}{{ a }}{{ b }}", "[1]{'k': (1,)}"),
        ("{%- set x = [1] -%}\n{%+ set y = x %}\n{{ y }}", "[1]"),
        ("{{ dict(a=1)['a'] }}{{ namespace(b=2).b }}{{ dict({'c': 3}, d=4)|items|list }}", "12[('c', 3), ('d', 4)]"),
        ("{{ [1] + [2, 3][0:1] + [4]|list == [1, 2, 4] }}{{ -1 + -2 * 3 - -4 }}{{ 2 * -3|abs }}", "True-36"),
        (
            "{% if 1 not in [2] and not 1 == 2 or 3 in [4] %}a{% endif %}{{ 'b' if 1 is in [1] and 2 is not in [1] }}",
            "ab",
        ),
        (
            "{{ x is defined == false }}{{ x is not defined and 1 != 2 > 1 }}{{ {'k': 1 == 1, 'l': [1 < 2]}['k' ~ ''] }}",
            "TrueTrueTrue",
        ),
        ("{% for i in [3, 1, 2]|sort if i in [1, 3] and i is gt 1 %}{{ i }}{% endfor %}{{ [1, 2][-1 + 0:] }}", "3[2]"),
        (
            "{{ messages|map(attribute='role')|join(',') }}{{ [1, 2, 3]|batch(2)|list }}{{ [2, 1]|min }}",
            "user[[1, 2], [3]]1",
        ),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ [1, 1]|unique|list }}", "1[1]"),
        (
            "{{ '{:>5}|{0}'.format(1) if false else '{0:>5}|{1}'.format(1, 'a') }}{{ ', '.join(['a', 'b']) }}",
            "    1|aa, b",
        ),
        (
            "{{ 'ab' * 2 }}{{ 3 * 2 }}{{ {1: 'x'}[1] }}{{ 'abc'[0:2] }}{{ messages[0]['role' if 1 else 'x'] }}",
            "abab6xabuser",
        ),
    ] {
        assert_eq!(quickly(source).unwrap(), expected, "{source}");
    }
    let long = [Message::new("user", &"word ".repeat(MOST_INPUT / 5 - 100))];
    let text = ChatTemplate::built_in("chatml").unwrap().render(&long, &FRAME).unwrap();
    assert!(text.len() > MOST_INPUT - 1000);
    let message = ChatTemplate::built_in("chatml").unwrap().render_json(&format!("[{}1]", "1,".repeat(MOST_INPUT / 2)));
    assert!(message.unwrap_err().to_string().contains("JSON object"));
    let over = [Message::new("user", &"w".repeat(MOST_INPUT))];
    let message = ChatTemplate::built_in("chatml").unwrap().render(&over, &FRAME).unwrap_err().to_string();
    assert!(message.contains("at most"), "{message}");
}

#[test]
fn built_in_templates_say_what_they_should() {
    let messages = [
        Message::new("system", "Be kind."),
        Message::new("user", " Hi "),
        Message::new("assistant", "Yes?"),
        Message::new("user", "Bye"),
    ];
    let text = |name: &str| ChatTemplate::built_in(name).unwrap().render(&messages, &FRAME).unwrap();
    let bitnet = "<s>System: Be kind.<|eot_id|>\nUser: Hi<|eot_id|>\nAssistant: Yes?<|eot_id|>\nUser: Bye<|eot_id|>\nAssistant: ";
    assert_eq!(text("bitnet"), bitnet);
    assert_eq!(text("bitnet-hf"), bitnet.replace('\n', ""));
    assert_eq!(
        text("chatml"),
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n\
         <|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    );
    let llama = text("llama3");
    assert!(
        llama.starts_with("<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user")
    );
    assert!(llama.ends_with("Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"));
    let message = ChatTemplate::built_in("alpaca").unwrap_err().to_string();
    assert!(BUILT_IN.iter().all(|(name, _)| message.contains(name)) && message.contains("alpaca"), "{message}");
}

/// A small BPE vocabulary with this chat template.
fn tokenizer_with(template: Option<Meta>, more: &[(&str, Meta)]) -> Result<Tokenizer, String> {
    let mut writer = Writer::default();
    let texts = |list: &[&str]| Meta::Texts(list.iter().map(|text| (*text).to_owned()).collect());
    writer.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
    writer.set("tokenizer.ggml.tokens", texts(&["a", "b", "<|eot_id|>"])).set("tokenizer.ggml.merges", texts(&[]));
    writer.set("tokenizer.ggml.token_type", Meta::Integers(vec![1, 1, 3]));
    if let Some(template) = template {
        writer.set("tokenizer.chat_template", template);
    }
    for (key, value) in more {
        writer.set(key, value.clone());
    }
    let file = GgufFile::from_bytes("test.gguf", writer.bytes()).map_err(|e| e.to_string())?;
    Tokenizer::from_gguf(&file).map_err(|e| e.to_string())
}

#[test]
fn the_template_that_is_known_wrong_is_replaced() {
    // As bitnet.cpp's converter writes it.
    let wrong = "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if message['role'] == 'user' %}\
                 {{ 'Human: ' + message['content'] + '\n\nBITNETAssistant: ' + eos_token }}{% elif message['role'] == 'assistant' %}\
                 {{ message['content'] + eos_token }}{% endif %}{% endfor %}";
    let template = ChatTemplate::of(&tokenizer_with(Some(wrong.into()), &[]).unwrap()).unwrap().unwrap();
    assert_eq!(template.name(), "bitnet");
    assert!(template.notes()[0].contains("BITNETAssistant") && template.notes()[0].contains("`bitnet`"));
    let text = template.render(&[Message::new("user", "Hi")], &FRAME).unwrap();
    assert_eq!(text, "<s>User: Hi<|eot_id|>\nAssistant: ");

    let own = ChatTemplate::of(&tokenizer_with(Some("{{ eos_token }}".into()), &[]).unwrap()).unwrap().unwrap();
    assert_eq!((own.name(), own.notes().len()), ("default", 0));
    assert!(ChatTemplate::of(&tokenizer_with(None, &[]).unwrap()).unwrap().is_none());
    let message = tokenizer_with(Some(Meta::U32(1)), &[]).unwrap_err();
    assert!(message.contains("tokenizer.chat_template"), "{message}");
    let broken = tokenizer_with(Some("{% if %}".into()), &[]).unwrap();
    assert!(ChatTemplate::of(&broken).unwrap_err().to_string().contains("chat template default: "));
    let named = tokenizer_with(None, &[("tokenizer.chat_template.rag", "x".into())]).unwrap();
    assert_eq!(named.chat_templates()[0].name, "rag");
}

#[test]
fn templates_come_from_the_files_beside_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let json = r#"{"version":"1.0","added_tokens":[],"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false},
        "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;
    write("tokenizer.json", json);
    let read = || Tokenizer::from_json(folder.path().join("tokenizer.json"));
    assert!(read().unwrap().chat_templates().is_empty());
    write("generation_config.json", r#"{"eos_token_id": [1, 2, 99]}"#);
    write("tokenizer_config.json", r#"{"bos_token": {"content": "a"}, "eos_token": "b", "chat_template": "one"}"#);
    let tokenizer = read().unwrap();
    assert_eq!((tokenizer.bos_text(), tokenizer.eos_text(), tokenizer.stops()), ("a", "b", &[1, 2][..]));
    assert_eq!(tokenizer.chat_templates()[0].source, "one");
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    write("tokenizer_config.json", list);
    let names: Vec<String> = read().unwrap().chat_templates().iter().map(|t| t.name.clone()).collect();
    assert_eq!(names, ["default", "tool_use"]);
    let bytes = Tokenizer::from_json_bytes("memory", json.as_bytes(), Some(list.as_bytes())).unwrap();
    assert_eq!(bytes.chat_templates(), read().unwrap().chat_templates());
    write("chat_template.jinja", "j");
    assert_eq!(read().unwrap().chat_templates()[0].source, "j");
    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    for bad in [r#"{"chat_template": 3}"#, r#"{"chat_template": [{"name": "x"}]}"#, "{"] {
        write("tokenizer_config.json", bad);
        let message = read().unwrap_err().to_string();
        assert!(message.contains("tokenizer_config.json"), "{message}");
    }
}

#[test]
fn the_clock_is_the_callers() {
    let template =
        ChatTemplate::new("date", "{{ strftime_now('%Y') if strftime_now is defined else 'never' }}").unwrap();
    assert_eq!(template.render(&[], &FRAME).unwrap(), "never");
    let clock = |pattern: &str| if pattern == "%Y" { Ok("2031".to_owned()) } else { Err("odd".to_owned()) };
    assert_eq!(template.render(&[], &Frame { strftime: Some(clock), ..FRAME }).unwrap(), "2031");
}
