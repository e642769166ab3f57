//! Properties: statements about the effects of nodes and the contents of disks that every run must
//! satisfy.
//!
//! A checker observes every fact of a run as it happens, effects *before* they are performed, so
//! that a rule like "durable before it is sent" is checked at the moment of sending and not only
//! after a crash that happens to reveal it. A checker never looks into a node.

use std::fmt;

use stormglass_node::{
    About, BootError, DiskOp, Effect, FileId, HaltReason, Input, Label, Micros, Node, NodeId,
    RequestId, Subject,
};

use crate::coverage::Objections;
use crate::disk::{CutReport, DamageRecord, Disk, DiskChange, KillReport};
use crate::fault::{BarrierFault, Endpoint, MessageFault, SecondDisk, TimedFault, WriteFault};
use crate::run_end::RecoveryEnd;
use crate::world::panics;

/// `Ok`, or in one sentence why the property is violated.
pub type PropertyResult = Result<(), String>;

/// One property with a name, written for a protocol.
pub trait Property<N: Node>: Clone {
    /// The name of the property: `NoLostAdd`.
    const NAME: &'static str;
    /// Whether it is a liveness property (something good happens eventually) and not a safety
    /// property.
    const LIVENESS: bool = false;
    /// Checks one fact.
    ///
    /// In some runs, copies of the property are offered altered facts as well, to find out whether
    /// it looks at anything ([`coverage`](crate::coverage)). A violation or a panic of a copy has
    /// no other effect; so a property shares no state with its copies.
    ///
    /// # Errors
    /// Why the property is violated, in one sentence.
    fn on(&mut self, observation: &Observation<'_, N>) -> PropertyResult;
    /// Adds the counters that all runs of a hunt together must raise above zero.
    fn sometimes(&self, _tally: &mut Sometimes) {}
    /// Whether what the property waits for has happened, so that the run may end: true by default.
    /// Looked at after each event of the recovery and the probe of a run that
    /// [ends so](crate::run_end::RunEnd::Settled).
    fn has_settled(&self) -> bool {
        true
    }
    /// From where on the property no longer judges this run; `None` by default, as it judges all of
    /// it. See [`JudgedUntil`].
    fn judged_until(&self) -> Option<JudgedUntil> {
        None
    }
}

/// One or more properties, as the world checks them. [`PropertyChecker`] makes one of a
/// [`Property`]; pairs are checked in order.
pub trait Checker<N: Node>: Clone {
    /// Checks one fact.
    ///
    /// # Errors
    /// The violated property.
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation>;
    /// For observers that relate messages: what the last observation has sent is on its way, as
    /// this message. Not called if the message has no way, as its client does not exist.
    #[inline]
    fn on_sent(&mut self, _message: MessageId) {}
    /// For observers that relate messages: the next observation is that this message arrives, or
    /// is [lost](Fact::Lost).
    #[inline]
    fn on_arrival(&mut self, _message: MessageId) {}
    /// Adds the `sometimes` counters of this run.
    fn sometimes(&self, _tally: &mut Sometimes) {}
    /// Whether every property [has settled](Property::has_settled).
    fn has_settled(&self) -> bool {
        true
    }
    /// From where on this run is not judged; `None` by default, as all of it is.
    fn judged_until(&self) -> Option<JudgedUntil> {
        None
    }
    /// How many properties there are. With 0, as `()` has, a test would check nothing and fails.
    fn properties(&self) -> usize {
        1
    }
    /// Offers facts, the last of which did not happen, to copies of the properties, and notes which
    /// of them object ([`coverage`](crate::coverage)). By default to none: then the coverage of a
    /// hunt does not say whether they look at anything.
    fn challenge(&self, _facts: &[Observation<'_, N>], _objections: &mut Objections<'_>) {}
}

/// A message, request or response by its way: the `ordinal`th, from 0, of all that `from` has sent
/// to `to`. A copy of it (N3) has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub struct MessageId {
    pub from: Endpoint,
    pub to: Endpoint,
    pub ordinal: u32,
}

/// The place in a run from which on its checkers cannot judge it, since a fault excuses whatever
/// follows. Such a run is not clean: the checkers cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedUntil {
    /// True time since the beginning.
    pub at: Micros,
    /// Why, as a clause: `damage at rest removed durable records of n1`.
    pub reason: String,
}

impl fmt::Display for JudgedUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JudgedUntil { at, reason } = self;
        write!(f, "{at} ms: {reason}")
    }
}

/// A violated property.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Violation {
    pub property: &'static str,
    /// One sentence.
    pub reason: String,
    /// Whether it is a liveness property.
    pub liveness: bool,
}

impl Violation {
    /// A violation of a safety property.
    // Cold: the formatting of violations must not lie between hot code.
    #[cold]
    pub fn safety(property: &'static str, reason: impl Into<String>) -> Violation {
        Violation { property, reason: reason.into(), liveness: false }
    }

    /// A violation of a liveness property.
    #[cold]
    pub fn liveness(property: &'static str, reason: impl Into<String>) -> Violation {
        Violation { property, reason: reason.into(), liveness: true }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.reason)
    }
}

/// One fact, with its time and place.
#[allow(missing_docs, reason = "the names say it")]
pub struct Observation<'a, N: Node> {
    /// True time since the beginning of the run. No node sees it.
    pub at: Micros,
    /// The node of the fact. For facts of the whole world, node 0.
    pub node: NodeId,
    /// The incarnation of that node, counted by the world from 1; 0 before the first.
    pub incarnation: u32,
    /// That node's disk, before the effect is performed.
    pub disk: &'a Disk,
    /// The disk of every node, in order. That of a node that is down is what its next boot will
    /// find, as long as nothing happens to it; that of a node with two processes (D17) is the
    /// second one's.
    pub disks: &'a [Disk],
    pub fact: &'a Fact<'a, N>,
}

impl<'a, N: Node> Observation<'a, N> {
    /// The disk of any node; `None` if the cluster has no such node.
    pub fn disk_of(&self, node: NodeId) -> Option<&'a Disk> {
        self.disks.get(usize::from(node.0))
    }

    pub(crate) fn copy(&self) -> Observation<'a, N> {
        Observation { ..*self }
    }
}

/// What can happen in a run. Inputs and effects, which are most of the facts, are its own variants;
/// the others are in groups, so that a checker names in one arm a group that it ignores.
#[allow(missing_docs, reason = "the names say it")]
pub enum Fact<'a, N: Node> {
    /// A node is about to handle this.
    Input(&'a Input<N>),
    /// An effect of a node; it is performed right after. The bytes are those of an append.
    Effect(&'a Effect<N>, &'a [u8]),
    /// The process of a node starts or ends, or its disk decays while it is down.
    Process(ProcessFact<'a>),
    /// A fault of the network, of a disk operation, or of the timeline.
    Fault(FaultFact<'a>),
    /// A message is lost: the node is down, or the link is partitioned.
    Lost {
        from: Endpoint,
        to: Endpoint,
        about: About,
        /// What else the message concerns ([`Label::further_subjects`]).
        further: &'a [Subject],
        /// Why it did not arrive.
        reason: LossReason,
    },
    /// A client sends or receives.
    Client(ClientFact<'a, N>),
    /// The whole run enters another phase, or is over.
    Run(RunFact<'a>),
}

/// The process of a node starts or ends, or its disk decays while it is down.
#[derive(Debug)]
pub enum ProcessFact<'a> {
    /// A process starts; its boot effects follow.
    Boot,
    /// A process refuses to boot.
    Refused(&'a BootError),
    /// The process was killed.
    Killed(&'a KillReport),
    /// The machine lost power.
    PowerCut(&'a CutReport),
    /// The node halted itself. It is booted again, unless the halt [is final](halt_is_final).
    Halted(&'a HaltReason),
    /// Bytes at rest were damaged while the node was down (D10, `docs/faults.md`).
    Damaged(&'a DamageRecord),
    /// The disk was replaced or lost files while the node was down (D13, D14, D15).
    DiskChanged(&'a DiskChange),
    /// The boot that has just begun cannot read this file (D16). The next one can: a node that
    /// refuses to boot for this reason is booted again.
    Unreadable(FileId),
    /// The running process is set aside, and a second one takes its place under the id of the node
    /// (D17); its boot follows. Until [`ProcessFact::Resumed`], every other fact of a process and
    /// every input and effect at this node are those of the second one.
    SecondProcess(SecondDisk),
    /// The second process has ended for good, and its disk is discarded. The first one goes on,
    /// with its own incarnation, where it was set aside (D17).
    Resumed,
}

/// Whether a node that has halted for this reason stays down: its operator does not start it again.
pub fn halt_is_final(reason: &HaltReason) -> bool {
    // A disk that has failed once may work after a restart, and a protocol that has failed begins
    // from its files. Any other reason is one that the next incarnation would find, too.
    !matches!(reason, HaltReason::DiskFailed(_) | HaltReason::ProtocolFailed(_))
}

/// A fault of the network, of a disk operation, or of the timeline. A crash is not among them: it
/// is a [`ProcessFact`].
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FaultFact<'a> {
    /// A fault of a message.
    Message {
        from: Endpoint,
        to: Endpoint,
        about: About,
        /// What else the message concerns ([`Label::further_subjects`]).
        further: &'a [Subject],
        fault: MessageFault,
    },
    /// A barrier of this node will fail, take long or lie.
    Barrier(BarrierFault),
    /// A write of this node fails.
    Write(WriteFault),
    /// A timed fault begins.
    Timed(&'a TimedFault),
}

/// A client sends or receives.
#[allow(missing_docs, reason = "the names say it")]
pub enum ClientFact<'a, N: Node> {
    /// A client sends a request to this node.
    Asked { id: RequestId, request: &'a N::Request },
    /// A client receives this node's response.
    Answered { id: RequestId, response: &'a N::Response },
}

/// The whole run enters another phase, or is over.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RunFact<'a> {
    /// The fault phase is over: no new faults, every node boots except the permanently down ones:
    /// those that the plan keeps down, and those that have refused to boot by now, unless for an
    /// [unreadable file](ProcessFact::Unreadable), or have halted [for good](halt_is_final). A node
    /// that does so later, as [`ProcessFact::Refused`] or [`ProcessFact::Halted`] says, stays down,
    /// too.
    Healed { permanently_down: &'a [NodeId] },
    /// The recovery is over; a probe may follow.
    Recovered {
        /// Why it is over.
        how: RecoveryEnd,
        /// Every file of a running node, with its length in bytes; none after a
        /// [timeout](RecoveryEnd::TimedOut).
        files: &'a [(NodeId, FileId, u64)],
    },
    /// The run is over, including the probe.
    Ended,
}

impl<N: Node> Fact<'_, N> {
    /// The request that this fact concerns, if there is one; the first, if there are several.
    pub fn request(&self) -> Option<RequestId> {
        self.requests().first().copied()
    }

    /// Every request that this fact concerns, as a message may concern several. That of its
    /// [subject](Label::subject) is the first.
    pub fn requests(&self) -> Vec<RequestId> {
        let mut requests = Vec::new();
        match self {
            Fact::Input(Input::Message { message, .. }) => add_requests_of(message, &mut requests),
            Fact::Input(Input::Request { id, request }) => {
                requests.push(*id);
                add_requests_of(request, &mut requests);
            }
            Fact::Client(ClientFact::Asked { id, request }) => {
                requests.push(*id);
                add_requests_of(*request, &mut requests);
            }
            Fact::Client(ClientFact::Answered { id, response }) => {
                requests.push(*id);
                add_requests_of(*response, &mut requests);
            }
            Fact::Effect(effect, _) => match effect {
                Effect::Send { message, .. } => add_requests_of(message, &mut requests),
                Effect::Disk(DiskOp::Append { about, .. }) => {
                    requests.extend(about.subject.and_then(request_in));
                }
                Effect::Reply { id, response } => {
                    requests.push(*id);
                    add_requests_of(response, &mut requests);
                }
                Effect::Report(event) => add_requests_of(event, &mut requests),
                Effect::Disk(_) | Effect::Halt(_) => {}
            },
            Fact::Fault(FaultFact::Message { about, further, .. })
            | Fact::Lost { about, further, .. } => {
                let subjects = about.subject.iter().chain(*further);
                requests.extend(subjects.copied().filter_map(request_in));
            }
            Fact::Input(
                Input::Connected { .. }
                | Input::Disconnected { .. }
                | Input::DiskDone { .. }
                | Input::Wake,
            )
            | Fact::Process(_)
            | Fact::Fault(FaultFact::Barrier(_) | FaultFact::Write(_) | FaultFact::Timed(_))
            | Fact::Run(_) => {}
        }
        requests
    }

    /// Whether this fact concerns a request, whichever attempt at it.
    pub fn concerns(&self, request: RequestId) -> bool {
        let RequestId { client, serial, attempt: _ } = request;
        self.requests().iter().any(|id| (id.client, id.serial) == (client, serial))
    }
}

/// Whether a message, request, response or event concerns any request.
#[inline]
pub(crate) fn concerns_any_request(of: &impl Label) -> bool {
    // Nearly always the first, which needs no list.
    of.subject().and_then(request_in).is_some()
        || of.further_subjects().into_iter().any(|subject| request_in(subject).is_some())
}

fn add_requests_of(of: &impl Label, requests: &mut Vec<RequestId>) {
    requests.extend(of.subject().into_iter().chain(of.further_subjects()).filter_map(request_in));
}

fn request_in(subject: Subject) -> Option<RequestId> {
    match subject {
        Subject::Request(id) => Some(id),
        Subject::Number(_) => None,
    }
}

// By hand, as that of `ClientFact`, since derived ones ask for a node that is `Debug`.
impl<N: Node> fmt::Debug for Fact<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Input(input) => f.debug_tuple("Input").field(input).finish(),
            Fact::Effect(effect, bytes) => {
                f.debug_tuple("Effect").field(effect).field(bytes).finish()
            }
            Fact::Process(fact) => f.debug_tuple("Process").field(fact).finish(),
            Fact::Fault(fact) => f.debug_tuple("Fault").field(fact).finish(),
            Fact::Lost { from, to, about, further, reason } => f
                .debug_struct("Lost")
                .field("from", from)
                .field("to", to)
                .field("about", about)
                .field("further", further)
                .field("reason", reason)
                .finish(),
            Fact::Client(fact) => f.debug_tuple("Client").field(fact).finish(),
            Fact::Run(fact) => f.debug_tuple("Run").field(fact).finish(),
        }
    }
}

impl<N: Node> fmt::Debug for ClientFact<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientFact::Asked { id, request } => {
                f.debug_struct("Asked").field("id", id).field("request", request).finish()
            }
            ClientFact::Answered { id, response } => {
                f.debug_struct("Answered").field("id", id).field("response", response).finish()
            }
        }
    }
}

/// Why a message did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReason {
    /// N6: the link is partitioned.
    Partition,
    /// N8: the queue of the link was full.
    QueueFull,
    /// N4: the receiver could not decode it.
    Corrupted,
    /// The receiving node is down.
    ReceiverDown,
    /// There is no session with the receiver, or it has ended.
    NoSession,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LossReason::Partition => "partition",
            LossReason::QueueFull => "queue full",
            LossReason::Corrupted => "damaged",
            LossReason::ReceiverDown => "down",
            LossReason::NoSession => "no session",
        })
    }
}

/// Counters of events that should sometimes happen, and greatest values of measures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sometimes {
    rows: Vec<(&'static str, u64)>,
    peaks: Vec<(&'static str, u64)>,
}

impl Sometimes {
    /// Adds to a counter. Adding 0 is meaningful: it makes a hunt fail in which the counter stays
    /// at 0.
    pub fn add(&mut self, what: &'static str, times: u64) {
        // In the order of the first mention, which reports keep; there are a few dozen.
        match self.rows.iter_mut().find(|(name, _)| *name == what) {
            Some((_, count)) => *count += times,
            None => self.rows.push((what, times)),
        }
    }

    /// Raises the greatest value of a measure.
    pub fn peak(&mut self, what: &'static str, measure: u64) {
        match self.peaks.iter_mut().find(|(name, _)| *name == what) {
            Some((_, greatest)) => *greatest = measure.max(*greatest),
            None => self.peaks.push((what, measure)),
        }
    }

    /// Adds all counters of another run.
    pub fn merge(&mut self, other: &Sometimes) {
        for &(what, times) in &other.rows {
            self.add(what, times);
        }
        for &(what, measure) in &other.peaks {
            self.peak(what, measure);
        }
    }

    /// The greatest values, in the order of their first mention.
    pub fn peaks(&self) -> &[(&'static str, u64)] {
        &self.peaks
    }

    /// The counters that are 0.
    pub fn never(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rows.iter().filter(|(_, times)| *times == 0).map(|(what, _)| *what)
    }

    /// Every counter, in the order of its first mention.
    pub fn rows(&self) -> &[(&'static str, u64)] {
        &self.rows
    }
}

/// One [`Property`] as a [`Checker`].
#[derive(Clone, Debug, Default)]
pub struct PropertyChecker<O>(pub O);

impl<N: Node, O: Property<N>> Checker<N> for PropertyChecker<O> {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.0.on(observation).map_err(|reason| Violation {
            property: O::NAME,
            reason,
            liveness: O::LIVENESS,
        })
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        self.0.sometimes(tally);
    }

    fn has_settled(&self) -> bool {
        self.0.has_settled()
    }

    fn judged_until(&self) -> Option<JudgedUntil> {
        self.0.judged_until()
    }

    fn challenge(&self, facts: &[Observation<'_, N>], objections: &mut Objections<'_>) {
        if objections.has_objected(O::NAME) {
            return;
        }
        let mut copy = self.0.clone();
        let outcome = panics::catch(|| facts.iter().try_for_each(|fact| copy.on(fact)));
        // A property that cannot handle such a fact looks at it, too.
        objections.note(O::NAME, !matches!(outcome, Ok(Ok(()))));
    }
}

impl<N: Node> Checker<N> for () {
    fn check(&mut self, _seen: &Observation<'_, N>) -> Result<(), Violation> {
        Ok(())
    }

    fn properties(&self) -> usize {
        0
    }
}

impl<N: Node, A: Checker<N>, B: Checker<N>> Checker<N> for (A, B) {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        // The first checker may be an observer, which must see the violating fact.
        self.0.check(observation)?;
        self.1.check(observation)
    }

    #[inline]
    fn on_sent(&mut self, message: MessageId) {
        self.0.on_sent(message);
        self.1.on_sent(message);
    }

    #[inline]
    fn on_arrival(&mut self, message: MessageId) {
        self.0.on_arrival(message);
        self.1.on_arrival(message);
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        self.0.sometimes(tally);
        self.1.sometimes(tally);
    }

    fn has_settled(&self) -> bool {
        self.0.has_settled() && self.1.has_settled()
    }

    fn judged_until(&self) -> Option<JudgedUntil> {
        let judged_until = [self.0.judged_until(), self.1.judged_until()];
        judged_until.into_iter().flatten().min_by_key(|until| until.at)
    }

    fn properties(&self) -> usize {
        self.0.properties() + self.1.properties()
    }

    fn challenge(&self, facts: &[Observation<'_, N>], objections: &mut Objections<'_>) {
        self.0.challenge(facts, objections);
        self.1.challenge(facts, objections);
    }
}
