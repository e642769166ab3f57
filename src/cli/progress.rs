//! Progress of a long command: one line on standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Rewrites its line, and clears it when dropped. Writes nothing if standard error is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    to: Option<io::Stderr>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let to = io::stderr();
        Progress { to: to.is_terminal().then_some(to) }
    }

    pub(super) fn show(&mut self, words: impl Display) {
        if let Some(to) = &mut self.to {
            // Returns to the start of the line, clears it, and writes. A closed terminal is
            // ignored.
            let _ = write!(to, "\r\x1b[K{words}").and_then(|()| to.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}
