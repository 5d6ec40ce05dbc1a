//! Finds a task and its documents on this machine.

use crate::error::Error;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use suites::eval::{EVAL_SCHEMA, Header, TaskAsk};
use suites::task::{Documents, Item, Metric, Options, Task};

/// Seed of few-shot examples unless another is given: lm-evaluation-harness's.
pub const SEED: u64 = 1234;

/// Where documents are, if not where they are looked for.
#[derive(clap::Args, Clone, Debug)]
pub struct Files {
    /// Documents, a JSON object a line [default: the task's file in data/tasks, ../shared/data or suites/twins of the checkout]
    #[arg(long, value_name = "FILE")]
    pub documents: Option<PathBuf>,
    /// Documents that examples are taken from
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,
    /// Seed of the choice of examples
    #[arg(long, default_value_t = SEED)]
    pub seed: u64,
    /// Folder with fetched data
    #[arg(skip)]
    pub data: Option<PathBuf>,
}

impl Default for Files {
    fn default() -> Files {
        Files { documents: None, examples: None, seed: SEED, data: None }
    }
}

/// A task with its items.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its name.
    pub name: String,
    /// BLAKE3 of its definition.
    pub digest: String,
    /// BLAKE3 of the files of its documents and examples.
    pub data_digests: Vec<String>,
    /// The documents' file.
    pub documents: PathBuf,
    /// Its figures.
    pub metrics: Vec<Metric>,
    /// Examples before each question.
    pub fewshot: u32,
    /// Seed of their choice.
    pub seed: u64,
    /// Items asked for.
    pub items: Vec<Item>,
    /// Documents asked for that make no item: line and reason.
    pub skipped: Vec<(u32, String)>,
}

impl Prepared {
    /// The header of an evaluation of it, as far as the task decides it.
    pub fn header(&self, engine: &str, model: &str) -> Header {
        Header {
            schema: EVAL_SCHEMA,
            task: self.name.clone(),
            task_digest: self.digest.clone(),
            data_digests: self.data_digests.clone(),
            fewshot: self.fewshot,
            seed: self.seed,
            metrics: self.metrics.clone(),
            engine: engine.to_owned(),
            model: model.to_owned(),
            model_digest: None,
            kv: None,
            head: None,
            chat: None,
            bos: None,
            context: None,
        }
    }
}

/// Opens what `ask` names.
///
/// # Errors
/// An unknown task, a file that is missing (with how to get it) or cannot be read, examples that are too few, a limit of 0.
pub fn prepare(ask: &TaskAsk, files: &Files) -> Result<Prepared> {
    let task = open(&ask.task)?;
    if ask.limit == Some(0) {
        bail!(Error::Usage("--limit: expected at least 1, found 0".to_owned()));
    }
    let path = find(&task, &task.test, files.documents.as_deref(), files.data.as_deref())?;
    let documents = task.documents(&path, ask.limit)?;
    let fewshot = ask.fewshot.unwrap_or(task.fewshot);
    let mut data_digests = vec![documents.digest.clone()];
    let mut examples = Documents::default();
    if fewshot > 0 {
        let Some(file) = files.examples.as_ref().map(|path| path.display().to_string()).or(task.fewshot_file.clone())
        else {
            bail!(Error::Usage(format!("--fewshot: task `{}` names no file of examples: give --examples", task.name)));
        };
        examples = Documents::open(&find(&task, &file, files.examples.as_deref(), files.data.as_deref())?, None)?;
        data_digests.push(examples.digest.clone());
    }
    let made = task.items(&documents, &examples, Options { fewshot: Some(fewshot), seed: files.seed })?;
    Ok(Prepared {
        name: task.name,
        digest: task.digest,
        data_digests,
        documents: path,
        metrics: task.metrics,
        fewshot: made.fewshot,
        seed: files.seed,
        items: made.items,
        skipped: made.skipped.into_iter().map(|skip| (skip.line, skip.reason)).collect(),
    })
}

/// The task called so, or in the TOML file of this name.
///
/// # Errors
/// An unknown name, with the nearest; whatever is wrong with the file.
pub fn open(name: &str) -> Result<Task> {
    if name.ends_with(".toml") || name.contains('/') {
        return Ok(Task::open(Path::new(name))?);
    }
    Ok(Task::embedded(name)?)
}

/// Folders in which fetched documents are looked for.
fn folders(data: Option<&Path>) -> Vec<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = data.map(|data| vec![data.join("tasks"), data.to_owned()]).unwrap_or_default();
    folders.extend(["data/tasks".into(), checkout.join("data/tasks")]);
    folders.extend(["../shared/data".into(), checkout.join("../shared/data"), checkout.join("suites/twins")]);
    folders
}

/// A task's file: the one given, the one beside a user's own task, or one in the usual folders.
fn find(task: &Task, file: &str, given: Option<&Path>, data: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    if let Some(folder) = &task.folder {
        return Ok(folder.join(file));
    }
    let found = folders(data).into_iter().map(|folder| folder.join(file)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!(Error::Usage(format!(
            "task `{}`: {file} is not on this machine: {}; or give --documents FILE",
            task.name, task.fetch
        ))),
    }
}

/// The file of an evaluation's log: what it is of, and a digest of all that decides its figures, so that another one has
/// another.
pub fn log_name(header: &Header) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let digest = blake3::hash(serde_json::to_string(header).unwrap_or_default().as_bytes()).to_hex();
    let name: String = format!("{}-{}-{}", header.task, header.model, header.engine).chars().map(plain).collect();
    format!("{name}-{}.jsonl", &digest[..8])
}
