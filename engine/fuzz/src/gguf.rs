//! A GGUF file: structure, metadata by every getter, every row of every tensor in every layout.

use engine::formats::GgufFile;
use engine::formats::gguf::{TensorInfo, TensorType};

use super::{LAYOUTS, NAME, refused};

/// Reads all that a file holds.
pub fn run(data: &[u8]) -> bool {
    let mut file = match GgufFile::from_bytes(NAME, data.to_vec()) {
        Ok(file) => file,
        Err(error) => return refused(NAME, &error),
    };
    metadata(&file);
    for layout in LAYOUTS {
        file = file.with_i2s_layout(layout);
        for tensor in file.tensors() {
            rows(&file, tensor);
            ternary(&file, tensor);
        }
        if !file.tensors().iter().any(|tensor| tensor.kind() == TensorType::I2S) {
            break;
        }
    }
    true
}

fn metadata(file: &GgufFile) {
    for key in file.keys() {
        assert!(file.value(key).is_some_and(|value| value.to_string().len() < 1000));
        let errors = [
            file.u32(key).err(),
            file.f32(key).err(),
            file.opt_bool(key).err(),
            file.str(key).err(),
            file.strings(key).err(),
            file.opt_floats(key).err(),
            file.opt_integers(key).err(),
        ];
        errors.iter().flatten().for_each(|error| {
            refused(NAME, error);
        });
    }
}

fn rows(file: &GgufFile, tensor: &TensorInfo) {
    let mut row = vec![0.0; tensor.cols()];
    for index in 0..tensor.rows() {
        match file.row_to_f32(tensor, index, &mut row) {
            Ok(()) => assert!(row.iter().all(|value| value.is_finite())),
            Err(error) => {
                refused(NAME, &error);
            }
        }
    }
}

/// Trits are trits, and times the tensor's scale they are its values.
fn ternary(file: &GgufFile, tensor: &TensorInfo) {
    let scale = match file.ternary_scale(tensor) {
        Ok(scale) => scale,
        Err(error) => {
            refused(NAME, &error);
            return;
        }
    };
    let (mut trits, mut row) = (vec![0; tensor.cols()], vec![0.0; tensor.cols()]);
    for index in 0..tensor.rows() {
        match file.ternary_row(tensor, index, &mut trits) {
            Ok(()) => {
                file.row_to_f32(tensor, index, &mut row).unwrap_or_else(|error| panic!("trits but no values: {error}"));
                for (&trit, &value) in trits.iter().zip(&row) {
                    assert!((-1..=1).contains(&trit) && f32::from(trit) * scale == value, "{trit} x {scale}, {value}");
                }
            }
            Err(error) => {
                refused(NAME, &error);
            }
        }
    }
}
