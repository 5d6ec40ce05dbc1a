//! GPT-2's printable stand-ins for bytes (`bytes_to_unicode` of openai/gpt-2's `encoder.py`), and
//! the table of every token's bytes.

/// The character that stands for a byte: itself when printable in Latin-1, else the next free
/// character from U+0100 on, in byte order.
fn stand_in(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !is_printable(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// From stand-in characters back to bytes.
pub(super) struct ByteMap {
    /// Indexed by the character's code; no stand-in lies beyond U+0143.
    bytes: [Option<u8>; 0x144],
}

impl ByteMap {
    pub(super) fn new() -> Self {
        let mut bytes = [None; 0x144];
        for byte in 0..=u8::MAX {
            if let Some(slot) = bytes.get_mut(stand_in(byte) as usize) {
                *slot = Some(byte);
            }
        }
        Self { bytes }
    }

    /// Appends a token's bytes; a character that stands for no byte is kept as it is.
    pub(super) fn push(&self, token: &str, out: &mut Vec<u8>) {
        for c in token.chars() {
            match self.bytes.get(c as usize).copied().flatten() {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

/// The bytes that each id decodes to, one after another.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// Adds the next id's bytes.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_stand_in() {
        let map = ByteMap::new();
        for byte in 0..=u8::MAX {
            let mut out = Vec::new();
            map.push(&stand_in(byte).to_string(), &mut out);
            assert_eq!(out, [byte]);
        }
        // The two that everyone knows from GPT-2 vocabularies.
        assert_eq!((stand_in(b' '), stand_in(b'\n')), ('Ġ', 'Ċ'));
    }

    #[test]
    fn other_characters_stay_themselves() {
        let mut out = Vec::new();
        ByteMap::new().push("▁日", &mut out);
        assert_eq!(out, "▁日".as_bytes());
    }
}
