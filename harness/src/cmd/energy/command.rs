//! `energy -- COMMAND`: joules, watts, memory and time of a command with all that it starts.

use super::tree;
use crate::error::Error;
use crate::probe::energy::ledger::Lap;
use crate::probe::energy::{EnergyMeter, Options};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use suites::record::SourceEnergy;

/// How soon the processes' memory is looked at, and then twice as late each time until it is as late as [`LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// How often the processes' memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Arguments of `energy -- COMMAND`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Measure the machine at rest for this long before the command and after it; joules are then given net of that too
    #[arg(long, value_parser = duration)]
    idle: Option<Duration>,
    /// With --csv: a row a source and domain each time this has passed
    #[arg(long, value_parser = duration, default_value = "1s")]
    interval: Duration,
    /// Write the joules of each interval to a file
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write everything to a file, as one JSON object
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// The command and its arguments, after --
    #[arg(last = true)]
    words: Vec<OsString>,
}

impl Args {
    /// Whether no command is named.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let found = suites::definition::parse_duration(text).filter(|found| !found.is_zero());
    found.ok_or_else(|| format!("expected a duration such as 5s or 2m, found `{text}`"))
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    command: Vec<String>,
    /// As the shell tells it: the command's own, or 128 and the signal that ended it.
    exit_code: u8,
    signal: Option<i32>,
    wall_ns: u64,
    /// Of all processes that were waited for; clock ticks of the kernel.
    cpu_ns: Option<u64>,
    /// The largest sum over all processes that was seen, one look each 50 ms, and more at first.
    peak_rss_bytes: Option<u64>,
    /// What each source has counted meanwhile.
    sources: Vec<Found>,
    /// Sources that are not there, and why.
    missing: Vec<Absent>,
}

/// One source's figures.
#[derive(Debug, Serialize)]
struct Found {
    #[serde(flatten)]
    energy: SourceEnergy,
    average_mw: Option<u64>,
    /// Power at rest, before and after.
    idle_mw: Option<u64>,
    /// What the command took beyond rest; below 0 if the machine rested less before and after than meanwhile.
    net_uj: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Absent {
    source: &'static str,
    reason: String,
    remedy: Option<String>,
}

/// Runs the command; the exit code is its own.
///
/// # Errors
/// The command can't be started, a file can't be written.
pub(super) fn run(args: &Args) -> Result<u8> {
    let meter = EnergyMeter::open(&args.options);
    // Files are made before the command runs: what it costs must not be lost to a wrong path.
    let mut rows = args.csv.as_deref().map(Rows::create).transpose()?;
    let mut json = args.json.as_deref().map(create).transpose()?;
    let (program, arguments) = args.words.split_first().context("no command")?;
    let before = args.idle.filter(|_| meter.available()).map(|idle| rest(&meter, idle));
    let cpu = tree::children_cpu_ns(Path::new("/proc"));
    meter.begin();
    let begin = Instant::now();
    let mut command = Command::new(program);
    let child = command.args(arguments).spawn();
    let child = child.map_err(|error| Error::Usage(format!("{}: {error}", program.display())))?;
    let ran = watch(child, &meter, args.interval, rows.as_mut())?;
    let wall = begin.elapsed();
    let after = args.idle.filter(|_| meter.available()).map(|idle| rest(&meter, idle));
    let code = ran.status.code().or_else(|| ran.status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    let report = Report {
        command: args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        exit_code: u8::try_from(code & 0xff).unwrap_or(1),
        signal: ran.status.signal(),
        wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        cpu_ns: tree::children_cpu_ns(Path::new("/proc")).zip(cpu).map(|(now, then)| now.saturating_sub(then)),
        peak_rss_bytes: ran.peak,
        sources: sources(meter.judged(ran.lap), [before, after].into_iter().flatten().reduce(Lap::and)),
        missing: meter
            .missing()
            .iter()
            .map(|(source, m)| Absent { source, reason: m.reason.clone(), remedy: m.remedy.clone() })
            .collect(),
    };
    if let Some(file) = &mut json {
        serde_json::to_writer_pretty(&mut *file, &report)?;
        file.write_all(b"\n")?;
    }
    eprintln!("{}", text(&report));
    Ok(report.exit_code)
}

fn create(path: &Path) -> Result<std::fs::File> {
    std::fs::File::create(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())).into())
}

/// What the machine takes at rest.
fn rest(meter: &EnergyMeter, idle: Duration) -> Lap {
    meter.begin();
    std::thread::sleep(idle);
    meter.lap()
}

/// How the command went.
struct Ran {
    status: ExitStatus,
    peak: Option<u64>,
    lap: Lap,
}

/// Waits for the command; looks at its memory, writes rows, and passes on signals that would end this process alone.
fn watch(mut child: Child, meter: &EnergyMeter, interval: Duration, mut rows: Option<&mut Rows>) -> Result<Ran> {
    let id = child.id();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening for signals")?;
    let handle = signals.handle();
    let forward = std::thread::spawn(move || {
        for signal in signals.forever() {
            // The terminal sends Ctrl-C to the command as well.
            let own = signal == SIGINT && std::io::stdin().is_terminal();
            let named = [(SIGINT, Signal::INT), (SIGTERM, Signal::TERM), (SIGHUP, Signal::HUP)];
            let named = named.into_iter().find(|(number, _)| *number == signal).filter(|_| !own);
            if let (Some((_, signal)), Some(pid)) = (named, i32::try_from(id).ok().and_then(Pid::from_raw)) {
                // An error means that it has ended by itself.
                let _ = kill_process(pid, signal);
            }
        }
    });
    let (ended, status) = channel();
    std::thread::spawn(move || ended.send(child.wait()));
    let (mut peak, mut total, mut next) = (None, Lap::default(), Instant::now() + interval);
    let mut look = FIRST_LOOK;
    let status = loop {
        match status.recv_timeout(look) {
            Ok(status) => break status.context("waiting for the command")?,
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the command's end was not seen"),
            Err(RecvTimeoutError::Timeout) => peak = peak.max(tree::resident(Path::new("/proc"), id)),
        }
        look = LOOK.min(look * 2);
        if let Some(rows) = rows.as_deref_mut()
            && Instant::now() >= next
        {
            let lap = meter.lap();
            rows.write(&lap)?;
            total = total.and(lap);
            next += interval;
        }
    };
    let lap = meter.lap();
    if let Some(rows) = rows {
        rows.write(&lap)?;
    }
    handle.close();
    let _ = forward.join();
    Ok(Ran { status, peak, lap: total.and(lap) })
}

/// The file of `--csv`.
struct Rows {
    out: csv::Writer<std::fs::File>,
    seconds: f64,
}

impl Rows {
    fn create(path: &Path) -> Result<Rows> {
        let mut out = csv::Writer::from_writer(create(path)?);
        out.write_record(["end_s", "window_s", "source", "kind", "domain", "joules", "watts", "invalid"])?;
        out.flush()?;
        Ok(Rows { out, seconds: 0.0 })
    }

    /// A row for each source's total and each domain; on the disk when this returns.
    fn write(&mut self, lap: &Lap) -> Result<()> {
        let window = lap.window_ns as f64 / 1e9;
        self.seconds += window;
        for source in &lap.sources {
            let total = ("total", source.total_uj, source.invalid.as_deref().unwrap_or(""));
            let domains = source.domains.iter().map(|d| (d.domain.as_str(), Some(d.energy_uj), ""));
            for (domain, uj, invalid) in std::iter::once(total).chain(domains) {
                let joules = uj.map(|uj| uj as f64 / 1e6);
                let shown = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
                let watts = joules.filter(|_| window > 0.0).map(|joules| joules / window);
                let (end, window) = (format!("{:.6}", self.seconds), format!("{window:.6}"));
                let fields =
                    [&end, &window, &source.source, source.kind.name(), domain, &shown(joules), &shown(watts), invalid];
                self.out.write_record(fields)?;
            }
        }
        self.out.flush()?;
        Ok(())
    }
}

/// Each source's figures, with what the machine at rest would have taken.
fn sources(lap: Lap, idle: Option<Lap>) -> Vec<Found> {
    let watts = |source: &SourceEnergy, window_ns: u64| {
        let uj = source.total_uj.filter(|_| window_ns > 0)?;
        Some(uj as f64 * 1e3 / window_ns as f64)
    };
    let milli = |watts: f64| (watts * 1e3).round() as u64;
    let window = lap.window_ns;
    let found = |energy: SourceEnergy| {
        let rest = idle.as_ref().and_then(|idle| {
            let same = idle.sources.iter().find(|other| other.source == energy.source)?;
            watts(same, idle.window_ns)
        });
        let net = energy.total_uj.zip(rest).map(|(uj, rest)| uj as f64 - rest * window as f64 / 1e3);
        Found {
            average_mw: watts(&energy, window).map(milli),
            idle_mw: rest.map(milli),
            net_uj: net.map(|net| net.round() as i64),
            energy,
        }
    };
    lap.sources.into_iter().map(found).collect()
}

/// For reading.
fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for Found { energy, average_mw, idle_mw, net_uj } in &report.sources {
        let (source, kind) = (&energy.source, energy.kind.name());
        let Some(uj) = energy.total_uj else {
            lines.push(format!("energy   {source}: invalid: {}", energy.invalid.as_deref().unwrap_or("unknown")));
            continue;
        };
        let watts = |mw: Option<u64>| mw.map_or("unknown".to_owned(), |mw| format!("{:.3} W", mw as f64 / 1e3));
        let net = net_uj
            .map_or(String::new(), |net| format!(", {:.3} J net of {} at rest", net as f64 / 1e6, watts(*idle_mw)));
        let (mean, most) = (watts(*average_mw), watts(energy.peak_mw));
        lines.push(format!("energy   {:.3} J ({source}, {kind}), mean {mean}, peak {most}{net}", uj as f64 / 1e6));
        let domains = energy.domains.iter().map(|d| format!("{} {:.3} J", d.domain, d.energy_uj as f64 / 1e6));
        lines.push(format!("         {}", domains.collect::<Vec<_>>().join(", ")));
        lines.extend(energy.doubts.iter().map(|doubt| format!("         {doubt}")));
    }
    if report.sources.is_empty() {
        lines.extend(report.missing.iter().map(|m| format!("energy   no {}: {}", m.source, m.reason)));
        lines.extend(report.missing.iter().filter_map(|m| Some(format!("         mended by: {}", m.remedy.as_ref()?))));
    }
    let seconds = |ns: u64| format!("{:.3} s", ns as f64 / 1e9);
    let unknown = || "unknown".to_owned();
    lines.push(format!(
        "time     {} of wall, {} of CPU",
        seconds(report.wall_ns),
        report.cpu_ns.map_or_else(unknown, seconds)
    ));
    let peak =
        report.peak_rss_bytes.map(|bytes| format!("{:.1} MB at most, all processes together", bytes as f64 / 1e6));
    lines.push(format!("memory   {}", peak.unwrap_or_else(|| "unknown: it ended before the first look".to_owned())));
    if let Some(signal) = report.signal {
        lines.push(format!("end      by signal {signal}"));
    }
    lines.join("\n")
}
