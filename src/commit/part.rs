//! The participants of a transaction, and the part of each.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::op::Op;
use stormglass_node::id::{NodeId, RequestId};

/// The age of a request, for wait-die: smaller is older, and the older request wins in the end.
/// Retries keep it, so that a request that was refused for a conflict is older than newcomers at
/// its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Age {
    /// When the first attempt began, in microseconds by the clock of its coordinator. Only fairness
    /// depends on it.
    pub at: u64,
    /// The id of the first attempt, so that no two requests have the same age.
    pub by: RequestId,
}

/// Why a list of operations is not a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTransaction {
    /// The list is empty.
    #[error("no operations")]
    NoOps,
    /// More than [`Part::OPS_MAX`].
    #[error("more than {} operations", Part::OPS_MAX)]
    TooManyOps,
    /// More than [`Participants::MAX`] nodes.
    #[error("more than {} nodes", Participants::MAX)]
    TooManyNodes,
    /// An operation on a node that is not of this cluster.
    #[error("{0} is not a node of this cluster")]
    NoSuchNode(NodeId),
}

/// All nodes with operations of one transaction, including the coordinator if it has some. Sorted,
/// distinct, at most [`Participants::MAX`], so that a set of them is one word of bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Participants(Arc<[NodeId]>);

impl Participants {
    /// The greatest number of participants of a transaction.
    pub const MAX: usize = 64;

    /// These nodes, in any order, with duplicates removed.
    ///
    /// # Errors
    /// [`InvalidTransaction`] if there are none or too many.
    pub fn new(
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Result<Participants, InvalidTransaction> {
        let mut distinct = [NodeId(0); Participants::MAX];
        let mut count = 0;
        for node in nodes {
            if let Err(at) = distinct[..count].binary_search(&node) {
                if count == Participants::MAX {
                    return Err(InvalidTransaction::TooManyNodes);
                }
                distinct.copy_within(at..count, at + 1);
                distinct[at] = node;
                count += 1;
            }
        }
        if count == 0 {
            Err(InvalidTransaction::NoOps)
        } else {
            Ok(Participants(Arc::from(&distinct[..count])))
        }
    }

    /// The bit of `node`; `None` if it does not take part.
    #[inline]
    pub fn bit(&self, node: NodeId) -> Option<u64> {
        // In small clusters every node takes part, in order.
        let guess = usize::from(node.0);
        let index = if self.0.get(guess) == Some(&node) {
            guess
        } else {
            self.0.binary_search(&node).ok()?
        };
        Some(1 << index)
    }

    /// The bits of all participants.
    pub fn all(&self) -> u64 {
        // There is at least one participant, so the shift is by less than 64.
        u64::MAX >> (Participants::MAX - self.0.len())
    }

    /// The bits of all but `coordinator`: its subordinates.
    pub fn subordinates(&self, coordinator: NodeId) -> u64 {
        self.all() & !self.bit(coordinator).unwrap_or(0)
    }

    /// The nodes whose bits are set, in ascending order.
    pub fn among(&self, bits: u64) -> impl Iterator<Item = NodeId> + '_ {
        self.0
            .iter()
            .enumerate()
            .filter(move |(index, _)| bits >> index & 1 == 1)
            .map(|(_, node)| *node)
    }
}

impl Deref for Participants {
    type Target = [NodeId];
    fn deref(&self) -> &[NodeId] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Participants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Participants, D::Error> {
        let nodes = <Arc<[NodeId]>>::deserialize(deserializer)?;
        let valid =
            (1..=Participants::MAX).contains(&nodes.len()) && nodes.is_sorted_by(|a, b| a < b);
        if valid {
            Ok(Participants(nodes))
        } else {
            Err(de::Error::custom("not a sorted set of nodes"))
        }
    }
}

/// One participant's operations, with the age and all participants of the transaction. A part
/// shares the memory of the whole; encoding a part encodes no other.
#[derive(Clone)]
pub struct Part {
    transaction: Arc<Transaction>,
    // from <= to <= transaction.ops.len()
    from: u32,
    to: u32,
}

struct Transaction {
    age: Age,
    participants: Participants,
    // Sorted by node; operations of one node stay in the client's order.
    ops: Arc<[Op]>,
}

impl Part {
    /// The greatest number of operations of a new transaction.
    // No step of a node may take longer than 5 ms. `cargo tools bench --span 1 --reads 8192 --keys
    // 65536` prints the CPU time of a transaction, over all its steps: 2 ms.
    pub const OPS_MAX: usize = 1 << 13;

    /// The greatest number of operations that is decoded: logs of earlier versions have so many.
    const DECODED_OPS_MAX: usize = 1 << 16;

    /// A whole transaction. The operations are sorted by node; those of one node keep their order.
    ///
    /// # Errors
    /// [`InvalidTransaction`] if there are no operations, too many, or too many nodes.
    pub fn of_all(age: Age, ops: &Arc<[Op]>) -> Result<Part, InvalidTransaction> {
        if ops.len() > Part::OPS_MAX {
            return Err(InvalidTransaction::TooManyOps);
        }
        let participants = Participants::new(ops.iter().map(|op| op.node))?;
        let ops = if ops.is_sorted_by_key(|op| op.node) { Arc::clone(ops) } else { sorted(ops) };
        Ok(Part::all_of(Transaction { age, participants, ops }))
    }

    /// The part of `node`; empty if it does not take part.
    pub fn of(&self, node: NodeId) -> Part {
        let ops = self.ops();
        let from = ops.partition_point(|op| op.node < node);
        let to = from + ops[from..].partition_point(|op| op.node == node);
        Part {
            transaction: Arc::clone(&self.transaction),
            from: self.from + index(from),
            to: self.from + index(to),
        }
    }

    /// The operations, those of one node in the client's order.
    pub fn ops(&self) -> &[Op] {
        &self.transaction.ops[self.from as usize..self.to as usize]
    }

    /// The age of the transaction.
    pub fn age(&self) -> Age {
        self.transaction.age
    }

    /// The participants of the transaction.
    pub fn participants(&self) -> &Participants {
        &self.transaction.participants
    }

    fn all_of(transaction: Transaction) -> Part {
        let to = index(transaction.ops.len());
        Part { transaction: Arc::new(transaction), from: 0, to }
    }
}

fn sorted(ops: &[Op]) -> Arc<[Op]> {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.node);
    ops.into()
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a part has at most OPS_MAX operations")
}

impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        self.age() == other.age()
            && self.participants() == other.participants()
            && self.ops() == other.ops()
    }
}

impl Eq for Part {}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("age", &self.age())
            .field("participants", self.participants())
            .field("ops", &self.ops())
            .finish()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, op) in self.ops().iter().enumerate() {
            write!(f, "{}{op}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename = "Part")]
        struct Encoded<'a> {
            age: Age,
            participants: &'a Participants,
            ops: &'a [Op],
        }
        Encoded { age: self.age(), participants: self.participants(), ops: self.ops() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Part, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Part")]
        struct Encoded {
            age: Age,
            participants: Participants,
            ops: Arc<[Op]>,
        }
        let Encoded { age, participants, ops } = Encoded::deserialize(deserializer)?;
        if ops.len() > Part::DECODED_OPS_MAX || !ops.is_sorted_by_key(|op| op.node) {
            return Err(de::Error::custom("not a list of operations sorted by node"));
        }
        Ok(Part::all_of(Transaction { age, participants, ops }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::{Action, Key};
    use super::*;
    use stormglass_node::codec;

    fn op(node: u16, put: i64) -> Op {
        Op { node: NodeId(node), key: Key::new("k").unwrap(), action: Action::Put(put) }
    }

    fn age() -> Age {
        Age { at: 7, by: RequestId { client: 1, serial: 1, attempt: 0 } }
    }

    #[test]
    fn part_keeps_the_clients_order_of_operations() {
        let whole =
            Part::of_all(age(), &Arc::from([op(2, 1), op(0, 2), op(2, 3), op(0, 4)])).unwrap();
        assert_eq!(whole.of(NodeId(2)).ops(), [op(2, 1), op(2, 3)]);
        assert_eq!(whole.of(NodeId(0)).ops(), [op(0, 2), op(0, 4)]);
        assert!(whole.of(NodeId(1)).ops().is_empty());
        assert_eq!(whole.participants()[..], [NodeId(0), NodeId(2)]);
        let part = whole.of(NodeId(2));
        assert_eq!(codec::decode::<Part>(&codec::encode(&part)).as_ref(), Ok(&part));
    }

    fn part_of_n0(age: Age, ops: &[Op]) -> Part {
        Part::of_all(age, &Arc::from(ops)).unwrap().of(NodeId(0))
    }

    #[test]
    fn parts_are_equal_if_ages_participants_and_operations_are() {
        let one = part_of_n0(age(), &[op(0, 1), op(1, 1)]);
        assert_eq!(one, part_of_n0(age(), &[op(0, 1), op(1, 2)]), "the other part is not compared");
        assert_ne!(one, part_of_n0(Age { at: 8, ..age() }, &[op(0, 1), op(1, 1)]));
        assert_ne!(one, part_of_n0(age(), &[op(0, 1), op(2, 1)]));
        assert_ne!(one, part_of_n0(age(), &[op(0, 2), op(1, 1)]));
    }

    #[test]
    fn new_transaction_with_too_many_operations_is_refused_with_the_limit() {
        let largest = Arc::from(vec![op(0, 1); Part::OPS_MAX]);
        assert!(Part::of_all(age(), &largest).is_ok());
        let too_large = Arc::from(vec![op(0, 1); Part::OPS_MAX + 1]);
        let error = Part::of_all(age(), &too_large).unwrap_err();
        assert_eq!(error.to_string(), "more than 8192 operations");
    }

    #[test]
    fn participants_are_a_set_of_at_most_sixty_four() {
        let all = Participants::new((0..64).rev().map(NodeId)).unwrap();
        assert_eq!(all.all(), u64::MAX);
        assert_eq!(all.bit(NodeId(63)), Some(1 << 63));
        assert_eq!(all.subordinates(NodeId(0)), u64::MAX - 1);
        assert_eq!(all.among(0b101).collect::<Vec<_>>(), [NodeId(0), NodeId(2)]);
        assert_eq!(Participants::new((0..65).map(NodeId)), Err(InvalidTransaction::TooManyNodes));
        assert_eq!(Part::of_all(age(), &Arc::from([])), Err(InvalidTransaction::NoOps));
        assert!(
            codec::decode::<Participants>(&codec::encode(&[NodeId(2), NodeId(1)][..])).is_err()
        );
    }
}
