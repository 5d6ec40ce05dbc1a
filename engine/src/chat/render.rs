//! The Jinja environment that chat templates expect, and its limits.

use super::{Strftime, guard, json};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Steps that a rendering has whatever the conversation: minijinja charges one for an instruction and for every 64 bytes that
/// are made or read, so this also bounds memory.
const FUEL: u64 = 100_000;
/// Macros and recursive loops within each other.
const DEPTH: usize = 100;
/// The parser and the walks over values recurse; a thread of its own has room for what the limits let through.
const STACK: usize = 64 << 20;

/// Whether the source is a template.
pub(super) fn check(source: &str) -> Result<(), String> {
    apart(|| environment(0, None)?.template_from_str(source).map(|_| ()))
}

/// The template's text; `bytes` is the size of what it is given.
pub(super) fn render(
    source: &str,
    variables: Value,
    bytes: usize,
    strftime: Option<Strftime>,
) -> Result<String, String> {
    let fuel = FUEL + bytes as u64 / 8;
    apart(move || environment(fuel, strftime)?.template_from_str(source)?.render(variables))
}

/// Runs on a thread with a large stack.
fn apart<T: Send>(run: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let spawned = std::thread::Builder::new().name("template".into()).stack_size(STACK).spawn_scoped(scope, || {
            let result = run();
            // Told here, as errors hold values, whose end also recurses.
            result.map_err(|error| told(&error))
        });
        match spawned.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("rendering panicked".to_owned()),
            Err(error) => Err(format!("no thread to render on: {error}")),
        }
    })
}

/// The error with its causes.
fn told(error: &Error) -> String {
    let mut text = match error.kind() {
        ErrorKind::OutOfFuel => format!("it costs more than a template may ({error})"),
        _ => error.to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn environment<'s>(fuel: u64, strftime: Option<Strftime>) -> Result<Environment<'s>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(guard::syntax()?);
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(DEPTH);
    // Not Jinja's; and a way to make much of little.
    for filter in ["zip", "chain", "pprint"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("debug");
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", json::tojson);
    guard::equip(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("the template refuses: {message}")))
    });
    if let Some(strftime) = strftime {
        environment.add_function("strftime_now", move |pattern: &str| {
            strftime(pattern).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
        });
    }
    Ok(environment)
}

/// Python's methods; what they read is charged, which the crate leaves out.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let bytes = |value: &Value| value.as_str().map_or(0, str::len) + value.len().unwrap_or(0);
    let read = bytes(value) + args.iter().map(bytes).sum::<usize>();
    state.consume_fuel(read as u64 / 16)?;
    if value.as_str().is_none() {
        // `get` looks up, `count` compares.
        for part in args.iter().chain((name == "count").then_some(value)) {
            guard::weigh(state, part, 0)?;
        }
    }
    match (name, value.as_str(), args) {
        ("title", Some(text), []) => Ok(Value::from(title(text))),
        ("join", Some(separator), [values]) => join(state, separator, values).map(Value::from),
        ("format", Some(text), args) => {
            pay_for_format(state, text, args)?;
            pycompat::unknown_method_callback(state, value, name, args)
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// `str.join`: of strings alone, each paid for before it is added.
fn join(state: &State<'_, '_>, separator: &str, values: &Value) -> Result<String, Error> {
    let mut out = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        let Some(text) = value.as_str() else {
            let what = format!("join: expected strings, found a value of type {}", value.kind());
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        };
        let separator = if index == 0 { "" } else { separator };
        state.consume_fuel(1 + (separator.len() + text.len()) as u64 / 64)?;
        out.push_str(separator);
        out.push_str(text);
    }
    Ok(out)
}

/// Pays for what `str.format` writes at most: all its arguments in each field, and every width that is asked for.
fn pay_for_format(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<(), Error> {
    let mut held = 0u64;
    for arg in args {
        held = held.saturating_add(guard::weigh(state, arg, 0)?);
    }
    let fields = (text.matches('{').count() as u64).saturating_mul(held);
    let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let widths = numbers.map(|digits| digits.parse::<u64>().unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
    state.consume_fuel(fields.saturating_add(widths) / 64)
}

/// `str.title`: a letter is upper case unless a letter comes before it.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}
