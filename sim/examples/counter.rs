//! A durable counter, whole in one file: a node, its clients, one claim, and the command line for free.
//! `cargo run --release --example counter -- hunt`; with `Counter<true>` a `SyncDir` is forgotten, and a hunt finds it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use stormglass::{
    About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Label, Node, OpId, Outbox, RequestId,
    Subject, Time,
};
use stormglass_sim::oracle::{Fact, Oracle, Seen, Sole, Sometimes, Verdict};
use stormglass_sim::{
    plan::Plan, profile::Draw, profile::Setup, protocol::Protocol, workload::Repeat, workload::Wish,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Word {
    Add,
    Value(u64),
}

impl Label for Word {
    fn kind(&self) -> &'static str {
        match self {
            Word::Add => "Add",
            Word::Value(_) => "Value",
        }
    }
    fn subject(&self) -> Option<Subject> {
        match self {
            Word::Add => None,
            Word::Value(v) => Some(Subject::Serial(*v)),
        }
    }
}

/// Counts; every answer is on the disk before it is given, in a file whose name is on the disk too.
#[derive(Clone, Debug)]
struct Counter<const FORGETS_SYNC_DIR: bool> {
    file: FileId,
    value: u64,
    synced: u64,
    named: bool,
    syncing: bool,
    ops: u64,
    waiting: VecDeque<(RequestId, u64)>,
}

impl<const F: bool> Counter<F> {
    fn add(&mut self, by: u64, out: &mut Outbox<Self>) {
        self.value += by;
        let (value, about) =
            (self.value, About { kind: "Value", subject: Some(Subject::Serial(self.value)) });
        out.append(self.file, about, &[value.to_le_bytes(), (!value).to_le_bytes()].concat());
    }

    fn sync(&mut self, out: &mut Outbox<Self>) {
        (self.synced, self.syncing, self.ops) = (self.value, true, self.ops + 1);
        out.disk(DiskOp::Sync { op: OpId(self.ops), file: self.file });
    }
}

/// The greatest value whose record is whole: 8 bytes, and the same 8 inverted.
fn greatest(bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let records = bytes.chunks_exact(16).map(|record| (word(&record[..8]), word(&record[8..])));
    records.filter(|(value, check)| *value == !check).map(|(value, _)| value).max().unwrap_or(0)
}

impl<const F: bool> Node for Counter<F> {
    type Config = ();
    type Message = Word;
    type Request = Word;
    type Response = Word;
    type Event = Word;

    // What is read back need not be durable: it is written again, to a new file, before anybody is answered.
    fn boot((): &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let (mut next, mut value) = (0, 0);
        for file in boot.disk.files() {
            if let FileId::Wal(k) = file {
                next = next.max(k + 1)
            }
            let bytes = boot.disk.read(file).map_err(|error| BootError::Unreadable { file, error })?;
            value = value.max(greatest(bytes.unwrap_or_default()));
        }
        let mut node = Counter {
            file: FileId::Wal(next),
            value,
            synced: 0,
            named: F,
            syncing: false,
            ops: 0,
            waiting: VecDeque::new(),
        };
        node.add(0, out);
        node.sync(out);
        Ok(node)
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } => {
                self.add(1, out);
                self.waiting.push_back((id, self.value));
                if !self.syncing {
                    self.sync(out)
                }
            }
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { result: Ok(()), .. } if !self.named => {
                (self.named, self.ops) = (true, self.ops + 1);
                out.disk(DiskOp::SyncDir { op: OpId(self.ops) });
            }
            Input::DiskDone { result: Ok(()), .. } => {
                self.syncing = false;
                let done = self.waiting.iter().take_while(|(_, value)| *value <= self.synced).count();
                for (id, value) in self.waiting.drain(..done) {
                    out.reply(id, Word::Value(value));
                }
                if !self.waiting.is_empty() {
                    self.sync(out)
                }
            }
            Input::Message { .. } | Input::Wake => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// Whoever was told a number will never see the same or a smaller one from that node.
#[derive(Clone, Default)]
struct NoForgottenAdd {
    highest: Vec<u64>,
    answers: u64,
}

impl<const F: bool> Oracle<Counter<F>> for NoForgottenAdd {
    const CLAIM: &'static str = "NoForgottenAdd";

    fn on(&mut self, seen: &Seen<'_, Counter<F>>) -> Verdict {
        let Fact::Effect(Effect::Reply { response: Word::Value(value), .. }, _) = seen.fact else {
            return Ok(());
        };
        let highest = &mut self.highest[usize::from(seen.node.0)];
        if value <= highest {
            return Err(format!("{} promised {highest}, then {value}", seen.node));
        }
        (*highest, self.answers) = (*value, self.answers + 1);
        Ok(())
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("an add was answered", self.answers)
    }
}

struct CounterProtocol<const FORGETS_SYNC_DIR: bool>;

impl<const F: bool> Protocol for CounterProtocol<F> {
    const NAME: &'static str = "counter";
    type Node = Counter<F>;
    type Order = Word;
    type Workload = Repeat<Counter<F>>;
    type Judge = Sole<NoForgottenAdd>;

    fn config(_plan: &Plan) {}

    fn wishes(setup: &Setup, plan: &mut Plan, draw: &mut Draw) -> Vec<Wish<Word>> {
        let wish = |i: u32, node| {
            let id = RequestId { client: 1 + i % plan.clients, serial: 1 + i / plan.clients, attempt: 0 };
            Wish { id, node, after_us: 0, what: Word::Add }
        };
        (0..setup.txns.unwrap_or(40)).map(|i| wish(i, draw.node())).collect()
    }

    fn clients(_plan: &Plan, wishes: Vec<Wish<Word>>) -> Self::Workload {
        Repeat::new(wishes, 20_000)
    }

    fn judge(plan: &Plan) -> Self::Judge {
        Sole(NoForgottenAdd { highest: vec![0; usize::from(plan.nodes)], answers: 0 })
    }
}

fn main() -> std::process::ExitCode {
    stormglass_sim::cli::main::<CounterProtocol<false>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_sim::hunt::{Catch, Progress, Quarry, hunt};

    fn caught<P: Protocol>(jobs: usize) -> Catch {
        let quarry = Quarry { setup: Setup::default(), seeds: 0..2_000, jobs, keep_going: false };
        hunt::<P>(&quarry, &Progress::default())
    }

    #[test]
    fn no_add_is_forgotten() {
        let (one, three) = (caught::<CounterProtocol<false>>(1), caught::<CounterProtocol<false>>(3));
        assert_eq!((one.failures.as_slice(), one.seeds), (&[][..], 2_000));
        assert_eq!(one.fingerprint, three.fingerprint, "whatever the number of hunters");
    }

    #[test]
    fn a_failing_hunt_prints_this_examples_own_command() {
        let command = std::env::args().next().expect("started under some name");
        let setup = Setup { nodes: Some(3), ..Setup::default() };
        let line = stormglass_sim::cli::replay_line::<CounterProtocol<false>>(7, &setup);
        assert_eq!(line, format!("{command} replay 7 --nodes 3"));
    }

    #[test]
    fn a_forgotten_sync_dir_is_found_and_the_same_seed_by_any_number_of_hunters() {
        let (one, three) = (caught::<CounterProtocol<true>>(1), caught::<CounterProtocol<true>>(3));
        assert_eq!(one.failures[0].1.claim, "NoForgottenAdd");
        assert_eq!(one.failures[0], three.failures[0]);
    }
}
