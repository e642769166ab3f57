//! Durability as a value.

use std::ops::Deref;

/// A claim on the durability of one record, made when the record was appended. [`Wal::redeem`](super::Wal::redeem)
/// turns it into a [`Durable`] once the record's barrier has completed. Means something to the log that made it only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "if nobody waits for this record, say so: `let _ = ...`"]
pub struct Ticket<T> {
    position: u64,
    token: T,
}

impl<T> Ticket<T> {
    pub(super) fn new(position: u64, token: T) -> Ticket<T> {
        Ticket { position, token }
    }

    /// The number of the record that must be durable first.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What will be proved durable.
    pub fn token(&self) -> &T {
        &self.token
    }

    /// Only for the log, and only once the barrier has completed.
    pub(super) fn into_durable(self) -> Durable<T> {
        Durable(self.token)
    }
}

/// The proof that the record which `T` speaks of is durable. Only the log makes one, out of a [`Ticket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// What is durable.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What is durable, without the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Durable<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
