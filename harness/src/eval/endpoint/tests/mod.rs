mod mock;

use super::*;
use mock::{Mock, Reply};
use serde_json::{Value, json};
use std::time::Instant;

fn options(mock: &Mock) -> Options {
    Options {
        timeout: Duration::from_secs(2),
        retries: 2,
        backoff: Duration::from_millis(10),
        most_bytes: 1 << 16,
        ..Options::new(mock.url.clone(), "m")
    }
}

fn says(body: &Value) -> Reply {
    Reply::Says(200, "", body.to_string())
}

/// The body of the last request of `mock`.
fn last(mock: &Mock) -> Value {
    serde_json::from_str(mock.asked().last().unwrap().split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A response to "The sky is" + " blue today": tokens as a server with word tokens has them, one new token after.
fn echoed() -> Value {
    json!({"id": "x", "object": "text_completion", "choices": [{"index": 0, "text": "The sky is blue today.", "finish_reason": "length",
        "logprobs": {
            "tokens": ["The", " sky", " is", " blue", " today", "."],
            "token_logprobs": [null, -2.0, -0.5, -0.25, -1.5, -0.125],
            "top_logprobs": [null, {" cat": -1.0}, {" is": -0.5}, {" blue": -0.25}, {".": -0.75, " today": -1.5}, {".": -0.125}],
            "text_offset": [0, 3, 7, 10, 15, 21],
        }}], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}})
}

fn score(reply: Reply) -> Result<Scored, EndpointError> {
    let mock = Mock::new(vec![reply]);
    Endpoint::open(&Options { retries: 0, ..options(&mock) })?.score("The sky is", " blue today")
}

/// What `score` makes of the response with `change`.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Scored, EndpointError> {
    let mut response = echoed();
    change(&mut response["choices"][0]);
    score(says(&response))
}

fn malformed_by(change: impl FnOnce(&mut Value)) -> String {
    match changed(change) {
        Err(EndpointError::Malformed(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn unsupported_by(change: impl FnOnce(&mut Value)) -> String {
    match changed(change) {
        Err(EndpointError::Unsupported(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_continuation_is_summed() {
    let mock = Mock::new(vec![says(&echoed()), says(&echoed())]);
    let endpoint = Endpoint::open(&options(&mock)).unwrap();
    let scored = endpoint.score("The sky is", " blue today").unwrap();
    assert_eq!(scored, Scored { log_likelihood: -1.75, tokens: 2, greedy: false });
    let asked = last(&mock);
    let expected = json!({"model": "m", "prompt": "The sky is blue today", "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "echo": true, "seed": 1234});
    assert_eq!(asked, expected);
    let scored = endpoint.score("The sky", " is blue today").unwrap();
    assert_eq!(scored, Scored { log_likelihood: -2.25, tokens: 3, greedy: false });
}

#[test]
fn greedy_is_when_each_token_is_the_likeliest() {
    let scored = changed(|choice| choice["logprobs"]["top_logprobs"][4] = json!({" today": -1.5})).unwrap();
    assert!(scored.greedy);
    let scored = changed(|choice| choice["logprobs"]["top_logprobs"][3] = json!({" red": -0.24})).unwrap();
    assert!(!scored.greedy);
}

#[test]
fn no_new_token_is_as_good() {
    let scored = changed(|choice| {
        choice["text"] = "The sky is blue today".into();
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            choice["logprobs"][list].as_array_mut().unwrap().pop();
        }
    });
    assert_eq!(scored.unwrap(), Scored { log_likelihood: -1.75, tokens: 2, greedy: false });
}

#[test]
fn what_stands_before_the_text_is_allowed_for() {
    let before = |token: &'static str, text: &'static str| {
        changed(move |choice| {
            choice["text"] = text.into();
            let length = token.chars().count() as u64;
            let logprobs = &mut choice["logprobs"];
            logprobs["token_logprobs"][0] = json!(-3.0);
            logprobs["top_logprobs"][0] = json!({"The": -3.0});
            for (list, value) in
                [("tokens", json!(token)), ("token_logprobs", Value::Null), ("top_logprobs", Value::Null)]
            {
                logprobs[list].as_array_mut().unwrap().insert(0, value);
            }
            let offsets =
                logprobs["text_offset"].as_array().unwrap().iter().map(|n| json!(n.as_u64().unwrap() + length));
            logprobs["text_offset"] = std::iter::once(json!(0)).chain(offsets).collect();
        })
    };
    let expected = Scored { log_likelihood: -1.75, tokens: 2, greedy: false };
    assert_eq!(before("<s>", "<s>The sky is blue today.").unwrap(), expected);
    assert_eq!(before("", "The sky is blue today.").unwrap(), expected);
    // A blank that the tokenizer puts before.
    let scored = changed(|choice| {
        choice["text"] = " The sky is blue today.".into();
        choice["logprobs"]["tokens"][0] = " The".into();
        choice["logprobs"]["text_offset"] = json!([0, 4, 8, 11, 16, 22]);
    });
    assert_eq!(scored.unwrap(), expected);
}

#[test]
fn offsets_are_in_characters() {
    let body = json!({"choices": [{"text": "Le café est très noir", "logprobs": {
        "tokens": ["Le", " café", " est", " très", " noir"],
        "token_logprobs": [null, -1.0, -2.0, -3.0, -4.0],
        "top_logprobs": [null, {"x": -1.0}, {"x": -1.0}, {"x": -1.0}, {"x": -1.0}],
        "text_offset": [0, 2, 7, 11, 16]}}]});
    let mock = Mock::new(vec![says(&body), says(&body)]);
    let endpoint = Endpoint::open(&options(&mock)).unwrap();
    assert_eq!(endpoint.score("Le café est", " très noir").unwrap().log_likelihood, -7.0);
    assert_eq!(endpoint.score("Le café", " est très noir").unwrap().tokens, 3);
}

#[test]
fn without_echo_or_logprobs_it_is_not_applicable() {
    assert!(unsupported_by(|choice| choice["text"] = ".".into()).contains("not echoed"));
    assert!(unsupported_by(|choice| choice["logprobs"] = Value::Null).contains("no logprobs"));
    assert!(unsupported_by(|choice| drop(choice.as_object_mut().unwrap().remove("logprobs"))).contains("no logprobs"));
    assert!(unsupported_by(|choice| choice["logprobs"] = json!({"content": []})).contains("logprobs.tokens"));
    assert!(unsupported_by(|choice| choice["logprobs"]["top_logprobs"] = Value::Null).contains("top_logprobs"));
    for (status, message) in
        [(400, "echo is not supported"), (500, "logprobs is not supported for models created with logits_all=False")]
    {
        let mock = Mock::new(vec![Reply::Says(status, "", json!({"error": {"message": message}}).to_string())]);
        let error = Endpoint::open(&options(&mock)).unwrap().check_scoring().unwrap_err();
        assert!(matches!(&error, EndpointError::Unsupported(said) if said.contains(message)), "{error}");
        assert_eq!(mock.asked().len(), 1);
    }
}

/// Responses as to [`Endpoint::check_scoring`]'s first trial, with what the last one scores the generated token.
fn trial(context: &str, scores: f64) -> [Reply; 3] {
    let echo = |text: &str, logprob: f64| {
        says(&json!({"choices": [{"text": format!("{context}{text}"), "logprobs": {
            "tokens": [context, text], "token_logprobs": [null, logprob], "top_logprobs": [null, {" Paris": scores}],
            "text_offset": [0, context.len()]}}]}))
    };
    let generated = json!({"choices": [{"text": " Paris", "logprobs": {"token_logprobs": [-0.75]}}]});
    [echo(" so", -9.0), says(&generated), echo(" Paris", scores)]
}

#[test]
fn scores_must_agree_with_what_is_generated() {
    let all = |scores: f64| TRIALS.iter().flat_map(|context| trial(context, scores)).collect::<Vec<_>>();
    let mock = Mock::new(all(-0.76));
    Endpoint::open(&options(&mock)).unwrap().check_scoring().unwrap();
    assert_eq!(mock.asked().len(), 12);
    // Of the next token's probabilities.
    let mock = Mock::new(all(-8.5));
    let error = Endpoint::open(&options(&mock)).unwrap().check_scoring().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, EndpointError::Unsupported(_)) && text.contains("-0.750, but scores it -8.500"), "{text}");
    // It ends where it should go on, each time.
    let silent = TRIALS.iter().flat_map(|context| {
        let [first, _, _] = trial(context, -0.75);
        [first, says(&json!({"choices": [{"text": "", "logprobs": {"token_logprobs": [-0.5]}}]}))]
    });
    let mock = Mock::new(silent.collect());
    let error = Endpoint::open(&options(&mock)).unwrap().check_scoring().unwrap_err();
    assert!(error.to_string().contains("no trial could tell"), "{error}");
}

#[test]
fn wrong_tokens_give_no_figure() {
    assert!(malformed_by(|choice| drop(choice["logprobs"]["tokens"].as_array_mut().unwrap().pop())).contains("long"));
    assert!(
        malformed_by(|choice| drop(choice["logprobs"]["token_logprobs"].as_array_mut().unwrap().remove(3)))
            .contains("long")
    );
    assert!(malformed_by(|choice| choice["logprobs"]["text_offset"] = json!([0, 3, 7, 11, 15, 21])).contains("spans"));
    assert!(
        malformed_by(|choice| choice["logprobs"]["text_offset"] = json!([0, 3, 10, 7, 15, 21])).contains("descend")
    );
    assert!(
        malformed_by(|choice| choice["logprobs"]["text_offset"] = json!([5, 8, 12, 15, 20, 26])).contains("begin at 5")
    );
    assert!(malformed_by(|choice| choice["logprobs"]["text_offset"][4] = json!(21)).contains("new tokens"));
    assert!(malformed_by(|choice| choice["logprobs"]["tokens"][4] = json!(" tod")).contains("spell"));
    assert!(malformed_by(|choice| choice["logprobs"]["tokens"][0] = json!("A")).contains("first token"));
    assert!(
        malformed_by(|choice| choice["logprobs"]["token_logprobs"][4] = Value::Null).contains("no log-probability")
    );
    assert!(malformed_by(|choice| choice["logprobs"]["token_logprobs"][4] = json!(0.5)).contains("0.5"));
    assert!(malformed_by(|choice| choice["logprobs"]["top_logprobs"][4] = Value::Null).contains("likeliest"));
    assert!(malformed_by(|choice| choice["logprobs"]["tokens"][4] = json!(7)).contains("invalid type"));
    let empty = json!({"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []});
    assert!(malformed_by(|choice| choice["logprobs"] = empty).contains("no tokens"));
}

#[test]
fn broken_responses_are_errors() {
    for body in
        ["", "{", "[]", "null", "{\"choices\": []}", "{\"choices\": [{}]}", "{\"choices\": 5}", "<html>", "\u{0}"]
    {
        let error = score(Reply::Says(200, "", body.to_owned())).unwrap_err();
        assert!(matches!(error, EndpointError::Malformed(_)), "{body}: {error}");
    }
    let two = json!({"choices": [echoed()["choices"][0], echoed()["choices"][0]]});
    assert!(matches!(score(says(&two)), Err(EndpointError::Malformed(_))));
    let whole = echoed().to_string();
    assert!(matches!(score(Reply::Truncated(whole)), Err(EndpointError::Unreachable(_))));
    assert!(matches!(score(Reply::Closes), Err(EndpointError::Unreachable(_))));
    assert!(matches!(score(Reply::Raw("HELLO\r\n\r\n")), Err(EndpointError::Unreachable(_))));
}

#[test]
fn size_and_time_are_bounded() {
    let begin = Instant::now();
    assert!(matches!(score(Reply::Endless), Err(EndpointError::TooLarge(65536))));
    let large = json!({"choices": [{"text": "x".repeat(1 << 16)}]});
    assert!(matches!(score(says(&large)), Err(EndpointError::TooLarge(65536))));
    let refusal = "x".repeat(1 << 20);
    let Err(EndpointError::Refused { message, .. }) = score(Reply::Says(400, "", refusal)) else {
        panic!("not refused")
    };
    assert_eq!(message.len(), 300);
    for reply in [Reply::Slow, Reply::Silent] {
        let error = score(reply).unwrap_err();
        assert!(matches!(error, EndpointError::TimedOut(_)), "{error}");
    }
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn passing_refusals_are_tried_again() {
    let busy = |status| Reply::Says(status, "", "busy".to_owned());
    for first in [busy(429), busy(500), busy(503), Reply::Closes, Reply::Truncated("{".to_owned())] {
        let mock = Mock::new(vec![first, says(&echoed())]);
        assert!(Endpoint::open(&options(&mock)).unwrap().score("The sky is", " blue today").is_ok());
        assert_eq!(mock.asked().len(), 2);
    }
    let mock = Mock::new(vec![busy(503), busy(503), busy(502)]);
    let error = Endpoint::open(&options(&mock)).unwrap().generate("a", &[], 5).unwrap_err();
    assert!(matches!(&error, EndpointError::Refused { status: 502, message } if message == "busy"), "{error}");
    assert_eq!(mock.asked().len(), 3);
    // These will be no better the next time.
    for status in [301, 400, 401, 404, 422] {
        let mock =
            Mock::new(vec![Reply::Says(status, "location: http://127.0.0.1:1/\r\n", "no\n\u{1b}[31m".to_owned())]);
        let error = Endpoint::open(&options(&mock)).unwrap().generate("a", &[], 5).unwrap_err();
        assert!(
            matches!(&error, EndpointError::Refused { status: found, message } if *found == status && message == "no [31m")
        );
        assert_eq!(mock.asked().len(), 1);
    }
}

#[test]
fn a_server_may_say_how_long_to_wait() {
    let busy = Reply::Says(429, "retry-after: 1\r\n", String::new());
    let mock = Mock::new(vec![busy, says(&echoed())]);
    let patient = Options { backoff: Duration::from_millis(20), ..options(&mock) };
    let begin = Instant::now();
    assert!(Endpoint::open(&patient).unwrap().score("The sky is", " blue today").is_ok());
    assert!(begin.elapsed() >= Duration::from_secs(1));
    // But not without bound.
    let busy = Reply::Says(429, "retry-after: 99999\r\n", String::new());
    let mock = Mock::new(vec![busy, says(&echoed())]);
    assert!(Endpoint::open(&options(&mock)).unwrap().score("The sky is", " blue today").is_ok());
}

#[test]
fn answers_are_cut_at_the_first_stop() {
    let body = json!({"choices": [{"text": " 4\n\nQuestion: x</s>", "finish_reason": "stop"}], "usage": {"completion_tokens": 7}});
    let stops = ["</s>", "Question:", "", "c", "d", "\n\n"].map(str::to_owned);
    let mock = Mock::new(vec![says(&body)]);
    let generated = Endpoint::open(&options(&mock)).unwrap().generate("2 + 2 =", &stops, 16).unwrap();
    assert_eq!(generated, Generated { text: " 4".to_owned(), tokens: Some(7), finish: Some("stop".to_owned()) });
    let expected = json!({"model": "m", "prompt": "2 + 2 =", "temperature": 0, "max_tokens": 16, "seed": 1234,
        "stop": ["</s>", "Question:", "c", "d"]});
    assert_eq!(last(&mock), expected);
}

#[test]
fn more_than_was_asked_for_is_an_error() {
    let body = json!({"choices": [{"text": "x"}], "usage": {"completion_tokens": 17}});
    let mock = Mock::new(vec![
        says(&body),
        says(&json!({"choices": [{"text": "x"}]})),
        says(&json!({"choices": [{"text": null}]})),
    ]);
    let endpoint = Endpoint::open(&options(&mock)).unwrap();
    assert!(matches!(endpoint.generate("a", &[], 16), Err(EndpointError::Malformed(_))));
    assert_eq!(
        endpoint.generate("a", &[], 16).unwrap(),
        Generated { text: "x".to_owned(), tokens: None, finish: None }
    );
    assert!(last(&mock).get("stop").is_none());
    assert!(matches!(endpoint.generate("a", &[], 16), Err(EndpointError::Malformed(_))));
}

#[test]
fn the_key_is_sent_and_never_told() {
    // A variable that is there in every test run; its value stands for a key.
    let variable = "PATH";
    let key = std::env::var(variable).unwrap();
    let mock = Mock::new(vec![Reply::Says(401, "", format!("wrong key {key}"))]);
    let endpoint = Endpoint::open(&Options { key_variable: Some(variable.to_owned()), ..options(&mock) }).unwrap();
    let error = endpoint.generate("a", &[], 1).unwrap_err();
    assert_eq!(error.to_string(), "the endpoint answered with status 401: wrong key (key)");
    assert!(mock.asked()[0].to_lowercase().contains(&format!("authorization: bearer {key}\r\n")));
    assert!(!format!("{endpoint:?}").contains(&format!("{key:?}")));
    let missing = Options { key_variable: Some("TRITMARK_NO_SUCH_KEY".to_owned()), ..options(&mock) };
    assert!(matches!(Endpoint::open(&missing), Err(EndpointError::Key(name)) if name == "TRITMARK_NO_SUCH_KEY"));
    // Without a variable, no key.
    let mock = Mock::new(vec![says(&json!({"choices": [{"text": ""}]}))]);
    Endpoint::open(&options(&mock)).unwrap().generate("a", &[], 1).unwrap();
    assert!(!mock.asked()[0].to_lowercase().contains("authorization"));
}

#[test]
fn addresses() {
    for path in ["", "/", "/v1", "/v1/", "/v1/completions"] {
        let mock = Mock::new(vec![says(&json!({"choices": [{"text": ""}]}))]);
        let url = format!("{}{path}", mock.url);
        Endpoint::open(&Options { url, ..options(&mock) }).unwrap().generate("a", &[], 1).unwrap();
        assert!(mock.asked()[0].starts_with("POST /v1/completions HTTP/1.1\r\n"), "{path}");
    }
    for url in [
        "https://host/v1",
        "host:80",
        "",
        "http://",
        "http:///v1",
        "ftp://x",
        "http://a b",
        "http://u:p@h",
        "http://h/v1/chat/completions",
    ] {
        assert!(matches!(Endpoint::open(&Options::new(url, "m")), Err(EndpointError::Url { .. })), "{url}");
    }
    let nobody = Options { retries: 0, ..Options::new("http://127.0.0.1:1", "m") };
    let error = Endpoint::open(&nobody).unwrap().generate("a", &[], 1).unwrap_err();
    assert!(matches!(error, EndpointError::Unreachable(_)), "{error}");
}

#[test]
fn nothing_to_score_is_an_error() {
    let endpoint = Endpoint::open(&Options::new("http://127.0.0.1:1", "m")).unwrap();
    assert!(matches!(endpoint.score("", "x"), Err(EndpointError::Malformed(_))));
    assert!(matches!(endpoint.score("x", ""), Err(EndpointError::Malformed(_))));
}

/// Against a real server, by hand: `TRITMARK_TEST_ENDPOINT=http://127.0.0.1:8080 cargo test -p harness live -- --ignored --nocapture`.
#[test]
#[ignore = "needs a server at TRITMARK_TEST_ENDPOINT"]
fn live() {
    let url = std::env::var("TRITMARK_TEST_ENDPOINT").unwrap();
    let endpoint = Endpoint::open(&Options { retries: 0, ..Options::new(url, "m") }).unwrap();
    let stops = [".".to_owned(), "\n".to_owned()];
    let generated = endpoint.generate("The capital of France is", &stops, 16).unwrap();
    println!("generated: {generated:?}");
    assert!(!generated.text.is_empty() && !generated.text.contains(['.', '\n']));
    println!("scoring: {:?}", endpoint.check_scoring().map_err(|error| error.to_string()));
    for continuation in [" Paris", " London", " the city of Paris"] {
        println!(
            "{continuation}: {:?}",
            endpoint.score("The capital of France is", continuation).map_err(|e| e.to_string())
        );
    }
}
