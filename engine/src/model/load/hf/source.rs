//! The tensors of a Hugging Face folder as a source.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::formats::HfFolder;
use crate::formats::safetensors::{self, Dtype, Packing};
use crate::model::load::cache::{Fingerprint, ends, hash};
use crate::model::load::{Blocks, Pages, Rows, Source, Weight};
use crate::quant::Float16 as _;
use crate::quant::words::PackedTrits;

impl Source for HfFolder {
    type Weight<'a> = safetensors::Weight<'a>;

    fn names(&self) -> Vec<String> {
        let mut names = self.weight_names();
        if self.config().value("tie_word_embeddings") == Some(&true.into()) {
            // See `check_tied_head`.
            names.retain(|name| name != "output.weight");
        }
        names
    }

    fn weight(&self, name: &str) -> Option<Self::Weight<'_>> {
        HfFolder::weight(self, name)
    }

    fn missing(&self, name: &str, expected: String) -> Error {
        HfFolder::missing(self, name, expected).into()
    }
}

impl Fingerprint for HfFolder {
    fn fingerprint(&self) -> u64 {
        let config = hash(self.config().text().as_bytes());
        let files = self.stamps().flat_map(|(path, modified, bytes, header)| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            [hash(name), modified.map_or(0, |time| time as u64), bytes as u64, hash(header)]
        });
        let ends = self.tensors().iter().map(|tensor| ends(self.data(tensor)));
        hash(&[config].into_iter().chain(files).chain(ends).flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
    }
}

impl Weight for safetensors::Weight<'_> {
    fn dims(&self) -> &[u64] {
        self.dims()
    }

    fn wrong(&self, expected: &str, found: String) -> Error {
        safetensors::Weight::wrong(self, expected, found).into()
    }

    fn is_ternary(&self) -> bool {
        self.packing() != Packing::Float
    }

    fn floats(&self) -> Result<impl Rows<f32>> {
        let trits = match self.packing() {
            Packing::Float => None,
            _ => Some(safetensors::Weight::trits(self)?),
        };
        Ok(move |row: usize, out: &mut [f32]| {
            match &trits {
                None => self.row_to_f32(row, out)?,
                Some(trits) => trits.row_to_f32(row, out)?,
            }
            Ok(())
        })
    }

    fn trits(&self) -> Result<(f32, impl Rows<i8>)> {
        let trits = safetensors::Weight::trits(self)?;
        Ok((trits.scale(), move |row: usize, out: &mut [i8]| Ok(trits.row(row, out)?)))
    }

    fn packed(&self) -> Option<PackedTrits<'_>> {
        safetensors::Weight::packed(self)
    }

    fn halves(&self) -> Option<(&'static str, &[u8])> {
        let name = match (self.packing(), self.tensor().dtype()) {
            (Packing::Float, Dtype::F16) => half::f16::NAME,
            (Packing::Float, Dtype::BF16) => half::bf16::NAME,
            _ => return None,
        };
        Some((name, self.data()))
    }

    fn blocks(&self) -> Option<Blocks<'_>> {
        None
    }
}

impl Pages for safetensors::Weight<'_> {
    fn bytes(&self) -> usize {
        self.data().len()
    }

    fn row_bytes(&self) -> Option<usize> {
        (self.packing() != Packing::Packed).then(|| self.data().len() / self.rows().max(1))
    }

    fn release(&self, part: Range<usize>) {
        self.release_part(part);
    }
}
