//! Forgetting safely: what coordinators say is still open, and what their listeners conclude has ended.
//!
//! Words are merged, never replaced. END is not forced, so a coordinator that restarts may list as open what it
//! had ended; a newer word is therefore not a better one, and "ended" is the union over all words heard.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{Incarnation, NodeId, TxId};

/// A transaction among those of one coordinator: ordered by life, then serial.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The life in which it began.
    #[serde(rename = "life")]
    pub incarnation: Incarnation,
    /// Its serial in that life, from 1.
    pub serial: u64,
}

impl Position {
    /// Where `tx` stands among those of its coordinator.
    pub fn of(tx: TxId) -> Position {
        Position { incarnation: tx.incarnation, serial: tx.serial }
    }

    fn is_right_after(self, other: Position) -> bool {
        self.incarnation == other.incarnation && other.serial.checked_add(1) == Some(self.serial)
    }
}

/// What a coordinator says of itself: all its transactions below a position have ended, but for those listed.
/// Normal, so that in the sequential case the list is empty: the position lies right behind nothing open.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndMark {
    below: Position,
    // Sorted, distinct, all smaller than `below`; `None` rather than empty.
    open: Option<Arc<[Position]>>,
}

impl EndMark {
    /// Everything below `next` has ended, but for `open`, which is sorted. If the list is that of `last`, its
    /// memory is shared.
    pub fn new(
        next: Position,
        open: impl DoubleEndedIterator<Item = Position> + Clone,
        last: Option<&EndMark>,
    ) -> EndMark {
        let mut below = next;
        let mut listed = open.clone().count();
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

    /// Whether it ends `x`.
    pub fn ends(&self, x: Position) -> bool {
        x < self.below && self.open().binary_search(&x).is_err()
    }

    /// Nothing at or above this is ended by it.
    pub fn below(&self) -> Position {
        self.below
    }

    /// What is not ended although it is below: sorted.
    pub fn open(&self) -> &[Position] {
        self.open.as_deref().unwrap_or_default()
    }
}

/// What is known to have ended of one coordinator's transactions: the union over all its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedTransactions {
    /// Whose.
    pub coordinator: NodeId,
    /// Nothing at or above this is known to have ended. Normal: right behind nothing open.
    pub below: Position,
    /// What is not known to have ended although it is below: sorted.
    pub open: Vec<Position>,
}

impl EndedTransactions {
    /// Nothing has been heard of `coordinator` yet.
    pub fn none(coordinator: NodeId) -> EndedTransactions {
        EndedTransactions { coordinator, below: Position::default(), open: Vec::new() }
    }

    /// Whether `x` is known to have ended.
    pub fn contains(&self, x: Position) -> bool {
        x < self.below && self.open.binary_search(&x).is_err()
    }

    /// Adds what `end_mark` ends, and says whether anything was new.
    #[inline]
    pub fn merge(&mut self, end_mark: &EndMark) -> bool {
        if self.open.is_empty() && end_mark.open.is_none() {
            // One transaction after another: nothing is open, here or there.
            let changed = end_mark.below > self.below;
            self.below = self.below.max(end_mark.below);
            return changed;
        }
        self.merge_with_open(end_mark)
    }

    fn merge_with_open(&mut self, end_mark: &EndMark) -> bool {
        let known = (self.below, self.open.len());
        self.open.retain(|x| !end_mark.ends(*x));
        let first_new = end_mark.open().partition_point(|x| *x < self.below);
        if end_mark.below > self.below {
            self.open.extend_from_slice(&end_mark.open()[first_new..]);
            self.below = end_mark.below;
        }
        while self.open.last().is_some_and(|last| self.below.is_right_after(*last)) {
            self.below = self.open.pop().expect("just seen");
        }
        known != (self.below, self.open.len())
    }
}

impl fmt::Debug for EndMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ended below {}#{}", self.below.incarnation.0, self.below.serial)?;
        for (i, open) in self.open().iter().enumerate() {
            write!(
                f,
                "{}{}#{}",
                if i == 0 { " but " } else { ", " },
                open.incarnation.0,
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
            return Err(de::Error::custom("the open ones are not sorted below the position"));
        }
        Ok(EndMark { below, open: (!open.is_empty()).then(|| open.into()) })
    }
}
