//! Reading GGUF files: what is right is read, what is wrong is named.

mod common;

use common::Stream;
use common::writer::{Meta, Writer};
use engine::formats::GgufFile;
use engine::formats::gguf::{TensorType, Value};

fn small() -> Writer {
    let mut writer = Writer::default();
    writer
        .set("general.architecture", "llama")
        .set("a.u8", Meta::U8(7))
        .set("a.i32", Meta::I32(-3))
        .set("a.u64", Meta::U64(1 << 40))
        .set("a.f32", Meta::F32(0.5))
        .set("a.bool", Meta::Bool(true))
        .set("a.texts", Meta::Texts(vec!["x".into(), "é".into()]))
        .set("a.floats", Meta::Floats(vec![1.0, -2.0]))
        .set("a.integers", Meta::Integers(vec![1, -2]))
        .f32("first", &[2, 3], &[1., 2., 3., 4., 5., 6.])
        .raw("second", &[32], 8, vec![0; 34])
        .f32("third", &[1], &[9.0]);
    writer
}

fn open(bytes: Vec<u8>) -> Result<GgufFile, String> {
    GgufFile::from_bytes("test.gguf", bytes).map_err(|e| e.to_string())
}

/// The message for a file that must be refused, with each of `parts` in it.
#[track_caller]
fn refused(writer: &Writer, parts: &[&str]) {
    says(open(writer.bytes()).expect_err("must be refused"), parts);
}

#[track_caller]
fn says(message: String, parts: &[&str]) {
    assert!(message.starts_with("test.gguf: "), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn metadata_and_tensors_are_read_in_both_versions() {
    for version in [2, 3] {
        let file = open(Writer { version, ..small() }.bytes()).unwrap();
        assert_eq!(file.version(), version);
        assert_eq!(file.str("general.architecture").unwrap(), "llama");
        assert_eq!(file.u32("a.u8").unwrap(), 7);
        assert_eq!(file.f32("a.f32").unwrap(), 0.5);
        assert_eq!(file.opt_bool("a.bool").unwrap(), Some(true));
        assert_eq!(file.strings("a.texts").unwrap(), ["x", "é"]);
        assert_eq!(file.opt_floats("a.floats").unwrap().unwrap(), [1.0, -2.0]);
        assert_eq!(file.opt_integers("a.integers").unwrap().unwrap(), [1, -2]);
        assert_eq!(file.opt_u32("absent").unwrap(), None);
        assert!(matches!(file.value("a.i32"), Some(Value::Signed(-3))));
        assert_eq!(file.keys().count(), 9);

        let first = file.tensor("first").unwrap();
        assert_eq!((first.dims(), first.rows(), first.cols(), first.kind()), (&[2, 3][..], 3, 2, TensorType::F32));
        let mut row = [0.0; 2];
        file.row_to_f32(first, 2, &mut row).unwrap();
        assert_eq!(row, [5.0, 6.0]);
        assert_eq!(file.tensors().len(), 3);
        assert!(file.tensor("fourth").is_none());
    }
}

#[test]
fn another_alignment_is_heeded() {
    for alignment in [1, 8, 128] {
        let mut writer = Writer { alignment, ..small() };
        writer.set("general.alignment", Meta::U32(alignment as u32));
        let file = open(writer.bytes()).unwrap();
        let mut row = [0.0];
        file.row_to_f32(file.tensor("third").unwrap(), 0, &mut row).unwrap();
        assert_eq!(row, [9.0]);
    }
    for wrong in [Meta::U32(0), Meta::U32(24), Meta::I32(32), "32".into()] {
        let mut writer = small();
        writer.set("general.alignment", wrong);
        refused(&writer, &["general.alignment", "power of two"]);
    }
}

#[test]
fn header_faults_are_named() {
    let mut bytes = small().bytes();
    bytes[..4].copy_from_slice(b"GGML");
    says(open(bytes).unwrap_err(), &["magic", "GGUF", "GGML"]);
    refused(&Writer { version: 1, ..small() }, &["version", "2 or 3", "found 1"]);
    refused(&Writer { version: 4, ..small() }, &["version", "found 4"]);
    refused(&Writer { version: 3u32.swap_bytes(), ..small() }, &["version", "big-endian"]);
    says(open(Vec::new()).unwrap_err(), &["magic", "4 bytes", "found 0"]);
}

#[test]
fn absurd_counts_are_refused_before_they_are_believed() {
    for (at, field) in [(8, "tensor count"), (16, "metadata count")] {
        for count in [u64::MAX, 1 << 40, 1 << 20] {
            let mut bytes = small().bytes();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            says(open(bytes).unwrap_err(), &[field, "at most", &count.to_string()]);
        }
    }
    let mut writer = small();
    writer.set("a.long", Meta::Raw(8, u64::MAX.to_le_bytes().to_vec()));
    refused(&writer, &["value of metadata key a.long", "18446744073709551615"]);
    for element in [0u32, 4, 8, 9, 10] {
        let mut array = element.to_le_bytes().to_vec();
        array.extend((1u64 << 61).to_le_bytes());
        let mut writer = small();
        writer.set("a.many", Meta::Raw(9, array));
        refused(&writer, &["value of metadata key a.many", "count of at most"]);
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes.extend(9u32.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.push(0);
        let mut writer = small();
        writer.set("a.nested", Meta::Raw(9, bytes));
        writer
    };
    let file = open(nested(3).bytes()).unwrap();
    let message = file.opt_integers("a.nested").unwrap_err().to_string();
    says(message, &["a.nested", "array of arrays"]);
    refused(&nested(4), &["a.nested", "at most 4 deep"]);
    refused(&nested(100_000), &["a.nested", "at most 4 deep"]);
}

#[test]
fn wrong_values_and_types_of_metadata_are_named() {
    let mut writer = small();
    writer.set("a.bad", Meta::Raw(7, vec![2]));
    refused(&writer, &["a.bad", "bool", "found 2"]);
    writer.set("a.bad", Meta::Raw(13, vec![0; 8]));
    refused(&writer, &["a.bad", "value type", "found 13"]);

    let mut writer = small();
    writer.set("a.latin1", Meta::Raw(8, [1u64.to_le_bytes().to_vec(), vec![0xe9]].concat()));
    let file = open(writer.bytes()).unwrap();
    says(file.str("a.latin1").unwrap_err().to_string(), &["a.latin1", "UTF-8"]);
    says(file.u32("a.i32").unwrap_err().to_string(), &["a.i32", "u32", "-3"]);
    says(file.u32("a.u64").unwrap_err().to_string(), &["a.u64", "u32", "1099511627776"]);
    says(file.u32("a.f32").unwrap_err().to_string(), &["a.f32", "integer", "float 0.5"]);
    says(file.str("a.bool").unwrap_err().to_string(), &["a.bool", "string", "bool true"]);
    says(file.strings("a.floats").unwrap_err().to_string(), &["a.floats", "strings", "float 1"]);
    says(file.opt_floats("a.bool").unwrap_err().to_string(), &["a.bool", "array of floats"]);
    says(file.f32("absent").unwrap_err().to_string(), &["absent", "missing", "float"]);
}

#[test]
fn duplicates_are_refused() {
    let mut writer = small();
    writer.meta.push(("a.u8".into(), Meta::U8(8)));
    refused(&writer, &["metadata key 9", "a.u8 a second time"]);
    let mut writer = small();
    writer.f32("first", &[1], &[0.0]);
    refused(&writer, &["tensor 3", "first a second time"]);
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let shapes: [(&[u64], &str); 5] = [
        (&[1; 5], "at most 4 dimensions"),
        (&[2, 0], "at least 1"),
        (&[1 << 32, 1 << 32], "fits in 64 bits"),
        (&[1 << 32, 1 << 31, 1 << 2], "fits in 64 bits"),
        (&[1 << 62], "fits in 64 bits"),
    ];
    for (dims, expected) in shapes {
        let mut writer = small();
        writer.tensor("first").dims = dims.to_vec();
        refused(&writer, &["tensor first", expected]);
    }
    let mut writer = small();
    writer.tensor("second").dims = vec![33];
    refused(&writer, &["tensor second", "multiple of 32", "[33]"]);
}

#[test]
fn places_that_cannot_be_are_refused() {
    let at = |offset: u64| {
        let mut writer = small();
        writer.tensor("third").offset = Some(offset);
        writer
    };
    refused(&at(33), &["offset of tensor third", "alignment 32"]);
    refused(&at(0), &["data of tensor", "inside tensor"]);
    refused(&at(1 << 20), &["data of tensor third", "found 0"]);
    refused(&at(u64::MAX - 31), &["offset of tensor third", "inside the file"]);
    let mut writer = small();
    writer.tensor("third").dims = vec![2];
    refused(&writer, &["data of tensor third", "expected 8 bytes", "found 4"]);
}

#[test]
fn types_that_are_not_read_are_named() {
    let mut writer = small();
    writer.tensor("first").kind = 99;
    refused(&writer, &["type of tensor first", "Q6_K", "unknown type id 99"]);
    writer.tensor("first").kind = 39;
    refused(&writer, &["tensor first", "TL2", "MXFP4"]);

    let mut writer = small();
    writer.raw("other", &[256], 10, vec![0; 84]);
    let file = open(writer.bytes()).unwrap();
    let tensor = file.tensor("other").unwrap();
    let message = file.row_to_f32(tensor, 0, &mut [0.0; 256]).unwrap_err().to_string();
    says(message, &["tensor other", "F16", "found Q2_K"]);
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut writer = Writer::default();
        writer.f32("w", &[2, 2], &[0.0, 1.0, 2.0, bad]);
        let file = open(writer.bytes()).unwrap();
        let tensor = file.tensor("w").unwrap();
        assert!(file.row_to_f32(tensor, 0, &mut [0.0; 2]).is_ok());
        let message = file.row_to_f32(tensor, 1, &mut [0.0; 2]).unwrap_err().to_string();
        says(message, &["tensor w", "finite", "row 1, column 1"]);
    }
}

#[test]
fn a_file_that_cannot_be_mapped_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = GgufFile::open(folder.path().join("no.gguf")).unwrap_err().to_string();
    assert!(missing.contains("no.gguf"), "{missing}");
    let directory = GgufFile::open(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("not a regular file"), "{directory}");
    let empty = folder.path().join("empty.gguf");
    std::fs::write(&empty, "").unwrap();
    assert!(GgufFile::open(&empty).unwrap_err().to_string().contains("magic"));
    let whole = folder.path().join("whole.gguf");
    std::fs::write(&whole, small().bytes()).unwrap();
    assert_eq!(GgufFile::open(&whole).unwrap().tensors().len(), 3);
}

#[test]
fn long_and_strange_names_are_cut_and_escaped_in_messages() {
    let mut writer = small();
    let name = "a\n\u{1b}[31m".repeat(1000);
    writer.f32(&name, &[0], &[]);
    let message = open(writer.bytes()).unwrap_err();
    assert!(message.len() < 2000 && !message.contains('\u{1b}') && !message.contains('\n'), "{message}");
}

/// Every key, array and row of a file, so that nothing is left unread.
fn read_all(file: &GgufFile) {
    for key in file.keys() {
        let shown = file.value(key).map(|v| v.to_string());
        assert!(shown.is_some());
        let _ = (file.opt_strings(key), file.opt_floats(key), file.opt_integers(key));
    }
    for tensor in file.tensors() {
        if tensor.cols() <= 1 << 20 {
            let mut row = vec![0.0; tensor.cols()];
            let _ = file.row_to_f32(tensor, tensor.rows() - 1, &mut row);
        }
    }
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    let whole = small().bytes();
    for length in 0..whole.len() {
        let message = open(whole[..length].to_vec()).expect_err("a cut file must be refused");
        assert!(message.starts_with("test.gguf: "), "{message}");
    }
    assert!(open(whole).is_ok());
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = small().bytes();
    let mut stream = Stream(1);
    let mut opened = 0;
    for _ in 0..30_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + stream.below(3) {
            let at = stream.below(bytes.len());
            bytes[at] = match stream.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ (1 << stream.below(8)),
                _ => stream.next() as u8,
            };
        }
        if let Ok(file) = open(bytes) {
            opened += 1;
            read_all(&file);
        }
    }
    // Some flips only touch weights or names: both outcomes must have been tried.
    assert!(opened > 1_000, "{opened}");
}

proptest::proptest! {
    #[test]
    fn random_bytes_behind_a_header_never_panic(
        tensors in 0u64..4,
        pairs in 0u64..4,
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
    ) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(pairs.to_le_bytes());
        bytes.extend(tail);
        if let Ok(file) = open(bytes) {
            read_all(&file);
        }
    }
}
