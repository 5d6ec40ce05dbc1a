//! `benches`: what `cargo bench` left, joined into records.

use super::form::Form;
use super::say;
use crate::error::Error;
use crate::machine;
use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use reports::benches::{Bench, Records, SCHEMA, read, show};
use reports::sheet::Format;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Arguments of `benches`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Criterion's folder [default: that of the target folder]
    folder: Option<PathBuf>,
    /// Only cases whose name holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// Write the records to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs `benches`: exit 1 where a file had to be left out, which stderr tells.
///
/// # Errors
/// A folder that can't be read, or without one case that can be used; a file that can't be written.
pub fn run(args: &Args) -> Result<u8> {
    let folder =
        args.folder.clone().unwrap_or_else(|| target_folder(std::env::var_os("CARGO_TARGET_DIR")).join("criterion"));
    if !folder.is_dir() {
        let expected = "expected criterion's folder, as `cargo bench -p engine` makes it";
        bail!(Error::Input(format!("{}: {expected}, found none", folder.display())));
    }
    let (mut benches, left_out) = read(&folder, &folder.with_file_name("kernels"))?;
    for message in &left_out {
        eprintln!("left out: {message}");
    }
    if benches.is_empty() {
        let found = format!("found none, and {} files that are no such", left_out.len());
        bail!(Error::Input(format!("{}: expected cases of criterion (CASE/new/*.json), {found}", folder.display())));
    }
    benches.retain(|bench| args.only.as_ref().is_none_or(|text| bench.name.contains(text.as_str())));
    let machine = machine::describe("not measured by benches".to_owned(), false);
    let build = machine::build();
    let mut warnings = vec![when(&benches)];
    warnings.extend(machine::warnings(&machine, &build));
    let absent = |bench: &&Bench| bench.isa.as_ref().is_some_and(|isa| !machine.isa.contains(isa));
    if let Some(bench) = benches.iter().find(absent) {
        warnings.push(format!("{}: an ISA path that this machine lacks: it was measured on another", bench.name));
    }
    let records = Records { schema: SCHEMA, machine, build, warnings, benches, left_out };
    let text = |format| show(&records, format).map_err(anyhow::Error::msg);
    if let Some(file) = &args.out {
        write(file, &text(Format::Json)?)?;
        eprintln!("{}", file.display());
    }
    say(text(args.format.into())?.trim_end())?;
    Ok(u8::from(!records.left_out.is_empty()))
}

/// Cargo's: what the environment says, else the folder that this program lies in a profile's folder of.
fn target_folder(named: Option<OsString>) -> PathBuf {
    let own = || {
        let program = std::env::current_exe().ok()?;
        program.parent()?.parent().map(Path::to_owned)
    };
    named.map(PathBuf::from).or_else(own).unwrap_or_else(|| PathBuf::from("target"))
}

/// From when to when the cases were written: old ones stay in criterion's folder until they are run again.
fn when(benches: &[Bench]) -> String {
    let times = || benches.iter().filter_map(|bench| bench.written_unix_s);
    let told = |seconds: Option<u64>| {
        let at = seconds.and_then(|s| Timestamp::from_second(i64::try_from(s).ok()?).ok());
        at.map_or("an unknown time".to_owned(), |at| at.to_string())
    };
    format!(
        "Written from {} to {}; machine and program are those that joined them.",
        told(times().min()),
        told(times().max())
    )
}

/// Whole or not at all.
fn write(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("--out {}", file.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
    std::io::Write::write_all(&mut new, text.as_bytes()).with_context(failed)?;
    new.persist(file).with_context(failed)?;
    Ok(())
}
