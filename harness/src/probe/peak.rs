//! Peak rates of multiply-add instructions: the limit that prefill is held against.
//!
//! Each thread, pinned, runs one instruction on twelve independent sums in registers, which is enough to hide its latency
//! on any core with two units; nothing is loaded in the loop. The sums are checked.

use super::lockstep::{lockstep, median, rate};

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use arm::instructions;
#[cfg(target_arch = "x86_64")]
use x86::instructions;

/// Sums that a loop keeps.
pub(crate) const SUMS: usize = 12;
/// Bytes that each sum has in the output, of which the instruction's width is used.
const SLOT: usize = 64;
/// Rounds of a call: sums in f32 stay exact (below 2^24), and those that wrap do not end at a round number.
const ROUNDS: u32 = 1_000_001;
/// Calls of a pass.
const CALLS: usize = 4;
/// Passes where the figure stands for a whole run.
pub const THOROUGH: usize = 12;
/// Passes before a cell.
pub const QUICK: usize = 6;

/// Element types whose products are summed; the sums are wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// int8 x int8 into i32 (into i16 where a CPU has no such instruction).
    Int8,
    /// bf16 x bf16 into f32.
    Bf16,
    /// f32 fused multiply-add.
    F32,
}

impl Element {
    /// All of them.
    pub const ALL: [Element; 3] = [Element::Int8, Element::Bf16, Element::F32];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Element::Int8 => "int8",
            Element::Bf16 => "bf16",
            Element::F32 => "f32",
        }
    }
}

/// What a lane of a sum is, and what one instruction on ones adds to it.
#[derive(Clone, Copy, Debug)]
enum Lanes {
    F32(u32),
    I32(u32),
    /// Wraps.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    I16(u16),
}

impl Lanes {
    /// Multiplications and additions of one instruction `width` bytes wide.
    fn operations(self, width: usize) -> u64 {
        2 * match self {
            Lanes::F32(products) | Lanes::I32(products) => (width / 4) as u64 * u64::from(products),
            Lanes::I16(products) => (width / 2) as u64 * u64::from(products),
        }
    }

    fn all_are(self, rounds: u32, sum: &[u8]) -> bool {
        match self {
            Lanes::F32(each) => {
                sum.as_chunks().0.iter().all(|lane| f32::from_ne_bytes(*lane) == (each * rounds) as f32)
            }
            Lanes::I32(each) => sum.as_chunks().0.iter().all(|lane| u32::from_ne_bytes(*lane) == each * rounds),
            Lanes::I16(each) => {
                let expected = each.wrapping_mul(rounds as u16);
                sum.as_chunks().0.iter().all(|lane| u16::from_ne_bytes(*lane) == expected)
            }
        }
    }
}

/// A loop of `rounds` rounds of one instruction on each of [`SUMS`] sums, which start at 0 and are written to `out`,
/// [`SLOT`] bytes apart. `a` and `b` are its operands.
type Loop = unsafe fn(a: &[u8; SLOT], b: &[u8; SLOT], rounds: u32, out: &mut [u8; SUMS * SLOT]);

/// An instruction that this CPU has.
#[derive(Clone, Copy)]
struct Instruction {
    name: &'static str,
    /// Bytes of a register.
    width: usize,
    lanes: Lanes,
    /// The bytes of 1, repeated.
    one: &'static [u8],
    /// Rounds of a call.
    rounds: u32,
    /// Registers' worth of sums that each of the [`SUMS`] stands for.
    rows: u64,
    /// The engine's paths that multiply by it.
    paths: &'static [&'static str],
    run: Loop,
}

const F32_ONE: &[u8] = &1f32.to_ne_bytes();
const BF16_ONE: &[u8] = &0x3f80u16.to_ne_bytes();
const INT8_ONE: &[u8] = &[1];

impl Instruction {
    /// One call; whether its sums were right.
    fn call(&self) -> bool {
        let ones: [u8; SLOT] = std::array::from_fn(|i| self.one[i % self.one.len()]);
        let mut out = [0; SUMS * SLOT];
        // SAFETY: `instructions` gives only instructions that the CPU was found to have.
        unsafe { (self.run)(&ones, &ones, self.rounds, &mut out) };
        out.chunks_exact(SLOT).all(|sum| self.lanes.all_are(self.rounds, &sum[..self.width]))
    }
}

/// A peak, and the instruction that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Multiplications and additions per second, over all threads.
    pub operations_per_second: u64,
    /// `vpdpbusd zmm`.
    pub instruction: &'static str,
}

/// The peak of `threads` pinned threads: of the instructions that this CPU has (and the engine's path `path` multiplies by, if
/// one is named) the best, of its `passes` (some milliseconds each) the median. An error says why there is none.
pub fn measure(threads: usize, element: Element, path: Option<&str>, passes: usize) -> Result<Found, String> {
    let mut best = Err(format!("this CPU has no {} multiply-add instruction that is known here", element.name()));
    let fits = |instruction: &Instruction| path.is_none_or(|path| instruction.paths.contains(&path));
    for instruction in instructions(element).into_iter().filter(fits) {
        let found = time(threads, instruction, passes)?;
        if best.as_ref().is_ok_and(|best: &Found| best.operations_per_second >= found.operations_per_second) {
            continue;
        }
        best = Ok(found);
    }
    best
}

/// As [`measure`], of one instruction by its name in [`Found`].
pub fn of(threads: usize, element: Element, name: &str, passes: usize) -> Result<Found, String> {
    let instruction = instructions(element).into_iter().find(|instruction| instruction.name == name);
    time(threads, instruction.ok_or_else(|| format!("this CPU has no {name} that is known here"))?, passes)
}

fn time(threads: usize, instruction: Instruction, passes: usize) -> Result<Found, String> {
    let times = lockstep(threads, passes, || || (0..CALLS).all(|_| instruction.call()));
    let time = times.as_deref().and_then(median).ok_or_else(|| format!("{}: the sums were wrong", instruction.name))?;
    let calls = u64::from(instruction.rounds) * instruction.rows * (SUMS * CALLS * threads) as u64;
    let operations_per_second = rate(calls * instruction.lanes.operations(instruction.width), time);
    let operations_per_second = operations_per_second.ok_or("no time passed")?;
    Ok(Found { operations_per_second, instruction: instruction.name })
}

/// No loops are known here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instructions(_: Element) -> Vec<Instruction> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_of_this_cpu_sums_right() {
        for element in Element::ALL {
            for instruction in instructions(element) {
                assert!(instruction.call(), "{}", instruction.name);
                let wrong = match instruction.lanes {
                    Lanes::F32(each) => Lanes::F32(each + 1),
                    Lanes::I32(each) => Lanes::I32(each + 1),
                    Lanes::I16(each) => Lanes::I16(each + 1),
                };
                assert!(!Instruction { lanes: wrong, ..instruction }.call(), "{}", instruction.name);
            }
        }
    }

    #[test]
    fn operations_are_two_a_product() {
        assert_eq!(Lanes::F32(1).operations(32), 16);
        assert_eq!(Lanes::I32(4).operations(64), 128);
        assert_eq!(Lanes::I16(2).operations(32), 64);
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn peaks_are_sane() {
        let f32 = measure(2, Element::F32, None, 2).unwrap();
        assert!((100_000_000..100_000_000_000_000).contains(&f32.operations_per_second), "{f32:?}");
    }
}
