//! Reads the log of an evaluation.

use crate::error::Error;
use std::collections::BTreeMap;
use std::path::Path;
use suites::eval::{EVAL_SCHEMA, Header, Line, Part, Row};

/// A log as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Items {
    /// What decides its figures.
    pub header: Header,
    /// The programs that wrote it.
    pub parts: Vec<Part>,
    /// Its items by the line of their document; where one was answered twice, the later answer.
    pub rows: BTreeMap<u32, Row>,
    /// Bytes up to the end of the last whole line.
    pub whole_bytes: u64,
    /// Whether a last line without its end was left out: torn by an interrupted write.
    pub torn: bool,
}

/// Reads a log; `None` if it is empty, or holds but a torn first line.
///
/// # Errors
/// A file that cannot be read, a line that is none of a log's (file and line named), another version.
pub fn load(path: &Path) -> Result<Option<Items>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let parse = |line: usize, message: String| Error::Parse { path: path.to_owned(), line, message };
    let mut found: Option<Items> = None;
    let mut whole_bytes = 0;
    for (number, text) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        if !text.ends_with(b"\n") {
            found.iter_mut().for_each(|items| items.torn = true);
            break;
        }
        whole_bytes += text.len() as u64;
        let line = serde_json::from_slice(text).map_err(|error| parse(number, error.to_string()))?;
        match (line, &mut found) {
            (Line::Header(header), None) if header.schema == EVAL_SCHEMA => {
                found = Some(Items { header, parts: Vec::new(), rows: BTreeMap::new(), whole_bytes: 0, torn: false });
            }
            (Line::Header(header), None) => {
                let message = format!("schema: expected version {EVAL_SCHEMA} of the log, found {}", header.schema);
                return Err(parse(number, message));
            }
            (Line::Part(part), Some(items)) => items.parts.push(part),
            (Line::Item(row), Some(items)) => drop(items.rows.insert(row.index, row)),
            (Line::Header(_), Some(_)) => return Err(parse(number, "kind: a second header".to_owned())),
            (_, None) => return Err(parse(number, "kind: expected `header` first".to_owned())),
        }
    }
    Ok(found.map(|items| Items { whole_bytes, ..items }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use suites::eval::Answer;
    use suites::task::Metric;

    fn header() -> Header {
        Header {
            schema: EVAL_SCHEMA,
            task: "arc_easy".to_owned(),
            task_digest: "a".to_owned(),
            data_digests: vec!["b".to_owned()],
            fewshot: 0,
            seed: 1,
            metrics: vec![Metric::Acc, Metric::AccNorm],
            engine: "f16".to_owned(),
            model: "m".to_owned(),
            model_digest: None,
            kv: Some("f16".to_owned()),
            head: None,
            chat: None,
            bos: Some(false),
            context: Some(64),
        }
    }

    fn row(index: u32) -> Row {
        let answer = Answer::Choices {
            loglikelihoods: vec![-0.1, -1.5e-7, -12.345_678_901_234_567],
            tokens: vec![1, 2, 3],
            gold: vec![1],
            choice: 1,
            choice_norm: 0,
            truncated: 0,
        };
        let scores = [(Metric::Acc, 1.0), (Metric::AccNorm, 0.0)].into_iter().collect();
        Row { index, prompt: "0123456789abcdef".to_owned(), answer, scores }
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
    }

    fn read(text: &str) -> Result<Option<Items>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.jsonl");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn a_log_comes_back_as_it_was_written() {
        let skipped = Row { answer: Answer::Skipped { reason: "r".to_owned() }, scores: BTreeMap::new(), ..row(9) };
        let whole =
            text(&[Line::Header(header()), Line::Item(row(3)), Line::Item(row(0)), Line::Item(skipped.clone())]);
        assert!(whole.contains("\"loglikelihoods\":[-0.1,-1.5e-7,-12.345678901234567]"), "{whole}");
        let items = read(&whole).unwrap().unwrap();
        assert_eq!((items.header.clone(), items.torn, items.whole_bytes), (header(), false, whole.len() as u64));
        assert_eq!(items.rows.into_values().collect::<Vec<_>>(), [row(0), row(3), skipped]);
        let torn = format!("{whole}{{\"kind\":\"item\",\"ind");
        let items = read(&torn).unwrap().unwrap();
        assert_eq!((items.rows.len(), items.torn, items.whole_bytes), (3, true, whole.len() as u64));
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("{\"kind\":\"hea").unwrap(), None);
    }

    #[test]
    fn what_is_no_log_is_named_with_its_line() {
        let head = text(&[Line::Header(header())]);
        let newer = text(&[Line::Header(Header { schema: EVAL_SCHEMA + 1, ..header() })]);
        for (bad, line, word) in [
            (text(&[Line::Item(row(0))]), 1, "header"),
            (format!("{head}{head}"), 2, "second"),
            (format!("{head}nonsense\n"), 2, "expected"),
            (format!("{head}{{\"kind\":\"item\",\"index\":-1}}\n"), 2, "u32"),
            (newer, 1, "version"),
        ] {
            let message = read(&bad).unwrap_err().to_string();
            assert!(message.contains(&format!("items.jsonl:{line}")) && message.contains(word), "{message}");
        }
    }
}
