//! A register on several nodes: n0 takes a put, writes it, copies it to all others, and replies
//! once it is durable on each. `Mirror<true>` counts acknowledgements without checking their
//! senders: a duplicate counts twice.
//!
//! `cargo run --release -p stormglass-sim --features cli --example mirror -- hunt --seeds 100000`,
//! and `replay`, `shrink`, `check-determinism`, `profiles`.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use stormglass_node::{
    About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Label, Micros, Node,
};
use stormglass_node::{NodeId, OpId, Outbox, ReadDisk, RequestId, Subject, Time};
use stormglass_sim::property::{Checker, Fact, Observation, ProcessFact, Property, PropertyResult};
use stormglass_sim::simulation::Simulation;

/// Values are numbered; the greatest is the current one.
#[derive(Clone, Copy, Debug, Label, Serialize, Deserialize)]
enum MirrorMessage {
    Copy(#[label(subject)] u64),
    Ack(#[label(subject)] u64),
}

#[derive(Debug)]
struct Mirror<const COUNTS_DUPLICATE_ACKS: bool> {
    others: Vec<NodeId>,
    file: FileId,
    value: u64,
    barriers: u8,
    /// n0: the put in progress, the nodes that have it, and their number.
    put: Option<(RequestId, BTreeSet<NodeId>, usize)>,
    resend_at: Option<Time>,
}

impl<const B: bool> Mirror<B> {
    fn write(&mut self, value: u64, out: &mut Outbox<Self>) {
        let about = About { kind: "Value", subject: Some(Subject::Number(value)) };
        out.append(self.file, about, &[value.to_le_bytes(), (!value).to_le_bytes()].concat());
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        out.disk(DiskOp::SyncDir { op: OpId(1) });
        self.value = value;
        self.barriers = 2;
    }

    fn copy(&mut self, now: Time, out: &mut Outbox<Self>) {
        let Some((_, holders, _)) = &self.put else { return };
        let missing = self.others.iter().filter(|other| !holders.contains(other));
        missing.for_each(|other| out.send(*other, MirrorMessage::Copy(self.value)));
        // Longer than a round trip and a sync take without faults.
        self.resend_at = Some(now + Micros::from_millis(20));
    }
}

fn max_intact_value(bytes: &[u8]) -> u64 {
    let mut max = 0;
    for record in bytes.chunks_exact(16) {
        let value = u64::from_le_bytes(record[..8].try_into().expect("eight bytes"));
        let inverted = u64::from_le_bytes(record[8..].try_into().expect("eight bytes"));
        // A torn record, or a hole of zeros, is not its own inverse.
        if value == !inverted {
            max = value.max(max);
        }
    }
    max
}

impl<const B: bool> Node for Mirror<B> {
    type Config = u16;
    type Message = MirrorMessage;
    type Request = ();
    type Response = u64;
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let mut next = 0;
        let mut value = 0;
        for (file, bytes) in boot.contents()? {
            value = value.max(max_intact_value(bytes));
            next = if let FileId::Wal(k) = file { k + 1 } else { next };
        }
        let others = (0..*nodes).map(NodeId).filter(|node| *node != boot.id).collect();
        let mut node = Mirror {
            others,
            file: FileId::Wal(next),
            value,
            barriers: 0,
            put: None,
            resend_at: None,
        };
        node.write(value, out);
        Ok(node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.barriers == 0 && self.put.is_none() => {
                self.put = Some((id, BTreeSet::new(), 0));
                self.write(self.value + 1, out);
            }
            // No Ack yet: n0 repeats the copy, and then the value is durable.
            Input::Message { message: MirrorMessage::Copy(value), .. }
                if self.barriers == 0 && value > self.value =>
            {
                self.write(value, out);
            }
            Input::Message { from, message: MirrorMessage::Copy(value) } if self.barriers == 0 => {
                out.send(from, MirrorMessage::Ack(value));
            }
            Input::Message { from, message: MirrorMessage::Ack(value) } if value == self.value => {
                let Some((id, holders, acks)) = &mut self.put else { return };
                // The deliberate bug: with `B` a second Ack of a node counts, too.
                *acks += usize::from(holders.insert(from) || B);
                if *acks >= self.others.len() {
                    out.reply(*id, value);
                    self.put = None;
                    self.resend_at = None;
                }
            }
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            // Data and name have a barrier each, and the value is durable after both.
            Input::DiskDone { .. } if self.barriers > 1 => self.barriers = 1,
            Input::DiskDone { .. } => {
                self.barriers = 0;
                self.copy(now, out);
            }
            Input::Wake if self.barriers == 0 => self.copy(now, out),
            Input::Request { .. }
            | Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::Wake => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.resend_at
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "{self:#?}")
    }
}

/// The greatest value that each node had on its disk when it last booted or sent a message.
#[derive(Clone, Default)]
struct AnsweredIsOnEveryNode(BTreeMap<NodeId, u64>);

impl<const B: bool> Property<Mirror<B>> for AnsweredIsOnEveryNode {
    const NAME: &'static str = "AnsweredIsOnEveryNode";
    fn on(&mut self, observation: &Observation<'_, Mirror<B>>) -> PropertyResult {
        let disk = observation.disk.durable();
        let on_disk = disk
            .files()
            .into_iter()
            .filter_map(|file| disk.read(file).ok().flatten().map(max_intact_value));
        if let Fact::Process(ProcessFact::Boot)
        | Fact::Effect(Effect::Send { .. } | Effect::Reply { .. }, _) = observation.fact
        {
            self.0.insert(observation.node, on_disk.max().unwrap_or(0));
        }
        let Fact::Effect(Effect::Reply { response, .. }, _) = observation.fact else {
            return Ok(());
        };
        let Some((node, kept)) = self.0.iter().find(|(_, kept)| *kept < response) else {
            return Ok(());
        };
        Err(format!("{response} was answered, but {node} has only {kept} on its disk"))
    }
}

fn simulation<const B: bool>() -> Simulation<Mirror<B>, impl Checker<Mirror<B>> + Sync> {
    Simulation::with_config(|plan| plan.nodes)
        .requests(20, |_| (NodeId(0), ()))
        .property(AnsweredIsOnEveryNode::default())
}

fn main() -> std::process::ExitCode {
    stormglass_sim::cli::main(&simulation::<false>())
}

#[test]
#[should_panic = "Mirror<true> violates AnsweredIsOnEveryNode"]
fn answered_puts_are_on_every_node_unless_duplicate_acks_count() {
    simulation::<false>().check();
    simulation::<true>().check();
}
