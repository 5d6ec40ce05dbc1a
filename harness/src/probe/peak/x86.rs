//! The loops of x86-64.

use std::arch::asm;

use super::{BF16_ONE, Element, F32_ONE, INT8_ONE, Instruction, Lanes, SLOT, SUMS};

/// A line of assembly, `I` being the number of the sum.
macro_rules! line {
    (@ $i:literal I) => { $i };
    (@ $i:literal $part:literal) => { $part };
    ($i:literal; $($part:tt),*) => { concat!($(line!(@ $i $part)),*, "\n") };
}

/// The line for each of the twelve sums.
macro_rules! twelve {
    ($($p:tt),*) => {
        concat!(
            line!("0"; $($p),*), line!("1"; $($p),*), line!("2"; $($p),*), line!("3"; $($p),*),
            line!("4"; $($p),*), line!("5"; $($p),*), line!("6"; $($p),*), line!("7"; $($p),*),
            line!("8"; $($p),*), line!("9"; $($p),*), line!("10"; $($p),*), line!("11"; $($p),*)
        )
    };
}

/// A loop: the name, the instruction that moves its registers, their kind, and the line of a sum (operands in 14 and 15).
macro_rules! instruction_loop {
    ($name:ident, $move:literal, $kind:literal, $($p:tt),*) => {
        /// See [`super::Loop`].
        ///
        /// # Safety
        /// The CPU must have the instruction.
        unsafe fn $name(a: &[u8; SLOT], b: &[u8; SLOT], rounds: u32, out: &mut [u8; SUMS * SLOT]) {
            // SAFETY: reads 64 bytes at most from `a` and `b`, writes as many to each of the slots of `out`, and names
            // all that it changes; `rounds` is counted down from at least 1.
            unsafe {
                asm!(
                    concat!($move, " ", $kind, "14, [{a}]"),
                    concat!($move, " ", $kind, "15, [{b}]"),
                    twelve!("vpxor xmm", I, ", xmm", I, ", xmm", I),
                    "2:",
                    twelve!($($p),*),
                    "dec ecx",
                    "jnz 2b",
                    twelve!($move, " [rdx], ", $kind, I, "\nadd rdx, 64"),
                    a = in(reg) a.as_ptr(),
                    b = in(reg) b.as_ptr(),
                    inout("ecx") rounds.max(1) => _,
                    inout("rdx") out.as_mut_ptr() => _,
                    clobber_abi("C"),
                );
            }
        }
    };
}

instruction_loop!(fma_ymm, "vmovdqu", "ymm", "vfmadd231ps ymm", I, ", ymm14, ymm15");
instruction_loop!(fma_zmm, "vmovdqu64", "zmm", "vfmadd231ps zmm", I, ", zmm14, zmm15");
instruction_loop!(bf16_zmm, "vmovdqu64", "zmm", "vdpbf16ps zmm", I, ", zmm14, zmm15");
instruction_loop!(maddubs, "vmovdqu", "ymm", "vpmaddubsw ymm12, ymm14, ymm15\nvpaddw ymm", I, ", ymm", I, ", ymm12");
instruction_loop!(vnni_ymm, "vmovdqu", "ymm", "{{vex}} vpdpbusd ymm", I, ", ymm14, ymm15");
instruction_loop!(vnni_zmm, "vmovdqu64", "zmm", "vpdpbusd zmm", I, ", zmm14, zmm15");

/// The instructions for `element` that this CPU has, the fastest first.
pub(super) fn instructions(element: Element) -> Vec<Instruction> {
    let (avx2, avx512) = (is_x86_feature_detected!("avx2"), is_x86_feature_detected!("avx512f"));
    let all = match element {
        Element::Int8 => vec![
            (
                avx512 && is_x86_feature_detected!("avx512vnni"),
                "vpdpbusd zmm",
                64,
                Lanes::I32(4),
                INT8_ONE,
                vnni_zmm as _,
            ),
            (avx2 && is_x86_feature_detected!("avxvnni"), "vpdpbusd ymm", 32, Lanes::I32(4), INT8_ONE, vnni_ymm as _),
            (avx2, "vpmaddubsw + vpaddw ymm", 32, Lanes::I16(2), INT8_ONE, maddubs as _),
        ],
        Element::Bf16 => vec![(
            avx512 && is_x86_feature_detected!("avx512bf16"),
            "vdpbf16ps zmm",
            64,
            Lanes::F32(2),
            BF16_ONE,
            bf16_zmm as _,
        )],
        Element::F32 => vec![
            (avx512, "vfmadd231ps zmm", 64, Lanes::F32(1), F32_ONE, fma_zmm as _),
            (avx2 && is_x86_feature_detected!("fma"), "vfmadd231ps ymm", 32, Lanes::F32(1), F32_ONE, fma_ymm as _),
        ],
    };
    let had = all.into_iter().filter(|(has, ..)| *has);
    had.map(|(_, name, width, lanes, one, run)| Instruction { name, width, lanes, one, run }).collect()
}
