//! Durability as a value.

use std::ops::Deref;

/// Identifies an appended record. [`Wal::redeem`](super::Wal::redeem) exchanges it for a
/// [`Durable`] once the barrier that covers the record has completed. Valid only for the log that
/// issued it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use = "if the durability of this record is not awaited, discard the ticket explicitly: `let _ = ...`"]
pub struct Ticket<T> {
    position: u64,
    value: T,
}

impl<T> Ticket<T> {
    pub(super) fn new(position: u64, value: T) -> Ticket<T> {
        Ticket { position, value }
    }

    /// The position of the record that must be durable first.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The value that will be proved durable.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Only for the log, and only once the barrier has completed.
    pub(super) fn into_durable(self) -> Durable<T> {
        Durable(self.value)
    }
}

/// The proof that the record which `T` refers to is durable. Only the log creates one, from a
/// [`Ticket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// The value, with its proof.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value, without its proof.
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
