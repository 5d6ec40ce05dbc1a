//! A program that prints a line a reading, run for as long as it is read.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest line of a program, in bytes.
const LINE: u64 = 4096;
/// How long a program may take to its first reading, and between any two.
const SILENCE: Duration = Duration::from_secs(10);

/// A program that is being heard. It is killed, with all that it started, when this is dropped; if this process is killed
/// itself, the program ends when it next prints a line, as nobody hears it.
pub(super) struct Program<T> {
    words: String,
    child: Child,
    said: Arc<Said<T>>,
}

/// What it said last, and when.
struct Said<T> {
    last: Mutex<Heard<T>>,
    more: Condvar,
}

struct Heard<T> {
    readings: u64,
    last: Option<(Result<T, String>, Instant)>,
    /// The last line that was no reading: it may tell why there is none.
    other: Option<String>,
    ended: bool,
}

impl<T> Said<T> {
    fn lock(&self) -> MutexGuard<'_, Heard<T>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, line: &str, reading: Option<Result<T, String>>) {
        let mut heard = self.lock();
        match reading {
            Some(reading) => {
                heard.readings += 1;
                heard.last = Some((reading, Instant::now()));
                self.more.notify_all();
            }
            None if !line.trim().is_empty() => heard.other = Some(line.trim().chars().take(120).collect()),
            None => {}
        }
    }

    fn end(&self) {
        self.lock().ended = true;
        self.more.notify_all();
    }
}

impl<T> Heard<T> {
    fn why_ended(&self) -> String {
        self.other.as_ref().map_or_else(|| "it ended".to_owned(), |line| format!("it ended after `{line}`"))
    }
}

impl<T: Clone + Send + 'static> Program<T> {
    /// Starts `words` by the shell. `reading` makes a reading of a line, or nothing of one that is not (or not yet) one.
    ///
    /// # Errors
    /// No shell.
    pub(super) fn start(
        words: &str,
        mut reading: impl FnMut(&str) -> Option<Result<T, String>> + Send + 'static,
    ) -> Result<Program<T>, String> {
        let mut command = Command::new("sh");
        command.args(["-c", words]).stdin(Stdio::null()).stdout(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| format!("{words}: {error}"))?;
        let heard = Heard { readings: 0, last: None, other: None, ended: false };
        let said = Arc::new(Said { last: Mutex::new(heard), more: Condvar::new() });
        let (stdout, shared) = (child.stdout.take(), Arc::clone(&said));
        std::thread::spawn(move || {
            if let Some(stdout) = stdout {
                listen(BufReader::new(stdout), |line| shared.hear(line, reading(line)));
            }
            shared.end();
        });
        Ok(Program { words: words.to_owned(), child, said })
    }

    /// Waits for two readings; the first of them, and how far apart they came.
    ///
    /// # Errors
    /// None within [`SILENCE`], a first one that can't be read, or the program's end.
    pub(super) fn two(&self) -> Result<(T, Duration), String> {
        let both = || {
            let (first, count, then) = self.after(0)?;
            let (_, _, now) = self.after(count)?;
            Ok((first, now - then))
        };
        both().map_err(|reason: String| format!("{}: {reason}", self.words))
    }

    /// The first reading after `count` were heard, with its number; an error if none comes.
    fn after(&self, count: u64) -> Result<(T, u64, Instant), String> {
        let (heard, late) = self
            .said
            .more
            .wait_timeout_while(self.said.lock(), SILENCE, |heard| heard.readings <= count && !heard.ended)
            .unwrap_or_else(PoisonError::into_inner);
        match &heard.last {
            _ if late.timed_out() => Err(format!("no reading within {} s", SILENCE.as_secs())),
            Some((reading, at)) if heard.readings > count => Ok((reading.clone()?, heard.readings, *at)),
            _ => Err(heard.why_ended()),
        }
    }

    /// The last reading, if it came within `most` (at least 1 s, at most [`SILENCE`]).
    ///
    /// # Errors
    /// It is older, can't be read, or the program has ended.
    pub(super) fn last(&self, most: Duration) -> Result<T, String> {
        let heard = self.said.lock();
        let most = most.clamp(Duration::from_secs(1), SILENCE);
        match &heard.last {
            _ if heard.ended => Err(format!("the meter's program has ended: {}", heard.why_ended())),
            Some((_, at)) if at.elapsed() > most => Err(format!("no reading for {:.1} s", at.elapsed().as_secs_f64())),
            Some((reading, _)) => reading.clone(),
            None => Err("nothing was said yet".to_owned()),
        }
    }
}

/// Hears the lines of a program until it ends, or says one that is too long.
fn listen(mut out: impl BufRead, mut hear: impl FnMut(&str)) {
    let mut line = String::new();
    loop {
        line.clear();
        match out.by_ref().take(LINE).read_line(&mut line) {
            Ok(read) if read > 0 && line.ends_with('\n') => hear(&line),
            _ => return,
        }
    }
}

impl<T> Drop for Program<T> {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // An error means that it has ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
