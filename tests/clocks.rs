//! Clocks, shown by a node that does nothing but look at its own: C1, C2, C3.

use serde::{Deserialize, Serialize};
use stormglass::{Boot, BootError, Effect, Input, Label, Micros, Node, NodeId, Outbox, Subject, Time};
use stormglass_sim::chooser::Scripted;
use stormglass_sim::fault::{Fault, Skew, Weather};
use stormglass_sim::oracle::{Broken, Fact, Judge, Seen};
use stormglass_sim::plan::Plan;
use stormglass_sim::tally::{Rule, Tally};
use stormglass_sim::workload::Repeat;
use stormglass_sim::world::World;

use crate::rig::plan;

/// How often it looks, by its own clock.
const EVERY: Micros = Micros::millis(100);

/// What a clock shows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Shows(u64);

impl Label for Shows {
    fn kind(&self) -> &'static str {
        "Shows"
    }
    fn subject(&self) -> Option<Subject> {
        Some(Subject::Serial(self.0))
    }
}

#[derive(Clone, Debug)]
struct Watcher(Time);

impl Node for Watcher {
    type Config = ();
    type Message = Shows;
    type Request = Shows;
    type Response = Shows;
    type Event = Shows;

    fn boot((): &(), boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        out.report(Shows(boot.now.0));
        Ok(Watcher(boot.now + EVERY))
    }

    fn step(&mut self, now: Time, _input: Input<Self>, out: &mut Outbox<Self>) {
        out.report(Shows(now.0));
        self.0 = now + EVERY;
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.0)
    }
}

/// What n0's clock showed, at which true times.
#[derive(Clone, Debug, Default)]
struct Looks(Vec<(u64, u64)>);

impl Judge<Watcher> for Looks {
    fn judge(&mut self, seen: &Seen<'_, Watcher>) -> Result<(), Broken> {
        if let Fact::Effect(Effect::Report(Shows(shown)), _) = seen.fact
            && seen.node == NodeId(0)
        {
            self.0.push((seen.at_us, *shown));
        }
        Ok(())
    }
}

fn looks(faults: &[Fault]) -> (Vec<(u64, u64)>, Tally) {
    let plan = Plan { patience_us: 1, ..plan(2) };
    let (clients, judge) = (Repeat::new(Vec::new(), 1), Looks::default());
    let mut world: World<Watcher, _, _, _> = World::new((), plan, clients, judge, Scripted::new(faults));
    let tally = world.run().tally;
    (world.judge().0.clone(), tally)
}

fn skewed(offset_us: u64, drift_ppm: i32) -> Fault {
    Fault::Skew { node: NodeId(0), life: 1, skew: Skew { offset_us, drift_ppm } }
}

#[test]
fn a_clock_in_fair_weather_shows_the_time() {
    let (looks, tally) = looks(&[]);
    assert_eq!(looks[..3], [(0, 0), (100_000, 100_000), (200_000, 200_000)]);
    assert_eq!((tally.of(Rule::C1), tally.of(Rule::C2), tally.of(Rule::C3)), (0, 0, 0));
}

#[test]
fn c1_a_clock_is_off_by_an_offset_and_deadlines_keep_their_distance() {
    let (looks, tally) = looks(&[skewed(7_000_000, 0)]);
    assert_eq!(looks[..3], [(0, 7_000_000), (100_000, 7_100_000), (200_000, 7_200_000)]);
    assert_eq!(tally.of(Rule::C1), 1);
}

#[test]
fn c2_a_clock_that_drifts_reaches_its_deadlines_early_or_late() {
    for (drift_ppm, at_us) in [(100_000, 90_909), (-100_000, 111_111)] {
        let (looks, tally) = looks(&[skewed(0, drift_ppm)]);
        let (at, shown) = looks[1];
        assert!(at.abs_diff(at_us) <= 3 && shown.abs_diff(100_000) <= 3, "{drift_ppm}: {looks:?}");
        assert_eq!(tally.of(Rule::C2), 1);
    }
}

#[test]
fn c3_a_clock_jumps_forward_and_never_back() {
    let jump = |at_us| Fault::At(at_us, Weather::Jump { node: NodeId(0), by_us: 60_000 });
    let (looks, tally) = looks(&[jump(150_000)]);
    assert_eq!(
        looks[1..4],
        [(100_000, 100_000), (150_000, 210_000), (250_000, 310_000)],
        "woken by the jump"
    );
    assert!(looks.is_sorted_by_key(|look| look.1));
    assert_eq!(tally.of(Rule::C3), 1);
}
