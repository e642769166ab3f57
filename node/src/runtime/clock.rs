//! The machine's clock for a node: microseconds since 1970 at the boot, and from then on by a clock
//! that never runs backwards and that nobody sets.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the driver's real clock"
)]

use std::time::{Duration, Instant};

use crate::id::Time;

/// The clock of one incarnation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
    origin_us: u64,
}

impl Clock {
    /// Starts the clock at the present time of the machine.
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now(), origin_us: wall_us() }
    }

    /// The time of the start.
    pub(crate) fn origin(&self) -> Time {
        Time(self.origin_us)
    }

    /// The current time.
    pub(crate) fn now(&self) -> Time {
        let elapsed =
            u64::try_from(self.origin.elapsed().as_micros()).expect("half a million years");
        // Half a million years after 1970 at most.
        Time(self.origin_us.saturating_add(elapsed))
    }

    /// The instant of a time of this clock, at most a day from now: a node may be woken too early.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        let ahead =
            // The sum of an instant and a very long duration can overflow, which is a panic.
            Duration::from_micros(time.since(self.now()).0).min(Duration::from_secs(86_400));
        tokio::time::Instant::now() + ahead
    }
}

/// The instant after a duration; after more than a year, the same as after a year, so that no
/// duration overflows.
pub fn after(duration: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + duration.min(Duration::from_secs(365 * 86_400))
}

/// Microseconds since 1970.
pub(crate) fn wall_us() -> u64 {
    let since =
        // A clock before 1970 makes every request the oldest possible, which is unfair but correct.
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).expect("half a million years")
}
