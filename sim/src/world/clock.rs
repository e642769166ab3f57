//! The clocks of nodes: offset, drift and jumps (C1 to C3).

use stormglass_node::{Micros, Time};

use crate::fault::Skew;
use crate::ratio::Ppm;

/// The clock of one incarnation of one node, with an offset (C1), a drift (C2) and jumps (C3). It
/// is monotonic within an incarnation; the next incarnation may begin at an earlier time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    skew: Skew,
    jumped_by: Micros,
}

const MILLION: u64 = 1_000_000;

impl Clock {
    pub(crate) fn new(skew: Skew) -> Clock {
        Clock { skew, jumped_by: Micros::ZERO }
    }

    pub(crate) fn jump(&mut self, by: Micros) {
        self.jumped_by += by;
    }

    /// The local time at a true time.
    #[inline]
    pub(crate) fn local_time(&self, true_time: Micros) -> Time {
        let Skew { offset, drift } = self.skew;
        let base = (offset + self.jumped_by + true_time).0;
        if drift == Ppm::ZERO {
            return Time(base);
        }
        let drifted = true_time.0 * u64::from(drift.get().unsigned_abs()) / MILLION;
        // The drift is at most a tenth of the true time, so a slow clock still advances and never
        // falls below its offset.
        Time(if drift > Ppm::ZERO { base + drifted } else { base - drifted })
    }

    /// A true time, not before `now`, at which the local time is at least `local`, and more than
    /// a few microseconds later only if `now` is.
    #[inline]
    pub(crate) fn true_time_of(&self, local: Time, now: Micros) -> Micros {
        let elapsed_local = Micros(local.0) - (self.skew.offset + self.jumped_by);
        if self.skew.drift == Ppm::ZERO {
            return elapsed_local.max(now);
        }
        let rate = MILLION.saturating_add_signed(i64::from(self.skew.drift.get()));
        // In 128 bits: a deadline may be at the end of time, and a million times as much does not
        // fit into 64.
        let at =
            u64::try_from(u128::from(elapsed_local.0) * u128::from(MILLION) / u128::from(rate))
                .map_or(Micros::MAX, Micros);
        // Two divisions round down, here and in `local_time`: one microsecond for each.
        (at + Micros(2)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_its_true_time_under_any_drift() {
        // The greatest drift to either side, none, and odd ones, whose products leave a remainder.
        for drift in [-100_000, -37, 0, 1, 99_999] {
            let drift = Ppm::new(drift).expect("at most a tenth");
            let mut clock = Clock::new(Skew { offset: Micros(12_345), drift });
            clock.jump(Micros(777));
            // A step that divides nothing, so that the divisions round at most of the deadlines.
            for local in (0..5_000_000).step_by(3_331) {
                let at = clock.true_time_of(Time(local), Micros(5));
                assert!(clock.local_time(at).0 >= local, "{drift} {local}");
                assert!(
                    at <= Micros(7) || clock.local_time(at - Micros(5)).0 < local + 1,
                    "{drift} {local}: not much too late"
                );
            }
        }
    }
}
