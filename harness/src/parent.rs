//! A process that ends when the one that started it does.

use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Has the system kill this process when the driver is gone, however it went (SIGKILL, out of memory): a worker that
/// outlived it would spoil the next run's figures.
#[cfg(target_os = "linux")]
pub fn end_with(parent: i32) -> Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the driver")?;
    // It may have gone before the system was asked.
    anyhow::ensure!(getppid().map(Pid::as_raw_pid) == Some(parent), "the driver {parent} is gone");
    Ok(())
}

/// Nothing there does that.
#[cfg(not(target_os = "linux"))]
pub fn end_with(_parent: i32) -> Result<()> {
    Ok(())
}

/// Becomes `program`, to end with `parent`: the system keeps to that across the change of programs.
///
/// # Errors
/// The program can't be run; otherwise this never returns.
pub fn exec(parent: i32, program: &Path, arguments: &[OsString]) -> Result<u8> {
    end_with(parent)?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| program.display().to_string())
}
