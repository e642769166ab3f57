//! The command line.

// Both macros panic when nobody reads; see `say`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod address;
mod bench;
mod campaign;
mod cluster;
mod demo;
mod fuzz;
mod log;
mod ops;
mod progress;
mod say;
mod serve;
mod status;
mod tx;
mod wal;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use say::StdoutError;

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Two-phase commit that was raised in the storm: nodes, clients and tools",
    after_help = EXIT_CODES
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// What to log on standard error: off, error, warn, info, debug, trace, or a filter like `stormglass=debug`
    /// [default: info for `serve`, off for the others]
    #[arg(long, global = true, value_name = "FILTER", value_parser = log::filter)]
    log: Option<String>,
    /// Write logs as JSON lines
    #[arg(long, global = true)]
    log_json: bool,
}

/// [`Exit`], for people.
const EXIT_CODES: &str = "Exit codes:
  0    done, committed, intact
  1    it could not be done, or standard output could not be written
  2    wrong usage, of the command line or of a file of settings
  3    aborted: nothing was done, and nothing will be
  4    unknown: it may have been done; ask `outcome`
  5    wal: a torn tail, which a start forgets
  6    wal: damaged, a node does not start from it
  10   demo, bench, campaign, fuzz: a promise was broken, a bug
  130  interrupted by a signal
  141  whoever read the output has gone";

#[derive(Debug, Subcommand)]
enum Command {
    /// Nodes in one process, four by default: transactions, a node killed in the middle of one, and its recovery
    Demo(demo::Demo),
    /// Run one node until SIGTERM or SIGINT
    Serve(serve::Serve),
    /// Do all of some operations, or nothing
    Tx(tx::Tx),
    /// Ask what became of a request, by the name that `tx` printed
    Outcome(tx::OutcomeArgs),
    /// Read keys, in one transaction
    Get(tx::Get),
    /// Show what a node is doing
    Status(status::StatusArgs),
    /// Look at a node's log, offline
    #[command(subcommand)]
    Wal(wal::Wal),
    /// Measure commits per second and latencies of a cluster of its own
    Bench(bench::Bench),
    /// Kill nodes of a cluster of its own at random moments, and check that nothing was lost
    Campaign(campaign::Campaign),
    /// Send damaged, random and mutated frames to a node
    Fuzz(fuzz::Fuzz),
}

/// How a command ends. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Fine = 0,
    /// It could not be done at all.
    Failed = 1,
    /// Wrong usage; clap exits with the same.
    Usage = 2,
    /// Nothing was done, and nothing will be.
    Aborted = 3,
    /// It may have been done.
    Unknown = 4,
    /// A log has a torn tail: it starts, and forgets that.
    TornTail = 5,
    /// A log is damaged: it does not start.
    Damaged = 6,
    /// A promise was broken.
    Broken = 10,
    /// By SIGINT or SIGTERM, in the middle.
    Interrupted = 130,
    /// Whoever read its output has gone: what a shell says of a process that SIGPIPE ended.
    BrokenPipe = 141,
}

/// What is wanted cannot be wanted. Many such mistakes are found by clap; these are not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

impl From<String> for UsageError {
    fn from(text: String) -> UsageError {
        UsageError(text)
    }
}

impl From<&str> for UsageError {
    fn from(text: &str) -> UsageError {
        UsageError(text.to_owned())
    }
}

/// A signal came before the command was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted by {0}; its nodes are stopped")]
struct Interrupted(&'static str);

/// One line for the person at the terminal.
type CliError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    // Servers say what is remarkable, everybody else is silent unless asked.
    let usual = if matches!(args.command, Command::Serve(_)) { "info" } else { "off" };
    if let Err(error) = log::start(args.log.as_deref().unwrap_or(usual), args.log_json) {
        print_error(&error);
        return ExitCode::from(Exit::Failed as u8);
    }
    let outcome = match args.command {
        Command::Demo(demo) => on_one_thread(demo::run(&demo)),
        Command::Serve(serve) => on_one_thread(serve::run(serve)),
        Command::Tx(tx) => on_one_thread(tx::run(&tx)),
        Command::Outcome(outcome) => on_one_thread(tx::outcome(&outcome)),
        Command::Get(get) => on_one_thread(tx::get(&get)),
        Command::Status(status) => on_one_thread(status::run(&status)),
        Command::Wal(wal) => wal::run(&wal),
        Command::Bench(bench) => on_one_thread(unless_interrupted(bench::run(&bench))),
        Command::Campaign(campaign) => on_one_thread(unless_interrupted(campaign::run(&campaign))),
        Command::Fuzz(fuzz) => on_one_thread(unless_interrupted(fuzz::run(&fuzz))),
    };
    let exit = outcome.unwrap_or_else(|error| {
        let exit = exit_of(&error);
        if exit != Exit::BrokenPipe {
            print_error(&error);
        }
        exit
    });
    ExitCode::from(exit as u8)
}

fn exit_of(error: &CliError) -> Exit {
    if error.is::<Interrupted>() {
        return Exit::Interrupted;
    }
    if error.is::<UsageError>() {
        return Exit::Usage;
    }
    match error.downcast_ref() {
        Some(error) if StdoutError::is_broken_pipe(error) => Exit::BrokenPipe,
        Some(_) | None => Exit::Failed,
    }
}

/// To standard error; where that is gone, too, there is only the exit code.
fn print_error(error: &CliError) {
    let _ = writeln!(std::io::stderr().lock(), "stormglass: {error}");
}

/// One thread for all of the network; each node's disk has its own.
fn on_one_thread(future: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// For a command with processes and a directory of its own: a signal drops it where it waits, and they go with it.
async fn unless_interrupted(
    command: impl Future<Output = Result<Exit, CliError>>,
) -> Result<Exit, CliError> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err(Interrupted("SIGINT").into()),
        _ = terminate.recv() => Err(Interrupted("SIGTERM").into()),
        outcome = command => outcome,
    }
}
