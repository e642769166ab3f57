//! Bugs planted around the real node, each of which makes a claim speak; `liars` has more of them, and `sim/bugs/bite`
//! plants others inside it.

use stormglass::commit::{CommitNode, Config, Event, Message, Position, Request, Response, Word};
use stormglass::{Boot, BootError, DiskOp, Effect, FileId, Input, Node, NodeId, Outbox, Time, TxId};
use stormglass_sim::commit::{Clients, Commit, Ledger, Txn};
use stormglass_sim::hunt::{Progress, Quarry, hunt_in};
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Draw, Profile, Setup};
use stormglass_sim::protocol::{Of, Protocol, Scene};
use stormglass_sim::schedule::{Cursor, Problem};
use stormglass_sim::workload::Wish;

use crate::liars::{self, Shown};

pub(crate) const NO_SYNC: u8 = 0;
pub(crate) const NO_SYNC_DIR: u8 = 1;
pub(crate) const EAGER_ACK: u8 = 2;
pub(crate) const EAGER_ABORT: u8 = 3;
pub(crate) const PANICS: u8 = 4;
pub(crate) const DROPS_EARLY: u8 = 5;
pub(crate) const CHATTERS: u8 = 6;
pub(crate) const DROPS_TOO_MUCH: u8 = 7;

/// The real node behind a driver that does something wrong.
#[derive(Clone, Debug)]
pub(crate) struct Bugged {
    pub(crate) bug: u8,
    node: CommitNode,
    /// What it has last heard to be committed.
    pub(crate) decided: Option<TxId>,
    /// Used again, and empty between steps.
    inner: Outbox<CommitNode>,
}

impl Bugged {
    /// Passes on what the node wants done, but for what the bug forgets: barriers that "complete" at once.
    fn pass_on(&mut self, now: Time, out: &mut Outbox<Self>) {
        loop {
            let mut done = None;
            let mut inner = std::mem::take(&mut self.inner);
            let (effects, bytes) = inner.drain();
            for effect in effects {
                match effect {
                    Effect::Disk(op) if liars::forgets(self.bug, &op) => {}
                    Effect::Disk(DiskOp::Sync { op, .. }) if self.bug == NO_SYNC => done = Some(op),
                    Effect::Disk(DiskOp::SyncDir { op }) if self.bug == NO_SYNC_DIR => done = Some(op),
                    Effect::Disk(DiskOp::Append { file, bytes: chunk, about }) => {
                        out.append(file, about, chunk.of(bytes));
                    }
                    Effect::Disk(op @ DiskOp::Rename { to: FileId::Snapshot(k), .. })
                        if self.bug == DROPS_EARLY =>
                    {
                        out.disk(op);
                        out.disk(DiskOp::Remove { file: FileId::Wal(k - 1) });
                    }
                    Effect::Disk(DiskOp::Remove { file: FileId::Wal(k) }) if self.bug == DROPS_TOO_MUCH => {
                        (k..k + 2).for_each(|k| out.disk(DiskOp::Remove { file: FileId::Wal(k) }));
                    }
                    Effect::Disk(op) => out.disk(op),
                    Effect::Send { to, message: message @ Message::Commit { .. } }
                        if self.bug == CHATTERS =>
                    {
                        (0..3).for_each(|_| out.send(to, message.clone()));
                    }
                    Effect::Send { to, message } => liars::say(self.bug, now, to, message, out),
                    Effect::Reply { id, response } => liars::answer(self.bug, id, response, out),
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

impl Node for Bugged {
    type Config = (Config, u8);
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot((config, bug): &(Config, u8), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        liars::dares(*bug, &boot)?;
        let (now, mut inner) = (boot.now, Outbox::default());
        let disk = Shown { bug: *bug, disk: boot.disk };
        let node = CommitNode::boot(config, Boot { disk: &disk, ..boot }, &mut inner)?;
        let mut bugged = Bugged { bug: *bug, node, decided: None, inner };
        bugged.pass_on(now, out);
        Ok(bugged)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let Some(input) = self.hear(now, input, out) else { return };
        self.pass_in(now, input, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.node.deadline()
    }
}

impl Bugged {
    /// Lets the node handle an input, and passes on what it wants done.
    pub(crate) fn pass_in(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Message { from, message } => {
                match (&message, self.bug) {
                    (Message::Commit { tx, name, .. }, EAGER_ACK) => {
                        out.send(from, Message::Ack { tx: *tx, name: *name });
                    }
                    (Message::Vote { tx, name, .. }, EAGER_ABORT) if from.0 == 1 => {
                        out.send(from, Message::Abort { tx: *tx, name: *name, word: no_word() });
                    }
                    (Message::Inquire { .. }, PANICS) => panic!("who asks?"),
                    _ => {}
                }
                Input::Message { from, message }
            }
            Input::Request { id, request } => Input::Request { id, request },
            Input::DiskDone { op, result } => Input::DiskDone { op, result },
            Input::Wake => Input::Wake,
        };
        self.node.step(now, input, &mut self.inner);
        self.pass_on(now, out);
    }
}

/// A word that ends nothing.
pub(crate) fn no_word() -> Word {
    Word::new(Position::default(), std::iter::empty(), None)
}

/// The commit protocol with a bug planted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planted(pub(crate) u8);

const WHOLE: Of<Commit> = Of::new();

impl Scene for Planted {
    type Node = Bugged;
    type Order = Txn;
    type Workload = Clients;
    type Judge = Ledger;

    fn name(&self) -> &str {
        WHOLE.name()
    }
    fn kinds(&self) -> &[&'static str] {
        Commit::KINDS
    }
    fn claims(&self) -> &[&'static str] {
        Commit::CLAIMS
    }
    fn config(&self, plan: &Plan) -> (Config, u8) {
        (liars::configure(self.0, WHOLE.config(plan)), self.0)
    }
    fn wishes(&self, setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Txn>> {
        WHOLE.wishes(setup, plan, draw)
    }
    fn clients(&self, plan: &Plan, wishes: Vec<Wish<Txn>>) -> Clients {
        WHOLE.clients(plan, wishes)
    }
    fn judge(&self, plan: &Plan) -> Ledger {
        WHOLE.judge(plan)
    }
    fn write_order(&self, order: &Txn, nodes: u16) -> String {
        WHOLE.write_order(order, nodes)
    }
    fn read_order(&self, text: &mut Cursor<'_>) -> Result<Txn, Problem> {
        WHOLE.read_order(text)
    }
    fn simpler(&self, order: &Txn) -> Vec<Txn> {
        WHOLE.simpler(order)
    }
    fn joined(&self, one: &Txn, other: &Txn) -> Option<Txn> {
        WHOLE.joined(one, other)
    }

    fn renumbered(&self, order: &Txn, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        WHOLE.renumbered(order, number)
    }
}

/// The first seed that finds the bug, and the claim that it breaks.
pub(crate) fn caught(bug: u8) -> (u64, &'static str) {
    caught_in(Profile::Swarm, bug)
}

/// The same in another kind of storm.
pub(crate) fn caught_in(profile: Profile, bug: u8) -> (u64, &'static str) {
    let setup = Setup { profile, ..Setup::default() };
    let quarry = Quarry { setup, seeds: 0..1_000, jobs: 2, keep_going: false };
    let catch = hunt_in(&Planted(bug), &quarry, &Progress::default());
    catch.failures.first().map_or((0, "nothing"), |(seed, broken)| (*seed, broken.claim))
}

fn broken(bug: u8) -> &'static str {
    caught(bug).1
}

#[test]
fn without_a_sync_the_boot_is_not_durable_when_it_speaks() {
    assert_eq!(broken(NO_SYNC), "W10 SilentUntilTheBootIsDurable");
}

#[test]
fn without_a_directory_sync_the_snapshot_has_no_name_when_it_speaks() {
    assert_eq!(broken(NO_SYNC_DIR), "W10 SilentUntilTheBootIsDurable");
}

#[test]
fn an_ack_before_the_terminal_record_is_noticed_as_it_is_sent() {
    assert_eq!(broken(EAGER_ACK), "W3 OutcomeIsDurableBeforeAck");
}

#[test]
fn an_abort_while_votes_are_collected_is_noticed() {
    assert_eq!(broken(EAGER_ABORT), "W5 NoAbortWhileUndecided");
}

#[test]
fn an_old_log_dropped_before_the_snapshot_has_its_name_is_noticed_as_it_is_dropped() {
    assert_eq!(broken(DROPS_EARLY), "W8 SnapshotIsDurableBeforeDrop");
}

#[test]
fn a_log_dropped_that_the_snapshot_does_not_cover_is_noticed_as_it_is_dropped() {
    assert_eq!(broken(DROPS_TOO_MUCH), "W8 OnlyWhatIsCoveredIsDropped");
}

#[test]
fn who_says_commit_to_the_dead_too_often_is_noticed() {
    assert_eq!(broken(CHATTERS), "L2 OneMessagePerRetry");
}

#[test]
fn a_panic_is_the_nodes_own_broken_claim() {
    assert_eq!(broken(PANICS), "NodeNeverPanics");
}
