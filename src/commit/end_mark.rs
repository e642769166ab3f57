//! Safe forgetting: end marks of coordinators, and the set of ended transactions that a participant
//! derives from them.
//!
//! End marks are merged, never replaced. END is not forced, so a coordinator that restarts may list
//! as open a transaction that it had ended. A newer mark is therefore not a better one, and the
//! ended transactions are the union over all marks received.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::tx_id::TxId;
use stormglass_node::id::{Incarnation, NodeId};

/// The position of a transaction among those of its coordinator: ordered by incarnation, then
/// serial. Also the address of a request: the number of requests that its coordinator had begun
/// when the client last heard from it, 0 for none. The transaction of the request has a greater
/// one, so that a copy of a forgotten request is recognised by its address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The incarnation in which it began.
    #[serde(rename = "life")]
    pub incarnation: Incarnation,
    /// Its serial in that incarnation, from 1.
    pub serial: u64,
}

impl Position {
    /// The position of `tx` among the transactions of its coordinator.
    pub fn of(tx: TxId) -> Position {
        Position { incarnation: tx.incarnation, serial: tx.serial }
    }

    fn is_right_after(self, other: Position) -> bool {
        self.incarnation == other.incarnation && other.serial.checked_add(1) == Some(self.serial)
    }
}

/// A low-water mark with exceptions: all transactions of a coordinator below a position have ended,
/// except those listed. Normalised, so that the list is empty in the sequential case: no listed
/// transaction directly precedes the position.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndMark {
    below: Position,
    // Sorted, distinct, all smaller than `below`; `None` rather than empty.
    open: Option<Arc<[Position]>>,
}

impl EndMark {
    /// All transactions below `next` have ended, except `open`, which is sorted. If the list equals
    /// that of `last`, its memory is shared.
    pub fn new(
        next: Position,
        open: impl DoubleEndedIterator<Item = Position> + Clone,
        last: Option<&EndMark>,
    ) -> EndMark {
        let mut below = next;
        let mut listed = open.clone().count();
        // Open transactions directly below the position need no listing: the position moves down.
        for position in open.clone().rev() {
            if !below.is_right_after(position) {
                break;
            }
            below = position;
            listed -= 1;
        }
        let open = open.take(listed);
        let unchanged = last.filter(|last| last.open().iter().copied().eq(open.clone()));
        let open = match unchanged {
            Some(last) => last.open.clone(),
            None if listed == 0 => None,
            None => Some(open.collect()),
        };
        EndMark { below, open }
    }

    /// Whether this mark ends `x`.
    pub fn ends(&self, x: Position) -> bool {
        x < self.below && self.open().binary_search(&x).is_err()
    }

    /// Positions at or above this one are not ended by this mark.
    pub fn below(&self) -> Position {
        self.below
    }

    /// The positions below that have not ended, sorted.
    pub fn open(&self) -> &[Position] {
        self.open.as_deref().unwrap_or_default()
    }
}

/// The transactions of one coordinator that are known to have ended: the union over all its end
/// marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct EndedTransactions {
    pub coordinator: NodeId,
    /// Positions at or above this one are not known to have ended. Normalised as in [`EndMark`].
    pub below: Position,
    /// The positions below that are not known to have ended, sorted.
    pub open: Vec<Position>,
}

impl EndedTransactions {
    /// No end mark of `coordinator` has been received.
    pub fn none(coordinator: NodeId) -> EndedTransactions {
        EndedTransactions { coordinator, below: Position::default(), open: Vec::new() }
    }

    /// Whether `x` is known to have ended.
    pub fn contains(&self, x: Position) -> bool {
        x < self.below && self.open.binary_search(&x).is_err()
    }

    /// Adds the transactions that `end_mark` ends; returns whether any of them was new.
    #[inline]
    pub fn merge(&mut self, end_mark: &EndMark) -> bool {
        if self.open.is_empty() && end_mark.open.is_none() {
            // Sequential transactions: no transaction is open, in neither of the two.
            let changed = end_mark.below > self.below;
            self.below = self.below.max(end_mark.below);
            return changed;
        }
        self.merge_with_open(end_mark)
    }

    fn merge_with_open(&mut self, end_mark: &EndMark) -> bool {
        let known = (self.below, self.open.len());
        self.open.retain(|x| !end_mark.ends(*x));
        // Below the position known so far, transactions that are not listed here have ended,
        // whatever the mark lists. Above it only the mark says what has ended.
        let first_new = end_mark.open().partition_point(|x| *x < self.below);
        if end_mark.below > self.below {
            self.open.extend_from_slice(&end_mark.open()[first_new..]);
            self.below = end_mark.below;
        }
        while self.open.last().is_some_and(|last| self.below.is_right_after(*last)) {
            self.below = self.open.pop().expect("checked above");
        }
        known != (self.below, self.open.len())
    }
}

impl fmt::Debug for EndMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended below {}#{}", self.below.incarnation.number(), self.below.serial)?;
        for (i, open) in self.open().iter().enumerate() {
            write!(
                f,
                "{}{}#{}",
                if i == 0 { " but " } else { ", " },
                open.incarnation.number(),
                open.serial
            )?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename = "Word")]
struct EncodedEndMark<'a> {
    below: Position,
    open: &'a [Position],
}

#[derive(Deserialize)]
#[serde(rename = "Word")]
struct DecodedEndMark {
    below: Position,
    open: Vec<Position>,
}

impl Serialize for EndMark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EncodedEndMark { below: self.below, open: self.open() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EndMark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EndMark, D::Error> {
        let DecodedEndMark { below, open } = DecodedEndMark::deserialize(deserializer)?;
        let sorted =
            open.is_sorted_by(|a, b| a < b) && open.last().is_none_or(|last| *last < below);
        if !sorted {
            return Err(de::Error::custom(
                "open transactions are not sorted or not below the position",
            ));
        }
        Ok(EndMark { below, open: (!open.is_empty()).then(|| open.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::codec;

    fn position(serial: u64) -> Position {
        Position { incarnation: Incarnation::numbered(1), serial }
    }

    /// A mark whose list is out of order would end other transactions than its sender means.
    #[test]
    fn only_a_sorted_mark_below_its_position_is_decoded() {
        for (serials, is_valid) in [
            (&[][..], true),
            (&[2], true),
            (&[1, 2], true),
            (&[2, 1], false),
            (&[1, 1], false),
            (&[1, 3], false),
            (&[1, 4], false),
            (&[4, 1], false),
        ] {
            let open: Vec<Position> = serials.iter().copied().map(position).collect();
            let encoded = codec::encode(&EncodedEndMark { below: position(3), open: &open });
            let decoded = codec::decode::<EndMark>(&encoded);
            assert_eq!(decoded.is_ok(), is_valid, "{serials:?}");
        }
    }
}
