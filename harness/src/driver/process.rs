//! One worker process: spawned, asked, heard, and ended one way or another.

use super::interrupt::Interrupt;
use super::pipes::{Heard, Tail, events};
use crate::error::Error;
use crate::protocol::{Answer, Event, Mode, Quad, Request};
use anyhow::Result;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use suites::record::{Failure, Measurement};

/// The argument of a worker that measures in turns: a program that knows of none refuses it at once, and does not wait for the end of
/// its request.
pub(crate) const TURNS: &str = "--turns";
/// How long a worker that has closed its stdout, or was killed, may take to be gone.
const GRACE: Duration = Duration::from_secs(5);

/// What starts a worker: program and arguments.
#[derive(Clone, Debug)]
pub struct WorkerCommand(pub Vec<OsString>);

impl WorkerCommand {
    /// This very program, as `worker`: where the system allows, the file that runs even if a build replaces it meanwhile.
    ///
    /// # Errors
    /// The program's own path can't be found.
    pub fn own() -> Result<WorkerCommand> {
        Ok(WorkerCommand(vec![
            own_program()?.into_os_string(),
            "worker".into(),
            "--parent".into(),
            std::process::id().to_string().into(),
        ]))
    }
}

/// The file of this very program, by a path that is the same for those it starts, by way of whatever other program.
///
/// # Errors
/// Its path can't be found.
pub(crate) fn own_program() -> Result<PathBuf> {
    let running = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    Ok(if running.exists() { running } else { std::env::current_exe()? })
}

/// What a worker ended with.
#[derive(Debug)]
pub enum Ended {
    /// It measured; its check has yet to be looked at.
    Measured(Box<Measurement>),
    /// It answered.
    Answered(Answer),
    /// It timed windows with and without a meter.
    Overhead(Vec<Quad>),
    /// It did nothing of that.
    Failed(Failure),
}

/// How far a worker came, as heard so far.
struct Progress {
    stage: &'static str,
    last: Option<Event>,
    garbage: Option<String>,
    half: Option<String>,
    timed_out: bool,
    /// Nothing more is to be heard.
    over: bool,
}

/// Runs one worker to its end. While it runs, this process only waits.
///
/// # Errors
/// [`Error::Interrupted`]; all else is an [`Ended::Failed`].
pub fn run(command: &WorkerCommand, request: &Request, timeout: Duration, interrupt: &Interrupt) -> Result<Ended> {
    match Worker::start(command, (request, false), timeout, interrupt)? {
        Ok(worker) => worker.end(),
        Err(failure) => Ok(Ended::Failed(failure)),
    }
}

/// A worker that runs.
pub struct Worker {
    child: Child,
    heard: Receiver<Heard>,
    /// Gives its stdin, once the request is written; `None` where it takes no turns, or wants to hear no more.
    stdin: Option<JoinHandle<Option<ChildStdin>>>,
    /// The same, once it was asked for.
    turns: Option<ChildStdin>,
    progress: Progress,
    deadline: Instant,
    timeout: Duration,
    mode: Mode,
    tail: Tail,
    interrupt: Interrupt,
}

impl Worker {
    /// Starts it and sends the request; if `turns`, as one that measures in turns.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; within, that it can't be started.
    pub fn start(
        command: &WorkerCommand,
        (request, turns): (&Request, bool),
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Result<Worker, Failure>> {
        if interrupt.requested() {
            return Err(Error::Interrupted.into());
        }
        let tail = Tail::default();
        let deadline = Instant::now() + timeout;
        let (child, heard, stdin) = match spawn(command, (request, turns), &tail) {
            Ok(spawned) => spawned,
            Err(message) => return Ok(Err(failure("spawn", message, &tail))),
        };
        interrupt.watch(&child);
        let progress = Progress { stage: "load", last: None, garbage: None, half: None, timed_out: false, over: false };
        let (mode, interrupt) = (request.mode, interrupt.clone());
        let stdin = Some(stdin);
        Ok(Ok(Worker { child, heard, stdin, turns: None, progress, deadline, timeout, mode, tail, interrupt }))
    }

    /// Waits until it is ready for its next turn. Not if it has ended, or never will be: [`Worker::end`] says why.
    pub fn ready(&mut self) -> bool {
        listen(&self.heard, self.deadline, &mut self.progress, true)
    }

    /// Gives it a turn, and waits until it is over.
    pub fn turn(&mut self) -> bool {
        if let Some(stdin) = self.stdin.take() {
            // It is ready, so that it has read the request, and the thread has ended.
            self.turns = stdin.join().ok().flatten();
        }
        // A worker that has ended, or never will be ready, is found out by listening.
        let said = self.turns.as_mut().is_some_and(|stdin| stdin.write_all(b"turn\n").is_ok());
        self.ready() && said
    }

    /// Gives it no further turn, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; all else is an [`Ended::Failed`].
    pub fn end(mut self) -> Result<Ended> {
        // Closes its stdin.
        drop((self.stdin.take(), self.turns.take()));
        listen(&self.heard, self.deadline, &mut self.progress, false);
        if self.progress.timed_out || self.progress.garbage.is_some() {
            self.interrupt.kill(&self.child);
        }
        let status = wait(&mut self.child, self.deadline, &mut self.progress, &self.interrupt);
        // Lets the last lines of stderr arrive; a process that outlived the worker may hold the pipes open.
        let until = Instant::now() + Duration::from_millis(200);
        while self.heard.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
        match judge(self.mode, self.progress, status, self.timeout, &self.tail) {
            Ended::Failed(_) if self.interrupt.requested() => Err(Error::Interrupted.into()),
            ended => Ok(ended),
        }
    }
}

type Spawned = (Child, Receiver<Heard>, JoinHandle<Option<ChildStdin>>);

fn spawn(command: &WorkerCommand, (request, turns): (&Request, bool), tail: &Tail) -> Result<Spawned, String> {
    let (program, arguments) = command.0.split_first().ok_or("no worker program")?;
    let mut line = serde_json::to_vec(request).map_err(|e| e.to_string())?;
    line.push(b'\n');
    let mut child = Command::new(program)
        .args(arguments)
        .args(turns.then_some(TURNS))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: the terminal's Ctrl-C is the driver's to pass on, and a kill takes all it started.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let (sender, heard) = channel();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // A worker that never reads must not block the driver. Its exit code tells more than a broken pipe would.
    let stdin = std::thread::spawn(move || {
        let mut stdin = stdin?;
        (stdin.write_all(&line).is_ok() && turns).then_some(stdin)
    });
    let kept = tail.clone();
    let errors = std::thread::spawn(move || stderr.map(|stderr| kept.read(stderr)));
    std::thread::spawn(move || {
        if let Some(stdout) = stdout {
            events(stdout, &sender);
        }
        // The channel closes only after stderr has been read too.
        let _ = errors.join();
    });
    Ok((child, heard, stdin))
}

/// Hears a worker until its end; with `ready`, until it is ready for a turn: then true.
fn listen(heard: &Receiver<Heard>, deadline: Instant, progress: &mut Progress, ready: bool) -> bool {
    while !progress.over {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Heard::Event(event)) => {
                progress.stage = match *event {
                    Event::Started { .. } => "load",
                    Event::Loaded { .. } => "check",
                    Event::Checked { .. } => "measure",
                    _ => progress.stage,
                };
                if ready && matches!(*event, Event::Ready) {
                    return true;
                }
                if matches!(*event, Event::Answer(_) | Event::Overhead { .. } | Event::Done(_) | Event::Failed { .. }) {
                    progress.last.get_or_insert(*event);
                }
            }
            Ok(Heard::Garbage(message)) => {
                (progress.garbage, progress.over) = (Some(message), true);
            }
            Ok(Heard::Half(message)) => {
                (progress.half, progress.over) = (Some(message), true);
            }
            Ok(Heard::End) | Err(RecvTimeoutError::Disconnected) => progress.over = true,
            Err(RecvTimeoutError::Timeout) => (progress.timed_out, progress.over) = (true, true),
        }
    }
    false
}

/// Waits for the exit; the windows are over by now, so looking every few milliseconds disturbs nothing.
fn wait(child: &mut Child, deadline: Instant, progress: &mut Progress, interrupt: &Interrupt) -> Option<ExitStatus> {
    let mut killed = (progress.timed_out || progress.garbage.is_some()).then(Instant::now);
    loop {
        if let Some(status) = interrupt.reap(child) {
            return Some(status);
        }
        match killed {
            Some(since) if since.elapsed() > GRACE => return None,
            None if Instant::now() > deadline => {
                progress.timed_out = true;
                interrupt.kill(child);
                killed = Some(Instant::now());
            }
            _ => std::thread::sleep(Duration::from_millis(3)),
        }
    }
}

fn judge(mode: Mode, progress: Progress, status: Option<ExitStatus>, timeout: Duration, tail: &Tail) -> Ended {
    let failed = |stage: &str, message: String| Ended::Failed(failure(stage, message, tail));
    if progress.timed_out {
        return failed("timeout", format!("killed after {:.1} s, at stage {}", timeout.as_secs_f64(), progress.stage));
    }
    let signal = status.and_then(|s| s.signal());
    // After garbage the driver kills the worker itself, so the signal says nothing then.
    if let Some(message) = progress.garbage {
        return failed("protocol", message);
    }
    if let Some(Event::Failed { stage, message, check }) = progress.last {
        return Ended::Failed(Failure { check, ..failure(&stage, message, tail) });
    }
    if let Some(signal) = signal {
        let why = if signal == 9 { ", likely out of memory" } else { "" };
        return failed("killed", format!("killed by signal {}{why}, at stage {}", signal_name(signal), progress.stage));
    }
    if let Some(code) = status.and_then(|s| s.code()).filter(|&code| code != 0) {
        return failed(progress.stage, format!("the worker ended with exit code {code} at stage {}", progress.stage));
    }
    match (mode, progress.last) {
        (_, None) if progress.half.is_some() => failed("protocol", progress.half.unwrap_or_default()),
        (Mode::Measure, Some(Event::Done(measurement))) => Ended::Measured(measurement),
        (Mode::Answer, Some(Event::Answer(answer))) => Ended::Answered(answer),
        (Mode::Overhead { .. }, Some(Event::Overhead { quads })) => Ended::Overhead(quads),
        _ => failed("protocol", format!("the worker ended without a result, at stage {}", progress.stage)),
    }
}

/// A failure with one line of message and what stderr said last.
fn failure(stage: &str, message: String, tail: &Tail) -> Failure {
    let message = message.lines().collect::<Vec<_>>().join("; ");
    Failure { stage: stage.to_owned(), message, stderr_tail: tail.text(), check: None }
}

pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}
