//! `energy model`: the papers' arithmetic energy, by part.

use crate::cmd::say;
use crate::error::Error;
use anyhow::{Result, bail};
use suites::Catalogue;
use suites::arithmetic::{Breakdown, Counted, Layers, Number, Process, published};
use suites::model::ModelSpec;

/// Arguments of `energy model`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A model of models.toml by its shape [default: those of arXiv 2504.12285's table 1, beside what is printed there]
    #[arg(long)]
    model: Option<String>,
    /// Tokens of the sequence
    #[arg(long, default_value = "512", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    tokens: u32,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// One line of the table.
struct Row {
    name: String,
    layers: &'static str,
    process: Process,
    found: Breakdown,
    printed: Option<f64>,
}

/// Runs `energy model`.
///
/// # Errors
/// A name that is not known, or that of a file, whose shape is not.
pub(super) fn run(args: &Args) -> Result<u8> {
    let rows = rows(args)?;
    if args.json {
        let row = |row: &Row| {
            let part = |split: suites::arithmetic::Split| serde_json::json!({ "add_j": split.add, "mul_j": split.mul });
            serde_json::json!({
                "model": row.name, "layers": row.layers, "process": row.process.name(), "kind": "modelled",
                "linear": part(row.found.linear), "scales": part(row.found.scales), "attention": part(row.found.attention),
                "total_j": row.found.total(), "per_token_j": row.found.total() / f64::from(args.tokens),
                "published_j": row.printed,
            })
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        say(serde_json::json!({ "tokens": args.tokens, "rows": rows }))?;
        return Ok(0);
    }
    say(table(&rows, args.tokens))?;
    Ok(0)
}

fn rows(args: &Args) -> Result<Vec<Row>> {
    let tokens = u64::from(args.tokens);
    let row = |name: &str, counted: &Counted, layers: Layers, process: Process, printed: Option<f64>| Row {
        name: name.to_owned(),
        layers: match layers {
            Layers::Ternary => "ternary",
            Layers::Float(Number::Fp32) => "fp32",
            Layers::Float(_) => "fp16",
        },
        process,
        found: counted.energy(layers, process, tokens),
        printed: printed.filter(|_| process == Process::Nm7 && tokens == 512),
    };
    let Some(name) = &args.model else {
        let both = |model: suites::arithmetic::Published| {
            Process::ALL.map(|process| row(model.name, &model.counted, model.layers, process, Some(model.joules)))
        };
        return Ok(published().into_iter().flat_map(both).collect());
    };
    let catalogue = Catalogue::embedded()?;
    let ModelSpec::Synthetic(shape) = catalogue.model(name)? else {
        bail!(Error::Usage(format!("--model {name}: its shape is in a file; expected a model made of a shape")));
    };
    let counted = Counted::from(shape);
    let of = |layers: Layers| Process::ALL.map(|process| row(name, &counted, layers, process, None));
    Ok([Layers::Ternary, Layers::Float(Number::Fp16), Layers::Float(Number::Fp32)].into_iter().flat_map(of).collect())
}

fn table(rows: &[Row], tokens: u32) -> String {
    let mut lines = vec![
        format!(
            "Modelled, not measured: additions and multiplications of {tokens} tokens in one sequence, in joules; no memory,"
        ),
        "no head, attention in fp16 and not causal (arXiv 2310.11453, section 3.3 and table 2).".to_owned(),
        String::new(),
        format!(
            "{:<20}{:<9}{:<7}{:>10}{:>10}{:>11}{:>10}{:>14}{:>11}",
            "model", "layers", "at", "linear", "scales", "attention", "total", "mJ per token", "published"
        ),
    ];
    for row in rows {
        let found = &row.found;
        let printed = row.printed.map_or(String::new(), |joules| format!("{joules:.3}"));
        lines.push(
            format!(
                "{:<20}{:<9}{:<7}{:>10.5}{:>10.5}{:>11.5}{:>10.4}{:>14.4}{:>11}",
                row.name,
                row.layers,
                row.process.name(),
                found.linear.total(),
                found.scales.total(),
                found.attention.total(),
                found.total(),
                found.total() / f64::from(tokens) * 1e3,
                printed
            )
            .trim_end()
            .to_owned(),
        );
    }
    lines.join("\n")
}
