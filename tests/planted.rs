//! Bugs planted around the real node, each of which makes a claim speak. `sim/bugs/bite` plants more, inside it.

use stormglass::commit::{CommitNode, Config, Event, Message, Request, Response};
use stormglass::{Boot, BootError, DiskOp, Effect, FileId, Input, Node, Outbox, Time};
use stormglass_sim::commit::{Clients, Commit, Ledger, Txn};
use stormglass_sim::hunt::{Progress, Quarry, hunt};
use stormglass_sim::plan::Plan;
use stormglass_sim::profile::{Draw, Setup};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::workload::Wish;

const NO_SYNC: u8 = 0;
const NO_SYNC_DIR: u8 = 1;
const EAGER_ACK: u8 = 2;
const EAGER_ABORT: u8 = 3;
const PANICS: u8 = 4;
const DROPS_EARLY: u8 = 5;
const CHATTERS: u8 = 6;

/// The real node behind a driver that does something wrong.
#[derive(Clone, Debug)]
struct Bugged<const BUG: u8> {
    node: CommitNode,
    /// Used again, and empty between steps.
    inner: Outbox<CommitNode>,
}

impl<const BUG: u8> Bugged<BUG> {
    /// Passes on what the node wants done, but for what the bug forgets: barriers that "complete" at once.
    fn pass_on(&mut self, now: Time, out: &mut Outbox<Self>) {
        loop {
            let mut done = None;
            let mut inner = std::mem::take(&mut self.inner);
            let (effects, bytes) = inner.drain();
            for effect in effects {
                match effect {
                    Effect::Disk(DiskOp::Sync { op, .. }) if BUG == NO_SYNC => done = Some(op),
                    Effect::Disk(DiskOp::SyncDir { op }) if BUG == NO_SYNC_DIR => done = Some(op),
                    Effect::Disk(DiskOp::Append { file, bytes: chunk, about }) => {
                        out.append(file, about, chunk.of(bytes));
                    }
                    Effect::Disk(op @ DiskOp::Rename { to: FileId::Snapshot(k), .. })
                        if BUG == DROPS_EARLY =>
                    {
                        out.disk(op);
                        out.disk(DiskOp::Remove { file: FileId::Wal(k - 1) });
                    }
                    Effect::Disk(op) => out.disk(op),
                    Effect::Send { to, message: message @ Message::Commit { .. } } if BUG == CHATTERS => {
                        (0..3).for_each(|_| out.send(to, message.clone()));
                    }
                    Effect::Send { to, message } => out.send(to, message),
                    Effect::Reply { id, response } => out.reply(id, response),
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

impl<const BUG: u8> Node for Bugged<BUG> {
    type Config = Config;
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot(config: &Config, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let (now, mut inner) = (boot.now, Outbox::default());
        let node = CommitNode::boot(config, boot, &mut inner)?;
        let mut bugged = Bugged { node, inner };
        bugged.pass_on(now, out);
        Ok(bugged)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let input = match input {
            Input::Message { from, message } => {
                match (&message, BUG) {
                    (Message::Commit { tx, name, .. }, EAGER_ACK) => {
                        out.send(from, Message::Ack { tx: *tx, name: *name });
                    }
                    (Message::Vote { tx, name, .. }, EAGER_ABORT) if from.0 == 1 => {
                        let word = stormglass::commit::Word::new(
                            stormglass::commit::Position::default(),
                            std::iter::empty(),
                            None,
                        );
                        out.send(from, Message::Abort { tx: *tx, name: *name, word });
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

    fn deadline(&self) -> Option<Time> {
        self.node.deadline()
    }
}

struct Planted<const BUG: u8>;

impl<const BUG: u8> Protocol for Planted<BUG> {
    const NAME: &'static str = "two-phase commit with a bug";
    type Node = Bugged<BUG>;
    type Order = Txn;
    type Workload = Clients;
    type Judge = Ledger;

    fn config(plan: &Plan) -> Config {
        Commit::config(plan)
    }
    fn wishes(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Txn>> {
        Commit::wishes(setup, plan, draw)
    }
    fn clients(plan: &Plan, wishes: Vec<Wish<Txn>>) -> Clients {
        Commit::clients(plan, wishes)
    }
    fn judge(plan: &Plan) -> Ledger {
        Ledger::new(plan)
    }
}

fn broken<const BUG: u8>() -> &'static str {
    let quarry = Quarry { setup: Setup::default(), seeds: 0..1_000, jobs: 2, keep_going: false };
    let catch = hunt::<Planted<BUG>>(&quarry, &Progress::default());
    catch.failures.first().map_or("nothing", |(_, broken)| broken.claim)
}

#[test]
fn without_a_sync_the_boot_is_not_durable_when_it_speaks() {
    assert_eq!(broken::<NO_SYNC>(), "W10 SilentUntilTheBootIsDurable");
}

#[test]
fn without_a_directory_sync_the_snapshot_has_no_name_when_it_speaks() {
    assert_eq!(broken::<NO_SYNC_DIR>(), "W10 SilentUntilTheBootIsDurable");
}

#[test]
fn an_ack_before_the_terminal_record_is_noticed_as_it_is_sent() {
    assert_eq!(broken::<EAGER_ACK>(), "W3 OutcomeIsDurableBeforeAck");
}

#[test]
fn an_abort_while_votes_are_collected_is_noticed() {
    assert_eq!(broken::<EAGER_ABORT>(), "W5 NoAbortWhileUndecided");
}

#[test]
fn an_old_log_dropped_before_the_snapshot_has_its_name_is_noticed_as_it_is_dropped() {
    assert_eq!(broken::<DROPS_EARLY>(), "W8 SnapshotIsDurableBeforeDrop");
}

#[test]
fn who_says_commit_to_the_dead_too_often_is_noticed() {
    assert_eq!(broken::<CHATTERS>(), "L2 OneMessagePerRetry");
}

#[test]
fn a_panic_is_the_nodes_own_broken_claim() {
    assert_eq!(broken::<PANICS>(), "NodeNeverPanics");
}
