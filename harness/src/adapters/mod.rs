//! Outside engines: programs of the user's, named by a TOML file, and how to speak to them.

pub mod llama_bench;

use crate::driver::child;
use crate::driver::interrupt::Interrupt;
use crate::error::Error;
use anyhow::{Context as _, Result, bail};
use llama_bench::Depth;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use suites::outside::{self, Kind, OutsideEngine};
use suites::run::{Digest, OutsideFiles, OutsideModelFile, Plan};
use suites::{Catalogue, Suite};

/// How long a program may take to tell its options.
const HELP: Duration = Duration::from_secs(20);

/// The outside engines on this machine; none without a file.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// The file that names them, where one was given.
    file: Option<PathBuf>,
    /// Those that the suite names.
    engines: Vec<Engine>,
}

/// An outside engine whose files are there.
#[derive(Clone, Debug)]
pub struct Engine {
    /// As the file describes it, its paths made whole.
    pub spec: OutsideEngine,
    /// How the program fills the cache ahead of a window.
    pub depth: Depth,
}

impl Engine {
    /// The file that it has for `model`, if any.
    pub fn model(&self, model: &str) -> Option<&Path> {
        self.spec.models.get(model).map(PathBuf::as_path)
    }
}

impl Outside {
    /// Reads `file` and looks at the programs and models of the engines that `suite` names.
    ///
    /// # Errors
    /// What [`outside::parse`] refuses; files that are not there; programs that are not of their kind.
    pub fn open(file: &Path, suite: &Suite, catalogue: &Catalogue) -> Result<Outside> {
        let text = fs::read_to_string(file).map_err(|source| suites::Error::Read { path: file.to_owned(), source })?;
        let origin = file.display().to_string();
        let own = |name: &str| catalogue.engines.iter().any(|e| e.name == name);
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        let mut engines = Vec::new();
        for spec in outside::parse(&text, &origin, own)?.into_iter().filter(|e| suite.is_outside(&e.name)) {
            let name = spec.name.clone();
            let bad = |key: &str, expected: &str, found: String| {
                Error::Input(format!("{origin}: engine `{name}`: {key}: expected {expected}, found {found}"))
            };
            engines.push(open(spec, &folder, bad)?);
        }
        Ok(Outside { file: Some(file.to_owned()), engines })
    }

    /// The engine called `name`, or why there is none.
    ///
    /// # Errors
    /// The reason, for a cell that can't run.
    pub fn find(&self, name: &str) -> Result<&Engine, String> {
        let Some(file) = &self.file else {
            return Err("an outside engine: give its program and model files with --outside FILE.toml".to_owned());
        };
        let names = || self.engines.iter().map(|e| e.spec.name.as_str());
        self.engines.iter().find(|e| e.spec.name == name).ok_or_else(|| {
            let known: Vec<&str> = names().collect();
            let known = if known.is_empty() { "none of this suite's".to_owned() } else { known.join(", ") };
            format!("no engine `{name}` in {}, which has {known}", file_name(file))
        })
    }

    /// The files behind the engines of `plan` that are to run, with their digests: all of them are read.
    ///
    /// # Errors
    /// Reading fails.
    pub fn files(&self, plan: &Plan) -> Result<Vec<OutsideFiles>> {
        let cells = || plan.cells.iter().filter(|c| c.outside && c.na.is_none());
        let mut all = Vec::new();
        for engine in self.engines.iter().filter(|e| cells().any(|c| c.cell.engine == e.spec.name)) {
            let wanted: BTreeSet<&str> =
                cells().filter(|c| c.cell.engine == engine.spec.name).map(|c| c.cell.model.as_str()).collect();
            let model = |(model, path): (&String, &PathBuf)| {
                let file = wanted.contains(model.as_str()).then(|| digest(path))?;
                Some(file.map(|file| OutsideModelFile { model: model.clone(), file }))
            };
            all.push(OutsideFiles {
                name: engine.spec.name.clone(),
                program: digest(&engine.spec.program)?,
                args: engine.spec.args.clone(),
                isa: engine.spec.isa.clone(),
                models: engine.spec.models.iter().filter_map(model).collect::<Result<_>>()?,
            });
        }
        Ok(all)
    }
}

/// Makes the paths whole and looks at what is there.
fn open(mut spec: OutsideEngine, folder: &Path, bad: impl Fn(&str, &str, String) -> Error) -> Result<Engine> {
    let whole = |path: &Path| std::path::absolute(folder.join(path)).unwrap_or_else(|_| folder.join(path));
    let why = |path: &Path, error: std::io::Error| format!("{} ({error})", path.display());
    spec.program = whole(&spec.program);
    let expected = "a program that can be run";
    let about = fs::metadata(&spec.program).map_err(|e| bad("program", expected, why(&spec.program, e)))?;
    if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
        bail!(bad("program", expected, spec.program.display().to_string()));
    }
    for (model, path) in &mut spec.models {
        *path = whole(path);
        if let Err(error) = readable(path) {
            bail!(bad(&format!("models.\"{model}\""), "a GGUF file", why(path, error)));
        }
    }
    let depth = match spec.kind {
        Kind::LlamaBench => {
            let said = options(&spec.program).map_err(|found| bad("program", "a llama-bench", found))?;
            let depth = llama_bench::depth(&said);
            depth.ok_or_else(|| bad("program", "a llama-bench, whose --help has --n-gen", quoted(&said)))?
        }
    };
    Ok(Engine { spec, depth })
}

fn readable(path: &Path) -> std::io::Result<()> {
    match File::open(path)?.metadata()?.is_file() {
        true => Ok(()),
        false => Err(std::io::Error::other("no file")),
    }
}

/// What a program says of its options.
fn options(program: &Path) -> Result<String, String> {
    let help = [OsString::from("--help")];
    match child::run(program, &help, HELP, &Interrupt::default()) {
        Ok(child::Ended::Exited(ran)) => Ok(ran.stdout),
        Ok(child::Ended::Failed(failure)) => Err(format!("{} ({})", program.display(), failure.message)),
        Err(error) => Err(format!("{} ({error:#})", program.display())),
    }
}

fn quoted(text: &str) -> String {
    let head: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("one that says `{head}`")
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn digest(path: &Path) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let read = File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.with_context(|| path.display().to_string())?;
    Ok(Digest { name: file_name(path), digest: format!("blake3:{}", hasher.finalize().to_hex()) })
}
