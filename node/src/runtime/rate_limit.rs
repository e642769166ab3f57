//! Limits how many lines of one kind are logged: a flood must not fill the disk, and must not hide
//! the other lines.

use std::time::Duration;

use tokio::time::Instant;

/// Lines of one kind that are logged in one second. The others are counted.
pub(super) const LINES_PER_SECOND_MAX: u32 = 10;

/// Counts the lines of the current second.
#[derive(Debug)]
pub(super) struct RateLimit {
    since: Instant,
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    name: &'static str,
    logged: u32,
    suppressed: u64,
}

/// How many lines of a kind were suppressed within one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    pub(super) kind: &'static str,
    pub(super) count: u64,
}

impl RateLimit {
    pub(super) fn new(now: Instant) -> RateLimit {
        RateLimit { since: now, kinds: Vec::new() }
    }

    /// Once a second has passed: what was suppressed in it.
    pub(super) fn take_suppressed(&mut self, now: Instant) -> Vec<Suppressed> {
        if now.duration_since(self.since) < Duration::from_secs(1) {
            return Vec::new();
        }
        self.since = now;
        let kinds = self.kinds.drain(..).filter(|kind| kind.suppressed > 0);
        kinds
            .map(|Kind { name, suppressed, .. }| Suppressed { kind: name, count: suppressed })
            .collect()
    }

    /// Whether one more line of this kind may be logged; otherwise it is counted.
    pub(super) fn allows(&mut self, name: &'static str) -> bool {
        // A node has a handful of kinds.
        let at = self.kinds.iter().position(|kind| kind.name == name).unwrap_or_else(|| {
            self.kinds.push(Kind { name, logged: 0, suppressed: 0 });
            self.kinds.len() - 1
        });
        let kind = &mut self.kinds[at];
        let allowed = kind.logged < LINES_PER_SECOND_MAX;
        kind.logged += u32::from(allowed);
        kind.suppressed += u64::from(!allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flood_of_one_kind_is_counted_and_hides_no_other() {
        let begin = Instant::now();
        let mut limit = RateLimit::new(begin);
        let mut logged = 0;
        for _ in 0..100_000 {
            logged += u32::from(limit.allows("Dropped"));
        }
        assert_eq!(logged, LINES_PER_SECOND_MAX);
        assert!(limit.allows("Damage"));
        assert_eq!(limit.take_suppressed(begin + Duration::from_millis(999)), []);
        let suppressed = Suppressed { kind: "Dropped", count: 99_990 };
        assert_eq!(limit.take_suppressed(begin + Duration::from_secs(1)), [suppressed]);
        assert!(limit.allows("Dropped"), "a new second");
        assert_eq!(limit.take_suppressed(begin + Duration::from_secs(9)), []);
    }
}
