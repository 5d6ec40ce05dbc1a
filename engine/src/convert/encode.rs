//! One tensor into the form it is written in.

use super::rows::Rows;
use super::{Options, Report, Target};
use crate::error::{Error, Result};
use crate::formats::gguf::{Planned, TensorType, Writer, scale_name};
use crate::quant::blocks;
use crate::quant::pack::{self, Packer, Packing};

/// What a tensor is for, which decides what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A linear layer of a block.
    Linear,
    /// Embedding or output head.
    Embedding,
    /// Anything else: kept, or F32 where it comes from elsewhere.
    Other,
}

impl Role {
    /// The role of a tensor by its GGUF name.
    pub(crate) fn of(name: &str) -> Self {
        const LINEARS: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.1.strip_suffix(".weight"));
        match part {
            Some(part) if LINEARS.contains(&part) => Self::Linear,
            _ if matches!(name, "token_embd.weight" | "output.weight") => Self::Embedding,
            _ => Self::Other,
        }
    }
}

/// A tensor to convert.
pub(crate) struct Item<'a> {
    /// Its GGUF name.
    pub(crate) name: String,
    /// Its shape, fastest dimension first.
    pub(crate) dims: Vec<u64>,
    pub(crate) role: Role,
    pub(crate) rows: Box<dyn Rows + 'a>,
}

/// How a tensor is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// Its bytes as they are.
    Stored(TensorType),
    /// Row by row.
    Float(TensorType),
    /// Ternary; `round` is what values are multiplied by before they are rounded, where they are not trits already.
    Ternary { packing: Packing, scale: f32, round: Option<f32> },
}

impl Form {
    /// The type in GGUF files.
    fn kind(self) -> TensorType {
        match self {
            Self::Stored(kind) | Self::Float(kind) => kind,
            // Hugging Face's packing is not for GGUF files, and is not asked for there.
            Self::Ternary { packing, .. } => packing.tensor_type().unwrap_or(TensorType::I2S),
        }
    }

    /// Whether the scale is a tensor of its own.
    fn scale_beside(self) -> Option<f32> {
        match self {
            Self::Ternary { packing: Packing::Tl1(_) | Packing::Tl2(_), scale, .. } => Some(scale),
            _ => None,
        }
    }
}

/// Decides the form of every tensor.
pub(crate) struct Planner<'a> {
    pub(crate) options: &'a Options,
}

impl Planner<'_> {
    /// The form of one tensor.
    ///
    /// # Errors
    /// A shape that the target cannot have, weights that are not ternary, whatever is wrong with the tensor.
    pub(crate) fn form(&self, item: &Item<'_>) -> Result<Form> {
        let kept = || match item.rows.stored() {
            Some((kind, _)) if !matches!(kind, TensorType::Tl1 | TensorType::Tl2) => Form::Stored(kind),
            // Norms and the like come as F32 from elsewhere; an embedding, as wide as it was held.
            _ => Form::Float(if item.role == Role::Embedding { TensorType::F16 } else { TensorType::F32 }),
        };
        match item.role {
            Role::Other => Ok(kept()),
            Role::Embedding => match self.options.embedding {
                None => Ok(kept()),
                Some(kind) => self.float(item, kind),
            },
            Role::Linear => match self.options.target {
                Target::Float(kind) => self.float(item, kind),
                _ => self.ternary(item),
            },
        }
    }

    fn float(&self, item: &Item<'_>, kind: TensorType) -> Result<Form> {
        let cols = item.dims[0];
        if cols.is_multiple_of(kind.block_len()) {
            return Ok(Form::Float(kind));
        }
        self.fallback(item, format!("columns that are a multiple of {} ({kind})", kind.block_len()))
    }

    /// The form of a tensor that the target cannot have.
    fn fallback(&self, item: &Item<'_>, expected: String) -> Result<Form> {
        match self.options.fallback {
            Some(kind) if item.dims[0].is_multiple_of(kind.block_len()) => Ok(Form::Float(kind)),
            _ => {
                let expected = format!("{expected}; --fallback f16 writes such tensors as F16");
                Err(wrong(item, expected, format!("{:?}", item.dims)))
            }
        }
    }

    fn packing(&self, item: &Item<'_>, rows: usize, cols: usize) -> Result<Packing> {
        let tile = || {
            let tile = self.options.kernels.as_ref().and_then(|kernels| kernels.tile(rows, cols));
            let expected = format!("a kernel config (--to-kernel-config) with a section for m = {rows}, k = {cols}");
            tile.ok_or_else(|| wrong(item, expected, "none".to_owned()))
        };
        Ok(match self.options.target {
            Target::I2s(layout) => Packing::I2s(layout),
            Target::Tq1_0 | Target::Float(_) => Packing::Tq1_0,
            Target::Tq2_0 => Packing::Tq2_0,
            Target::Tl1 => Packing::Tl1(tile()?),
            Target::Tl2 => Packing::Tl2(tile()?),
            Target::Hf => Packing::Hf,
        })
    }

    fn ternary(&self, item: &Item<'_>) -> Result<Form> {
        let (rows, cols) = item.rows.shape();
        let packing = self.packing(item, rows, cols)?;
        if let Some(expected) = packing.misfit(rows, cols) {
            return self.fallback(item, expected);
        }
        if let Some(scale) = item.rows.scale()? {
            return Ok(Form::Ternary { packing, scale, round: None });
        }
        let found = survey(item)?;
        item.rows.done();
        match (found.other, self.options.quantise) {
            (None, _) => Ok(Form::Ternary { packing, scale: found.largest, round: Some(1.0 / found.largest) }),
            (Some(_), true) => {
                let inverse = 1.0 / found.mean;
                Ok(Form::Ternary { packing, scale: 1.0 / inverse, round: Some(inverse) })
            }
            (Some(place), false) => {
                let expected = "weights that are -s, 0 or s for one s (--quantise makes others so)".to_owned();
                Err(wrong(item, expected, place))
            }
        }
    }
}

/// What the values of a tensor are.
struct Survey {
    /// The largest magnitude.
    largest: f32,
    /// The mean magnitude, at least 1e-5 (the scale of BitNet b1.58).
    mean: f32,
    /// A magnitude that is neither 0 nor the largest, and where.
    other: Option<String>,
}

fn survey(item: &Item<'_>) -> Result<Survey> {
    let (rows, cols) = item.rows.shape();
    let mut values = vec![0.0; cols];
    let (mut largest, mut sum, mut other) = (0.0f32, 0.0f64, None);
    for row in 0..rows {
        item.rows.values(row, &mut values)?;
        for (col, value) in values.iter().enumerate() {
            let size = value.abs();
            sum += f64::from(size);
            if size != 0.0 && size != largest {
                if largest != 0.0 {
                    other.get_or_insert_with(|| format!("{largest} and {value} (row {row}, column {col})"));
                }
                largest = largest.max(size);
            }
        }
    }
    let mean = ((sum / (rows as f64 * cols as f64)) as f32).max(1e-5);
    Ok(Survey { largest, mean, other })
}

fn wrong(item: &Item<'_>, expected: String, found: String) -> Error {
    Error::Tensor { name: item.name.clone(), expected, found }
}

/// The table entries of a tensor: itself, and its scale where that is a tensor of its own.
pub(crate) fn planned(item: &Item<'_>, form: Form) -> Vec<Planned> {
    let own = Planned { name: item.name.clone(), dims: item.dims.clone(), kind: form.kind() };
    let beside =
        form.scale_beside().map(|_| Planned { name: scale_name(&item.name), dims: vec![1], kind: TensorType::F32 });
    std::iter::once(own).chain(beside).collect()
}

/// Writes a tensor (and its scale) as planned.
///
/// # Errors
/// Whatever is wrong with the tensor, values that the type cannot hold, the operating system's answer.
pub(crate) fn write(item: &Item<'_>, form: Form, writer: &mut Writer, report: &mut Report) -> Result<()> {
    let mut put = |bytes: &[u8]| Ok(writer.write(bytes)?);
    encode(item, form, &mut put, report)?;
    if let Some(scale) = form.scale_beside() {
        writer.write(&scale.to_le_bytes())?;
    }
    item.rows.done();
    Ok(())
}

/// Bytes of stored tensors that are written at once.
const CHUNK: usize = 1 << 20;

/// A tensor's bytes, part by part.
pub(crate) fn encode(
    item: &Item<'_>,
    form: Form,
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    match form {
        Form::Stored(_) => {
            let bytes = item.rows.stored().map_or(&[][..], |(_, bytes)| bytes);
            bytes.chunks(CHUNK).try_for_each(put)?;
        }
        Form::Float(kind) => floats(item, kind, put, report)?,
        Form::Ternary { packing, scale, round } => {
            let bytes = ternary(item, packing, scale, round, report)?;
            put(&bytes)?;
            report.converted += 1;
        }
    }
    report.tensors += 1;
    Ok(())
}

fn floats(
    item: &Item<'_>,
    kind: TensorType,
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    let (rows, cols) = item.rows.shape();
    let (mut values, mut back, mut bytes) = (vec![0.0; cols], vec![0.0; cols], Vec::new());
    let mut changed = 0usize;
    for row in 0..rows {
        item.rows.values(row, &mut values)?;
        bytes.clear();
        pack::floats(kind, &values, &mut bytes).map_err(|expected| wrong(item, expected, format!("row {row}")))?;
        if kind != TensorType::F32 {
            let _ = blocks::dequantise(kind, &bytes, &mut back);
            changed += values.iter().zip(&back).filter(|(a, b)| a != b).count();
        }
        put(&bytes)?;
    }
    if changed > 0 {
        let all = rows * cols;
        report.inexact.push(format!("{}: {changed} of {all} values rounded to {kind}", item.name));
    }
    report.converted += usize::from(item.role == Role::Linear);
    Ok(())
}

fn ternary(item: &Item<'_>, packing: Packing, scale: f32, round: Option<f32>, report: &mut Report) -> Result<Vec<u8>> {
    let (rows, cols) = item.rows.shape();
    let found = |expected| wrong(item, expected, format!("{rows} rows of {cols}, scale {scale}"));
    let mut packer = Packer::new(packing, rows, cols, scale).map_err(found)?;
    let (mut trits, mut values) = (vec![0i8; cols], vec![0.0; if round.is_some() { cols } else { 0 }]);
    let (mut rounded, mut nonzero) = (false, false);
    for row in 0..rows {
        match round {
            None => item.rows.trits(row, &mut trits)?,
            Some(inverse) => {
                item.rows.values(row, &mut values)?;
                for (trit, value) in trits.iter_mut().zip(&values) {
                    *trit = if scale == 0.0 { 0 } else { nearest(value * inverse) };
                    rounded |= f32::from(*trit) * scale != *value;
                }
            }
        }
        nonzero |= trits.iter().any(|&trit| trit != 0);
        packer.row(row, &trits);
    }
    let half = matches!(packing, Packing::Tq1_0 | Packing::Tq2_0);
    if rounded {
        report.inexact.push(format!("{}: quantised with the scale {scale}, its weights' mean magnitude", item.name));
    }
    if !packing.holds_scale(scale) {
        let held = half::f16::from_f32(scale);
        report.inexact.push(format!("{}: scale {scale} rounded to f16 {held}", item.name));
    } else if half && nonzero != (scale != 0.0) {
        let what = if nonzero { "weights behind a scale of 0" } else { "scale of zeros only" };
        report.inexact.push(format!("{}: the {what} is not kept by blocks with scales of their own", item.name));
    }
    Ok(packer.finish())
}

/// The trit nearest to a number, ties to even as torch rounds.
fn nearest(value: f32) -> i8 {
    value.round_ties_even().clamp(-1.0, 1.0) as i8
}
