//! Tensor types of GGUF files (`ggml_type`): name, values a block, bytes a block.

use std::fmt;

use crate::quant::tl;

/// How a tensor's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// 32 values: f16 scale, 16 bytes of nibbles offset by 8.
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 16 bytes of nibbles.
    Q4_1,
    /// 32 values: f16 scale, u32 of fifth bits, 16 bytes of nibbles, offset by 16.
    Q5_0,
    /// 32 values: f16 scale, 32 signed bytes.
    Q8_0,
    /// 256 values: f16 scale, f16 scale of minima, eight 6-bit scales and minima, 128 bytes of nibbles.
    Q4K,
    /// 256 values: low nibbles, high two bits, 16 signed scales, f16 scale.
    Q6K,
    /// 256 ternary values: five in a byte (48 bytes), four in a byte (4 bytes), f16 scale.
    Tq1_0,
    /// 256 ternary values: four in a byte, f16 scale.
    Tq2_0,
    /// bitnet.cpp's ternary tensors: four values in a byte in one of three layouts, then 32 bytes that begin with one
    /// f32 scale for the whole tensor.
    I2S,
    /// bitnet.cpp's pairs for its lookup kernels on ARM ([`crate::quant::tl`]); the scale is a tensor of its own.
    Tl1,
    /// bitnet.cpp's triples, signs and pairs for its lookup kernels on x86; the scale is a tensor of its own.
    Tl2,
    /// A type whose size is known but which is not read: its entry in the table of ggml types.
    Other(&'static OtherType),
}

/// A type that is known by name and size only.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct OtherType {
    id: u32,
    name: &'static str,
    block_len: u64,
    block_bytes: u64,
}

const fn other(id: u32, name: &'static str, block_len: u64, block_bytes: u64) -> OtherType {
    OtherType { id, name, block_len, block_bytes }
}

/// Sizes as `ggml-common.h` lays them out.
static OTHERS: [OtherType; 25] = [
    other(7, "Q5_1", 32, 24),
    other(9, "Q8_1", 32, 36),
    other(10, "Q2_K", 256, 84),
    other(11, "Q3_K", 256, 110),
    other(13, "Q5_K", 256, 176),
    other(15, "Q8_K", 256, 292),
    other(16, "IQ2_XXS", 256, 66),
    other(17, "IQ2_XS", 256, 74),
    other(18, "IQ3_XXS", 256, 98),
    other(19, "IQ1_S", 256, 50),
    other(20, "IQ4_NL", 32, 18),
    other(21, "IQ3_S", 256, 110),
    other(22, "IQ2_S", 256, 82),
    other(23, "IQ4_XS", 256, 136),
    other(24, "I8", 1, 1),
    other(25, "I16", 1, 2),
    other(26, "I32", 1, 4),
    other(27, "I64", 1, 8),
    other(28, "F64", 1, 8),
    other(29, "IQ1_M", 256, 56),
    other(37, "I8_S", 1, 1),
    other(39, "MXFP4", 32, 17),
    other(40, "NVFP4", 64, 36),
    other(41, "Q1_0", 128, 18),
    other(42, "Q2_0", 64, 18),
];

impl TensorType {
    /// The types whose rows can be read, for messages.
    pub const READABLE: &'static str =
        "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q5_0, Q6_K, TQ1_0, TQ2_0, I2_S, TL1 or TL2";

    /// The id that TL2 of bitnet.cpp and MXFP4 of ggml share.
    pub(super) const SHARED_ID: u32 = 39;

    /// The type with this id.
    ///
    /// # Errors
    ///
    /// The text that names an id which is unknown, or 39, which two programs give to types of their own: what a file gives
    /// tells them apart (`resolve`).
    pub fn from_id(id: u32) -> Result<Self, String> {
        Ok(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            14 => Self::Q6K,
            30 => Self::BF16,
            34 => Self::Tq1_0,
            35 => Self::Tq2_0,
            // ggml once had IQ4_NL_4_4, _4_8 and _8_8 here, which existed in memory only: a file's 36 to 38 are bitnet.cpp's.
            36 => Self::I2S,
            38 => Self::Tl1,
            Self::SHARED_ID => return Err(format!("type id {id}, which is TL2 of bitnet.cpp or MXFP4 of ggml")),
            _ => match OTHERS.iter().find(|t| t.id == id) {
                Some(known) => Self::Other(known),
                None => return Err(format!("unknown type id {id}")),
            },
        })
    }

    /// MXFP4 of ggml, the other meaning of [`Self::SHARED_ID`].
    pub(super) fn mxfp4() -> Self {
        OTHERS.iter().find(|t| t.id == Self::SHARED_ID).map_or(Self::Tl2, Self::Other)
    }

    /// The id of the type in files.
    #[must_use]
    pub fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q6K => 14,
            Self::BF16 => 30,
            Self::Tq1_0 => 34,
            Self::Tq2_0 => 35,
            Self::I2S => 36,
            Self::Tl1 => 38,
            Self::Tl2 => Self::SHARED_ID,
            Self::Other(known) => known.id,
        }
    }

    /// The name that ggml gives the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::I2S => "I2_S",
            Self::Tl1 => "TL1",
            Self::Tl2 => "TL2",
            Self::Other(known) => known.name,
        }
    }

    /// Values in one block; a row holds a whole number of blocks. TL2 has none: a row may have any number of values.
    #[must_use]
    pub fn block_len(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q6K | Self::Tq1_0 | Self::Tq2_0 => 256,
            Self::I2S | Self::Tl1 => 4,
            Self::Tl2 => 1,
            Self::Other(known) => known.block_len,
        }
    }

    /// Bytes in one block; of TL2, whose size depends on rows and columns ([`TensorType::data_bytes`]), 0.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q6K => 210,
            Self::Tq1_0 => 54,
            Self::Tq2_0 => 66,
            Self::I2S | Self::Tl1 => 1,
            Self::Tl2 => 0,
            Self::Other(known) => known.block_bytes,
        }
    }

    /// Bytes of a tensor of this shape (fastest dimension first), whose rows are whole numbers of blocks; `None` if they
    /// do not fit 64 bits, or the shape has no such tensor.
    #[must_use]
    pub fn data_bytes(self, dims: &[u64]) -> Option<u64> {
        let product = |dims: &[u64]| dims.iter().try_fold(1u64, |all, &dim| all.checked_mul(dim));
        if self == Self::Tl2 {
            product(dims)?;
            return tl::tl2_bytes(product(dims.get(1..)?)?, dims[0]);
        }
        let tail = if self == Self::I2S { I2S_TAIL } else { 0 };
        (product(dims)? / self.block_len()).checked_mul(self.block_bytes())?.checked_add(tail)
    }

    /// Whether every value is -1, 0 or 1 times a scale.
    #[must_use]
    pub fn is_ternary(self) -> bool {
        matches!(self, Self::Tq1_0 | Self::Tq2_0 | Self::I2S | Self::Tl1 | Self::Tl2)
    }
}

/// Bytes after the codes of an I2_S tensor; the first four are its scale.
pub(crate) const I2S_TAIL: u64 = 32;

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_give_their_names_and_sizes() {
        let sizes = [
            (0, "F32", 1, 4),
            (1, "F16", 1, 2),
            (2, "Q4_0", 32, 18),
            (3, "Q4_1", 32, 20),
            (8, "Q8_0", 32, 34),
            (14, "Q6_K", 256, 210),
            (30, "BF16", 1, 2),
            (6, "Q5_0", 32, 22),
            (12, "Q4_K", 256, 144),
            (34, "TQ1_0", 256, 54),
            (35, "TQ2_0", 256, 66),
            (37, "I8_S", 1, 1),
            (38, "TL1", 4, 1),
            (40, "NVFP4", 64, 36),
            (41, "Q1_0", 128, 18),
            (42, "Q2_0", 64, 18),
        ];
        for (id, name, len, bytes) in sizes {
            let kind = TensorType::from_id(id).unwrap();
            assert_eq!((kind.name(), kind.block_len(), kind.block_bytes()), (name, len, bytes));
            assert_eq!(kind.id(), id);
        }
    }

    #[test]
    fn an_id_with_two_meanings_is_refused_by_both_names() {
        let message = TensorType::from_id(39).unwrap_err();
        assert!(message.contains("TL2") && message.contains("MXFP4"), "{message}");
        assert!(TensorType::from_id(4).unwrap_err().contains("unknown type id 4"));
    }

    #[test]
    fn i2_s_has_its_scale_behind_the_codes() {
        let kind = TensorType::from_id(36).unwrap();
        assert_eq!(kind.data_bytes(&[128, 4]), Some(128 + 32));
        assert_eq!(TensorType::Tq2_0.data_bytes(&[512]), Some(132));
        assert_eq!(TensorType::F32.data_bytes(&[u64::MAX]), None);
        assert_eq!(TensorType::Tl2.data_bytes(&[256, 32]), Some(2048));
        assert_eq!(TensorType::Tl2.data_bytes(&[255, 32]), None);
        assert!(kind.is_ternary() && !TensorType::Q4_0.is_ternary());
    }
}
