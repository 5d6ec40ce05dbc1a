//! What minijinja's fuel leaves open, closed by a change of the source before it is compiled.
//!
//! Fuel is taken for a list's slots, not for what they hold: `[x, x]` twenty times over is a small value with a million
//! leaves, which printing, comparing or dropping visits. And a namespace can hold itself. So every list, map and tuple
//! that a template writes, and every value that it sets, passes through a filter that copies it in depth, pays for
//! each part, and refuses what is nested deeper than [`DEPTH`]; what a namespace keeps can be no namespace.
//! `{% generation %}`, which only marks text, is made a condition that holds.
//!
//! A list or map of references is cheap to make and dear to look through, print or compare: `dict(a=x, b=x)` twenty
//! times over, `[x] * 9999 == [y] * 9999`. So what operators, filters and functions put together passes through a filter
//! that pays for each part (list repetition, which no template needs, is refused), and so does what is compared, sorted or
//! looked up by, as often as it is.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, tests};

/// Copies in depth.
const FILTER: &str = "__owned";
/// The same, for what a namespace keeps.
const FIELD_FILTER: &str = "__owned_field";

/// Pays for each part.
const WEIGHED_FILTER: &str = "__weighed";
/// Refuses lists.
const FACTOR_FILTER: &str = "__factor";
/// Filters whose results hold what they are given.
const HOLDERS: [&str; 6] = ["batch", "dictsort", "groupby", "items", "map", "slice"];
/// Functions whose results do.
const HOLDING_FUNCTIONS: [&str; 2] = ["dict", "namespace"];
/// Filters that compare what they are given.
const COMPARERS: [&str; 12] = [
    "dictsort",
    "groupby",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "select",
    "selectattr",
    "sort",
    "sum",
    "unique",
];

/// Deepest nesting of values.
const DEPTH: usize = 32;
/// Tokens between `{{` and `}}`, or `{%` and `%}`: the parser's time grows with their square.
const MOST_TOKENS: usize = 2000;

/// transformers' settings.
pub(super) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// A token with its place in the source.
struct At<'s> {
    token: Token<'s>,
    start: usize,
    end: usize,
}

/// The source with its guards.
pub(super) fn guarded(source: &str) -> Result<String, String> {
    // (place, text put there, bytes left out after it), in any order.
    let mut edits: Vec<(usize, String, usize)> = Vec::new();
    let mut tag: Vec<At<'_>> = Vec::new();
    for token in tokenize(source, false, syntax().map_err(|error| error.to_string())?) {
        let (token, span) = token.map_err(|error| error.to_string())?;
        let at = At { token, start: span.start_offset as usize, end: span.end_offset as usize };
        match at.token {
            Token::TemplateData(_) => {}
            Token::VariableStart | Token::BlockStart => tag = vec![at],
            Token::VariableEnd | Token::BlockEnd => {
                tag.push(at);
                guard_tag(&tag, &mut edits);
            }
            _ => tag.push(at),
        }
        if tag.len() > MOST_TOKENS {
            return Err(format!("expected at most {MOST_TOKENS} tokens in a tag"));
        }
    }
    apply(source, edits).ok_or_else(|| "tokens out of place".to_owned())
}

fn apply(source: &str, mut edits: Vec<(usize, String, usize)>) -> Option<String> {
    edits.sort_by_key(|(place, ..)| *place);
    let (mut out, mut from) = (String::with_capacity(source.len() * 2), 0);
    for (place, text, skipped) in edits {
        out.push_str(source.get(from..place)?);
        out.push_str(&text);
        from = place + skipped;
    }
    out.push_str(source.get(from..)?);
    Some(out)
}

/// The edits of one tag, whose first and last tokens are its delimiters.
fn guard_tag(tag: &[At<'_>], edits: &mut Vec<(usize, String, usize)>) {
    let word = |index: usize| match tag.get(index) {
        Some(At { token: Token::Ident(word), .. }) => *word,
        _ => "",
    };
    let statement = matches!(tag[0].token, Token::BlockStart);
    let name = if statement { word(1) } else { "" };
    let replaced = match name {
        "generation" if tag.len() == 3 => Some("if true"),
        "endgeneration" if tag.len() == 3 => Some("endif"),
        _ => None,
    };
    if let Some(text) = replaced {
        edits.push((tag[1].start, text.to_owned(), tag[1].end - tag[1].start));
        return;
    }
    // What is assigned to comes first, and is no value.
    let first = match name {
        "set" => tag.iter().position(|at| matches!(at.token, Token::Assign)).map_or(tag.len(), |at| at + 1),
        "for" => (1..tag.len()).find(|&at| word(at) == "in").unwrap_or(1),
        "macro" | "call" => 2,
        _ => 1,
    };
    let values = &tag[first.min(tag.len())..];
    guard_literals(values, edits);
    // Not the `in` of the loop.
    guard_operators(if name == "for" { &values[1..] } else { values }, edits);
    if name == "set" && first < tag.len() {
        let field = tag[..first].iter().any(|at| matches!(at.token, Token::Dot));
        let (filter, last) = (if field { FIELD_FILTER } else { FILTER }, tag.len() - 1);
        edits.push((tag[first - 1].end, "(".to_owned(), 0));
        edits.push((tag[last].start, format!(")|{filter} "), 0));
    }
}

/// Encloses every list, map and tuple that is written out.
fn guard_literals(tokens: &[At<'_>], edits: &mut Vec<(usize, String, usize)>) {
    /// An open bracket.
    struct Open {
        start: usize,
        literal: bool,
        /// A parenthesis is a tuple if a comma parts what it holds.
        comma: bool,
    }
    let mut open: Vec<Open> = Vec::new();
    let mut after_value = false;
    for at in tokens {
        match at.token {
            Token::BracketOpen | Token::BraceOpen | Token::ParenOpen => {
                let comma = !matches!(at.token, Token::ParenOpen);
                open.push(Open { start: at.start, literal: !after_value, comma });
            }
            Token::BracketClose | Token::BraceClose | Token::ParenClose => {
                if let Some(opened) = open.pop().filter(|opened| opened.literal && opened.comma) {
                    edits.push((opened.start, "(".to_owned(), 0));
                    edits.push((at.end, format!("|{FILTER})"), 0));
                }
            }
            Token::Comma => {
                if let Some(innermost) = open.last_mut() {
                    innermost.comma = true;
                }
            }
            _ => {}
        }
        after_value = ends_value(&at.token);
    }
}

/// Whether a bracket after this token calls or looks up, and is no list.
fn ends_value(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => !matches!(*word, "in" | "not" | "and" | "or" | "if" | "elif" | "else" | "is" | "do"),
        Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => true,
        Token::BracketClose | Token::BraceClose | Token::ParenClose => true,
        _ => false,
    }
}

/// Has both sides of comparisons and sums paid for, what [`COMPARERS`] are given, what [`HOLDERS`] give, and what is
/// looked up by.
fn guard_operators(tokens: &[At<'_>], edits: &mut Vec<(usize, String, usize)>) {
    /// The expression in the making, within as many brackets.
    struct Side {
        /// Its first token.
        start: usize,
        /// A comparison comes before it.
        compared: bool,
        /// It is all that stands between the brackets of a look-up.
        looks_up: bool,
    }
    let mut sides = vec![Side { start: 0, compared: false, looks_up: false }];
    for (index, at) in tokens.iter().enumerate() {
        let Some(side) = sides.last_mut() else { return };
        let opens = matches!(at.token, Token::BracketOpen | Token::BraceOpen | Token::ParenOpen);
        if opens {
            let looks_up = matches!(at.token, Token::BracketOpen) && index > 0 && ends_value(&tokens[index - 1].token);
            sides.push(Side { start: index + 1, compared: false, looks_up });
            continue;
        }
        guard_parts(tokens, index, edits);
        let Some(compares) = ends_side(tokens, index) else { continue };
        let closes = matches!(at.token, Token::BracketClose | Token::BraceClose | Token::ParenClose);
        if side.start < index && (side.compared || compares || closes && side.looks_up) {
            edits.push((tokens[side.start].start, "(".to_owned(), 0));
            edits.push((tokens[index - 1].end, format!(")|{WEIGHED_FILTER} "), 0));
        }
        *side = Side { start: index + 1, compared: compares, looks_up: false };
        if closes {
            sides.pop();
        }
    }
}

/// The part of [`guard_operators`] that regards what stands right before and after an operator or filter.
fn guard_parts(tokens: &[At<'_>], index: usize, edits: &mut Vec<(usize, String, usize)>) {
    let filter = match tokens[index].token {
        Token::Plus if index > 0 && ends_value(&tokens[index - 1].token) => WEIGHED_FILTER,
        Token::Mul => FACTOR_FILTER,
        Token::Pipe => {
            let name = word(tokens, index + 1);
            if COMPARERS.contains(&name) {
                edits.push((tokens[index].start, format!("|{WEIGHED_FILTER} "), 0));
            }
            if HOLDERS.contains(&name) {
                let called = matches!(tokens.get(index + 2), Some(At { token: Token::ParenOpen, .. }));
                let end = if called { group_end(tokens, index + 2) } else { Some(index + 1) };
                edits.extend(end.map(|end| (tokens[end].end, format!("|{WEIGHED_FILTER} "), 0)));
            }
            return;
        }
        _ => return,
    };
    edits.push((tokens[index].start, format!("|{filter} "), 0));
    edits.extend(operand_end(tokens, index + 1).map(|end| (tokens[end].end, format!("|{filter} "), 0)));
}

/// The last token of the operand that begins at `from`: what calls, look-ups and filters bind to, and these.
fn operand_end(tokens: &[At<'_>], from: usize) -> Option<usize> {
    let sign = |at: &At<'_>| matches!(at.token, Token::Minus | Token::Plus);
    let signs = tokens.get(from..)?.iter().take_while(|at| sign(at)).count();
    let mut end = group_end(tokens, from + signs)?;
    loop {
        end = match tokens.get(end + 1)?.token {
            Token::Dot | Token::Pipe => end + 2,
            Token::BracketOpen | Token::ParenOpen => group_end(tokens, end + 1)?,
            _ => return Some(end),
        };
    }
}

/// The bracket that closes the one at `from`; `from` itself if there is none.
fn group_end(tokens: &[At<'_>], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, at) in tokens.iter().enumerate().skip(from) {
        match at.token {
            Token::BracketOpen | Token::BraceOpen | Token::ParenOpen => depth += 1,
            Token::BracketClose | Token::BraceClose | Token::ParenClose => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

fn word<'s>(tokens: &[At<'s>], index: usize) -> &'s str {
    match tokens.get(index) {
        Some(At { token: Token::Ident(word), .. }) => word,
        _ => "",
    }
}

/// Whether a side of a comparison ends before this token, as all that binds less does; and whether this is a comparison.
fn ends_side(tokens: &[At<'_>], index: usize) -> Option<bool> {
    // `is in` and `is not in` are tests, which pay for themselves.
    let before = |steps: usize| index.checked_sub(steps).map_or("", |at| word(tokens, at));
    let tests = before(1) == "is" || before(1) == "not" && before(2) == "is";
    match &tokens[index].token {
        Token::Eq | Token::Ne | Token::Gt | Token::Gte | Token::Lt | Token::Lte => Some(true),
        Token::Ident("in") if !tests => Some(true),
        Token::Ident("not") if !tests => Some(word(tokens, index + 1) == "in"),
        Token::Ident("and" | "or" | "if" | "elif" | "else" | "recursive" | "do") => Some(false),
        Token::BracketClose | Token::BraceClose | Token::ParenClose => Some(false),
        Token::Comma | Token::Colon | Token::Assign | Token::VariableEnd | Token::BlockEnd => Some(false),
        _ => None,
    }
}

/// Adds what [`guarded`] asks for.
pub(super) fn equip(environment: &mut Environment<'_>) {
    environment.add_filter(FILTER, owned);
    environment.add_filter(FIELD_FILTER, owned_field);
    environment.add_filter(WEIGHED_FILTER, |state: &State<'_, '_>, value: Value| {
        weigh(state, &value, 0)?;
        Ok::<Value, Error>(value)
    });
    environment.add_filter(FACTOR_FILTER, |value: Value| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let what = format!("expected numbers or a text to multiply, found a value of type {}", value.kind());
            Err(Error::new(ErrorKind::InvalidOperation, what))
        }
        _ => Ok::<Value, Error>(value),
    });
    let holds = |(name, _): &(&str, Value)| HOLDING_FUNCTIONS.contains(name);
    let functions = environment.globals().filter(holds).map(|(name, make)| (name.to_owned(), make));
    for (name, make) in functions.collect::<Vec<_>>() {
        environment.add_function(name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            for arg in &args {
                weigh(state, arg, 0)?;
            }
            make.call(state, &args)
        });
    }
    for (names, compare) in TESTS {
        for name in names {
            environment.add_test(*name, move |state: &State<'_, '_>, value: &Value, other: &Value| {
                weigh(state, value, 0)?;
                weigh(state, other, 0)?;
                Ok::<bool, Error>(compare(value, other))
            });
        }
    }
    environment.add_test("in", |state: &State<'_, '_>, value: &Value, other: &Value| {
        weigh(state, value, 0)?;
        weigh(state, other, 0)?;
        tests::is_in(state, value, other)
    });
}

type Compare = fn(&Value, &Value) -> bool;

/// Tests that compare, by all their names.
const TESTS: [(&[&str], Compare); 6] = [
    (&["eq", "equalto", "=="], tests::is_eq),
    (&["ne", "!="], tests::is_ne),
    (&["lt", "lessthan", "<"], tests::is_lt),
    (&["le", "<="], tests::is_le),
    (&["gt", "greaterthan", ">"], tests::is_gt),
    (&["ge", ">="], tests::is_ge),
];

/// The filter of values that are set or written out.
fn owned(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if is_live(&value) { Ok(value) } else { copy(state, &value, 0) }
}

/// The filter of values that a namespace keeps.
fn owned_field(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    copy(state, &value, 0)
}

/// A namespace or a loop, which is more than what it holds.
fn is_live(value: &Value) -> bool {
    let name = value.as_object().map_or("", |object| object.type_name());
    name.ends_with("::Namespace") || name.ends_with("::Loop") || name.ends_with("::LoopObject")
}

fn copy(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<Value, Error> {
    state.consume_fuel(1)?;
    let refuse = |what: String| Err(Error::new(ErrorKind::InvalidOperation, what));
    if depth > DEPTH {
        return refuse(format!("values nested deeper than {DEPTH}"));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                items.push(copy(state, &item, depth + 1)?);
            }
            Ok(if value.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) })
        }
        ValueKind::Map if is_live(value) => refuse("expected a plain value, found a namespace or loop".to_owned()),
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                let item = copy(state, &value.get_item(&key)?, depth + 1)?;
                entries.push((copy(state, &key, depth + 1)?, item));
            }
            Ok(Value::from_pairs(entries))
        }
        _ => Ok(value.clone()),
    }
}

/// Pays for each part of a value, however often it lies there; its size as text, about, in bytes.
pub(super) fn weigh(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<u64, Error> {
    let mut bytes = value.as_str().map_or(32, |text| text.len() as u64);
    state.consume_fuel(1 + bytes / 1024)?;
    if depth > DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("values nested deeper than {DEPTH}")));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                bytes = bytes.saturating_add(weigh(state, &item, depth + 1)?);
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                let held = weigh(state, &value.get_item(&key)?, depth + 1)?;
                bytes = bytes.saturating_add(held).saturating_add(weigh(state, &key, depth + 1)?);
            }
        }
        _ => {}
    }
    Ok(bytes)
}
