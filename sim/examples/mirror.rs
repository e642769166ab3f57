//! A register on several nodes: n0 takes a put, writes it, copies it to all others, and answers once each has it on
//! its disk. `Mirror<true>` counts acknowledgements without looking whose they are: one that arrives twice is two.
//! `cargo run --release --example mirror -- hunt --seeds 100000`, and `replay`, `shrink`, `check`, `profiles`.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
    barriers: u8,
    /// n0: the put under way, who has it, and how many that is.
    put: Option<(RequestId, BTreeSet<NodeId>, usize)>,
    again: Option<Time>,
}

impl<const B: bool> Mirror<B> {
    fn write(&mut self, value: u64, out: &mut Outbox<Self>) {
        let about = About { kind: "Value", subject: Some(Subject::Serial(value)) };
        out.append(self.file, about, &[value.to_le_bytes(), (!value).to_le_bytes()].concat());
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        out.disk(DiskOp::SyncDir { op: OpId(1) });
        (self.value, self.barriers) = (value, 2);
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
        let mut node = Mirror { others, file: FileId::Wal(next), value, barriers: 0, put: None, again: None };
        node.write(value, out);
        Ok(node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.barriers == 0 && self.put.is_none() => {
                self.put = Some((id, BTreeSet::new(), 0));
                self.write(self.value + 1, out);
            }
            Input::Message { message: Word::Copy(value), .. } if self.barriers == 0 && value > self.value => {
                self.write(value, out);
            }
            Input::Message { from, message: Word::Copy(value) } if self.barriers == 0 => {
                out.send(from, Word::Ack(value));
            }
            Input::Message { from, message: Word::Ack(value) } if value == self.value => {
                let Some((id, have, said)) = &mut self.put else { return };
                *said += usize::from(have.insert(from) || B);
                if *said >= self.others.len() {
                    out.reply(*id, value);
                    (self.put, self.again) = (None, None);
                }
            }
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { .. } if self.barriers > 1 => self.barriers = 1,
            Input::DiskDone { .. } => {
                self.barriers = 0;
                self.copy(now, out);
            }
            Input::Wake if self.barriers == 0 => self.copy(now, out),
            Input::Request { .. } | Input::Message { .. } | Input::Wake => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.again
    }
}

/// The greatest value that each node had on its disk when it last booted or spoke.
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
        let Some((node, kept)) = self.0.iter().find(|(_, kept)| *kept < response) else { return Ok(()) };
        Err(format!("{response} is answered, and {node} has only {kept}"))
    }
}

fn storm<const B: bool>() -> Storm<Mirror<B>, impl Judge<Mirror<B>> + Sync> {
    Storm::with(|plan| plan.nodes).requests(20, |_| (NodeId(0), ())).oracle(AnsweredIsEverywhere::default())
}

fn main() -> std::process::ExitCode {
    stormglass_sim::cli::main_of(&storm::<false>())
}

#[test]
#[should_panic = "Mirror<true> breaks AnsweredIsEverywhere"]
fn what_is_answered_is_everywhere_unless_acknowledgements_are_counted_blindly() {
    storm::<false>().check();
    storm::<true>().check();
}
