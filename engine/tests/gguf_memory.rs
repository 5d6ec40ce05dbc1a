//! Memory stays bounded by the file's size, whatever its counts claim: the whole file of tests runs under
//! an address-space limit a little above what the process already has, so that an allocation by a count
//! would end it.

mod common;

use common::writer::{Meta, Writer};
use engine::formats::GgufFile;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SPARE: u64 = 256 << 20;

fn limit_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current: Some(size + SPARE), maximum }).unwrap();
}

#[test]
fn counts_do_not_size_allocations() {
    limit_memory();
    // The limit bites: without this the test would prove nothing.
    assert!(Vec::<u8>::new().try_reserve_exact(SPARE as usize + 1).is_err());

    let mut big = Writer::default();
    big.f32("w", &[1 << 20], &vec![0.5; 1 << 20]);
    let bytes = big.bytes();
    for count in [u64::MAX, 1 << 50, 1 << 32, 1 << 24] {
        for at in [8, 16] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            assert!(GgufFile::from_bytes("test.gguf", bytes).is_err());
        }
        for element in [0u32, 8, 9] {
            let mut array = element.to_le_bytes().to_vec();
            array.extend(count.to_le_bytes());
            let mut writer = big.clone();
            writer.set("a", Meta::Raw(9, array));
            // 2^24 one-byte elements are more than the 4 MiB that follow.
            assert!(GgufFile::from_bytes("test.gguf", writer.bytes()).is_err());
        }
        for dims in [vec![count], vec![1, count], vec![count, count]] {
            let mut writer = big.clone();
            writer.tensor("w").dims = dims;
            assert!(GgufFile::from_bytes("test.gguf", writer.bytes()).is_err());
        }
    }
}
