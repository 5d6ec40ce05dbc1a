//! Plots of a run, as SVG and PNG.

/// A plot as the page links it.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// File name without extension.
    pub(crate) stem: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// How to read it.
    pub(crate) caption: String,
}

pub(crate) fn draw_all(
    _data: &crate::RunData,
    _analysis: &crate::analysis::Analysis,
    _dir: &std::path::Path,
) -> Result<(Vec<Plot>, Vec<std::path::PathBuf>), crate::Error> {
    Ok((Vec::new(), Vec::new()))
}
