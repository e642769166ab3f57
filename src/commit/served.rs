//! The engine's interface to the commit node.

use stormglass_node::id::{Incarnation, Time};
use stormglass_node::runtime::ServedNode;

use super::view::View;
use super::{CommitNode, Message, Op, Part};

impl ServedNode for CommitNode {
    type View = View;
    const REQUEST_BYTES_MAX: usize = Part::OPS_MAX * Op::BYTES_MAX + 1_024;

    fn incarnation(&self) -> Option<Incarnation> {
        CommitNode::incarnation(self)
    }

    fn is_serving(&self) -> bool {
        CommitNode::is_serving(self)
    }

    fn is_idle(&self) -> bool {
        CommitNode::is_idle(self)
    }

    fn starts_new_work(&self, message: &Message) -> bool {
        CommitNode::starts_new_work(self, message)
    }

    fn view(&self, now: Time) -> View {
        CommitNode::view(self, now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Key, Position, Request, RequestNumber};
    use super::*;
    use stormglass_node::id::{NodeId, RequestId};
    use stormglass_node::runtime::packet::ClientPacket;
    use stormglass_node::wire;

    #[test]
    fn longest_legal_request_is_within_the_limit() {
        let key = Key::new(&"k".repeat(Key::BYTES_MAX)).expect("the longest key");
        let action = Action::Add { by: i64::MIN, at_least: i64::MIN };
        let op = Op { node: NodeId(u16::MAX), key, action };
        let incarnation = Incarnation::numbered(u32::MAX - 1).next(u64::MAX);
        let number = RequestNumber { serial: u32::MAX, attempt: u16::MAX };
        let request = Request::Transact {
            addressed: Position { incarnation, serial: u64::MAX },
            began_at: Some(Time(u64::MAX)),
            seen: number,
            ops: vec![op; Part::OPS_MAX].into(),
        };
        let id = RequestId { client: u64::MAX, serial: u32::MAX, attempt: u16::MAX };
        let bytes = wire::encode_frame(&ClientPacket::Request { id, request }).len();
        let limit = CommitNode::REQUEST_BYTES_MAX;
        assert!((limit * 9 / 10..=limit).contains(&bytes), "{bytes} bytes, the limit is {limit}");
    }
}
