//! GGUF files of synthetic models.

use std::borrow::Cow;
use std::path::Path;

use super::describe::{architecture, config_metadata, linear_factor};
use super::encode::{Item, Role};
use super::gguf::write;
use super::rows::{Permuted, Rows};
use super::{Options, Report};
use crate::error::Result;
use crate::formats::gguf::Meta;
use crate::linear::Linear;
use crate::model::{Config, Format, Model, RopeStyle};
use crate::synthetic::{SyntheticSpec, build};

/// Makes a synthetic model and writes it, its embedding and head as F16 unless another type is asked for. The file has no
/// tokenizer; one without text in it says so (`tokenizer.ggml.model` is `none`).
///
/// # Errors
/// A specification that does not make sense, a shape that the packing cannot have, the operating system's answer.
pub fn synthetic_to_gguf(spec: &SyntheticSpec, path: &Path, options: &Options) -> Result<Report> {
    let model = build(spec, Format::Ternary)?;
    let mut metadata = config_metadata(model.config())?;
    metadata.set("general.name", format!("synthetic, seed {}", spec.seed).as_str());
    metadata.set("tokenizer.ggml.model", Meta::Text("none".to_owned()));
    write(path, metadata, &items(&model), options)
}

/// Every tensor of a model by its GGUF name, the rows of `llama`'s queries and keys in the order that its files have.
fn items(model: &Model) -> Vec<Item<'_>> {
    let config = model.config();
    let mut items = vec![matrix("token_embd", Role::Embedding, model.embedding(), None)];
    if !config.rope_factors.is_empty() && linear_factor(config).is_none() {
        items.push(vector("rope_freqs.weight", &config.rope_factors));
    }
    for (index, layer) in model.layers().iter().enumerate() {
        for ((name, _), values) in config.vectors().into_iter().zip(layer.vectors()) {
            let turned = matches!(name, "attn_q.bias" | "attn_k.bias") && interleaved_in_files(config);
            let order = Permuted { rows: (), head_dim: config.head_dim, to_halves: false };
            items.extend(values.map(|values| match turned {
                true => vector(&format!("blk.{index}.{name}"), order.permute(values)),
                false => vector(&format!("blk.{index}.{name}"), values),
            }));
        }
        for (name, linear) in layer.linears() {
            let turned = matches!(name, "attn_q" | "attn_k") && interleaved_in_files(config);
            matrix_into(&mut items, &format!("blk.{index}.{name}"), linear, turned.then_some(config.head_dim));
        }
    }
    items.push(vector("output_norm.weight", model.output_norm()));
    if !config.tied {
        items.push(matrix("output", Role::Embedding, model.head(), None));
    }
    items
}

/// Whether a model that turns i and i + d/2 together is of an architecture whose files have the other order.
fn interleaved_in_files(config: &Config) -> bool {
    architecture(config) == "llama" && config.rope == RopeStyle::Neox
}

fn matrix_into<'a>(items: &mut Vec<Item<'a>>, name: &str, linear: &'a Linear, head_dim: Option<usize>) {
    items.push(matrix(name, Role::Linear, linear, head_dim));
}

fn matrix<'a>(name: &str, role: Role, linear: &'a Linear, head_dim: Option<usize>) -> Item<'a> {
    let rows: Box<dyn Rows + 'a> = match head_dim {
        Some(head_dim) => Box::new(Permuted { rows: LinearRows(linear), head_dim, to_halves: false }),
        None => Box::new(LinearRows(linear)),
    };
    let dims = vec![linear.cols() as u64, linear.rows() as u64];
    Item { name: format!("{name}.weight"), dims, role, rows }
}

pub(super) fn vector<'a>(name: &str, values: impl Into<Cow<'a, [f32]>>) -> Item<'a> {
    let values = values.into();
    let dims = vec![values.len() as u64];
    Item { name: name.to_owned(), dims, role: Role::Other, rows: Box::new(VectorRows(values)) }
}

/// A linear layer in memory.
struct LinearRows<'a>(&'a Linear);

impl Rows for LinearRows<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.0.rows(), self.0.cols())
    }

    fn scale(&self) -> Result<Option<f32>> {
        Ok(match self.0 {
            Linear::Ternary(matrix) => Some(matrix.scale()),
            _ => None,
        })
    }

    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()> {
        if let Linear::Ternary(matrix) = self.0 {
            out.iter_mut().enumerate().for_each(|(col, trit)| *trit = matrix.weight(row, col));
        }
        Ok(())
    }

    fn values(&self, row: usize, out: &mut [f32]) -> Result<()> {
        self.0.row_to_f32(row, out);
        Ok(())
    }
}

/// A vector in memory.
struct VectorRows<'a>(Cow<'a, [f32]>);

impl Rows for VectorRows<'_> {
    fn shape(&self) -> (usize, usize) {
        (1, self.0.len())
    }

    fn scale(&self) -> Result<Option<f32>> {
        Ok(None)
    }

    fn trits(&self, _: usize, out: &mut [i8]) -> Result<()> {
        out.fill(0);
        Ok(())
    }

    fn values(&self, _: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.0);
        Ok(())
    }
}
