//! The command line, as a library function: whoever has a [`Protocol`] has `hunt`, `replay`, `shrink`, `check` and `profiles`.

mod args;
mod bench;
mod check;
mod diff;
mod explain;
mod hunt;
mod judge;
mod replay;
mod shrink;
mod source;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use crate::oracle::Broken;
use crate::profile::{Profile, Setup};
use crate::protocol::{Of, Protocol, Scene};
use crate::tally::Rule;
use args::{Args, Command};

/// How a command ends. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Clean = 0,
    Other = 1,
    Usage = 2,
    Safety = 10,
    Liveness = 11,
    Undetermined = 12,
    Interrupted = 130,
}

impl Exit {
    fn of(broken: &Broken) -> Exit {
        if broken.liveness { Exit::Liveness } else { Exit::Safety }
    }
}

/// The line that runs a seed again, as one would type it: `cargo sim replay 7 --profile crashy`.
pub fn replay_line<S: Scene>(scene: &S, seed: u64, setup: &Setup) -> String {
    format!("{} replay {seed}{}", command(scene), setup.typed())
}

/// What one types before the name of a command.
fn command<S: Scene>(scene: &S) -> String {
    let own = || std::env::args().next().unwrap_or_else(|| scene.name().to_string());
    scene.command().map_or_else(own, str::to_string)
}

/// Runs the command line of a protocol. Exit codes: 0 clean, 2 usage, 10 a safety claim broke, 11 a liveness claim
/// broke, 12 not deterministic, 130 interrupted without a failure, 1 other.
pub fn main<P: Protocol>() -> ExitCode {
    main_of(&Of::<P>::new())
}

/// The same for a scene: a [`Storm`](crate::storm::Storm) has a command line, too.
pub fn main_of<S: Scene>(scene: &S) -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage::explain(&error),
    };
    // The world turns a node's panic into a broken claim; its default message would only tear the progress bar.
    let exit = match args.command {
        Command::Hunt(hunt) => {
            std::panic::set_hook(Box::new(|_| {}));
            hunt::run(scene, &hunt)
        }
        Command::Replay(replay) => {
            std::panic::set_hook(Box::new(|_| {}));
            replay::run(scene, &replay).unwrap_or_else(|exit| exit)
        }
        Command::Shrink(shrink) => {
            std::panic::set_hook(Box::new(|_| {}));
            shrink::run(scene, &shrink).unwrap_or_else(|exit| exit)
        }
        Command::Diff(diff) => diff::run(scene, &diff).unwrap_or_else(|exit| exit),
        Command::Check(check) => check::run(scene, &check),
        Command::Bench(bench) => bench::run(scene, &bench),
        Command::Judge(logs) => {
            std::panic::set_hook(Box::new(|_| {}));
            judge::run(scene, &logs)
        }
        Command::Profiles => {
            profiles();
            Exit::Clean
        }
    };
    ExitCode::from(exit as u8)
}

fn profiles() {
    println!("profiles (--profile NAME):");
    for profile in Profile::ALL {
        println!("  {profile:<12} {}", profile.meaning());
    }
    println!("\nfaults, and the ranges from which a seed draws:");
    for (rule, meaning, range) in Rule::TABLE {
        println!("  {rule:<4} {meaning}: {range}");
    }
}
