//! What an operator sees of a node. Looking changes nothing.

use serde::{Deserialize, Serialize};

use super::message::Message;
use super::node::CommitNode;
use super::op::Key;
use super::participant::{KnownOutcome, Participation};
use crate::id::{Incarnation, Micros, NodeId, RequestId, Time, TxId};

/// One node at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The present life.
    #[serde(rename = "life")]
    pub incarnation: Incarnation,
    /// Whether its boot is durable: before that it answers nobody.
    pub ready: bool,
    /// Transactions begun in this life.
    pub begun: u64,
    /// Coordinated here, undecided.
    pub collecting: u64,
    /// Coordinated here, COMMIT on its way to the disk.
    pub deciding: u64,
    /// Coordinated here, committed, and not acknowledged by all.
    pub committing: u64,
    /// Taking part, waiting for locks.
    pub waiting: u64,
    /// Taking part, PREPARED, and not told what was decided.
    pub in_doubt: Vec<InDoubt>,
    /// Outcomes kept for others who may be in doubt.
    pub outcomes: u64,
    /// Whether nothing is under way that a clean shutdown would wait for.
    pub idle: bool,
    /// Clients whose names are remembered.
    pub clients: u64,
    /// Keys with a value.
    pub keys: u64,
    /// Who holds what.
    pub locks: Vec<HeldLock>,
    /// What the log has done in this life.
    pub log: LogView,
}

/// A transaction in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InDoubt {
    /// Which.
    pub tx: TxId,
    /// The request behind it.
    #[serde(rename = "name")]
    pub request: RequestId,
    /// Since when: since it was locked, or since this life began.
    pub age: Micros,
    /// Who decides.
    pub coordinator: NodeId,
    /// Who else may know.
    pub peers: Vec<NodeId>,
    /// Whether PREPARED is durable, and Yes said.
    pub voted: bool,
    /// How often this node has asked.
    #[serde(rename = "asked")]
    pub inquiries: u32,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// On which key.
    pub key: Key,
    /// By which transaction.
    pub holder: TxId,
    /// Not shared with readers.
    pub exclusive: bool,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The number of the current segment.
    pub segment: u32,
    /// Its length.
    pub segment_bytes: u64,
    /// The last record appended, counted from the first one ever.
    pub appended: u64,
    /// The last record that is durable.
    pub durable: u64,
    /// Records appended in this life.
    pub records: u64,
    /// Those of them that had to be durable before anything was said.
    pub forced: u64,
    /// Barriers issued for them.
    pub barriers: u64,
    /// Snapshots written in this life, the boot's included.
    pub snapshots: u64,
    /// Bytes of those.
    pub snapshot_bytes: u64,
}

impl CommitNode {
    /// The present life, once its boot is durable.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.wal.ready().then_some(self.incarnation)
    }

    /// Whether no transaction is under way here, as coordinator or as participant, and every commit is acknowledged.
    pub fn is_idle(&self) -> bool {
        let acknowledged = |known: &KnownOutcome| !known.owes_ack();
        self.coordinated.is_empty()
            && self.participations.is_empty()
            && self.outcomes.iter().all(|(_, known)| acknowledged(known))
    }

    /// Whether this message would make the node take part in a transaction that it has no part in yet.
    pub fn starts_new_work(&self, message: &Message) -> bool {
        match message {
            Message::Prepare { tx, .. } => {
                self.participations.get(*tx).is_none() && self.outcomes.get(*tx).is_none()
            }
            Message::Vote { .. }
            | Message::Commit { .. }
            | Message::Abort { .. }
            | Message::Ack { .. }
            | Message::Inquire { .. }
            | Message::InquiryReply { .. } => false,
        }
    }

    /// What is under way at `now`.
    pub fn view(&self, now: Time) -> View {
        let (mut collecting, mut deciding, mut committing) = (0, 0, 0);
        for (_, coordinated) in self.coordinated.iter() {
            match coordinated.phase() {
                super::coordinator::CoordinatedPhase::Collecting => collecting += 1,
                super::coordinator::CoordinatedPhase::Deciding => deciding += 1,
                super::coordinator::CoordinatedPhase::Committing => committing += 1,
            }
        }
        let in_doubt =
            self.participations.iter().filter(|(_, participation)| !participation.is_waiting());
        let lock = |(key, holder, exclusive)| HeldLock { key, holder, exclusive };
        View {
            incarnation: self.incarnation,
            ready: self.wal.ready(),
            begun: self.serial,
            collecting,
            deciding,
            committing,
            waiting: self.waiting.len() as u64,
            in_doubt: in_doubt
                .map(|(tx, participation)| self.in_doubt(tx, participation, now))
                .collect(),
            outcomes: self.outcomes.iter().count() as u64,
            idle: self.is_idle(),
            clients: self.request_log.clients() as u64,
            keys: self.store.values().len() as u64,
            locks: self.store.locks().map(lock).collect(),
            log: self.log_view(),
        }
    }

    fn in_doubt(&self, tx: TxId, participation: &Participation, now: Time) -> InDoubt {
        let others = participation.part.participants().iter().copied();
        InDoubt {
            tx,
            request: participation.request,
            age: now.since(participation.since),
            coordinator: tx.coordinator,
            peers: others.filter(|peer| *peer != self.id && *peer != tx.coordinator).collect(),
            voted: participation.has_voted(),
            inquiries: participation.inquiries(),
        }
    }

    fn log_view(&self) -> LogView {
        let stats = self.wal.stats();
        LogView {
            segment: self.wal.segment_number(),
            segment_bytes: self.wal.segment_bytes(),
            appended: self.wal.appended(),
            durable: self.wal.durable(),
            records: stats.records,
            forced: stats.forced,
            barriers: stats.log_barriers,
            snapshots: stats.snapshots,
            snapshot_bytes: stats.snapshot_bytes,
        }
    }
}
