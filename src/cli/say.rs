//! Standard output, and what becomes of a command when it cannot be written to.
//!
//! Whoever reads it may have seen enough (`head`), or its disk is full. Neither is a bug of ours, so neither may panic,
//! as `println!` does: every line is a [`say!`], whose error ends the command.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

use super::{CliError, Exit};

/// A line that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(super) struct StdoutError(io::Error);

impl StdoutError {
    /// Nobody reads on: that is not worth a complaint.
    pub(super) fn is_broken_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Prints one line, or says why not.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::say::line(format_args!($($words)*)) };
}
pub(super) use say;

pub(super) fn line(words: Arguments<'_>) -> Result<(), StdoutError> {
    writeln!(io::stdout().lock(), "{words}").map_err(StdoutError)
}

/// What a client was told, in one text. It is so whether or not it can be printed, and a script must not believe
/// otherwise: without a reader the exit code still tells, and on a full disk the complaint does.
pub(super) fn result(text: &str, exit: Exit) -> Result<Exit, CliError> {
    match line(format_args!("{text}")) {
        Err(error) if !error.is_broken_pipe() => {
            Err(format!("{error}; all the same: {text}").into())
        }
        Ok(()) | Err(_) => Ok(exit),
    }
}
