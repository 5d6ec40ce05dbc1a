//! What `suite` and `plan` share: which suite, and which part of it.

use crate::adapters::Outside;
use crate::error::Error;
use crate::plan::{Filter, Host};
use crate::{data, local, machine};
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use suites::model::ModelSpec;
use suites::{Catalogue, Suite};

/// Options that choose cells.
#[derive(clap::Args, Clone, Debug)]
pub struct Select {
    /// Only these engines, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub engines: Option<Vec<String>>,
    /// Only these models, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub models: Option<Vec<String>>,
    /// Only these thread counts, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub threads: Option<Vec<u32>>,
    /// At most this many blocks (processes a cell)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub blocks: Option<u32>,
    /// Only the i-th of n shares of the cells, written i/n; engines of one model, thread count and workload stay together
    #[arg(long, value_parser = parse_shard)]
    pub shard: Option<(u32, u32)>,
    /// TOML file with programs and model files of the outside engines that the suite names
    #[arg(long, value_name = "FILE")]
    pub outside: Option<PathBuf>,
    /// Folder with fetched models [default: data, here or in the checkout]
    #[arg(long)]
    pub data: Option<PathBuf>,
}

fn parse_shard(text: &str) -> Result<(u32, u32), String> {
    let bad = || format!("expected i/n with i from 1 to n, such as 1/4, found `{text}`");
    let (i, n) = text.split_once('/').ok_or_else(bad)?;
    match (i.parse::<u32>(), n.parse::<u32>()) {
        (Ok(i), Ok(n)) if (1..=n).contains(&i) => Ok((i - 1, n)),
        _ => Err(bad()),
    }
}

impl Select {
    /// As the planner wants it.
    pub fn filter(&self) -> Filter {
        Filter {
            engines: self.engines.clone(),
            models: self.models.clone(),
            threads: self.threads.clone(),
            blocks: self.blocks,
            shard: self.shard,
        }
    }

    /// This machine, with the files of the models that `suite` names, whose hashes are checked, and its outside engines.
    ///
    /// # Errors
    /// `--data` names no folder; what [`Outside::open`] refuses.
    pub fn host(&self, suite: &Suite, catalogue: &Catalogue, isas: Vec<String>) -> Result<Host> {
        if let Some(folder) = self.data.as_ref().filter(|f| !f.is_dir()) {
            bail!(Error::Usage(format!("--data {}: expected a folder", folder.display())));
        }
        let named = |m: &&ModelSpec| {
            suite.groups.iter().any(|g| g.models.iter().chain(&g.fallback).any(|name| name == m.name()))
        };
        let (mut files, mut ternary) = (BTreeMap::new(), BTreeSet::new());
        for model in suite.models.iter().filter(named) {
            let ModelSpec::File(file) = model else { continue };
            let Some(path) = data::find(file, self.data.as_deref()) else { continue };
            let usable = match data::sha256(&path) {
                Ok(found) if found.eq_ignore_ascii_case(&file.sha256) => Ok(path),
                Ok(found) => Err(format!(
                    "{}: expected sha256 {}, found {found}: run {}",
                    path.display(),
                    file.sha256,
                    file.fetch
                )),
                Err(error) => Err(format!("{error:#}")),
            };
            if let Err(reason) = &usable {
                eprintln!("{}: {reason}", file.name);
            }
            // What is wrong with the file itself, its worker tells.
            if usable.as_ref().is_ok_and(|path| local::is_ternary(path).unwrap_or(false)) {
                ternary.insert(file.name.clone());
            }
            files.insert(file.name.clone(), usable);
        }
        let outside = self.outside.as_ref().map(|file| Outside::open(file, suite, catalogue)).transpose()?;
        let (cpus, available_bytes) = (machine::cpus(), machine::available_bytes());
        Ok(Host {
            cpus,
            available_bytes,
            isas,
            files,
            ternary,
            outside: outside.unwrap_or_default(),
            energy_window: None,
        })
    }
}

/// The suite called `name`, or in the file `name`.
///
/// # Errors
/// No such suite (with the nearest name); a file that can't be read or is no suite (with the line).
pub fn suite(name: &str, catalogue: &Catalogue) -> Result<Suite> {
    if name.ends_with(".toml") || name.contains('/') {
        let path = Path::new(name);
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| suites::Error::Read { path: path.to_owned(), source })?;
        return Ok(Suite::parse(&text, name, catalogue)?);
    }
    Ok(catalogue.suite(name)?)
}
