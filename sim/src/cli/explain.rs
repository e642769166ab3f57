use super::Exit;
use super::args::Replay;
use super::say::{self, say};
use super::source::{self, Source};
use crate::play::{Player, record, stage};
use crate::protocol::Scene;
use crate::schedule::{Claim, Schedule};
use crate::why::Why;

/// Prints only what the verdict hangs on: the causal past of what broke, as far as it concerns the same request, and of
/// each fault whether the claim holds without it.
pub(super) fn run<S: Scene>(scene: &S, args: &Replay) -> Result<Exit, Exit> {
    let schedule = match source::of(scene, &args.what)? {
        Source::Seed(seed) => record(scene, &args.storm.setup(), seed).1,
        Source::File(schedule) => *schedule,
    };
    let mut glass = stage(scene, &schedule, Why::default());
    let Some(broken) = glass.run().broken else {
        say!("{}: no claim breaks, there is nothing to explain", args.what);
        let Claim::Breaks(claim) = &schedule.claim else { return Ok(Exit::Clean) };
        say!("the schedule says that it breaks {claim}");
        return Ok(Exit::Other);
    };
    let why = &glass.judge().0;
    let about = why.about().map_or("no request in particular".to_string(), |id| id.to_string());
    let mut text = format!("what led to it, about {about} ({} of {} facts)\n", why.told().len(), why.count());
    why.told().iter().for_each(|line| text += &format!("{line}\n"));
    text += &format!("BROKEN {broken}\n\nwhich faults it needs\n");
    text += &needs(scene, &schedule, broken.claim);
    say::text(format_args!("{text}"));
    Ok(Exit::of(&broken))
}

/// Each fault, and what happens without it.
fn needs<S: Scene>(scene: &S, schedule: &Schedule<S::Order>, claim: &str) -> String {
    if schedule.faults.is_empty() {
        return "  none: it breaks in fair weather\n".to_string();
    }
    let mut player = Player::new(scene);
    let mut text = String::new();
    for (at, fault) in schedule.faults.iter().enumerate() {
        let mut without = schedule.clone();
        without.faults.remove(at);
        let verdict = match player.play(&without).0.broken {
            None => "needed: without it all claims hold".to_string(),
            Some(broken) if broken.claim == claim => {
                "not needed alone: without it the same claim breaks".to_string()
            }
            Some(broken) => format!("needed: without it {} breaks instead", broken.claim),
        };
        text += &format!("  {fault}\n      {verdict}\n");
    }
    text
}
