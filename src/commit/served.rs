//! The engine's interface to the commit node.

use stormglass_node::id::{Incarnation, Time};
use stormglass_node::runtime::ServedNode;

use super::view::View;
use super::{CommitNode, Message};

impl ServedNode for CommitNode {
    type View = View;

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
