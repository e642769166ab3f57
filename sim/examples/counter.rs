//! A durable counter: a node, one claim, a storm. `Counter<true>` forgets a `SyncDir`, and is caught.

use std::collections::BTreeMap;
use stormglass::{About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Node, NodeId};
use stormglass::{OpId, Outbox, RequestId, Time};
use stormglass_sim::oracle::{Fact, Oracle, Seen, Verdict};
use stormglass_sim::storm::Storm;

/// Counts, one at a time (clients repeat what is not answered); an answer is on the disk before it is given, in a file whose name is on the disk too.
#[derive(Clone, Debug)]
struct Counter<const FORGETS_SYNC_DIR: bool> {
    file: FileId,
    value: u64,
    barriers_under_way: u8,
    adding: Option<RequestId>,
}

impl<const F: bool> Counter<F> {
    fn write(&mut self, out: &mut Outbox<Self>) {
        let about = About { kind: "Value", subject: None };
        out.append(self.file, about, &[self.value.to_le_bytes(), (!self.value).to_le_bytes()].concat());
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        if !F {
            out.disk(DiskOp::SyncDir { op: OpId(1) });
        }
        self.barriers_under_way = if F { 1 } else { 2 };
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

    // What is read back need not be durable: it is written again, to a new file.
    fn boot((): &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let (mut next, mut value) = (0, 0);
        for (file, bytes) in boot.contents()? {
            value = value.max(greatest(bytes));
            next = if let FileId::Wal(k) = file { k + 1 } else { next };
        }
        let mut node = Counter { file: FileId::Wal(next), value, barriers_under_way: 0, adding: None };
        node.write(out);
        Ok(node)
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.barriers_under_way == 0 => {
                (self.adding, self.value) = (Some(id), self.value + 1);
                self.write(out);
            }
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { .. } => self.barriers_under_way -= 1,
            Input::Request { .. } | Input::Message { .. } | Input::Wake => {}
        }
        if self.barriers_under_way == 0 {
            self.adding.take().into_iter().for_each(|id| out.reply(id, self.value));
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

fn check<const F: bool>() {
    let storm = Storm::<Counter<F>>::new(()).requests(20, |draw| (draw.node(), ()));
    storm.oracle(NoForgottenAdd::default()).check();
}

fn main() {
    check::<false>();
}

#[test]
#[should_panic = "Counter<true> breaks NoForgottenAdd"]
fn no_add_is_forgotten_unless_a_sync_dir_is() {
    check::<false>();
    check::<true>();
}
