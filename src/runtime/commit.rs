//! The node of atomic commitment, served.

use super::serve::Serve;
use crate::commit::view::View;
use crate::commit::{CommitNode, Message};
use crate::id::{Incarnation, Time};

impl Serve for CommitNode {
    type View = View;

    fn life(&self) -> Option<Incarnation> {
        CommitNode::life(self)
    }

    fn is_idle(&self) -> bool {
        CommitNode::is_idle(self)
    }

    fn begins(&self, message: &Message) -> bool {
        CommitNode::begins(self, message)
    }

    fn view(&self, now: Time) -> View {
        CommitNode::view(self, now)
    }
}
