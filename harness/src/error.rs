//! Errors that decide the exit code.

/// What was wrong on the user's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad usage: exit 64.
    #[error("{0}")]
    Usage(String),
    /// A file that can't be used: exit 65.
    #[error("{0}")]
    Input(String),
    /// Ctrl-C: exit 130.
    #[error("interrupted; what was done is kept")]
    Interrupted,
}

/// Exit code after `error`: 64 bad usage, 65 bad input, 130 interrupted, otherwise 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        match cause.downcast_ref::<Error>() {
            Some(Error::Usage(_)) => return 64,
            Some(Error::Input(_)) => return 65,
            Some(Error::Interrupted) => return 130,
            None => {}
        }
        match cause.downcast_ref::<suites::Error>() {
            Some(suites::Error::Unknown { .. }) => return 64,
            Some(_) => return 65,
            None => {}
        }
        if cause.is::<reports::Error>() {
            return 65;
        }
        if let Some(code) = crate::local::exit_code(cause) {
            return code;
        }
    }
    1
}
