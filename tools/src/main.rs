//! The tools of the repository: `cargo tools campaign`, `fuzz`, `bench`, `mutants`,
//! `generated-mutants`, `crash-trials`, `stability`, `instructions`.
//! None of them ships.

mod bench;
mod campaign;
mod cluster;
mod crash_trials;
mod frame_fuzzer;
mod fuzz;
mod instructions;
mod mutants;
mod program;
mod stability;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(version, about = "Tools around the program stormglass", after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The program whose processes are run [default: built from this repository]
    #[arg(long, global = true, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// [`Exit`], for `--help`.
const EXIT_CODES: &str = "Exit codes:
  0    done, and nothing is wrong
  1    failed, or standard output could not be written
  2    wrong usage
  10   a property was violated, or a mutant was not found
  130  interrupted by a signal
  141  standard output was closed by its reader";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a local cluster, kill nodes at random moments, and check that no acknowledged commit
    /// is lost
    Campaign(campaign::Campaign),
    /// Send damaged, random and mutated frames to a node
    Fuzz(fuzz::Fuzz),
    /// Start a local cluster and measure commits per second and latency
    Bench(bench::Bench),
    /// Hunt the mutants of the node, each a deliberate bug, and shrink what finds them
    Mutants(mutants::Mutants),
    /// Hunt and test mutants that cargo-mutants generates
    GeneratedMutants(mutants::GeneratedMutants),
    /// The part of `mutants` that runs with one mutant switched on
    #[command(hide = true)]
    HuntMutant(mutants::HuntMutant),
    /// Kill processes that write files, and cut the power of a disk, and compare what is left with
    /// the model of the crash tests
    CrashTrials(crash_trials::CrashTrials),
    /// The process of a trial
    #[command(hide = true)]
    CrashTrial(crash_trials::CrashTrial),
    /// Count the changes of the node after which a schedule still violates its property
    Stability(stability::Stability),
    /// Count the processor instructions of a hunt and of the benchmark
    Instructions(instructions::Instructions),
}

/// The result of a command. The numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Done, and nothing is wrong.
    Success = 0,
    /// It could not be done.
    Failed = 1,
    /// Wrong usage; clap exits with the same.
    Usage = 2,
    /// A property was violated, or a mutant was not found.
    Violation = 10,
    /// By SIGINT or SIGTERM, in the middle.
    Interrupted = 130,
    /// The reader closed standard output: the code of a process that SIGPIPE ended.
    BrokenPipe = 141,
}

/// One line for the person at the terminal.
type CliError = Box<dyn std::error::Error + Send + Sync>;

/// Wrong usage that clap does not find.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Prints one line, or returns the error of standard output. `println!` would panic if it is
/// closed.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout().lock(), $($words)*)
    }};
}
use say;

/// A line of progress on standard error; nothing if that is no terminal.
fn progress() -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{msg}").expect("a valid template");
    indicatif::ProgressBar::new_spinner().with_style(style)
}

/// A signal came before the command was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted by {0}; the nodes are stopped")]
struct Interrupted(&'static str);

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.command {
        Command::Campaign(campaign) => {
            with_program(&args, |program| campaign::run(campaign, program))
        }
        Command::Fuzz(fuzz) => with_program(&args, |program| fuzz::run(fuzz, program)),
        Command::Bench(bench) => with_program(&args, |program| bench::run(bench, program)),
        Command::Mutants(mutants) => mutants::run(mutants),
        Command::GeneratedMutants(args) => mutants::run_generated(args),
        Command::HuntMutant(args) => mutants::hunt_mutant(args),
        Command::CrashTrials(trials) => crash_trials::run(trials),
        Command::CrashTrial(trial) => crash_trials::perform(trial),
        Command::Stability(stability) => stability::run(stability),
        Command::Instructions(instructions) => instructions::run(instructions),
    };
    let exit = outcome.unwrap_or_else(|error| {
        let exit = exit_of(&error);
        if exit != Exit::BrokenPipe {
            // If standard error is closed, only the exit code remains.
            let _ = writeln!(std::io::stderr().lock(), "stormglass-tools: {error}");
        }
        exit
    });
    ExitCode::from(exit as u8)
}

/// Runs a command that starts processes of the program.
fn with_program<F>(args: &Args, run: impl FnOnce(PathBuf) -> F) -> Result<Exit, CliError>
where
    F: Future<Output = Result<Exit, CliError>>,
{
    let program = program::find_or_build(args.program.as_deref())?;
    // One thread: the work is done by the processes of the nodes, which need the other cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(unless_interrupted(run(program)))
}

fn exit_of(error: &CliError) -> Exit {
    if error.is::<Interrupted>() {
        return Exit::Interrupted;
    }
    if error.is::<UsageError>() {
        return Exit::Usage;
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Exit::BrokenPipe,
        Some(_) | None => Exit::Failed,
    }
}

/// The command has processes and a directory of its own: a signal drops its future, and both with
/// it.
async fn unless_interrupted(
    command: impl Future<Output = Result<Exit, CliError>>,
) -> Result<Exit, CliError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        // A command that is done at the same moment as a signal is interrupted: the signal was
        // first.
        biased;
        _ = interrupt.recv() => Err(Interrupted("SIGINT").into()),
        _ = terminate.recv() => Err(Interrupted("SIGTERM").into()),
        outcome = command => outcome,
    }
}
