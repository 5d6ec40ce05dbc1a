//! Text out of tokens as they come: whole characters only, and nothing of a stop string.

/// Turns the bytes of tokens into text, holding back what may yet become a stop string or a character.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    stops: Vec<String>,
    held: Vec<u8>,
    stopped: bool,
}

impl TextStream {
    /// A stream that ends before the first of `stops` to come up; empty ones are ignored.
    pub fn new(stops: impl IntoIterator<Item = String>) -> TextStream {
        TextStream { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), ..TextStream::default() }
    }

    /// Whether a stop string has come up; nothing follows then.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Adds the bytes of a token; returns the text that is certain now. Bytes that make no UTF-8 become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.extend_from_slice(bytes);
        let find = |stop: &String| self.held.windows(stop.len()).position(|window| window == stop.as_bytes());
        if let Some(at) = self.stops.iter().filter_map(find).min() {
            self.held.truncate(at);
            self.stopped = true;
            return self.release(at);
        }
        let begun = |stop: &String| (1..stop.len()).rev().find(|&n| self.held.ends_with(&stop.as_bytes()[..n]));
        let pending = self.stops.iter().filter_map(begun).max().unwrap_or(0);
        self.release(self.held.len() - pending.max(unfinished(&self.held)))
    }

    /// The text held back, when no more tokens come.
    pub fn finish(&mut self) -> String {
        self.release(self.held.len())
    }

    fn release(&mut self, count: usize) -> String {
        let bytes: Vec<u8> = self.held.drain(..count).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Bytes at the end that begin a character whose rest has not come yet.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that comes out of `pieces`, and each part.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (String, Vec<String>, bool) {
        let mut stream = TextStream::new(stops.iter().map(|s| (*s).to_owned()));
        let mut parts: Vec<String> = pieces.iter().map(|piece| stream.push(piece)).collect();
        parts.push(stream.finish());
        (parts.concat(), parts, stream.stopped())
    }

    #[test]
    fn characters_come_whole() {
        let euro = "€".as_bytes();
        let (text, parts, _) = run(&[], &[b"a", &euro[..1], &euro[1..2], &euro[2..], b"b"]);
        assert_eq!(text, "a€b");
        assert_eq!(parts[..4], ["a", "", "", "€"]);
        // What never becomes a character is replaced, not lost.
        assert_eq!(run(&[], &[b"a", &euro[..2]]).0, "a\u{fffd}");
        assert_eq!(run(&[], &[b"\xff", b"\x80", b"x"]).0, "\u{fffd}\u{fffd}x");
        let smile = "😀".as_bytes();
        assert_eq!(run(&[], &[&smile[..3], &smile[3..]]).0, "😀");
    }

    #[test]
    fn stop_strings_are_found_across_tokens() {
        let (text, parts, stopped) = run(&["END", "\n\n"], &[b"one E", b"N", b"D two"]);
        assert_eq!((text.as_str(), parts[0].as_str(), stopped), ("one ", "one ", true));
        let (text, _, stopped) = run(&["END", "\n\n"], &[b"one E", b"N", b"O two\n", b"x\n", b"\nz"]);
        assert_eq!((text.as_str(), stopped), ("one ENO two\nx", true));
        let (text, _, stopped) = run(&["END"], &[b"one EN"]);
        assert_eq!((text.as_str(), stopped), ("one EN", false));
        // The earliest counts, and a false start inside a true one does not hide it.
        assert_eq!(run(&["bc", "ab"], &[b"xabc"]).0, "x");
        assert_eq!(run(&["aab"], &[b"aa", b"ab"]).0, "a");
        assert_eq!(run(&["é!"], &["é".as_bytes(), b"?"]).0, "é?");
        assert_eq!(run(&["", "x"], &[b"a", b"b"]).0, "ab");
    }

    #[test]
    fn nothing_follows_a_stop() {
        let mut stream = TextStream::new(["x".to_owned()]);
        assert_eq!(stream.push(b"axb"), "a");
        assert!(stream.stopped() && stream.push(b"more").is_empty() && stream.finish().is_empty());
    }
}
