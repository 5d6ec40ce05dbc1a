//! Templates that would grow by doubling, multiplying or sharing end in an error, in a few seconds and little memory. The
//! only test of its file, for the peak is the process's.

use engine::chat::{ChatTemplate, Frame, MOST_INPUT, Message};

const FRAME: Frame<'static> = Frame { bos: "<s>", eos: "</s>", add_generation_prompt: true, strftime: None };
const MOST_SECONDS: f64 = 5.0;
const MOST_BYTES: u64 = 1 << 30;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A macro that calls itself as often as may be, or nearly, with `grown` for its argument, then shows `end`.
fn recursion(first: &str, grown: &str, end: &str) -> String {
    format!(
        "{{% macro f(x, n) %}}{{% if n %}}{{{{ f({grown}, n - 1) }}}}{{% else %}}{end}{{% endif %}}{{% endmacro %}}\
         {{{{ f({first}, 14) }}}}"
    )
}

/// The same of two values that are alike and no two parts of which are one, which are compared in the end.
fn twins(grown: &str, end: &str) -> String {
    let other = grown.replace('x', "y");
    format!(
        "{{% macro f(x, y, n) %}}{{% if n %}}{{{{ f({grown}, {other}, n - 1) }}}}{{% else %}}{end}{{% endif %}}\
         {{% endmacro %}}{{{{ f(range(2)|list, range(2)|list, 14) }}}}"
    )
}

/// Strings and numbers that are made large at once, or twice as large again and again.
fn growing() -> Vec<String> {
    let text = "messages[0].content";
    let mut sources = vec![
        // No part of it is ever shown.
        "{% macro f(x, n) %}{% if n %}{{ f(x + x, n-1) }}{% endif %}{% endmacro %}{{ f(\"ab\", 60) }}".to_owned(),
    ];
    let grown = [
        "x + x + x + x",
        "x ~ x ~ x ~ x",
        "x * 4",
        "[x, x, x, x]|join",
        "x|replace('a', x)|replace('b', x)",
        "x.replace('a', x).replace('b', x)",
        "'%s%s%s%s'|format(x, x, x, x)",
        "'{0}{0}{0}{0}'.format(x)",
        "x.join('abcde')",
        "(x ~ 'a')|join(x)",
        "[x, x, x, x]|string",
        "[x]|tojson|tojson",
        "x|indent(x|length * 4, true)",
    ];
    sources.extend(grown.iter().map(|grown| recursion("'aba'", grown, "")));
    sources.extend(grown.iter().map(|grown| recursion(text, grown, "")));
    for end in ["{{ x }}", "{{ x|length }}", "{{ x|tojson }}", "{{ x|list|length }}", "{% for c in x %}{% endfor %}"] {
        sources.push(recursion("[1, 2]", "x + x + x + x", &format!("{end}{{{{ x[0:] }}}}")));
    }
    let at_once = [
        "'a' * 1000000000",
        "(1, 2) * 1000000000",
        "([1] * 1000000000)|list",
        "[1] * 1000000000",
        "range(10 ** 12)",
        "range(10 ** 12)|list|length",
        "range(1000000000000)|sum",
        "range(0, 10 ** 12, 10 ** 3)|join",
        "10 ** 10 ** 10",
        "('a' * 1000)|join('b' * 1000)|join('c' * 1000)",
        "('a' * 1000)|replace('a', 'a' * 1000)|replace('a', 'a' * 1000)",
        "'%1000000000d'|format(1)",
        "'%.1000000000f'|format(1)",
        "'%*d'|format(1000000000, 1)",
        "'{:1000000000}'.format(1)",
        "'{:>{}}'.format(1, 1000000000)",
    ];
    sources.extend(at_once.iter().map(|value| format!("{{{{ {value} }}}}")));
    sources.extend(
        at_once.iter().map(|value| format!("{{% set x = {value} %}}{{% for i in x %}}{{% endfor %}}{{{{ x }}}}")),
    );
    let text = format!("{{% set x = {text} * 1000000000 %}}");
    sources.push(text);
    sources
}

/// Values that hold the same part twice, over and over: small where they lie, endless to look through.
fn sharing() -> Vec<String> {
    let shared = [
        "[x, x, x, x]",
        "(x, x, x, x)",
        "{'a': x, 'b': x, 'c': x, 'd': x}",
        "dict(a=x, b=x, c=x, d=x)",
        "dict({'a': x}, b=x, c=x, d=x)",
        "namespace(a=x, b=x, c=x, d=x)",
        "(x|batch(1000)|list) * 4",
        "(x|slice(1)|list) * 4",
        "[x] * 4",
        "(x,) * 4",
        "(dict(a=x)|items|list) * 4",
        "(dict(a=x)|dictsort) * 4",
        "dict(a=x, b=x)|items|list + dict(c=x, d=x)|items|list",
        "([x]|map('list')|list) * 4",
        "([1]|batch(5, x)|list) * 4",
    ];
    let looked = [
        "{{ x }}",
        "{{ x|tojson }}",
        "{{ x|string|length }}",
        "{{ x == y }}",
        "{{ x < y }}",
        "{{ x in [y] }}",
        "{{ [x, y]|unique|list|length }}",
        "{{ (x, y)|sort|length }}",
        "{{ {}[x] }}",
        "{{ {x: 1}|length }}",
        "{{ x is eq(y) }}",
        "{{ dict(a=x).get(y) }}",
        "{{ [x, y]|min }}",
        "{{ ('' ~ x)|length }}",
        "{{ '%s'|format(x)|length }}",
        "{{ x|upper|length }}",
        "{{ x|join|length }}",
    ];
    shared.iter().flat_map(|grown| looked.iter().map(|end| twins(grown, end))).collect()
}

/// Two large values, many times each: as many comparisons as the product of both.
fn products() -> Vec<String> {
    let set = "{% set a = range(9000)|list %}{% set b = range(9000)|list %}";
    let long = "{% set a = messages[0].content|list %}{% set b = messages[0].content|list %}";
    let compared = [
        "[a] * 60000 == [b] * 60000",
        "([a] * 60000)|unique|list|length",
        "([a, b] * 20000)|unique|list|length",
        "([a, b] * 20000)|sort|length",
        "([a, b] * 20000)|min|length",
        "([a, b] * 20000)|max|length",
        "b in [a] * 60000",
        "[a] * 60000 < [b] * 60000",
        "([a] * 300)|tojson|length",
        "([a] * 60000)|string|length",
        "('' ~ [a] * 60000)|length",
        "'%s'|format([a] * 60000)|length",
        "('' ~ ([1]|batch(60000, a)|list))|length",
        "(([a] + [a] + [a])|sum(start=[]))|length",
        "60000 * [a] == 60000 * [b]",
        "60000 * -a|list == 1",
        "([a] * 60000)|join|length",
        "([a] * 60000)|sum(start=[])|length",
        "([a] * 60000)|groupby(0)|length",
        "([a] * 60000).count(b)",
        "(a * 60000).count(b)",
        "([a] * 60000)|select('eq', b)|list|length",
    ];
    let with = |set: &str| compared.iter().map(|value| format!("{set}{{{{ {value} }}}}")).collect::<Vec<_>>();
    [with(set), with(long)].concat()
}

/// Methods of strings that write out what lies there many times.
fn methods() -> Vec<String> {
    let values = [
        "''.join(['a' * 1000000] * 100000)",
        "('a' * 1000000).join(['b'] * 100000)",
        "('{0}' * 10000).format('a' * 1000000)",
        "('{0}' * 10000).format([1] * 10000)",
        "('{:100000}' * 10000).format(1)",
        "('{:.100000f}' * 10000).format(1)",
        "'{:99999999999999999999999}'.format(1)",
        "('a' * 300000).replace('a', 'a' * 300000)",
    ];
    let long = |operator: &str| format!("{{{{ {}1 }}}}", format!("1 {operator} ").repeat(990));
    let parsed = [long("+"), long("=="), long("in"), format!("{{{{ {}1 }}}}", "[1] + ".repeat(390))];
    let parsed = parsed.map(|source| source + "{{ 'a' * 1000000000 }}");
    values.iter().map(|value| format!("{{{{ ({value})|length }}}}")).chain(parsed).collect()
}

/// Look-ups, and comparisons in a loop.
fn repeated() -> Vec<String> {
    let set = "{% set a = range(9000)|list %}{% set b = range(9000)|list %}{% set c = [a] %}{% set d = [b] %}{% set s = messages[0].content %}{% set t = s ~ '' %}";
    let bodies = [
        "{% if c == d %}{% endif %}",
        "{% if c is ne(d) or c|unique == d|sort %}{% endif %}",
        "{{ {}[a] }}",
        "{{ {}[a if true else b] }}",
        "{% if [a] == [b] %}{% endif %}",
        "{% if [a] is eq([b]) %}{% endif %}",
        "{% if a not in [b] %}{% endif %}",
        "{% if a is in [b] %}{% endif %}",
        "{{ {}.get(a) }}",
        "{{ [a].count(b) }}",
        "{% if s == t %}{% endif %}",
        "{% if [s] == [t] and (s, 1) < (t, 1) %}{% endif %}",
        "{% if s in [t] %}{% endif %}",
        "{% if not s != t or s is not eq(t) %}{% endif %}",
        "{% set x = {'k': s == t, 'l': messages[0].content == s} %}",
    ];
    bodies.iter().map(|body| format!("{set}{{% for i in range(90000) %}}{body}{{% endfor %}}")).collect()
}

#[test]
fn templates_that_grow_end_soon() {
    let short = [Message::new("user", &"abaé".repeat(20))];
    let long = [Message::new("user", &"é".repeat(MOST_INPUT / 2 - 1000))];
    let refused = [methods(), repeated()].concat();
    let sources = refused.iter().cloned().chain(growing()).chain(sharing()).chain(products());
    let (mut slowest, mut largest, mut dear, mut all) = (0.0f64, 0, 0, 0);
    for (nth, source) in sources.enumerate() {
        for messages in [&short, &long] {
            // Sets the peak back to what is resident now.
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = status("VmRSS");
            let start = std::time::Instant::now();
            let made = ChatTemplate::new("harm", &source).and_then(|template| template.render(messages, &FRAME));
            let (seconds, bytes) = (start.elapsed().as_secs_f64(), status("VmHWM").saturating_sub(before));
            let what = format!("{source}: {seconds:.1} s, {} MiB", bytes >> 20);
            assert!(seconds < MOST_SECONDS && bytes < MOST_BYTES, "{what}");
            (slowest, largest) = (slowest.max(seconds), largest.max(bytes));
            match made {
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.starts_with("chat template harm: ") && message.len() < 1000, "{message}");
                    dear += usize::from(message.contains("costs more than a template may"));
                    // Or those that are tried would not be what they are for.
                    assert!(source.contains("60") || !message.contains("recursion limit"), "{what}: {message}");
                }
                // What does not grow beyond the limits may come out.
                Ok(_) => assert!(nth >= refused.len(), "{what}, and not refused"),
            }
            all += 1;
        }
    }
    println!("{dear} of {all} renderings cost too much; at most {slowest:.2} s and {} MiB", largest >> 20);
    assert!(dear > all / 2, "{dear} of {all}");
}
