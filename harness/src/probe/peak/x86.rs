//! The loops of x86-64.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use super::{BF16_ONE, Element, F32_ONE, INT8_ONE, Instruction, Lanes, Loop, ROUNDS, SLOT, SUMS};

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

/// Rounds of [`tiles`], of which each is six instructions of 16 cycles.
const TILE_ROUNDS: u32 = ROUNDS / 16;

/// `tdpbssd` on six tiles; the sums written are rows 0 and 8 of each. See [`super::Loop`].
///
/// # Safety
/// [`has_tiles`] has said that there are tiles.
unsafe fn tiles(a: &[u8; SLOT], b: &[u8; SLOT], rounds: u32, out: &mut [u8; SUMS * SLOT]) {
    /// Rows of a tile.
    const ROWS: usize = 16;
    let mut config = [0u8; SLOT];
    config[0] = 1;
    config[16..32].chunks_exact_mut(2).for_each(|bytes| bytes[0] = SLOT as u8);
    config[48..56].fill(ROWS as u8);
    let mut sums = [[[0u8; SLOT]; ROWS]; SUMS / 2];
    // SAFETY: there are tiles, as the caller promises; `config` is a valid one (palette 1, eight tiles of 16 rows of 64
    // bytes). Every row of the operands is read from the 64 bytes of `a` and `b` (stride 0), 16 rows of 64 bytes are written
    // to each of the six `sums`; the tiles are given up at the end, and all that changes is named.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tileloadd tmm6, [{a} + {zero}]",
            "tileloadd tmm7, [{b} + {zero}]",
            "2:",
            "tdpbssd tmm0, tmm6, tmm7",
            "tdpbssd tmm1, tmm6, tmm7",
            "tdpbssd tmm2, tmm6, tmm7",
            "tdpbssd tmm3, tmm6, tmm7",
            "tdpbssd tmm4, tmm6, tmm7",
            "tdpbssd tmm5, tmm6, tmm7",
            "dec {rounds:e}",
            "jnz 2b",
            "tilestored [{sums} + {slot}], tmm0",
            "tilestored [{sums} + {slot} + 1024], tmm1",
            "tilestored [{sums} + {slot} + 2048], tmm2",
            "tilestored [{sums} + {slot} + 3072], tmm3",
            "tilestored [{sums} + {slot} + 4096], tmm4",
            "tilestored [{sums} + {slot} + 5120], tmm5",
            "tilerelease",
            config = in(reg) config.as_ptr(),
            a = in(reg) a.as_ptr(),
            b = in(reg) b.as_ptr(),
            zero = in(reg) 0usize,
            rounds = inout(reg) rounds.max(1) => _,
            sums = in(reg) sums.as_mut_ptr(),
            slot = in(reg) SLOT,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    let halves = sums.iter().flat_map(|rows| [rows[0], rows[ROWS / 2]]);
    out.chunks_exact_mut(SLOT).zip(halves).for_each(|(out, row)| out.copy_from_slice(&row));
}

/// Whether the CPU has AMX-TILE and AMX-INT8 (CPUID leaf 7), and Linux grants this process its tiles (`arch_prctl`,
/// ARCH_REQ_XCOMP_PERM of XTILEDATA: the kernel's Documentation/arch/x86/xstate.rst).
fn has_tiles() -> bool {
    const AMX_TILE_AND_INT8: u32 = 3 << 24;
    // Without the system's XSAVE no tile is ever granted.
    let has = __cpuid_count(7, 0).edx & AMX_TILE_AND_INT8 == AMX_TILE_AND_INT8 && is_x86_feature_detected!("avx512f");
    if !has || !cfg!(target_os = "linux") {
        return false;
    }
    let mut result = 158isize;
    // SAFETY: the system call takes two numbers, touches no memory of ours, and clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") 0x1023, in("rsi") 18, lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    result == 0
}

/// The instructions for `element` that this CPU has, the fastest first.
pub(super) fn instructions(element: Element) -> Vec<Instruction> {
    let (avx2, avx512) = (is_x86_feature_detected!("avx2"), is_x86_feature_detected!("avx512f"));
    let vector = |name, width, lanes, one, paths, run| Instruction {
        name,
        width,
        lanes,
        one,
        rounds: ROUNDS,
        rows: 1,
        paths,
        run,
    };
    let zmm = |name, lanes, one, paths, run| vector(name, 64, lanes, one, paths, run);
    let ymm = |name, lanes, one, paths, run| vector(name, 32, lanes, one, paths, run);
    let tile = Instruction {
        rounds: TILE_ROUNDS,
        rows: 8,
        ..zmm("tdpbssd tmm", Lanes::I32(64), INT8_ONE, &["amx"], tiles as Loop)
    };
    let (four, one) = (Lanes::I32(4), Lanes::F32(1));
    let (fma, avxvnni) = (is_x86_feature_detected!("fma"), is_x86_feature_detected!("avxvnni"));
    let all = match element {
        Element::Int8 => vec![
            (avx512 && has_tiles(), tile),
            (
                avx512 && is_x86_feature_detected!("avx512vnni"),
                zmm("vpdpbusd zmm", four, INT8_ONE, &["avx512"], vnni_zmm as Loop),
            ),
            (avx2 && avxvnni, ymm("vpdpbusd ymm", four, INT8_ONE, &["avxvnni"], vnni_ymm)),
            (avx2, ymm("vpmaddubsw + vpaddw ymm", Lanes::I16(2), INT8_ONE, &["avx2"], maddubs)),
        ],
        Element::Bf16 => vec![(
            avx512 && is_x86_feature_detected!("avx512bf16"),
            zmm("vdpbf16ps zmm", Lanes::F32(2), BF16_ONE, &["avx512", "amx"], bf16_zmm as Loop),
        )],
        Element::F32 => vec![
            (avx512, zmm("vfmadd231ps zmm", one, F32_ONE, &["avx512", "amx"], fma_zmm as Loop)),
            (avx2 && fma, ymm("vfmadd231ps ymm", one, F32_ONE, &["avx2", "avxvnni"], fma_ymm)),
        ],
    };
    all.into_iter().filter(|(has, _)| *has).map(|(_, instruction)| instruction).collect()
}
