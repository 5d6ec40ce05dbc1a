//! How a GGUF file scales RoPE.

use super::Reader;
use crate::error::Result;
use crate::formats::error::shown;
use crate::formats::gguf::TensorInfo;

/// One divisor a pair of a head: LLaMA 3's, which llama.cpp's converter writes out.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

impl Reader<'_> {
    /// The divisors of RoPE's frequencies, one a pair; none if RoPE is not scaled. As llama.cpp has it, the factor of
    /// linear scaling and the file's own divisors multiply.
    pub(super) fn rope_factors(&self, head_dim: usize) -> Result<Vec<f32>> {
        let linear = self.linear_factor()?;
        match self.file.tensor(ROPE_FREQS) {
            Some(tensor) => self.rope_freqs(tensor, head_dim / 2, linear),
            None if linear == 1.0 => Ok(Vec::new()),
            None => Ok(vec![linear; head_dim / 2]),
        }
    }

    /// The factor of linear scaling: llama.cpp's default type, so that a factor alone means it. 0 means 1 there.
    fn linear_factor(&self) -> Result<f32> {
        let file = self.file;
        let kind = self.key("rope.scaling.type");
        match file.opt_str(&kind)? {
            Some("none") => return Ok(1.0),
            None | Some("linear") => {}
            Some(other) => {
                let expected = "none or linear (or none and rope_freqs.weight, as LLaMA 3 has it)";
                return Err(file.wrong_key(&kind, expected, shown(other)).into());
            }
        }
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            let key = self.key(key);
            match file.opt_f32(&key)? {
                None => {}
                Some(0.0) => return Ok(1.0),
                Some(factor) if factor.is_finite() && factor > 0.0 => return Ok(factor),
                Some(other) => {
                    return Err(file.wrong_key(&key, "a finite number above 0", other.to_string()).into());
                }
            }
        }
        Ok(1.0)
    }

    fn rope_freqs(&self, tensor: &TensorInfo, pairs: usize, linear: f32) -> Result<Vec<f32>> {
        let file = self.file;
        if tensor.dims() != [pairs as u64] {
            let expected = format!("[{pairs}], one a pair of a head");
            return Err(tensor.wrong(file.path(), expected, format!("{:?}", tensor.dims())).into());
        }
        let mut factors = vec![0.0; pairs];
        file.row_to_f32(tensor, 0, &mut factors)?;
        factors.iter_mut().for_each(|factor| *factor *= linear);
        match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            Some(factor) => Err(tensor.wrong(file.path(), "finite factors above 0", factor.to_string()).into()),
            None => Ok(factors),
        }
    }
}
