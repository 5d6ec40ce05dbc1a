//! The program: parses the command line and turns errors into exit codes.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match harness::cmd::Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are no errors.
            let code = if message.use_stderr() { 64 } else { 0 };
            let _ = message.print();
            return ExitCode::from(code);
        }
    };
    match harness::cmd::run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(harness::error::exit_code(&error))
        }
    }
}
