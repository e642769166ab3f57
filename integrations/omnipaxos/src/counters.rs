//! The state machine: counters, and a session for each client.

use std::collections::BTreeMap;

use omnipaxos::storage::{Entry, NoSnapshot};
use serde::{Deserialize, Serialize};
use stormglass_node::{Label, RequestId};

/// A request of a client. Both go through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Label, Serialize, Deserialize)]
#[label(detail)]
pub enum Request {
    /// Adds 1 to the counter of this key. The response is its new value.
    Add(u8),
    /// Reads the counter of this key, 0 if it has never been added to.
    Get(u8),
}

/// An entry of the replicated log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The client and its serial. The attempt is 0: an entry is the same for every attempt.
    pub id: RequestId,
    /// What the client requests.
    pub request: Request,
}

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// The counters after a prefix of the log.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    values: BTreeMap<u8, u64>,
    /// For each client the serial of its last request that was executed, and the response to it. A
    /// client sends a request once the one before is answered, so it needs no earlier response.
    sessions: BTreeMap<u64, (u32, u64)>,
}

impl Counters {
    /// Executes an entry, unless it was executed before: an entry may be in the log repeatedly.
    pub fn execute(&mut self, command: Command) {
        let (serial, _) = self.sessions.get(&command.id.client).copied().unwrap_or_default();
        if command.id.serial > serial {
            let value = self.perform(command.request);
            self.sessions.insert(command.id.client, (command.id.serial, value));
        }
    }

    /// Performs a request, whether or not it was executed before.
    pub fn perform(&mut self, request: Request) -> u64 {
        match request {
            Request::Add(key) => {
                let value = self.values.entry(key).or_default();
                *value += 1;
                *value
            }
            Request::Get(key) => self.values.get(&key).copied().unwrap_or_default(),
        }
    }

    /// The response to a request that was executed; `None` if it was not, or if the client has gone
    /// on since.
    pub fn response(&self, id: RequestId) -> Option<u64> {
        let (serial, response) = self.sessions.get(&id.client)?;
        (*serial == id.serial).then_some(*response)
    }
}
