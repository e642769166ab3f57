//! The clocks of nodes: offset, drift and jumps (C1 to C3).

use stormglass_node::Time;

use crate::fault::Skew;

/// The clock of one incarnation of one node, with an offset (C1), a drift (C2) and jumps (C3). It
/// is monotonic within an incarnation; the next incarnation may begin at an earlier time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    skew: Skew,
    jumped_us: u64,
}

const MILLION: u64 = 1_000_000;

impl Clock {
    pub(crate) fn new(skew: Skew) -> Clock {
        Clock { skew, jumped_us: 0 }
    }

    pub(crate) fn jump(&mut self, by_us: u64) {
        self.jumped_us += by_us;
    }

    /// The local time at a true time.
    #[inline]
    pub(crate) fn local_time(&self, true_us: u64) -> Time {
        let base = self.skew.offset_us + self.jumped_us + true_us;
        if self.skew.drift_ppm == 0 {
            return Time(base);
        }
        let drift = true_us * u64::from(self.skew.drift_ppm.unsigned_abs()) / MILLION;
        // The drift is at most a tenth of the true time, so a slow clock still advances and never
        // falls below its offset.
        Time(if self.skew.drift_ppm > 0 { base + drift } else { base - drift })
    }

    /// A true time, not before `now_us`, at which the local time is at least `local`, and more than
    /// a few microseconds later only if `now_us` is.
    #[inline]
    pub(crate) fn true_time_of(&self, local: Time, now_us: u64) -> u64 {
        let elapsed_local_us = local.0.saturating_sub(self.skew.offset_us + self.jumped_us);
        if self.skew.drift_ppm == 0 {
            return elapsed_local_us.max(now_us);
        }
        let rate = MILLION.saturating_add_signed(i64::from(self.skew.drift_ppm));
        // In 128 bits: a deadline may be at the end of time, and a million times as much does not
        // fit into 64.
        let at_us =
            u64::try_from(u128::from(elapsed_local_us) * u128::from(MILLION) / u128::from(rate))
                .unwrap_or(u64::MAX);
        // Two divisions round down, here and in `local_time`: one microsecond for each.
        at_us.saturating_add(2).max(now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_its_true_time_under_any_drift() {
        // The greatest drift to either side, none, and odd ones, whose products leave a remainder.
        for drift_ppm in [-100_000, -37, 0, 1, 99_999] {
            let mut clock = Clock::new(Skew { offset_us: 12_345, drift_ppm });
            clock.jump(777);
            // A step that divides nothing, so that the divisions round at most of the deadlines.
            for local in (0..5_000_000).step_by(3_331) {
                let at_us = clock.true_time_of(Time(local), 5);
                assert!(clock.local_time(at_us).0 >= local, "{drift_ppm} {local}");
                assert!(
                    at_us <= 7 || clock.local_time(at_us - 5).0 < local + 1,
                    "{drift_ppm} {local}: not much too late"
                );
            }
        }
    }
}
