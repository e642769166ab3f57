//! The engine's interface to the commit node.

use super::serve::ServedNode;
use crate::commit::view::View;
use crate::commit::{CommitNode, Message};
use crate::id::{Incarnation, Time};

impl ServedNode for CommitNode {
    type View = View;

    fn incarnation(&self) -> Option<Incarnation> {
        CommitNode::incarnation(self)
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
