//! The rules of sessions, checked at every input of every node.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::super::super::{Continuation, Observer, SurvivingFiles};
use super::counting::{CountingNode, SessionName};
use crate::contract::{Effect, Input};
use crate::id::{NodeId, Time};

/// What all nodes of a test have seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By node and peer: the present session of the last incarnation of the node.
    present: BTreeMap<(NodeId, NodeId), Receiving>,
    /// The two names of a session, in both directions.
    joined: BTreeMap<SessionName, SessionName>,
    /// By node and peer: sessions that have ended.
    ended: BTreeMap<(NodeId, NodeId), u64>,
    pub(super) begins: u32,
    pub(super) ends: u32,
    pub(super) messages: u64,
}

#[derive(Debug)]
struct Receiving {
    name: SessionName,
    last: u32,
}

impl Seen {
    fn on_connected(&mut self, name: SessionName, peer: NodeId) {
        let before = self.present.insert((name.node, peer), Receiving { name, last: 0 });
        assert!(before.is_none(), "{name:?}: connected with {peer} twice");
        self.begins += 1;
    }

    fn on_disconnected(&mut self, node: NodeId, peer: NodeId) {
        let ended = self.present.remove(&(node, peer));
        assert!(ended.is_some(), "{node}: disconnected from {peer} without a session");
        *self.ended.entry((node, peer)).or_default() += 1;
        self.ends += 1;
    }

    fn on_message(&mut self, node: NodeId, from: NodeId, theirs: SessionName, number: u32) {
        let receiving = self.present.get_mut(&(node, from));
        let receiving = receiving.unwrap_or_else(|| panic!("{node}: {number} without a session"));
        receiving.last += 1;
        let Receiving { name: ours, last } = receiving;
        assert_eq!(number, *last, "{ours:?} of {theirs:?}");
        for (one, other) in [(*ours, theirs), (theirs, *ours)] {
            let joined = *self.joined.entry(one).or_insert(other);
            assert_eq!(joined, other, "{one:?} is joined with two sessions");
        }
        self.messages += 1;
    }
}

impl History {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("every rule is kept")
    }

    pub(super) fn messages(&self) -> u64 {
        self.seen().messages
    }

    /// Sessions that have begun, and that have ended, counted at each node.
    pub(super) fn counts(&self) -> (u32, u32) {
        let seen = self.seen();
        (seen.begins, seen.ends)
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let wait = async {
            while !holds(&self.seen()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        // Longer than a silent connection and the longest pause between attempts to dial.
        let result = timeout(Duration::from_secs(15), wait).await;
        assert!(result.is_ok(), "never: {what}");
    }

    /// Until both nodes have received messages of one and the same session.
    pub(super) async fn until_both_receive(&self, a: NodeId, b: NodeId) {
        self.until("both receive", |seen| {
            let (Some(a), Some(b)) = (seen.present.get(&(a, b)), seen.present.get(&(b, a))) else {
                return false;
            };
            a.last > 0 && b.last > 0 && seen.joined.get(&a.name) == Some(&b.name)
        })
        .await;
    }

    /// The sessions with each other that either node has seen end.
    pub(super) fn ended(&self, a: NodeId, b: NodeId) -> [u64; 2] {
        let seen = self.seen();
        [(a, b), (b, a)].map(|pair| seen.ended.get(&pair).copied().unwrap_or(0))
    }

    /// Until both nodes have seen the end of one more session.
    pub(super) async fn until_ended(&self, a: NodeId, b: NodeId, before: [u64; 2]) {
        self.until("both have learnt of the end", |seen| {
            let ends = [(a, b), (b, a)].map(|pair| seen.ended.get(&pair).copied().unwrap_or(0));
            ends.iter().zip(before).all(|(now, before)| *now > before)
        })
        .await;
    }
}

/// Checks the inputs of one incarnation.
pub(super) struct SessionRules {
    history: History,
    /// The last session of this node.
    name: SessionName,
}

impl SessionRules {
    pub(super) fn new(history: &History, incarnation: u32) -> SessionRules {
        let name = SessionName { node: NodeId(0), incarnation, session: 0 };
        SessionRules { history: history.clone(), name }
    }
}

impl Observer<CountingNode> for SessionRules {
    fn boot(&mut self, node: NodeId, _: &SurvivingFiles) -> io::Result<()> {
        self.name.node = node;
        // A process ends without its sessions.
        self.history.seen().present.retain(|(other, _), _| *other != node);
        Ok(())
    }

    fn input(&mut self, _: Time, input: &Input<CountingNode>, _: u64) -> io::Result<Continuation> {
        let mut seen = self.history.seen();
        match input {
            Input::Connected { peer } => {
                self.name.session += 1;
                seen.on_connected(self.name, *peer);
            }
            Input::Disconnected { peer } => seen.on_disconnected(self.name.node, *peer),
            Input::Message { from, message } => {
                seen.on_message(self.name.node, *from, message.session, message.number);
            }
            Input::Request { .. } | Input::DiskDone { .. } | Input::Wake => {}
        }
        Ok(Continuation::Proceed)
    }

    fn effect(
        &mut self,
        _: Time,
        _: &Effect<CountingNode>,
        _: &[u8],
        _: u64,
    ) -> io::Result<Continuation> {
        Ok(Continuation::Proceed)
    }

    fn stopped(&mut self, _: Time) -> io::Result<()> {
        Ok(())
    }
}
