//! What a run means: statistics, tables, plots and a page from the files of a run folder.
//!
//! Files in, files out: nothing here measures, and the same files in give the same bytes out.

pub mod accuracy;
pub mod analysis;
pub mod benches;
pub mod cells;
pub mod changepoint;
pub mod claims;
pub mod class;
mod compare;
pub mod curves;
mod depth;
mod energy;
pub mod error;
pub mod fit;
pub mod formats;
pub mod gate;
mod head;
pub mod html;
pub mod items;
mod joules;
pub mod load;
mod outside;
mod page;
pub mod paper;
mod plot;
mod prediction;
pub mod ranking;
pub mod ranks;
mod sections;
pub mod sheet;
mod sparsity;
pub mod splice;
pub mod stats;
pub mod summary;
mod table;
mod tasks;
mod text;
pub mod trend;
pub mod versus;

use analysis::Analysis;
use std::path::{Path, PathBuf};

pub use compare::Together;
pub use error::Error;
pub use load::{RunData, load};
pub use plot::history::history;
pub use plot::power::draw as power;
pub use table::table;

/// What [`render`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Every file written, in order.
    pub written: Vec<PathBuf>,
}

/// Writes `summary.csv`, `plots/*.svg`, `plots/*.png` and `report.md` into the run's folder, replacing what an earlier
/// rendering left there. A plot with nothing to show is not written.
///
/// # Errors
/// What [`load`](fn@load) refuses, and files that can't be written.
pub fn render(run_dir: &Path) -> Result<Rendered, Error> {
    let data = load(run_dir)?;
    let analysis = Analysis::new(&data);
    let mut written = Vec::new();
    let mut write = |name: &str, bytes: &[u8]| {
        let path = run_dir.join(name);
        std::fs::write(&path, bytes).map_err(|e| Error::Write { path: path.clone(), message: e.to_string() })?;
        written.push(path);
        Ok::<(), Error>(())
    };
    let csv = summary::csv(&analysis, &data.run.name, &data.run.suite)
        .map_err(|e| Error::Write { path: run_dir.join("summary.csv"), message: e.to_string() })?;
    write("summary.csv", &csv)?;
    let (plots, files) = plot::draw_all(&data, &analysis, &run_dir.join("plots"))?;
    write("report.md", page::page(&data, &analysis, &plots).as_bytes())?;
    written.extend(files);
    Ok(Rendered { written })
}
