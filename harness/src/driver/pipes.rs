//! Reads what a worker says, in bounded memory whatever it says.

use crate::protocol::Event;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest line of events: a measurement of a thousand windows of a thousand tokens.
pub const MAX_LINE: u64 = 16 << 20;
/// Lines of stderr kept.
const TAIL_LINES: usize = 20;
/// Characters kept of each.
const TAIL_WIDTH: usize = 400;
/// Characters quoted of a line that is no event.
const QUOTE: usize = 200;

/// One thing heard on a worker's stdout.
#[derive(Debug)]
pub enum Heard {
    /// An event.
    Event(Box<Event>),
    /// Something else, with what was wrong with it.
    Garbage(String),
    /// The end within a line, as a worker leaves it that is killed while it speaks.
    Half(String),
    /// The end.
    End,
}

/// Reads lines of events until the end or the first garbage; then only drains.
pub fn events(stdout: impl Read, heard: &Sender<Heard>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let message = match reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line) {
            Err(_) | Ok(0) => Heard::End,
            Ok(length) if length as u64 > MAX_LINE => {
                Heard::Garbage(format!("a line of more than {MAX_LINE} bytes, beginning {}", quote(&line)))
            }
            Ok(_) if line.last() != Some(&b'\n') => Heard::Half(format!("half a line: {}", quote(&line))),
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(event) => Heard::Event(Box::new(event)),
                Err(error) => Heard::Garbage(format!("no event ({error}): {}", quote(&line))),
            },
        };
        let last = !matches!(message, Heard::Event(_));
        // The receiver has gone when it has heard enough.
        if heard.send(message).is_err() || last {
            break;
        }
    }
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
    let _ = heard.send(Heard::End);
}

/// The beginning of a line, control characters escaped.
fn quote(line: &[u8]) -> String {
    let head = String::from_utf8_lossy(&line[..line.len().min(4 * QUOTE)]);
    let head = head.trim_end_matches(['\n', '\r']);
    let plain = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    let short: String = head.chars().take(QUOTE).map(plain).collect();
    if head.chars().count() > QUOTE { format!("`{short}...`") } else { format!("`{short}`") }
}

/// The last lines of a worker's stderr.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// Reads until the end, keeping the last lines.
    pub fn read(&self, stderr: impl Read) {
        let mut reader = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(4 * TAIL_WIDTH as u64).read_until(b'\n', &mut line) {
                Err(_) | Ok(0) => return,
                Ok(_) => {}
            }
            let text: String = String::from_utf8_lossy(&line).trim_end().chars().take(TAIL_WIDTH).collect();
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(text);
            if lines.len() > TAIL_LINES {
                lines.pop_front();
            }
        }
    }

    /// The lines kept so far.
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(text: &[u8]) -> Vec<Heard> {
        let (sender, receiver) = std::sync::mpsc::channel();
        events(text, &sender);
        drop(sender);
        receiver.into_iter().collect()
    }

    #[test]
    fn garbage_is_quoted_short_and_ends_it() {
        let heard =
            hear(b"{\"event\":\"loaded\",\"load_ns\":5}\nhello \x1b[31m\xff\n{\"event\":\"loaded\",\"load_ns\":5}\n");
        let [Heard::Event(_), Heard::Garbage(message), Heard::End] = &heard[..] else { panic!("{heard:?}") };
        assert!(message.contains("`hello \\u{1b}[31m") && message.contains("no event"), "{message}");
        let long = [vec![b'x'; 5000], vec![b'\n']].concat();
        let [Heard::Garbage(message), _] = &hear(&long)[..] else { panic!() };
        assert!(message.len() < 400, "{message}");
    }

    #[test]
    fn endless_lines_are_bounded() {
        let endless = std::io::repeat(b'x').take(MAX_LINE * 3);
        let (sender, receiver) = std::sync::mpsc::channel();
        events(endless, &sender);
        let Ok(Heard::Garbage(message)) = receiver.recv() else { panic!() };
        assert!(message.contains("more than 16777216 bytes") && message.len() < 400);
    }

    #[test]
    fn half_a_line_is_told() {
        let [Heard::Half(message), _] = &hear(b"{\"event\":\"loa")[..] else { panic!() };
        assert!(message.starts_with("half a line: `{\"event\""), "{message}");
    }

    #[test]
    fn the_tail_is_short_whatever_comes() {
        let tail = Tail::default();
        let text: String = (0..100).map(|i| format!("line {i} {}\n", "y".repeat(3000))).collect();
        tail.read(text.as_bytes());
        let kept = tail.text();
        assert!(kept.lines().count() <= 20 && kept.len() < 20 * 401);
        tail.read(&b"the end\n"[..]);
        assert!(tail.text().ends_with("the end"));
    }
}
