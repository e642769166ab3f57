//! The command line, as a library function: every [`Protocol`] has `hunt`, `replay`, `shrink`,
//! `diff`, `check-determinism` and `profiles`.

mod args;
mod bench;
mod check_determinism;
mod check_logs;
mod colour;
mod diff;
mod explain;
mod hunt;
mod interrupt;
mod progress;
mod replay;
mod say;
mod shrink;
mod source;
mod state;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::profile::{Profile, Setup};
use crate::property::Violation;
use crate::protocol::{BenchRun, Protocol};
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
            // The run says nothing about the node, so this is no violation of safety.
            Violation { property: HARNESS_NEVER_PANICS, .. } => Exit::Other,
            Violation { liveness: true, .. } => Exit::Liveness,
            Violation { .. } => Exit::Safety,
        }
    }
}

/// The command that runs a seed again: `cargo sim replay 7 --profile crashy`.
pub fn replay_line<P: Protocol>(protocol: &P, seed: u64, setup: &Setup) -> String {
    format!("{} replay {seed}{}", command(protocol), setup.as_args(&protocol.setup()))
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
    #[allow(clippy::disallowed_methods, reason = "the arguments say what is run")]
    main_from(protocol, std::env::args_os())
}

/// [`main`] with these arguments instead of those of the process; the first is the name of the
/// program.
pub fn main_from<P, A>(protocol: &P, args: impl IntoIterator<Item = A>) -> ExitCode
where
    P: Protocol,
    A: Into<OsString> + Clone,
{
    let parsed = parser(protocol)
        .try_get_matches_from(args)
        .and_then(|found| Args::from_arg_matches(&found));
    let args = match parsed {
        Ok(args) => args,
        Err(error) => return usage::report_parse_error(&error),
    };
    let exit = match args.command {
        Command::Hunt(hunt) => hunt::run(protocol, &hunt),
        Command::Replay(replay) => replay::run(protocol, &replay).unwrap_or_else(|exit| exit),
        Command::Shrink(shrink) => shrink::run(protocol, &shrink).unwrap_or_else(|exit| exit),
        Command::Diff(diff) => diff::run(protocol, &diff).unwrap_or_else(|exit| exit),
        Command::CheckDeterminism(check_determinism) => {
            check_determinism::run(protocol, &check_determinism)
        }
        Command::Bench(bench) => bench::run(protocol, &bench),
        Command::CheckLogs(logs) => check_logs::run(protocol, &logs),
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
        let is_offered = match name.as_str() {
            "bench" => protocol.bench(BenchRun { nodes: 1, txns: 1, lose: 0 }).is_some(),
            "check-logs" => protocol.log_check().is_some(),
            _ => true,
        };
        parser = parser.mut_subcommand(name, |sub| {
            let sub = sub.hide(!is_offered);
            match sub.get_after_help().map(ToString::to_string) {
                Some(examples) => sub.after_help(examples.replace("cargo sim", &own_path)),
                None => sub,
            }
        });
    }
    parser
}

/// The width of the meanings in the list of faults.
// Most of them fit, and a line with its range fits a wide terminal.
const MEANING_WIDTH: usize = 56;

fn profiles() {
    say!("profiles (--profile NAME):");
    for profile in Profile::ALL {
        say!("  {profile:<12} {}", profile.meaning());
    }
    say!("\nfaults, and the ranges from which a seed draws:");
    for (rule, meaning, range) in Rule::TABLE {
        if meaning.len() > MEANING_WIDTH {
            // One column for all ranges, on the next line where the meaning is too long.
            say!("  {rule:<4} {meaning}");
            say!("       {:<MEANING_WIDTH$} {range}", "");
        } else {
            say!("  {rule:<4} {meaning:<MEANING_WIDTH$} {range}");
        }
    }
}
