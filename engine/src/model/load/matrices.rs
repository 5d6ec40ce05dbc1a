//! Weights of a source into packed matrices.

use super::loading::Blocks;
use super::sweep::Sweep;
use super::{Loader, Source, Weight};
use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::model::Format;
use crate::quant::plain::Arithmetic;
use crate::quant::words::PackedTrits;
use crate::quant::{Base3Matrix, Float16, Float16Matrix, PANEL, PlainMatrix, Q6Matrix, Q8Matrix, TernaryMatrix};

impl<S: Source> Loader<'_, S> {
    pub(super) fn ternary(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let weight = self.find(name, &[cols as u64, rows as u64])?;
        let (scale, trits_of) = weight.trits()?;
        let sweep = Sweep::new(&weight, rows);
        let Some(packed) = weight.packed() else {
            let row = |row: usize, out: &mut [i8]| {
                trits_of(row, out)?;
                sweep.done(row..row + 1);
                Ok(())
            };
            return match self.loading.format {
                Format::Base3 | Format::Base3Sparse => {
                    Base3Matrix::from_rows(rows, cols, scale, row).map(Linear::Base3)
                }
                _ => TernaryMatrix::from_rows(rows, cols, scale, row).map(Linear::Ternary),
            };
        };
        let fill = |panel: usize, words: &mut [u32]| {
            packed.panel(panel, words);
            Ok(())
        };
        let made = match self.loading.format {
            Format::Base3 | Format::Base3Sparse => Base3Matrix::from_words(rows, cols, scale, fill).map(Linear::Base3),
            _ => TernaryMatrix::from_words(rows, cols, scale, fill).map(Linear::Ternary),
        };
        made.or_else(|error| {
            if let Error::Weight { row: bad, .. } = error {
                // The file's own error, which names it.
                trits_of(bad, &mut vec![0; cols])?;
            }
            Err(error)
        })
    }

    pub(super) fn reference_ternary(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let weight = self.find(name, &[cols as u64, rows as u64])?;
        let (scale, trits_of) = weight.trits()?;
        let _sweep = Sweep::new(&weight, rows);
        let arithmetic = Arithmetic::Ternary { scale };
        let matrix = PlainMatrix::from_rows(rows, cols, arithmetic, |row, out| {
            let mut trits = vec![0; cols];
            trits_of(row, &mut trits)?;
            out.iter_mut().zip(trits).for_each(|(out, trit)| *out = f32::from(trit));
            Ok(())
        })?;
        Ok(Linear::Plain(matrix))
    }

    pub(super) fn float16<E: Float16>(&self, name: &str, rows: usize, cols: usize) -> Result<Float16Matrix<E>> {
        let weight = self.find(name, &[cols as u64, rows as u64])?;
        let (floats, ternary) = (weight.floats()?, weight.is_ternary());
        let sweep = Sweep::new(&weight, rows);
        let row = |row: usize, out: &mut [E]| {
            let mut values = vec![0.0; cols];
            floats(row, &mut values)?;
            sweep.done(row..row + 1);
            E::narrow_all(&values, out);
            let wild = out.iter().fold(false, |any, out| any | !out.finite());
            match ternary || wild {
                true => refuse_unfit(&weight, row, &values, out),
                false => Ok(()),
            }
        };
        if let Some((_, bytes)) = weight.halves().filter(|(name, _)| *name == E::NAME) {
            let row_bytes = cols * size_of::<E>();
            return Float16Matrix::try_from_panels(rows, cols, |panel, values| {
                let range = panel * PANEL..rows.min((panel + 1) * PANEL);
                let bytes = &bytes[range.start * row_bytes..range.end * row_bytes];
                if !Float16Matrix::panel_of_bytes(bytes, cols, values) {
                    // One of them says which it is.
                    range.clone().try_for_each(|r| row(r, &mut vec![E::ZERO; cols]))?;
                }
                sweep.done(range);
                Ok(())
            });
        }
        if let Some((packed, codes)) = one_scale(&weight) {
            return Float16Matrix::try_from_panels(rows, cols, |panel, values| {
                let mut words = vec![0; PANEL * cols.div_ceil(crate::quant::words::COLS)];
                packed.panel(panel, &mut words);
                if words.iter().any(|word| word & word >> 1 & 0x5555_5555 != 0) {
                    let range = panel * PANEL..rows.min((panel + 1) * PANEL);
                    range.clone().try_for_each(|r| row(r, &mut vec![E::ZERO; cols]))?;
                }
                Float16Matrix::panel_of_words(&words, codes, cols, values);
                Ok(())
            });
        }
        Float16Matrix::from_rows(rows, cols, row)
    }

    /// An embedding or head that stays what it is in the file, of the same weights and scales; `None` where it does not.
    pub(super) fn kept(&self, name: &str, rows: usize, cols: usize) -> Result<Option<Linear>> {
        let weight = self.find(name, &[cols as u64, rows as u64])?;
        let Some(blocks) = self.loading.kept(&weight) else { return Ok(None) };
        let (floats, sweep) = (weight.floats()?, Sweep::new(&weight, rows));
        let fill = |row: usize, out: &mut [u8]| {
            out.copy_from_slice(&blocks.bytes()[row * out.len()..][..out.len()]);
            if !blocks.finite(out) {
                // The file's own error, which names it.
                floats(row, &mut vec![0.0; cols])?;
            }
            sweep.done(row..row + 1);
            Ok(())
        };
        Ok(Some(match blocks {
            Blocks::Q8_0(_) => Linear::Q8(Q8Matrix::from_blocks(rows, cols, fill)?),
            Blocks::Q6K(_) => Linear::Q6(Q6Matrix::from_blocks(rows, cols, fill)?),
        }))
    }

    pub(super) fn reference(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let weight = self.find(name, &[cols as u64, rows as u64])?;
        let ternary = self.source.names().iter().any(|name| self.is_ternary(name));
        let arithmetic = if ternary { Arithmetic::F32 } else { Arithmetic::F64 };
        let (floats, sweep) = (weight.floats()?, Sweep::new(&weight, rows));
        let row = |row: usize, out: &mut [f32]| {
            floats(row, out)?;
            sweep.done(row..row + 1);
            Ok(())
        };
        PlainMatrix::from_rows(rows, cols, arithmetic, row).map(Linear::Plain)
    }
}

/// The trits of a weight that has one scale, of which every weight is that of its code in `E`; `None` if the scale does
/// not fit `E` (which is an error only if a weight is not 0), or has a value for each block.
fn one_scale<E: Float16, W: Weight>(weight: &W) -> Option<(PackedTrits<'_>, [E; 4])> {
    let packed = weight.is_ternary().then(|| weight.packed())??;
    let (scale, _) = weight.trits().ok()?;
    let codes = [E::narrow(-scale), E::ZERO, E::narrow(scale), E::ZERO];
    let fits = codes[2].finite() && (codes[2].widen() != 0.0 || scale == 0.0);
    (packed.has_one_scale() && fits).then_some((packed, codes))
}

/// An error if a value became none, or those of a ternary tensor 0.
fn refuse_unfit<E: Float16>(weight: &impl Weight, row: usize, values: &[f32], out: &[E]) -> Result<()> {
    let ternary = weight.is_ternary();
    for (col, (out, &value)) in out.iter().zip(values).enumerate() {
        // Of a ternary tensor every weight but 0 is the scale: rounded to 0, all of them would be gone.
        if ternary && (!out.finite() || out.widen() == 0.0 && value != 0.0) {
            return Err(weight.wrong(&format!("a scale that fits {}", E::NAME), value.abs().to_string()));
        }
        if !out.finite() {
            let found = format!("{value} in row {row}, column {col}");
            return Err(weight.wrong(&format!("weights that fit {}", E::NAME), found));
        }
    }
    Ok(())
}
