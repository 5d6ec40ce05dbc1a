//! The log of an evaluation on disk: appended to, item by item, and gone on with.

use crate::error::Error;
use anyhow::{Context as _, Result, bail};
use reports::items;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use suites::eval::{Header, Line, Part, Row};

/// An open log. No other program writes to it meanwhile.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    rows: BTreeMap<u32, Row>,
}

impl Log {
    /// Opens the log of `header` at `path`, with what an earlier program answered; a torn last line is cut off.
    ///
    /// # Errors
    /// A log of another header (which field differs is named), one that another program writes to, one that is no log.
    pub fn open(path: &Path, header: &Header, part: &Part) -> Result<Log> {
        let name = path.display();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::Usage(format!("{name}: {error}")))?;
        }
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let mut file = opened.map_err(|error| Error::Usage(format!("{name}: {error}")))?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(Error::Usage(format!("{name}: another program is writing there")));
        }
        let mut rows = BTreeMap::new();
        match items::load(path)? {
            Some(earlier) => {
                if let Some(field) = difference(&earlier.header, header) {
                    bail!(Error::Usage(format!("{name}: of another evaluation: {field}")));
                }
                file.set_len(earlier.whole_bytes).with_context(|| name.to_string())?;
                rows = earlier.rows;
            }
            None => {
                file.set_len(0).with_context(|| name.to_string())?;
                write(&mut file, &[Line::Header(header.clone())]).with_context(|| name.to_string())?;
            }
        }
        write(&mut file, &[Line::Part(part.clone())]).with_context(|| name.to_string())?;
        Ok(Log { path: path.to_owned(), file, rows })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All answers so far, by the line of their document.
    pub fn rows(&self) -> &BTreeMap<u32, Row> {
        &self.rows
    }

    /// Appends answers, and waits until they are on the disk.
    ///
    /// # Errors
    /// Writing fails.
    pub fn append(&mut self, rows: &[Row]) -> Result<()> {
        let lines: Vec<Line> = rows.iter().cloned().map(Line::Item).collect();
        write(&mut self.file, &lines).with_context(|| self.path.display().to_string())?;
        self.rows.extend(rows.iter().map(|row| (row.index, row.clone())));
        Ok(())
    }
}

/// This program, going to work.
pub fn part(isa: Option<String>, threads: Option<u32>) -> Part {
    let build = crate::machine::build();
    let revision = build.git_revision.map_or(String::new(), |revision| format!(" {revision}"));
    let dirty = if build.git_dirty == Some(true) { " with changes" } else { "" };
    let program = format!("{}{revision}{dirty}", build.version);
    Part { started: crate::driver::now(), program, profile: build.profile, isa, threads }
}

fn write(file: &mut File, lines: &[Line]) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    Ok(file.sync_data()?)
}

/// The first field that differs, with both values.
fn difference(found: &Header, expected: &Header) -> Option<String> {
    let fields = |header: &Header| serde_json::to_value(header).ok()?.as_object().cloned();
    let (found, expected) = (fields(found)?, fields(expected)?);
    expected.iter().find_map(|(key, value)| {
        let other = found.get(key).unwrap_or(&serde_json::Value::Null);
        (other != value).then(|| format!("{key}: expected {value}, found {other}"))
    })
}
