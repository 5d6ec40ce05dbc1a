//! A Hugging Face folder: `config.json`, a zero byte, `model.safetensors`. Every row of every weight, and the model.

use std::collections::HashMap;

use engine::formats::HfFolder;
use engine::model::load_hf;

use super::gguf_model::{evaluate, loadings};
use super::refused;

/// Reads and runs a folder.
pub fn run(data: &[u8]) -> bool {
    let mut parts = data.splitn(2, |&byte| byte == 0);
    let mut files = HashMap::new();
    for (name, part) in ["config.json", "model.safetensors"].into_iter().zip(&mut parts) {
        files.insert(name.to_owned(), part.to_vec());
    }
    let folder = match HfFolder::from_files("folder", &files) {
        Ok(folder) => folder,
        Err(error) => return refused("folder", &error),
    };
    for tensor in folder.tensors().iter().filter(|tensor| tensor.rows() > 0) {
        let weight = folder.weight_of(tensor);
        let mut row = vec![0.0; weight.cols()];
        for index in 0..weight.rows() {
            match weight.row_to_f32(index, &mut row) {
                Ok(()) => assert!(row.iter().all(|value| value.is_finite())),
                Err(error) => {
                    refused("folder", &error);
                }
            }
        }
    }
    let mut taken = false;
    for loading in loadings() {
        taken |= match load_hf(&folder, loading) {
            Ok(model) => evaluate(&model),
            Err(error) => refused("folder", &error),
        };
    }
    taken
}
