//! Instruction sets: detecting, naming and forcing them.

use std::fmt;
use std::str::FromStr;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::x86::avx512;
use crate::error::{Error, Result};

/// A code path of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the definition of every result.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-VNNI (and all of [`Isa::Avx2`], whose kernels it takes for all but ternary weights and
    /// int8 caches).
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI (and all of [`Isa::Avx2`]); with AVX-512 BF16, if the CPU has it and sums
    /// as it should, also for bf16 weights.
    Avx512,
    /// x86-64 with AMX-INT8, its tiles granted by the system (and all of [`Isa::Avx512`], whose kernels it takes for all
    /// but the prefill of ternary weights).
    Amx,
}

impl Isa {
    /// All code paths, slowest first.
    pub const ALL: [Isa; 5] = [Isa::Scalar, Isa::Avx2, Isa::AvxVnni, Isa::Avx512, Isa::Amx];

    /// The name used in requests and records.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }

    /// The fastest path that this CPU can run.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rfind(|isa| isa.detected()).unwrap_or(Isa::Scalar)
    }

    /// Every path that this CPU can run, slowest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.detected()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn detected(self) -> bool {
        let avx2 =
            || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => avx2(),
            Isa::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
            Isa::Avx512 => {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Isa::Amx => Isa::Avx512.detected() && super::x86::amx::available(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detected(self) -> bool {
        self == Isa::Scalar
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| Error::UnknownIsa { name: name.to_owned() })
    }
}

/// Proof that the CPU can run a code path; every kernel takes one.
///
/// The field is private and [`Kernels::new`] the only way to make a value, so that holding one is what makes calling
/// the path's `target_feature` functions sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    isa: Isa,
    /// See [`Kernels::multiplies_bf16`].
    bf16: bool,
    /// See [`Kernels::batches_by_bf16`].
    bf16_batches: bool,
    /// See [`Kernels::asks_ahead`].
    asks_ahead: bool,
}

impl Kernels {
    /// The kernels of `isa`, or of [`Isa::best`] for `None`.
    ///
    /// # Errors
    /// [`Error::IsaUnavailable`] if the CPU lacks the path asked for: forcing never falls back.
    pub fn new(isa: Option<Isa>) -> Result<Kernels> {
        let isa = isa.unwrap_or_else(Isa::best);
        if isa.detected() {
            let bf16 = matches!(isa, Isa::Avx512 | Isa::Amx) && multiplies_bf16();
            let intel = made_by_intel();
            return Ok(Kernels { isa, bf16, bf16_batches: bf16 && !intel, asks_ahead: intel });
        }
        let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        Err(Error::IsaUnavailable { wanted: isa.name(), available: names.join(", ") })
    }

    /// The path these kernels run.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Whether `vdpbf16ps` is there (only on [`Isa::Avx512`] and [`Isa::Amx`]), and sums as bf16 layers are defined.
    pub(crate) fn multiplies_bf16(self) -> bool {
        self.bf16
    }

    /// Whether several tokens are multiplied by it too. On Intel's CPUs it has half the operations a second of f32
    /// multiply-adds (120 against 239 Gop/s measured on Granite Rapids; AMD's Zen 5 is said to have twice as many), so that weights widened once for
    /// all tokens are faster there. One token is bound by memory either way, and the bits are the same.
    pub(crate) fn batches_by_bf16(self) -> bool {
        self.bf16_batches
    }

    /// Whether AVX2's decoding of f16 and bf16 asks for memory ahead. On a Zen 3 the hardware does it better: asking 8 to 64
    /// columns ahead to the first-level cache cost 1 to 26 % of the speed out of DRAM (f16). On an Emerald Rapids a token of
    /// 2B4T took 14 % less time with it (f16; bf16 is taken to be alike).
    pub(crate) fn asks_ahead(self) -> bool {
        self.asks_ahead
    }

    /// The same path for a CPU without that instruction.
    #[cfg(test)]
    pub(crate) fn without_bf16(self) -> Kernels {
        Kernels { bf16: false, bf16_batches: false, ..self }
    }

    /// The same path for a CPU on which that instruction, where it is there, is the faster.
    #[cfg(test)]
    pub(crate) fn with_bf16_batches(self) -> Kernels {
        Kernels { bf16_batches: self.bf16, ..self }
    }

    /// The path of kernels that AMX adds nothing to.
    pub(crate) fn vectors(self) -> Isa {
        if self.isa == Isa::Amx { Isa::Avx512 } else { self.isa }
    }

    /// The path of kernels that neither AMX nor AVX-VNNI adds anything to.
    pub(crate) fn base(self) -> Isa {
        if self.isa == Isa::AvxVnni { Isa::Avx2 } else { self.vectors() }
    }
}

/// What AVX-512 has beyond its path's name: found out once.
#[cfg(target_arch = "x86_64")]
fn multiplies_bf16() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    // SAFETY: asked for only where AVX-512 and FMA are there, and run only if AVX-512 BF16 is.
    *FOUND.get_or_init(|| is_x86_feature_detected!("avx512bf16") && unsafe { avx512::bf16::as_defined() })
}

#[cfg(target_arch = "x86_64")]
fn made_by_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn multiplies_bf16() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn made_by_intel() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_refused() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse::<Isa>().unwrap(), isa);
        }
        assert!("avx1024".parse::<Isa>().unwrap_err().to_string().contains("avx1024"));
    }

    #[test]
    fn best_is_available_and_scalar_always_is() {
        let available = Isa::available();
        assert_eq!(available[0], Isa::Scalar);
        assert_eq!(*available.last().unwrap(), Isa::best());
        assert_eq!(Kernels::new(None).unwrap().isa(), Isa::best());
    }

    #[test]
    fn a_forced_path_is_taken_or_refused() {
        for isa in Isa::ALL {
            match Kernels::new(Some(isa)) {
                Ok(kernels) => assert_eq!(kernels.isa(), isa),
                Err(error) => assert!(error.to_string().contains(isa.name()) && !Isa::available().contains(&isa)),
            }
        }
    }
}
