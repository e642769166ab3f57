//! `cargo tools crash-trials`: the file systems of this machine beside their model in
//! `stormglass-crash-test`.
//!
//! A trial is a random program of file operations. A process runs it in a directory of its own and
//! reports each step when it is done, until it is killed, or until the power of its disk is cut.
//! What is in the directory then must be one of the images that the model allows after the steps
//! that were reported, or in the middle of the next one.
//!
//! A power cut is simulated as in `tools/power-cut`: the process is stopped, and the file that
//! holds an ext4 file system is copied. The copy has what the kernel has written to the device, in
//! its order, and is mounted as after a crash.

#![allow(clippy::disallowed_methods, reason = "processes run in the time of the machine")]

mod files;
mod power;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::Args;
use stormglass_crash_test::Profile;
use stormglass_sim::profile::Rng;

use crate::{CliError, Exit, progress, say};
use files::{Files, files_below, model_files};
use program::Program;

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo tools crash-trials --kills 10000\n  \
    sudo cargo tools crash-trials --kills 0 --power-cuts 200")]
pub(crate) struct CrashTrials {
    /// So many processes are killed
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    /// So many times the power of an ext4 file system in a file is cut; needs root, loop devices
    /// and mkfs.ext4
    #[arg(long, default_value_t = 0)]
    power_cuts: u64,
    /// The first seed; each trial has one of its own
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Where the processes that are killed write [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// The process of a trial: performs its program.
#[derive(Debug, Args)]
pub(crate) struct CrashTrial {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    syncs: bool,
    #[arg(long)]
    directory: PathBuf,
}

/// Performs the program of a seed in a directory. After each step one line is printed.
pub(crate) fn perform(args: &CrashTrial) -> Result<Exit, CliError> {
    let program = Program::draw(args.seed, args.syncs);
    let mut done = std::io::stdout().lock();
    writeln!(done, "ready")?;
    for step in &program.steps {
        // An operation that is impossible fails in the model, too.
        let _impossible = step.perform(&args.directory);
        writeln!(done, "done")?;
    }
    Ok(Exit::Success)
}

/// What became of the trials.
#[derive(Debug, Default)]
struct Summary {
    trials: u64,
    /// By where the program was when it ended.
    ends: BTreeMap<&'static str, u64>,
}

pub(crate) fn run(args: &CrashTrials) -> Result<Exit, CliError> {
    if args.power_cuts > 0 {
        power::require()?;
    }
    let mut is_clean = true;
    if args.kills > 0 {
        let directory = match &args.data {
            Some(data) => tempfile::tempdir_in(data)?,
            None => tempfile::tempdir()?,
        };
        is_clean &= kills(args, directory.path())?;
    }
    if args.power_cuts > 0 {
        is_clean &= power::cuts(args.first_seed, args.power_cuts)?;
    }
    Ok(if is_clean { Exit::Success } else { Exit::Violation })
}

/// Kills processes. Returns whether the model allows everything that was found.
fn kills(args: &CrashTrials, directory: &Path) -> Result<bool, CliError> {
    let progress = progress();
    let mut summary = Summary::default();
    for seed in args.first_seed..args.first_seed.saturating_add(args.kills) {
        progress.set_message(format!("{} of {} kills", summary.trials, args.kills));
        let data = directory.join(seed.to_string());
        fs::create_dir(&data)?;
        let process = Process::start(seed, false, &data)?;
        std::thread::sleep(Duration::from_micros(Rng::new(!seed).between(0, 1_500)));
        let steps_done = process.kill()?;
        let found = files_below(&data)?;
        let program = Program::draw(seed, false);
        summary.trials += 1;
        match end_of(&program, steps_done, &found) {
            Some(end) => *summary.ends.entry(end).or_default() += 1,
            None => {
                progress.finish_and_clear();
                say!("seed {seed}: after {steps_done} steps the model allows no such files:")?;
                describe(&program, steps_done, &found)?;
                return Ok(false);
            }
        }
        fs::remove_dir_all(&data)?;
    }
    progress.finish_and_clear();
    say!(
        "{} kills: the model of profile {} allows what each has left",
        summary.trials,
        Profile::Kill
    )?;
    for (end, count) in &summary.ends {
        say!("  {count:>7} {end}")?;
    }
    Ok(true)
}

/// Where the killed program was, if the model allows these files after so many steps: a step may be
/// done that was not reported yet.
fn end_of(program: &Program, steps_done: usize, found: &Files) -> Option<&'static str> {
    let fs = program.model_after(steps_done);
    if model_files(&fs) == *found {
        return Some(match steps_done {
            0 => "before the first step",
            done if done == program.steps.len() => "after the last step",
            _ => "between two steps",
        });
    }
    let step = program.steps.get(steps_done)?;
    if step.parts().into_iter().any(|part| {
        let fs = program.model_after(steps_done);
        part.perform_in_model(&fs);
        model_files(&fs) == *found
    }) {
        return Some("in the middle of a write");
    }
    step.perform_in_model(&fs);
    (model_files(&fs) == *found).then_some("after a step that was not reported")
}

/// The program and the files that it left.
fn describe(program: &Program, steps_done: usize, found: &Files) -> Result<(), CliError> {
    for (index, step) in program.steps.iter().enumerate().take(steps_done + 1) {
        say!("  {index:>3} {step:?}")?;
    }
    for (path, bytes) in found {
        say!("  file {path}: {} B, {:?}", bytes.len(), runs_of(bytes))?;
    }
    Ok(())
}

/// Each byte value in turn, and how many times it is there.
fn runs_of(bytes: &[u8]) -> Vec<(u8, usize)> {
    bytes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

/// A process that performs a program.
struct Process {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Returns when it is about to perform the first step.
    fn start(seed: u64, syncs: bool, directory: &Path) -> Result<Process, CliError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["crash-trial", "--seed", &seed.to_string()]);
        command.arg("--directory").arg(directory).args(syncs.then_some("--syncs"));
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        lines.read_line(&mut ready)?;
        if ready != "ready\n" {
            return Err(
                format!("the process of seed {seed} has not begun: {}", child.wait()?).into()
            );
        }
        Ok(Process { child, lines: Some(lines) })
    }

    /// Stops it, and returns once it performs nothing any more.
    fn stop(&self) -> Result<(), CliError> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
        let stat = format!("/proc/{}/stat", self.child.id());
        // The system ends the call that the process is in: a sync may take a while. `T` is a
        // stopped process, `Z` one that has ended.
        while !fs::read_to_string(&stat)?
            .rsplit(')')
            .next()
            .is_some_and(|state| state.trim_start().starts_with(['T', 'Z']))
        {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Ends it, and returns how many steps it has reported.
    fn kill(mut self) -> Result<usize, CliError> {
        self.child.kill()?;
        self.child.wait()?;
        let lines = self.lines.take();
        Ok(lines.map_or(0, |lines| lines.lines().count()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After an error: it has ended, or is ended here.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
