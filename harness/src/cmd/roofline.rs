//! `roofline`: what this machine can do at most.

use super::say;
use crate::error::Error;
use crate::machine;
use crate::probe::{procfs, roofline};
use anyhow::{Result, bail};
use suites::run::Limit;

/// How limits are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For reading.
    Table,
    /// One JSON object.
    Json,
    /// A row a limit and thread count.
    Csv,
}

/// Arguments of `roofline`.
#[derive(clap::Args)]
pub struct Args {
    /// Thread counts (default: powers of two up to the CPUs usable, and all of them)
    #[arg(long, value_delimiter = ',')]
    threads: Vec<u32>,
    /// Form of the output
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Runs `roofline`: measures every limit at each thread count.
///
/// # Errors
/// A thread count that this machine does not have, or if stdout fails.
pub fn run(args: &Args) -> Result<u8> {
    let cpus = machine::cpus();
    if let Some(bad) = args.threads.iter().find(|&&n| n == 0 || n > cpus) {
        bail!(Error::Usage(format!("--threads {bad}: expected 1 to {cpus}, the CPUs usable here")));
    }
    let counts = if args.threads.is_empty() { machine::thread_counts(cpus) } else { args.threads.clone() };
    let measure = || counts.iter().flat_map(|&n| roofline::measure(n as usize)).collect::<Vec<_>>();
    let (limits, steal) = procfs::steal_share(measure);
    match args.format {
        Format::Json => say(serde_json::json!({ "limits": limits, "steal_share": steal }))?,
        Format::Csv => csv(&limits)?,
        Format::Table => {
            say(table(&limits, &counts))?;
            if let Some(steal) = steal {
                say(format_args!("{:.1} % of CPU time went to other guests meanwhile", steal * 100.0))?;
            }
        }
    }
    Ok(0)
}

/// A row a limit, a column a thread count; below it, how each was reached or why it is missing.
fn table(limits: &[Limit], counts: &[u32]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for limit in limits {
        if !names.contains(&limit.name.as_str()) {
            names.push(&limit.name);
        }
    }
    let mut lines = vec![format!("{:<26}{}", "threads", counts.iter().map(|n| format!("{n:>12}")).collect::<String>())];
    for name in &names {
        let of: Vec<&Limit> = limits.iter().filter(|limit| limit.name == *name).collect();
        let title = match (*name, of.first().is_some_and(|limit| limit.unit == "bytes/s")) {
            (name, true) => format!("{} read, GB/s", name.to_uppercase()),
            (name, false) => format!("{name} multiply-add, GOP/s"),
        };
        let figure = |limit: &&Limit| match limit.per_second {
            Some(figure) => format!("{:>12.1}", figure as f64 / 1e9),
            None => format!("{:>12}", "N/A"),
        };
        lines.push(format!("{title:<26}{}", of.iter().map(figure).collect::<String>()));
    }
    for limit in limits {
        lines.push(format!("{} at {} thread(s): {}", limit.name, limit.threads, limit.how));
    }
    lines.join("\n")
}

fn csv(limits: &[Limit]) -> Result<()> {
    let mut out = csv::Writer::from_writer(Vec::new());
    for limit in limits {
        out.serialize(limit)?;
    }
    let bytes = out.into_inner()?;
    say(String::from_utf8_lossy(&bytes).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_limit_is_told_with_its_reason() {
        let limit = |name: &str, unit: &str, per_second, how: &str| Limit {
            threads: 1,
            name: name.to_owned(),
            unit: unit.to_owned(),
            per_second,
            how: how.to_owned(),
        };
        let limits = [
            limit("dram", "bytes/s", Some(12_340_000_000), "reading"),
            limit("bf16", "operations/s", None, "no instruction"),
        ];
        let text = table(&limits, &[1]);
        assert!(text.contains("DRAM read, GB/s                   12.3\n"), "{text}");
        assert!(text.contains("bf16 multiply-add, GOP/s           N/A\n"), "{text}");
        assert!(text.ends_with("bf16 at 1 thread(s): no instruction"), "{text}");
    }
}
