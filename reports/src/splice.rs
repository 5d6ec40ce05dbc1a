//! Tables kept inside a Markdown file: what stands between two comments is made from a recorded run, or from the code's constants.
//!
//! A block begins with a line `<!-- tritmark:table run=results/NAME workload=tg128 threads=best,2 -->` and ends with a line
//! `<!-- /tritmark -->`. `run` is a folder, relative to the file's; `workload`, `threads`, `models` and `engines` choose as
//! [`Selection`] does, with commas between several; `chart=decode-speedup` adds a plot of the run. A block `tritmark:peers` with
//! the same keys is one table of our speeds over those of the fastest outside engine; each `engines` of it is a group by itself.
//! A block `tritmark:gate run=FOLDER` has what studies of the gate found, with their chart. A block `tritmark:constants` has no keys. Markers inside fenced code are text.

use crate::error::Error;
use crate::formats::{peers, tables};
use crate::gate::virtually;
use crate::load::{RunData, load};
use crate::paper::{self, Selection};
use crate::text::{code, escape, markdown_table};
use std::path::{Component, Path};

const BEGIN: &str = "<!-- tritmark:";
const END: &str = "<!-- /tritmark -->";
const KEYS: &str = "`run`, `workload`, `threads`, `models`, `engines` or `chart`";

/// A constant of the code, as a block `constants` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its name.
    pub name: &'static str,
    /// The file that has it, from the project's root.
    pub file: &'static str,
    /// Its value with its unit.
    pub value: String,
    /// What it decides.
    pub decides: &'static str,
}

/// The text of `path` with each block made anew, those of constants from `constants`; all other bytes stay as they are, and new lines end as their marker does.
///
/// # Errors
/// A file that can't be read or is no UTF-8; with its line, a marker that is not understood or has no end, and a run that
/// does not load or lacks what is asked for.
pub fn splice(path: &Path, constants: &[Constant]) -> Result<Spliced, Error> {
    let before = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut after = String::with_capacity(before.len());
    let (mut fence, mut open, mut blocks) = (None, None, 0);
    for (index, line) in before.split_inclusive('\n').enumerate() {
        let wrong = |message: String| Error::Parse { path: path.to_owned(), line: index + 1, message };
        let text = line.trim();
        if open.is_none() {
            fence = in_fence(fence, text);
        }
        let marker = fence.is_none().then(|| text.strip_prefix(BEGIN)).flatten();
        match (open, marker) {
            (Some(begun), Some(_)) => {
                return Err(wrong(format!("expected `{END}` for the block of line {begun}, found another block")));
            }
            (None, Some(marker)) => {
                after.push_str(line);
                let body = body(marker, folder, constants).map_err(wrong)?;
                after.push_str(&if line.ends_with("\r\n") { body.replace('\n', "\r\n") } else { body });
                (open, blocks) = (Some(index + 1), blocks + 1);
            }
            (Some(_), None) if text == END => {
                after.push_str(line);
                open = None;
            }
            (Some(_), None) => {}
            (None, None) if fence.is_none() && text == END => {
                return Err(wrong(format!(
                    "expected a block before its end, such as `{BEGIN}table run=results/NAME -->`"
                )));
            }
            (None, None) => after.push_str(line),
        }
    }
    if let Some(line) = open {
        let message = format!("expected `{END}` on a line below, found the end of the file");
        return Err(Error::Parse { path: path.to_owned(), line, message });
    }
    Ok(Spliced { before, after, blocks })
}

/// A file with its blocks made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// What the file holds.
    pub before: String,
    /// What it is to hold.
    pub after: String,
    /// Blocks found.
    pub blocks: usize,
}

/// The fence that is open after a line, given the one before it.
fn in_fence<'a>(fence: Option<&'a str>, line: &'a str) -> Option<&'a str> {
    let run = |c: char| &line[..line.len() - line.trim_start_matches(c).len()];
    match fence {
        Some(open)
            if line.starts_with(open) && line.trim_start_matches(open.chars().next().unwrap_or('`')).is_empty() =>
        {
            None
        }
        Some(open) => Some(open),
        None => [run('`'), run('~')].into_iter().find(|mark| mark.len() >= 3),
    }
}

/// What stands between the markers. Errors lack the place.
fn body(marker: &str, folder: &Path, constants: &[Constant]) -> Result<String, String> {
    let words = marker.strip_suffix("-->").ok_or("expected `-->` at the end of the line")?;
    let mut words = words.split_whitespace();
    let kind = words.next();
    let words: Vec<&str> = words.collect();
    match kind {
        Some("table") => of_run(&words, folder, |data, selections| {
            let blocks = paper::blocks(data, &merged(selections));
            (!blocks.is_empty()).then(|| tables(&blocks))
        }),
        Some("peers") => of_run(&words, folder, |data, selections| {
            peers(&selections.iter().map(|selection| paper::blocks(data, selection)).collect::<Vec<_>>())
        }),
        Some("gate") => gate(&words, folder),
        Some("constants") => match words.first() {
            None => Ok(table_of(constants)),
            Some(word) => Err(format!("expected no key of constants, found `{word}`")),
        },
        other => Err(format!(
            "expected `{BEGIN}table`, `{BEGIN}peers`, `{BEGIN}gate` or `{BEGIN}constants`, found `{BEGIN}{}`",
            other.unwrap_or("")
        )),
    }
}

/// What `gate --study virtual` left in a folder, and its chart.
fn gate(words: &[&str], folder: &Path) -> Result<String, String> {
    let [word] = words else { return Err(format!("expected `run=FOLDER` alone, found {}", words.len())) };
    let run = word.strip_prefix("run=").ok_or_else(|| format!("expected `run=FOLDER`, found `{word}`"))?;
    if !inside(run) {
        return Err(format!("expected a folder below the file's, found `{run}`"));
    }
    let rates = virtually::read(&folder.join(run).join("power.csv")).map_err(|e| e.to_string())?;
    let name = format!("{run}/power.svg");
    if !folder.join(&name).is_file() {
        return Err(format!("expected a chart at `{name}`, found none"));
    }
    let table = virtually::markdown(&rates);
    Ok(format!("\n{table}\n![What the gate finds, and what it makes up]({name})\n\n"))
}

/// Whether a path leads nowhere but downwards.
fn inside(path: &str) -> bool {
    Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// One selection of all engines.
fn merged(selections: &[Selection]) -> Selection {
    let engines = selections.iter().flat_map(|selection| selection.engines.clone()).collect();
    Selection { engines, ..selections.first().cloned().unwrap_or_default() }
}

/// What `made` makes of a run, and its chart; an empty selection of engines stands for all of them.
fn of_run(
    words: &[&str],
    folder: &Path,
    made: impl Fn(&RunData, &[Selection]) -> Option<String>,
) -> Result<String, String> {
    let (mut run, mut chart, mut common, mut groups) = (None, None, Selection::default(), Vec::new());
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, found `{word}`"))?;
        let each = || value.split(',').filter(|v| !v.is_empty());
        let names = || each().map(str::to_owned).collect::<Vec<String>>();
        match key {
            "run" => run = Some(value),
            "chart" => chart = Some(value),
            "models" => common.models.extend(names()),
            "engines" => groups.push(names()),
            "workload" => common.workloads = each().map(str::parse).collect::<Result<_, String>>()?,
            "threads" => common.threads = each().map(str::parse).collect::<Result<_, String>>()?,
            _ => return Err(format!("expected {KEYS}, found `{key}`")),
        }
    }
    if groups.is_empty() {
        groups.push(Vec::new());
    }
    let selections: Vec<Selection> =
        groups.into_iter().map(|engines| Selection { engines, ..common.clone() }).collect();
    let run = run.ok_or("expected `run=FOLDER`, found none")?;
    if !inside(run) {
        return Err(format!("expected a folder below the file's, found `{run}`"));
    }
    let data = load(&folder.join(run)).map_err(|e| format!("expected a recorded run at `{run}`: {e}"))?;
    let cells: Vec<_> = data.plan.cells.iter().map(|c| &c.cell).collect();
    selections.iter().try_for_each(|selection| known(&cells, selection))?;
    let made = made(&data, &selections).ok_or_else(|| {
        format!("expected workloads, threads, models and engines that `{run}` has together, found none")
    })?;
    let mut out = format!("\n{made}");
    if let Some(chart) = chart {
        let name = format!("{run}/plots/{chart}.svg");
        if !inside(chart) || !folder.join(&name).is_file() {
            return Err(format!("expected a plot at `{name}`, found none"));
        }
        out.push_str(&format!("![{} of {}]({name})\n\n", escape(chart), escape(&data.run.name)));
    }
    Ok(out)
}

/// A row each constant.
fn table_of(constants: &[Constant]) -> String {
    let header = ["constant", "value", "in", "decides"].map(str::to_owned);
    let row = |c: &Constant| vec![code(c.name), escape(&c.value), code(c.file), escape(c.decides)];
    let rows: Vec<Vec<String>> = constants.iter().map(row).collect();
    format!("\n{}\n", markdown_table(&header, &rows, header.len()))
}

/// Whether the run has everything that `selection` names.
fn known(cells: &[&suites::cell::Cell], selection: &Selection) -> Result<(), String> {
    for workload in &selection.workloads {
        if !cells.iter().any(|c| c.workload == *workload) {
            return Err(format!("expected a workload of the run, found `{workload}`"));
        }
    }
    for model in &selection.models {
        if !cells.iter().any(|c| c.model == *model) {
            return Err(format!("expected a model of the run, found `{model}`"));
        }
    }
    for engine in &selection.engines {
        if !cells.iter().any(|c| c.engine == *engine) {
            return Err(format!("expected an engine of the run, found `{engine}`"));
        }
    }
    for threads in &selection.threads {
        if let paper::Threads::Count(count) = threads
            && !cells.iter().any(|c| c.threads == *count)
        {
            return Err(format!("expected a thread count of the run, found `{count}`"));
        }
    }
    Ok(())
}
