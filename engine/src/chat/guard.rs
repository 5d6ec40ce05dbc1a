//! What minijinja's fuel leaves open, closed by a change of the source before it is compiled.
//!
//! Fuel is taken for a list's slots, not for what they hold: `[x, x]` twenty times over is a small value with a million
//! leaves, which printing, comparing or dropping visits. And a namespace can hold itself. So every list, map and tuple
//! that a template writes, and every value that it sets, passes through a filter that copies it in depth, pays for
//! each part, and refuses what is nested deeper than [`DEPTH`]; what a namespace keeps can be no namespace.
//! `{% generation %}`, which only marks text, is made a condition that holds.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Copies in depth.
pub(super) const FILTER: &str = "__owned";
/// The same, for what a namespace keeps.
pub(super) const FIELD_FILTER: &str = "__owned_field";

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
    if name == "set" && first < tag.len() {
        let field = tag[..first].iter().any(|at| matches!(at.token, Token::Dot));
        let (filter, last) = (if field { FIELD_FILTER } else { FILTER }, tag.len() - 1);
        edits.push((tag[first - 1].end, "(".to_owned(), 0));
        edits.push((tag[last].start, format!(")|{filter} "), 0));
    }
    guard_literals(&tag[first.min(tag.len())..], edits);
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
        after_value = match at.token {
            Token::Ident(word) => !matches!(word, "in" | "not" | "and" | "or" | "if" | "elif" | "else" | "is" | "do"),
            Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => true,
            Token::BracketClose | Token::BraceClose | Token::ParenClose => true,
            _ => false,
        };
    }
}

/// The filter of values that are set or written out.
pub(super) fn owned(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if is_live(&value) { Ok(value) } else { copy(state, &value, 0) }
}

/// The filter of values that a namespace keeps.
pub(super) fn owned_field(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
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
