//! Lists of faults for proptest: which there are, and what they find.

use proptest::test_runner::{TestError, TestRunner};
use stormglass_node::{
    About, Boot, BootError, DiskOp, Effect, FileId, Input, Micros, Node, NodeId, OpId, Outbox,
    ReadDisk, RequestId, Time,
};

use super::{AllIsWell, NobodyWaits, copiers, couriers, panic_message};
use crate::fault::{Fault, FaultKind, FaultKinds, TimedFault};
use crate::profile::Profile;
use crate::property::{
    Checker, Fact, FaultFact, Observation, ProcessFact, Property, PropertyResult,
};
use crate::simulation::{Simulation, proptest_config};

/// The smallest failing list that proptest finds in so many cases, and the message about it.
fn smallest<N, C>(simulation: &Simulation<N, C>, cases: u32) -> (Vec<Fault>, String)
where
    N: Node,
    N::Request: Send + Sync,
    C: Checker<N> + Sync,
{
    // Nothing is saved, since these failures are intended. The same cases in every run: which are
    // found is no matter of luck.
    let config = proptest::test_runner::Config {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..proptest_config(cases, "")
    };
    let outcome = TestRunner::new(config)
        .run(&simulation.faults(), |faults| simulation.check_faults(&faults));
    match outcome {
        Err(TestError::Fail(reason, faults)) => (faults, reason.message().to_string()),
        other => panic!("not found in {cases} cases: {other:?}"),
    }
}

/// Violated by the first fault of one kind.
#[derive(Clone)]
struct NeverHappens(FaultKind);

impl<N: Node> Property<N> for NeverHappens {
    const NAME: &'static str = "NeverHappens";
    fn on(&mut self, observation: &Observation<'_, N>) -> PropertyResult {
        let kind = match observation.fact {
            Fact::Fault(FaultFact::Message { fault, .. }) => FaultKind::of_message(*fault),
            Fact::Fault(FaultFact::Barrier(fault)) => FaultKind::of_barrier(*fault),
            Fact::Fault(FaultFact::Write(_)) => FaultKind::FailedWrite,
            Fact::Fault(FaultFact::Timed(fault)) => FaultKind::of_timed(fault),
            Fact::Process(ProcessFact::Killed(_)) => FaultKind::Kill,
            Fact::Process(ProcessFact::PowerCut(_)) => FaultKind::PowerCut,
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Lost { .. }
            | Fact::Client(_)
            | Fact::Run(_) => return Ok(()),
        };
        if kind == self.0 { Err("it happens".to_string()) } else { Ok(()) }
    }
}

/// Every family is drawn, at coordinates that the run reaches, and shrinks to one fault.
#[test]
fn every_kind_of_fault_happens_and_shrinks_to_one() {
    for kind in [
        FaultKind::MessageDelay,
        FaultKind::MessageLoss,
        FaultKind::MessageDuplication,
        FaultKind::Clog,
        FaultKind::Partition,
        FaultKind::Kill,
        FaultKind::PowerCut,
        FaultKind::Pause,
        FaultKind::ClockJump,
        FaultKind::EarlyWake,
        FaultKind::FailedSync,
        FaultKind::FailedWrite,
        FaultKind::SlowDisk,
    ] {
        let simulation = || copiers().nodes(3).property(NeverHappens(kind));
        // 8 faults a case, of 13 kinds and some more.
        let (faults, message) = smallest(&simulation(), 256);
        assert!(message.contains("violates NeverHappens"), "{message}");
        assert_eq!(faults.len(), 1, "{kind:?}: {faults:?}");
        assert!(FaultKind::of(&faults[0]).eq([kind]), "{kind:?}: {faults:?}");
        // And not, if it is excluded.
        let excluded = simulation().without(kind);
        let mut runner = TestRunner::deterministic();
        runner
            .run(&excluded.faults(), |faults| {
                assert!(faults.iter().flat_map(FaultKind::of).all(|drawn| drawn != kind));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn faults_that_the_profile_does_not_draw_are_not_drawn() {
    let simulation = couriers().profile(Profile::Skewed).property(AllIsWell);
    TestRunner::deterministic()
        .run(&simulation.faults(), |faults| {
            let mut kinds = faults.iter().flat_map(FaultKind::of);
            assert!(kinds.all(|kind| FaultKinds::CLOCKS.contains(kind)), "{faults:?}");
            Ok(())
        })
        .expect("all are faults of clocks");
    let calm = couriers().profile(Profile::Calm).property(AllIsWell);
    let message = panic_message(|| drop(calm.faults()));
    assert!(message.contains("there is no fault to draw"), "{message}");
}

/// How long each node holds the lease, in turn.
const SLOT: Micros = Micros::from_millis(100);

/// A lease by the clock: n0 holds it in the first slot of time, n1 in the second, and so on. Its
/// holder answers a request after 5 ms, if enough of the slot is left.
#[derive(Clone, Debug)]
struct Lease {
    id: NodeId,
    nodes: u16,
    granted: Option<(RequestId, Time)>,
}

/// Who holds the lease at a time, and how much of its slot is left.
fn holder(now: Micros, nodes: u16) -> (NodeId, Micros) {
    let slot = now.0 / SLOT.0;
    let holder = NodeId((slot % u64::from(nodes)) as u16);
    (holder, Micros((slot + 1) * SLOT.0 - now.0))
}

impl Node for Lease {
    type Config = u16;
    type Message = ();
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(nodes: &u16, boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(Lease { id: boot.id, nodes: *nodes, granted: None })
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.granted.is_none() => {
                let (holder, left) = holder(Micros(now.0), self.nodes);
                if holder == self.id && left > Micros::from_millis(20) {
                    self.granted = Some((id, now + Micros::from_millis(5)));
                }
            }
            Input::Wake => {
                // The bug: it does not look at the time again.
                if let Some((id, _)) = self.granted.take() {
                    out.reply(id, ());
                }
            }
            Input::Request { .. }
            | Input::Message { .. }
            | Input::DiskDone { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.granted.map(|(_, at)| at)
    }
}

/// Only the holder answers.
#[derive(Clone)]
struct OnlyTheHolderAnswers(u16);

impl Property<Lease> for OnlyTheHolderAnswers {
    const NAME: &'static str = "OnlyTheHolderAnswers";
    fn on(&mut self, observation: &Observation<'_, Lease>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { .. }, _) = observation.fact else { return Ok(()) };
        let (holder, _) = holder(observation.at, self.0);
        if holder == observation.node {
            return Ok(());
        }
        Err(format!("{} answers in the slot of {holder}", observation.node))
    }
}

#[test]
fn a_lease_by_the_clock_breaks_under_jumps_skews_and_pauses() {
    let simulation = || {
        Simulation::<Lease>::new(3)
            .nodes(3)
            .requests(20, |rng| (rng.node(), ()))
            .property(OnlyTheHolderAnswers(3))
    };
    for kind in
        [FaultKind::ClockJump, FaultKind::ClockOffset, FaultKind::ClockDrift, FaultKind::Pause]
    {
        let (faults, message) = smallest(&simulation().only(kind), 256);
        assert!(message.contains("violates OnlyTheHolderAnswers"), "{message}");
        assert_eq!(faults.len(), 1, "{kind:?}: {faults:?}");
    }
    // All kinds at once, as a user draws them.
    let (faults, _) = smallest(&simulation(), 256);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let others = FaultKinds::NETWORK.with(FaultKinds::CRASHES).with(FaultKinds::DISK);
    let mut runner = TestRunner::deterministic();
    let sound = simulation().only(others);
    runner.run(&sound.faults(), |faults| sound.check_faults(&faults)).expect("clocks are right");
}

/// A courier waits for ever once a message is lost, as a partition loses it.
#[test]
fn a_courier_breaks_under_a_partition() {
    let simulation =
        couriers().nodes(3).only(FaultKind::Partition).property(NobodyWaits::default());
    let (faults, message) = smallest(&simulation, 256);
    assert!(message.contains("violates NobodyWaits"), "{message}");
    assert_eq!(faults.len(), 1, "one way is enough: {faults:?}");
}

/// Answers once its barrier has completed, whether or not it has failed; or, if it is impatient,
/// after 300 ms at the latest.
#[derive(Clone, Debug)]
struct Careless {
    file: FileId,
    barriers: u32,
    waiting: Option<(RequestId, Time)>,
    patience: Option<Micros>,
}

impl Careless {
    fn write(&mut self, bytes: &[u8], out: &mut Outbox<Self>) {
        out.append(self.file, About { kind: "Number", subject: None }, bytes);
        out.disk(DiskOp::Sync { op: OpId(0), file: self.file });
        out.disk(DiskOp::SyncDir { op: OpId(1) });
        self.barriers = 2;
    }

    fn answer(&mut self, out: &mut Outbox<Self>) {
        if let Some((id, _)) = self.waiting.take() {
            out.reply(id, ());
        }
    }
}

impl Node for Careless {
    /// How long it waits for its disk.
    type Config = Option<Micros>;
    type Message = ();
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(
        patience: &Option<Micros>,
        boot: Boot<'_>,
        out: &mut Outbox<Self>,
    ) -> Result<Self, BootError> {
        let files = boot.contents()?;
        let all = files.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
        let file = match files.last() {
            Some((FileId::Wal(number), _)) => FileId::Wal(number + 1),
            _ => FileId::Wal(0),
        };
        let mut node = Careless { file, barriers: 0, waiting: None, patience: *patience };
        node.write(&vec![1; all], out);
        Ok(node)
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } if self.barriers == 0 => {
                self.waiting = Some((id, now + self.patience.unwrap_or(Micros::MAX / 2)));
                self.write(&[1], out);
            }
            Input::DiskDone { .. } => {
                self.barriers -= 1;
                if self.barriers == 0 {
                    self.answer(out);
                }
            }
            Input::Wake => self.answer(out),
            Input::Request { .. }
            | Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.patience.and(self.waiting.map(|(_, at)| at))
    }
}

/// There is a durable byte for each answer.
#[derive(Clone, Default)]
struct AnswersAreDurable(std::collections::BTreeMap<NodeId, usize>);

impl Property<Careless> for AnswersAreDurable {
    const NAME: &'static str = "AnswersAreDurable";
    fn on(&mut self, observation: &Observation<'_, Careless>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { .. }, _) = observation.fact else { return Ok(()) };
        let answers = self.0.entry(observation.node).or_default();
        *answers += 1;
        let disk = observation.disk.durable();
        let contents = disk.files().into_iter().filter_map(|file| disk.read(file).ok().flatten());
        let durable = contents.map(<[u8]>::len).max().unwrap_or(0);
        if durable >= *answers {
            return Ok(());
        }
        Err(format!(
            "{} has answered {answers} requests, and {durable} are durable",
            observation.node
        ))
    }
}

#[test]
fn a_node_that_ignores_its_disk_breaks_under_failed_writes_and_hangs() {
    let careless = |patience| {
        Simulation::<Careless>::new(patience)
            .nodes(1)
            .requests(10, |rng| (rng.node(), ()))
            .property(AnswersAreDurable::default())
    };
    let patience = Some(Micros::from_millis(300));
    for (patience, kind) in [
        (None, FaultKind::FailedWrite),
        (None, FaultKind::FailedSync),
        (patience, FaultKind::SlowDisk),
    ] {
        let (faults, message) = smallest(&careless(patience).only(kind), 256);
        assert!(message.contains("violates AnswersAreDurable"), "{message}");
        assert_eq!(faults.len(), 1, "{kind:?}: {faults:?}");
    }
}

#[test]
fn durations_shrink() {
    let simulation = couriers().nodes(3).property(NeverHappens(FaultKind::Pause));
    let (faults, _) = smallest(&simulation, 256);
    let Fault::At(_, TimedFault::Pause { node, duration }) = &faults[0] else {
        panic!("a pause: {faults:?}")
    };
    assert_eq!((*node, *duration), (NodeId(0), Micros::from_millis(1)));
}
