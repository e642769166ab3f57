//! A few nodes in memory: messages arrive in order, or not at all; barriers complete at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::key;
use crate::commit::{Age, CommitNode, Config, Event, Message, Op, Outcome, Request, RequestNumber};
use stormglass_node::contract::{
    Boot, DiskError, DiskOp, Effect, FileId, Input, Label, Node, OpId, Outbox, ReadDisk,
};
use stormglass_node::id::{NodeId, RequestId, Time};

/// Files, as a reader sees them and as a power cut leaves them. Names are durable at once.
#[derive(Clone, Debug, Default)]
struct Disk {
    visible: BTreeMap<FileId, Vec<u8>>,
    synced: BTreeMap<FileId, Vec<u8>>,
}

impl ReadDisk for Disk {
    fn files(&self) -> Vec<FileId> {
        self.visible.keys().copied().collect()
    }
    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.visible.get(&file).map(Vec::as_slice))
    }
}

impl Disk {
    /// Performs one operation; returns the barrier to complete, if it is one.
    fn perform(&mut self, op: DiskOp, buffer: &[u8]) -> Option<OpId> {
        match op {
            DiskOp::Append { file, bytes, .. } => {
                self.visible.entry(file).or_default().extend_from_slice(bytes.of(buffer));
                None
            }
            DiskOp::Truncate { .. } => panic!("the log truncates nothing"),
            DiskOp::Rename { from, to } => {
                for files in [&mut self.visible, &mut self.synced] {
                    let bytes = files.remove(&from).expect("it was synced under its old name");
                    files.insert(to, bytes);
                }
                None
            }
            DiskOp::Remove { file } => {
                self.visible.remove(&file);
                self.synced.remove(&file);
                None
            }
            DiskOp::Sync { op, file } => {
                self.synced.insert(file, self.visible[&file].clone());
                Some(op)
            }
            DiskOp::SyncDir { op } => Some(op),
        }
    }
}

/// A record as the trace shows it: forced if the same step requested a barrier for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WrittenRecord {
    kind: &'static str,
    forced: bool,
}

pub(super) struct Envelope {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: Message,
}

pub(super) struct TestCluster {
    pub(super) config: Config,
    nodes: Vec<Option<CommitNode>>,
    disks: Vec<Disk>,
    in_flight: VecDeque<Envelope>,
    pub(super) now: Time,
    /// Selects the messages that are lost.
    pub(super) is_lost: fn(&Envelope) -> bool,
    // The messages sent so far.
    pub(super) sent: Vec<&'static str>,
    written: Vec<WrittenRecord>,
    pub(super) replies: Vec<(RequestId, Outcome)>,
}

/// Boots and crashes.
impl TestCluster {
    /// Nodes 0 to `n`, all in their first incarnation: one coordinator, `n` others.
    pub(super) fn new(n: u16) -> TestCluster {
        let mut cluster = TestCluster {
            config: Config::new((0..=n).map(NodeId)),
            nodes: (0..=n).map(|_| None).collect(),
            disks: vec![Disk::default(); usize::from(n) + 1],
            in_flight: VecDeque::new(),
            now: Time(1),
            is_lost: |_| false,
            sent: Vec::new(),
            written: Vec::new(),
            replies: Vec::new(),
        };
        (0..=n).for_each(|id| cluster.boot(id));
        cluster
    }

    pub(super) fn boot(&mut self, id: u16) {
        let at = usize::from(id);
        let mut out = Outbox::default();
        let boot = Boot { id: NodeId(id), now: self.now, entropy: 7, disk: &self.disks[at] };
        let node = CommitNode::boot(&self.config, boot, &mut out).expect("the disk is fine");
        self.nodes[at] = Some(node);
        self.perform(id, &mut out);
    }

    /// Kills the process; everything that it has written stays.
    pub(super) fn kill(&mut self, id: u16) {
        self.nodes[usize::from(id)] = None;
    }

    /// Cuts the power: what was not synced is lost.
    pub(super) fn power_cut(&mut self, id: u16) {
        self.kill(id);
        let disk = &mut self.disks[usize::from(id)];
        disk.visible = disk.synced.clone();
    }

    pub(super) fn node(&self, id: u16) -> &CommitNode {
        self.nodes[usize::from(id)].as_ref().expect("the node is running")
    }
}

/// Time.
impl TestCluster {
    pub(super) fn step(&mut self, id: u16, input: Input<CommitNode>) {
        let Some(node) = &mut self.nodes[usize::from(id)] else { return };
        let mut out = Outbox::default();
        node.step(self.now, input, &mut out);
        self.perform(id, &mut out);
    }

    /// Performs all effects of one step, and then completes its barriers.
    fn perform(&mut self, id: u16, out: &mut Outbox<CommitNode>) {
        let mut barriers = Vec::new();
        let first = self.written.len();
        let (effects, buffer) = out.drain();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.sent.push(message.kind());
                    self.in_flight.push_back(Envelope { from: NodeId(id), to, message });
                }
                Effect::Reply { id, response } => self.replies.push((id, response.outcome)),
                Effect::Report(event) => {
                    assert!(matches!(event, Event::Ready { .. }), "unexpected event {event:?}")
                }
                Effect::Halt(reason) => panic!("no disk has failed, but {reason}"),
                Effect::Disk(op) => {
                    record_write(&mut self.written, first, op);
                    barriers.extend(self.disks[usize::from(id)].perform(op, buffer));
                }
            }
        }
        for op in barriers {
            self.step(id, Input::DiskDone { op, result: Ok(()) });
        }
    }

    /// Delivers messages in the order of their sending, until none is in flight.
    pub(super) fn deliver(&mut self) {
        while let Some(envelope) = self.in_flight.pop_front() {
            if !(self.is_lost)(&envelope) {
                let Envelope { from, to, message } = envelope;
                self.step(to.0, Input::Message { from, message });
            }
        }
    }

    /// Advances to the next deadline and handles the wake; false if no node has a deadline.
    pub(super) fn advance_to_next_deadline(&mut self) -> bool {
        let Some(next) = self.nodes.iter().flatten().filter_map(Node::deadline).min() else {
            return false;
        };
        self.now = self.now.max(next);
        (0..self.config.nodes.len() as u16).for_each(|id| self.step(id, Input::Wake));
        self.deliver();
        true
    }

    /// Runs until no node has a deadline.
    pub(super) fn run_until_idle(&mut self) {
        self.deliver();
        let quiet = (0..100).any(|_| !self.advance_to_next_deadline());
        assert!(quiet, "a node still has a deadline after 100 wake-ups");
    }
}

/// Records that a record was written, or that a barrier covers those that this step has written.
fn record_write(written: &mut Vec<WrittenRecord>, first: usize, op: DiskOp) {
    match op {
        DiskOp::Append { about, file: FileId::Wal(_), .. } if about.kind != "Header" => {
            written.push(WrittenRecord { kind: about.kind, forced: false });
        }
        DiskOp::Sync { file: FileId::Wal(_), .. } => {
            written[first..].iter_mut().for_each(|record| record.forced = true);
        }
        DiskOp::Append { .. }
        | DiskOp::Truncate { .. }
        | DiskOp::Rename { .. }
        | DiskOp::Remove { .. }
        | DiskOp::Sync { .. }
        | DiskOp::SyncDir { .. } => {}
    }
}

/// Clients.
impl TestCluster {
    /// Sends a transaction to node 0, addressed to its current incarnation.
    pub(super) fn submit(&mut self, serial: u32, ops: &[Op]) -> RequestId {
        let id = RequestId { client: 1, serial, attempt: 0 };
        let age = Age { at: u64::from(serial), by: id };
        let incarnation = self.node(0).state().incarnation;
        let request = Request::Transact {
            incarnation,
            age,
            seen: RequestNumber::default(),
            ops: Arc::from(ops),
        };
        self.step(0, Input::Request { id, request });
        id
    }

    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.replies.iter().map(|(_, outcome)| outcome.clone()).collect()
    }

    pub(super) fn committed(&self) -> bool {
        matches!(self.outcomes()[..], [Outcome::Committed { .. }])
    }

    /// The value of the one key of each node.
    pub(super) fn values(&self) -> Vec<Option<i64>> {
        let value = |node: &CommitNode| node.state().values.get(&key()).copied();
        self.nodes.iter().flatten().map(value).collect()
    }

    /// No locks, no transaction in doubt or in progress, no deadline.
    pub(super) fn assert_quiescent(&self) {
        for node in self.nodes.iter().flatten() {
            assert_eq!(node.store.locks().count(), 0, "{}", node.id);
            assert!(node.state().prepared.is_empty(), "{}", node.id);
            assert!(node.state().committing.is_empty(), "{}", node.id);
            assert_eq!(node.deadline(), None, "{}", node.id);
        }
    }

    pub(super) fn forced(&self) -> usize {
        self.written.iter().filter(|record| record.forced).count()
    }

    pub(super) fn unforced(&self) -> Vec<&'static str> {
        self.written.iter().filter(|record| !record.forced).map(|record| record.kind).collect()
    }
}
