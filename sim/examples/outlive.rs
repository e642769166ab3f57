//! How many behaviour-preserving changes to the commit node a schedule outlives, and how many the seed that it came from:
//!
//! `cargo run --release --example outlive -- FILE SEED`
//!
//! Useful where the node has a bug that the schedule shows; `sim/bugs/bite` plants one after another.

use std::path::Path;
use std::process::ExitCode;

use stormglass_sim::commit::Commit;
use stormglass_sim::commit::edits::outlived;
use stormglass_sim::protocol::Of;
use stormglass_sim::regress::read;
use stormglass_sim::schedule::Claim;

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
    let schedules = all.iter().filter(|(_, by_schedule, _)| *by_schedule).count();
    let seeds = all.iter().filter(|(.., by_seed)| *by_seed).count();
    let lost: Vec<String> =
        all.iter().filter(|(_, kept, _)| !kept).map(|(edit, ..)| edit.to_string()).collect();
    let lost = if lost.is_empty() { String::new() } else { format!(" (not: {})", lost.join(", ")) };
    Ok(format!("{schedules} {seeds} {}{lost}", all.len()))
}
