//! The kernel config file of bitnet.cpp (`include/kernel_config.ini`): how TL1 and TL2 tensors of each shape are cut.
//!
//! ```text
//! [Kernels_0]
//! m = 3200
//! k = 8640
//! bm = 160
//! bk = 96
//! bmm = 32
//! ```

use std::path::Path;

use crate::formats::FormatError;
use crate::formats::error::shown;
pub use crate::quant::tl::Tile;

/// Longest file that is read: a section a shape of one model takes a few hundred bytes.
const LONGEST: u64 = 1 << 20;
/// Largest number in it.
const LARGEST: usize = 1 << 24;

/// The tiles of each shape, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelConfig {
    shapes: Vec<(usize, usize, Tile)>,
}

impl KernelConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FormatError`] naming the file and the line that is not of the form above, or the section that lacks a number.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        let io = |source| FormatError::Io { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > LONGEST {
            let found = format!("{length} bytes");
            return Err(field(path, "kernel config", "a file of at most 1 MiB", found));
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(io)?)
    }

    /// Reads text; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`KernelConfig::open`].
    pub fn parse(name: impl AsRef<Path>, text: &str) -> Result<Self, FormatError> {
        let path = name.as_ref();
        let mut config = Self::default();
        let mut section: Option<(String, [Option<usize>; 5])> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let place = || format!("line {}", number + 1);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                config.close(path, section.take())?;
                section = Some((name.to_owned(), [None; 5]));
                continue;
            }
            let pair = line.split_once(['=', ':']).map(|(key, value)| (key.trim().to_lowercase(), value.trim()));
            let at = pair.as_ref().and_then(|(key, _)| KEYS.iter().position(|known| known == key));
            let (Some((_, values)), Some((_, value)), Some(at)) = (&mut section, &pair, at) else {
                let expected = "a [section], or m, k, bm, bk or bmm = a number inside one";
                return Err(field(path, &place(), expected, shown(line)));
            };
            let number = value.parse::<usize>().ok().filter(|n| (1..=LARGEST).contains(n));
            values[at] = Some(number.ok_or_else(|| field(path, &place(), "a number from 1 up", shown(value)))?);
        }
        config.close(path, section)?;
        if config.shapes.is_empty() {
            return Err(field(
                path,
                "kernel config",
                "at least one [section] with m, k, bm, bk and bmm",
                "none".into(),
            ));
        }
        Ok(config)
    }

    /// Takes a section in. The first of a shape counts, as in bitnet.cpp's converter.
    fn close(&mut self, path: &Path, section: Option<(String, [Option<usize>; 5])>) -> Result<(), FormatError> {
        let Some((name, values)) = section else { return Ok(()) };
        let [Some(m), Some(k), Some(bm), Some(bk), Some(bmm)] = values else {
            let lacking = KEYS.iter().zip(values).filter(|(_, v)| v.is_none()).map(|(key, _)| *key);
            let found = format!("no {}", lacking.collect::<Vec<_>>().join(", "));
            return Err(field(path, &format!("section {}", shown(&name)), "m, k, bm, bk and bmm", found));
        };
        self.shapes.push((m, k, Tile { bm, bk, bmm }));
        Ok(())
    }

    /// The tile of tensors of `rows` rows and `cols` columns.
    #[must_use]
    pub fn tile(&self, rows: usize, cols: usize) -> Option<Tile> {
        self.shapes.iter().find(|(m, k, _)| (*m, *k) == (rows, cols)).map(|(_, _, tile)| *tile)
    }

    /// The file again, as bitnet.cpp writes it.
    #[must_use]
    pub fn text(&self) -> String {
        let section = |(nth, (m, k, tile)): (usize, &(usize, usize, Tile))| {
            let Tile { bm, bk, bmm } = tile;
            format!("[Kernels_{nth}]\nm = {m}\nk = {k}\nbm = {bm}\nbk = {bk}\nbmm = {bmm}\n\n")
        };
        self.shapes.iter().enumerate().map(section).collect()
    }
}

const KEYS: [&str; 5] = ["m", "k", "bm", "bk", "bmm"];

fn field(path: &Path, field: &str, expected: &str, found: String) -> FormatError {
    FormatError::Field { path: path.to_owned(), field: field.to_owned(), expected: expected.to_owned(), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[Kernels_0]\nm = 3200\nk = 8640\nbm = 160\nbk = 96\nbmm = 32\n\n";

    #[test]
    fn sections_give_the_tiles_of_their_shapes() {
        let config =
            KernelConfig::parse("k.ini", &format!("# of a model\n{TEXT}{}", TEXT.replace("160", "320"))).unwrap();
        assert_eq!(config.tile(3200, 8640), Some(Tile { bm: 160, bk: 96, bmm: 32 }));
        assert_eq!(config.tile(8640, 3200), None);
        let one = KernelConfig::parse("k.ini", TEXT).unwrap();
        assert_eq!(one.text(), TEXT);
    }

    #[test]
    fn faults_are_told_with_their_place() {
        let cases = [
            ("", "kernel config", "none"),
            ("m = 1\n", "line 1", "m"),
            ("[A]\nm = 0\n", "line 2", "0"),
            ("[A]\nbm = 99999999999999999999\n", "line 2", "9999"),
            ("[A]\nwidth = 3\n", "line 2", "width"),
            ("[A]\nm = 1\nk = 2\nbm = 3\nbk = 4\n", "section A", "no bmm"),
        ];
        for (text, place, found) in cases {
            let message = KernelConfig::parse("k.ini", text).unwrap_err().to_string();
            assert!(message.contains("k.ini") && message.contains(place) && message.contains(found), "{message}");
        }
    }
}
