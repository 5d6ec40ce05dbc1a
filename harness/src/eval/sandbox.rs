//! Runs generated Python programs with their tests, confined: for HumanEval, and only where the user has asked for it.
//!
//! A program is run by a fresh `python3` in a folder of its own, which `confine.py` confines before the program is read:
//!
//! | | [`Confinement::Namespaces`] | [`Confinement::Landlock`] |
//! |---|---|---|
//! | needs | unprivileged user namespaces, Linux 5.12 | Landlock of version 3, Linux 6.2 |
//! | files seen | the interpreter's and the system's libraries, read-only | the same can be opened, names and sizes of all can be asked |
//! | files written | an empty folder in memory, of [`Limits::disk_bytes`] in all | an empty temporary folder, looked at every few milliseconds |
//! | processes seen | none | numbers alone; they can be neither signalled nor traced |
//! | network | a namespace without any interface | no sockets |
//!
//! In both: a seccomp filter denies sockets (but pairs), new processes and threads, `exec`, signals to others, tracing, mounts,
//! changes to modes, owners and times of files, shared memory and what concerns the kernel; no capabilities and no new
//! privileges; limits of address space, CPU time, file size and open files; no core files; stdin, stdout and stderr are
//! `/dev/null`, and of the environment there is nothing but `PYTHONHASHSEED=0` and its like. After the time limit all of it is
//! killed; what outlives the harness is killed by the kernel. Each run first tries what must not be possible, and runs nothing
//! if it is; where neither kind can be had, [`Sandbox::open`] says why and nothing is ever run.
//!
//! Not confined: CPU caches and clocks (a program can read the time and measure), the kernel's own faults, and in the Landlock
//! kind the names of files. And a program shares its interpreter with its test, as in every HumanEval harness: printing
//! "passed" or leaving early does not pass, because a number unknown to the program is awaited after the test has returned,
//! but a program made to deceive could search the interpreter for it, or return objects that equal everything.
//!
//! As lm-evaluation-harness runs it: prompt, completion, test and `check(entry_point)` as one text, in an empty namespace.
//! It differs in that threads and processes are denied, and in the time limit (3 s there).

mod child;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

/// What is run: prompt, completion, test and `check(entry_point)`, as one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// What the model was asked to continue.
    pub prompt: &'a str,
    /// What it answered.
    pub completion: &'a str,
    /// Code that defines `check`.
    pub test: &'a str,
    /// Name of the function to check.
    pub entry_point: &'a str,
}

impl Program<'_> {
    /// The whole program.
    pub fn source(&self) -> String {
        let Program { prompt, completion, test, entry_point } = self;
        format!("{prompt}{completion}\n{test}\ncheck({entry_point})")
    }
}

/// What a program may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start of the interpreter to its end.
    pub wall: Duration,
    /// CPU time, in whole seconds, at least 1.
    pub cpu_s: u64,
    /// Address space, bytes: the interpreter takes some 40 MB of it.
    pub memory_bytes: u64,
    /// Bytes of one file, and of all files.
    pub disk_bytes: u64,
    /// Open files, at least 32.
    pub open_files: u64,
}

impl Default for Limits {
    /// 30 s, of which 10 s of CPU time; 1 GiB of memory; 16 MiB of files; 64 open files.
    ///
    /// Twice all inputs of HumanEval+ take 7.6 s at most (problem 139), on a machine of 2 cores with other work.
    fn default() -> Limits {
        Limits { wall: Duration::from_secs(30), cpu_s: 10, memory_bytes: 1 << 30, disk_bytes: 16 << 20, open_files: 64 }
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its check returned.
    Passed,
    /// Its check did not return: an exception, or it left.
    Failed {
        /// The exception in one line, at most 500 bytes, or how it left. The program has a say in it.
        reason: String,
    },
    /// It was ended by a limit of time, wall or CPU.
    TimedOut,
    /// It was ended otherwise.
    Killed {
        /// By what.
        reason: String,
    },
    /// It was not run, because its confinement did not come about. Says nothing about the program.
    NotRun {
        /// What failed.
        reason: String,
    },
}

/// Why no program is run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("generated programs can't be run confined here, so none is run: {reason}")]
pub struct Unavailable {
    /// What each kind of confinement lacks.
    pub reason: String,
}

/// A kind of confinement; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// Namespaces and seccomp.
    Namespaces,
    /// Landlock and seccomp.
    Landlock,
}

impl Confinement {
    /// As it is named in results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Confinement::Namespaces => "namespaces",
            Confinement::Landlock => "landlock",
        }
    }
}

/// A way to run programs confined, which was tried.
#[derive(Clone, Debug)]
pub struct Sandbox {
    python: PathBuf,
    version: String,
    confinement: Confinement,
}

impl Sandbox {
    /// The strongest confinement that this machine has, after a trial of it.
    ///
    /// # Errors
    /// There is no Python 3.8 or later, or no kind of confinement works.
    pub fn open() -> Result<Sandbox, Unavailable> {
        let mut reasons = Vec::new();
        for confinement in [Confinement::Namespaces, Confinement::Landlock] {
            match Sandbox::with(confinement) {
                Ok(sandbox) => return Ok(sandbox),
                Err(Unavailable { reason }) if !reasons.contains(&reason) => reasons.push(reason),
                Err(_) => {}
            }
        }
        Err(Unavailable { reason: reasons.join("; ") })
    }

    /// This kind of confinement, after a trial of it.
    ///
    /// # Errors
    /// There is no Python 3.8 or later, or this kind does not work.
    pub fn with(confinement: Confinement) -> Result<Sandbox, Unavailable> {
        if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
            return Err(Unavailable { reason: "Linux on x86-64 or AArch64 is needed".to_owned() });
        }
        let (python, version) = child::python().map_err(|reason| Unavailable { reason })?;
        let sandbox = Sandbox { python, version, confinement };
        let trial = Program { prompt: "def f():\n", completion: "    return 1\n", test: TRIAL, entry_point: "f" };
        match sandbox.run(&trial, &Limits::default()) {
            Verdict::Passed => Ok(sandbox),
            Verdict::NotRun { reason } => Err(Unavailable { reason: format!("{}: {reason}", confinement.name()) }),
            other => Err(Unavailable { reason: format!("{}: the trial ended as {other:?}", confinement.name()) }),
        }
    }

    /// The kind of confinement.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// The interpreter's version, as `3.11.7`: to be recorded, for programs pass or fail by it.
    pub fn python_version(&self) -> &str {
        &self.version
    }

    /// Runs a program to its end; takes at most [`Limits::wall`] and a few seconds.
    pub fn run(&self, program: &Program<'_>, limits: &Limits) -> Verdict {
        child::run(self, &program.source(), limits)
    }
}

/// What a program in the sandbox must find.
const TRIAL: &str = "
def check(f):
    import os, sys
    assert f() == 1
    assert os.listdir() == [], 'the folder is not empty'
    assert not {'HOME', 'PATH', 'USER'} & set(os.environ), 'the environment is inherited'
    assert sys.stdin.read() == '', 'stdin can be read'
    try:
        os.kill(os.getppid(), 0)
    except OSError:
        return
    raise AssertionError('the parent can be signalled')
";
