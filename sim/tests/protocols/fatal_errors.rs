//! Fatal errors of a protocol: a halt after which the node boots again, and files that it refuses
//! for good.

use stormglass_sim::replay::replay_world;
use stormglass_sim::schedule::Schedule;
use stormglass_sim::trace::{Filter, Trace};
use stormglass_sim::world::RunOutcome;
use stormglass_sim::{
    About, Boot, BootError, DiskOp, Effect, Fact, FileId, HaltReason, Input, Node, NodeId,
    Observation, OpId, Outbox, Property, PropertyResult, Simulation, Time,
};

const FILE: FileId = FileId::Wal(0);

/// Its first request makes its protocol fail, once a record of that is durable. Later ones are
/// answered.
struct Failing {
    has_failed: bool,
}

impl Node for Failing {
    /// Whether it refuses the files of an incarnation that has failed.
    type Config = bool;
    type Message = ();
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(refuses: &bool, boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        let has_failed = !boot.contents()?.is_empty();
        if has_failed && *refuses {
            return Err(BootError::Rejected { reason: "it has failed before".to_owned() });
        }
        Ok(Failing { has_failed })
    }

    fn step(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.has_failed => out.reply(id, ()),
            Input::Request { .. } => {
                out.append(FILE, About { kind: "Failure", subject: None }, b"failed");
                out.disk(DiskOp::Sync { op: OpId(0), file: FILE });
            }
            Input::DiskDone { .. } => {
                out.halt(HaltReason::ProtocolFailed("the log has two leaders".to_owned()));
            }
            Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::Wake => {}
        }
    }
}

/// Counts the replies.
#[derive(Clone, Default)]
struct Replies(u64);

impl Property<Failing> for Replies {
    const NAME: &'static str = "Replies";
    fn on(&mut self, observation: &Observation<'_, Failing>) -> PropertyResult {
        self.0 += u64::from(matches!(observation.fact, Fact::Effect(Effect::Reply { .. }, _)));
        Ok(())
    }
}

/// One node, and one client with one request, without faults: the outcome, the replies, the trace.
fn run(refuses: bool) -> (RunOutcome, u64, String) {
    let simulation =
        Simulation::new(refuses).requests(1, |_| (NodeId(0), ())).property(Replies::default());
    let text = "
        cluster    1 node, 1 client
        request    c1.1 to n0: null
    ";
    let schedule = Schedule::read(&simulation, text).expect("a schedule");
    let trace = Trace::new(Filter::default(), false);
    let mut world = replay_world(&simulation, &schedule, trace);
    let outcome = world.run();
    let (trace, (_, replies)) = world.checker();
    (outcome, replies.0.0, trace.text().to_owned())
}

#[test]
fn a_node_whose_protocol_failed_boots_again() {
    let (outcome, replies, text) = run(false);
    assert_eq!(outcome.violation, None);
    assert!(text.contains("HALTED    the protocol failed: the log has two leaders"), "{text}");
    assert_eq!(outcome.tally.boots, 2, "{text}");
    assert!(replies > 0, "{text}");
}

#[test]
fn a_node_whose_protocol_refuses_its_files_stays_down() {
    let (outcome, replies, text) = run(true);
    assert_eq!(outcome.violation, None);
    let refusal = "REFUSED   to start: the protocol refuses these files: it has failed before";
    assert_eq!(text.matches(refusal).count(), 1, "{text}");
    assert_eq!(outcome.tally.boots, 2, "the one that failed and the refused one: {text}");
    assert_eq!(replies, 0, "{text}");
    assert!(text.contains("permanently down: n0"), "{text}");
}
