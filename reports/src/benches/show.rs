//! Records of benches as text.

use super::{Bench, Records};
use crate::sheet::{self, Format, Sheet};
use crate::text::{percent, plain, short};

/// Writes records.
///
/// # Errors
/// None but of the writers of CSV and JSON.
pub fn show(records: &Records, format: Format) -> Result<String, String> {
    match format {
        Format::Json => sheet::json(records),
        Format::Csv => sheet::csv(&HEADER, &records.benches),
        Format::Table | Format::Markdown => Ok(sheet::text(&[table(records)], format)),
    }
}

/// The fields of [`Bench`], in their order.
const HEADER: [&str; 20] = [
    "name",
    "group",
    "function",
    "value",
    "kernel",
    "shape",
    "isa",
    "threads",
    "median_ns",
    "lo_ns",
    "hi_ns",
    "confidence",
    "samples",
    "bytes",
    "operations",
    "bytes_per_second",
    "operations_per_second",
    "bound",
    "share",
    "written_unix_s",
];

fn table(records: &Records) -> Sheet {
    let machine = &records.machine;
    let title = format!("{} benches on {}, {} CPUs", records.benches.len(), plain(&machine.cpu), machine.cpus);
    let header = ["group", "function", "value", "time [95 %]", "n", "GB/s", "Gop/s", "bound by", "share"];
    let mut sheet = Sheet::new(title, 2, &header);
    sheet.rows = records.benches.iter().map(row).collect();
    sheet.notes.push(
        "Time of an iteration: criterion's median and its interval over n samples of one process, which says nothing of the next \
         process. GB/s and Gop/s are 10^9 bytes and operations a second at the median; the share is of a limit measured in \
         the same minute, where the bench's last run tells it."
            .to_owned(),
    );
    sheet.notes.extend(records.warnings.iter().cloned());
    sheet
}

fn row(bench: &Bench) -> Vec<String> {
    let rate = |rate: Option<f64>| rate.map_or(String::new(), |rate| short(rate / 1e9));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![
        bench.group.clone(),
        text(&bench.function),
        text(&bench.value),
        time(bench),
        bench.samples.to_string(),
        rate(bench.bytes_per_second),
        rate(bench.operations_per_second),
        text(&bench.bound),
        bench.share.map_or(String::new(), percent),
    ]
}

/// Median and interval in the unit that suits the median.
fn time(bench: &Bench) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "us")];
    let fit = units.into_iter().find(|(ns, _)| bench.median_ns >= *ns);
    let (ns, unit) = fit.unwrap_or((1.0, "ns"));
    let [median, lo, hi] = [bench.median_ns, bench.lo_ns, bench.hi_ns].map(|time| short(time / ns));
    format!("{median} {unit} [{lo}, {hi}]")
}
