//! Ternary tensors of a file: one scale, and the trits of a row.
//!
//! I2_S (bitnet.cpp, `src/ggml-bitnet-mad.cpp`) has three layouts under one type id, and nothing in a file says which: it
//! depends on the machine and the build that wrote it. x86 builds with `ACT_PARALLEL`, the default, wrote the published
//! files, so that is what a file is taken for whose shapes admit it. If they admit one other layout alone, it is that one.
//! Files written here name theirs in a key, and a layout that is asked for goes before all that. The same codes in
//! another order are codes too, so contents can only tell that a file is no I2_S at all (a code 3), not that the layout
//! is wrong.
//!
//! TL1 and TL2 are cut in tiles whose sizes are not in the file (see [`crate::quant::tl`]); their scale is the tensor
//! `<name>_scale`. Nibbles that no writer makes, and in TL2 a sign on a zero, are refused: the tiles of another kernel
//! config show in TL2 where they part triples from pairs elsewhere, else they move codes about unseen.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

use super::file::GgufFile;
use super::tensor::TensorInfo;
use super::types::TensorType;
use crate::formats::FormatError;
use crate::formats::error::shown;
use crate::quant::tl::{self, Tile};
use crate::quant::trits;
use crate::quant::words::{Layout, PackedTrits};

/// Where I2_S keeps a value's code (value + 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum I2sLayout {
    /// x86 builds: value j of each 128 of the tensor at bits 6 - 2 (j / 32) of byte j % 32 of 32.
    #[default]
    Blocks128,
    /// ARM builds: value j of each 64 of the tensor at bits 6 - 2 (j / 16) of byte j % 16 of 16.
    Blocks64,
    /// x86 builds without `ACT_PARALLEL`: a byte holds one column of four rows, the first at the top.
    Rows4,
}

impl FromStr for I2sLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "x86" => Ok(Self::Blocks128),
            "arm" => Ok(Self::Blocks64),
            "rows4" => Ok(Self::Rows4),
            _ => Err("expected x86 (blocks of 128), arm (blocks of 64) or rows4 (four rows a byte)".to_owned()),
        }
    }
}

impl fmt::Display for I2sLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks128 => "x86",
            Self::Blocks64 => "arm",
            Self::Rows4 => "rows4",
        })
    }
}

impl I2sLayout {
    /// The metadata key by which files written here name their layout.
    pub const KEY: &'static str = "tritmark.i2_s.layout";

    /// The layout of a file: the one it names, else the first that all its I2_S tensors fit.
    pub(super) fn told(named: Option<Self>, tensors: &[TensorInfo]) -> Self {
        let fits = |layout: &Self| {
            let mut ternary = tensors.iter().filter(|t| t.kind() == TensorType::I2S);
            ternary.all(|t| layout.misfit(t.rows(), t.cols()).is_none())
        };
        named.or_else(|| [Self::Blocks128, Self::Blocks64, Self::Rows4].into_iter().find(fits)).unwrap_or_default()
    }

    /// Byte and shift of a value.
    pub(crate) fn place(self, cols: usize, row: usize, col: usize) -> (usize, usize) {
        let at = row * cols + col;
        match self {
            Self::Blocks128 => (at / 128 * 32 + at % 32, 6 - at % 128 / 32 * 2),
            Self::Blocks64 => (at / 64 * 16 + at % 16, 6 - at % 64 / 16 * 2),
            Self::Rows4 => (row / 4 * cols + col, 6 - row % 4 * 2),
        }
    }

    /// What a shape must be for this layout, if it is not.
    pub(crate) fn misfit(self, rows: usize, cols: usize) -> Option<&'static str> {
        let (fits, expected) = match self {
            Self::Blocks128 => ((rows * cols).is_multiple_of(128), "a multiple of 128 values for the x86 layout"),
            Self::Blocks64 => ((rows * cols).is_multiple_of(64), "a multiple of 64 values for the arm layout"),
            Self::Rows4 => (rows.is_multiple_of(4), "a multiple of 4 rows for the rows4 layout"),
        };
        (!fits).then_some(expected)
    }
}

impl GgufFile {
    /// The one scale of a ternary tensor of this file.
    ///
    /// TQ1_0 and TQ2_0 have a scale for each 256 values: they are one ternary matrix if those of all blocks agree, or
    /// are 0 where the block holds zeros only.
    ///
    /// # Errors
    ///
    /// A type that is not ternary, a shape that does not fit the layout (or, for TL1 and TL2, has no tile in the kernel
    /// config), a scale that is missing, negative or not finite, blocks whose scales differ.
    pub fn ternary_scale(&self, tensor: &TensorInfo) -> Result<f32, FormatError> {
        let wrong = |expected: &str, found: String| tensor.wrong(self.path(), expected, found);
        let data = self.data(tensor);
        let sane = |scale: f32| match scale.is_finite() && scale >= 0.0 {
            true => Ok(scale),
            false => Err(wrong("a scale that is a finite number from 0 up", scale.to_string())),
        };
        let half = |block: &[u8]| half::f16::from_le_bytes([block[block.len() - 2], block[block.len() - 1]]).to_f32();
        match tensor.kind() {
            TensorType::I2S => {
                if let Some(expected) = self.i2s_layout().misfit(tensor.rows(), tensor.cols()) {
                    return Err(wrong(expected, format!("{} rows of {}", tensor.rows(), tensor.cols())));
                }
                // The shape was checked against the data's length: the codes and 32 bytes.
                let at = data.len() - 32;
                sane(f32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]))
            }
            TensorType::Tq1_0 | TensorType::Tq2_0 => {
                if let Some(scale) = one_scale(data, tensor.kind().block_bytes() as usize) {
                    return sane(scale);
                }
                let mut common = 0.0;
                for block in data.chunks_exact(tensor.kind().block_bytes() as usize) {
                    let scale = sane(half(block))?;
                    if scale != 0.0 && common != 0.0 && scale != common {
                        let found = format!("{common} and {scale}");
                        return Err(wrong("one scale for the whole tensor (or 0, where a block is all zeros)", found));
                    }
                    common = if scale == 0.0 { common } else { scale };
                }
                Ok(common)
            }
            TensorType::Tl1 | TensorType::Tl2 => {
                self.fitting_tile(tensor)?;
                sane(self.scale_beside(tensor)?)
            }
            other => Err(wrong(TERNARY, other.to_string())),
        }
    }

    /// The trits of a tensor whose [`GgufFile::ternary_scale`] is known, if panels can be made of them at once.
    pub(crate) fn packed_trits<'a>(&'a self, tensor: &TensorInfo) -> Option<PackedTrits<'a>> {
        let layout = match (tensor.kind(), self.i2s_layout()) {
            (TensorType::I2S, I2sLayout::Blocks128) => Layout::Blocks128,
            (TensorType::I2S, I2sLayout::Blocks64) => Layout::Blocks64,
            (TensorType::I2S, I2sLayout::Rows4) => Layout::Rows4,
            (TensorType::Tq1_0, _) => Layout::Tq1_0,
            (TensorType::Tq2_0, _) => Layout::Tq2_0,
            _ => return None,
        };
        PackedTrits::new(layout, self.data(tensor), tensor.rows(), tensor.cols())
    }

    /// The tile of a TL1 or TL2 tensor.
    fn tile(&self, tensor: &TensorInfo) -> Result<Tile, FormatError> {
        let shape = format!("m = {}, k = {}", tensor.rows(), tensor.cols());
        let tile = self.kernels().map(|kernels| kernels.tile(tensor.rows(), tensor.cols()));
        let found = match tile {
            Some(Some(tile)) => return Ok(tile),
            Some(None) => "a config without that shape",
            None => "none (--kernel-config names one)",
        };
        let expected = format!("a kernel config with a section for {shape}, by which {} is cut", tensor.kind());
        Err(tensor.wrong(self.path(), expected, found))
    }

    /// The same, if the shape fits it.
    fn fitting_tile(&self, tensor: &TensorInfo) -> Result<Tile, FormatError> {
        let tile = self.tile(tensor)?;
        let misfit = match tensor.kind() {
            TensorType::Tl1 => tl::tl1_misfit(tile, tensor.rows(), tensor.cols()),
            _ => tl::tl2_misfit(tile, tensor.rows(), tensor.cols()),
        };
        match misfit {
            None => Ok(tile),
            Some(expected) => {
                let found = format!("{} rows of {}", tensor.rows(), tensor.cols());
                Err(tensor.wrong(self.path(), expected, found))
            }
        }
    }

    /// Whether this is the scale of a TL1 or TL2 tensor of the file.
    pub(crate) fn is_scale(&self, tensor: &TensorInfo) -> bool {
        let of = tensor.name().strip_suffix("_scale").and_then(|name| self.tensor(name));
        of.is_some_and(|of| matches!(of.kind(), TensorType::Tl1 | TensorType::Tl2))
    }

    /// The scale of a TL1 or TL2 tensor: the F32 tensor `<name>_scale`.
    fn scale_beside(&self, tensor: &TensorInfo) -> Result<f32, FormatError> {
        let name = scale_name(tensor.name());
        let Some(scale) = self.tensor(&name) else {
            let (path, tensor) = (self.path().to_owned(), shown(&name));
            return Err(FormatError::MissingTensor { path, tensor, expected: "[1]".to_owned() });
        };
        if scale.kind() != TensorType::F32 || scale.dims().iter().any(|&dim| dim != 1) {
            let found = format!("{} {:?}", scale.kind(), scale.dims());
            return Err(scale.wrong(self.path(), "one F32 value, the scale of its tensor", found));
        }
        let bytes = self.data(scale);
        Ok(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Decodes row `row` of a ternary tensor of this file into `out`: -1, 0 or 1.
    ///
    /// # Errors
    ///
    /// A code that is no trit, which says where; a type that is not ternary.
    ///
    /// # Panics
    ///
    /// When `row` or the length of `out` does not fit the tensor, or the shape does not fit the layout, which
    /// [`GgufFile::ternary_scale`] tells.
    pub fn ternary_row(&self, tensor: &TensorInfo, row: usize, out: &mut [i8]) -> Result<(), FormatError> {
        let cols = tensor.cols();
        assert!(row < tensor.rows() && out.len() == cols);
        let data = self.data(tensor);
        let row_bytes = data.len() / tensor.rows();
        match tensor.kind() {
            TensorType::I2S => {
                let layout = self.i2s_layout();
                for (col, out) in out.iter_mut().enumerate() {
                    let (byte, shift) = layout.place(cols, row, col);
                    *out = (data[byte] >> shift & 3) as i8 - 1;
                }
            }
            TensorType::Tq1_0 => blocks(&data[row * row_bytes..][..row_bytes], out, trits::tq1_0),
            TensorType::Tq2_0 => blocks(&data[row * row_bytes..][..row_bytes], out, trits::tq2_0),
            TensorType::Tl1 => tl::tl1_row(data, self.tile(tensor)?, row, out),
            TensorType::Tl2 => tl::tl2_row(data, self.tile(tensor)?, tensor.rows(), row, out),
            other => return Err(tensor.wrong(self.path(), TERNARY, other.to_string())),
        }
        let Some(col) = out.iter().position(|&trit| trit > 1) else {
            return Ok(());
        };
        let place = format!("in row {row}, column {col}");
        Err(match tensor.kind() {
            TensorType::Tl1 => tensor.wrong(self.path(), "nibbles of 0 to 8", format!("a larger one {place}")),
            TensorType::Tl2 => {
                let expected = "triples of 0 to 13, a 0 without a sign, and pairs of 0 to 8";
                tensor.wrong(self.path(), expected, format!("another {place} (or tiles of another kernel config)"))
            }
            _ => tensor.wrong(self.path(), "codes 0, 1 and 2 (-1, 0 and 1)", format!("code 3 {place}")),
        })
    }
}

/// The scale of all blocks that have one other than 0, read in parallel; `None` if there is no such scale.
fn one_scale(data: &[u8], block_bytes: usize) -> Option<f32> {
    let bits = |block: &[u8]| u16::from_le_bytes([block[block_bytes - 2], block[block_bytes - 1]]);
    let common = data.chunks_exact(block_bytes).map(bits).find(|bits| bits & 0x7fff != 0)?;
    let same = |block: &[u8]| bits(block) == common || bits(block) & 0x7fff == 0;
    let all = data.par_chunks(block_bytes * 1024).all(|blocks| blocks.chunks_exact(block_bytes).all(same));
    all.then(|| half::f16::from_bits(common).to_f32())
}

/// What [`TensorType::is_ternary`] says, for messages.
const TERNARY: &str = "a ternary tensor (I2_S, TQ1_0, TQ2_0, TL1 or TL2)";

/// The tensor that holds the scale of a TL1 or TL2 tensor.
pub(crate) fn scale_name(tensor: &str) -> String {
    format!("{tensor}_scale")
}

/// Decodes blocks of 256; one whose scale is 0 holds zeros, whatever its codes say.
fn blocks<const BYTES: usize>(bytes: &[u8], out: &mut [i8], decode: impl Fn(&[u8; BYTES]) -> [i8; trits::BLOCK]) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<{ trits::BLOCK }>();
    for (block, out) in blocks.iter().zip(outs) {
        let zero = block[BYTES - 2] == 0 && block[BYTES - 1] & 0x7f == 0;
        *out = if zero { [0; trits::BLOCK] } else { decode(block) };
    }
}
