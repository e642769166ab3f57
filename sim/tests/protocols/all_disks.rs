//! A property about the disks of all nodes: at the moment of a reply, a majority holds the record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use stormglass_sim::property::Sometimes;
use stormglass_sim::{
    About, Boot, BootError, DiskOp, Effect, Fact, FileId, HaltReason, Input, Label, Node, NodeId,
    Observation, OpId, Outbox, Property, PropertyResult, ReadDisk, RequestId, Simulation, Subject,
    Time,
};

const NODES: u16 = 3;

fn is_majority(holders: usize) -> bool {
    holders > usize::from(NODES) / 2
}

#[derive(Clone, Debug, Label, Serialize, Deserialize)]
#[label(crate = "stormglass_sim::node")]
enum Message {
    Store(#[label(subject)] RequestId),
    Stored(#[label(subject)] RequestId),
}

/// The receiver of a request has it stored by all, and replies once a majority has it on its disk.
/// With `EARLY`, a node says that it has stored a record before its sync has completed.
struct Replica<const EARLY: bool> {
    others: Vec<NodeId>,
    file: FileId,
    /// For each request of a client, the nodes that hold it.
    open: BTreeMap<RequestId, BTreeSet<NodeId>>,
    /// Records to write, each with the node that wants to know.
    queue: VecDeque<(RequestId, NodeId)>,
    /// The first of the queue is being written until so many barriers have completed.
    barriers: u8,
    id: NodeId,
}

/// The bytes of a record. None of them is 0, so that a torn record is no record.
fn record(id: RequestId) -> Vec<u8> {
    format!("<{}>", RequestId { attempt: 0, ..id }).into_bytes()
}

impl<const EARLY: bool> Replica<EARLY> {
    fn store(&mut self, id: RequestId, asked_by: NodeId, out: &mut Outbox<Self>) {
        self.queue.push_back((id, asked_by));
        self.write_next(out);
    }

    fn write_next(&mut self, out: &mut Outbox<Self>) {
        if self.barriers > 0 {
            return;
        }
        let Some((id, _)) = self.queue.front() else { return };
        let about = About { kind: "Record", subject: Some(Subject::Request(*id)) };
        out.append(self.file, about, &record(*id));
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        out.disk(DiskOp::SyncDir { op: OpId(1) });
        self.barriers = 2;
    }

    fn on_stored(&mut self, id: RequestId, by: NodeId, out: &mut Outbox<Self>) {
        let Some(holders) = self.open.get_mut(&id) else { return };
        holders.insert(by);
        if is_majority(holders.len()) {
            self.open.remove(&id);
            out.reply(id, ());
        }
    }
}

impl<const EARLY: bool> Node for Replica<EARLY> {
    type Config = ();
    type Message = Message;
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot((): &(), boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        // A new file, so that nothing is appended behind what may be torn.
        let file = match boot.contents()?.last() {
            Some((FileId::Wal(number), _)) => FileId::Wal(number + 1),
            _ => FileId::Wal(0),
        };
        Ok(Replica {
            others: (0..NODES).map(NodeId).filter(|other| *other != boot.id).collect(),
            file,
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            barriers: 0,
            id: boot.id,
        })
    }

    fn step(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } => {
                self.open.entry(id).or_default();
                for other in &self.others {
                    out.send(*other, Message::Store(id));
                }
                self.store(id, self.id, out);
            }
            Input::Message { from, message: Message::Store(id) } => {
                if EARLY {
                    out.send(from, Message::Stored(id));
                }
                self.store(id, from, out);
            }
            Input::Message { from, message: Message::Stored(id) } => {
                self.on_stored(id, from, out);
            }
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { .. } => {
                self.barriers -= 1;
                if self.barriers > 0 {
                    return;
                }
                let (id, asked_by) = self.queue.pop_front().expect("it was being written");
                if asked_by == self.id {
                    self.on_stored(id, self.id, out);
                } else if !EARLY {
                    out.send(asked_by, Message::Stored(id));
                }
                self.write_next(out);
            }
            Input::Connected { .. } | Input::Disconnected { .. } | Input::Wake => {}
        }
    }
}

#[derive(Clone, Default)]
struct AnsweredIsOnAMajority {
    replies: u64,
    replies_without_a_node: u64,
}

impl<const EARLY: bool> Property<Replica<EARLY>> for AnsweredIsOnAMajority {
    const NAME: &'static str = "AnsweredIsOnAMajority";
    fn on(&mut self, observation: &Observation<'_, Replica<EARLY>>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { id, .. }, _) = observation.fact else { return Ok(()) };
        let record = record(*id);
        let mut holders = Vec::new();
        for node in (0..NODES).map(NodeId) {
            let disk = observation.disk_of(node).expect("a disk for each node").durable();
            let contents = disk.files().into_iter().filter_map(|file| disk.read(file).ok()?);
            let mut contents = contents.map(<[u8]>::to_vec);
            if contents.any(|bytes| bytes.windows(record.len()).any(|part| part == record)) {
                holders.push(node);
            }
        }
        self.replies += 1;
        self.replies_without_a_node += u64::from(holders.len() < usize::from(NODES));
        if is_majority(holders.len()) {
            Ok(())
        } else {
            Err(format!("{id} is answered, and on the disks of {holders:?} only"))
        }
    }
    fn sometimes(&self, counters: &mut Sometimes) {
        counters.add("a reply", self.replies);
        counters.add("a reply while one node lacks the record", self.replies_without_a_node);
    }
}

fn check<const EARLY: bool>() {
    Simulation::<Replica<EARLY>>::new(())
        .nodes(NODES)
        .requests(20, |rng| (rng.node(), ()))
        .property(AnsweredIsOnAMajority::default())
        .seeds(200)
        .check();
}

#[test]
fn a_property_sees_that_a_majority_of_disks_holds_an_answered_record() {
    check::<false>();
}

#[test]
#[should_panic = "Replica<true> violates AnsweredIsOnAMajority"]
fn a_node_that_says_stored_before_its_sync_is_seen_on_the_other_disks() {
    check::<true>();
}
