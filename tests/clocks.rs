//! Clocks, with a node that only reads its own: C1 to C4.

use serde::{Deserialize, Serialize};
use stormglass_node::{Boot, BootError, Effect, Input, Label, Micros, Node, NodeId, Outbox, Time};
use stormglass_sim::Ppm;
use stormglass_sim::chooser::Scripted;
use stormglass_sim::fault::{Fault, Skew, TimedFault};
use stormglass_sim::plan::Plan;
use stormglass_sim::property::{Checker, Fact, Observation, Violation};
use stormglass_sim::tally::{Rule, Tally};
use stormglass_sim::workload::RetryingClients;
use stormglass_sim::world::World;

use crate::rig::plan;

/// How often it reads its clock, by that clock.
const READ_INTERVAL: Micros = Micros::from_millis(100);

/// The time of a clock.
#[derive(Clone, Copy, Debug, Label, Serialize, Deserialize)]
struct ClockReading(#[label(subject)] u64);

/// Reports its clock at boot and at every step. The field is the next deadline.
#[derive(Clone, Debug)]
struct ClockNode(Time);

impl Node for ClockNode {
    type Config = ();
    type Message = ClockReading;
    type Request = ClockReading;
    type Response = ClockReading;
    type Event = ClockReading;

    fn boot((): &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        out.report(ClockReading(boot.now.0));
        Ok(ClockNode(boot.now + READ_INTERVAL))
    }

    fn step(&mut self, now: Time, _input: Input<Self>, out: &mut Outbox<Self>) {
        out.report(ClockReading(now.0));
        self.0 = now + READ_INTERVAL;
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.0)
    }
}

/// The times that n0's clock showed, with the true times.
#[derive(Clone, Debug, Default)]
struct ClockReadings(Vec<(u64, u64)>);

impl Checker<ClockNode> for ClockReadings {
    fn check(&mut self, observation: &Observation<'_, ClockNode>) -> Result<(), Violation> {
        if let Fact::Effect(Effect::Report(ClockReading(shown)), _) = observation.fact
            && observation.node == NodeId(0)
        {
            self.0.push((observation.at.0, *shown));
        }
        Ok(())
    }
}

fn readings(faults: &[Fault]) -> (Vec<(u64, u64)>, Tally) {
    // This node has nothing to recover, so its run may end with the fault phase.
    let plan = Plan { recovery_timeout: Micros(1), ..plan(2) };
    // No requests: these nodes do nothing but read their clocks.
    let clients = RetryingClients::new(Vec::new(), Micros(1));
    let checker = ClockReadings::default();
    let mut world: World<ClockNode, _, _, _> =
        World::new(vec![(); 2], plan, clients, checker, Scripted::new(faults));
    let tally = world.run().tally;
    (world.checker().0.clone(), tally)
}

fn skewed(offset: Micros, drift: Ppm) -> Fault {
    Fault::Skew { node: NodeId(0), incarnation: 1, skew: Skew { offset, drift } }
}

#[test]
fn clock_without_faults_shows_true_time() {
    let (readings, tally) = readings(&[]);
    assert_eq!(readings[..3], [(0, 0), (100_000, 100_000), (200_000, 200_000)]);
    assert_eq!(
        (tally.hits(Rule::ClockOffset), tally.hits(Rule::ClockDrift), tally.hits(Rule::ClockJump)),
        (0, 0, 0)
    );
}

#[test]
fn c1_clock_offset_does_not_change_the_intervals_between_deadlines() {
    let (readings, tally) = readings(&[skewed(Micros::from_secs(7), Ppm::ZERO)]);
    assert_eq!(readings[..3], [(0, 7_000_000), (100_000, 7_100_000), (200_000, 7_200_000)]);
    assert_eq!(tally.hits(Rule::ClockOffset), 1);
}

#[test]
fn c2_drifting_clock_reaches_its_deadlines_early_or_late() {
    // A clock that is a tenth too fast shows 100,000 us after 100,000 / 1.1.
    for (drift, expected_us) in [(100_000, 90_909), (-100_000, 111_111)] {
        let drift = Ppm::new(drift).expect("a tenth");
        let (readings, tally) = readings(&[skewed(Micros::ZERO, drift)]);
        let (at, shown) = readings[1];
        assert!(
            // Rounding of a clock's time to true time and back.
            at.abs_diff(expected_us) <= 3 && shown.abs_diff(100_000) <= 3,
            "{drift}: {readings:?}"
        );
        assert_eq!(tally.hits(Rule::ClockDrift), 1);
    }
}

#[test]
fn c3_clock_jump_moves_the_clock_forward_only() {
    let jump =
        |at| Fault::At(at, TimedFault::ClockJump { node: NodeId(0), by: Micros::from_millis(60) });
    let (readings, tally) = readings(&[jump(Micros::from_millis(150))]);
    assert_eq!(
        // The jump at 150 ms passes the deadline of 200 ms, so the node is woken at once.
        readings[1..4],
        [(100_000, 100_000), (150_000, 210_000), (250_000, 310_000)],
        "the jump triggers a wake"
    );
    assert!(readings.is_sorted_by_key(|reading| reading.1));
    assert_eq!(tally.hits(Rule::ClockJump), 1);
}

#[test]
fn c4_early_wake_is_handled_and_the_deadline_still_comes() {
    let wake =
        |node, ms| Fault::At(Micros::from_millis(ms), TimedFault::Wake { node: NodeId(node) });
    // This node moves its deadline at every step, so the next one is 100 ms after the early wake.
    let (readings, tally) = readings(&[wake(0, 150), wake(1, 220)]);
    assert_eq!(
        readings[1..4],
        [(100_000, 100_000), (150_000, 150_000), (250_000, 250_000)],
        "only the wakes of n0 are read"
    );
    assert_eq!(tally.hits(Rule::EarlyWake), 2);
}

#[test]
fn c4_wake_at_the_deadline_or_of_a_paused_node_is_not_early() {
    let wake = |ms| Fault::At(Micros::from_millis(ms), TimedFault::Wake { node: NodeId(0) });
    let pause = TimedFault::Pause { node: NodeId(0), duration: Micros::from_millis(40) };
    let at_deadline = wake(100);
    let in_pause = [Fault::At(Micros::from_millis(210), pause), wake(220)];
    for faults in [&[at_deadline][..], &in_pause] {
        let (readings, tally) = readings(faults);
        assert_eq!(
            readings[1..4].iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [100_000, 200_000, 300_000]
        );
        assert_eq!(tally.hits(Rule::EarlyWake), 0);
    }
}
