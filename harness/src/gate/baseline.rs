//! The program of another revision, built as this one is.

use super::side::Program;
use crate::driver::process::{WorkerCommand, own_program};
use crate::error::Error;
use crate::machine;
use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use suites::run::Build;

/// Folder, below the checkout's target folder, of what is built for gates.
const FOLDER: &str = "gate";

/// The program of the git revision `revision` of the checkout that the working folder is in: built with this program's profile, in
/// a worktree of its own, and kept, so that a revision is built once.
///
/// # Errors
/// [`Error::Usage`] without a checkout or such a revision; a build that fails, with its last lines.
pub fn of_revision(revision: &str) -> Result<Program> {
    let root = git(None, &["rev-parse", "--show-toplevel"]).map(PathBuf::from)?;
    let commit = git(Some(&root), &["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")])?;
    let profile = machine::build().profile;
    let kept = root.join("target").join(FOLDER).join(format!("{commit}-{profile}{}", flags()));
    let (path, rustc) = (kept.join("harness"), kept.join("rustc.txt"));
    if !path.is_file() {
        eprintln!("building {revision} ({}) as {profile}", short(&commit));
        build(&root, &commit, &profile, &kept).with_context(|| format!("building {revision}"))?;
    }
    let rustc = std::fs::read_to_string(&rustc).with_context(|| rustc.display().to_string())?;
    let own = machine::build();
    let built =
        Build { git_revision: Some(commit.clone()), git_dirty: Some(false), rustc: rustc.trim().to_owned(), ..own };
    Ok(Program { name: format!("{revision} ({})", short(&commit)), command: worker(&path), path, build: built })
}

/// A program that is there already, as the flag `flag` names it.
///
/// # Errors
/// [`Error::Usage`] if there is no such file.
pub fn of_file(path: &Path, flag: &str) -> Result<Program> {
    if !path.is_file() {
        bail!(Error::Usage(format!("{flag} {}: expected a file", path.display())));
    }
    let unknown = Build { git_revision: None, git_dirty: None, ..machine::build() };
    let path = path.canonicalize()?;
    Ok(Program { name: path.display().to_string(), command: worker(&path), path, build: unknown })
}

/// This very program.
///
/// # Errors
/// Its path can't be found.
pub fn own() -> Result<Program> {
    let build = machine::build();
    let revision = build.git_revision.as_deref().map_or("unknown revision", short);
    let name = match build.git_dirty {
        Some(true) => format!("this build ({revision} and changes)"),
        _ => format!("this build ({revision})"),
    };
    Ok(Program { name, path: own_program()?, command: WorkerCommand::own()?, build })
}

fn worker(path: &Path) -> WorkerCommand {
    let words: [OsString; 4] = [path.into(), "worker".into(), "--parent".into(), std::process::id().to_string().into()];
    WorkerCommand(words.into())
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn git(folder: Option<&Path>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    if let Some(folder) = folder {
        command.arg("-C").arg(folder);
    }
    let output = command.args(arguments).output().context("git")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!(Error::Usage(format!("git {}: {}", arguments.join(" "), message.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The compiler's flags of the environment, by which a build is another one, as a part of its folder's name.
fn flags() -> String {
    let set = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].map(|name| std::env::var(name).unwrap_or_default());
    match set.iter().all(String::is_empty) {
        true => String::new(),
        false => format!("-{}", &blake3::hash(set.join("\n").as_bytes()).to_hex()[..8]),
    }
}

/// A worktree that is gone when this is.
struct Worktree<'a> {
    root: &'a Path,
    path: PathBuf,
}

impl Drop for Worktree<'_> {
    fn drop(&mut self) {
        let path = self.path.display().to_string();
        if let Err(error) = git(Some(self.root), &["worktree", "remove", "--force", &path]) {
            eprintln!("{path}: left behind: {error}");
        }
    }
}

fn build(root: &Path, commit: &str, profile: &str, kept: &Path) -> Result<()> {
    let folder = root.join("target").join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    // Two gates at once each have their own.
    let place = tempfile::Builder::new().prefix("worktree-").tempdir_in(&folder)?;
    let path = place.path().join("tree");
    git(Some(root), &["worktree", "add", "--quiet", "--detach", &path.display().to_string(), commit])?;
    let tree = Worktree { root, path };
    let target = folder.join("build");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&tree.path)
        .args(["build", "--quiet", "--locked", "-p", "harness"])
        .env("CARGO_TARGET_DIR", &target);
    if profile != "dev" {
        cargo.args(["--profile", profile]);
    }
    // What the program that runs this was started with is not what the other one is built with.
    cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    let output = cargo.output().context("cargo")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        bail!("cargo build fails:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    let rustc = Command::new("rustc").arg("--version").current_dir(&tree.path).env_remove("RUSTUP_TOOLCHAIN").output();
    std::fs::create_dir_all(kept)?;
    std::fs::write(kept.join("rustc.txt"), rustc.context("rustc")?.stdout)?;
    let subfolder = if profile == "dev" { "debug" } else { profile };
    let copy = kept.join(format!("harness.{}", std::process::id()));
    let built = target.join(subfolder).join("harness");
    std::fs::copy(&built, &copy).with_context(|| built.display().to_string())?;
    std::fs::rename(copy, kept.join("harness"))?;
    Ok(())
}
