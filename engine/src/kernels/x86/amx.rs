//! Ternary weights by AMX: tiles of 16 rows of 64 bytes and `tdpbsud`, signed activations times unsigned codes.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18 (programming with AMX) and
//! volume 2 (the instructions). The instructions are written in assembly: the intrinsics are not stable.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

use crate::kernels::wide::Group;
use crate::quant::PANEL;

/// Columns that one instruction multiplies.
pub(crate) const STEP: usize = 64;
/// Tokens that [`Tiles::wide`] takes, two tiles.
pub(crate) const TOKENS: usize = 32;
/// Bytes of the sums of 16 tokens.
const SUMS_BYTES: usize = 16 * 2 * PANEL * size_of::<i32>();

/// Whether the CPU has AMX-INT8 and the system grants this process its tiles.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && granted())
}

/// Whether the CPU has AMX-TILE and AMX-INT8, and the system keeps the tiles' state (XCR0 bits 17 and 18).
fn has_instructions() -> bool {
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    const TILES: u64 = 3 << 17;
    if !is_x86_feature_detected!("xsave") || !is_x86_feature_detected!("avx512f") {
        return false;
    }
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: AVX-512 is detected only where the system has enabled XGETBV.
    let state = unsafe { enabled_state() };
    features & AMX_TILE != 0 && features & AMX_INT8 != 0 && state & TILES == TILES
}

#[target_feature(enable = "xsave")]
fn enabled_state() -> u64 {
    // SAFETY: register 0 exists wherever the instruction does.
    unsafe { _xgetbv(0) }
}

/// Asks Linux (5.16 and later) for the tiles, for all threads of the process: `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`
/// (the kernel's Documentation/arch/x86/xstate.rst).
#[cfg(target_os = "linux")]
fn granted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: the system call takes two numbers, touches no memory of ours, and clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

/// Other systems' ways to grant tiles are not known to this code.
#[cfg(not(target_os = "linux"))]
fn granted() -> bool {
    false
}

/// What `ldtilecfg` reads: palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tiles configured on this thread for as long as it lives.
pub(crate) struct Tiles(());

impl Tiles {
    /// Configures the tiles.
    ///
    /// # Safety
    /// [`available`] has said so.
    pub(crate) unsafe fn configure() -> Tiles {
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: the instruction exists, as the caller promises, and reads the 64 bytes of a valid `config`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags, readonly)) };
        Tiles(())
    }

    /// Adds to `sums` (of [`TOKENS`] tokens and two panels) the products of unpacked weights (`[column / 4][2 panels]`, a
    /// multiple of [`STEP`] columns) and the activations of as many tokens, which begin `stride` apart in `activations`.
    pub(crate) fn wide(
        &self,
        weights: &[Group],
        activations: &[i8],
        stride: usize,
        sums: &mut [[i32; 2 * PANEL]; TOKENS],
    ) {
        let steps = weights.len() / (2 * STEP / 4);
        assert!(steps > 0 && weights.len() == steps * 2 * STEP / 4, "whole steps of two panels");
        assert!(activations.len() >= (TOKENS - 1) * stride + steps * STEP, "activations of {TOKENS} tokens");
        // SAFETY: tiles are configured as 16 rows of 64 bytes. Loads of weights: rows of 64 bytes, 128 apart, 16 of each panel a
        // step, within `weights`. Loads of activations: 64 bytes a step and token, within `activations` (both asserted above).
        // Loads and stores of sums: 16 tokens x 64 bytes of each panel, 128 bytes apart, four of them within `sums`.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 64]",
                "tileloadd tmm2, [{sums} + {row} + {second}]",
                "tileloadd tmm3, [{sums} + {row} + {second} + 64]",
                "2:",
                "tileloadd tmm4, [{first} + {stride}]",
                "tileloadd tmm6, [{weights} + {row}]",
                "tileloadd tmm5, [{other} + {stride}]",
                "tileloadd tmm7, [{weights} + {row} + 64]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tdpbsud tmm1, tmm4, tmm7",
                "tdpbsud tmm2, tmm5, tmm6",
                "tdpbsud tmm3, tmm5, tmm7",
                "add {first}, 64",
                "add {other}, 64",
                "add {weights}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 64], tmm1",
                "tilestored [{sums} + {row} + {second}], tmm2",
                "tilestored [{sums} + {row} + {second} + 64], tmm3",
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) 2 * PANEL * size_of::<i32>(),
                second = const SUMS_BYTES,
                first = inout(reg) activations.as_ptr() => _,
                other = inout(reg) activations.as_ptr().add(TOKENS / 2 * stride) => _,
                stride = in(reg) stride,
                weights = inout(reg) weights.as_ptr() => _,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles, so the instruction exists.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}
