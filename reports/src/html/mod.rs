//! `report.html`: one file that needs nothing beside it, to look into a run or to hold two against each other.
//!
//! Everything that comes from a run's files is text to the templates, which escape it. Scripts and styles other than the
//! page's own do not run: its policy names them by hash. The bytes depend on the run's files alone.

mod figures;
mod pair;
mod picture;
mod run;

use crate::error::Error;
use crate::load::{RunData, load};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const FRAME: &str = include_str!("frame.html");
const RUN: &str = concat!(include_str!("table.html"), include_str!("run.html"));
const PAIR: &str = concat!(include_str!("table.html"), include_str!("pair.html"));

/// What became of published claims on this run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClaimsSection {
    /// What a reader must know of all verdicts; may be empty.
    pub note: String,
    /// One row a claim.
    pub rows: Vec<ClaimRow>,
}

/// One published claim with its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClaimRow {
    /// What is claimed.
    pub claim: String,
    /// The published figure with its unit.
    pub published: String,
    /// The verdict in a word or two, such as `reproduced`, `not reproduced`, `not testable here`.
    pub verdict: String,
    /// Our figure with its interval; `None` where there is none.
    pub ours: Option<String>,
    /// Replicates behind our figure.
    pub n: Option<usize>,
    /// What differs from how the published figure was made, or why it can't be tested.
    pub differs: String,
    /// Where it was published.
    pub source: String,
}

/// Writes the page of `data`, the run in `run_dir`, to `to`, by default `report.html` in its folder.
///
/// # Errors
/// A file that can't be written.
pub fn render_run(
    data: &RunData,
    run_dir: &Path,
    claims: Option<&ClaimsSection>,
    to: Option<&Path>,
) -> Result<PathBuf, Error> {
    write(run_dir, to, |path| run::page(data, claims).map_err(|message| fail(path, message)))
}

/// Writes the page of two runs side by side to `to`, by default `report.html` in the first run's folder.
///
/// # Errors
/// What [`load`](fn@load) refuses, and a file that can't be written.
pub fn render_pair(one: &Path, other: &Path, to: Option<&Path>) -> Result<PathBuf, Error> {
    let (first, second) = (load(one)?, load(other)?);
    write(one, to, |path| pair::page(&first, &second).map_err(|message| fail(path, message)))
}

fn fail(path: &Path, message: String) -> Error {
    Error::Write { path: path.to_owned(), message }
}

fn write(
    folder: &Path,
    to: Option<&Path>,
    page: impl FnOnce(&Path) -> Result<String, Error>,
) -> Result<PathBuf, Error> {
    let path = to.map_or_else(|| folder.join("report.html"), Path::to_owned);
    let text = page(&path)?;
    std::fs::write(&path, text).map_err(|e| fail(&path, e.to_string()))?;
    Ok(path)
}

/// A part of the page that the table of contents names.
#[derive(Serialize)]
struct Part {
    id: &'static str,
    title: &'static str,
}

/// Fills a template and puts it into the page's frame.
fn fill(template: &'static str, title: &str, parts: &[Part], page: impl Serialize) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().map_err(|e| e.to_string())?);
    // The endings of these names turn escaping on.
    environment.add_template("body.html", template).map_err(|e| e.to_string())?;
    environment.add_template("frame.html", FRAME).map_err(|e| e.to_string())?;
    let render = |name: &str, with: Value| environment.get_template(name).and_then(|t| t.render(with));
    let body = render("body.html", context! { page => Serde(&page) }).map_err(|e| e.to_string())?;
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(CSS),
        hash(SCRIPT)
    );
    let with = context! {
        title,
        parts => Serde(parts),
        policy => Value::from_safe_string(policy),
        css => Value::from_safe_string(CSS.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        body => Value::from_safe_string(body),
    };
    render("frame.html", with).map_err(|e| e.to_string())
}

/// Marks that turn the direction of writing.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Foreign text on one line, without control characters or marks that turn the direction of writing.
fn line(text: &str) -> String {
    text.chars().filter(|c| !turns(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
