//! A weight as its folder's convention reads it.

use std::fmt;
use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;

use super::folder::HfFolder;
use super::header::{Dtype, TensorInfo};
use super::names::is_block_linear;
use super::quantisation::Convention;
use crate::formats::FormatError;
use crate::quant::Float16 as _;
use crate::quant::words::{Layout, PackedTrits};

/// What a tensor's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Floats, as they stand.
    Float,
    /// Four codes (trit + 1) a byte: bits 2 i of byte (r, c) hold row r + i R, column c, of 4 R rows.
    Packed,
    /// Trits, one a float: what transformers writes when it saves an `autobitlinear` model that it unpacked.
    Loose,
    /// Floats to be quantised by their mean (see [`Convention::Online`]).
    Master,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Packing::Float => "as it stands",
            Packing::Packed => "packed trits",
            Packing::Loose => "trits",
            Packing::Master => "master weights",
        })
    }
}

/// A tensor of a folder, read as its convention says.
#[derive(Clone, Debug)]
pub struct Weight<'a> {
    folder: &'a HfFolder,
    tensor: &'a TensorInfo,
    packing: Packing,
    dims: Vec<u64>,
}

impl<'a> Weight<'a> {
    pub(super) fn new(folder: &'a HfFolder, tensor: &'a TensorInfo) -> Self {
        let module = tensor.name().strip_suffix(".weight").filter(|module| is_block_linear(module));
        let quantised = module.is_some_and(|module| folder.quantisation().converts(module));
        let packing = match (quantised, folder.convention(), tensor.dtype()) {
            (false, ..) | (true, Convention::Plain, _) => Packing::Float,
            (true, Convention::Online, _) => Packing::Master,
            (true, Convention::Multiplies, Dtype::F32 | Dtype::F16 | Dtype::BF16) => Packing::Loose,
            (true, Convention::Multiplies | Convention::Divides, _) => Packing::Packed,
        };
        let mut dims: Vec<u64> = tensor.shape().iter().rev().copied().collect();
        if let (Packing::Packed, Some(rows)) = (packing, dims.last_mut()) {
            *rows = rows.saturating_mul(4);
        }
        Weight { folder, tensor, packing, dims }
    }

    /// The tensor as the file has it.
    #[must_use]
    pub fn tensor(&self) -> &'a TensorInfo {
        self.tensor
    }

    /// What its values are.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// The shape of the weights, not of their packing, in GGUF's order: a matrix is `[inputs, outputs]`.
    #[must_use]
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// Values in one row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.tensor.cols()
    }

    /// Rows: outputs of a matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tensor.rows().saturating_mul(if self.packing == Packing::Packed { 4 } else { 1 })
    }

    /// Its bytes as stored.
    pub(crate) fn data(&self) -> &'a [u8] {
        self.folder.data(self.tensor)
    }

    /// See [`HfFolder::release`].
    pub(crate) fn release(&self) {
        self.release_part(0..self.data().len());
    }

    /// The same for a part of its bytes.
    pub(crate) fn release_part(&self, part: Range<usize>) {
        self.folder.release(self.tensor, part);
    }

    /// Packed trits of which panels are made at once.
    pub(crate) fn packed(&self) -> Option<PackedTrits<'a>> {
        let packed = self.packing == Packing::Packed && *self.tensor.dtype() == Dtype::U8;
        packed.then(|| PackedTrits::new(Layout::Hf, self.data(), self.rows(), self.cols()))?
    }

    /// The error that names this tensor.
    pub(crate) fn wrong(&self, expected: impl Into<String>, found: impl Into<String>) -> FormatError {
        self.tensor.wrong(self.folder.shard_path(self.tensor), expected, found)
    }

    /// The weights as trits and a scale. Takes a pass over master weights.
    ///
    /// # Errors
    /// A tensor that is not ternary; a dtype or scale that does not fit; master weights that are not finite.
    pub fn trits(&self) -> Result<Trits<'_>, FormatError> {
        if self.packing != Packing::Float && (self.rows() == 0 || self.cols() == 0) {
            return Err(self.wrong("dimensions of at least 1", format!("shape {:?}", self.tensor.shape())));
        }
        let (scale, factor) = match self.packing {
            Packing::Float => {
                let expected = "ternary weights for the ternary engine (the f16 engine runs this model)";
                let found = format!("{}, and no quantization_config that makes it ternary", self.tensor.dtype());
                return Err(self.wrong(expected, found));
            }
            Packing::Master => {
                let factor = 1.0 / (self.mean()? as f32).max(1e-5);
                (1.0 / factor, factor)
            }
            Packing::Packed | Packing::Loose => (self.scale()?, 1.0),
        };
        if self.packing == Packing::Packed && *self.tensor.dtype() != Dtype::U8 {
            return Err(self.wrong("U8 (packed trits)", self.tensor.dtype().to_string()));
        }
        Ok(Trits { weight: self, scale, factor })
    }

    /// Decodes row `row` into `out`, which holds [`Weight::cols`] values, trits times their scale if it has a scale.
    /// For a whole ternary matrix, [`Trits::row_to_f32`] is faster.
    ///
    /// # Errors
    /// As [`Weight::trits`] and [`Trits::row`]; a dtype that is not read; a value that is NaN or infinite.
    ///
    /// # Panics
    /// If `row` or the length of `out` does not fit.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) -> Result<(), FormatError> {
        match self.packing {
            Packing::Float => self.raw_row(row, out),
            _ => self.trits()?.row_to_f32(row, out),
        }
    }

    /// The floats of a row as stored.
    fn raw_row(&self, row: usize, out: &mut [f32]) -> Result<(), FormatError> {
        assert!(row < self.tensor.rows() && out.len() == self.cols(), "row {row}");
        let data = self.folder.data(self.tensor);
        let row_bytes = data.len() / self.tensor.rows();
        let bytes = &data[row * row_bytes..][..row_bytes];
        match self.tensor.dtype() {
            Dtype::F32 => each::<4>(bytes, out, f32::from_le_bytes),
            Dtype::F16 => each::<2>(bytes, out, |b| f16::from_le_bytes(b).widen()),
            Dtype::BF16 => each::<2>(bytes, out, |b| bf16::from_le_bytes(b).widen()),
            other => return Err(self.wrong("F32, F16 or BF16", other.to_string())),
        }
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(col) => Err(self.wrong("finite weights", format!("{} in row {row}, column {col}", out[col]))),
        }
    }

    /// The mean of the absolute values. Sums are in f64 and by row, so it does not depend on the number of threads;
    /// torch's, in f32, may differ from it in the last bit.
    fn mean(&self) -> Result<f64, FormatError> {
        let (rows, cols) = (self.tensor.rows(), self.cols());
        let sum = |row: usize| {
            let mut values = vec![0.0; cols];
            self.raw_row(row, &mut values)?;
            Ok(values.iter().map(|v| f64::from(v.abs())).sum::<f64>())
        };
        let sums = (0..rows).into_par_iter().map(sum).collect::<Result<Vec<f64>, FormatError>>()?;
        let count = (rows as f64 * cols as f64).max(1.0);
        Ok(sums.iter().sum::<f64>() / count)
    }

    /// What trits are multiplied by, of the `weight_scale` beside the tensor.
    fn scale(&self) -> Result<f32, FormatError> {
        let name = format!("{}_scale", self.tensor.name());
        let Some(tensor) = self.folder.tensor(&name) else {
            return Err(self.folder.missing(&name, "[1]".to_owned()));
        };
        let weight = Weight { folder: self.folder, tensor, packing: Packing::Float, dims: Vec::new() };
        if tensor.rows() != 1 || tensor.cols() != 1 {
            return Err(weight.wrong("one value", format!("shape {:?}", tensor.shape())));
        }
        let mut value = [0.0];
        weight.raw_row(0, &mut value)?;
        let scale = match self.folder.convention() {
            Convention::Divides => 1.0 / value[0],
            _ => value[0],
        };
        match scale.is_finite() && scale >= 0.0 {
            true => Ok(scale),
            false => {
                let divides = self.folder.convention() == Convention::Divides;
                let expected = if divides { "a number above 0 to divide by" } else { "a number from 0 up" };
                Err(weight.wrong(expected, value[0].to_string()))
            }
        }
    }
}

/// The trits of a [`Weight`].
#[derive(Clone, Debug)]
pub struct Trits<'a> {
    weight: &'a Weight<'a>,
    scale: f32,
    /// What master weights are multiplied by before they are rounded.
    factor: f32,
}

impl Trits<'_> {
    /// What trits are multiplied by.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Decodes row `row` into `out`, which holds [`Weight::cols`] values: -1, 0 or 1.
    ///
    /// # Errors
    /// A code or float that is no trit, master weights that are not finite; both say where.
    ///
    /// # Panics
    /// If `row` or the length of `out` does not fit.
    pub fn row(&self, row: usize, out: &mut [i8]) -> Result<(), FormatError> {
        let weight = self.weight;
        if weight.packing == Packing::Packed {
            return self.packed_row(row, out);
        }
        let mut values = vec![0.0; weight.cols()];
        weight.raw_row(row, &mut values)?;
        for (col, (out, &value)) in out.iter_mut().zip(&values).enumerate() {
            *out = match weight.packing {
                Packing::Master => (value * self.factor).round_ties_even().clamp(-1.0, 1.0) as i8,
                _ if value == 0.0 || value.abs() == 1.0 => value as i8,
                _ => return Err(weight.wrong("-1, 0 and 1", format!("{value} in row {row}, column {col}"))),
            };
        }
        Ok(())
    }

    fn packed_row(&self, row: usize, out: &mut [i8]) -> Result<(), FormatError> {
        let (tensor, cols) = (self.weight.tensor, self.weight.cols());
        let stored = tensor.rows();
        assert!(row < self.weight.rows() && out.len() == cols, "row {row}");
        let bytes = &self.weight.folder.data(tensor)[row % stored * cols..][..cols];
        let shift = row / stored * 2;
        for (out, byte) in out.iter_mut().zip(bytes) {
            *out = (byte >> shift & 3) as i8 - 1;
        }
        match out.iter().position(|&trit| trit > 1) {
            None => Ok(()),
            Some(col) => {
                let found = format!("code 3 in row {row}, column {col}");
                Err(self.weight.wrong("codes 0, 1 and 2 (-1, 0 and 1)", found))
            }
        }
    }

    /// As [`Trits::row`], times the scale.
    ///
    /// # Errors
    /// As [`Trits::row`].
    ///
    /// # Panics
    /// As [`Trits::row`].
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) -> Result<(), FormatError> {
        let mut trits = vec![0; out.len()];
        self.row(row, &mut trits)?;
        out.iter_mut().zip(trits).for_each(|(out, trit)| *out = f32::from(trit) * self.scale);
        Ok(())
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    let (values, _) = bytes.as_chunks::<N>();
    for (out, &bytes) in out.iter_mut().zip(values) {
        *out = value(bytes);
    }
}
