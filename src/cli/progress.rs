//! How far a long command has come: one line on standard error, for a person who looks on.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Rewrites its line, and clears it when it goes. Where standard error is no terminal, nothing is written at all.
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
            // To the start of the line, clear it, and stay on it. A terminal that has gone is not missed.
            let _ = write!(to, "\r\x1b[K{words}").and_then(|()| to.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}
