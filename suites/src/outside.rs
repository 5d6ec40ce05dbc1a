//! Outside engines: programs of the user's, measured beside the project's own. Suites name them; which program and which
//! model files they are, a TOML file of the user's says (`--outside`).

use crate::error::Error;
use crate::model::with_hint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Programs that there is an adapter for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// llama.cpp's `llama-bench`, or that of a fork of it.
    LlamaBench,
}

impl Kind {
    /// As the file names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::LlamaBench => "llama-bench",
        }
    }
}

/// One outside engine, as the user's file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideEngine {
    /// As suites name it.
    pub name: String,
    /// How the program is spoken to.
    pub kind: Kind,
    /// The program; a relative path begins in the file's folder.
    pub program: PathBuf,
    /// Arguments passed as they are, after those that the adapter gives.
    #[serde(default)]
    pub args: Vec<String>,
    /// Instruction set that the program was built for, by the user's word: it runs in groups that force the same one.
    pub isa: Option<String>,
    /// A model's name in suites, and its GGUF file; a relative path begins in the file's folder.
    pub models: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    engine: Vec<OutsideEngine>,
}

/// Reads the outside engines of a TOML text; `origin` is the file's name for messages, `own` tells names of the project's engines.
///
/// # Errors
/// Syntax, unknown keys and kinds (with line and the nearest right one), names that can't be, twice or the project's own.
pub fn parse(text: &str, origin: &str, own: impl Fn(&str) -> bool) -> Result<Vec<OutsideEngine>, Error> {
    let parse = |e: toml::de::Error| Error::Parse { origin: origin.to_owned(), message: with_hint(&e.to_string()) };
    let wire: Wire = toml::from_str(text).map_err(parse)?;
    for (index, engine) in wire.engine.iter().enumerate() {
        let bad = |expected: &str| Error::Value {
            origin: origin.to_owned(),
            key: format!("engine {}: name", index + 1),
            expected: expected.to_owned(),
            found: format!("`{}`", engine.name),
        };
        name(&engine.name, &own).map_err(bad)?;
        if wire.engine[..index].iter().any(|e| e.name == engine.name) {
            return Err(bad("a name that no other engine has"));
        }
    }
    Ok(wire.engine)
}

/// Whether an outside engine may be called `name`; if not, what a name must be.
pub(crate) fn name(name: &str, own: impl Fn(&str) -> bool) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(plain) {
        return Err("letters, digits, `-`, `.` and `_`");
    }
    if own(name) {
        return Err("a name that none of the project's own engines has");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[engine]]
name = "theirs"
kind = "llama-bench"
program = "bin/llama-bench"
args = ["-rtr", "1"]
[engine.models]
"2b4t-q6" = "/models/a.gguf"
"#;

    fn error(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replace(from, to), "my.toml", |name| name == "ternary").unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read() {
        let [engine] = &parse(GOOD, "my.toml", |_| false).unwrap()[..] else { panic!("one engine") };
        assert_eq!((engine.name.as_str(), engine.kind, engine.args.len()), ("theirs", Kind::LlamaBench, 2));
        assert_eq!(engine.models["2b4t-q6"], PathBuf::from("/models/a.gguf"));
        assert_eq!(engine.isa, None);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_key() {
        let twice = format!("{GOOD}{GOOD}");
        let cases = [
            ("program =", "programm =", ["my.toml", "did you mean `program`"]),
            ("\"llama-bench\"", "\"llama-bnch\"", ["my.toml", "did you mean `llama-bench`"]),
            ("\"theirs\"", "\"ternary\"", ["engine 1: name", "own engines"]),
            ("\"theirs\"", "\"a b\"", ["engine 1: name", "`a b`"]),
            ("program = \"bin/llama-bench\"", "", ["my.toml", "program"]),
            (GOOD, twice.as_str(), ["engine 2: name", "no other engine"]),
        ];
        for (from, to, wanted) in cases {
            let message = error(from, to);
            for part in wanted {
                assert!(message.contains(part), "{to}: expected `{part}` in: {message}");
            }
        }
    }
}
