//! A task's documents: a JSON object a line, gzipped or not.

use super::Skip;
use crate::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

/// Longest line, in bytes.
const MAX_LINE: u64 = 16 << 20;
/// Most lines.
const MAX_LINES: u32 = 10_000_000;

/// The documents of a file.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Line (from 0) and object, in order.
    pub good: Vec<(u32, serde_json::Value)>,
    /// Lines that are no object.
    pub bad: Vec<Skip>,
    /// BLAKE3 of the file.
    pub digest: String,
}

impl Documents {
    /// Reads a file, to the line `limit` alone if one is given; blank lines are no documents, but are counted as lines.
    ///
    /// # Errors
    /// A file that cannot be read or is longer than any task's, a gzip stream that is damaged, a file without a document.
    pub fn open(path: &Path, limit: Option<u32>) -> Result<Documents, Error> {
        let unreadable = |source: std::io::Error| Error::Read { path: path.to_owned(), source };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).map_err(unreadable)?).map_err(unreadable)?;
        let file = File::open(path).map_err(unreadable)?;
        let zipped = path.extension().is_some_and(|extension| extension == "gz");
        let bytes: Box<dyn Read> =
            if zipped { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut found = Documents { digest: hasher.finalize().to_hex().to_string(), ..Documents::default() };
        let mut reader = BufReader::new(bytes);
        for number in 0..limit.unwrap_or(MAX_LINES) {
            let mut line = Vec::new();
            if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
                break;
            }
            if line.len() as u64 == MAX_LINE {
                let message = format!("expected lines of at most {MAX_LINE} bytes");
                return Err(Error::Parse { origin: format!("{}:{}", path.display(), number + 1), message });
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice::<serde_json::Value>(&line) {
                Ok(object) if object.is_object() => found.good.push((number, object)),
                Ok(_) => found.bad.push(Skip { line: number, reason: "expected a JSON object".to_owned() }),
                Err(error) => found.bad.push(Skip { line: number, reason: format!("no JSON object: {error}") }),
            }
        }
        if found.good.is_empty() && found.bad.is_empty() {
            let message = "expected a JSON object a line, found no line".to_owned();
            return Err(Error::Parse { origin: path.display().to_string(), message });
        }
        Ok(found)
    }
}
