//! `--format` of the commands that print one table's worth.

use reports::sheet::Format;

/// How it is printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For reading
    Table,
    /// A row a figure, nothing rounded
    Csv,
    /// Everything, as one document
    Json,
    /// The table for a page
    Markdown,
}

impl From<Form> for Format {
    fn from(form: Form) -> Format {
        match form {
            Form::Table => Format::Table,
            Form::Csv => Format::Csv,
            Form::Json => Format::Json,
            Form::Markdown => Format::Markdown,
        }
    }
}
