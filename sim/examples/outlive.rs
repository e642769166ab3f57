//! How many behaviour-preserving changes to the commit node a schedule outlives, and how many the seed that it came from:
//!
//! `cargo run --release --example outlive -- FILE SEED`
//!
//! Six numbers: changes after which the schedule still breaks its claim, and about the same request; the same two for the
//! seed; of the first 1,000 seeds, how many break that claim without any change; how many changes there are. Then the
//! changes that the schedule does not outlive. Useful where the node has a bug that the schedule shows; `sim/bugs/bite` plants one after another.

use std::path::Path;
use std::process::ExitCode;

use stormglass_sim::commit::Commit;
use stormglass_sim::commit::edits::{Outlived, Shown, outlived};
use stormglass_sim::hunt::{Progress, Quarry, hunt_in};
use stormglass_sim::profile::Setup;
use stormglass_sim::protocol::Of;
use stormglass_sim::regress::read;
use stormglass_sim::schedule::Claim;

/// Seeds that say how easily a claim breaks.
const SEEDS: u64 = 1_000;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    match measure(&args) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &[String]) -> Result<String, String> {
    let [file, seed] = args else { return Err("expected a schedule (`.storm`) and a seed".to_string()) };
    let seed = seed.parse().map_err(|_| format!("expected a seed (a number), found `{seed}`"))?;
    let schedule = read(&Of::<Commit>::new(), Path::new(file))?;
    let (Claim::Holds(Some(claim)) | Claim::Breaks(claim)) = &schedule.claim else {
        return Err(format!("{file} does not say which claim it is about"));
    };
    let all = outlived(Of::<Commit>::new(), &schedule, seed, claim);
    let count = |shown: &dyn Fn(&Outlived) -> bool| all.iter().filter(|outlived| shown(outlived)).count();
    let schedules = count(&|outlived| outlived.schedule.breaks());
    let seeds = count(&|outlived| outlived.seed.breaks());
    let same_seeds = count(&|outlived| outlived.seed == Shown::TheStory);
    let same_schedules = count(&|outlived| outlived.schedule == Shown::TheStory);
    let lost = all.iter().filter(|outlived| !outlived.schedule.breaks());
    let lost: Vec<String> = lost.map(|outlived| outlived.edit.to_string()).collect();
    let lost = if lost.is_empty() { String::new() } else { format!(" (not: {})", lost.join(", ")) };
    let any = any_seed(claim);
    Ok(format!("{schedules} {same_schedules} {seeds} {same_seeds} {any} {}{lost}", all.len()))
}

/// How many of the first seeds break this claim: where many do, that a seed still does says nothing about the seed.
fn any_seed(claim: &str) -> usize {
    let quarry = Quarry { setup: Setup::default(), seeds: 0..SEEDS, jobs: 1, keep_going: true };
    let catch = hunt_in(&Of::<Commit>::new(), &quarry, &Progress::default());
    catch.failures.iter().filter(|(_, broken)| broken.claim == claim).count()
}
