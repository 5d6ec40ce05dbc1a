//! `tojson` as transformers has it: Python's `json.dumps` with `ensure_ascii=False`, and nothing escaped for HTML.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

struct Style {
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

/// Deepest nesting of values.
const DEPTH: usize = 100;

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"))
}

/// The filter.
pub(super) fn tojson(state: &State<'_, '_>, value: &Value, args: Kwargs) -> Result<String, Error> {
    let indent = args.get::<Option<usize>>("indent")?;
    if indent.is_some_and(|n| n > 16) {
        return Err(wrong("expected an indent of at most 16".to_owned()));
    }
    let separators = args.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([item, key]) if item.len().max(key.len()) < 64 => (item.clone(), key.clone()),
        Some(_) => return Err(wrong("expected two short separators".to_owned())),
    };
    let flag = |name: &str| args.get::<Option<bool>>(name).map(Option::unwrap_or_default);
    let style = Style { indent, item, key, ascii: flag("ensure_ascii")?, sorted: flag("sort_keys")? };
    args.assert_all_used()?;
    let mut out = String::new();
    Writer { state, style, out: &mut out, charged: 0 }.value(value, 0)?;
    Ok(out)
}

struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    style: Style,
    out: &'a mut String,
    /// Bytes of `out` that fuel was taken for.
    charged: usize,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1 + (self.out.len() - self.charged) as u64 / 16)?;
        self.charged = self.out.len();
        if depth > DEPTH {
            return Err(wrong(format!("values nested deeper than {DEPTH}")));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)?),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            other => return Err(wrong(format!("a value of type {other} is no JSON"))),
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut any = false;
        for item in value.try_iter()? {
            self.before(any, depth + 1);
            any = true;
            self.value(&item, depth + 1)?;
        }
        self.close(']', any, depth);
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        for key in value.try_iter()? {
            self.state.consume_fuel(1)?;
            let text = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::None => "null".to_owned(),
                ValueKind::Bool => key.is_true().to_string(),
                ValueKind::Number => number(&key)?,
                other => return Err(wrong(format!("a key of type {other}"))),
            };
            entries.push((text, value.get_item(&key)?));
        }
        if self.style.sorted {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.out.push('{');
        for (index, (key, value)) in entries.iter().enumerate() {
            self.before(index > 0, depth + 1);
            self.text(key);
            self.out.push_str(&self.style.key);
            self.value(value, depth + 1)?;
        }
        self.close('}', !entries.is_empty(), depth);
        Ok(())
    }

    /// What parts an item from the one before.
    fn before(&mut self, any: bool, depth: usize) {
        if any {
            self.out.push_str(&self.style.item);
        }
        self.line(depth);
    }

    fn close(&mut self, bracket: char, any: bool, depth: usize) {
        if any {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.style.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A number as Python writes it.
fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let float = f64::try_from(value.clone())?;
    if !float.is_finite() {
        let name = if float.is_nan() { "NaN" } else { "Infinity" };
        return Ok(format!("{}{name}", if float < 0.0 { "-" } else { "" }));
    }
    // Python turns to exponents below 1e-4 and from 1e16 on; both write the fewest digits that tell the number.
    let exponent = format!("{float:e}").split_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        return Ok(if plain.contains('.') { plain } else { plain + ".0" });
    }
    let (digits, _) =
        format!("{float:e}").split_once('e').map(|(d, e)| (d.to_owned(), e.to_owned())).unwrap_or_default();
    Ok(format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()))
}
