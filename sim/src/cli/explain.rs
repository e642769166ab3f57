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
    let mut text = String::new();
    for (at, fault) in schedule.faults.iter().enumerate() {
        let mut without = schedule.clone();
        // One fault at a time: two that are needed only together are each reported as needed.
        without.faults.remove(at);
        let verdict = match replayer.replay(&without).0.violation {
            None => "needed: without it all properties hold".to_string(),
            Some(violation) if violation.property == property => {
                "not needed on its own: without it the same property is violated".to_string()
            }
            Some(violation) => {
                format!("needed: without it {} is violated instead", violation.property)
            }
        };
        text += &format!("  {fault}\n      {verdict}\n");
    }
    text
}
