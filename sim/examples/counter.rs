//! A durable counter: a node, a property, a simulation. `Counter<true>` omits a `SyncDir`, and the
//! simulation finds that: `cargo run --release -p stormglass-sim --example counter -- broken`.

use std::collections::BTreeMap;
use std::fmt;
use stormglass_node::{
    About, Boot, BootError, DiskOp, Effect, FileId, HaltReason, Input, Node, NodeId,
};
use stormglass_node::{OpId, Outbox, RequestId, Time};
use stormglass_sim::property::{Fact, Observation, Property, PropertyResult};
use stormglass_sim::simulation::Simulation;

/// Counts one request at a time (clients resend unanswered ones). The value is durable before the
/// reply, in a file whose name is durable too.
#[derive(Debug)]
struct Counter<const SKIPS_SYNC_DIR: bool> {
    file: FileId,
    value: u64,
    barriers_under_way: u8,
    pending_add: Option<RequestId>,
}

impl<const F: bool> Counter<F> {
    fn write(&mut self, out: &mut Outbox<Self>) {
        let about = About { kind: "Value", subject: None };
        // With the inverse of the value behind it, a torn record is recognised without a checksum.
        out.append(
            self.file,
            about,
            &[self.value.to_le_bytes(), (!self.value).to_le_bytes()].concat(),
        );
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        if !F {
            out.disk(DiskOp::SyncDir { op: OpId(1) });
        }
        // The reply waits for as many completions as there are barriers.
        self.barriers_under_way = if F { 1 } else { 2 };
    }
}

/// The greatest value whose record is intact: 8 bytes, and the same 8 inverted.
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

impl<const F: bool> Node for Counter<F> {
    type Config = ();
    type Message = ();
    type Request = ();
    type Response = u64;
    type Event = ();

    // Values that were read back may not be durable: they are written again, to a new file.
    fn boot((): &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let mut next = 0;
        let mut value = 0;
        for (file, bytes) in boot.contents()? {
            value = value.max(max_intact_value(bytes));
            // A new file, so that nothing is appended behind what may be torn.
            next = if let FileId::Wal(k) = file { k + 1 } else { next };
        }
        let mut node =
            Counter { file: FileId::Wal(next), value, barriers_under_way: 0, pending_add: None };
        node.write(out);
        Ok(node)
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.barriers_under_way == 0 => {
                self.pending_add = Some(id);
                self.value += 1;
                self.write(out);
            }
            // No later sync would write what this one has lost, so the node ends.
            Input::DiskDone { result: Err(error), .. } => out.halt(HaltReason::DiskFailed(error)),
            Input::DiskDone { .. } => self.barriers_under_way -= 1,
            Input::Request { .. }
            | Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::Wake => {}
        }
        if self.barriers_under_way == 0 {
            self.pending_add.take().into_iter().for_each(|id| out.reply(id, self.value));
        }
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "{self:#?}")
    }
}

/// A client that received a number from a node never receives the same or a smaller one from it.
#[derive(Clone, Default)]
struct NoLostAdd(BTreeMap<NodeId, u64>);

impl<const F: bool> Property<Counter<F>> for NoLostAdd {
    const NAME: &'static str = "NoLostAdd";
    fn on(&mut self, observation: &Observation<'_, Counter<F>>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { response, .. }, _) = observation.fact else {
            return Ok(());
        };
        let before = self.0.insert(observation.node, *response).unwrap_or(0);
        if *response > before {
            Ok(())
        } else {
            Err(format!("{} replied {before}, then {response}", observation.node))
        }
    }
}

fn check<const F: bool>() {
    let simulation = Simulation::<Counter<F>>::new(()).requests(20, |rng| (rng.node(), ()));
    simulation.property(NoLostAdd::default()).check();
}

fn main() {
    if std::env::args().any(|argument| argument == "broken") {
        check::<true>();
    } else {
        check::<false>();
    }
}

#[test]
#[should_panic = "Counter<true> violates NoLostAdd"]
fn no_add_is_lost_unless_sync_dir_is_skipped() {
    check::<false>();
    check::<true>();
}
