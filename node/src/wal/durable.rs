//! Durability as a value.

use std::ops::Deref;

/// Identifies an appended record, or an element of the boot snapshot.
/// [`Wal::redeem`](super::Wal::redeem) exchanges it for a [`Durable`] once the barriers that cover
/// it have completed. Valid only for the log that issued it.
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
        Durable { position: self.position, value: self.value }
    }
}

/// The state in the boot snapshot, and with it the right to proofs for what it contains.
///
/// A record that was read back is readable, but not necessarily durable: the machine may have kept
/// it in memory only. What makes the proof of such a record true is that the boot snapshot contains
/// it, and that this snapshot is durable under its own name. For the first, a ticket is issued here
/// only, from the state that [`Wal::begin`](super::Wal::begin) has encoded; for the second, it
/// cannot be redeemed before the log is [ready](super::Wal::ready).
#[derive(Debug)]
pub struct BootSnapshot<'a, S> {
    state: &'a S,
    // The last record that is contained in the state.
    position: u64,
}

impl<'a, S> BootSnapshot<'a, S> {
    /// Only for the log, with the state that it has written.
    pub(super) fn new(state: &'a S, position: u64) -> BootSnapshot<'a, S> {
        BootSnapshot { state, position }
    }

    /// A ticket for each element of a list in the state, in the order of the list. `value` chooses
    /// what the ticket and its proof carry: usually the id of what the element is about.
    ///
    /// Both arguments are functions without captured variables, so that a ticket can only be about
    /// something in the state.
    pub fn tickets<E, T>(&self, list: fn(&S) -> &[E], value: fn(&E) -> T) -> Vec<Ticket<T>> {
        list(self.state).iter().map(|element| Ticket::new(self.position, value(element))).collect()
    }
}

/// The proof that the record which `T` refers to is durable. Only the log creates one, from a
/// [`Ticket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durable<T> {
    position: u64,
    value: T,
}

impl<T> Durable<T> {
    /// The value, with its proof.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value, without its proof.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// So many records of the log are durable at least, over all incarnations: that of the ticket,
    /// and those before it.
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl<T> Deref for Durable<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
