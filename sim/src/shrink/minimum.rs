//! The pass that shows whether fewer faults suffice: it tries all smaller sets of faults.

use std::fmt;

use super::{Pass, Search, budget};
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

/// Tries every smaller set of the original faults in the cluster of the best schedule.
#[derive(Default)]
pub(super) struct TrySmallerFaultSets {
    /// The sets tried by the last run; `None` if it did not try all.
    sets_tried: Option<u64>,
}

impl<P: Protocol> Pass<P> for TrySmallerFaultSets {
    fn name(&self) -> &'static str {
        "try smaller fault sets"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        self.sets_tried = None;
        let count = search.best().faults.len();
        // A node that is never restarted counts as a fault, but is in no set.
        if count > budget::SET_FAULTS_MAX || !search.best().plan.permanently_down.is_empty() {
            return false;
        }
        let mut all = search.pool().to_vec();
        all.extend(search.best().faults.iter().cloned());
        dedup(&mut all);
        let sets: u64 = (0..count).map(|size| binomial(all.len() as u64, size as u64)).sum();
        if sets > budget::SETS_MAX {
            return false;
        }
        for size in 0..count {
            if adopt_better_subset(search, &all, size, &mut Vec::new()) {
                return true;
            }
            if search.is_finished() {
                return false;
            }
        }
        self.sets_tried = Some(sets);
        false
    }
}

impl TrySmallerFaultSets {
    /// What the last run has shown.
    pub(super) fn minimum(&self) -> Minimum {
        match self.sets_tried {
            Some(sets_tried) => Minimum::Exhaustive { sets_tried },
            None => Minimum::Unknown,
        }
    }
}

/// Tries each set of `size` faults that begins with `set` and continues with some of `rest`.
fn adopt_better_subset<P: Protocol>(
    search: &mut Search<'_, '_, P>,
    rest: &[Fault],
    size: usize,
    set: &mut Vec<Fault>,
) -> bool {
    if set.len() == size {
        let candidate = Schedule { faults: set.clone(), ..search.best().clone() };
        return search.adopt_if_better(&candidate);
    }
    for (at, fault) in rest.iter().enumerate() {
        set.push(fault.clone());
        if adopt_better_subset(search, &rest[at + 1..], size, set) {
            return true;
        }
        set.pop();
    }
    false
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
