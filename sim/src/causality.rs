//! The causes of a violation, by happens-before (Lamport 1978, "Time, clocks, and the ordering of
//! events in a distributed system").
//!
//! # Edges
//!
//! A fact follows *directly* from another one:
//! - an effect from the input of its step, an input from the sending of that very message;
//! - the completion of a barrier from its `Sync`, and that from what has been appended since the
//!   last one;
//! - a boot from the end of the process before it, the end of a process from the fault beside it;
//! - what a client receives from the sending of it.
//!
//! The rest is *memory*: everything that an incarnation has done before may have made it do this,
//! so by happens-before alone nearly the whole run is the past of its violation. Memory is searched
//! where it is most likely to matter, from
//! - a fact to the last one of an earlier step that has the same subject;
//! - an input to the last of the same kind, as a vote to the vote before it, and a wake to the last
//!   input that is none;
//! - a step to the boot of its incarnation, unless it is the first;
//! - a boot to the last that the incarnation before it has appended, and sent to others, about the
//!   subjects of the violation;
//! - a request to the answer that its client had before, and a retry to the request.
//!
//! # What is shown
//!
//! The search goes backwards from the violating fact and from those that the reason of the
//! violation names ([`starts`](CausalTrace::starts)). Direct edges are the shortest, then those to
//! the same subject; the nearest facts are shown, at most [`SHOWN_MAX`]. Faults of nodes, links and
//! messages among them are shown besides.

mod record;
mod search;

use std::collections::BTreeMap;

use stormglass_node::{Node, NodeId, RequestId, Subject};

use crate::fault::Endpoint;
use crate::property::{Checker, MessageId, Observation, Violation};

/// The greatest number of facts in an explanation, besides faults.
// What a person reads at a stretch, and enough for a request over three nodes with its records.
const SHOWN_MAX: usize = 32;

/// A checker that is never violated and records the causes of each fact.
#[derive(Clone, Debug, Default)]
pub(crate) struct CausalTrace {
    facts: Vec<RecordedFact>,
    index: Index,
    /// The message that the next fact receives or loses.
    arriving: Option<MessageId>,
}

/// A fact, with the facts from which it follows: indices of earlier ones.
#[derive(Clone, Debug)]
struct RecordedFact {
    line: String,
    node: NodeId,
    kind: &'static str,
    subjects: Vec<SubjectKey>,
    role: Role,
    shows_contents: bool,
    direct: Vec<usize>,
    same_subject: Vec<usize>,
    memory: Vec<usize>,
    /// The fact before it in the same process: in the causal past, and no more.
    before: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// What a node lets others see, or keeps for later: a message, a reply, a record.
    Output,
    /// A fault, or what it has done: to these nodes, or to a message of these ends.
    Fault {
        nodes: Vec<NodeId>,
        ends: Vec<Endpoint>,
        is_of_message: bool,
    },
    /// A phase of the run.
    Run,
    Other,
}

/// A subject without the attempt: a retry concerns the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SubjectKey {
    Request(u64, u32),
    Number(u64),
}

impl SubjectKey {
    fn of(subject: Subject) -> SubjectKey {
        match subject {
            Subject::Request(id) => SubjectKey::of_request(id),
            Subject::Number(number) => SubjectKey::Number(number),
        }
    }

    fn of_request(id: RequestId) -> SubjectKey {
        SubjectKey::Request(id.client, id.serial)
    }
}

/// An incarnation of a node.
type Process = (NodeId, u32);

/// Where the causes of later facts are found.
#[derive(Clone, Debug, Default)]
struct Index {
    /// The last fact of each process, and of each client.
    last_of_process: BTreeMap<Process, usize>,
    last_of_client: BTreeMap<Endpoint, usize>,
    /// The present step of each process: its input, or its boot.
    step: BTreeMap<Process, usize>,
    boot: BTreeMap<Process, usize>,
    sent: BTreeMap<MessageId, usize>,
    syncs: BTreeMap<(Process, u64), usize>,
    /// What no `Sync` covers yet.
    appended: BTreeMap<Process, Vec<usize>>,
    /// The end of the last process of a node, and what has been done to its disk since.
    ended: BTreeMap<NodeId, Vec<usize>>,
    /// The last fact of each subject, and the last input of each kind.
    of_subject: BTreeMap<(Process, SubjectKey), usize>,
    of_kind: BTreeMap<(Process, &'static str), usize>,
    last_input: BTreeMap<Process, usize>,
    last_append: BTreeMap<Process, usize>,
    asked: BTreeMap<SubjectKey, usize>,
    answered: BTreeMap<Endpoint, usize>,
}

/// An explanation of a violation.
pub(crate) struct Explanation<'a> {
    /// In the order of the run.
    lines: Vec<&'a str>,
    /// How many facts the run has, and how many are in the causal past of those that the search
    /// began from.
    facts: usize,
    past: usize,
    /// Where the histories of the violating fact and of another start of the search part.
    common_causes: Vec<CommonCause<'a>>,
}

/// The last common cause of the violating fact and another one.
struct CommonCause<'a> {
    other: &'a str,
    /// `None`: nothing has caused both.
    cause: Option<&'a str>,
}

impl std::fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Explanation { lines, facts, past, common_causes } = self;
        let count = lines.len();
        writeln!(f, "causes: {count} of {facts} facts, {past} of which are in the causal past")?;
        for line in lines {
            writeln!(f, "{line}")?;
        }
        for CommonCause { other, cause } in common_causes {
            writeln!(f, "\nlast common cause of the violation and of\n{other}\nis")?;
            writeln!(f, "{}", cause.unwrap_or("      (nothing)"))?;
        }
        Ok(())
    }
}

impl<N: Node> Checker<N> for CausalTrace {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.record(observation);
        Ok(())
    }

    fn on_sent(&mut self, message: MessageId) {
        if let Some(last) = self.facts.len().checked_sub(1) {
            self.index.sent.insert(message, last);
        }
    }

    fn on_arrival(&mut self, message: MessageId) {
        self.arriving = Some(message);
    }

    fn properties(&self) -> usize {
        0
    }
}
