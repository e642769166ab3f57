//! Schedules: one run as a text that a person can write by hand and read in a review.
//!
//! ```text
//! stormglass 2
//! note             n1 votes Yes before PREPARED is durable, and a power cut removes the record.
//! expect           violation of W1 PreparedIsDurableBeforeYes
//! cluster          2 nodes, 1 client
//! fault-phase      100 ms
//! timing           base
//!
//! request          c1.1 to n0 after 10 ms: put k=1 @n0, put k=2 @n1
//!
//! lose             1st Commit c1.1 from n0 to n1            # one fault, one line
//! power-cut        n1 incarnation 1 after 1st send Vote c1.1 to n0: keeps none, down 20 ms
//! ```
//!
//! A schedule has three independent layers: what clients request (`request`), how long things take
//! without a fault (`timing`), and the faults, one line each. A fault has a *coordinate*: it uses
//! the request ids of the workload and counts only things of its own kind and subject. So a
//! schedule keeps its meaning when the node gains a log line, a timer, a harmless message or a
//! field. A run reports each fault whose coordinate was not reached.
//!
//! # Lines
//!
//! | line | meaning | default |
//! |---|---|---|
//! | `stormglass 2` | the version of this format | 2 |
//! | `protocol NAME` | the protocol that the schedule is for | any |
//! | `note TEXT` | a description of the scenario, one line or more | none |
//! | `expect violation of PROPERTY` | the run must violate this property; for mutants | |
//! | `expect no violation [of PROPERTY]` | the run must violate no property; PROPERTY is the one that was violated when the schedule was found | yes |
//! | `cluster 3 nodes, 1 client` | 1 to 64 of each; comes before every line that names one | required |
//! | `fault-phase 100 ms` | length of the phase in which faults happen; afterwards everything heals | 500 ms |
//! | `recovery-timeout 4000 ms` | time after the fault phase until the cluster must be quiescent | 4000 ms |
//! | `log-limit 1500 B` | length of a node's log at which it is compacted | 1500 B |
//! | `timing base`, `timing 1f2e` | each delay takes its least value, or a value derived from this key (hexadecimal) | base |
//! | `latency 0.5 to 5 ms` | delay of a message between nodes; also `client-latency` and `sync-time`; `timing base` uses the lower value | |
//! | `latency-tail 2 ms` | mean of the exponential tail of a message's delay | 0 |
//! | `reboot-time 50 ms` | greatest time from the end of the fault phase to the boot of a crashed node | 50 ms |
//! | `messages encoded` | messages travel as encoded bytes, as `flip` needs | no |
//! | `never-restarts n2` | a crashed n2 is not restarted when the fault phase ends | none |
//! | `request c1.1 to n0 after 10 ms: ...` | a request in the syntax of the protocol, or as JSON; a client sends its requests in order, each so long after the response to the one before | |
//!
//! The requests of two-phase commit are lists of operations in the syntax of `stormglass tx`:
//! `put k=7 @n0`, `add a0=-5 @n1`, `add a0=-5>=-60 @n1`, `get hot @n2`, `delete k @n1`. The keyword
//! `stubborn` before them makes the client resend an unanswered request instead of asking for its
//! outcome. The forms of earlier versions, `put n0/k 7` and the like, are still read.
//!
//! # Faults
//!
//! The rules are described in `docs/faults.md`. *message* stands for `1st Vote c1.1 from n1 to n0`,
//! *effect* for one of
//! `1st append Prepared c1.1`, `1st sync following append Prepared c1.1` (also `sync-dir`,
//! `rename`, `remove`, `truncate`, and `sync before any append`), `1st send Vote c1.1 to n0`,
//! `1st reply c1.1`. `1st` and `incarnation 1` may be omitted.
//!
//! | line | rule |
//! |---|---|
//! | `lose` *message* | N2 |
//! | `duplicate` *message* `again after 100 ms` | N3 |
//! | `delay` *message* `by 300 ms` | N1 |
//! | `flip bit 17 of` *message* | N4 |
//! | `evict 0 for` *message* | N8: the link's queue counts as full and loses its oldest message |
//! | `kill n1 incarnation 1 after` *effect*`: keeps 500/1000, down 20 ms` | P1 |
//! | `power-cut n1 incarnation 1 after` *effect*`: keeps none, down 20 ms` | P2; `down for good` for P6 |
//! | `sync-fails n1 incarnation 1 at` *effect*`: io` | D7; or `no-space` |
//! | `sync-slow n1 incarnation 1 at` *effect*`: 100 ms` | D9 |
//! | `sync-lies n1 incarnation 1 at` *effect* | D11 |
//! | `write-fails n1 incarnation 1 at` *effect*`: no-space, keeps 0/1000, for 0 ms` | D8 |
//! | `clock n1 incarnation 1: offset 10 ms, drift -100 ppm` | C1, C2 |
//! | `at 120 ms cut n0 c1 -> n1 for 30 ms` | N6 |
//! | `at 120 ms clog n0 -> n1 for 30 ms` | N5; `swizzle` for N7 |
//! | `at 120 ms pause n1 for 30 ms` | P4 |
//! | `at 120 ms jump n1 by 30 ms` | C3 |
//! | `at 120 ms second-process n1 empty for 30 ms` | D17; `copy` for a copy of the disk |
//! | `at 120 ms wake n1` | C4 |
//! | `at 120 ms hang n1 for 2000 ms` | D9: no barrier of n1 completes |
//! | `at 120 ms power-cut n1: keeps none, down 20 ms` | P2, P3; `kill` likewise |
//!
//! A power cut keeps a part of the unsynced operations: `none`, `all`, `first 3`,
//! `all but 1st Prepared c1.1`, `torn 1st Prepared c1.1` followed by `header`, `half` or
//! `last-sector` (and optionally `with` one of `zeros`, `garbage`, `old-blocks`, `mixed` for the
//! bytes after the tear), or `some 500/1000 key 1f2e with zeros` (or `torn with zeros`), which
//! decides for each sector separately. Damage at rest while the node is down (D10) is appended to a
//! crash: `, damage wal 0 at 500/1000` and one of `flips 3`, `zeroes`, `misplaces 300/1000`,
//! `unwrites`; `0` is the newest file of that role. In the same place stand the other faults of a
//! disk at rest:
//!
//! | after `down 20 ms` | rule |
//! |---|---|
//! | `, damage wal 0 at 500/1000 flips 3` | D10 |
//! | `, disk 2 incarnations old` | D13: the disk is as the last incarnation but one found it |
//! | `, disk of n2` | D13: the disk is a copy of that of n2 |
//! | `, disk empty` | D14 |
//! | `, cut wal 0 at 500/1000` | D15: the file ends there; `at frame 500/1000` where the frame there begins |
//! | `, lose snapshot 0`, `, lose generation 0` | D15: a file, or every file with the highest number, is gone |
//! | `, unreadable wal 0` | D16: the next boot cannot read it |
//!
//! # Format 1
//!
//! Format 2 renames keywords of format 1 and nothing else: `why` to `note`, `breaks X` to
//! `expect violation of X`, `holds [X]` to `expect no violation [of X]`, `storm` to `fault-phase`,
//! `patience` to `recovery-timeout`, `log` to `log-limit`, `sync` to `sync-time`, `tail` to
//! `latency-tail`, `reboot` to `reboot-time`, `wire bytes` to `messages encoded`, `dead` to
//! `never-restarts`, `fail` to `sync-fails`, `slow` to `sync-slow`, `lie` to `sync-lies`, `break`
//! to `write-fails`, and `life N` to `incarnation N`. The reader refuses format 1 and names the
//! replacement.

mod cursor;
mod read;
mod read_fault;
mod write;

pub(crate) use cursor::ordinal;
pub use cursor::{Cursor, ParseError};
pub(crate) use write::plural;

use stormglass_node::Micros;

use crate::fault::Fault;
use crate::plan::Plan;
use crate::protocol::Protocol;
use crate::workload::PlannedRequest;

/// One run, in a form that keeps its meaning when the code of the node changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule<O> {
    /// A description of the scenario, one entry a line.
    pub note: Vec<String>,
    /// The result that the run must have.
    pub expectation: Expectation,
    /// Size of the cluster, length of the phases, and timing.
    pub plan: Plan,
    /// The requests of clients, those of one client in the order in which it sends them.
    pub requests: Vec<PlannedRequest<O>>,
    /// The faults, in any order.
    pub faults: Vec<Fault>,
}

/// The result that a run must have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expectation {
    /// The run must violate this property: the node under test is a mutant.
    Violation(String),
    /// The run must violate no property. The name is that of the property that was violated when
    /// the schedule was found.
    NoViolation(Option<String>),
}

impl<O> Schedule<O> {
    /// Reads a schedule of this protocol.
    ///
    /// # Errors
    /// The first error in the text, with line, column and what was expected.
    pub fn read<P: Protocol<Request = O>>(
        protocol: &P,
        text: &str,
    ) -> Result<Schedule<O>, ParseError> {
        read::read(protocol, text)
    }

    /// The faults that a run did not reach: those that its chooser has not used, and those that are
    /// planned for a time after the fault phase.
    pub fn unreached_faults(&self, unused: impl IntoIterator<Item: ToString>) -> Vec<String> {
        let timed_faults = self.faults.iter().filter_map(|fault| match fault {
            Fault::At(at, timed_fault) => self.after_phase(timed_fault.to_string(), *at),
            // The chooser itself knows which of these it has not returned: they are in `unused`.
            Fault::Message(..)
            | Fault::Crash(..)
            | Fault::Barrier(..)
            | Fault::Write(..)
            | Fault::Skew { .. } => None,
        });
        unused.into_iter().map(|fault| fault.to_string()).chain(timed_faults).collect()
    }

    /// The entries that a run did not reach: faults, and requests that are planned for a time after
    /// the fault phase.
    pub fn unreached_entries(&self, unused: impl IntoIterator<Item: ToString>) -> Vec<String> {
        let mut unreached = self.unreached_faults(unused);
        unreached.extend(self.requests.iter().filter_map(|planned| {
            // A request waits for the one before it, so an earlier one may be late, too. Listed is
            // only what certainly cannot happen.
            self.after_phase(format!("request {}", planned.id), planned.after)
        }));
        unreached
    }

    fn after_phase(&self, what: String, at: Micros) -> Option<String> {
        let end = self.plan.fault_phase;
        (at >= end).then(|| format!("{what} after {at} ms: the fault phase ends at {end} ms"))
    }

    /// Writes the schedule as text. [`read`](Self::read) returns an equal schedule.
    pub fn write<P: Protocol<Request = O>>(&self, protocol: &P) -> String {
        write::write(protocol, self)
    }
}
