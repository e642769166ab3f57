//! Whether fewer faults suffice: tries all smaller sets of faults.

use std::fmt;

use super::{Shrinker, budget};
use crate::fault::Fault;
use crate::protocol::Protocol;
use crate::schedule::Schedule;

/// Whether a shrunk schedule has the fewest faults of all subsets of the run's faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minimum {
    /// All smaller sets of faults were tried, and none violates the property.
    Exhaustive {
        /// 0 if the schedule has no faults.
        sets_tried: u64,
    },
    /// There are too many sets, the schedule has more than three faults or nodes that are never
    /// restarted, or the shrink was stopped early.
    Unknown,
}

impl fmt::Display for Minimum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Minimum::Exhaustive { sets_tried } => {
                write!(
                    f,
                    "fewest faults possible (smaller sets of the run's faults tried: {sets_tried}, all)"
                )
            }
            Minimum::Unknown => {
                f.write_str("fewer faults may suffice: not all smaller sets were tried")
            }
        }
    }
}

impl<P: Protocol> Shrinker<'_, '_, P> {
    /// Tries every smaller set of the original faults in the cluster of `best`. `None` if one of
    /// them violates the property and was adopted.
    pub(super) fn try_smaller_fault_sets(&mut self) -> Option<Minimum> {
        let count = self.best.faults.len();
        // A node that is never restarted counts as a fault, but is in no set.
        if count > budget::SET_FAULTS_MAX || !self.best.plan.permanently_down.is_empty() {
            return Some(Minimum::Unknown);
        }
        let mut all = self.pool.clone();
        all.extend(self.best.faults.iter().cloned());
        dedup(&mut all);
        let sets: u64 = (0..count).map(|size| binomial(all.len() as u64, size as u64)).sum();
        if sets > budget::SETS_MAX {
            return Some(Minimum::Unknown);
        }
        for size in 0..count {
            if self.adopt_better_subset(&all, size, 0, &mut Vec::new()) {
                return None;
            }
            if self.is_finished() {
                return Some(Minimum::Unknown);
            }
        }
        Some(Minimum::Exhaustive { sets_tried: sets })
    }

    fn adopt_better_subset(
        &mut self,
        all: &[Fault],
        size: usize,
        from: usize,
        set: &mut Vec<Fault>,
    ) -> bool {
        if set.len() == size {
            let candidate = Schedule { faults: set.clone(), ..self.best.clone() };
            return self.adopt_if_better(&candidate);
        }
        for at in from..all.len() {
            set.push(all[at].clone());
            if self.adopt_better_subset(all, size, at + 1, set) {
                return true;
            }
            set.pop();
        }
        false
    }
}

fn dedup(faults: &mut Vec<Fault>) {
    let mut unique: Vec<Fault> = Vec::new();
    for fault in faults.drain(..) {
        if !unique.contains(&fault) {
            unique.push(fault);
        }
    }
    *faults = unique;
}

fn binomial(n: u64, k: u64) -> u64 {
    (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
}
