//! A durable counter: a node, one claim, a storm. `Counter<true>` forgets a `SyncDir`, and is caught.

use std::collections::{BTreeMap, VecDeque};

use stormglass::{About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Node, NodeId};
use stormglass::{OpId, Outbox, RequestId, Time};
use stormglass_sim::oracle::{Fact, Judge, Oracle, Seen, Verdict};
use stormglass_sim::storm::Storm;

/// Counts, one at a time; an answer is on the disk before it is given, in a file whose name is on the disk too.
#[derive(Clone, Debug)]
struct Counter<const FORGETS_SYNC_DIR: bool> {
    file: FileId,
    value: u64,
    named: bool,
    busy: bool,
    adding: Option<RequestId>,
    waiting: VecDeque<RequestId>,
}

impl<const F: bool> Counter<F> {
    fn write(&mut self, out: &mut Outbox<Self>) {
        let about = About { kind: "Value", subject: None };
        out.append(self.file, about, &[self.value.to_le_bytes(), (!self.value).to_le_bytes()].concat());
        self.busy = true;
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
    }
}

/// The greatest value whose record is whole: 8 bytes, and the same 8 inverted.
fn greatest(bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let whole = |record: &[u8]| Some(word(&record[..8])).filter(|value| *value == !word(&record[8..]));
    bytes.chunks_exact(16).filter_map(whole).max().unwrap_or(0)
}

impl<const F: bool> Node for Counter<F> {
    type Config = ();
    type Message = ();
    type Request = ();
    type Response = u64;
    type Event = ();

    // What is read back need not be durable: it is written again, to a new file, before anybody is answered.
    fn boot((): &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let (mut next, mut value) = (0, 0);
        for (file, bytes) in boot.contents()? {
            value = value.max(greatest(bytes));
            next = if let FileId::Wal(k) = file { k + 1 } else { next };
        }
        let (file, waiting) = (FileId::Wal(next), VecDeque::new());
        let mut node = Counter { file, value, named: F, busy: true, adding: None, waiting };
        node.write(out);
        Ok(node)
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } => self.waiting.push_back(id),
            Input::DiskDone { result: Err(error), .. } => return out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { .. } if !self.named => {
                self.named = true;
                return out.disk(DiskOp::SyncDir { op: OpId(0) });
            }
            Input::DiskDone { .. } => {
                self.busy = false;
                self.adding.take().into_iter().for_each(|id| out.reply(id, self.value));
            }
            Input::Message { .. } | Input::Wake => {}
        }
        if !self.busy && !self.waiting.is_empty() {
            (self.adding, self.value) = (self.waiting.pop_front(), self.value + 1);
            self.write(out);
        }
    }
}

/// Whoever was told a number will never see the same or a smaller one from that node.
#[derive(Clone, Default)]
struct NoForgottenAdd(BTreeMap<NodeId, u64>);

impl<const F: bool> Oracle<Counter<F>> for NoForgottenAdd {
    const CLAIM: &'static str = "NoForgottenAdd";
    fn on(&mut self, seen: &Seen<'_, Counter<F>>) -> Verdict {
        let Fact::Effect(Effect::Reply { response, .. }, _) = seen.fact else { return Ok(()) };
        let before = self.0.insert(seen.node, *response).unwrap_or(0);
        if *response > before { Ok(()) } else { Err(format!("{} said {before}, then {response}", seen.node)) }
    }
}

fn storm<const F: bool>() -> Storm<Counter<F>, impl Judge<Counter<F>>> {
    Storm::new(()).requests(20, |draw| (draw.node(), ())).oracle(NoForgottenAdd::default())
}

fn main() {
    storm::<false>().seeds(10_000).check();
}

#[test]
fn no_add_is_forgotten() {
    storm::<false>().check();
}

#[test]
#[should_panic = "breaks NoForgottenAdd"]
fn a_forgotten_sync_dir_is_caught() {
    storm::<true>().check();
}
