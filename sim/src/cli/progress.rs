//! How far a command is, while somebody waits: a bar on a terminal, otherwise a line now and then.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "progress is shown in wall time"
)]

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The time between two lines where there is no terminal.
// Rare enough for a log file; soon enough that nobody thinks that the command hangs.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows progress on standard error.
pub(super) struct ProgressDisplay {
    bar: ProgressBar,
    /// When the next line is due; `None` for no lines.
    next_line: Option<Instant>,
    began: Instant,
}

impl ProgressDisplay {
    /// A bar up to `steps`, or a spinner if the number is not known.
    pub(super) fn new(steps: Option<u64>) -> ProgressDisplay {
        let began = Instant::now();
        if !std::io::stderr().is_terminal() {
            let next_line = Some(began + LINE_INTERVAL);
            return ProgressDisplay { bar: ProgressBar::hidden(), next_line, began };
        }
        let bar = match steps {
            Some(steps) => {
                let style = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} {msg}");
                ProgressBar::new(steps).with_style(style.expect("a fixed template"))
            }
            None => ProgressBar::new_spinner(),
        };
        ProgressDisplay { bar, next_line: None, began }
    }

    /// Shows nothing.
    pub(super) fn hidden() -> ProgressDisplay {
        ProgressDisplay { bar: ProgressBar::hidden(), next_line: None, began: Instant::now() }
    }

    /// Shows how many steps are done, and a message.
    pub(super) fn update(&mut self, steps: u64, message: String) {
        let now = Instant::now();
        if self.is_line_due(now) {
            eprintln!("{:>4} s: {message}", (now - self.began).as_secs());
        }
        self.bar.set_position(steps);
        self.bar.set_message(message);
    }

    /// Whether a line is due; then the next one is due an interval later.
    fn is_line_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_line.is_some_and(|next_line| now >= next_line);
        if is_due {
            self.next_line = Some(now + LINE_INTERVAL);
        }
        is_due
    }

    /// Removes the bar.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard error of a test is no terminal.
    #[test]
    fn without_a_terminal_a_line_is_due_every_ten_seconds() {
        let mut display = ProgressDisplay::new(Some(10));
        let began = display.began;
        let due: Vec<u64> =
            (0..31).filter(|s| display.is_line_due(began + Duration::from_secs(*s))).collect();
        assert_eq!(due, [10, 20, 30]);
        let mut hidden = ProgressDisplay::hidden();
        assert!(!hidden.is_line_due(began + Duration::from_secs(60)));
    }
}
