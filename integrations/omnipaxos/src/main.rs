//! The command line: `sessions` or `datagrams`, then a command of the simulator.
//!
//! `cargo run --release -- sessions hunt --seeds 10000`; a deliberate bug is named after a plus
//! sign: `cargo run --release -- sessions+forgets-promise hunt`.

use std::process::ExitCode;

use stormglass_omnipaxos::Bug;
use stormglass_omnipaxos::simulation::simulation;

const USAGE: &str = "usage: stormglass-omnipaxos sessions|datagrams[+BUG] COMMAND ...";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let variant = arguments.next().unwrap_or_default();
    let (links, bug_name) = match variant.split_once('+') {
        Some((links, name)) => (links, Some(name)),
        None => (variant.as_str(), None),
    };
    let bug = bug_name.and_then(Bug::named);
    if bug.is_none() && bug_name.is_some() {
        return usage();
    }
    let command = format!("{program} {variant}");
    let arguments = std::iter::once(program).chain(arguments);
    match links {
        "sessions" => {
            let simulation = simulation::<true>(bug).command(command);
            stormglass_sim::cli::main_from(&simulation, arguments)
        }
        "datagrams" => {
            let simulation = simulation::<false>(bug).command(command);
            stormglass_sim::cli::main_from(&simulation, arguments)
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}\n\nbugs:");
    for (_, name, description) in Bug::ALL {
        eprintln!("  {name:24}{description}");
    }
    ExitCode::from(2)
}
