//! The loops of aarch64.

use std::arch::{asm, is_aarch64_feature_detected};

use super::{BF16_ONE, Element, F32_ONE, INT8_ONE, Instruction, Lanes, ROUNDS, SLOT, SUMS};

/// A line of assembly, `I` being the number of the sum's register.
macro_rules! line {
    (@ $i:literal I) => { $i };
    (@ $i:literal $part:literal) => { $part };
    ($i:literal; $($part:tt),*) => { concat!($(line!(@ $i $part)),*, "\n") };
}

/// The line for each of the twelve sums; registers 8 to 15 are a caller's.
macro_rules! twelve {
    ($($p:tt),*) => {
        concat!(
            line!("0"; $($p),*), line!("1"; $($p),*), line!("2"; $($p),*), line!("3"; $($p),*),
            line!("4"; $($p),*), line!("5"; $($p),*), line!("6"; $($p),*), line!("7"; $($p),*),
            line!("16"; $($p),*), line!("17"; $($p),*), line!("18"; $($p),*), line!("19"; $($p),*)
        )
    };
}

/// A loop: the name, the extension of its instruction, and the line of a sum (operands in 30 and 31).
macro_rules! instruction_loop {
    ($name:ident, $extension:literal, $($p:tt),*) => {
        /// See [`super::Loop`].
        ///
        /// # Safety
        /// The CPU must have the instruction.
        unsafe fn $name(a: &[u8; SLOT], b: &[u8; SLOT], rounds: u32, out: &mut [u8; SUMS * SLOT]) {
            // SAFETY: reads 16 bytes from `a` and `b`, writes as many to each of the slots of `out`, and names all that
            // it changes; `rounds` is counted down from at least 1.
            unsafe {
                asm!(
                    $extension,
                    "ldr q30, [{a}]",
                    "ldr q31, [{b}]",
                    twelve!("movi v", I, ".4s, #0"),
                    "2:",
                    twelve!($($p),*),
                    "subs w9, w9, #1",
                    "b.ne 2b",
                    twelve!("str q", I, ", [x10], #64"),
                    a = in(reg) a.as_ptr(),
                    b = in(reg) b.as_ptr(),
                    inout("w9") rounds.max(1) => _,
                    inout("x10") out.as_mut_ptr() => _,
                    clobber_abi("C"),
                );
            }
        }
    };
}

instruction_loop!(fmla, "", "fmla v", I, ".4s, v30.4s, v31.4s");
instruction_loop!(sdot, ".arch_extension dotprod", "sdot v", I, ".4s, v30.16b, v31.16b");
instruction_loop!(smmla, ".arch_extension i8mm", "smmla v", I, ".4s, v30.16b, v31.16b");
instruction_loop!(bfdot, ".arch_extension bf16", "bfdot v", I, ".4s, v30.8h, v31.8h");
instruction_loop!(bfmmla, ".arch_extension bf16", "bfmmla v", I, ".4s, v30.8h, v31.8h");

/// The instructions for `element` that this CPU has, the fastest first.
pub(super) fn instructions(element: Element) -> Vec<Instruction> {
    let all = match element {
        Element::Int8 => vec![
            (is_aarch64_feature_detected!("i8mm"), "smmla", Lanes::I32(8), INT8_ONE, smmla as _),
            (is_aarch64_feature_detected!("dotprod"), "sdot", Lanes::I32(4), INT8_ONE, sdot as _),
        ],
        Element::Bf16 => vec![
            (is_aarch64_feature_detected!("bf16"), "bfmmla", Lanes::F32(4), BF16_ONE, bfmmla as _),
            (is_aarch64_feature_detected!("bf16"), "bfdot", Lanes::F32(2), BF16_ONE, bfdot as _),
        ],
        Element::F32 => vec![(true, "fmla", Lanes::F32(1), F32_ONE, fmla as super::Loop)],
    };
    let had = all.into_iter().filter(|(has, ..)| *has);
    had.map(|(_, name, lanes, one, run)| Instruction {
        name,
        width: 16,
        lanes,
        one,
        rounds: ROUNDS,
        rows: 1,
        paths: &[],
        run,
    })
    .collect()
}
