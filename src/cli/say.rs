//! Standard output, and the result of a command whose output fails.
//!
//! The reader may have closed it (`head`), or its disk is full. Neither may panic, as `println!`
//! does: every line is printed by [`say!`], whose error ends the command.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

use super::{CliError, Exit};

/// A line that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(super) struct StdoutError(io::Error);

impl StdoutError {
    /// A closed pipe deserves no error message.
    pub(super) fn is_broken_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Prints one line, or returns the error.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::say::line(format_args!($($words)*)) };
}
pub(super) use say;

pub(super) fn line(words: Arguments<'_>) -> Result<(), StdoutError> {
    writeln!(io::stdout().lock(), "{words}").map_err(StdoutError)
}

/// Prints the result of a client. It holds whether or not it can be printed, and a script must not
/// believe otherwise: after a closed pipe the exit code still shows it, and on a full disk the
/// error message does.
pub(super) fn result(text: &str, exit: Exit) -> Result<Exit, CliError> {
    match line(format_args!("{text}")) {
        Err(error) if !error.is_broken_pipe() => {
            Err(format!("{error}; the result is nevertheless: {text}").into())
        }
        Ok(()) | Err(_) => Ok(exit),
    }
}
