//! A set of nodes in one word: a cluster has at most 64.

use stormglass_node::NodeId;

/// Bit `n` is node `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeSet(u64);

impl NodeSet {
    #[inline]
    fn bit(node: NodeId) -> u64 {
        1 << node.0
    }

    #[inline]
    pub(crate) fn contains(self, node: NodeId) -> bool {
        self.0 & NodeSet::bit(node) != 0
    }

    #[inline]
    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, node: NodeId) {
        self.0 |= NodeSet::bit(node);
    }

    /// Returns whether it was in the set.
    #[inline]
    pub(crate) fn remove(&mut self, node: NodeId) -> bool {
        let contained = self.contains(node);
        self.0 &= !NodeSet::bit(node);
        contained
    }

    /// Inserts the node or removes it.
    #[inline]
    pub(crate) fn set(&mut self, node: NodeId, contained: bool) {
        if contained {
            self.insert(node);
        } else {
            self.remove(node);
        }
    }

    /// The nodes that are not in the other set.
    #[inline]
    pub(crate) fn without(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & !other.0)
    }

    /// The nodes that are in both sets.
    #[inline]
    pub(crate) fn and(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & other.0)
    }

    /// The node with the least number.
    #[inline]
    pub(crate) fn first(self) -> Option<NodeId> {
        (self.0 != 0).then(|| NodeId(self.0.trailing_zeros() as u16))
    }

    /// In ascending order.
    pub(crate) fn iter(self) -> impl Iterator<Item = NodeId> {
        // `bits & (bits - 1)` is without the least bit; of 0 there is nothing to take away.
        let rest = std::iter::successors(Some(self.0), |bits| Some(bits & bits.wrapping_sub(1)));
        rest.map_while(|bits| NodeSet(bits).first())
    }
}

impl FromIterator<NodeId> for NodeSet {
    #[inline]
    fn from_iter<T: IntoIterator<Item = NodeId>>(nodes: T) -> NodeSet {
        let mut set = NodeSet::default();
        for node in nodes {
            set.insert(node);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_set_are_in_ascending_order() {
        let mut set = NodeSet::from_iter([NodeId(63), NodeId(0), NodeId(5)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [NodeId(0), NodeId(5), NodeId(63)]);
        assert!(set.remove(NodeId(0)) && !set.remove(NodeId(0)));
        assert_eq!(set.first(), Some(NodeId(5)));
        let without_5 = set.without(NodeSet::from_iter([NodeId(5)]));
        assert_eq!(without_5, NodeSet::from_iter([NodeId(63)]));
        assert!(without_5.and(NodeSet::default()).is_empty());
        assert_eq!(NodeSet::default().first(), None);
    }
}
