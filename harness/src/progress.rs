//! Progress on stderr. It is drawn between cells only: nothing of this process runs while a worker measures.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// A bar on a terminal, lines elsewhere.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    predicted_ns: Vec<u64>,
    position: usize,
    spent: f64,
    predicted_spent: f64,
}

impl Progress {
    /// For steps with these predicted times.
    pub fn new(predicted_ns: Vec<u64>) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(predicted_ns.len() as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Progress { bar, terminal, predicted_ns, position: 0, spent: 0.0, predicted_spent: 0.0 }
    }

    /// What was seen so far over what was predicted for it; 1 before anything was seen.
    pub fn scale(&self) -> f64 {
        if self.predicted_spent > 0.0 { (self.spent / self.predicted_spent).clamp(0.1, 10.0) } else { 1.0 }
    }

    /// Time left by the predictions, scaled by what was seen.
    fn left(&self) -> Duration {
        let predicted: f64 = self.predicted_ns[self.position..].iter().map(|&ns| ns as f64 / 1e9).sum();
        Duration::try_from_secs_f64(predicted * self.scale()).unwrap_or(Duration::MAX)
    }

    /// A step begins.
    pub fn begin(&self, what: &str) {
        self.bar.set_message(format!("{} left  {what}", short(self.left())));
    }

    /// A step has ended; `ran` tells whether its time says anything.
    pub fn end(&mut self, line: &str, took: Duration, ran: bool) {
        if ran {
            self.spent += took.as_secs_f64();
            self.predicted_spent += self.predicted_ns[self.position] as f64 / 1e9;
        }
        self.position += 1;
        if self.terminal {
            self.bar.println(line);
        } else {
            let (position, steps, left) = (self.position, self.predicted_ns.len(), short(self.left()));
            // Nobody reading is no reason to stop measuring.
            let _ = writeln!(std::io::stderr(), "[{position}/{steps}] {line}, {left} left");
        }
        self.bar.set_position(self.position as u64);
    }

    /// No more steps.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A duration for reading: `45s`, `12m`, `3h05m`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_what_was_seen() {
        let mut progress = Progress::new(vec![1_000_000_000; 10]);
        assert_eq!(progress.left(), Duration::from_secs(10));
        progress.end("x", Duration::from_secs(2), true);
        assert_eq!(progress.left(), Duration::from_secs(18));
        progress.end("not run", Duration::ZERO, false);
        assert_eq!(progress.left(), Duration::from_secs(16));
    }

    #[test]
    fn durations_are_short() {
        let cases = [(45, "45s"), (60, "1m"), (250, "4m10s"), (11_100, "3h05m")];
        for (seconds, text) in cases {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
