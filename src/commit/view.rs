//! What an operator sees of a node. Reading it changes nothing.

use serde::{Deserialize, Serialize};

use super::message::Message;
use super::node::CommitNode;
use super::op::Key;
use super::participant::{KnownOutcome, Participation};
use super::tx_id::TxId;
use stormglass_node::id::{Incarnation, Micros, NodeId, RequestId, Time};

/// The state of a node at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct View {
    /// The current incarnation.
    #[serde(rename = "life")]
    pub incarnation: Incarnation,
    /// Whether the boot is durable: before that the node answers no message.
    pub ready: bool,
    /// Transactions begun in this incarnation.
    pub begun: u64,
    /// Coordinated transactions that are undecided.
    pub collecting: u64,
    /// Coordinated transactions whose COMMIT is not durable yet.
    pub deciding: u64,
    /// Coordinated transactions that are committed and not acknowledged by all.
    pub committing: u64,
    /// Participations that wait for locks.
    pub waiting: u64,
    /// Participations that are prepared and do not know the decision.
    pub in_doubt: Vec<InDoubt>,
    /// Outcomes kept for other participants that may be in doubt.
    pub outcomes: u64,
    /// Whether no work is in progress that a clean shutdown would wait for.
    pub idle: bool,
    /// Clients with remembered requests.
    pub clients: u64,
    /// Keys with a value.
    pub keys: u64,
    pub locks: Vec<HeldLock>,
    /// The log in this incarnation.
    pub log: LogView,
}

/// A transaction in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct InDoubt {
    pub tx: TxId,
    #[serde(rename = "name")]
    pub request: RequestId,
    /// Time since it was locked, or since this incarnation began.
    pub age: Micros,
    pub coordinator: NodeId,
    /// Other participants, which may know the outcome.
    pub peers: Vec<NodeId>,
    /// Whether PREPARED is durable, and Yes was sent.
    pub voted: bool,
    /// The number of inquiries sent.
    #[serde(rename = "asked")]
    pub inquiries: u32,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct HeldLock {
    pub key: Key,
    pub holder: TxId,
    /// False for locks shared by readers.
    pub exclusive: bool,
}

/// The state of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The number of the current segment.
    pub segment: u32,
    /// The length of the current segment.
    pub segment_bytes: u64,
    /// The last record appended, counted from the first one ever.
    pub appended: u64,
    /// The last record that is durable.
    pub durable: u64,
    /// Records appended in this incarnation.
    pub records: u64,
    /// Records that were forced, that is, an effect depended on their durability.
    pub forced: u64,
    /// Barriers issued for records.
    pub barriers: u64,
    /// Snapshots written in this incarnation, including that of the boot.
    pub snapshots: u64,
    /// Bytes of these snapshots.
    pub snapshot_bytes: u64,
}

impl CommitNode {
    /// The current incarnation, once its boot is durable.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.wal.ready().then_some(self.incarnation)
    }

    /// Whether no transaction is in progress here, as coordinator or participant, and every commit
    /// is acknowledged.
    pub fn is_idle(&self) -> bool {
        let acknowledged = |known: &KnownOutcome| !known.owes_ack();
        self.coordinated.is_empty()
            && self.participations.is_empty()
            && self.outcomes.iter().all(|(_, known)| acknowledged(known))
    }

    /// Whether this message would make the node take part in another transaction.
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

    /// The state at `now`.
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
