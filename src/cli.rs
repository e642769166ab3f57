//! The command line.

// Both macros panic when standard output is closed; see `say`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod address;
mod demo;
mod log;
mod say;
mod serve;
mod status;
mod tx;
mod wal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use say::StdoutError;

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Two-phase commit: nodes and clients",
    after_help = EXIT_CODES
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// What to log on standard error: off, error, warn, info, debug, trace, or a filter like
    /// `stormglass=debug`
    /// [default: info for `serve`, off for the others]
    #[arg(long, global = true, value_name = "FILTER", value_parser = log::filter)]
    log: Option<String>,
    /// Write logs as JSON lines
    #[arg(long, global = true)]
    log_json: bool,
}

/// [`Exit`], for `--help`.
const EXIT_CODES: &str = "Exit codes:
  0    done, committed, intact
  1    failed, or standard output could not be written
  2    wrong usage, of the command line or of a file of settings
  3    aborted: nothing was done, and nothing will be
  4    unknown: the transaction may have committed; run `outcome`
  5    wal: torn tail; it is discarded when the node starts
  6    wal: damaged; the node does not start
  10   demo: a property was violated; this is a bug
  141  standard output was closed by its reader";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run nodes in one process, four by default: transactions, the crash of a node during one, and
    /// its recovery
    Demo(demo::Demo),
    /// Run one node until SIGTERM or SIGINT
    Serve(serve::Serve),
    /// Execute operations atomically, as one transaction
    Tx(tx::Tx),
    /// Query the outcome of a request by the handle that `tx` printed
    Outcome(tx::OutcomeArgs),
    /// Read keys, in one transaction
    Get(tx::Get),
    /// Show the state of a node
    Status(status::StatusArgs),
    /// Inspect the log of a stopped node
    #[command(subcommand)]
    Wal(wal::Wal),
}

/// The result of a command. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Success = 0,
    /// It could not be done.
    Failed = 1,
    /// Wrong usage; clap exits with the same.
    Usage = 2,
    /// Nothing was executed, and nothing will be.
    Aborted = 3,
    /// It may have been executed.
    Unknown = 4,
    /// A log has a torn tail: a node boots from it and drops the tail.
    TornTail = 5,
    /// A log is damaged: a node does not boot from it.
    Damaged = 6,
    /// A property was violated.
    Violation = 10,
    /// The reader closed standard output: the code of a process that SIGPIPE ended.
    BrokenPipe = 141,
}

/// Wrong usage that clap does not find.
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

/// One line for the person at the terminal.
type CliError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    // Servers log remarkable events, other commands nothing unless asked.
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
    };
    let exit = outcome.unwrap_or_else(|error| {
        let exit = exit_of(&error);
        // The reader has gone on purpose, `head` for example, and wants no message.
        if exit != Exit::BrokenPipe {
            print_error(&error);
        }
        exit
    });
    log::flush();
    ExitCode::from(exit as u8)
}

fn exit_of(error: &CliError) -> Exit {
    if error.is::<UsageError>() {
        return Exit::Usage;
    }
    // Errors are boxed, so the kind is found by type and not by text.
    match error.downcast_ref() {
        Some(error) if StdoutError::is_broken_pipe(error) => Exit::BrokenPipe,
        Some(_) | None => Exit::Failed,
    }
}

fn print_error(error: &CliError) {
    log::print_error(&format!("stormglass: {error}"));
}

/// One thread for the network; each node's disk has its own.
fn on_one_thread(future: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
