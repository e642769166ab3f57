//! Counts the allocations of a warm node: less than one in ten steps allocates, apart from the step
//! that creates a transaction. A binary of its own, since the counter is the allocator of the whole
//! program.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use allocation_counter::measure;
use stormglass::commit::{
    Action, CommitNode, Config, Key, Op, Outcome, Position, Request, RequestNumber,
};
use stormglass_node::{
    Boot, DiskError, DiskOp, Effect, FileId, Input, Label, Node, NodeId, Outbox, ReadDisk,
    RequestId, Time,
};

const NODES: u16 = 4;
/// Keys are used in turn; after one round of each coordinator all of them exist.
const KEYS: u32 = 16;

/// A disk on which nothing was written. Nodes read it at boot only.
struct EmptyDisk;

impl ReadDisk for EmptyDisk {
    fn files(&self) -> Vec<FileId> {
        Vec::new()
    }
    fn read(&self, _file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(None)
    }
}

/// Steps, and the allocations in them.
#[derive(Clone, Copy, Debug, Default)]
struct StepCount {
    steps: u64,
    allocations: u64,
}

/// Nodes in memory: messages arrive in order, barriers complete at once.
struct Cluster {
    nodes: Vec<CommitNode>,
    out: Outbox<CommitNode>,
    inputs: VecDeque<(NodeId, Input<CommitNode>)>,
    now: Time,
    committed: u32,
    aborted: u32,
    counts: BTreeMap<&'static str, StepCount>,
}

impl Cluster {
    fn boot() -> Cluster {
        let config = Config::new((0..NODES).map(NodeId));
        let mut cluster = Cluster {
            nodes: Vec::new(),
            out: Outbox::default(),
            inputs: VecDeque::new(),
            now: Time(1),
            committed: 0,
            aborted: 0,
            counts: BTreeMap::new(),
        };
        for id in (0..NODES).map(NodeId) {
            let boot = Boot { id, now: cluster.now, entropy: 7, disk: &EmptyDisk };
            let node =
                CommitNode::boot(&config, boot, &mut cluster.out).expect("an empty disk boots");
            cluster.nodes.push(node);
            cluster.perform(id);
        }
        cluster.run();
        cluster
    }

    fn run(&mut self) {
        while let Some((to, input)) = self.inputs.pop_front() {
            self.step(to, input);
        }
    }

    fn step(&mut self, to: NodeId, input: Input<CommitNode>) {
        let kind = match &input {
            Input::Message { message, .. } => message.kind(),
            Input::Request { request, .. } => request.kind(),
            Input::DiskDone { .. } => "DiskDone",
            Input::Connected { .. } => "Connected",
            Input::Disconnected { .. } => "Disconnected",
            Input::Wake => "Wake",
        };
        let node = &mut self.nodes[usize::from(to.0)];
        let out = &mut self.out;
        let now = self.now;
        // The step alone: the queue of this test allocates, too.
        let counted = measure(|| node.step(now, input, out));
        let count = self.counts.entry(kind).or_default();
        count.steps += 1;
        count.allocations += counted.count_total;
        self.perform(to);
    }

    fn perform(&mut self, id: NodeId) {
        let (effects, _bytes) = self.out.drain();
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.inputs.push_back((to, Input::Message { from: id, message }));
                }
                Effect::Disk(DiskOp::Sync { op, .. } | DiskOp::SyncDir { op }) => {
                    self.inputs.push_back((id, Input::DiskDone { op, result: Ok(()) }));
                }
                // What is appended goes nowhere, as no node of this test boots again.
                Effect::Disk(_) | Effect::Report(_) => {}
                Effect::Reply { response, .. } => match response.outcome {
                    Outcome::Committed { .. } => self.committed += 1,
                    Outcome::Aborted { .. } => self.aborted += 1,
                    Outcome::Unknown => panic!("no outcome is unknown without faults"),
                },
                Effect::Halt(reason) => panic!("no disk has failed, but {reason}"),
            }
        }
        self.out.clear();
    }

    /// A transaction over all nodes. One in ten violates a bound at one of them.
    fn transact(&mut self, serial: u32) {
        let op = |node: u16| {
            let is_refused =
                serial.is_multiple_of(10) && u32::from(node) == serial / 10 % u32::from(NODES);
            let name = if is_refused { "empty".to_owned() } else { format!("k{}", serial % KEYS) };
            let action = if is_refused {
                Action::Add { by: -1, at_least: 0 }
            } else {
                Action::Put(serial.into())
            };
            Op { node: NodeId(node), key: Key::new(&name).expect("a short name"), action }
        };
        let ops: Arc<[Op]> = (0..NODES).map(op).collect();
        let id = RequestId { client: 1, serial, attempt: 0 };
        let coordinator = NodeId((serial % u32::from(NODES)) as u16);
        let node = &self.nodes[usize::from(coordinator.0)];
        let incarnation = node.incarnation().expect("its boot is durable");
        let request = Request::Transact {
            addressed: Position { incarnation, serial: 0 },
            began_at: None,
            seen: RequestNumber { serial, attempt: 0 },
            ops,
        };
        // Time moves between transactions only. Wakes are not simulated here.
        self.now = Time(self.now.0 + 10_000);
        self.inputs.push_back((coordinator, Input::Request { id, request }));
        self.run();
    }
}

#[test]
fn warm_step_allocates_less_than_once_in_ten_steps() {
    // More than one round of 16 keys for each of four coordinators.
    const WARM: u32 = 100;
    const COUNTED: u32 = 400;
    let mut cluster = Cluster::boot();
    (1..=WARM).for_each(|serial| cluster.transact(serial));
    cluster.counts.clear();
    cluster.committed = 0;
    cluster.aborted = 0;
    (WARM + 1..=WARM + COUNTED).for_each(|serial| cluster.transact(serial));
    assert_eq!((cluster.committed, cluster.aborted), (COUNTED * 9 / 10, COUNTED / 10));

    let created = cluster.counts.remove("Transact").expect("transactions were created");
    // The step that creates a transaction must allocate, so a zero would mean that nothing is
    // counted.
    assert!(created.allocations > 0, "the counter works: {created:?}");
    let steps: u64 = cluster.counts.values().map(|count| count.steps).sum();
    let allocations: u64 = cluster.counts.values().map(|count| count.allocations).sum();
    println!(
        "{allocations} allocations in {steps} steps; {created:?} created; {:?}",
        cluster.counts
    );
    // Otherwise a cluster that does nothing would pass.
    assert!(steps > 15 * u64::from(COUNTED), "only {steps} steps");
    assert!(
        allocations * 10 < steps,
        "{allocations} allocations in {steps} steps: {:?}",
        cluster.counts
    );
}
