//! `list`: what the program comes with.

use super::say;
use anyhow::Result;
use serde_json::{Value, json};
use suites::Catalogue;
use suites::model::ModelSpec;

/// Arguments of `list`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to list [default: all]
    #[arg(value_enum)]
    what: Option<What>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Output formats.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For reading
    Table,
    /// For programs
    Json,
}

/// What can be listed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Suites that come with the program
    Suites,
    /// Models that suites can name
    Models,
    /// Engines that suites can name
    Engines,
    /// Accuracy tasks that `eval` and suites can name
    Tasks,
}

/// Runs `list`.
///
/// # Errors
/// None in a tested build.
pub fn run(args: &Args) -> Result<u8> {
    let catalogue = Catalogue::embedded()?;
    let kinds = [What::Suites, What::Models, What::Engines, What::Tasks];
    let wanted = kinds.into_iter().filter(|&kind| args.what.is_none_or(|what| what == kind));
    let mut object = serde_json::Map::new();
    for kind in wanted {
        let (title, rows) = match kind {
            What::Suites => ("suites", suites(&catalogue)?),
            What::Models => ("models", models(&catalogue)),
            What::Engines => ("engines", engines(&catalogue)),
            What::Tasks => ("tasks", tasks()?),
        };
        if args.format == Format::Table {
            say(title)?;
            let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
            rows.iter().try_for_each(|(name, about, _)| say(format_args!("  {name:width$}  {about}")))?;
        }
        object.insert(title.to_owned(), rows.into_iter().map(|(.., value)| value).collect());
    }
    if args.format == Format::Json {
        say(serde_json::to_string_pretty(&object)?)?;
    }
    Ok(0)
}

/// Name, a line about it, and the whole of it.
type Row = (String, String, Value);

fn suites(catalogue: &Catalogue) -> Result<Vec<Row>> {
    let row = |s: suites::Suite| {
        let (ms, budget) = (s.timeout.as_millis() as u64, s.budget.map(|b| b.as_millis() as u64));
        let value = json!({"name": s.name, "about": s.about, "blocks": s.blocks, "seed": s.seed, "timeout_ms": ms, "budget_ms": budget});
        (s.name, s.about, value)
    };
    Ok(catalogue.suites()?.into_iter().map(row).collect())
}

fn models(catalogue: &Catalogue) -> Vec<Row> {
    let row = |m: &ModelSpec| {
        let about = match m {
            ModelSpec::Synthetic(s) => format!(
                "synthetic, {} M linear weights, {} layers of {}, vocabulary {}: {}",
                s.linear_params() / 1_000_000,
                s.layers,
                s.hidden,
                s.vocab,
                s.source
            ),
            ModelSpec::File(file) => format!("{}: {}", file.file, file.source),
        };
        (m.name().to_owned(), about, json!(m))
    };
    catalogue.models.iter().map(row).collect()
}

fn engines(catalogue: &Catalogue) -> Vec<Row> {
    catalogue.engines.iter().map(|e| (e.name.clone(), e.about.clone(), json!(e))).collect()
}

fn tasks() -> Result<Vec<Row>> {
    let row = |name: &str| -> Result<Row> {
        let task = suites::task::Task::embedded(name)?;
        let metrics: Vec<&str> = task.metrics.iter().map(|metric| metric.name()).collect();
        let value = json!({"name": task.name, "about": task.about, "source": task.source, "kind": task.kind,
            "metrics": metrics, "fewshot": task.fewshot, "documents": task.test, "fetch": task.fetch});
        Ok((task.name, task.about, value))
    };
    suites::task::Task::names().map(row).collect()
}
