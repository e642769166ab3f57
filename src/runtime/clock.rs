//! The machine's clock, as a node is told it: microseconds since its life began, and never backwards.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the driver's real clock"
)]

use std::time::{Duration, Instant};

use crate::id::Time;

/// The clock of one life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Time begins.
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_micros()).expect("half a million years"))
    }

    /// The machine's name for a time of this clock; a wake that comes too early is allowed, so a day is as good as for
    /// ever.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let ahead =
            Duration::from_micros(time.since(self.now()).0).min(Duration::from_secs(86_400));
        tokio::time::Instant::now() + ahead
    }
}

/// So long from now. Whoever waits for longer than a year waits for ever: no length of time is too long to be added.
pub(crate) fn after(duration: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + duration.min(Duration::from_secs(365 * 86_400))
}

/// Microseconds since 1970, for the age of wishes; only fairness depends on it.
pub(crate) fn wall_us() -> u64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).expect("half a million years")
}
