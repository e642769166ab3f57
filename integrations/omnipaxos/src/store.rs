//! The durable state of the library, as its trait [`Storage`] writes it.
//!
//! The library owns its storage and writes while it handles a message. Each write changes the state
//! in memory and becomes a [`Record`], which the node appends to its write-ahead log at the end of
//! the step. So the library reads what it has written, and the node knows what is not yet durable.

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{NoSnapshot, StopSign, Storage, StorageOp, StorageResult};
use serde::{Deserialize, Serialize};
use stormglass_node::{Label, RequestId};

use crate::{Bug, Command};

/// A write of the library: one record of the log.
#[derive(Clone, Debug, Label, Serialize, Deserialize)]
pub enum Record {
    /// The ballot that was promised last.
    Promise(Ballot),
    /// The ballot in which entries were accepted last.
    AcceptedRound(Ballot),
    /// So many entries are decided.
    Decided(u64),
    /// The log has these entries from this index on, and none after them.
    Entries {
        /// The index of the first one, from 0; at most the length of the log.
        from: u64,
        /// The entries, in order.
        commands: Vec<Command>,
        /// Their requests, for coordinates of faults.
        #[label(subjects)]
        requests: Vec<RequestId>,
    },
    /// Several writes, of which a crash keeps all or none.
    Together(Vec<Record>),
}

/// What the library finds again after a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The ballot that was promised last.
    pub promise: Option<Ballot>,
    /// The ballot in which entries were accepted last.
    pub accepted_round: Option<Ballot>,
    /// How many entries are decided.
    pub decided: u64,
    /// Every entry that was accepted; the decided ones are the first.
    pub log: Vec<Command>,
}

impl State {
    /// Applies a write, in memory or from the log.
    ///
    /// # Errors
    /// If it would leave a gap in the log: nothing is changed then.
    pub fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Promise(ballot) => self.promise = Some(*ballot),
            Record::AcceptedRound(ballot) => self.accepted_round = Some(*ballot),
            Record::Decided(decided) => self.decided = *decided,
            Record::Entries { from, commands, .. } => {
                let length = self.log.len();
                let from = index(*from);
                if from > length {
                    return Err(format!("entries from {from} on, but the log has only {length}"));
                }
                self.log.truncate(from);
                self.log.extend_from_slice(commands);
            }
            Record::Together(records) => {
                for record in records {
                    self.apply(record)?;
                }
            }
        }
        Ok(())
    }
}

/// An index or a length of a log in memory.
pub fn index(number: u64) -> usize {
    usize::try_from(number).expect("a log that fits in memory")
}

fn number(index: usize) -> u64 {
    u64::try_from(index).expect("at most 64 bits")
}

#[derive(Debug)]
struct Contents {
    state: State,
    bug: Option<Bug>,
    /// Writes of this step, which the log does not have yet.
    unwritten: Vec<Record>,
    /// Why the state cannot be trusted any more: the library has written nonsense.
    failure: Option<String>,
}

/// The storage of the library, shared with the node that writes its log.
#[derive(Clone, Debug)]
pub struct Store(Rc<RefCell<Contents>>);

impl Store {
    /// A store with what was recovered.
    pub fn new(state: State, bug: Option<Bug>) -> Store {
        let contents = Contents { state, bug, unwritten: Vec::new(), failure: None };
        Store(Rc::new(RefCell::new(contents)))
    }

    /// The state, the writes that the log does not have yet included.
    pub fn state(&self) -> Ref<'_, State> {
        Ref::map(self.0.borrow(), |contents| &contents.state)
    }

    /// Takes the writes since the last call, in order.
    ///
    /// # Errors
    /// Why the state cannot be trusted any more.
    pub fn take_unwritten(&self) -> Result<Vec<Record>, String> {
        let mut contents = self.0.borrow_mut();
        match contents.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut contents.unwritten)),
        }
    }

    fn write(&self, record: Record) {
        let mut contents: RefMut<'_, Contents> = self.0.borrow_mut();
        if let Err(failure) = contents.state.apply(&record) {
            contents.failure.get_or_insert(failure);
            return;
        }
        let splits = contents.bug == Some(Bug::SplitsAtomicWrites);
        if let (true, Record::Together(records)) = (splits, &record) {
            contents.unwritten.extend_from_slice(records);
        } else {
            contents.unwritten.push(record);
        }
    }

    fn entries(&self, from: usize, commands: Vec<Command>) -> Record {
        let contents = self.0.borrow();
        let mut commands = commands;
        if contents.bug == Some(Bug::KeepsReplacedEntries) {
            let kept = contents.state.log.iter().skip(from + commands.len());
            commands.extend(kept.cloned());
        }
        let requests = commands.iter().map(|command| command.id).collect();
        Record::Entries { from: number(from), commands, requests }
    }

    fn record_of(&self, operation: StorageOp<Command>) -> Option<Record> {
        match operation {
            StorageOp::AppendEntry(command) => Some(self.entries(self.length(), vec![command])),
            StorageOp::AppendEntries(commands) => Some(self.entries(self.length(), commands)),
            StorageOp::AppendOnPrefix(from, commands) => Some(self.entries(from, commands)),
            StorageOp::SetPromise(ballot) => Some(Record::Promise(ballot)),
            StorageOp::SetDecidedIndex(decided) => Some(Record::Decided(number(decided))),
            StorageOp::SetAcceptedRound(ballot) => Some(Record::AcceptedRound(ballot)),
            // The node neither reconfigures its cluster nor compacts the log of the library, and
            // drops messages that would make the library do so.
            StorageOp::SetCompactedIdx(_)
            | StorageOp::Trim(_)
            | StorageOp::SetStopsign(_)
            | StorageOp::SetSnapshot(_) => None,
        }
    }

    fn length(&self) -> usize {
        self.state().log.len()
    }
}

impl Storage<Command> for Store {
    fn write_atomically(&mut self, operations: Vec<StorageOp<Command>>) -> StorageResult<()> {
        // At most one of them changes the log, so each may be made a record before any is applied.
        let records = operations.into_iter().filter_map(|operation| self.record_of(operation));
        let records = records.collect();
        self.write(Record::Together(records));
        Ok(())
    }

    fn append_entry(&mut self, entry: Command) -> StorageResult<()> {
        self.append_on_prefix(self.length(), vec![entry])
    }

    fn append_entries(&mut self, entries: Vec<Command>) -> StorageResult<()> {
        if entries.is_empty() { Ok(()) } else { self.append_on_prefix(self.length(), entries) }
    }

    fn append_on_prefix(&mut self, from: usize, entries: Vec<Command>) -> StorageResult<()> {
        self.write(self.entries(from, entries));
        Ok(())
    }

    fn set_promise(&mut self, promise: Ballot) -> StorageResult<()> {
        self.write(Record::Promise(promise));
        Ok(())
    }

    fn set_decided_idx(&mut self, decided: usize) -> StorageResult<()> {
        self.write(Record::Decided(number(decided)));
        Ok(())
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        Ok(index(self.state().decided))
    }

    fn set_accepted_round(&mut self, round: Ballot) -> StorageResult<()> {
        self.write(Record::AcceptedRound(round));
        Ok(())
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state().accepted_round)
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<Command>> {
        Ok(self.state().log.get(from..to).unwrap_or_default().to_vec())
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        Ok(self.length())
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<Command>> {
        Ok(self.state().log.get(from..).unwrap_or_default().to_vec())
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        Ok(self.state().promise)
    }

    fn set_stopsign(&mut self, _: Option<StopSign>) -> StorageResult<()> {
        Err("the cluster is never reconfigured".into())
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        Ok(None)
    }

    fn trim(&mut self, _: usize) -> StorageResult<()> {
        Err("the log of the library is never trimmed".into())
    }

    fn set_compacted_idx(&mut self, _: usize) -> StorageResult<()> {
        Err("the log of the library is never compacted".into())
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        Ok(0)
    }

    fn set_snapshot(&mut self, _: Option<NoSnapshot>) -> StorageResult<()> {
        Err("the library makes no snapshots".into())
    }

    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        Ok(None)
    }
}
