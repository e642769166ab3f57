//! One node without a world: what it does with a message that no run of honest nodes contains.

use std::sync::Arc;

use stormglass::commit::{
    AbortReason, Action, Age, Body, CommitNode, Config, DropReason, EndMark, Event, Message, Op,
    Outcome, Part, Position, Reads, RecordIsDurable, Request, RequestNumber, TxId, Vote,
};
use stormglass_node::{
    Boot, DiskOp, Effect, Incarnation, Input, Node, NodeId, Outbox, RequestId, Time,
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
    /// The transactions of which it has sent a message, each once.
    sent: Vec<TxId>,
    /// What it has answered to clients.
    replies: Vec<Outcome>,
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
        let mut one =
            OneNode { node, disk, out, dropped: Vec::new(), sent: Vec::new(), replies: Vec::new() };
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
                    Effect::Reply { response, .. } => self.replies.push(response.outcome),
                    Effect::Send { message, .. } if !self.sent.contains(&message.tx) => {
                        self.sent.push(message.tx);
                    }
                    _ => {}
                }
            }
            self.out.clear();
            for op in barriers {
                let result = self.disk.complete(op, Ok(()));
                self.node.step(Time(2), Input::DiskDone { op, result }, &mut self.out);
            }
        }
    }

    fn receive(&mut self, from: NodeId, tx: TxId, request: RequestId, body: Body) {
        let message = Message { tx, request, body };
        self.node.step(Time(3), Input::Message { from, message }, &mut self.out);
        self.settle();
    }

    /// A client's new request.
    fn transact(&mut self, id: RequestId, ops: Arc<[Op]>) {
        let request = Request::Transact {
            incarnation: self.node.incarnation().expect("it answers"),
            age: Age { at: 1, by: id },
            seen: RequestNumber::default(),
            ops,
        };
        self.node.step(Time(3), Input::Request { id, request }, &mut self.out);
        self.settle();
    }

    /// What it answers to a query for the outcome of a request that was addressed to this
    /// incarnation.
    fn outcome(&mut self, addressed: Incarnation) -> Outcome {
        self.replies.clear();
        let request = Request::Outcome { incarnation: addressed };
        self.node.step(Time(3), Input::Request { id: C1_1, request }, &mut self.out);
        self.settle();
        self.replies.pop().expect("an answer")
    }

    fn starts_new_work(&self, tx: TxId, body: Body) -> bool {
        self.node.starts_new_work(&Message { tx, request: C1_1, body })
    }

    /// The state of the node, as an operator sees it.
    fn view(&self) -> String {
        format!("{:?}", self.node.view(Time(3)))
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
        let snapshots = one.node.view(Time(3)).log.snapshots;
        one.transact(RequestId { serial: number, ..C1_1 }, [op(0, Action::Put(7))].into());
        assert!(one.node.view(Time(3)).log.snapshots > snapshots);
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
    one.sent.clear();
    one.transact(C1_1, operations());
    let [tx] = one.sent[..] else { panic!("one transaction, not {:?}", one.sent) };
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
