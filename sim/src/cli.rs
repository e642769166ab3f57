//! The command line, as a library function: every [`Protocol`] has `hunt`, `replay`, `shrink`,
//! `diff`, `check-determinism` and `profiles`.

mod args;
mod bench;
mod check_determinism;
mod check_logs;
mod diff;
mod explain;
mod hunt;
mod replay;
mod say;
mod shrink;
mod source;
mod usage;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::profile::{Profile, Setup};
use crate::property::Violation;
use crate::protocol::Protocol;
use crate::tally::Rule;
use crate::world::HARNESS_NEVER_PANICS;
use args::{Args, Command};
use say::say;

/// The result of a command. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Clean = 0,
    Other = 1,
    Usage = 2,
    Safety = 10,
    Liveness = 11,
    Nondeterministic = 12,
    Interrupted = 130,
}

impl Exit {
    /// The worse of two: a violation before a schedule that could not be run.
    fn worse(self, other: Exit) -> Exit {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(self) -> u8 {
        match self {
            // By how much a reader has to care: a violation of safety outranks everything, as
            // others may follow from it.
            Exit::Clean => 0,
            Exit::Interrupted => 1,
            Exit::Usage => 2,
            Exit::Other => 3,
            Exit::Nondeterministic => 4,
            Exit::Liveness => 5,
            Exit::Safety => 6,
        }
    }

    fn of(violation: &Violation) -> Exit {
        match violation {
            Violation { property: HARNESS_NEVER_PANICS, .. } => Exit::Other,
            Violation { liveness: true, .. } => Exit::Liveness,
            Violation { .. } => Exit::Safety,
        }
    }
}

/// The command that runs a seed again: `cargo sim replay 7 --profile crashy`.
pub fn replay_line<P: Protocol>(protocol: &P, seed: u64, setup: &Setup) -> String {
    format!("{} replay {seed}{}", command(protocol), setup.as_args())
}

/// The command of this protocol, without arguments.
fn command<P: Protocol>(protocol: &P) -> String {
    match protocol.command() {
        Some(command) => command.to_string(),
        // The path under which the program was started can be pasted to start it again.
        None => std::env::args().next().unwrap_or_else(|| protocol.name().to_string()),
    }
}

/// Runs the command line of a protocol. Exit codes: 0 clean, 2 wrong usage, 10 a safety property
/// was violated, 11 a liveness property was violated, 12 not deterministic, 130 interrupted without
/// a failure, 1 other.
pub fn main<P: Protocol>(protocol: &P) -> ExitCode {
    let parsed =
        parser(protocol).try_get_matches().and_then(|found| Args::from_arg_matches(&found));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => return usage::report_parse_error(&error),
    };
    let exit = match args.command {
        Command::Hunt(hunt) => with_panic_hook(false, || hunt::run(protocol, &hunt)),
        Command::Replay(replay) => {
            with_panic_hook(true, || replay::run(protocol, &replay).unwrap_or_else(|exit| exit))
        }
        Command::Shrink(shrink) => {
            with_panic_hook(false, || shrink::run(protocol, &shrink).unwrap_or_else(|exit| exit))
        }
        Command::Diff(diff) => {
            with_panic_hook(false, || diff::run(protocol, &diff).unwrap_or_else(|exit| exit))
        }
        Command::CheckDeterminism(check_determinism) => {
            with_panic_hook(false, || check_determinism::run(protocol, &check_determinism))
        }
        Command::Bench(bench) => bench::run(protocol, &bench),
        Command::CheckLogs(logs) => with_panic_hook(false, || check_logs::run(protocol, &logs)),
        Command::Profiles => {
            profiles();
            Exit::Clean
        }
    };
    ExitCode::from(say::exit_after_output(exit) as u8)
}

/// The parser, with examples for this protocol's command.
fn parser<P: Protocol>(protocol: &P) -> clap::Command {
    let own_path = command(protocol);
    let mut parser = Args::command();
    // Collected first: the parser is rebuilt in the loop.
    let names: Vec<_> = parser.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
    for name in names {
        parser = parser.mut_subcommand(name, |sub| {
            match sub.get_after_help().map(ToString::to_string) {
                Some(examples) => sub.after_help(examples.replace("cargo sim", &own_path)),
                None => sub,
            }
        });
    }
    parser
}

/// The world reports a panic as a violation. Its place is worth one line, but not in a hunt, where
/// it would disturb the progress bar, and not once more for each candidate of a shrink. A panic
/// outside of any run is a bug of this program.
fn with_panic_hook(one_run: bool, run: impl FnOnce() -> Exit) -> Exit {
    // Panics of the simulator itself are found by their path; the hook sees no stack.
    let own_path = file!().trim_end_matches("cli.rs");
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(place) if place.file().starts_with(own_path) => default_hook(panic),
        Some(place) if one_run => eprintln!("panicked at {place}"),
        Some(_) | None => {}
    }));
    run()
}

fn profiles() {
    say!("profiles (--profile NAME):");
    for profile in Profile::ALL {
        say!("  {profile:<12} {}", profile.meaning());
    }
    say!("\nfaults, and the ranges from which a seed draws:");
    for (rule, meaning, range) in Rule::TABLE {
        say!("  {rule:<4} {meaning}: {range}");
    }
}
