//! One node without a world: what it does with a message that no run of honest nodes contains.

use std::sync::Arc;

use stormglass::commit::view::View;
use stormglass::commit::{
    AbortReason, Action, Age, Body, CommitNode, Config, DropReason, EndMark, Event, Introducing,
    Key, Message, Op, Outcome, Part, Position, Reads, RecordIsDurable, Request, RequestNumber,
    TxId, Vote,
};
use stormglass_node::{
    Boot, DiskOp, Effect, FileId, Incarnation, Input, Label, Micros, Node, NodeId, Outbox,
    RequestId, Time,
};
use stormglass_sim::disk::Disk;

use crate::rig::{C1_1, op};

const OTHER_REQUEST: RequestId = RequestId { serial: 2, ..C1_1 };

/// A node of a cluster of two, whose peer is declared lost: nobody has to welcome it.
struct OneNode {
    node: CommitNode,
    disk: Disk,
    out: Outbox<CommitNode>,
    /// The reasons for which it has dropped messages, until they are taken.
    dropped: Vec<DropReason>,
    /// The messages it has sent.
    sent: Vec<Message>,
    /// What it has answered to clients.
    replies: Vec<Outcome>,
    /// The events it has reported, dropped messages apart.
    events: Vec<&'static str>,
    now: Time,
}

impl OneNode {
    fn boot(id: NodeId, peer: NodeId) -> OneNode {
        OneNode::boot_from(
            Disk::default(),
            id,
            Config { lost: vec![peer], ..Config::new([id, peer]) },
        )
    }

    fn boot_from(disk: Disk, id: NodeId, config: Config) -> OneNode {
        let mut out = Outbox::default();
        let boot = Boot { id, now: Time(1), entropy: 7, disk: &disk };
        let node = CommitNode::boot(&config, boot, &mut out).expect("an intact disk");
        let mut one = OneNode {
            node,
            disk,
            out,
            now: Time(2),
            dropped: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            events: Vec::new(),
        };
        one.settle();
        one
    }

    /// Executes the effects until there are none. A barrier completes at once.
    fn settle(&mut self) {
        while !self.out.effects().is_empty() {
            let mut barriers = Vec::new();
            let (effects, bytes) = self.out.drain();
            for effect in effects {
                match effect {
                    Effect::Disk(op) => {
                        let data = if let DiskOp::Append { bytes: chunk, .. } = op {
                            chunk.of(bytes)
                        } else {
                            &[]
                        };
                        self.disk.issue(&op, data);
                        if let DiskOp::Sync { op, .. } | DiskOp::SyncDir { op } = op {
                            barriers.push(op);
                        }
                    }
                    Effect::Report(Event::Dropped { reason, .. }) => self.dropped.push(reason),
                    Effect::Report(event) => self.events.push(event.kind()),
                    Effect::Reply { response, .. } => self.replies.push(response.outcome),
                    Effect::Send { message, .. } => self.sent.push(message),
                    _ => {}
                }
            }
            self.out.clear();
            for op in barriers {
                let result = self.disk.complete(op, Ok(()));
                self.node.step(self.now, Input::DiskDone { op, result }, &mut self.out);
            }
        }
    }

    /// Handles an input, and executes its effects.
    fn handle(&mut self, input: Input<CommitNode>) {
        self.node.step(self.now, input, &mut self.out);
        self.settle();
    }

    /// Wakes the node at its next deadline. Returns how long that took.
    fn pass_to_deadline(&mut self) -> Micros {
        let deadline = self.node.deadline().expect("a deadline");
        let passed = Micros(deadline.0 - self.now.0);
        self.now = deadline;
        self.handle(Input::Wake);
        passed
    }

    fn receive(&mut self, from: NodeId, tx: TxId, request: RequestId, body: Body) {
        self.handle(Input::Message { from, message: Message { tx, request, body } });
    }

    /// A client's new request.
    fn transact(&mut self, id: RequestId, ops: Arc<[Op]>) {
        self.transact_again(id, None, ops);
    }

    /// A client's attempt at a request whose first attempt began at this time.
    fn transact_again(&mut self, id: RequestId, began_at: Option<Time>, ops: Arc<[Op]>) {
        let request = Request::Transact {
            addressed: first_position(self.node.incarnation().expect("it answers")),
            began_at,
            seen: RequestNumber::default(),
            ops,
        };
        self.handle(Input::Request { id, request });
    }

    /// A client's new request with a part of another node. Returns its transaction.
    fn begin(&mut self, id: RequestId, ops: Arc<[Op]>) -> TxId {
        self.sent.clear();
        self.transact(id, ops);
        let [Message { tx, body: Body::Prepare { .. }, .. }] = self.sent[..] else {
            panic!("not one Prepare: {:?}", self.sent)
        };
        tx
    }

    /// What it answers to a query for the outcome of a request that was addressed to this
    /// incarnation.
    fn outcome(&mut self, addressed: Incarnation) -> Outcome {
        self.replies.clear();
        let request = Request::Outcome { addressed: first_position(addressed) };
        self.handle(Input::Request { id: C1_1, request });
        self.replies.pop().expect("an answer")
    }

    fn starts_new_work(&self, tx: TxId, body: Body) -> bool {
        self.node.starts_new_work(&Message { tx, request: C1_1, body })
    }

    /// The participant introduces an incarnation of its own.
    fn greet(&mut self, incarnation: Incarnation, body: fn(Introducing) -> Body) {
        self.receive(PARTICIPANT, about(PARTICIPANT, incarnation), NO_REQUEST, body(introducing()));
    }

    /// How long it takes until it sends a message of this kind.
    fn pass_until_sent(&mut self, kind: &str) -> Micros {
        let began = self.now;
        loop {
            self.pass_to_deadline();
            if self.sent().contains(&kind) {
                return Micros(self.now.0 - began.0);
            }
        }
    }

    /// The state of the node, as an operator sees it.
    fn view(&self) -> View {
        self.node.view(self.now)
    }

    /// The kinds of the messages that it has sent since the last call.
    fn sent(&mut self) -> Vec<&'static str> {
        self.sent.drain(..).map(|message| message.kind()).collect()
    }

    /// Asserts that the node drops this message, and nothing else happens.
    #[track_caller]
    fn drops_other_request(&mut self, from: NodeId, tx: TxId, body: Body) {
        let before = self.view();
        self.receive(from, tx, OTHER_REQUEST, body);
        assert_eq!(std::mem::take(&mut self.dropped), [DropReason::OtherRequest]);
        assert_eq!(self.view(), before);
    }
}

fn end_mark() -> EndMark {
    EndMark::new(Position::default(), std::iter::empty(), None)
}

fn operations() -> Arc<[Op]> {
    [op(0, Action::Put(7)), op(1, Action::Put(7))].into()
}

fn prepare(part: &Part) -> Body {
    Body::Prepare { part: part.clone(), end_mark: end_mark() }
}

fn commit() -> Body {
    Body::Commit { end_mark: end_mark(), proof: RecordIsDurable::forged() }
}

fn yes() -> Body {
    Body::Vote(Vote::Yes { reads: Reads::default(), proof: RecordIsDurable::forged() })
}

fn ack() -> Body {
    Body::Ack { proof: RecordIsDurable::forged() }
}

/// The subject of messages about an incarnation.
fn about(node: NodeId, incarnation: Incarnation) -> TxId {
    TxId { coordinator: node, incarnation, serial: 0 }
}

const NO_REQUEST: RequestId = RequestId { client: 0, serial: 0, attempt: 0 };

/// The position of an incarnation that has begun nothing.
fn first_position(incarnation: Incarnation) -> Position {
    Position { incarnation, serial: 0 }
}

/// Of a node without earlier incarnations.
fn introducing() -> Introducing {
    Introducing { ancestors: [].into(), log_position: 0, lost: Incarnation::default() }
}

const COORDINATOR: NodeId = NodeId(0);
const PARTICIPANT: NodeId = NodeId(1);

/// A participant, a transaction of the coordinator, and the part of the participant in it.
fn participant() -> (OneNode, TxId, Part) {
    let incarnation = Incarnation::numbered(1);
    let tx = TxId { coordinator: COORDINATOR, incarnation, serial: 1 };
    let all = Part::of_all(Age { at: 1, by: C1_1 }, &operations()).expect("two operations");
    (OneNode::boot(PARTICIPANT, COORDINATOR), tx, all.of(PARTICIPANT))
}

/// 1. Node 1 has voted Yes and is shutting down: it must still receive the decision.
/// 2. It ignores messages of other transactions.
#[test]
fn only_a_prepare_of_an_unknown_transaction_begins_participation() {
    let (mut one, tx, part) = participant();
    assert!(one.starts_new_work(tx, prepare(&part)));
    one.receive(COORDINATOR, tx, C1_1, prepare(&part));
    assert!(!one.starts_new_work(tx, prepare(&part)));
    assert!(one.starts_new_work(TxId { serial: 2, ..tx }, prepare(&part)));
    assert!(!one.starts_new_work(tx, commit()));
    assert!(!one.starts_new_work(tx, Body::Abort { end_mark: end_mark() }));
}

/// Whether a lost incarnation has committed a request, the node cannot know. It remembers that over
/// restarts and compactions.
#[test]
fn outcome_of_a_request_to_a_lost_incarnation_is_unknown() {
    let lost = Incarnation::numbered(7).next(1);
    // The log is compacted after every record.
    let config = Config { compact_at_bytes: 1, ..Config::new([COORDINATOR]) };
    let replacing = Config { replaces: vec![lost], ..config.clone() };
    let mut one = OneNode::boot_from(Disk::default(), COORDINATOR, replacing);
    let restarted = Outcome::Aborted { reason: AbortReason::Restarted };
    for number in lost.number() + 1..lost.number() + 4 {
        let present = one.node.incarnation().expect("it answers");
        assert_eq!(present.number(), number);
        for addressed in [Incarnation::numbered(1), lost, Incarnation::numbered(number + 1)] {
            assert_eq!(one.outcome(addressed), Outcome::Unknown, "of {addressed}");
        }
        // Without its random bits it could be another one of that number.
        assert_eq!(one.outcome(Incarnation::numbered(number)), Outcome::Unknown);
        assert_eq!(one.outcome(present), Outcome::Unknown, "it has not received the request");
        for past in lost.number() + 1..number {
            assert_eq!(one.outcome(Incarnation::numbered(past)), restarted, "of {past}");
        }
        // Records, and with them compactions.
        let snapshots = one.view().log.snapshots;
        one.transact(RequestId { serial: number, ..C1_1 }, [op(0, Action::Put(7))].into());
        assert!(one.view().log.snapshots > snapshots);
        one = OneNode::boot_from(one.disk, COORDINATOR, config.clone());
    }
}

/// Two coordinators under one id could give one transaction id to two requests.
#[test]
fn participant_drops_messages_of_another_request() {
    let (mut one, tx, part) = participant();
    one.receive(COORDINATOR, tx, C1_1, prepare(&part));
    one.drops_other_request(COORDINATOR, tx, prepare(&part));
    one.drops_other_request(COORDINATOR, tx, commit());
    one.receive(COORDINATOR, tx, C1_1, commit());
    // Decided, and remembered.
    one.drops_other_request(COORDINATOR, tx, prepare(&part));
    one.drops_other_request(COORDINATOR, tx, commit());
    assert_eq!(one.dropped, []);
}

/// Two participants, or coordinators before it, could mean another request.
#[test]
fn coordinator_drops_messages_of_another_request() {
    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    let tx = one.begin(C1_1, operations());
    one.drops_other_request(PARTICIPANT, tx, yes());
    one.drops_other_request(PARTICIPANT, tx, ack());
    one.receive(PARTICIPANT, tx, C1_1, yes());
    // Committed, and not acknowledged.
    one.drops_other_request(PARTICIPANT, tx, ack());
    let committing = one.view();
    one.receive(PARTICIPANT, tx, C1_1, ack());
    assert_ne!(one.view(), committing);
    assert_eq!(one.dropped, []);
}

/// The numbers in `stormglass status`, at each stage of a transaction.
#[test]
fn view_counts_what_is_in_progress() {
    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    assert!(one.view().idle);
    let tx = one.begin(C1_1, operations());
    let View { collecting, deciding, committing, clients, .. } = one.view();
    assert_eq!((collecting, deciding, committing, clients), (1, 0, 0, 1));
    // COMMIT is appended, and not durable before the barrier.
    let vote = Message { tx, request: C1_1, body: yes() };
    one.node.step(one.now, Input::Message { from: PARTICIPANT, message: vote }, &mut one.out);
    let View { collecting, deciding, committing, .. } = one.view();
    assert_eq!((collecting, deciding, committing), (0, 1, 0));
    one.settle();
    let View { collecting, deciding, committing, idle, .. } = one.view();
    assert_eq!((collecting, deciding, committing, idle), (0, 0, 1, false));
    let log = one.view().log;
    assert_eq!(Some(log.segment_bytes), one.disk.len(FileId::Wal(log.segment)));
    one.receive(PARTICIPANT, tx, C1_1, ack());
    let View { collecting, deciding, committing, idle, .. } = one.view();
    assert_eq!((collecting, deciding, committing, idle), (0, 0, 0, true));

    let (mut one, tx, part) = participant();
    assert_eq!(one.view().outcomes, 0);
    one.receive(COORDINATOR, tx, C1_1, prepare(&part));
    assert_eq!((one.view().in_doubt.len(), one.view().locks.len()), (1, 1));
    one.receive(COORDINATOR, tx, C1_1, commit());
    assert_eq!((one.view().in_doubt.len(), one.view().locks.len()), (0, 0));
    assert_eq!(one.view().outcomes, 1);
}

/// A clean shutdown waits for what is in progress.
#[cfg(feature = "cli")]
#[test]
fn node_is_idle_for_the_engine_when_nothing_is_in_progress() {
    use stormglass_node::runtime::ServedNode;

    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    assert!(ServedNode::is_idle(&one.node));
    let tx = one.begin(C1_1, operations());
    assert!(!ServedNode::is_idle(&one.node), "it collects votes");
    one.receive(PARTICIPANT, tx, C1_1, yes());
    assert!(!ServedNode::is_idle(&one.node), "a Commit is not acknowledged");
    one.receive(PARTICIPANT, tx, C1_1, ack());
    assert!(ServedNode::is_idle(&one.node));
}

/// A Commit that is not acknowledged is repeated after `retry_first`, then at intervals twice as
/// long each time, up to `retry_max`.
#[test]
fn commit_is_repeated_at_doubling_intervals() {
    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    let tx = one.begin(C1_1, operations());
    one.receive(PARTICIPANT, tx, C1_1, yes());
    let Config { retry_first, retry_max, .. } = Config::new([]);
    let mut interval = retry_first;
    for _ in 0..10 {
        one.sent.clear();
        // The peer that is declared lost is greeted as well.
        let passed = one.pass_until_sent("Commit");
        assert_eq!(passed, interval);
        interval = retry_max.min(Micros(interval.0 * 2));
    }
}

/// A participant waits for a lock no longer than the coordinator waits for its vote.
#[test]
fn wait_for_a_lock_ends_with_the_vote_timeout() {
    let (mut one, tx, part) = participant();
    one.receive(COORDINATOR, tx, C1_1, prepare(&part));
    // An older one waits for it.
    let older = TxId { serial: 2, ..tx };
    let age = Age { at: 0, by: OTHER_REQUEST };
    let all = Part::of_all(age, &operations()).expect("two operations");
    let began = one.now;
    one.receive(COORDINATOR, older, OTHER_REQUEST, prepare(&all.of(PARTICIPANT)));
    assert_eq!(one.view().waiting, 1);
    let end = began + Config::new([]).vote_timeout;
    while one.now < end {
        assert_eq!(one.view().waiting, 1, "at {:?}", one.now);
        one.pass_to_deadline();
    }
    assert_eq!((one.now, one.view().waiting), (end, 0));
    // It votes on a later copy, as if it had not received the first.
    one.receive(COORDINATOR, tx, C1_1, commit());
    one.sent.clear();
    one.receive(COORDINATOR, older, OTHER_REQUEST, prepare(&all.of(PARTICIPANT)));
    assert_eq!(one.sent(), ["Vote"]);
}

/// The age is the time of the coordinator at the first attempt, and that of the first attempt at a
/// retry, but never later than the present.
#[test]
fn age_is_the_time_of_the_first_attempt_by_the_clock_of_a_coordinator() {
    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    one.now = Time(one.now.0 + 1_000);
    let now = one.now;
    let earlier = Time(now.0 - 500);
    let later = Time(now.0 + 500);
    let mut serial = 0;
    for (began_at, expected) in [(None, now), (Some(earlier), earlier), (Some(later), now)] {
        serial += 1;
        let id = RequestId { client: 1, serial, attempt: 3 };
        one.sent.clear();
        let key = Key::new(&format!("k{serial}")).expect("short");
        let put = |node| Op { node, key, action: Action::Put(7) };
        one.transact_again(id, began_at, [put(COORDINATOR), put(PARTICIPANT)].into());
        let [Message { body: Body::Prepare { part, .. }, .. }] = &one.sent[..] else {
            panic!("not one Prepare: {:?}", one.sent)
        };
        let by = RequestId { attempt: 0, ..id };
        assert_eq!(part.age(), Age { at: expected.0, by }, "{began_at:?}");
    }
}

/// An incarnation that waits for its peers reports it after 2, 4, 8, ... repetitions; one that
/// answers, and waits for the others, stops to repeat itself.
#[test]
fn new_incarnation_repeats_its_introduction() {
    let config = Config::new([COORDINATOR, PARTICIPANT]);
    let mut one = OneNode::boot_from(Disk::default(), COORDINATOR, config);
    assert_eq!(one.sent(), ["Hello"]);
    for tries in 1..40_u32 {
        one.events.clear();
        one.pass_to_deadline();
        assert_eq!(one.sent(), ["Hello"]);
        let is_reported = one.events.contains(&"Unconfirmed");
        assert_eq!(is_reported, tries > 1 && tries.is_power_of_two(), "after {tries}");
    }
    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    one.sent.clear();
    let mut repeated = 0;
    while one.node.deadline().is_some() {
        one.pass_to_deadline();
        repeated += one.sent().len();
        assert_eq!(one.events, ["Ready"], "it answers");
    }
    assert_eq!(repeated, 9, "of ten, the first was sent at the boot");
}

/// A Hello of an incarnation that is older than the one it remembers may only be late: it is
/// refused, and not reported as another process.
#[test]
fn only_an_incarnation_that_is_not_older_is_reported_as_refused() {
    let known = Incarnation::numbered(5).next(1);
    let mut one = OneNode::boot(COORDINATOR, PARTICIPANT);
    one.sent.clear();
    one.greet(known, Body::Remember);
    assert!(one.sent().contains(&"Remembered"));
    for (number, reports) in [(2, false), (6, true), (9, true)] {
        one.events.clear();
        one.greet(Incarnation::numbered(number), Body::Hello);
        assert!(one.sent().contains(&"Refuse"));
        assert_eq!(one.events.contains(&"PeerRefused"), reports, "of {number}");
    }
}

/// Only a node itself introduces its incarnations.
#[test]
fn introduction_on_behalf_of_another_node_is_dropped() {
    let config = Config::new([COORDINATOR, PARTICIPANT, NodeId(2)]);
    let config = Config { lost: vec![PARTICIPANT, NodeId(2)], ..config };
    let mut one = OneNode::boot_from(Disk::default(), COORDINATOR, config);
    for body in [Body::Hello, Body::Remember] {
        one.sent.clear();
        let tx = about(PARTICIPANT, Incarnation::numbered(1));
        one.receive(NodeId(2), tx, NO_REQUEST, body(introducing()));
        assert_eq!(std::mem::take(&mut one.dropped), [DropReason::SenderNotCoordinator]);
        assert_eq!(one.sent(), [""; 0]);
    }
}
