//! The confined interpreter as a child process: started, watched, killed.

use super::{Confinement, Limits, Sandbox, Verdict};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What confines and runs a program, in Python.
const CONFINE: &str = include_str!("confine.py");
/// How often the child is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a killed child may take to be gone.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes kept of what a child writes: more than it ever has to say.
const MOST_OUTPUT: u64 = 4096;
/// Most files of a program, as in the folder in memory.
const MOST_FILES: usize = 1024;
/// Exit code of a confinement that failed. The signal that ended a program is told as 128 and its number, that of the limit
/// of CPU time always as SIGXCPU.
const SETUP_FAILED: i32 = 125;
/// What is said when the confinement stands and the program begins.
const READY: &[u8] = b"ready\n";
const SIGXCPU: i32 = 24;

/// The `python3` of the search path as it names itself, not a wrapper of it; and its version.
pub(super) fn python() -> Result<(PathBuf, String), String> {
    let show = "import sys; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3])";
    let found = Command::new("python3").args(["-s", "-c", show]).stdin(Stdio::null()).output();
    let found = found.map_err(|error| format!("python3: {error}"))?;
    let text = String::from_utf8_lossy(&found.stdout);
    let (Some(path), Some(version)) = (text.lines().next(), text.lines().nth(1)) else {
        return Err("python3 does not tell its version".to_owned());
    };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(3), Some(8)) {
        return Err(format!("python3 is of version {version}, at least 3.8 is needed"));
    }
    Ok((path.into(), version.to_owned()))
}

/// What a child has said, and how it ended.
struct Ended {
    status: Option<ExitStatus>,
    /// The limit at which it was killed.
    limit: Option<Limit>,
    out: Vec<u8>,
    err: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Time,
    Disk,
}

/// Runs `source` confined.
pub(super) fn run(sandbox: &Sandbox, source: &str, limits: &Limits) -> Verdict {
    if limits.cpu_s == 0 || limits.open_files < 32 {
        return Verdict::NotRun { reason: "at least 1 s of CPU time and 32 open files are needed".to_owned() };
    }
    let nonce = match nonce() {
        Ok(nonce) => nonce,
        Err(error) => return Verdict::NotRun { reason: format!("/dev/urandom: {error}") },
    };
    let request = serde_json::json!({
        "confinement": sandbox.confinement.name(),
        "parent": std::process::id(),
        "nonce": &nonce,
        "source": source,
        "cpu_s": limits.cpu_s,
        "memory_bytes": limits.memory_bytes,
        "disk_bytes": limits.disk_bytes,
        "open_files": limits.open_files,
    });
    let folder = match tempfile::Builder::new().prefix("tritmark-program-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return Verdict::NotRun { reason: format!("temporary folder: {error}") },
    };
    let disk = (sandbox.confinement == Confinement::Landlock).then_some(limits.disk_bytes);
    let verdict = match start(sandbox, folder.path(), request.to_string()) {
        Ok(started) => judge(watch(started, folder.path(), limits.wall, disk), &nonce),
        Err(error) => Verdict::NotRun { reason: format!("{}: {error}", sandbox.python.display()) },
    };
    if let Err(error) = folder.close() {
        return Verdict::NotRun { reason: format!("temporary folder: {error}") };
    }
    verdict
}

/// 128 random bits, in hexadecimal.
fn nonce() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

struct Started {
    child: Child,
    out: Receiver<Vec<u8>>,
    err: Receiver<Vec<u8>>,
}

fn start(sandbox: &Sandbox, folder: &Path, request: String) -> std::io::Result<Started> {
    let mut child = Command::new(&sandbox.python)
        // Neither packages of the user nor compiled files; not -I, which would ignore the seed too.
        .args(["-s", "-B", "-c", CONFINE])
        .env_clear()
        .envs([("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1"), ("LC_ALL", "C.UTF-8")])
        // Libraries that would start threads.
        .envs([("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdin = child.stdin.take();
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(request.as_bytes())));
    let (out, err) = (bounded(child.stdout.take()), bounded(child.stderr.take()));
    Ok(Started { child, out, err })
}

/// Reads to the end, keeps the beginning.
fn bounded(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(MOST_OUTPUT).read_to_end(&mut kept);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        sender.send(kept)
    });
    receiver
}

fn watch(mut started: Started, folder: &Path, wall: Duration, disk: Option<u64>) -> Ended {
    let group = i32::try_from(started.child.id()).ok().and_then(Pid::from_raw);
    // The group's other processes end with the first: the kernel kills each when its parent ends.
    let kill = || group.map(|group| kill_process_group(group, Signal::KILL));
    let (begin, mut limit) = (Instant::now(), None);
    let mut killed: Option<Instant> = None;
    let status = loop {
        match started.child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Err(_) => break None,
            Ok(None) => {}
        }
        if killed.is_some_and(|since| since.elapsed() > GRACE) {
            break None;
        }
        if killed.is_none() {
            limit = if begin.elapsed() > wall {
                Some(Limit::Time)
            } else {
                disk.filter(|&most| !within(folder, most)).map(|_| Limit::Disk)
            };
        }
        if limit.is_some() && killed.is_none() {
            kill();
            killed = Some(Instant::now());
        }
        std::thread::sleep(LOOK);
    };
    let out = started.out.recv_timeout(GRACE).unwrap_or_default();
    let err = started.err.recv_timeout(GRACE).unwrap_or_default();
    if disk.is_some() {
        make_removable(folder);
    }
    Ended { status, limit, out, err }
}

/// Whether the files of `folder` take at most `most` bytes and are not too many.
fn within(folder: &Path, most: u64) -> bool {
    let (mut open, mut bytes, mut files) = (vec![folder.to_owned()], 0, 0);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            files += 1;
            bytes += metadata.len();
            if files > MOST_FILES || bytes > most {
                return false;
            }
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    true
}

/// Gives back the rights that a program has left out when it made its folders (`mkdir` takes a mode).
fn make_removable(folder: &Path) {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700));
        let inner = std::fs::read_dir(folder).into_iter().flatten().flatten();
        open.extend(inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
}

fn judge(ended: Ended, nonce: &str) -> Verdict {
    let Ended { status, limit, out, err } = ended;
    let said = line(&err);
    let Some(status) = status else {
        return Verdict::NotRun { reason: "it could not be ended".to_owned() };
    };
    match limit {
        Some(Limit::Time) if !out.starts_with(READY) => {
            return Verdict::NotRun { reason: "the interpreter was not ready in time".to_owned() };
        }
        Some(Limit::Time) => return Verdict::TimedOut,
        Some(Limit::Disk) => return Verdict::Killed { reason: "its files took more than they may".to_owned() },
        None => {}
    }
    let Some(proof) = out.strip_prefix(READY) else {
        let code = status.code();
        let why = if said.is_empty() { format!("ended by {status}") } else { said };
        let stage = if code == Some(SETUP_FAILED) { "confinement" } else { "interpreter" };
        return Verdict::NotRun { reason: format!("{stage}: {why}") };
    };
    if proof == nonce.as_bytes() && status.success() {
        return Verdict::Passed;
    }
    match (status.signal(), status.code()) {
        (Some(signal), _) => Verdict::Killed { reason: format!("signal {signal}") },
        (_, Some(code)) if code == 128 + SIGXCPU => Verdict::TimedOut,
        (_, Some(code)) if code > 128 => Verdict::Killed { reason: format!("signal {}", code - 128) },
        (_, Some(_)) if !said.is_empty() => Verdict::Failed { reason: said },
        (_, code) => {
            let code = code.map_or("without a code".to_owned(), |code| format!("with exit code {code}"));
            Verdict::Failed { reason: format!("it left before its check returned, {code}") }
        }
    }
}

/// The text's lines as one, without control characters.
fn line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    lines.join("; ").chars().filter(|c| !c.is_control()).collect()
}
