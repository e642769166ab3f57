//! The wall time of a shrink.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a limit of wall time needs the wall clock; no run sees it"
)]

use std::time::{Duration, Instant};

/// A point in wall time; `None` is never over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) fn after(time: Option<Duration>) -> Deadline {
        Deadline(time.and_then(|time| Instant::now().checked_add(time)))
    }

    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}
