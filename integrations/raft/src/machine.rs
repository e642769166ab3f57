//! The replicated state machine: counters, and the last answer to each client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stormglass_node::RequestId;
use stormglass_node::codec;

/// An entry of the log that is not empty: one addition of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Client and serial identify it; a repetition of the request has another attempt.
    pub request: RequestId,
    /// The counter.
    pub key: u8,
}

impl Command {
    /// The data of an entry.
    pub fn encode(self) -> Vec<u8> {
        let mut data = Vec::with_capacity(15);
        data.extend(self.request.client.to_le_bytes());
        data.extend(self.request.serial.to_le_bytes());
        data.extend(self.request.attempt.to_le_bytes());
        data.push(self.key);
        data
    }

    /// The command of an entry; `None` for the empty entry with which a leader begins its term.
    pub fn decode(data: &[u8]) -> Option<Command> {
        let (client, rest) = data.split_first_chunk()?;
        let (serial, rest) = rest.split_first_chunk()?;
        let (attempt, rest) = rest.split_first_chunk()?;
        let &[key] = rest else { return None };
        let request = RequestId {
            client: u64::from_le_bytes(*client),
            serial: u32::from_le_bytes(*serial),
            attempt: u16::from_le_bytes(*attempt),
        };
        Some(Command { request, key })
    }
}

/// The last executed request of a client, with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    serial: u32,
    value: u64,
}

/// The state after an entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    applied: u64,
    counters: BTreeMap<u8, u64>,
    sessions: BTreeMap<u64, Session>,
}

impl Machine {
    /// The index of the last entry that was applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The value of a counter.
    pub fn value(&self, key: u8) -> u64 {
        self.counters.get(&key).copied().unwrap_or(0)
    }

    /// The answer to a request that has been executed, whichever attempt, if it is the client's
    /// last.
    pub fn answer(&self, request: RequestId) -> Option<u64> {
        let session = self.sessions.get(&request.client)?;
        (session.serial == request.serial).then_some(session.value)
    }

    /// Applies the entry of this index. Returns the answer to its request; `None` if there is none,
    /// or if the client has made a later one since.
    pub fn apply(&mut self, index: u64, command: Option<Command>, sessions: bool) -> Option<u64> {
        self.applied = index;
        let Command { request, key } = command?;
        if let Some(session) = self.sessions.get(&request.client)
            && sessions
            && session.serial >= request.serial
        {
            return self.answer(request);
        }
        let counter = self.counters.entry(key).or_default();
        *counter += 1;
        let value = *counter;
        self.sessions.insert(request.client, Session { serial: request.serial, value });
        Some(value)
    }

    /// A hash of counters and sessions (FNV-1a).
    pub fn digest(&self) -> u64 {
        let mut bytes = codec::encode(&self.counters);
        codec::encode_into(&self.sessions, &mut bytes);
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash
    }
}
