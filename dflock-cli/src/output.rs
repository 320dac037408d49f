//! Standard output of commands that print once.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::error::CliError;

pub(crate) fn print(text: &[u8]) -> Result<ExitCode, CliError> {
    match io::stdout().write_all(text) {
        // Not an error: the reader, such as `head`, has closed the pipe early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::system("cannot write to standard output", &error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
