//! A register on several nodes: n0 takes a put, writes it, copies it to all others, and answers once each has it on
//! its disk. `Mirror<true>` counts acknowledgements without looking whose they are: one that arrives twice is two.
//!
//! `cargo run --release --example mirror -- hunt --seeds 100000`, and `replay`, `shrink`, `check`, `profiles`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use stormglass::{About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Label, Micros, Node};
use stormglass::{NodeId, OpId, Outbox, ReadDisk, RequestId, Subject, Time};
use stormglass_sim::oracle::{Fact, Judge, Oracle, Seen, Verdict};
use stormglass_sim::storm::Storm;

/// Values are numbered; the greatest counts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Word {
    Copy(u64),
    Ack(u64),
}

impl Label for Word {
    fn kind(&self) -> &'static str {
        if let Word::Copy(_) = self { "Copy" } else { "Ack" }
    }
    fn subject(&self) -> Option<Subject> {
        let (Word::Copy(value) | Word::Ack(value)) = self;
        Some(Subject::Serial(*value))
    }
}

#[derive(Clone, Debug)]
struct Mirror<const COUNTS_BLINDLY: bool> {
    others: Vec<NodeId>,
    file: FileId,
    value: u64,
    named: bool,
    busy: bool,
    /// n0: the put under way, who has it, and how many have said so.
    put: Option<(RequestId, BTreeSet<NodeId>, usize)>,
    waiting: VecDeque<RequestId>,
    again: Option<Time>,
}

impl<const B: bool> Mirror<B> {
    fn write(&mut self, value: u64, out: &mut Outbox<Self>) {
        let about = About { kind: "Value", subject: Some(Subject::Serial(value)) };
        out.append(self.file, about, &[value.to_le_bytes(), (!value).to_le_bytes()].concat());
        (self.value, self.busy) = (value, true);
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
    }

    fn copy(&mut self, now: Time, out: &mut Outbox<Self>) {
        let Some((_, have, _)) = &self.put else { return };
        let lacking = self.others.iter().filter(|other| !have.contains(other));
        lacking.for_each(|other| out.send(*other, Word::Copy(self.value)));
        self.again = Some(now + Micros::millis(20));
    }
}

fn greatest(bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let whole = |record: &[u8]| Some(word(&record[..8])).filter(|value| *value == !word(&record[8..]));
    bytes.chunks_exact(16).filter_map(whole).max().unwrap_or(0)
}

impl<const B: bool> Node for Mirror<B> {
    type Config = u16;
    type Message = Word;
    type Request = ();
    type Response = u64;
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let (mut next, mut value) = (0, 0);
        for (file, bytes) in boot.contents()? {
            value = value.max(greatest(bytes));
            next = if let FileId::Wal(k) = file { k + 1 } else { next };
        }
        let others = (0..*nodes).map(NodeId).filter(|node| *node != boot.id).collect();
        let (file, waiting) = (FileId::Wal(next), VecDeque::new());
        let mut node =
            Mirror { others, file, value, named: false, busy: true, put: None, waiting, again: None };
        node.write(value, out);
        Ok(node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } => self.waiting.push_back(id),
            Input::Message { from, message: Word::Copy(value) } if !self.busy => {
                if value > self.value {
                    self.write(value, out)
                } else {
                    out.send(from, Word::Ack(value))
                }
            }
            Input::Message { from, message: Word::Ack(value) } if value == self.value => {
                let Some((id, have, said)) = &mut self.put else { return };
                have.insert(from);
                *said += 1;
                if (if B { *said } else { have.len() }) >= self.others.len() {
                    out.reply(*id, value);
                    (self.put, self.again) = (None, None);
                }
            }
            Input::DiskDone { result: Err(error), .. } => return out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { .. } if !self.named => {
                self.named = true;
                return out.disk(DiskOp::SyncDir { op: OpId(0) });
            }
            Input::DiskDone { .. } => {
                self.busy = false;
                self.copy(now, out);
            }
            Input::Wake => self.copy(now, out),
            Input::Message { .. } => {}
        }
        if !self.busy && self.put.is_none() {
            let Some(id) = self.waiting.pop_front() else { return };
            self.put = Some((id, BTreeSet::new(), 0));
            self.write(self.value + 1, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.again
    }
}

/// A value that is answered is on the disk of every node.
/// For each node the greatest value that it had on its disk when it last booted or spoke.
#[derive(Clone, Default)]
struct AnsweredIsEverywhere(BTreeMap<NodeId, u64>);

impl<const B: bool> Oracle<Mirror<B>> for AnsweredIsEverywhere {
    const CLAIM: &'static str = "AnsweredIsEverywhere";
    fn on(&mut self, seen: &Seen<'_, Mirror<B>>) -> Verdict {
        let disk = seen.disk.durable();
        let on_disk =
            disk.files().into_iter().filter_map(|file| disk.read(file).ok().flatten().map(greatest));
        if let Fact::Boot | Fact::Effect(Effect::Send { .. } | Effect::Reply { .. }, _) = seen.fact {
            self.0.insert(seen.node, on_disk.max().unwrap_or(0));
        }
        let Fact::Effect(Effect::Reply { response, .. }, _) = seen.fact else { return Ok(()) };
        match self.0.iter().find(|(_, kept)| *kept < response) {
            Some((node, kept)) => Err(format!("{response} is answered, and {node} has only {kept}")),
            None => Ok(()),
        }
    }
}

fn storm<const B: bool>() -> Storm<Mirror<B>, impl Judge<Mirror<B>> + Sync> {
    let storm = Storm::with(|plan| plan.nodes).requests(20, |_| (NodeId(0), ()));
    storm.oracle(AnsweredIsEverywhere::default())
}

fn main() -> std::process::ExitCode {
    stormglass_sim::cli::main_of(&storm::<false>())
}

#[test]
fn what_is_answered_is_everywhere() {
    storm::<false>().check();
}

#[test]
#[should_panic = "breaks AnsweredIsEverywhere"]
fn an_acknowledgement_counted_twice_is_caught() {
    storm::<true>().check();
}
