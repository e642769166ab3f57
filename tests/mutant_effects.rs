//! Mutants around the real node, each of which violates a property; `faulty_nodes` has more of
//! them, and `cargo tools mutants` builds others inside it.

use stormglass::commit::TxId;
use stormglass::commit::{
    CommitNode, Config, EndMark, Event, Message, Position, Request, Response,
};
use stormglass_commit_sim::{AtomicCommitChecker, Clients, Commit, Txn};
use stormglass_node::{Boot, BootError, DiskOp, Effect, FileId, Input, Node, NodeId, Outbox, Time};
use stormglass_sim::hunt::{HuntOptions, Progress, hunt_in};
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Profile, Rng, Setup};
use stormglass_sim::protocol::{Of, Protocol, Scene};
use stormglass_sim::schedule::{Cursor, ParseError};
use stormglass_sim::workload::PlannedRequest;

use crate::faulty_nodes::{self, BootDisk};

pub(crate) const SKIPS_SYNC: u8 = 0;
pub(crate) const SKIPS_SYNC_DIR: u8 = 1;
pub(crate) const EARLY_ACK: u8 = 2;
pub(crate) const EARLY_ABORT: u8 = 3;
pub(crate) const PANICS: u8 = 4;
pub(crate) const REMOVES_LOG_EARLY: u8 = 5;
pub(crate) const REPEATS_COMMIT: u8 = 6;
pub(crate) const REMOVES_UNCOVERED_LOG: u8 = 7;

/// The real node behind a driver that does something wrong.
#[derive(Clone, Debug)]
pub(crate) struct MutantNode {
    pub(crate) mutant: u8,
    node: CommitNode,
    /// The last transaction that it has seen committed.
    pub(crate) last_committed: Option<TxId>,
    /// Reused, and empty between steps.
    inner: Outbox<CommitNode>,
}

impl MutantNode {
    /// Forwards the node's effects, except those that the mutant drops: such barriers "complete" at
    /// once.
    fn forward_effects(&mut self, now: Time, out: &mut Outbox<Self>) {
        loop {
            let mut done = None;
            let mut inner = std::mem::take(&mut self.inner);
            let (effects, bytes) = inner.drain();
            for effect in effects {
                match effect {
                    Effect::Disk(op) if faulty_nodes::drops_disk_op(self.mutant, &op) => {}
                    Effect::Disk(DiskOp::Sync { op, .. }) if self.mutant == SKIPS_SYNC => {
                        done = Some(op)
                    }
                    Effect::Disk(DiskOp::SyncDir { op }) if self.mutant == SKIPS_SYNC_DIR => {
                        done = Some(op)
                    }
                    Effect::Disk(DiskOp::Append { file, bytes: chunk, about }) => {
                        out.append(file, about, chunk.of(bytes));
                    }
                    Effect::Disk(op @ DiskOp::Rename { to: FileId::Snapshot(k), .. })
                        if self.mutant == REMOVES_LOG_EARLY =>
                    {
                        out.disk(op);
                        out.disk(DiskOp::Remove { file: FileId::Wal(k - 1) });
                    }
                    Effect::Disk(DiskOp::Remove { file: FileId::Wal(k) })
                        if self.mutant == REMOVES_UNCOVERED_LOG =>
                    {
                        (k..k + 2).for_each(|k| out.disk(DiskOp::Remove { file: FileId::Wal(k) }));
                    }
                    Effect::Disk(op) => out.disk(op),
                    Effect::Send { to, message: message @ Message::Commit { .. } }
                        if self.mutant == REPEATS_COMMIT =>
                    {
                        (0..3).for_each(|_| out.send(to, message.clone()));
                    }
                    Effect::Send { to, message } => {
                        faulty_nodes::send_message(self.mutant, now, to, message, out)
                    }
                    Effect::Reply { id, response } => {
                        faulty_nodes::send_reply(self.mutant, id, response, out)
                    }
                    Effect::Report(event) => out.report(event),
                    Effect::Halt(reason) => out.halt(reason),
                }
            }
            inner.clear();
            self.inner = inner;
            let Some(op) = done else { return };
            self.node.step(now, Input::DiskDone { op, result: Ok(()) }, &mut self.inner);
        }
    }
}

impl Node for MutantNode {
    type Config = (Config, u8);
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot(
        (config, mutant): &(Config, u8),
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError> {
        faulty_nodes::check_boot(*mutant, &boot)?;
        let (now, mut inner) = (boot.now, Outbox::default());
        let disk = BootDisk { mutant: *mutant, disk: boot.disk };
        let node = CommitNode::boot(config, Boot { disk: &disk, ..boot }, &mut inner)?;
        let mut mutant_node = MutantNode { mutant: *mutant, node, last_committed: None, inner };
        mutant_node.forward_effects(now, out);
        Ok(mutant_node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let Some(input) = self.filter_input(now, input, out) else { return };
        self.step_node(now, input, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.node.deadline()
    }
}

impl MutantNode {
    /// Lets the node handle an input, and forwards its effects.
    pub(crate) fn step_node(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Message { from, message } => {
                match (&message, self.mutant) {
                    (Message::Commit { tx, request, .. }, EARLY_ACK) => {
                        out.send(from, Message::Ack { tx: *tx, request: *request });
                    }
                    (Message::Vote { tx, request, .. }, EARLY_ABORT) if from.0 == 1 => {
                        out.send(
                            from,
                            Message::Abort {
                                tx: *tx,
                                request: *request,
                                end_mark: empty_end_mark(),
                            },
                        );
                    }
                    (Message::Inquire { .. }, PANICS) => panic!("mutant: panic on Inquire"),
                    _ => {}
                }
                Input::Message { from, message }
            }
            Input::Request { id, request } => Input::Request { id, request },
            Input::DiskDone { op, result } => Input::DiskDone { op, result },
            Input::Wake => Input::Wake,
        };
        self.node.step(now, input, &mut self.inner);
        self.forward_effects(now, out);
    }
}

/// An end mark that ends nothing.
pub(crate) fn empty_end_mark() -> EndMark {
    EndMark::new(Position::default(), std::iter::empty(), None)
}

/// The commit protocol with a mutant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MutantProtocol(pub(crate) u8);

const COMMIT: Of<Commit> = Of::new();

impl Scene for MutantProtocol {
    type Node = MutantNode;
    type Request = Txn;
    type Workload = Clients;
    type Checker = AtomicCommitChecker;

    fn name(&self) -> &str {
        COMMIT.name()
    }
    fn kinds(&self) -> &[&'static str] {
        Commit::KINDS
    }
    fn properties(&self) -> &[&'static str] {
        Commit::PROPERTIES
    }
    fn config(&self, plan: &Plan) -> (Config, u8) {
        (faulty_nodes::mutant_config(self.0, COMMIT.config(plan)), self.0)
    }
    fn requests(&self, setup: &Setup, plan: &mut Plan, rng: &mut Rng) -> Vec<PlannedRequest<Txn>> {
        COMMIT.requests(setup, plan, rng)
    }
    fn clients(&self, plan: &Plan, requests: Vec<PlannedRequest<Txn>>) -> Clients {
        COMMIT.clients(plan, requests)
    }
    fn checker(&self, plan: &Plan) -> AtomicCommitChecker {
        COMMIT.checker(plan)
    }
    fn write_request(&self, txn: &Txn, nodes: u16) -> String {
        COMMIT.write_request(txn, nodes)
    }
    fn read_request(&self, text: &mut Cursor<'_>) -> Result<Txn, ParseError> {
        COMMIT.read_request(text)
    }
    fn simplifications(&self, txn: &Txn) -> Vec<Txn> {
        COMMIT.simplifications(txn)
    }
    fn merged(&self, one: &Txn, other: &Txn) -> Option<Txn> {
        COMMIT.merged(one, other)
    }

    fn renumbered(&self, txn: &Txn, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        COMMIT.renumbered(txn, number)
    }
}

/// The first seed that finds the mutant, and the violated property.
pub(crate) fn first_violation(mutant: u8) -> (u64, &'static str) {
    first_violation_in(Profile::Swarm, mutant)
}

/// The same in another profile.
pub(crate) fn first_violation_in(profile: Profile, mutant: u8) -> (u64, &'static str) {
    let setup = Setup { profile, ..Setup::default() };
    let options = HuntOptions { setup, seeds: 0..1_000, jobs: 2, keep_going: false };
    let report = hunt_in(&MutantProtocol(mutant), &options, &Progress::default());
    report.failures.first().map_or((0, "nothing"), |(seed, violation)| (*seed, violation.property))
}

fn violation(mutant: u8) -> &'static str {
    first_violation(mutant).1
}

#[test]
fn boot_without_a_sync_is_not_durable_at_its_first_message() {
    assert_eq!(violation(SKIPS_SYNC), "W10 NoEffectBeforeTheBootIsDurable");
}

#[test]
fn snapshot_without_a_directory_sync_is_not_durable_at_the_first_message() {
    assert_eq!(violation(SKIPS_SYNC_DIR), "W10 NoEffectBeforeTheBootIsDurable");
}

#[test]
fn ack_before_the_terminal_record_is_durable_is_detected() {
    assert_eq!(violation(EARLY_ACK), "W3 OutcomeIsDurableBeforeAck");
}

#[test]
fn abort_sent_while_collecting_votes_is_detected() {
    assert_eq!(violation(EARLY_ABORT), "W5 NoAbortAfterCommitRecord");
}

#[test]
fn log_removed_before_the_snapshot_name_is_durable_is_detected() {
    assert_eq!(violation(REMOVES_LOG_EARLY), "W8 SnapshotIsDurableBeforeRemoval");
}

#[test]
fn removal_of_a_log_not_covered_by_the_snapshot_is_detected() {
    assert_eq!(violation(REMOVES_UNCOVERED_LOG), "W8 OnlyFilesBeforeTheSnapshotAreRemoved");
}

#[test]
fn commit_resent_too_often_to_a_down_node_is_detected() {
    assert_eq!(violation(REPEATS_COMMIT), "L2 OneCommitPerRetryPeriod");
}

#[test]
fn node_panic_is_reported_as_a_violation() {
    assert_eq!(violation(PANICS), "NodeNeverPanics");
}
