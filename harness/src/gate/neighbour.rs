//! A neighbour on the machine: a command that is run again and again while gates are measured.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is looked at every so often.
const LOOK: Duration = Duration::from_millis(20);

/// A command that runs until this is dropped, and is then killed with all it started.
#[derive(Debug)]
pub struct Neighbour {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    over: bool,
    failed: Option<String>,
}

impl Neighbour {
    /// Starts `command`, as the shell reads it; its output is thrown away.
    ///
    /// # Errors
    /// There is no shell.
    pub fn start(command: &str) -> Result<Neighbour> {
        let state = Arc::new(Mutex::new(State::default()));
        let child = spawn(command)?;
        let (command, shared) = (command.to_owned(), Arc::clone(&state));
        let thread = std::thread::spawn(move || keep(&command, child, &shared));
        Ok(Neighbour { state, thread: Some(thread) })
    }

    /// Whether it still makes itself felt.
    ///
    /// # Errors
    /// It ended with an error.
    pub fn check(&self) -> Result<()> {
        match &lock(&self.state).failed {
            Some(reason) => bail!("the neighbour: {reason}"),
            None => Ok(()),
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        lock(&self.state).over = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(command: &str) -> Result<Child> {
    Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own, so that all it started can be killed.
        .process_group(0)
        .spawn()
        .context("sh")
}

/// Runs the command again whenever it has ended well, until it is over.
fn keep(command: &str, mut child: Child, state: &Mutex<State>) {
    let fail = |reason: String| lock(state).failed = Some(reason);
    loop {
        if lock(state).over {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // An error means that it has ended by itself.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.wait();
            return;
        }
        match child.try_wait() {
            Ok(None) => std::thread::sleep(LOOK),
            Ok(Some(status)) if status.success() => match spawn(command) {
                Ok(next) => child = next,
                Err(error) => return fail(format!("{error:#}")),
            },
            Ok(Some(status)) => return fail(format!("`{command}` ended with {status}")),
            Err(error) => return fail(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_runs_again_and_again_and_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runs");
        let count = || std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        let neighbour = Neighbour::start(&format!("echo run >>'{}'; sleep 0.01", file.display())).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while count() < 3 && std::time::Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        assert!(count() >= 3);
        neighbour.check().unwrap();
        drop(neighbour);
        let ended = count();
        std::thread::sleep(4 * LOOK);
        assert_eq!(count(), ended);
        // One that takes its time is not waited for.
        let began = std::time::Instant::now();
        drop(Neighbour::start("sleep 60 & sleep 60").unwrap());
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_neighbour_that_fails_is_told() {
        let neighbour = Neighbour::start("exit 3").unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while neighbour.check().is_ok() && std::time::Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        let error = neighbour.check().unwrap_err().to_string();
        assert!(error.contains("`exit 3` ended with exit status: 3"), "{error}");
    }
}
