//! A model's packed matrices in a file beside it: `<model>.tritmark-<format>`.
//!
//! ```text
//! TRITMARK | u64 length of the header | header, JSON | panels of the matrices, each matrix from a page's start
//! ```
//!
//! All numbers are little-endian. The header tells of which source the panels are (see [`Fingerprint`]) and, of each
//! matrix, its name, kind, shape, scale, place and sum. Configuration, norms and biases are always the source's, and so is
//! a matrix that the file does not have.
//!
//! A file is not trusted: lengths are checked against its own, panels have the checks of all panels, and the sum covers
//! them and what the header says of them, so that what was cut short or altered by accident is refused. A file made to
//! deceive can hold other weights, as a model's file can.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::loading::{HeadWeights, Loading};
use super::sweep::{Pages, Sweep};
use crate::error::{Error, Result};
use crate::formats::FormatError;
use crate::formats::bytes::Bytes;
use crate::formats::error::shown;
use crate::linear::Linear;
use crate::model::{Format, Model};
use crate::quant::{
    Base3Matrix, Bf16Matrix, F16Matrix, Float16, Float16Matrix, MAX_COLS, PANEL, Q6Matrix, Q8Matrix, TernaryMatrix,
};

const MAGIC: [u8; 8] = *b"TRITMARK";
/// To be raised whenever the layout of panels changes, or which panels are made of a weight. (1 had no Q8_0 and Q6_K, and bf16
/// in single columns, not pairs.)
const VERSION: u32 = 2;
/// Longest header: far above that of every model there is.
const MAX_HEADER: u64 = 4 << 20;
/// Where matrices may begin.
const ALIGN: u64 = 4096;

/// What tells a source from another without reading it all: names, lengths, times of change and headers of its files, how
/// what they leave open is read, and the first and last bytes of every tensor.
pub(super) trait Fingerprint {
    fn fingerprint(&self) -> u64;
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    format: String,
    /// [`Fingerprint`] of the source, in hexadecimal.
    source: String,
    matrices: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// [`Linear::kind`].
    kind: String,
    rows: u64,
    cols: u64,
    /// Bits of the scale as f32; 0 where there is none.
    scale: u32,
    /// From the start of the file.
    offset: u64,
    bytes: u64,
    /// In hexadecimal: see [`Sum`].
    sum: String,
}

/// What the cache's name says of what it holds; `None` if there is no cache: plain floats are larger than what they are made of.
fn name_of(loading: Loading) -> Option<&'static str> {
    let widened = loading.head == HeadWeights::F16;
    match loading.format {
        // The second packings of the sparse format are made of the panels.
        Format::Ternary | Format::TernarySparse => Some(if widened { "ternary-head-f16" } else { "ternary" }),
        Format::Base3 | Format::Base3Sparse => Some(if widened { "ternary-1.6-head-f16" } else { "ternary-1.6" }),
        Format::F16 => Some("f16"),
        Format::Bf16 => Some("bf16"),
        Format::Reference => None,
    }
}

/// Where the cache of the model at `path`, a file or a folder, lies; `None` if what it becomes has none.
pub fn cache_path(path: &Path, loading: impl Into<Loading>) -> Option<PathBuf> {
    let name = name_of(loading.into())?;
    // Of `.` and the like only the whole path has a name.
    let whole = if path.file_name().is_some() { path.to_owned() } else { path.canonicalize().ok()? };
    let mut file = whole.file_name()?.to_owned();
    file.push(format!(".tritmark-{name}"));
    Some(whole.with_file_name(file))
}

/// A checked header and the bytes it tells of.
pub(super) struct Cache {
    path: PathBuf,
    bytes: Bytes,
    matrices: Vec<Entry>,
}

impl Cache {
    /// Maps a cache of the source that `fingerprint` is of; `None` if there is no such file.
    ///
    /// # Errors
    /// What is wrong with the file, or that it is of another source, or holds what is made of it otherwise.
    pub(super) fn open(path: &Path, loading: Loading, fingerprint: u64) -> Result<Option<Cache>> {
        match path.exists() {
            true => Cache::parse(path, Bytes::open(path)?, loading, fingerprint).map(Some),
            false => Ok(None),
        }
    }

    /// The same of bytes; `path` stands for them in messages.
    pub(super) fn parse(path: &Path, bytes: Bytes, loading: Loading, fingerprint: u64) -> Result<Cache> {
        let wrong = |field: &str, expected: &str, found: &str| Error::from(field_error(path, field, expected, found));
        let all = bytes.as_slice();
        let Some(rest) = all.strip_prefix(&MAGIC) else { return Err(wrong("magic", "TRITMARK", "another")) };
        let length = rest.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
        let start = (MAGIC.len() + 8) as u64;
        let Some(end) = (length <= MAX_HEADER).then(|| start + length).filter(|&end| end <= all.len() as u64) else {
            return Err(wrong("header length", &format!("up to {MAX_HEADER}, within the file"), &length.to_string()));
        };
        let header: Header = serde_json::from_slice(&all[start as usize..end as usize])
            .map_err(|error| wrong("header", "a cache's", &shown(&error.to_string())))?;
        let name = name_of(loading).unwrap_or("none");
        for (field, expected, found) in [
            ("version", VERSION.to_string(), header.version.to_string()),
            ("format", name.to_owned(), header.format),
            ("source", format!("{fingerprint:016x} (the model as it is now)"), header.source),
        ] {
            if expected.split(' ').next() != Some(&found) {
                return Err(wrong(field, &expected, &shown(&found)));
            }
        }
        for entry in &header.matrices {
            let inside = entry.offset >= end && entry.offset.is_multiple_of(ALIGN);
            let last = entry.offset.checked_add(entry.bytes).filter(|&last| last <= all.len() as u64);
            if !inside || last.is_none() {
                let found = format!("{} at {}", entry.bytes, entry.offset);
                return Err(wrong(&format!("bytes of {}", shown(&entry.name)), "a place inside the file", &found));
            }
        }
        Ok(Cache { path: path.to_owned(), bytes, matrices: header.matrices })
    }

    /// The matrix of this name, kind and shape; `None` if the file has none of the name.
    ///
    /// # Errors
    /// Memory that the system refuses, and panels that are not what the header says.
    pub(super) fn matrix(&self, name: &str, kind: &str, rows: usize, cols: usize) -> Result<Option<Linear>> {
        let name = name.strip_suffix(".weight").unwrap_or(name);
        let Some(entry) = self.matrices.iter().find(|entry| entry.name == name) else { return Ok(None) };
        let part = Part { cache: self, entry };
        if (entry.rows, entry.cols) != (rows as u64, cols as u64) || entry.kind != kind {
            let expected = format!("{kind} of {rows} x {cols}");
            let found = format!("{} of {} x {}", shown(&entry.kind), entry.rows, entry.cols);
            return Err(part.wrong(&expected, &found));
        }
        let panel_bytes = panel_bytes(kind, cols).unwrap_or(0);
        if panel_bytes == 0 || rows.div_ceil(PANEL).checked_mul(panel_bytes) != Some(part.bytes()) {
            return Err(part.wrong(&format!("the bytes of {rows} x {cols}"), &entry.bytes.to_string()));
        }
        part.read(rows, cols, panel_bytes).map(Some)
    }
}

fn field_error(path: &Path, field: &str, expected: &str, found: &str) -> FormatError {
    let (field, expected, found) = (field.to_owned(), expected.to_owned(), found.to_owned());
    FormatError::Field { path: path.to_owned(), field, expected, found }
}

/// Bytes of a panel, of kinds that are cached.
fn panel_bytes(kind: &str, cols: usize) -> Option<usize> {
    (1..=MAX_COLS).contains(&cols).then_some(())?;
    match kind {
        "ternary-2bit" => Some(TernaryMatrix::panel_bytes(cols)),
        "ternary-1.6bit" => Some(Base3Matrix::panel_bytes(cols)),
        "f16" => Some(2 * F16Matrix::panel_len(cols)),
        "bf16" => Some(2 * Bf16Matrix::panel_len(cols)),
        "q8_0" => Some(Q8Matrix::panel_bytes(cols)),
        "q6_k" => Some(Q6Matrix::panel_bytes(cols)),
        _ => None,
    }
}

/// The panels of a matrix in the file.
struct Part<'a> {
    cache: &'a Cache,
    entry: &'a Entry,
}

impl Part<'_> {
    fn wrong(&self, expected: &str, found: &str) -> Error {
        let (path, tensor) = (self.cache.path.clone(), shown(&self.entry.name));
        FormatError::Tensor { path, tensor, expected: expected.to_owned(), found: found.to_owned() }.into()
    }

    fn read(&self, rows: usize, cols: usize, panel_bytes: usize) -> Result<Linear> {
        let (scale, sum, sweep) = (f32::from_bits(self.entry.scale), Sum::of(self.entry), Sweep::new(self, rows));
        let start = self.entry.offset as usize;
        let done = |panel: usize| sweep.done(panel * PANEL..rows.min((panel + 1) * PANEL));
        let panel_of = |panel: usize| {
            let bytes = &self.cache.bytes.as_slice()[start + panel * panel_bytes..][..panel_bytes];
            sum.add(panel, bytes);
            bytes
        };
        let copy = |panel: usize, out: &mut [u8]| {
            out.copy_from_slice(panel_of(panel));
            done(panel);
        };
        let made = match &*self.entry.kind {
            "ternary-2bit" => TernaryMatrix::from_panels(rows, cols, scale, copy).map(Linear::Ternary),
            "ternary-1.6bit" => Base3Matrix::from_packed_panels(rows, cols, scale, copy).map(Linear::Base3),
            "q8_0" => Q8Matrix::from_panels(rows, cols, panel_of, done).map(Linear::Q8),
            "q6_k" => Q6Matrix::from_panels(rows, cols, panel_of, done).map(Linear::Q6),
            "f16" => self.halves((rows, cols), panel_of, done).map(Linear::F16),
            _ => self.halves((rows, cols), panel_of, done).map(Linear::Bf16),
        };
        let matrix = made.map_err(|error| match error {
            Error::Weight { .. } | Error::Scale { .. } => self.wrong("weights of its kind", &error.to_string()),
            other => other,
        })?;
        match format!("{:016x}", sum.value()) == self.entry.sum {
            true => Ok(matrix),
            false => Err(self.wrong(&format!("bytes of sum {}", shown(&self.entry.sum)), "others")),
        }
    }

    fn halves<'b, E: Float16>(
        &self,
        (rows, cols): (usize, usize),
        panel_of: impl Fn(usize) -> &'b [u8] + Sync,
        done: impl Fn(usize) + Sync,
    ) -> Result<Float16Matrix<E>> {
        Float16Matrix::try_from_panels(rows, cols, |panel, values: &mut [E]| {
            let (bits, _) = panel_of(panel).as_chunks::<2>();
            values.iter_mut().zip(bits).for_each(|(out, &bits)| *out = E::of_bits(u16::from_le_bytes(bits)));
            done(panel);
            match values.iter().fold(true, |all, value| all & value.finite()) {
                true => Ok(()),
                false => Err(self.wrong("finite weights", "others")),
            }
        })
    }
}

impl Pages for Part<'_> {
    fn bytes(&self) -> usize {
        self.entry.bytes as usize
    }

    fn row_bytes(&self) -> Option<usize> {
        panel_bytes(&self.entry.kind, self.entry.cols as usize).map(|bytes| bytes / PANEL)
    }

    fn release(&self, part: Range<usize>) {
        let start = self.entry.offset as usize;
        self.cache.bytes.release(start + part.start..start + part.end);
    }
}

/// A sum of panels in any order, and of what the header says of them. It is against accidents: every change of one panel
/// shows but one in 2^64.
struct Sum(AtomicU64);

impl Sum {
    fn of(entry: &Entry) -> Sum {
        let of = (&entry.name, &entry.kind, entry.rows, entry.cols, entry.scale);
        Sum(AtomicU64::new(hash(format!("{of:?}").as_bytes())))
    }

    fn add(&self, panel: usize, bytes: &[u8]) {
        self.0.fetch_add(mix(hash(bytes) ^ mix(panel as u64)), Ordering::Relaxed);
    }

    fn value(self) -> u64 {
        self.0.into_inner()
    }
}

/// A bijection of 64 bits that spreads every one of them (splitmix64's).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// A hash of bytes, in eight chains that run side by side; no cryptographic one.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |chain: u64, word: u64| (chain ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut chains: [u64; 8] = std::array::from_fn(|nth| mix(nth as u64 + 1));
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        let words = block.as_chunks::<8>().0;
        chains.iter_mut().zip(words).for_each(|(chain, word)| *chain = step(*chain, u64::from_le_bytes(*word)));
    }
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    let words = last.as_chunks::<8>().0;
    chains.iter_mut().zip(words).for_each(|(chain, word)| *chain = step(*chain, u64::from_le_bytes(*word)));
    chains.into_iter().fold(bytes.len() as u64, |all, chain| step(mix(all), mix(chain)))
}

/// A hash of the first and last bytes of a tensor: a scale that is among them too.
pub(super) fn ends(bytes: &[u8]) -> u64 {
    const END: usize = 64;
    let (first, last) = (&bytes[..bytes.len().min(END)], &bytes[bytes.len().saturating_sub(END)..]);
    hash(first) ^ mix(hash(last))
}

/// The panels of a matrix, if its kind is cached, and its scale.
fn packed(linear: &Linear) -> Option<(Panels<'_>, f32)> {
    match linear {
        Linear::Ternary(matrix) => Some((Panels::Bytes(matrix.packed()), matrix.scale())),
        Linear::Base3(matrix) => Some((Panels::Bytes(matrix.packed()), matrix.scale())),
        Linear::F16(matrix) => Some((Panels::F16(matrix.packed()), 0.0)),
        Linear::Bf16(matrix) => Some((Panels::Bf16(matrix.packed()), 0.0)),
        Linear::Q8(matrix) => Some((Panels::Q8(matrix), 0.0)),
        Linear::Q6(matrix) => Some((Panels::Q6(matrix), 0.0)),
        Linear::Plain(_) => None,
    }
}

/// Panels in memory.
#[derive(Clone, Copy)]
enum Panels<'a> {
    Bytes(&'a [u8]),
    F16(&'a [half::f16]),
    Bf16(&'a [half::bf16]),
    Q8(&'a Q8Matrix),
    Q6(&'a Q6Matrix),
}

impl Panels<'_> {
    /// Panel `nth` of `bytes` bytes, as a file has it.
    fn panel(&self, nth: usize, bytes: usize) -> Vec<u8> {
        let half = nth * bytes / 2..(nth + 1) * bytes / 2;
        match self {
            Panels::Bytes(all) => all[nth * bytes..][..bytes].to_vec(),
            Panels::F16(all) => all[half].iter().flat_map(|value| value.to_le_bytes()).collect(),
            Panels::Bf16(all) => all[half].iter().flat_map(|value| value.to_le_bytes()).collect(),
            Panels::Q8(matrix) => matrix.panel(nth),
            Panels::Q6(matrix) => matrix.panel(nth),
        }
    }
}

/// Writes the cache of a model: whole, or not at all.
///
/// # Errors
/// What the system says.
pub(super) fn write(path: &Path, loading: Loading, fingerprint: u64, model: &Model) -> Result<()> {
    let io = |source| Error::from(FormatError::Io { path: path.to_owned(), source });
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let file = File::create_new(&temporary).map_err(io)?;
    let written = write_to(BufWriter::with_capacity(1 << 20, file), loading, fingerprint, model)
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // What is left of it is of no use; that it may stay says nothing new.
        let _ = std::fs::remove_file(&temporary);
        io(error)
    })
}

fn write_to(mut out: impl Write, loading: Loading, fingerprint: u64, model: &Model) -> std::io::Result<()> {
    let matrices = matrices(model);
    let mut header = Header {
        version: VERSION,
        format: name_of(loading).unwrap_or("none").to_owned(),
        source: format!("{fingerprint:016x}"),
        matrices: matrices.iter().filter_map(|(name, linear)| entry(name, linear)).collect(),
    };
    // Offsets make the header longer, and are as long as those of the largest file at most.
    let room = serde_json::to_vec(&header)?.len() + 24 * header.matrices.len();
    let mut end = ((MAGIC.len() + 8 + room) as u64).next_multiple_of(ALIGN);
    for entry in &mut header.matrices {
        entry.offset = end;
        end = (end + entry.bytes).next_multiple_of(ALIGN);
    }
    let text = serde_json::to_vec(&header)?;
    out.write_all(&MAGIC)?;
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    let mut at = (MAGIC.len() + 8 + text.len()) as u64;
    let linears = matrices.iter().filter_map(|(_, linear)| Some((linear, packed(linear)?.0)));
    for (entry, (linear, panels)) in header.matrices.iter().zip(linears) {
        out.write_all(&vec![0; (entry.offset - at) as usize])?;
        let panel_bytes = panel_bytes(linear.kind(), linear.cols()).unwrap_or(0);
        for panel in 0..linear.rows().div_ceil(PANEL) {
            out.write_all(&panels.panel(panel, panel_bytes))?;
        }
        at = entry.offset + entry.bytes;
    }
    out.flush()
}

/// The matrices of a model by the names of their tensors, without `.weight`.
fn matrices(model: &Model) -> Vec<(String, &Linear)> {
    let mut matrices = vec![("token_embd".to_owned(), model.embedding())];
    for (index, layer) in model.layers().iter().enumerate() {
        matrices.extend(layer.linears().map(|(name, linear)| (format!("blk.{index}.{name}"), linear)));
    }
    if !model.config().tied {
        matrices.push(("output".to_owned(), model.head()));
    }
    matrices
}

/// What the header says of a matrix, its place apart.
fn entry(name: &str, linear: &Linear) -> Option<Entry> {
    let (panels, scale) = packed(linear)?;
    let panel_bytes = panel_bytes(linear.kind(), linear.cols())?;
    let mut entry = Entry {
        name: name.to_owned(),
        kind: linear.kind().to_owned(),
        rows: linear.rows() as u64,
        cols: linear.cols() as u64,
        scale: scale.to_bits(),
        offset: 0,
        bytes: linear.bytes() as u64,
        sum: String::new(),
    };
    let sum = Sum::of(&entry);
    let panels_of = 0..linear.rows().div_ceil(PANEL);
    panels_of.into_par_iter().for_each(|panel| sum.add(panel, &panels.panel(panel, panel_bytes)));
    entry.sum = format!("{:016x}", sum.value());
    Some(entry)
}
