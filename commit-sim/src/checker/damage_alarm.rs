//! W13: a node reports damage if and only if a durable record of it is lost.
//!
//! 1. As long as no loss is excused, every durable record is recovered (W6), so no alarm is true.
//! 2. After a loss that no node can detect (D10), all other checks stop. A Commit for a transaction
//!    of which the node has neither a record nor an end mark is then what shows the loss: the node
//!    reports it in the same step.

use stormglass::commit::{Body, EndedTransactions, Event, Message, Position, State, TxId};
use stormglass_node::NodeId;

use crate::property::Property;
use stormglass_sim::property::Violation;

/// What the node that has lost records must report.
#[derive(Clone, Debug, Default)]
pub(super) struct DamageAlarm {
    /// `None` before the loss, and once the node crashes again.
    watched: Option<Watched>,
}

/// A node that has lost records.
#[derive(Clone, Debug)]
struct Watched {
    node: NodeId,
    /// The transactions that it may know: those that it recovered, and those that messages have
    /// named since.
    named: Vec<TxId>,
    /// Its end marks.
    ended: Vec<EndedTransactions>,
    /// The transaction whose loss it must report in this step.
    due: Option<TxId>,
}

/// W13: no durable record is missing, so a report of damage is false.
#[cold]
pub(super) fn false_alarm(node: NodeId, tx: TxId) -> Violation {
    let explanation = format!("{node} reports damage at {tx}, but has lost no durable record");
    Property::DamageAlarmIsTrue.violated(explanation)
}

impl DamageAlarm {
    /// The node has recovered this state after an undetectable loss.
    #[cold]
    pub(super) fn watch(&mut self, node: NodeId, found: &State) {
        let mut named: Vec<TxId> = found.prepared.iter().map(|prepared| prepared.tx).collect();
        named.extend(found.outcomes.iter().map(|known| known.tx));
        self.watched = Some(Watched { node, named, ended: found.ended.clone(), due: None });
    }

    /// A process ends; a crash may come before its report.
    pub(super) fn on_crash(&mut self, node: NodeId) {
        if self.watched.as_ref().is_some_and(|watched| watched.node == node) {
            self.watched = None;
        }
    }

    /// A message arrives at a node.
    pub(super) fn on_message(
        &mut self,
        node: NodeId,
        from: NodeId,
        message: &Message,
    ) -> Result<(), Violation> {
        self.check_reported(node)?;
        let Some(watched) = self.watched.as_mut().filter(|watched| watched.node == node) else {
            return Ok(());
        };
        let tx = message.tx;
        if let Some(end_mark) = message.end_mark()
            && tx.coordinator == from
        {
            let known = watched.ended.iter_mut().find(|ended| ended.coordinator == from);
            match known {
                Some(ended) => drop(ended.merge(end_mark)),
                None => {
                    let mut ended = EndedTransactions::none(from);
                    ended.merge(end_mark);
                    watched.ended.push(ended);
                }
            }
        }
        let mut ended = watched.ended.iter().filter(|ended| ended.coordinator == tx.coordinator);
        let has_ended = ended.any(|ended| ended.contains(Position::of(tx)));
        let is_commit = matches!(message.body, Body::Commit { .. }) && tx.coordinator == from;
        if is_commit && node != from && !has_ended && !watched.named.contains(&tx) {
            watched.due = Some(tx);
        } else {
            watched.named.push(tx);
        }
        Ok(())
    }

    /// The node reports an event.
    pub(super) fn on_report(&mut self, node: NodeId, event: &Event) {
        let Some(watched) = self.watched.as_mut().filter(|watched| watched.node == node) else {
            return;
        };
        match event {
            Event::Damage { tx, .. } if watched.due == Some(*tx) => watched.due = None,
            // Before its boot is durable, a node drops every message.
            Event::NotReady => watched.due = None,
            Event::Ready { .. } | Event::Dropped { .. } | Event::Damage { .. } | _ => {}
        }
    }

    /// The node receives another input: the step before it is over.
    pub(super) fn check_reported(&self, node: NodeId) -> Result<(), Violation> {
        match &self.watched {
            Some(Watched { node: watched, due: Some(tx), .. }) if *watched == node => {
                let explanation = format!(
                    "{node} has lost its records of {tx}, receives Commit, and reports no damage"
                );
                Err(Property::DamageAlarmIsTrue.violated(explanation))
            }
            Some(_) | None => Ok(()),
        }
    }
}
