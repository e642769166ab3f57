//! Schedules: the story of a run as a text that a person can write by hand and read in a review.
//!
//! ```text
//! stormglass 1
//! why        n1 says Yes before its PREPARED is durable, and a power cut takes it.
//! breaks     W1 PreparedIsDurableBeforeYes
//! cluster    2 nodes, 1 client
//! storm      100 ms
//! timing     base
//!
//! request    c1.1 to n0 after 10 ms: put n0/k 1, put n1/k 2
//!
//! lose       1st Commit c1.1 from n0 to n1            # one fault, one line
//! power-cut  n1 life 1 after 1st sync following append Prepared c1.1: keeps none, down 20 ms
//! ```
//!
//! Three layers, kept apart: what clients want (`request`), how long things take when nothing is wrong (`timing`),
//! and what goes wrong (a line each). A fault is told by a *coordinate* in names that the workload gave, and counts
//! only things of its own kind and subject. So a schedule means the same after a log line, a timer, a harmless message
//! or a field has been added to the node; one whose coordinate never comes up is named at the end of a run.
//!
//! # The words
//!
//! Those of a request of two-phase commit, with commas between: `put n0/k 7`, `add n1/a0 -5`, `add n1/a0 -5 at least -60`, `get n2/hot`,
//! `delete n1/k`; `stubborn` before them for a client that repeats what is not answered.
//!
//! | line | meaning | default |
//! |---|---|---|
//! | `stormglass 1` | the version of this format | 1 |
//! | `protocol NAME` | whose schedule it is | any |
//! | `note TEXT` | the story, one line or more | none |
//! | `breaks NAME` | it must break this claim; for bugs that are there on purpose | |
//! | `holds [NAME]` | no claim may break; names the one that once did | yes |
//! | `cluster 3 nodes, 1 client` | 1 to 64 of each; comes before all that names one | needed |
//! | `simulation 100 ms` | when the sky clears: no fault afterwards | 500 ms |
//! | `log 1500 B` | how long a node's log may grow before it is compacted | 1500 B |
//! | `patience 4000 ms` | how long after that all may take to become quiet | 4000 ms |
//! | `timing base`, `timing 1f2e` | everything takes its least time, or what is mixed from a key (hex) | base |
//! | `latency 0.5 to 5 ms` | between nodes; also `client-latency`, `sync`; with `timing base` the least counts | |
//! | `tail 2 ms`, `reboot 50 ms` | mean of the tail of a message's delay; greatest time to a boot | 0, 50 ms |
//! | `wire bytes` | messages travel encoded | no |
//! | `permanently_down n2` | stays dead after the storm | nobody |
//! | `request c1.1 to n0 after 10 ms: ...` | in the words of the protocol, or in JSON; a client's requests in order, each so long after the answer to the one before | |
//!
//! And the faults, with *message* `1st Vote c1.1 from n1 to n0` and *deed* `1st append Prepared c1.1`, `1st sync following append
//! Prepared c1.1` (or `sync-dir`, `rename`, `remove`, `truncate`; `sync before any append`), `1st send Vote c1.1 to n0`,
//! `1st reply c1.1`:
//!
//! | line | rule |
//! |---|---|
//! | `lose` *message* | N2 |
//! | `duplicate` *message* `again after 100 ms` | N3 |
//! | `delay` *message* `by 300 ms` | N1 |
//! | `flip bit 17 of` *message* | N4 |
//! | `evict 0 for` *message* | N8: the oldest of its queue is lost |
//! | `kill n1 incarnation 1 after` *deed*`: keeps 500/1000, down 20 ms` | P1 |
//! | `power-cut n1 incarnation 1 after` *deed*`: keeps none, down 20 ms` | P2; `down for good` |
//! | `fail n1 incarnation 1 at` *deed*`: io` | D7, or `no-space` |
//! | `slow n1 incarnation 1 at` *deed*`: 100 ms` | D9 |
//! | `lie n1 incarnation 1 at` *deed* | D11 |
//! | `break n1 incarnation 1 at` *deed*`: no-space, keeps 0/1000, for 0 ms` | D8 |
//! | `clock n1 incarnation 1: offset 10 ms, drift -100 ppm` | C1, C2 |
//! | `at 120 ms cut n0 c1 -> n1 for 30 ms` | N6 |
//! | `at 120 ms clog n0 -> n1 for 30 ms` | N5; `swizzle` for N7 |
//! | `at 120 ms pause n1 for 30 ms` | P4 |
//! | `at 120 ms jump n1 by 30 ms` | C3 |
//! | `at 120 ms power-cut n1: keeps none, down 20 ms` | P2, P3; `kill` likewise |
//!
//! What a power cut keeps of what is not synced: `none`, `all`, `first 3`, `all but 1st Prepared c1.1`, `torn 1st Prepared
//! c1.1` and one of `header`, `half`, `last-sector` (and `with` one of `zeros`, `garbage`, `old-blocks`, `mixed` behind the
//! tear), or `some 500/1000 key 1f2e with zeros` (or `torn with zeros`), each sector on its own.
//! What damages the disk while it is down (D10): `, damage wal 0 at 500/1000` and one of `flips 3`, `zeroes`, `misplaces 300/1000`,
//! `unwrites`.

mod cursor;
mod read;
mod read_fault;
#[cfg(test)]
mod tests;
mod write;

use stormglass::{Micros, NodeId};

pub(crate) use cursor::ordinal;
pub use cursor::{Cursor, ParseError};

use crate::fault::Fault;
use crate::plan::{LOG_BYTES, Plan, Timing};
use crate::protocol::Scene;
use crate::workload::PlannedRequest;

/// Everything about one run, in a form that outlives the code that it was found in.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule<O> {
    /// The story, one line or more.
    pub note: Vec<String>,
    /// What is to be expected of it.
    pub property: Expectation,
    /// Size, length and timing.
    pub plan: Plan,
    /// What clients want.
    pub requests: Vec<PlannedRequest<O>>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// What a schedule is kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It must break this claim: a bug that is there on purpose.
    MustViolate(String),
    /// Nothing may break. The name is that of the claim that once did.
    MustHold(Option<String>),
}

/// The plan that a schedule begins with.
pub(crate) fn base_plan(nodes: u16, clients: u32) -> Plan {
    Plan {
        nodes,
        clients,
        timing: Timing::default(),
        fault_phase_us: 500_000,
        recovery_timeout_us: 4_000_000,
        log_bytes: LOG_BYTES,
        permanently_down: Vec::<NodeId>::new(),
        wire: false,
    }
}

impl<O> Schedule<O> {
    /// Reads a schedule of this scene.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read<S: Scene<Request = O>>(scene: &S, text: &str) -> Result<Schedule<O>, ParseError> {
        read::read(scene, text)
    }

    /// What never came up in a run: the faults that its chooser had no use for, and what cannot, as the sky is clear by then.
    pub(crate) fn unreached_entries(
        &self,
        unused: impl IntoIterator<Item: ToString>,
    ) -> Vec<String> {
        let fault_phase_us = self.plan.fault_phase_us;
        let late = move |what: String, at_us: u64| {
            let clear = Micros(fault_phase_us);
            (at_us >= fault_phase_us)
                .then(|| format!("{what} after {} ms: the storm lasts {clear} ms", Micros(at_us)))
        };
        let requests = self
            .requests
            .iter()
            .filter_map(move |planned| late(format!("request {}", planned.id), planned.after_us));
        let timed_faults = self.faults.iter().filter_map(move |fault| match fault {
            Fault::At(at_us, timed_faults) => late(timed_faults.to_string(), *at_us),
            Fault::Message(..)
            | Fault::Crash(..)
            | Fault::Barrier(..)
            | Fault::Write(..)
            | Fault::Skew { .. } => None,
        });
        unused
            .into_iter()
            .map(|fault| fault.to_string())
            .chain(requests)
            .chain(timed_faults)
            .collect()
    }

    /// The schedule as a text. Reading it gives the same schedule.
    pub fn write<S: Scene<Request = O>>(&self, scene: &S) -> String {
        write::write(scene, self)
    }
}
