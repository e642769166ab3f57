//! What a node keeps: its hard state, its log and its machine; as records of a write-ahead log, and
//! as the `Storage` from which the library reads.

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Ready, Storage, StorageError};
use serde::{Deserialize, Serialize};
use stormglass_node::{Label, RequestId, Subject, codec};

use crate::machine::{Command, Machine};

/// Term, vote and commit index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hard {
    /// The current term.
    pub term: u64,
    /// The raft id for which the node has voted in this term; 0 for none.
    pub vote: u64,
    /// The last entry that is known to be committed.
    pub commit: u64,
}

impl From<&HardState> for Hard {
    fn from(state: &HardState) -> Hard {
        Hard { term: state.term, vote: state.vote, commit: state.commit }
    }
}

/// An index with the term of its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The index.
    pub index: u64,
    /// The term.
    pub term: u64,
}

/// An entry of the log. Its index is given by its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LogEntry {
    term: u64,
    data: Vec<u8>,
}

/// What one `Ready` adds to the durable state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    hard: Option<Hard>,
    /// A snapshot of the leader, which replaces the log.
    snapshot: Option<(Position, Machine)>,
    /// The index of the first entry. The log ends with these entries.
    first_index: u64,
    entries: Vec<LogEntry>,
}

impl Record {
    /// The record of a `Ready` with this hard state; `None` if nothing has to be durable. A commit
    /// index alone need not be: a node learns it from the next leader.
    ///
    /// # Panics
    /// If the machine of the snapshot does not decode: a node of this cluster has encoded it.
    pub fn of(ready: &Ready, hard: Option<Hard>) -> Option<Record> {
        if !ready.must_sync() {
            return None;
        }
        let mut snapshot = None;
        if !ready.snapshot().is_empty() {
            let metadata = ready.snapshot().get_metadata();
            let position = Position { index: metadata.index, term: metadata.term };
            let machine = codec::decode(&ready.snapshot().data).expect("a machine in a snapshot");
            snapshot = Some((position, machine));
        }
        let entries = ready.entries().iter();
        Some(Record {
            hard,
            snapshot,
            first_index: ready.entries().first().map_or(0, |entry| entry.index),
            entries: entries.map(|e| LogEntry { term: e.term, data: e.data.to_vec() }).collect(),
        })
    }

    /// The machine of the snapshot.
    pub fn installed(&self) -> Option<&Machine> {
        self.snapshot.as_ref().map(|(_, machine)| machine)
    }
}

impl Label for Record {
    fn kind(&self) -> &'static str {
        match self {
            Record { snapshot: Some(_), .. } => "Installed",
            Record { entries, .. } if !entries.is_empty() => "Entries",
            Record { .. } => "HardState",
        }
    }

    fn subject(&self) -> Option<Subject> {
        let request = self.entries.iter().find_map(|entry| first_attempt(&entry.data))?;
        Some(Subject::Request(request))
    }

    fn further_subjects(&self) -> Vec<Subject> {
        let requests = self.entries.iter().filter_map(|entry| first_attempt(&entry.data));
        requests.skip(1).map(Subject::Request).collect()
    }
}

/// The request of an entry, as its subject.
pub(crate) fn first_attempt(data: &[u8]) -> Option<RequestId> {
    let request = Command::decode(data)?.request;
    Some(RequestId { attempt: 0, ..request })
}

/// What survives a crash: the state after all records.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DurableState {
    /// Term, vote and commit index.
    pub hard: Hard,
    /// The entry before the first of the log.
    compacted: Position,
    entries: Vec<LogEntry>,
    /// The machine; its applied index is within the log.
    pub machine: Machine,
}

impl DurableState {
    /// Adds a record.
    pub fn add(&mut self, record: Record) {
        if let Some(hard) = record.hard {
            self.hard = hard;
        }
        if let Some((position, machine)) = record.snapshot {
            self.compacted = position;
            self.entries.clear();
            self.machine = machine;
        }
        if !record.entries.is_empty() {
            self.entries.truncate(self.offset(record.first_index));
            self.entries.extend(record.entries);
        }
    }

    /// Removes the entries that are applied, except the last `kept`.
    pub fn compact(&mut self, kept: u64) {
        let index = self.machine.applied().saturating_sub(kept);
        if index > self.compacted.index {
            let term = self.term(index).expect("an applied entry");
            self.entries.drain(..self.offset(index + 1));
            self.compacted = Position { index, term };
        }
    }

    /// The index of the entry before the first of the log.
    pub fn compacted_index(&self) -> u64 {
        self.compacted.index
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.compacted.index + self.entries.len() as u64
    }

    fn offset(&self, index: u64) -> usize {
        let offset = index.checked_sub(self.compacted.index + 1).expect("an entry of the log");
        usize::try_from(offset).expect("a log in memory")
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        let offset = index.checked_sub(self.compacted.index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| entry.term)
    }
}

/// The `Storage` of the library: the durable state and the voters.
#[derive(Debug)]
pub struct Store {
    /// The state with every record that was appended, durable or not.
    pub state: DurableState,
    voters: ConfState,
}

impl Store {
    /// A store of a cluster of so many nodes. Raft ids are those of nodes plus 1.
    pub fn new(state: DurableState, nodes: u16) -> Store {
        let mut voters = ConfState::default();
        voters.set_voters((1..=u64::from(nodes)).collect());
        Store { state, voters }
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let Hard { term, vote, commit } = self.state.hard;
        let hard_state = HardState { term, vote, commit, ..HardState::default() };
        Ok(RaftState { hard_state, conf_state: self.voters.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.state.compacted.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let range = self.state.offset(low)..self.state.offset(high);
        let entries = (low..).zip(&self.state.entries[range]).map(|(index, entry)| Entry {
            index,
            term: entry.term,
            data: entry.data.clone().into(),
            ..Entry::default()
        });
        let mut entries = entries.collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = match index < self.state.compacted.index {
            true => StorageError::Compacted,
            false => StorageError::Unavailable,
        };
        self.state.term(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.state.compacted.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.state.last_index())
    }

    /// The machine as it is now.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        let machine = &self.state.machine;
        if machine.applied() < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let data = codec::encode(machine).into();
        let mut snapshot = Snapshot { data, ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        metadata.index = machine.applied();
        metadata.term = self.term(machine.applied())?;
        metadata.set_conf_state(self.voters.clone());
        Ok(snapshot)
    }
}
