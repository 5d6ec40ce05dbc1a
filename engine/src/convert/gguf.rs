//! GGUF files from GGUF files.

use std::path::Path;

use super::encode::{self, Form, Item, Planner, Role};
use super::rows::GgufRows;
use super::{Options, Report, Target};
use crate::error::Result;
use crate::formats::GgufFile;
use crate::formats::gguf::{I2sLayout, KERNELS_KEY, Meta, Metadata, TensorType, Writer};

/// The version of ggml's quantised formats that files are written in.
const QUANTISATION_VERSION: u32 = 2;

/// Writes `file` again with its linear layers as `options` ask.
///
/// # Errors
/// Whatever is wrong with the file; a tensor that cannot become what is asked; the operating system's answer. Nothing is
/// left at `path` then.
pub fn gguf_to_gguf(file: &GgufFile, path: &Path, options: &Options) -> Result<Report> {
    write(path, file.metadata(), &gguf_items(file), options)
}

/// The tensors of a file, scales that are tensors of their own apart.
pub(crate) fn gguf_items(file: &GgufFile) -> Vec<Item<'_>> {
    let tensors = file.tensors().iter().filter(|tensor| !file.is_scale(tensor));
    tensors
        .map(|tensor| Item {
            name: tensor.name().to_owned(),
            dims: tensor.dims().to_vec(),
            role: Role::of(tensor.name()),
            rows: Box::new(GgufRows { file, tensor }),
        })
        .collect()
}

/// Writes a file of these tensors.
pub(super) fn write(path: &Path, mut metadata: Metadata, items: &[Item<'_>], options: &Options) -> Result<Report> {
    let planner = Planner { options };
    let forms = items.iter().map(|item| planner.form(item)).collect::<Result<Vec<Form>>>()?;
    let planned: Vec<_> = items.iter().zip(&forms).flat_map(|(item, form)| encode::planned(item, *form)).collect();
    describe(&mut metadata, options);
    let mut writer = Writer::create(path, &metadata, &planned)?;
    let mut report = Report::default();
    for (item, form) in items.iter().zip(forms) {
        encode::write(item, form, &mut writer, &mut report)?;
    }
    writer.finish()?;
    Ok(report)
}

/// Sets the keys that say how the tensors are stored.
fn describe(metadata: &mut Metadata, options: &Options) {
    metadata.remove("general.alignment");
    metadata.remove(I2sLayout::KEY);
    metadata.remove(KERNELS_KEY);
    metadata.set("general.file_type", Meta::U32(file_type(options.target)));
    metadata.set("general.quantization_version", Meta::U32(QUANTISATION_VERSION));
    match options.target {
        Target::I2s(layout) => {
            metadata.set(I2sLayout::KEY, layout.to_string().as_str());
        }
        Target::Tl1 | Target::Tl2 => {
            let text = options.kernels.as_ref().map(|kernels| kernels.text()).unwrap_or_default();
            metadata.set(KERNELS_KEY, text.as_str());
        }
        _ => {}
    }
}

/// `general.file_type`: llama.cpp's `llama_ftype`; of bitnet.cpp's, 40 for I2_S and, as its converter has it, the ids of
/// the tensors for TL1 and TL2.
fn file_type(target: Target) -> u32 {
    let Some(kind) = target.tensor_type() else { return 1 };
    match kind {
        TensorType::F32 => 0,
        TensorType::Q8_0 => 7,
        TensorType::BF16 => 32,
        TensorType::Tq1_0 => 36,
        TensorType::Tq2_0 => 37,
        TensorType::Tl1 => 38,
        TensorType::Tl2 => 39,
        TensorType::I2S => 40,
        _ => 1,
    }
}
