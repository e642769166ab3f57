//! The command line: `hunt`, `replay`, `shrink`, `diff`, `check-determinism`, after `--bug NAME`
//! for the node with a deliberate bug.

use std::ffi::OsString;
use std::process::ExitCode;

use stormglass_raft::Bug;
use stormglass_raft::simulation::simulation;

fn main() -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "the arguments say what is run")]
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let mut bug = None;
    let mut command = args.first().map_or_else(String::new, |arg| arg.to_string_lossy().into());
    if args.get(1).is_some_and(|arg| arg == "--bug") {
        let name = args.get(2).and_then(|name| name.to_str()).unwrap_or_default();
        let Some((_, found)) = Bug::ALL.iter().find(|(of_bug, _)| *of_bug == name) else {
            let names = Bug::ALL.map(|(name, _)| name).join(", ");
            eprintln!("there is no bug `{name}`; there are {names}");
            return ExitCode::from(2);
        };
        bug = Some(*found);
        command += &format!(" --bug {name}");
        args.drain(1..3);
    }
    // The commands in a report are those of the node with the bug.
    stormglass_sim::cli::main_from(&simulation(bug).command(command), args)
}
