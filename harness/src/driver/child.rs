//! One outside program: started, heard, looked at while it runs, and ended one way or another.

use super::interrupt::Interrupt;
use super::pipes::{MAX_LINE, Tail};
use super::process::signal_name;
use crate::error::Error;
use crate::probe::procfs::{self, ProcessMemory};
use anyhow::Result;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use suites::record::Failure;

/// How long what a program said may take to arrive once it has ended, and a killed one to be gone.
const GRACE: Duration = Duration::from_secs(5);
/// Longest time between two looks at a program: seldom enough to cost nothing.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// A program that ended well.
#[derive(Debug)]
pub struct Ran {
    /// All it said on stdout.
    pub stdout: String,
    /// Its memory as last seen; the peak is the kernel's own, so only what grew after the last look is missed.
    pub memory: ProcessMemory,
    /// From its start to its end.
    pub wall: Duration,
    /// Its last lines on stderr.
    pub tail: Tail,
}

/// How a program ended.
#[derive(Debug)]
pub enum Ended {
    /// With exit code 0.
    Exited(Ran),
    /// Any other way.
    Failed(Failure),
}

/// Runs `program` to its end; it ends with this process too.
///
/// # Errors
/// [`Error::Interrupted`]; all else is an [`Ended::Failed`].
pub fn run(program: &Path, arguments: &[OsString], timeout: Duration, interrupt: &Interrupt) -> Result<Ended> {
    if interrupt.requested() {
        return Err(Error::Interrupted.into());
    }
    let (tail, begin) = (Tail::default(), Instant::now());
    let (mut child, stdout) = match spawn(program, arguments, &tail) {
        Ok(spawned) => spawned,
        Err(message) => return Ok(Ended::Failed(failure("spawn", message, &tail))),
    };
    interrupt.watch(&child);
    let (status, memory) = watch(&mut child, begin + timeout, interrupt);
    let wall = begin.elapsed();
    let text = stdout.recv_timeout(GRACE).unwrap_or_else(|_| Err("its stdout stayed open after its end".to_owned()));
    if interrupt.requested() {
        return Err(Error::Interrupted.into());
    }
    let failed = |stage: &str, message: String| Ok(Ended::Failed(failure(stage, message, &tail)));
    let Some(status) = status else {
        return failed("timeout", format!("killed after {:.1} s", timeout.as_secs_f64()));
    };
    if let Some(signal) = status.signal() {
        let why = if signal == 9 { ", likely out of memory" } else { "" };
        return failed("killed", format!("killed by signal {}{why}", signal_name(signal)));
    }
    if let Some(code) = status.code().filter(|&code| code != 0) {
        let text = tail.text();
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing on stderr");
        return failed("measure", format!("the program ended with exit code {code}: {last}"));
    }
    match text {
        Ok(stdout) => Ok(Ended::Exited(Ran { stdout, memory, wall, tail })),
        Err(message) => failed("protocol", message),
    }
}

/// Starts `program` by way of this very program, which becomes it once the system was asked to end it with its parent.
fn spawn(
    program: &Path,
    arguments: &[OsString],
    tail: &Tail,
) -> Result<(Child, Receiver<Result<String, String>>), String> {
    let own = super::process::own_program().map_err(|e| format!("{e:#}"))?;
    let mut child = Command::new(&own)
        .args(["exec", "--parent", &std::process::id().to_string(), "--"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: the terminal's Ctrl-C is the driver's to pass on, and a kill takes all it started.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let (sender, text) = channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let kept = tail.clone();
    let errors = std::thread::spawn(move || stderr.map(|stderr| kept.read(stderr)));
    std::thread::spawn(move || {
        let said = stdout.map_or_else(|| Ok(String::new()), bounded);
        // What stdout gave is passed on only after stderr has been read too.
        let _ = errors.join();
        let _ = sender.send(said);
    });
    Ok((child, text))
}

/// All of `stdout`, if it is no more than a line of events may be.
fn bounded(mut stdout: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    stdout.by_ref().take(MAX_LINE + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_LINE {
        // It must not block for want of a reader.
        let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        return Err(format!("more than {MAX_LINE} bytes on stdout"));
    }
    String::from_utf8(bytes).map_err(|_| "no UTF-8 on stdout".to_owned())
}

/// Waits for the end, looking at the memory; kills the program after `deadline`, and then there is no status.
fn watch(child: &mut Child, deadline: Instant, interrupt: &Interrupt) -> (Option<ExitStatus>, ProcessMemory) {
    let (begin, pid) = (Instant::now(), child.id());
    let mut memory = ProcessMemory::default();
    let mut killed: Option<Instant> = None;
    loop {
        // Of a process that ends meanwhile nothing is read, and what was seen before stays.
        if let Some(seen) = procfs::memory_of_other(pid).filter(|seen| seen.peak.is_some()) {
            memory = seen;
        }
        if let Some(status) = interrupt.reap(child) {
            return (killed.is_none().then_some(status), memory);
        }
        match killed {
            Some(since) if since.elapsed() > GRACE => return (None, memory),
            None if Instant::now() > deadline => {
                interrupt.kill(child);
                killed = Some(Instant::now());
            }
            _ => std::thread::sleep(LOOK.min(begin.elapsed() / 10 + Duration::from_millis(1))),
        }
    }
}

/// A failure with one line of message and what stderr said last.
fn failure(stage: &str, message: String, tail: &Tail) -> Failure {
    let message = message.lines().collect::<Vec<_>>().join("; ");
    Failure { stage: stage.to_owned(), message, stderr_tail: tail.text(), check: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_bounded_text() {
        assert_eq!(bounded(&b"[1]\n"[..]).unwrap(), "[1]\n");
        let mut endless = std::io::repeat(b'x').take(MAX_LINE * 2);
        assert!(bounded(&mut endless).unwrap_err().contains("more than 16777216 bytes"));
        assert_eq!(endless.limit(), 0, "drained, or the writer would block");
        assert!(bounded(&b"\xff"[..]).unwrap_err().contains("UTF-8"));
    }
}
