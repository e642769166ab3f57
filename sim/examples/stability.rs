//! How many behaviour-preserving changes of the commit node a schedule survives, and how many the
//! seed that it came from:
//!
//! `cargo run --release --example stability -- FILE SEED`
//!
//! Six numbers: changes after which the schedule still violates its property, and about the same
//! request; the same two for the seed; how many of the first 1,000 seeds violate that property
//! without any change; the number of changes. Then the changes that the schedule does not survive.
//! Useful for a mutant that the schedule shows; `sim/mutants/run` does this for each with
//! `STABILITY=1`.

use std::path::Path;
use std::process::ExitCode;

use stormglass_sim::commit::Commit;
use stormglass_sim::commit::edits::{EditResult, Reproduction, try_edits};
use stormglass_sim::hunt::{HuntOptions, Progress, hunt_in};
use stormglass_sim::profile::Setup;
use stormglass_sim::protocol::Of;
use stormglass_sim::regress::read;
use stormglass_sim::schedule::Expectation;

/// Seeds that show how easily a property is violated.
const SEEDS: u64 = 1_000;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    match measure(&args) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &[String]) -> Result<String, String> {
    let [file, seed] = args else {
        return Err("expected a schedule (`.schedule`) and a seed".to_string());
    };
    let seed = seed.parse().map_err(|_| format!("expected a seed (a number), found `{seed}`"))?;
    let schedule = read(&Of::<Commit>::new(), Path::new(file))?;
    let (Expectation::NoViolation(Some(property)) | Expectation::Violation(property)) =
        &schedule.expectation
    else {
        return Err(format!("{file} names no property"));
    };
    let all = try_edits(Of::<Commit>::new(), &schedule, seed, property);
    let count = |reproduction: &dyn Fn(&EditResult) -> bool| {
        all.iter().filter(|edit_result| reproduction(edit_result)).count()
    };
    let schedules = count(&|edit_result| edit_result.schedule.reproduces());
    let seeds = count(&|edit_result| edit_result.seed.reproduces());
    let same_seeds = count(&|edit_result| edit_result.seed == Reproduction::SameRequest);
    let same_schedules = count(&|edit_result| edit_result.schedule == Reproduction::SameRequest);
    let lost = all.iter().filter(|edit_result| !edit_result.schedule.reproduces());
    let lost: Vec<String> = lost.map(|edit_result| edit_result.edit.to_string()).collect();
    let lost = if lost.is_empty() {
        String::new()
    } else {
        format!(" (not reproduced under: {})", lost.join(", "))
    };
    let any = any_seed(property);
    Ok(format!("{schedules} {same_schedules} {seeds} {same_seeds} {any} {}{lost}", all.len()))
}

/// How many of the first seeds violate this property: where many do, it says nothing about one seed
/// that it still does.
fn any_seed(property: &str) -> usize {
    let options =
        HuntOptions { setup: Setup::default(), seeds: 0..SEEDS, jobs: 1, keep_going: true };
    let report = hunt_in(&Of::<Commit>::new(), &options, &Progress::default());
    report.failures.iter().filter(|(_, violation)| violation.property == property).count()
}
