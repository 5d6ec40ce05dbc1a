//! Finds model files on this machine.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use suites::model::{ModelFile, ModelSpec};
use suites::{Catalogue, Error};

/// Folders searched, in order: the one given, `data` here, `data` in the checkout the program was built in; last the twins that
/// come with the checkout.
fn folders(given: Option<&Path>) -> Vec<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = match given {
        Some(folder) => vec![folder.to_owned()],
        None => vec![PathBuf::from("data"), checkout.join("data")],
    };
    folders.push(checkout.join("suites/twins"));
    folders
}

/// Where `file` is on this machine, if it is.
pub fn find(file: &ModelFile, data: Option<&Path>) -> Option<PathBuf> {
    folders(data).into_iter().map(|folder| folder.join(&file.file)).find(|path| path.is_file())
}

/// SHA-256 of a file in hexadecimal.
///
/// # Errors
/// Reading fails.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0u8; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).with_context(|| path.display().to_string())?;
        if read == 0 {
            return Ok(hexadecimal(hasher));
        }
        hasher.update(&buffer[..read]);
    }
}

/// One SHA-256 for files whose own are known: that of the lines that `sha256sum` prints for them by name, so that
/// `sha256sum *.safetensors | sha256sum` in their folder gives it too.
pub fn sha256_of_all(files: &[(String, String)]) -> String {
    let mut hasher = Sha256::new();
    files.iter().for_each(|(name, digest)| hasher.update(format!("{digest}  {name}\n")));
    hexadecimal(hasher)
}

fn hexadecimal(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `MODEL` on a command line means: a path to a GGUF file or a Hugging Face folder, or a name in `models.toml`.
pub enum Named {
    /// A file or folder, by path.
    Path(PathBuf),
    /// A model of the catalogue, with its file where it has one.
    Spec(ModelSpec, Option<PathBuf>),
}

/// Resolves `MODEL`.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name; a file model that is not on this machine, with how to get it.
pub fn resolve(name: &str, data: Option<&Path>) -> Result<Named> {
    let path = Path::new(name);
    if path.is_file() || path.join("config.json").is_file() || name.contains(['/', '\\']) || name.ends_with(".gguf") {
        return Ok(Named::Path(path.to_owned()));
    }
    let catalogue = Catalogue::embedded()?;
    match catalogue.model(name)? {
        ModelSpec::File(file) => {
            let found = find(file, data).ok_or_else(|| Error::Read {
                path: PathBuf::from(&file.file),
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    format!("not on this machine; run {}", file.fetch),
                ),
            })?;
            Ok(Named::Spec(ModelSpec::File(file.clone()), Some(found)))
        }
        synthetic => Ok(Named::Spec(synthetic.clone(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn sha256_is_the_standards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    /// `printf abc > a; printf abc > b; sha256sum a b | sha256sum`
    #[test]
    fn files_have_one_digest_together() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        let files = [("a".to_owned(), abc.clone()), ("b".to_owned(), abc)];
        assert_eq!(sha256_of_all(&files), "6e0534855d1d183250459e82c311fb77578cf75019787625a10154399462260d");
    }

    #[test]
    fn names_and_paths_are_told_apart() {
        assert!(matches!(resolve("./x.gguf", None).unwrap(), Named::Path(_)));
        assert!(matches!(resolve("125m", None).unwrap(), Named::Spec(ModelSpec::Synthetic(_), None)));
        let message = resolve("125", None).err().unwrap().to_string();
        assert!(message.contains("did you mean `125m`"), "{message}");
        let empty = tempfile::tempdir().unwrap();
        let message = resolve("smollm2-135m", Some(empty.path())).err().unwrap().to_string();
        assert!(message.contains("scripts/fetch-data"), "{message}");
        let folder = empty.path().to_str().unwrap();
        std::fs::write(empty.path().join("config.json"), "{}").unwrap();
        assert!(matches!(resolve(folder, None).unwrap(), Named::Path(_)));
    }
}
