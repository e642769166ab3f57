//! `replay --explain`: the causes of a violation.

use super::Exit;
use super::args::Replay;
use super::say::{self, say};
use super::source::{self, Source};
use crate::causality::CausalTrace;
use crate::protocol::Protocol;
use crate::replay::{Replayer, record, replay_world};
use crate::schedule::{Expectation, Schedule};

/// Prints only the causes of a violation, and for each fault whether the property holds without
/// it.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Replay) -> Result<Exit, Exit> {
    let schedule = match source::of(protocol, &args.target)? {
        Source::Seed(seed) => record(protocol, &args.run_args.setup(protocol), seed).1,
        Source::File(schedule) => *schedule,
    };
    let mut world = replay_world(protocol, &schedule, CausalTrace::default());
    let outcome = world.run();
    let Some(violation) = outcome.violation else {
        say!("{}: no property is violated: there is nothing to explain", args.target);
        if let Some(until) = outcome.judged_until {
            say!("but the run is judged only until {until}");
        }
        let Expectation::Violation(property) = &schedule.expectation else {
            return Ok(Exit::Clean);
        };
        say!("the schedule expects a violation of {property}");
        return Ok(Exit::Other);
    };
    let explanation = world.checker().0.explain(&violation.reason);
    let mut text = explanation.to_string();
    text += &format!("VIOLATED {violation}\n\nfaults needed\n");
    text += &faults_needed(protocol, &schedule, violation.property);
    say::text(format_args!("{text}"));
    Ok(Exit::of(&violation))
}

/// Each fault, and the result of the run without it.
fn faults_needed<P: Protocol>(
    protocol: &P,
    schedule: &Schedule<P::Request>,
    property: &str,
) -> String {
    if schedule.faults.is_empty() {
        return "  none: the property is violated without faults\n".to_string();
    }
    let mut replayer = Replayer::new(protocol);
    let mut needed = String::new();
    let mut others = String::new();
    for (at, fault) in schedule.faults.iter().enumerate() {
        let mut without = schedule.clone();
        // One fault at a time: two that are needed only together are each reported as needed.
        without.faults.remove(at);
        match replayer.replay(&without).0.violation {
            None => needed += &format!("  {fault}\n      without it all properties hold\n"),
            Some(violation) if violation.property == property => {
                others += &format!("  {fault}\n");
            }
            Some(violation) => {
                let instead = violation.property;
                needed += &format!("  {fault}\n      without it {instead} is violated instead\n");
            }
        }
    }
    if needed.is_empty() {
        needed += "  none on its own: without any one of them the same property is violated\n";
    }
    if !others.is_empty() {
        // A seed that was not shrunk has dozens.
        others
            .insert_str(0, "not needed on their own: without one, the same property is violated\n");
    }
    needed + &others
}

#[cfg(test)]
mod tests {
    use stormglass_node::{Boot, BootError, Input, Node, Outbox, Time};

    use super::*;
    use crate::fault::TimedFault;
    use crate::property::{Fact, FaultFact, Observation, Property, PropertyResult};
    use crate::simulation::Simulation;

    struct Idle;

    impl Node for Idle {
        type Config = ();
        type Message = ();
        type Request = ();
        type Response = ();
        type Event = ();

        fn boot((): &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
            Ok(Idle)
        }

        fn step(&mut self, _: Time, _: Input<Self>, _: &mut Outbox<Self>) {}
    }

    #[derive(Clone)]
    struct NoJumps;

    impl Property<Idle> for NoJumps {
        const NAME: &'static str = "NoJumps";

        fn on(&mut self, observation: &Observation<'_, Idle>) -> PropertyResult {
            if let Fact::Fault(FaultFact::Timed(TimedFault::ClockJump { .. })) = observation.fact {
                return Err("a jump".to_string());
            }
            Ok(())
        }
    }

    fn needed(faults: &str) -> String {
        let simulation = Simulation::<Idle>::new(()).requests(0, |rng| (rng.node(), ()));
        let simulation = simulation.property(NoJumps);
        let text = format!("cluster 1 node, 1 client\n{faults}");
        let schedule = Schedule::read(&simulation, &text).expect("a schedule");
        faults_needed(&simulation, &schedule, NoJumps::NAME)
    }

    #[test]
    fn needed_faults_come_first() {
        assert_eq!(
            needed("at 1 ms wake n0\nat 5 ms jump n0 by 1 ms\nat 3 ms wake n0"),
            "  at 5 ms jump n0 by 1 ms\n      without it all properties hold\n\
             not needed on their own: without one, the same property is violated\n\
             \x20 at 1 ms wake n0\n  at 3 ms wake n0\n"
        );
        let twice = needed("at 1 ms jump n0 by 1 ms\nat 5 ms jump n0 by 1 ms");
        assert!(twice.starts_with("  none on its own: without any one of them"), "{twice}");
    }
}
