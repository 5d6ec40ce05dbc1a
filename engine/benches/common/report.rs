//! Speeds beside limits: a line a case, a table, a CSV file.

use std::fmt::{self, Write};
use std::path::Path;

use super::limits::Limits;
use super::{Case, Work};

/// A measured case.
pub(super) struct Row {
    case: Case,
    work: Work,
    /// Of a pass, the median.
    seconds: f64,
    /// Bytes a second of plain reading; `None` if there is nothing to hold against it.
    reading: Option<u64>,
    /// Operations a second, and of which instruction.
    peak: Option<(u64, &'static str)>,
}

/// The limit that binds: the one that would take longer.
struct Share {
    bound: &'static str,
    /// In 10^9 of `unit`.
    limit: f64,
    unit: &'static str,
    share: f64,
}

impl Row {
    /// With the limits of this minute.
    pub(super) fn new(case: &Case, work: Work, seconds: f64, limits: &mut Limits) -> Row {
        let rate = |amount: usize| amount as f64 / seconds;
        let Work { bytes, within, operations, arithmetic } = work;
        let Case { isa, threads, .. } = *case;
        let reading = if bytes > 0 { limits.reading(threads, within, rate(bytes)) } else { None };
        let peak = if operations > 0 { limits.peak(threads, isa, arithmetic, rate(operations)) } else { None };
        Row { case: case.clone(), work, seconds, reading, peak }
    }

    /// Bytes in 10^9 a second.
    fn gigabytes(&self) -> f64 {
        self.work.bytes as f64 / self.seconds / 1e9
    }

    /// Operations in 10^9 a second.
    fn gigaops(&self) -> f64 {
        self.work.operations as f64 / self.seconds / 1e9
    }

    fn share(&self) -> Option<Share> {
        let share = |bound, unit, rate: f64, limit: f64| Share { bound, limit, unit, share: rate / limit };
        let bytes = self.reading.map(|limit| share("bytes", "GB/s", self.gigabytes(), limit as f64 / 1e9));
        let peak = self.peak.map(|(limit, name)| share(name, "Gop/s", self.gigaops(), limit as f64 / 1e9));
        bytes.into_iter().chain(peak).max_by(|a, b| a.share.total_cmp(&b.share))
    }

    /// The cells of the table.
    fn cells(&self) -> [String; 7] {
        let Case { name, isa, threads } = &self.case;
        let share = self.share();
        let number = |x: f64| if x >= 100.0 { format!("{x:.0}") } else { format!("{x:.1}") };
        let (limit, bound, percent) = share.map_or_else(Default::default, |s| {
            (format!("{} {}", number(s.limit), s.unit), s.bound.to_owned(), format!("{:.0} %", 100.0 * s.share))
        });
        let time = match self.seconds * 1e6 {
            us if us < 1000.0 => format!("{us:.2} us"),
            us => format!("{:.2} ms", us / 1000.0),
        };
        let (bytes, operations) = (number(self.gigabytes()), number(self.gigaops()));
        [format!("{name}/{isa}/{threads}"), time, bytes, operations, limit, bound, percent]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, time, bytes, operations, limit, bound, percent] = self.cells();
        write!(f, "    {time}: {bytes} GB/s, {operations} Gop/s")?;
        if percent.is_empty() { Ok(()) } else { write!(f, "; {percent} of {limit} ({bound})") }
    }
}

/// The table of all cases, on stdout.
pub(super) fn print(rows: &[Row]) {
    let head = ["case/path/threads", "a pass", "GB/s", "Gop/s", "limit", "bound by", "share"].map(str::to_owned);
    let table: Vec<[String; 7]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in &table {
        let cell = |(i, cell): (usize, &String)| match i {
            0 | 5 => format!("{cell:<width$}", width = widths[i]),
            _ => format!("{cell:>width$}", width = widths[i]),
        };
        println!("{}", row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// The same, unrounded, to `target/kernels/<name>.csv`; unknown is empty.
pub(super) fn write(name: &str, rows: &[Row]) {
    let mut text = "case,isa,threads,median_ns,bytes,within_bytes,operations,bytes_per_second,operations_per_second,\
        reading_limit,peak_limit,peak_instruction,bound,share\n"
        .to_owned();
    for row in rows {
        let Case { name, isa, threads } = &row.case;
        let Work { bytes, within, operations, .. } = row.work;
        let (bytes_per_second, operations_per_second) = (row.gigabytes() * 1e9, row.gigaops() * 1e9);
        let number = |limit: Option<u64>| limit.map_or_else(String::new, |limit| limit.to_string());
        let (reading, peak) = (number(row.reading), number(row.peak.map(|(limit, _)| limit)));
        let instruction = row.peak.map_or("", |(_, name)| name);
        let (bound, share) = row.share().map_or_else(Default::default, |s| (s.bound, format!("{:.4}", s.share)));
        let _ = writeln!(
            text,
            "{name},{isa},{threads},{:.1},{bytes},{within},{operations},{bytes_per_second:.0},\
             {operations_per_second:.0},{reading},{peak},{instruction},{bound},{share}",
            row.seconds * 1e9
        );
    }
    // Cargo gives benches a folder inside its target folder, wherever that is.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kernels");
    let path = folder.join(format!("{name}.csv"));
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => println!("\nwritten to {}", path.display()),
        Err(error) => eprintln!("{}: {error}", path.display()),
    }
}
