//! Files of requests: a JSON object a line.

use crate::error::Error;
use anyhow::{Result, bail};
use serde::de::DeserializeOwned;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Longest line.
const MAX_LINE: u64 = 16 << 20;

/// The objects of a file, blank lines left out; `expected` says in errors what each should be.
///
/// # Errors
/// What cannot be read, or is no such object: with the file and the line.
pub fn read<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Vec<T>> {
    let name = path.display();
    let file = std::fs::File::open(path).map_err(|error| Error::Input(format!("{name}: {error}")))?;
    let mut reader = BufReader::new(file);
    let mut objects = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| Error::Input(format!("{name}: {error}")))? == 0 {
            break;
        }
        if line.len() as u64 == MAX_LINE {
            bail!(Error::Input(format!("{name}:{number}: expected a line of at most {MAX_LINE} bytes")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let object = serde_json::from_slice(&line);
        let wrong = |error| Error::Input(format!("{name}:{number}: expected {expected}, found {error}"));
        objects.push(object.map_err(wrong)?);
    }
    Ok(objects)
}
